//! A hold at a real VM's port: what the site's proxy is told and when, what waited in the tap, how it
//! is called off, and what stands where the VM has gone from.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};

use guest::control::Control;
use guest::settings::CONTROL_PORT;
use lab::host::Host;
use lab::qmp::Qmp;
use lab::snapshot::{Allowance, Kind, Snapshot};
use lab::vm::Machine;
use lab::vm_lock::{self, VmLock};
use lab::world::{Site, addresses};
use orchestrator_api::agent::{Announced, PortCommand, PortRequest, Transport, WatchView};
use orchestrator_api::{CopyCommand, Phase, ProcessDoes};
use placement::{Answer, Authority, Command, Pair, Release};
use proxy_api::{Conversation, Protocol};
use serde_json::json;

use crate::asking::{Asked, Papers, authority, order, refusal, vm};
use crate::crew::{Crew, WAIT_MAX, begin_move, copy_until_ready, guest, place, until, world};
use crate::model_proxy::{ModelProxy, Told};

/// Datagrams that wait in the tap: more than fit into one part with what is around them.
const WAITING: usize = 500;
const DATAGRAM_BYTES: usize = 1_200;
/// Nobody in the guest listens there; what comes is all the same for the VM.
const PORT: u16 = 9;

#[test]
fn a_hold_is_in_order_keeps_what_waited_and_ends_without_a_trace() {
    let lock = VmLock::take(vm_lock::WAIT_MAX).unwrap();
    let machine = Machine::ready(&lock).unwrap();
    let world = world();
    let (a, b) = (world.site("a"), world.site("b"));
    let papers = Papers::new();
    let [at_proxy_a, at_proxy_b] = [a, b].map(|site| ModelProxy::start(site, &papers));
    let crew = |site, proxy: &ModelProxy| {
        Crew::start_telling(&world, site, &papers, &machine, Some(proxy.address()))
    };
    let (mut at_a, at_b) = (crew(a, &at_proxy_a), crew(b, &at_proxy_b));
    let untouched = [a, b].map(|site| Snapshot::take(site.place()).unwrap());
    let definition = guest(a);
    place(&at_a, &definition);
    let neighbour = a.neighbour(1);
    reaches(&neighbour);
    let spoken = watched(&at_a, a);

    // Called off: nothing of a hold stands, and the VM is reached as before.
    let under = claimed(&at_a, &at_b, 2);
    refused_by_the_proxy(&at_a, &under, &at_proxy_a);
    let sent = fill_the_tap(&at_a, &neighbour);
    held(&at_a, &under, &at_proxy_a);
    // Its agent dies in the hold; the next one goes on from there.
    at_a.killed();
    at_a.begin();
    at_a.does("stop", &under, Command::Stop { authority: under.clone() });
    shipped(&at_proxy_a.told(), &under, &sent, &spoken);
    // A repetition ships nothing again.
    at_a.does("stop-again", &under, Command::Stop { authority: under.clone() });
    assert_eq!(at_proxy_a.told(), []);
    let run = Command::Run { authority: under.clone(), evidence: None };
    assert_eq!(at_a.does("run", &under, run), Answer::Runs);
    // The rule goes last: it stood when the proxy released.
    assert_eq!(at_proxy_a.told(), [(Told::Release(under.clone()), true)]);
    assert!(!is_turned_round(&a.hypervisor()));
    reaches(&neighbour);
    given_back(&at_a, &at_b, &under);

    let at_proxy_a = whose_proxy_dies(&at_a, &at_b, at_proxy_a, &papers);

    // Moved: the target's port is taken over before the VM is there, and the source's leads on.
    let (under, channels) = begin_move(&at_a, &at_b, 4, &definition);
    assert!(is_turned_round(&b.hypervisor()), "before its first frame");
    copy_until_ready(&at_a, &at_b, &under, &definition, || {});
    held(&at_a, &under, &at_proxy_a);
    at_a.does("stop", &under, Command::Stop { authority: under.clone() });
    at_a.copies("finish", &under, CopyCommand::Finish);
    at_a.wait_for(Phase::Completed);
    at_b.process_that(ProcessDoes::Loaded);
    let released = at_a.does("release", &under, Command::Release { authority: under.clone() });
    let Answer::Released { release } = released else { panic!("{released:?}") };
    assert_eq!(at_proxy_b.told(), []);
    let start = Command::Start { authority: under.clone(), release: release.clone() };
    at_b.does("start", &under, start);
    let [(Told::Closed(channel, grant), _), (Told::Release(by), true)] = &at_proxy_b.told()[..]
    else {
        panic!("the target's proxy was told something else")
    };
    assert_eq!((channel.as_str(), &grant.authority, by), ("disk", &under, &under));
    drop(channels);
    port_of_a_vm_that_came(&at_b, &release);
    let forget = Command::Forget { authority: under.clone(), release: release.clone() };
    at_a.does("forget", &under, forget);
    assert!(at_a.vm().unwrap().processes.is_empty());
    leads_on(a, &neighbour);
    let reclaim = Command::Reclaim { release, keep_disk: false };
    at_a.does("reclaim", &under, reclaim);
    nothing_left(a, &untouched[0]);
}

