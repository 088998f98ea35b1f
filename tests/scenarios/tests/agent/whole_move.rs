//! A real VM, driven over the agents' API alone: a move that is called off, one whose agent dies,
//! and one that arrives.

use std::fs;
use std::net::SocketAddr;

use guest::control::Control;
use guest::records::check::check_image;
use guest::settings::CONTROL_PORT;
use lab::host::Host;
use lab::image::console::{self, Came};
use lab::snapshot::{Allowance, Kind, Snapshot};
use lab::vm::{Machine, Watcher, ran_twice};
use lab::vm_lock::{self, VmLock};
use lab::witness::{Witness, overlap, stays};
use lab::world::{Site, addresses};
use orchestrator_api::{CopyCommand, Phase, ProcessDoes};
use placement::{Answer, Authority, Command, End, Release, Seat};

use crate::asking::{Asked, Papers, refusal};
use crate::crew::{
    Crew, PACE, RECORDS_START, WAIT_MAX, begin_move, call_off, copy_until_ready, guest, memory,
    place, until, world,
};

#[test]
fn a_vm_that_switches_over_by_itself_runs_on_and_its_copy_is_given_up() {
    let lock = VmLock::take(vm_lock::WAIT_MAX).unwrap();
    let machine = Machine::ready(&lock).unwrap();
    let world = world();
    let (a, b) = (world.site("a"), world.site("b"));
    let papers = Papers::new();
    let at_a = Crew::start(&world, a, &papers, &machine);
    let at_b = Crew::start(&world, b, &papers, &machine);
    let definition = guest(a);
    place(&at_a, &definition);
    let pid = at_a.process_that(ProcessDoes::Runs);

    let (under, channels) = begin_move(&at_a, &at_b, 2, &definition);
    at_a.copies("mirror", &under, CopyCommand::MirrorStart);
    at_a.wait_for(Phase::InStep);
    // So little never remains that the agent would keep the copy waiting.
    let eager = CopyCommand::MemoryStart { bytes_per_s: PACE, remaining_bytes_max: 0 };
    at_a.copies("memory", &under, eager);
    let failed = until("the switch-over", || {
        let progress = at_a.vm().unwrap().progress.unwrap();
        (progress.phase == Phase::Failed).then_some(progress)
    });
    let why = failed.failure.unwrap();
    assert!(why.contains("switched over by itself"), "{why}");
    assert_eq!(at_a.process_that(ProcessDoes::Runs), pid);
    call_off(&at_a, &at_b, &under);
    drop(channels);
    assert_eq!(at_a.process_that(ProcessDoes::Runs), pid);
}

#[test]
fn a_copy_over_a_dead_link_can_be_given_up_and_a_released_vm_runs_on_after_a_refusal() {
    let lock = VmLock::take(vm_lock::WAIT_MAX).unwrap();
    let machine = Machine::ready(&lock).unwrap();
    let world = world();
    let (a, b) = (world.site("a"), world.site("b"));
    let papers = Papers::new();
    let at_a = Crew::start(&world, a, &papers, &machine);
    let at_b = Crew::start(&world, b, &papers, &machine);
    let definition = guest(a);
    place(&at_a, &definition);
    let pid = at_a.process_that(ProcessDoes::Runs);

    // Nobody is told that the link is gone: QEMU waits for answers that never come.
    let (under, channels) = begin_move(&at_a, &at_b, 2, &definition);
    at_a.copies("mirror", &under, CopyCommand::MirrorStart);
    at_a.wait_for(Phase::InStep);
    at_a.copies("memory", &under, memory(1_000_000));
    at_a.wait_for(Phase::Copying);
    world.wan().cut("a", "b").unwrap();
    assert_eq!(at_a.copies("cancel", &under, CopyCommand::Cancel).phase, Phase::Cancelled);
    assert_eq!(at_a.process_that(ProcessDoes::Runs), pid);
    world.wan().heal("a", "b").unwrap();
    call_off(&at_a, &at_b, &under);
    drop(channels);

    let (under, channels) = begin_move(&at_a, &at_b, 3, &definition);
    copy_until_ready(&at_a, &at_b, &under, &definition, || {});
    let authority = || under.clone();
    at_a.does("stop", &under, Command::Stop { authority: authority() });
    at_a.copies("finish", &under, CopyCommand::Finish);
    at_a.wait_for(Phase::Completed);
    let released = at_a.does("release", &under, Command::Release { authority: authority() });
    let Answer::Released { release } = released else { panic!("{released:?}") };
    let refuse = Command::Refuse { authority: Some(authority()), release: release.clone() };
    at_b.does("refuse", &under, refuse);
    assert!(at_b.vm().unwrap().processes.is_empty());
    let End { site, agent, .. } = at_b.end();
    let by = placement::order::Speaker { site, agent };
    let evidence = Some(placement::order::Evidence::Refused { by, release: release.clone() });
    let run = Command::Run { authority: authority(), evidence };
    assert_eq!(at_a.does("run", &under, run), Answer::Runs);
    drop(channels);
    assert_eq!(at_a.process_that(ProcessDoes::Runs), pid);
    // What was refused is never started, whoever asks again.
    let start = Command::Start { authority: authority(), release: release.clone() };
    assert_eq!(at_b.does("start", &under, start), Answer::Refused { release });
    let before = synced_records(&a.neighbour(1));
    until("the VM goes on at a", || (synced_records(&a.neighbour(1)) > before).then_some(()));
}

