//! Hundreds of connections while the VM moves over a WAN that loses packets: users' by the VIP, and
//! those between the VM and a neighbour, that no proxy carries. Every byte, every row of the ledger and
//! every bit on the wire is accounted for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use guest::ending::{Ending, Party};
use guest::flows::Report as Told;
use guest::flows::plan::Mode;
use guest::flows::{FlowRecord, Pool, SessionRecord};
use guest::kernel::KernelDrops;
use guest::settings::PORT;
use lab::witness::{Witness, overlap};
use lab::world::{World, WorldPlan, addresses};
use ledger::report::Report;
use ledger::verdict::{Broken, Verdict};
use ledger::{Foreign, KeptBy, Ledger, join};
use orchestrator_api::operator::MoveState;
use proxy_api::{FlowId, Protocol};

use crate::crew::Crew;
use crate::ground::{Ground, two_sites_lossy};
use crate::kernels;
use crate::lookout::Lookout;
use crate::neighbour::{Neighbour, Serving, guest_with_neighbour};
use crate::placed::{arrived, start_as};
use crate::service::Service;
use crate::users::{Users, same_as_the_proxy_tells};
use crate::wire::Wire;

const FLOWS: usize = 300;
const SESSIONS: usize = 50;
/// Of those who come to the new site after the first move.
const FLOWS_OF_B: usize = 30;
const SESSIONS_OF_B: usize = 10;
/// With `CAUSEWAY_DEEP`, as `cargo verify --deep` sets it.
const DEEP_FLOWS: usize = 1_000;
const DEEP_TIMES: u64 = 3;
/// Flows that send larger messages, among all.
const LARGE: usize = 20;
/// The flow that its client resets in mid-move, and the one that an operator kills.
const RESET: usize = 3;
const KILLED: usize = 5;
/// How a VM's own port is called.
const TAP: &str = "cwt";
const THERE: &str = "web.1";
const BACK: &str = "web.2";