#[test]
fn a_target_that_is_refused_leaves_nothing_at_its_port() {
    let lock = VmLock::take(vm_lock::WAIT_MAX).unwrap();
    let machine = Machine::ready(&lock).unwrap();
    let world = world();
    let (a, b) = (world.site("a"), world.site("b"));
    let papers = Papers::new();
    let at_a = Crew::start(&world, a, &papers, &machine);
    let at_proxy_b = ModelProxy::start(b, &papers);
    let proxy_address = Some(at_proxy_b.address());
    let mut at_b = Crew::start_telling(&world, b, &papers, &machine, proxy_address);
    let untouched = Snapshot::take(b.place()).unwrap();
    let definition = guest(a);
    place(&at_a, &definition);
    let (under, channels) = begin_move(&at_a, &at_b, 2, &definition);
    assert!(is_turned_round(&b.hypervisor()));
    // Its successor finds what stands.
    at_b.killed();
    at_b.begin();
    // A network that names no proxy keeps nothing back, and says so.
    let hold = order("hold", &under, hold(&under), None);
    let (_, refused) = refusal(Asked::order(&at_a, &hold));
    assert!(refused.message.contains("names no proxy"), "{refused:?}");
    crate::crew::call_off(&at_a, &at_b, &under);
    drop(channels);
    nothing_left(b, &untouched);
}

/// The agent knows with whom the VM has spoken, and where that one is.
fn watched(at: &Crew<'_>, site: &Site) -> WatchView {
    let view = at.watch().unwrap();
    let station = site.neighbour_station(1);
    let peer = view.peers.iter().find(|peer| peer.address == station.ip.v4);
    let mac = peer.unwrap_or_else(|| panic!("{view:?}")).mac.unwrap();
    assert_eq!(mac.to_string(), station.mac.to_string());
    let is_control = |spoken: &&orchestrator_api::agent::Spoken| {
        spoken.by == Transport::Tcp
            && (spoken.vm_port, spoken.peer) == (CONTROL_PORT, station.ip.v4.into())
    };
    assert!(view.conversations.iter().any(|spoken| is_control(&spoken)), "{view:?}");
    assert!(view.is_whole && view.since_s.is_some());
    view
}

fn claimed(from: &Crew<'_>, to: &Crew<'_>, epoch: u64) -> Authority {
    let under = authority(epoch);
    let pair = Pair { from: from.end(), to: to.end() };
    for agent in [from, to] {
        let (authority, pair) = (under.clone(), pair.clone());
        agent.does("claim", &under, Command::Claim { authority, pair, takeover: false });
    }
    under
}

fn given_back(from: &Crew<'_>, to: &Crew<'_>, under: &Authority) {
    for agent in [from, to] {
        agent.does("give-back", under, Command::GiveBack { authority: under.clone() });
    }
}

fn hold(under: &Authority) -> Command {
    Command::Hold { authority: under.clone() }
}