#[test]
fn a_vm_is_moved_by_orders_and_stays_when_they_are_taken_back_or_the_agent_dies() {
    let lock = VmLock::take(vm_lock::WAIT_MAX).unwrap();
    let machine = Machine::ready(&lock).unwrap();
    let world = world();
    let (a, b) = (world.site("a"), world.site("b"));
    let papers = Papers::new();
    let mut at_a = Crew::start(&world, a, &papers, &machine);
    let at_b = Crew::start(&world, b, &papers, &machine);
    let mac = addresses::vm(1).mac;
    let witnesses = [a, b].map(|s| Witness::start(s.name(), &s.hypervisor(), mac).unwrap());
    let untouched = [a, b].map(|site| Snapshot::take(site.place()).unwrap());
    let definition = guest(a);

    place(&at_a, &definition);
    let watched_at_a = Watcher::start("web at a", &at_a.watch_socket(1)).unwrap();
    let pid = at_a.process_that(ProcessDoes::Runs);

    is_nobodys(a, pid);

    // Called off while it waits for the stop.
    let (under, channels) = begin_move(&at_a, &at_b, 2, &definition);
    copy_until_ready(&at_a, &at_b, &under, &definition, || {});
    assert_eq!(at_a.copies("cancel", &under, CopyCommand::Cancel).phase, Phase::Cancelled);
    call_off(&at_a, &at_b, &under);
    drop(channels);
    assert_eq!(at_a.process_that(ProcessDoes::Runs), pid);
    nothing_left(b, &untouched[1]);

    // Its agent dies in mid-copy; the next one finds the VM and gives the copy up.
    let (under, channels) = begin_move(&at_a, &at_b, 3, &definition);
    at_a.copies("mirror", &under, CopyCommand::MirrorStart);
    at_a.wait_for(Phase::InStep);
    at_a.copies("memory", &under, memory(1_000_000));
    until("memory on its way", || {
        let progress = at_a.vm().unwrap().progress.unwrap();
        (progress.memory_done_bytes > 0).then_some(())
    });
    at_a.killed();
    at_a.begin();
    assert_eq!(at_a.process_that(ProcessDoes::Runs), pid);
    assert_eq!(at_a.copies("cancel", &under, CopyCommand::Cancel).phase, Phase::Cancelled);
    call_off(&at_a, &at_b, &under);
    drop(channels);
    nothing_left(b, &untouched[1]);

    let (under, channels) = begin_move(&at_a, &at_b, 4, &definition);
    let mut watched_at_b = None;
    copy_until_ready(&at_a, &at_b, &under, &definition, || {
        watched_at_b = Some(Watcher::start("web at b", &at_b.watch_socket(4)).unwrap());
    });
    let watched_at_b = watched_at_b.expect("a target was there");
    let release = moved(&at_a, &at_b, &under);
    drop(channels);
    at_b.process_that(ProcessDoes::Runs);
    let console_at_a = at_a.console(1);
    forgotten(&at_a, &at_b, &under, &release);
    nothing_left(a, &untouched[0]);

    arrived_whole(&at_b, &b.neighbour(1), &console_at_a);
    let watched = [watched_at_a.to_the_end(), watched_at_b.so_far()];
    watched.iter().for_each(|watched| println!("{watched}"));
    assert_eq!(ran_twice(&watched), None);
    assert!(watched.iter().all(|watched| watched.resets == 0 && !watched.runs.is_empty()));
    let testimonies = witnesses.map(|witness| witness.stop().unwrap());
    assert_eq!(overlap(&testimonies), None);
    let places: Vec<_> = stays(&testimonies).into_iter().map(|stay| stay.place).collect();
    assert_eq!(places, ["a", "b"]);
}

