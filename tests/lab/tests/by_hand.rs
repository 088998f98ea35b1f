//! A real VM moves between sites by QEMU's own means, over the plain WAN. It arrives whole; the
//! connections of those who used it do not. This is what the product has to be better than, and
//! what shows that the lab would see it if a VM ran twice, lost a record or kept a flow.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::io::{PipeReader, PipeWriter};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use guest::clients::Clients;
use guest::control::Control;
use guest::ending::Ending;
use guest::flows::Report;
use guest::flows::plan::{FlowSpec, Mode, Plan};
use guest::records::check::check_image;
use guest::settings::{CONTROL_PORT, PORT};
use lab::host::Host;
use lab::image::console::{self, Came};
use lab::sandbox::{Launch, Process};
use lab::vm::by_hand::{Moved, move_vm};
use lab::vm::{Machine, Vm, VmPlan, Watched, ran_twice};
use lab::vm_lock::{self, VmLock};
use lab::witness::{Testimony, Witness, overlap, stays};
use lab::world::{Station, World, WorldPlan};
use wan::Change;

const WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// A flow that is still answered shows it many times over in this time.
const SILENCE: Duration = Duration::from_secs(3);

fn world(machine: &Machine) -> World {
    let wan = Change {
        delay_us: Some(10_000),
        rate_bits_per_s: Some(1_000_000_000),
        loss_ppm: Some(1_000),
        ..Change::default()
    };
    World::build(&WorldPlan { wan, kept: machine.kept(), ..WorldPlan::default() }).unwrap()
}

/// Clients on a neighbour of the VM, who reach it over the bridge and nothing else.
struct Neighbours {
    _process: Process,
    clients: Clients<PipeWriter, PipeReader>,
}

fn neighbours(host: &Host, vm: Station) -> Neighbours {
    let launch = Launch::ours("causeway-guest").unwrap().arg("clients");
    let mut process = host.spawn(&launch.with_stdin().with_stdout()).unwrap();
    let streams = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
    let mut clients = Clients::over(streams.0, streams.1);
    let targets: Vec<_> = vm.ip.each().map(|ip| SocketAddr::new(ip, PORT)).into();
    let mode = Mode::Paced { size: 200, interval_ms: 100 };
    let flows = FlowSpec {
        count: 20,
        targets,
        sources: Vec::new(),
        mode,
        asks_max: None,
        silent_after_ms: None,
    };
    clients.start(Plan { flows: vec![flows], sessions: Vec::new() }, WAIT_MAX).unwrap();
    Neighbours { _process: process, clients }
}

impl Neighbours {
    fn answers(&mut self) -> Vec<u64> {
        self.clients.report().unwrap().flows.iter().map(|flow| flow.answers).collect()
    }

    /// Waits until each flow has had more answers than now.
    fn all_get_answers(&mut self) {
        let before = self.answers();
        let until = Instant::now() + WAIT_MAX;
        loop {
            let now = self.answers();
            if now.iter().zip(&before).all(|(now, before)| now > before) {
                return;
            }
            assert!(Instant::now() < until, "no more answers than {now:?}, after {before:?}");
            thread::sleep(POLL);
        }
    }

    fn end(self) -> Report {
        self.clients.stop(WAIT_MAX).unwrap()
    }
}

/// Moves the VM, comparing both disks while it stands still.
fn moved(world: &World, vm: Vm, to: &str) -> (Vm, Moved) {
    let from = vm.site().to_owned();
    let (vm, moved) = move_vm(vm, world.site(to), |source, target| {
        let [source, target] = [source, target].map(|disk| std::fs::read(disk).unwrap());
        assert!(source == target, "the disks differ while the VM stands still");
        assert!(source.iter().any(|byte| *byte != 0), "the disk is empty");
    })
    .unwrap();
    println!(
        "{from} to {to}: {:?}, of it {:?} until the mirror was in step, pause {:?}, attempt {}",
        moved.took, moved.mirror_took, moved.pause, moved.attempts
    );
    (vm, moved)
}

#[test]
fn a_vm_moved_by_hand_three_times_stays_whole_and_loses_its_neighbours() {
    let machine = Machine::ready().unwrap();
    let _lock = VmLock::take(vm_lock::WAIT_MAX).unwrap();
    let world = world(&machine);
    let (a, b) = (world.site("a"), world.site("b"));
    let plan = VmPlan::usual(machine, a);
    let mac = plan.station.mac;
    let witnesses = [a, b].map(|s| Witness::start(s.name(), &s.hypervisor(), mac).unwrap());

    let vm = Vm::boot(&plan, a).unwrap();
    let mut at_a = neighbours(&a.neighbour(1), plan.station);
    at_a.all_get_answers();

    let (vm, first) = moved(&world, vm, "b");
    let mut at_b = neighbours(&b.neighbour(1), plan.station);
    at_b.all_get_answers();
    let before = at_a.answers();
    thread::sleep(SILENCE);
    assert_eq!(at_a.answers(), before, "a flow of a neighbour at a is still served");
    at_b.all_get_answers();
    drop(at_a);

    let (vm, second) = moved(&world, vm, "a");
    drop(at_b);
    let (vm, third) = moved(&world, vm, "b");
    let mut again = neighbours(&b.neighbour(1), plan.station);
    again.all_get_answers();
    check_no_error(&again.end());

    let synced = synced_records(&b.neighbour(1), plan.station);
    let disk = vm.disk();
    let (last, console) = vm.end().unwrap();
    let records = check_image(&disk, plan.records_start).unwrap();
    println!("{records}");
    assert!(records.is_one_boot() && !records.torn_tail, "{records}");
    assert!(records.records >= synced, "{records}, and {synced} were told to be on the disk");
    console::check(&first.source_console, Came::Booting).unwrap();
    console::check(&second.source_console, Came::Moving).unwrap();
    console::check(&third.source_console, Came::Moving).unwrap();
    console::check(&console, Came::Moving).unwrap();
    check_watchers(&[first.source, second.source, third.source, last]);
    check_witnesses(&witnesses.map(|witness| witness.stop().unwrap()));
}

fn check_no_error(report: &Report) {
    let wrong: Vec<_> =
        report.flows.iter().filter(|flow| !matches!(flow.ending, Ending::Fin { .. })).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Records that the guest knows to be on its disk.
fn synced_records(from: &Host, vm: Station) -> u64 {
    let address = SocketAddr::new(vm.ip.v4.into(), CONTROL_PORT);
    let mut control = from.inside(|| Control::connect(address, WAIT_MAX)).unwrap().unwrap();
    control.counters().unwrap().records.unwrap().synced
}

fn check_watchers(watched: &[Watched]) {
    watched.iter().for_each(|watched| println!("{watched}"));
    assert_eq!(ran_twice(watched), None);
    assert!(watched.iter().all(|watched| watched.resets == 0 && !watched.runs.is_empty()));
}

fn check_witnesses(testimonies: &[Testimony]) {
    let stays = stays(testimonies);
    stays.iter().for_each(|stay| println!("seen at {stay}"));
    assert_eq!(overlap(testimonies), None);
    assert!(testimonies.iter().all(|testimony| testimony.frames_missed == 0));
    let places: Vec<_> = stays.iter().map(|stay| stay.place.as_str()).collect();
    assert_eq!(places, ["a", "b", "a", "b"]);
}
