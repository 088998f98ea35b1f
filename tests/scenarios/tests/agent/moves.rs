//! A VM is moved by an operator who types, through the service, the agents, the proxies and the
//! tunnel between them, over a WAN that loses packets.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::thread;

use guest::control::Control;
use guest::records::check::check_image;
use guest::service::READY;
use guest::settings::CONTROL_PORT;
use lab::image::console::{self, Came};
use lab::snapshot::{Allowance, Kind, Snapshot};
use lab::vm::Machine;
use lab::vm_lock::{self, VmLock};
use lab::witness::{Witness, overlap, stays};
use lab::world::{Site, World, WorldPlan, addresses};
use orchestrator_api::operator::{MoveState, MoveView, VmPlaces};
use orchestrator_api::{Doing, Plan};
use wan::Change;

use crate::asking::{Papers, vm};
use crate::crew::{Crew, RECORDS_START, WAIT_MAX, guest, until};
use crate::lookout::Lookout;
use crate::names::{NAME, NameServer, TTL_S, Visitors};
use crate::service::Service;
use crate::users::{Users, ledger_agrees};

const DISKS: &str = "/var/lib/causeway/disks";

fn world() -> World {
    let wan = Change {
        delay_us: Some(10_000),
        rate_bits_per_s: Some(1_000_000_000),
        loss_ppm: Some(1_000),
        ..Change::default()
    };
    World::build(&WorldPlan { wan, ..WorldPlan::default() }).unwrap()
}

#[test]
fn a_vm_goes_there_and_back_as_it_is_told_and_its_records_are_whole() {
    let lock = VmLock::take(vm_lock::WAIT_MAX).unwrap();
    let machine = Machine::ready(&lock).unwrap();
    let world = world();
    let (a, b) = (world.site("a"), world.site("b"));
    let papers = Papers::new();
    let crews = [a, b].map(|site| Crew::start_joined(&world, site, &papers, &machine));
    let servers = [a, b].map(|site| NameServer::start(&world, site, &papers));
    let service = Service::start_with_names(&world, &papers);
    let mac = addresses::vm(1).mac;
    let witnesses = [a, b].map(|s| Witness::start(s.name(), &s.hypervisor(), mac).unwrap());
    let untouched = Snapshot::take(b.place()).unwrap();
    let lookout = Lookout::begin(&world);

    service.says(&["move", "web", "--to", "b"], 2);
    start(&service, a);
    refused(&service);
    planned(&service);
    servers.iter().for_each(|server| server.answers(a, false));
    let mut visitors = Visitors::of(&servers[0]);
    assert_eq!(visitors.go_to(0), [IpAddr::from(a.vip(1).v4); 2]);
    // Nothing was touched for it.
    nothing_left(b, &untouched, false);

    let mut users = Users::start(&world, a);
    // A neighbour's connection, which no proxy carries.
    synced_records(a);
    service.close_gate("web.release.done");
    service.says(&["move", "web", "--to", "b", "--no-wait"], 0);
    service.waits_at("web.1", "web.release.done");
    let again = service.says(&["move", "web", "--to", "b"], 2);
    assert!(again.contains("web.1"), "{again}");
    servers.iter().for_each(|server| server.answers(a, true));
    let disks = [a, b].map(disk).map(|disk| fs::read(disk).unwrap());
    assert!(disks[0] == disks[1], "the disks differ while the VM stands still");
    assert!(disks[0].iter().any(|byte| *byte != 0), "the disk is empty");
    service.open_gate("web.release.done");
    let ended = service.end_of("web.1");
    assert_eq!(ended.state, MoveState::Completed);
    servers.iter().for_each(|server| server.answers(b, false));
    // Who honours the TTL comes to the new place once it has run out; who does not never does.
    assert_eq!(visitors.go_to(TTL_S - 1), [IpAddr::from(a.vip(1).v4); 2]);
    assert_eq!(visitors.go_to(TTL_S), [b, a].map(|site| IpAddr::from(site.vip(1).v4)));
    names_confirmed(&service, ended);
    arrived(b);
    ledger_agrees(&service, "web.1", &crews[0], &mut users);
    users.all_go_on();
    let late = service.says(&["abort", "web.1"], 2);
    assert!(late.contains("has ended"), "{late}");
    let early = service.says(&["reclaim", "web"], 2);
    assert!(early.contains("16 flows"), "{early}");
    users.all_go_on();

    let told = service.says(&["move", "web", "--to", "a"], 0);
    assert!(told.contains("completed") && told.contains("start"), "{told}");
    servers.iter().for_each(|server| server.answers(a, false));
    arrived(a);
    users.all_go_on();
    // What stands at b for the VM stays until it is given back.
    let given = service.says(&["reclaim", "web"], 0);
    println!("{given}");
    nothing_left(b, &untouched, false);

    let ran = lookout.end();
    assert!(ran.iter().filter(|watched| !watched.runs.is_empty()).count() >= 3, "{ran:?}");
    let testimonies = witnesses.map(|witness| witness.stop().unwrap());
    assert_eq!(overlap(&testimonies), None);
    let places: Vec<_> = stays(&testimonies).into_iter().map(|stay| stay.place).collect();
    assert_eq!(places, ["a", "b", "a"]);
}