/// The proxy diverts before the port is turned round, and stands in after.
fn held(at: &Crew<'_>, under: &Authority, proxy: &ModelProxy) {
    at.does("hold", under, hold(under));
    let wanted = [(Told::Divert(under.clone()), false), (Told::StandIn(under.clone()), true)];
    assert_eq!(proxy.told(), wanted);
    assert!(is_turned_round(&at.site.hypervisor()));
}

/// The proxy dies in a hold: its neighbours have the VM back at once, the proxy when it is back.
fn whose_proxy_dies(
    at_a: &Crew<'_>,
    at_b: &Crew<'_>,
    proxy: ModelProxy,
    papers: &Papers,
) -> ModelProxy {
    let (site, under) = (at_a.site, claimed(at_a, at_b, 3));
    held(at_a, &under, &proxy);
    drop(proxy);
    let run = || Command::Run { authority: under.clone(), evidence: None };
    let (_, failed) = refusal(Asked::order(at_a, &order("run", &under, run(), None)));
    assert!(failed.message.contains("cannot be reached"), "{failed:?}");
    assert!(!is_turned_round(&site.hypervisor()));
    reaches(&site.neighbour(1));
    let proxy = ModelProxy::start(site, papers);
    assert_eq!(at_a.does("run", &under, run()), Answer::Runs);
    assert_eq!(proxy.told(), [(Told::Release(under.clone()), false)]);
    given_back(at_a, at_b, &under);
    proxy
}

/// A proxy that says no keeps nothing back, and the port is as it was.
fn refused_by_the_proxy(at: &Crew<'_>, under: &Authority, proxy: &ModelProxy) {
    proxy.refuses_diverts(true);
    let (_, refused) = refusal(Asked::order(at, &order("hold", under, hold(under), None)));
    assert!(refused.message.contains("was not staged"), "{refused:?}");
    assert!(!is_turned_round(&at.site.hypervisor()));
    proxy.refuses_diverts(false);
}

