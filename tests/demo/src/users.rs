//! Who use the VM by its name: programs that check every byte, and know each connection again by a
//! token that only the guest's memory has.

use std::io::{PipeReader, PipeWriter};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use guest::clients::Clients;
use guest::flows::Report;
use guest::flows::plan::{FlowSpec, Mode, Plan, SessionSpec};
use guest::resolver::{self, Answer, Family, Honouring, Ignoring};
use guest::settings::PORT;
use lab::host::Host;
use lab::sandbox::Process;

use crate::ending::Ending;
use crate::error::DemoError;

/// What the VM is called.
pub(crate) const NAME: &str = "web.example.net";
/// Each flow sends so many bytes so often, and is sent as many back.
const MESSAGE_BYTES: u32 = 400;
const MESSAGE_INTERVAL_MS: u64 = 500;
/// Each session sends so many bytes so often, and is sent as many back.
const DATAGRAM_BYTES: usize = 200;
const DATAGRAM_INTERVAL_MS: u64 = 250;
/// Longest wait for hellos, answers and ends, on a machine that is busy.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(120);
/// Longest wait for one answer of a name server.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// One program, with all its flows and sessions.
pub(crate) struct Users {
    clients: Clients<PipeWriter, PipeReader>,
    _process: Process,
}

impl Users {
    /// Opens flows and sessions, and waits until each flow was greeted.
    pub(crate) fn start(
        host: &Host,
        at: [IpAddr; 2],
        flows: usize,
        sessions: usize,
    ) -> Result<Users, DemoError> {
        let (process, mut clients) = lab::clients::start(host)?;
        let targets: Vec<SocketAddr> = at.map(|ip| SocketAddr::new(ip, PORT)).into();
        let sources = Vec::new();
        let mode = Mode::Paced { size: MESSAGE_BYTES, interval_ms: MESSAGE_INTERVAL_MS };
        let flows = FlowSpec {
            count: flows,
            targets: targets.clone(),
            sources: sources.clone(),
            mode,
            asks_max: None,
            silent_after_ms: None,
        };
        let (size, interval_ms) = (DATAGRAM_BYTES, DATAGRAM_INTERVAL_MS);
        let sessions = SessionSpec { count: sessions, targets, sources, size, interval_ms };
        clients.start(Plan { flows: vec![flows], sessions: vec![sessions] }, WAIT_MAX)?;
        Ok(Users { clients, _process: process })
    }

    /// As they know it themselves.
    pub(crate) fn report(&mut self) -> Result<Report, DemoError> {
        Ok(self.clients.report()?)
    }

    /// Waits until each flow and each session has been answered again after now; gives the report,
    /// also where one never is.
    pub(crate) fn answered_again(&mut self, ending: &Ending) -> Result<Report, DemoError> {
        let before = self.report()?;
        let deadline = Instant::now() + WAIT_MAX;
        ending.until("an answer to everybody", WAIT_MAX + ANSWER_MAX, || {
            let now = self.report()?;
            let flows = now.flows.iter().zip(&before.flows);
            let flows = flows.map(|(now, was)| !now.ending.is_open() || now.answers > was.answers);
            let sessions = now.sessions.iter().zip(&before.sessions);
            let sessions = sessions.map(|(now, was)| now.answers.received > was.answers.received);
            let all = flows.chain(sessions).all(|answered| answered);
            Ok((all || Instant::now() > deadline).then_some(now))
        })
    }

    /// Ends all in order, and gives the last word of each.
    pub(crate) fn stop(self) -> Result<Report, DemoError> {
        Ok(self.clients.stop(WAIT_MAX)?)
    }
}

/// How a machine of clients finds the VM, by IPv4 and by IPv6.
pub(crate) struct Names<'h> {
    host: &'h Host,
    server: SocketAddr,
    honouring: [Honouring; 2],
    ignoring: [Ignoring; 2],
    /// Until when the last answers may be believed.
    pub(crate) good_until: Instant,
}

impl<'h> Names<'h> {
    /// With empty caches, and this name server.
    pub(crate) fn new(host: &'h Host, server: SocketAddr) -> Names<'h> {
        let (honouring, ignoring) = Default::default();
        Names { host, server, honouring, ignoring, good_until: Instant::now() }
    }

    /// Where a client goes that believes an answer until its TTL has run out.
    pub(crate) fn honouring(&mut self) -> Result<[IpAddr; 2], DemoError> {
        let (host, server, now) = (self.host, self.server, Instant::now());
        let good_until = &mut self.good_until;
        let mut address = |family, cache: &mut Honouring| {
            let address = cache.address(now, || {
                let answer = asked(family, host, server)?;
                *good_until = now + Duration::from_secs(answer.ttl_s.into());
                Ok(answer)
            });
            address.map_err(|cause| unresolved(server, cause))
        };
        let [v4, v6] = &mut self.honouring;
        Ok([address(Family::V4, v4)?, address(Family::V6, v6)?])
    }

    /// Where a client goes that asks once.
    pub(crate) fn ignoring(&mut self) -> Result<[IpAddr; 2], DemoError> {
        let (host, server) = (self.host, self.server);
        let address = |family, cache: &mut Ignoring| {
            let address = cache.address(|| asked(family, host, server));
            address.map_err(|cause| unresolved(server, cause))
        };
        let [v4, v6] = &mut self.ignoring;
        Ok([address(Family::V4, v4)?, address(Family::V6, v6)?])
    }
}

fn asked(family: Family, host: &Host, server: SocketAddr) -> std::io::Result<Answer> {
    let id = 1 + u16::try_from(std::process::id() % 60_000).unwrap_or_default();
    let answer = host.inside(|| resolver::ask_for(family, server, NAME, id, ANSWER_MAX));
    answer.map_err(std::io::Error::other)?
}

fn unresolved(server: SocketAddr, cause: std::io::Error) -> DemoError {
    DemoError::Unresolved { name: NAME, server, cause }
}