#[test]
fn a_move_that_is_aborted_leaves_nothing_and_one_whose_service_is_killed_comes_to_its_end() {
    let lock = VmLock::take(vm_lock::WAIT_MAX).unwrap();
    let machine = Machine::ready(&lock).unwrap();
    let world = world();
    let (a, b) = (world.site("a"), world.site("b"));
    let papers = Papers::new();
    let _crews = [a, b].map(|site| Crew::start(&world, site, &papers, &machine));
    let mut service = Service::start(&world, &papers);
    let untouched = Snapshot::take(b.place()).unwrap();
    let lookout = Lookout::begin(&world);
    start(&service, a);
    let synced = synced_records(a);

    // Over a WAN that carries nothing, the mirror is still on its way when the abort comes.
    aborted(&service, "web.1", "mirror", &[], || world.wan().cut("a", "b").unwrap());
    world.wan().heal("a", "b").unwrap();
    nothing_left(b, &untouched, false);
    until("the tunnel stands again", || {
        service.types(&["plan", "web", "--to", "b", "--no-hold"]).status.success().then_some(())
    });
    // So slow that the abort meets the copy of memory.
    aborted(&service, "web.2", "memory", &["--rate-mbit", "20"], || {});
    nothing_left(b, &untouched, false);
    until("the VM goes on at a", || (synced_records(a) > synced).then_some(()));

    let mut number = 2;
    let mut at = [a, b];
    for gate in KILLED_AT {
        number += 1;
        let (id, gate) = (format!("web.{number}"), format!("web.{gate}"));
        service.close_gate(&gate);
        service.says(&["move", "web", "--to", at[1].name(), "--no-hold", "--no-wait"], 0);
        service.waits_at(&id, &gate);
        service.killed();
        service.open_gate(&gate);
        service.begin();
        let ended = service.end_of(&id);
        assert_eq!(ended.state, MoveState::Completed, "{gate}: {ended:?}");
        let is_before = BEFORE_THE_RELEASE.iter().any(|step| gate.contains(step));
        assert_eq!(ended.attempt > 1, is_before, "{gate}: {ended:?}");
        println!("killed at {gate}: attempt {}, epoch {:?}", ended.attempt, ended.epoch);
        arrived(at[1]);
        at.swap(0, 1);
    }
    lookout.end();
}

/// Once in each step: before its effect, and in the steps that matter most behind it, too.
const KILLED_AT: [&str; 15] = [
    "claim.started",
    "reserve.started",
    "channels.started",
    "mirror.started",
    "mirror.done",
    "memory.started",
    "hold.started",
    "release.started",
    "release.done",
    "start.started",
    "start.done",
    "arrive.started",
    "forget.started",
    "arm.started",
    "give-back.started",
];

/// Killed in these, a move begins again with its next attempt.
const BEFORE_THE_RELEASE: [&str; 7] =
    ["claim", "reserve", "channels", "mirror", "memory", "hold", "release.started"];

fn start(service: &Service, at: &Site) {
    let file = service.file_of(&guest(at));
    let words = ["vm", "start", "web", "--site", at.name(), "--definition", &file];
    service.says(&words, 0);
    until("the guest serves", || {
        let console = fs::read(process_folder(at)?.join("console")).ok()?;
        String::from_utf8_lossy(&console).contains(READY).then_some(())
    });
    // Said again, it is there.
    service.says(&words, 0);
}

/// Where it runs is known, and a move of it is a go that says what it would take and change.
fn planned(service: &Service) {
    let told = service.says(&["vm", "list", "--json"], 0);
    let places: VmPlaces = serde_json::from_str(&told).unwrap();
    assert_eq!(places.vms[0].runs_at.as_ref().unwrap().to_string(), "a/hv1");
    let told = service.says(&["plan", "web", "--to", "b", "--json"], 0);
    let plan: Plan = serde_json::from_str(&told).unwrap();
    assert!(plan.is_go() && plan.estimate.is_some(), "{plan:?}");
    let named: Vec<_> = plan.names.iter().map(|name| (&name.name[..], name.follows)).collect();
    assert_eq!(named, [(NAME, true)], "{plan:?}");
}