/// Somebody pauses the VM behind the agent's back, and a neighbour goes on sending: what comes of
/// that waits in the tap, deterministically.
fn fill_the_tap(at: &Crew<'_>, neighbour: &Host) -> Vec<Vec<u8>> {
    let mut monitor = Qmp::connect(&at.watch_socket(1)).unwrap();
    monitor.execute("stop", json!({})).unwrap();
    let target = SocketAddr::new(addresses::vm(1).ip.v4.into(), PORT);
    let socket = neighbour.inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    let datagram = |number: usize| {
        let mut bytes = vec![0xa5; DATAGRAM_BYTES];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    let sent: Vec<Vec<u8>> = (0..WAITING).map(datagram).collect();
    for datagram in &sent {
        socket.send_to(datagram, target).unwrap();
    }
    sent
}

/// Every datagram in its order, in parts that count up, and the VM's conversations beside them.
fn shipped(told: &[(Told, bool)], under: &Authority, sent: &[Vec<u8>], spoken: &WatchView) {
    let parts: Vec<_> = told
        .iter()
        .map(|(told, _)| match told {
            Told::Leftovers(part) => part,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(parts.len() > 1, "{} parts", parts.len());
    assert!(parts.iter().enumerate().all(|(number, part)| {
        part.head.part as usize == number && part.head.authority == *under
    }));
    let payloads: Vec<&[u8]> = parts
        .iter()
        .flat_map(|part| &part.packets)
        .filter(|packet| packet.len() == 20 + 8 + DATAGRAM_BYTES)
        .map(|packet| &packet[28..])
        .collect();
    // QEMU itself took the first, found that its VM stood still, and keeps it.
    let kept = sent.len() - payloads.len();
    assert!(kept <= 1 && payloads.iter().eq(&sent[kept..]), "{} of {}", payloads.len(), sent.len());
    let handed: BTreeSet<Conversation> =
        parts.iter().flat_map(|part| part.head.conversations.iter().copied()).collect();
    for spoken in spoken.conversations.iter().filter(|spoken| spoken.by == Transport::Tcp) {
        let orchestrator_api::agent::Spoken { vm, vm_port, peer, peer_port, .. } = *spoken;
        let conversation = Conversation { protocol: Protocol::Tcp, vm, vm_port, peer, peer_port };
        assert!(handed.contains(&conversation), "{conversation:?} was not handed over");
    }
}

fn is_turned_round(hypervisor: &Host) -> bool {
    hypervisor.succeed(&["nft", "list", "ruleset"]).unwrap().contains("fwd to")
}

/// With QEMU gone, what is for the VM still reaches the proxy's leg.
fn leads_on(site: &Site, neighbour: &Host) {
    let hypervisor = site.hypervisor();
    let mac = addresses::vm(1).mac.to_string();
    let entries = hypervisor.succeed(&["bridge", "fdb", "show"]).unwrap();
    let entry = entries.lines().find(|line| line.starts_with(&mac) && line.contains("static"));
    assert!(entry.is_some_and(|entry| entry.contains("cwr")), "{entries}");
    let received = || {
        let told = site.proxy().succeed(&["ip", "-j", "-s", "link"]).unwrap();
        let links: serde_json::Value = serde_json::from_str(&told).unwrap();
        let leg = site.leg().mac.to_string();
        let links = links.as_array().unwrap().iter();
        let link = links.into_iter().find(|link| link["address"] == leg.as_str()).unwrap();
        link["stats64"]["rx"]["packets"].as_u64().unwrap()
    };
    let before = received();
    let target = SocketAddr::new(addresses::vm(1).ip.v4.into(), PORT);
    let socket = neighbour.inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    until("a neighbour's datagrams at the leg", || {
        socket.send_to(b"for the VM", target).unwrap();
        (received() > before + 3).then_some(())
    });
}

/// At home nothing is turned round, and once nobody elsewhere is left the VM speaks for itself; of a
/// move that the VM did not come by nothing is changed.
fn port_of_a_vm_that_came(at: &Crew<'_>, release: &Release) {
    let hypervisor = at.site.hypervisor();
    let change = |release: &Release, command| {
        at.change_port(&PortRequest { release: release.clone(), command })
    };
    let other = Release { epoch: release.epoch.next(), ..release.clone() };
    let (status, refused) = refusal(change(&other, PortCommand::ComeHome));
    assert_eq!((status, refused.code.as_str()), (409, "seat"));
    assert!(is_turned_round(&hypervisor) && is_taken_over(&hypervisor));
    for _ in 0..2 {
        change(release, PortCommand::ComeHome).unwrap();
        assert!(!is_turned_round(&hypervisor) && is_taken_over(&hypervisor));
    }
    let station = at.site.neighbour_station(1);
    let machine = |address| Announced {
        address,
        mac: station.mac.to_string().parse().unwrap(),
        is_router: false,
    };
    let announced = station.ip.each().map(machine).to_vec();
    change(release, PortCommand::LiftTakeOver { announced }).unwrap();
    assert!(!is_taken_over(&hypervisor));
    reaches(&at.site.neighbour(1));
}

fn is_taken_over(hypervisor: &Host) -> bool {
    let rules = hypervisor.succeed(&["nft", "list", "ruleset"]).unwrap();
    rules.contains("nd-router-solicit")
}

/// The guest answers at its control port.
fn reaches(from: &Host) {
    let address = SocketAddr::new(addresses::vm(1).ip.v4.into(), CONTROL_PORT);
    let mut control = from.inside(|| Control::connect(address, WAIT_MAX)).unwrap().unwrap();
    control.counters().unwrap();
}

fn nothing_left(site: &Site, before: &Snapshot) {
    let allowed = [
        Allowance::new("record and port", Kind::File, "/var/lib/causeway/agent/"),
        Allowance::new("the claim", Kind::File, "/var/lib/causeway/proxy/"),
    ];
    let difference = before.compare(&Snapshot::take(site.place()).unwrap(), &allowed);
    assert!(difference.unexplained.is_empty(), "{} of {}: {difference}", site.name(), vm());
}