/// QEMU runs as the configured user, leads a session of its own, and has no way back to root.
fn is_nobodys(site: &Site, pid: u32) {
    let path = format!("/proc/{pid}/status");
    let status = site.hypervisor().succeed(&["cat", &path]).unwrap();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    assert_eq!(line("Uid:").split_whitespace().collect::<Vec<_>>(), ["65534"; 4]);
    assert_eq!(line("Groups:").trim(), "");
    assert_eq!(line("NSsid:").trim(), pid.to_string());
    assert_eq!(line("CapEff:").trim(), "0000000000000000");
}

/// No record is missing, no kernel complains, and the target's neighbours reach it.
fn arrived_whole(at_b: &Crew<'_>, neighbour: &Host, console_at_a: &str) {
    let synced = synced_records(neighbour);
    let records = check_image(&at_b.file(4, "disk0"), RECORDS_START).unwrap();
    println!("{records}");
    assert!(records.is_one_boot() && records.records >= synced, "{records}, {synced} synced");
    console::check(console_at_a, Came::Booting).unwrap();
    until("the VM speaks at b", || {
        console::check(&at_b.console(4), Came::Moving).is_ok().then_some(())
    });
}

/// From a copy that is ready to the VM's start at the target.
fn moved(from: &Crew<'_>, to: &Crew<'_>, under: &Authority) -> Release {
    let authority = || under.clone();
    // Nothing but a copy that is complete is released, and nothing but a loaded target is started.
    let early =
        crate::asking::order("early", under, Command::Release { authority: authority() }, None);
    assert_eq!(refusal(Asked::order(from, &early)).1.code, "not_completed");
    let finish = crate::asking::copy("early", under, CopyCommand::Finish);
    assert_eq!(refusal(Asked::copy(from, &finish)).1.code, "copy_phase");

    assert_eq!(from.does("stop", under, Command::Stop { authority: authority() }), Answer::Stopped);
    from.copies("finish", under, CopyCommand::Finish);
    from.wait_for(Phase::Completed);
    to.process_that(ProcessDoes::Loaded);
    let released = from.does("release", under, Command::Release { authority: authority() });
    let Answer::Released { release } = released else { panic!("{released:?}") };

    let disks = [from.file(1, "disk0"), to.file(4, "disk0")].map(|disk| fs::read(disk).unwrap());
    assert!(disks[0] == disks[1], "the disks differ while the VM stands still");
    assert!(disks[0].iter().any(|byte| *byte != 0), "the disk is empty");

    // Released is released: without evidence it runs here no more.
    let run = Command::Run { authority: authority(), evidence: None };
    let run = crate::asking::order("run", under, run, None);
    assert_eq!(refusal(Asked::order(from, &run)).1.code, "no_evidence");
    let start = Command::Start { authority: authority(), release: release.clone() };
    let started = to.does("start", under, start);
    let Answer::Accepted { taken, seat } = started else { panic!("{started:?}") };
    assert_eq!(taken, release);
    assert!(matches!(*seat, Seat::Started { armed: false, .. }), "{seat:?}");
    release
}

/// Forgotten at the source, armed at the target, and what was left deleted.
fn forgotten(from: &Crew<'_>, to: &Crew<'_>, under: &Authority, release: &Release) {
    let (authority, release) = (|| under.clone(), || release.clone());
    let forget = Command::Forget { authority: authority(), release: release() };
    assert_eq!(from.does("forget", under, forget), Answer::Gone { release: release() });
    let End { site, agent, .. } = from.end();
    let gone_at = placement::order::Speaker { site, agent };
    let arm = Command::Arm { authority: authority(), release: release(), gone_at };
    assert_eq!(to.does("arm", under, arm), Answer::Armed { release: release() });
    let reclaim = Command::Reclaim { release: release(), keep_disk: false };
    assert_eq!(from.does("reclaim", under, reclaim), Answer::Reclaimed { release: release() });
    assert!(from.vm().unwrap().processes.is_empty());
    assert!(to.vm().unwrap().record.seat.is_here());
}

/// Of the moves here: no process, tap, socket or disk; the record alone.
fn nothing_left(site: &Site, before: &Snapshot) {
    let allowed = [
        Allowance::new("the record", Kind::File, "/var/lib/causeway/agent/"),
        Allowance::new("the claim", Kind::File, "/var/lib/causeway/proxy/"),
    ];
    let difference = before.compare(&Snapshot::take(site.place()).unwrap(), &allowed);
    assert!(difference.unexplained.is_empty(), "{}: {difference}", site.name());
}

/// Records that the guest knows to be on its disk.
fn synced_records(from: &Host) -> u64 {
    let address = SocketAddr::new(addresses::vm(1).ip.v4.into(), CONTROL_PORT);
    let mut control = from.inside(|| Control::connect(address, WAIT_MAX)).unwrap().unwrap();
    control.counters().unwrap().records.unwrap().synced
}
