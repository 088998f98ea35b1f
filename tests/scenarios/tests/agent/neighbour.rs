//! A neighbour of the VM's at its first site: connections that no proxy carries, opened from either
//! side, over both families; of each side's one falls silent.

use std::collections::BTreeSet;
use std::io::{PipeReader, PipeWriter};
use std::net::{SocketAddr, TcpStream};

use guest::clients::Clients;
use guest::control::Control;
use guest::ending::{Ending, Party};
use guest::flows::plan::{FlowSpec, Mode, Plan};
use guest::flows::{FlowRecord, Pool};
use guest::kernel::KernelDrops;
use guest::log::Log;
use guest::settings::{CONTROL_PORT, PORT};
use lab::sandbox::Process;
use lab::world::{Site, addresses};
use ledger::Tuple;
use orchestrator_api::VmDefinition;
use proxy_api::Protocol;
use scenarios::flows::Server;

use crate::crew::{WAIT_MAX, guest, until};

/// Connections that each side opens.
const FLOWS: usize = 4;
/// The one of each side that falls silent.
const SILENT: usize = 1;
const MODE: Mode = Mode::Paced { size: 200, interval_ms: 100 };

/// The definition of a VM that keeps connections to the site's first neighbour, half of them by IPv6.
pub(crate) fn guest_with_neighbour(site: &Site) -> VmDefinition {
    let mut definition = guest(site);
    let servers = site.neighbour_station(1).ip.each().map(|ip| SocketAddr::new(ip, PORT));
    let words = [
        format!("causeway.neighbours={},{}", servers[0], servers[1]),
        format!("causeway.neighbour_paced={FLOWS}"),
    ];
    definition.boot.words.extend(words.map(|word| word.parse().unwrap()));
    definition
}

/// Serves whoever comes: started before the VM.
pub(crate) struct Serving<'w> {
    site: &'w Site,
    server: Server,
}

impl<'w> Serving<'w> {
    pub(crate) fn at(site: &'w Site) -> Serving<'w> {
        Serving { site, server: Server::on(&site.neighbour(1)) }
    }

    /// Connects to the VM, which serves by now.
    pub(crate) fn connects(self) -> Neighbour {
        let host = self.site.neighbour(1);
        let (process, mut clients) = lab::clients::start(&host).unwrap();
        let vm = addresses::vm(1).ip;
        let flows = FlowSpec {
            count: FLOWS,
            targets: vm.each().map(|ip| SocketAddr::new(ip, PORT)).into(),
            sources: Vec::new(),
            mode: MODE,
            asks_max: None,
            silent_after_ms: None,
        };
        clients.start(Plan { flows: vec![flows], sessions: Vec::new() }, WAIT_MAX).unwrap();
        let at = SocketAddr::new(vm.v4.into(), CONTROL_PORT);
        let stream = host.inside(|| TcpStream::connect(at)).unwrap().unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        let by_control = (at, stream.local_addr().unwrap());
        let control = Control::over(stream);
        Neighbour { _server: self.server, _process: process, clients, control, by_control }
    }
}

/// The neighbour, and the guest's control port by a connection of its own.
pub(crate) struct Neighbour {
    _server: Server,
    _process: Process,
    clients: Clients<PipeWriter, PipeReader>,
    control: Control<TcpStream>,
    /// The VM's end of that connection, and ours.
    by_control: (SocketAddr, SocketAddr),
}

impl Neighbour {
    /// One connection of each side carries nothing from now on.
    pub(crate) fn falls_silent(&mut self) {
        self.silence(true);
    }

    pub(crate) fn speaks_again(&mut self) {
        self.silence(false);
    }

    fn silence(&mut self, is_silent: bool) {
        self.clients.silence(vec![SILENT], is_silent).unwrap();
        assert_eq!(self.control.silence(vec![SILENT], is_silent).unwrap(), 1);
    }

    /// Every connection but those that are silent is answered again, and none is another.
    pub(crate) fn all_go_on(&mut self, but_silent: bool) {
        let before = self.flows();
        assert_eq!(before.len(), 2 * FLOWS);
        until("the neighbour's are answered again", || {
            let now = self.flows();
            let mut all = now.iter().zip(&before);
            assert!(now.iter().all(|flow| flow.ending.is_open()), "{now:#?}");
            assert!(all.clone().all(|(now, before)| now.token == before.token));
            assert!(now.iter().all(|flow| flow.pool == Pool::Start), "a socket was opened");
            all.all(|(now, before)| now.answers > before.answers || but_silent && now.id == SILENT)
                .then_some(())
        });
    }

    /// All that the guest has seen.
    pub(crate) fn guest_log(&mut self) -> Log {
        self.control.log().unwrap()
    }

    /// Addresses of all its connections with the VM.
    pub(crate) fn tuples(&mut self) -> BTreeSet<Tuple> {
        let tuple = |vm, peer| Tuple { protocol: Protocol::Tcp, vm, peer };
        let to_vm = self.clients.report().unwrap().flows;
        let to_vm = to_vm.into_iter().map(|flow| tuple(flow.peer, flow.local.unwrap()));
        let from_vm = self.guest_log().opened;
        let from_vm = from_vm.into_iter().map(|flow| tuple(flow.local.unwrap(), flow.peer));
        let by_control = tuple(self.by_control.0, self.by_control.1);
        to_vm.chain(from_vm).chain([by_control]).collect()
    }

    /// Ends what it opened, in order; what the VM opened has lost no byte so far. Tells what the guest's
    /// kernel has dropped.
    pub(crate) fn ends(mut self) -> KernelDrops {
        let drops = self.control.counters().unwrap().drops;
        self.control.silence((0..FLOWS).collect(), true).unwrap();
        let log = self.guest_log();
        assert!(log.opened.iter().all(|flow| flow.ending.is_open()), "{:#?}", log.opened);
        let told = self.clients.stop(WAIT_MAX).unwrap();
        let wrong = told.flows.iter().filter(|flow| {
            flow.ending != Ending::Fin { by: Party::Client } || flow.verified_up != flow.sent
        });
        let wrong: Vec<_> = wrong.collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!((told.sockets_at_start, told.sockets_new), (FLOWS, 0));
        drops
    }

    /// Of both sides.
    fn flows(&mut self) -> Vec<FlowRecord> {
        let mut flows = self.clients.report().unwrap().flows;
        flows.extend(self.guest_log().opened);
        flows
    }
}