#[test]
fn hundreds_of_connections_survive_and_everything_adds_up() {
    let is_deep = std::env::var_os("CAUSEWAY_DEEP").is_some();
    let (flows, times) = if is_deep { (DEEP_FLOWS, DEEP_TIMES) } else { (FLOWS, 1) };
    let first = match std::env::var("CAUSEWAY_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    };
    for seed in first..first + times {
        println!("{flows} flows, seed {seed}; CAUSEWAY_SEED=N loses the same of what is the same");
        moves_among(flows, seed);
    }
}

fn moves_among(flows: usize, seed: u64) {
    let ground = Ground::of(&WorldPlan { seed, ..two_sites_lossy() });
    let (world, papers) = (&ground.world, &ground.papers);
    let (a, b) = (world.site("a"), world.site("b"));
    let crews = [a, b].map(|site| ground.crew(site));
    let service = Service::start(world, papers);
    let mac = addresses::vm(1).mac;
    let witnesses = [a, b].map(|s| Witness::start(s.name(), &s.hypervisor(), mac).unwrap());
    let lookout = Lookout::begin(world);
    let serving = Serving::at(a);
    start_as(&service, a, &guest_with_neighbour(a));
    let mut neighbour = serving.connects();
    let kinds = [
        (flows - LARGE, Mode::Paced { size: 200, interval_ms: 500 }),
        (LARGE, Mode::Paced { size: 5_000, interval_ms: 500 }),
    ];
    let mut users = Users::of(world, a, &kinds, SESSIONS);
    neighbour.all_go_on(false);
    neighbour.falls_silent();
    users.all_go_on();

    let killed = there(&service, &crews[0], &mut users);
    neighbour.all_go_on(true);
    neighbour.speaks_again();
    neighbour.all_go_on(false);
    users.opens_another(a);
    users.others_go_on(&[RESET, KILLED]);
    let report = report_of(&service, THERE);
    ledger_is_everybodys(&report, &mut users, &mut neighbour);
    let told = users.report();
    let late = told.flows.last().unwrap().local.unwrap();
    let mut carried = crews[0].proxy.flows();
    carried.retain(|flow| flow.client != late);
    same_as_the_proxy_tells(&report, &carried);
    told_who_ended(&report, &told, &killed);

    let mut users_of_b = Users::of(world, b, &[(FLOWS_OF_B, kinds[0].1)], SESSIONS_OF_B);
    back(&service);
    neighbour.all_go_on(false);
    users.others_go_on(&[RESET, KILLED]);
    users_of_b.all_go_on();

    let told = [users.stop(), users_of_b.stop()];
    let in_guest = neighbour.ends();
    let ways = [(&crews[0], &crews[1]), (&crews[1], &crews[0])];
    let wire = ways.map(|(from, to)| Wire::between(world, from, to));
    for crew in &crews {
        let dropped = crew.proxy.tunnel().dropped;
        assert!(dropped.iter().all(|dropped| dropped.packets == 0), "{dropped:?}");
    }
    nothing_was_lost(world, &told, flows, &wire, in_guest);
    wire.iter().for_each(Wire::adds_up);
    arrived(a);
    lookout.end();
    // Where the VM was, something stands in for it, and turns neighbours' frames round in its name.
    let own = |witness: Witness| witness.stop().unwrap().at_ports(|port| port.starts_with(TAP));
    assert_eq!(overlap(&witnesses.map(own)), None);
}

/// The move there; while the VM stands still a client resets its flow, and an operator kills one.
fn there(service: &Service, at: &Crew<'_>, users: &mut Users) -> FlowId {
    service.close_gate("web.hold.done");
    service.says(&["move", "web", "--to", "b", "--no-wait"], 0);
    service.waits_at(THERE, "web.hold.done");
    let killed = kill_one(service, at, users);
    users.resets(RESET);
    service.open_gate("web.hold.done");
    let ended = service.end_of(THERE);
    assert_eq!(ended.state, MoveState::Completed, "{ended:?}");
    killed
}

/// The return: of the flows some are pinned where the VM goes, some where it comes from.
fn back(service: &Service) {
    service.says(&["move", "web", "--to", "a"], 0);
    let report = report_of(service, BACK);
    assert!(report.is_clean(), "{:#?}", report.ledger.totals);
    service.says(&["report", BACK, "--strict"], 0);
}

/// An operator kills one flow while the VM stands still.
fn kill_one(service: &Service, at: &Crew<'_>, users: &mut Users) -> FlowId {
    let client = users.report().flows[KILLED].local.unwrap();
    let flows = at.proxy.flows();
    let flow = flows.iter().find(|flow| flow.client == client).expect("the proxy carries it");
    service.says(&["flows", "kill", &flow.id.to_string()], 0);
    flow.id
}

fn report_of(service: &Service, id: &str) -> Report {
    let said = service.says(&["report", id, "--json", "/tmp/report.json"], 0);
    println!("{said}");
    Report::from_json(&service.written("/tmp/report.json")).unwrap()
}

/// Clients, guest and neighbour know of the very same connections.
fn ledger_is_everybodys(report: &Report, users: &mut Users, neighbour: &mut Neighbour) {
    let joined = join(&report.ledger, KeptBy::Clients, &users.log());
    assert!(joined.is_complete(), "{joined:#?}");
    let joined = join(&report.ledger, KeptBy::Guest, &guests_own(users, neighbour));
    assert!(joined.is_complete(), "{joined:#?}");

    let rows = report.ledger.side_flows.iter().filter(|row| row.tuple.protocol == Protocol::Tcp);
    let of_rows: BTreeMap<_, _> = rows.map(|row| (row.tuple, row)).collect();
    let tuples: BTreeSet<_> = of_rows.keys().copied().collect();
    assert_eq!(tuples, neighbour.tuples());
    for row in of_rows.values() {
        let passed = (row.last_at_source_ms, row.first_at_target_ms);
        assert!(matches!(passed, (Some(_), Some(_))), "{row:?}");
    }
}

/// By the guest's log: those that came by the proxy's checks alone asked nothing.
fn guests_own(users: &mut Users, neighbour: &mut Neighbour) -> Vec<Foreign> {
    let of_neighbour: BTreeSet<SocketAddr> = neighbour.tuples().iter().map(|of| of.peer).collect();
    let late = users.report().flows.into_iter().filter(|flow| flow.pool == Pool::New);
    let late: Vec<_> = late.map(|flow| flow.token.unwrap()).collect();
    let log = neighbour.guest_log();
    let flows = log.accepted.iter().filter(|accepted| {
        accepted.asks > 0
            && !late.contains(&accepted.token)
            && !of_neighbour.contains(&accepted.peer)
    });
    let (v4, v6) = (addresses::vm(1).ip.v4, addresses::vm(1).ip.v6);
    let vm = |peer: SocketAddr| match peer.is_ipv4() {
        true => SocketAddr::from((v4, PORT)),
        false => SocketAddr::from((v6, PORT)),
    };
    let flows = flows.map(|accepted| (Protocol::Tcp, accepted.peer, accepted.local));
    let sessions = log.sessions.iter().map(|session| (Protocol::Udp, session.peer));
    let sessions = sessions.map(|(protocol, peer)| (protocol, peer, vm(peer)));
    let foreign = |(protocol, opener, taker)| Foreign { protocol, opener, taker };
    flows.chain(sessions).map(foreign).collect()
}

/// One was reset by its client, one killed by an operator, and all else goes on. Who came after the
/// cutover is told apart.
fn told_who_ended(report: &Report, users: &Told, killed: &FlowId) {
    let ledger: &Ledger = &report.ledger;
    let row_of = |client| ledger.flows.iter().find(|row| row.client == client).unwrap();
    let reset = row_of(users.flows[RESET].local.unwrap());
    assert_eq!(reset.verdict, Verdict::ClosedByClient, "{reset:?}");
    let killed_row = row_of(users.flows[KILLED].local.unwrap());
    assert_eq!(killed_row.flow.id, *killed);
    assert_eq!(killed_row.verdict, Verdict::Broken(Broken::Killed), "{killed_row:?}");
    let totals = &ledger.totals;
    let flows = users.flows.iter().filter(|flow| flow.pool == Pool::Start).count();
    assert_eq!(totals.flows, (flows + users.sessions.len()) as u64);
    assert_eq!(totals.survived, totals.flows - 2, "{totals:?}");
    let [straggler] = &ledger.stragglers[..] else { panic!("{:?}", ledger.stragglers) };
    let late = users.flows.last().unwrap().local.unwrap();
    assert_eq!((straggler.client, straggler.connections), (late.ip(), 1));
}

/// By what the clients and the guest have counted themselves.
fn nothing_was_lost(
    world: &World,
    told: &[Told; 2],
    flows: usize,
    wire: &[Wire; 2],
    in_guest: KernelDrops,
) {
    let sockets = told.each_ref().map(|of| (of.sockets_at_start, of.sockets_new));
    assert_eq!(sockets, [(flows + SESSIONS, 1), (FLOWS_OF_B + SESSIONS_OF_B, 0)]);
    let [ended, none] = told.each_ref().map(|of| {
        let wrong = of.flows.iter().filter(|flow| !is_whole(flow));
        wrong.map(|flow| (flow.id, flow.ending.clone())).collect::<Vec<_>>()
    });
    let by = |by| Ending::Rst { by };
    assert_eq!(ended, [(RESET, by(Party::Client)), (KILLED, by(Party::Server))]);
    assert_eq!(none, []);
    let stalls = told.iter().flat_map(|of| &of.flows).map(|flow| flow.stall_us_max);
    println!("longest stall of a flow: {} ms", stalls.max().unwrap() / 1_000);

    let sessions = || told.iter().flat_map(|of| &of.sessions);
    let wrong: Vec<_> = sessions().filter(|session| !is_known(session)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Who came to site b went by the WAN to the VM at site a, in the same direction as its answers to
    // those of site a before: so that both directions are one sum.
    let lost: u64 = sessions().map(|session| session.lost_up() + session.lost_down()).sum();
    let by_wan: u64 = wire.iter().map(Wire::datagrams_lost).sum();
    println!("{}; {}; of the sessions' {lost} lost", wire[0], wire[1]);
    let elsewhere = || kernels::dropped(world).join("; ");
    assert!(lost <= by_wan, "{lost} lost, by the WAN {by_wan}; {in_guest:?}; {}", elsewhere());
}

fn is_whole(flow: &FlowRecord) -> bool {
    flow.ending == Ending::Fin { by: Party::Client }
        && flow.verified_up == flow.sent
        && flow.answers == flow.asks
}

fn is_known(session: &SessionRecord) -> bool {
    let doubled = [session.at_server, session.answers].map(|of| of.duplicates + of.ancient);
    session.still_known() && session.settled && session.foreign == 0 && doubled == [0, 0]
}