/// Both name servers have taken what the first move told them, and it says until when older answers
/// may be believed.
fn names_confirmed(service: &Service, ended: MoveView) {
    let names = ended.names.expect("name servers were told");
    assert_eq!((names.confirmed, &names.unconfirmed[..]), (2, &[][..]));
    let until_s = names.outdated_until_unix_s.expect("old answers run out");
    assert!(until_s * 1_000 > ended.began_at_unix_ms, "{until_s}");
    let told = service.says(&["status", "web.1"], 0);
    assert!(told.contains("older answers run out at"), "{told}");
}

/// What cannot be is refused by name, and nothing changes.
fn refused(service: &Service) {
    for (words, named) in [
        (&["move", "web", "--to", "c"][..], "site c"),
        (&["move", "nobody", "--to", "b"], "nobody"),
        (&["move", "web", "--to", "a"], "already"),
        (&["move", "web", "--to", "b", "--agent", "hv9"], "hv9"),
        (&["abort", "web.7"], "web.7"),
        (&["status", "web.7"], "web.7"),
    ] {
        let said = service.says(words, 2);
        assert!(said.contains(named), "{words:?}: {said}");
    }
}

/// Orders a move, calls it off while it is in `step`, and sees it undone. `before` the step begins
/// there is time for something else.
fn aborted(service: &Service, id: &str, step: &str, options: &[&str], before: impl FnOnce()) {
    let gate = format!("web.{step}.started");
    service.close_gate(&gate);
    service.says(&[&["move", "web", "--to", "b", "--no-hold", "--no-wait"], options].concat(), 0);
    service.waits_at(id, &gate);
    before();
    thread::scope(|scope| {
        // It answers once the step has been left, which the gate holds up.
        let abort = scope.spawn(|| service.says(&["abort", id, "--reason", "a test"], 0));
        service.open_gate(&gate);
        abort.join().unwrap();
    });
    let ended = service.end_of(id);
    let MoveState::Undone { why } = &ended.state else { panic!("{ended:?}") };
    assert!(why.contains("a test"), "{why}");
    assert!(ended.progress.is_none_or(|progress| progress.doing != Doing::Completed));
}

/// The VM runs here, whole.
fn arrived(site: &Site) {
    let synced = synced_records(site);
    let records = check_image(&disk(site), RECORDS_START).unwrap();
    println!("{}: {records}", site.name());
    assert!(records.is_one_boot() && records.records >= synced, "{records}, {synced} synced");
    until("the VM speaks", || {
        let path = process_folder(site)?.join("console");
        let console = fs::read(path).ok()?;
        let console = String::from_utf8_lossy(&console);
        console::check(&console, Came::Moving).is_ok().then_some(())
    });
}

/// Of the moves here: no process, tap, socket or disk; the records alone, and, where the VM has been,
/// the disk that waits to be reclaimed.
fn nothing_left(site: &Site, before: &Snapshot, has_been: bool) {
    let mut allowed = vec![
        Allowance::new("the record", Kind::File, "/var/lib/causeway/agent/"),
        Allowance::new("the claim", Kind::File, "/var/lib/causeway/proxy/"),
        Allowance::new("what was said of names", Kind::File, "/var/lib/causeway/gslb/"),
    ];
    if has_been {
        let aside = format!("{DISKS}/{}.moved-", vm());
        allowed.push(Allowance::new("the disk set aside", Kind::File, &aside));
    }
    until("nothing is left", || {
        let difference = before.compare(&Snapshot::take(site.place()).unwrap(), &allowed);
        let is_clean = difference.unexplained.is_empty();
        if !is_clean {
            println!("{}: {difference}", site.name());
        }
        is_clean.then_some(())
    });
}

fn disk(site: &Site) -> PathBuf {
    process_folder(site).unwrap().join("disk0")
}

/// Of the VM's one process at a site; which move made it, and who ordered that, are in its name.
fn process_folder(site: &Site) -> Option<PathBuf> {
    let disks = site.place().path(DISKS.as_ref());
    let folders = fs::read_dir(disks).ok()?.flatten().map(|entry| entry.path());
    let (start, aside) = (format!("{}.", vm()), format!("{}.moved-", vm()));
    let mut of_process = folders.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&start) && !name.starts_with(&aside)
    });
    let found = of_process.next();
    assert!(of_process.next().is_none(), "two processes of one VM have files at {}", site.name());
    found
}

/// Records that the guest knows to be on its disk.
fn synced_records(site: &Site) -> u64 {
    let address = SocketAddr::new(addresses::vm(1).ip.v4.into(), CONTROL_PORT);
    let connect = || Control::connect(address, WAIT_MAX);
    let mut control = site.neighbour(1).inside(connect).unwrap().unwrap();
    control.counters().unwrap().records.unwrap().synced
}
