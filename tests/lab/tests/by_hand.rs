//! A real VM moves between sites by QEMU's own means, over the plain WAN. It arrives whole; the
//! connections of those who used it do not. This is what the product has to be better than, and
//! what shows that the lab would see it if a VM ran twice, lost a record or kept a flow.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
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
use lab::sandbox::Process;
use lab::vm::by_hand::{Hand, Moved, move_vm};
use lab::vm::{Machine, Vm, VmPlan, Watched, ran_twice};
use lab::vm_lock::{self, VmLock};
use lab::witness::{Testimony, Witness, overlap, stays};
use lab::world::{Station, World, WorldPlan};
use wan::Change;

const WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// The disk is full of noise up to here; then come the records.
const NOISE_END: u64 = 48 << 20;
const BLOCK_BYTES: usize = 4096;
const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
const PIECE_BYTES: usize = 256 * BLOCK_BYTES;
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

/// Who use the VM by its own address, over the bridge or through the router.
struct Users {
    _process: Process,
    clients: Clients<PipeWriter, PipeReader>,
}

fn users(host: &Host, vm: Station) -> Users {
    let (process, mut clients) = lab::clients::start(host).unwrap();
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
    Users { _process: process, clients }
}

impl Users {
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

/// Waits until nobody gets an answer any more. What the VM had answered before it went, or answers
/// again from where it is now, may still find its way out for a while.
fn fall_silent(users: &mut [Users]) {
    let answers = |users: &mut [Users]| users.iter_mut().map(Users::answers).collect::<Vec<_>>();
    let until = Instant::now() + WAIT_MAX;
    loop {
        let before = answers(users);
        thread::sleep(SILENCE);
        if answers(users) == before {
            return;
        }
        assert!(Instant::now() < until, "a flow from site a is still served");
    }
}

/// Moves the VM, comparing both disks while it stands still.
fn moved(world: &World, vm: Vm, to: &str, hand: Hand) -> (Vm, Moved) {
    let from = vm.site().to_owned();
    let (vm, moved) = move_vm(vm, world.site(to), hand, |source, target| {
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

/// The first move, while the target's image is watched: whatever it holds has come over the link.
fn moved_under_watch(world: &World, vm: Vm) -> (Vm, Moved) {
    let image = world.site("b").place().path(Path::new("/var/lib/vms/web2/disk"));
    let delivered = || {
        let counters = world.wan().counters().unwrap();
        counters.direction("a", "b").unwrap().delivery.delivered.bytes
    };
    let before = delivered();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut samples = 0;
            while !over.load(Ordering::Relaxed) {
                // The image first: what comes meanwhile is in the link's favour.
                let held = written_bytes(&image);
                let carried = delivered() - before;
                assert!(held <= carried + carried / 50, "{held} bytes of {carried} carried");
                samples += u32::from(held > 0);
                thread::sleep(Duration::from_millis(1));
            }
            samples
        });
        let moved = catch_unwind(AssertUnwindSafe(|| moved(world, vm, "b", Hand::Steady)));
        over.store(true, Ordering::Relaxed);
        let samples = watch.join().unwrap();
        let (held, carried) = (written_bytes(&image), delivered() - before);
        println!("{samples} looks at b's image; it holds {held} bytes, the link carried {carried}");
        assert!(samples > 10 && held >= NOISE_END);
        moved.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// What an image holds that is not zero: zeros may be made on the spot. Read in pieces, so that a look
/// is short and a move has many.
fn written_bytes(image: &Path) -> u64 {
    let Ok(mut image) = File::open(image) else { return 0 };
    let mut piece = vec![0; PIECE_BYTES];
    let mut written = 0;
    loop {
        let read = image.read(&mut piece).unwrap();
        if read == 0 {
            return written;
        }
        let blocks = piece[..read].chunks(BLOCK_BYTES);
        let holds = |block: &&[u8]| **block != ZEROS[..block.len()];
        written += blocks.filter(holds).map(|block| block.len() as u64).sum::<u64>();
    }
}

#[test]
fn a_vm_moved_by_hand_three_times_stays_whole_and_loses_its_users() {
    let lock = VmLock::take(vm_lock::WAIT_MAX).unwrap();
    let machine = Machine::ready(&lock).unwrap();
    let world = world(&machine);
    let (a, b) = (world.site("a"), world.site("b"));
    let plan =
        VmPlan { noise_end: NOISE_END, records_start: NOISE_END, ..VmPlan::usual(machine, a) };
    let mac = plan.station.mac;
    let witnesses = [a, b].map(|s| Witness::start(s.name(), &s.hypervisor(), mac).unwrap());

    let vm = Vm::boot(&plan, a).unwrap();
    let mut at_a = [a.neighbour(1), world.client(1)].map(|host| users(&host, plan.station));
    at_a.iter_mut().for_each(Users::all_get_answers);

    let (vm, first) = moved_under_watch(&world, vm);
    let mut at_b = users(&b.neighbour(1), plan.station);
    at_b.all_get_answers();
    fall_silent(&mut at_a);
    at_b.all_get_answers();
    drop(at_a);

    let late = Hand::LateAtFirst(SILENCE);
    let (vm, second) = moved(&world, vm, "a", late);
    assert!(second.attempts > 1, "the VM never switched over by itself");
    drop(at_b);
    let (vm, third) = moved(&world, vm, "b", Hand::Steady);
    let mut again = users(&b.neighbour(1), plan.station);
    again.all_get_answers();
    check_no_error(&again.end());
    vm.wait_alive().unwrap();

    let synced = synced_records(&b.neighbour(1), plan.station);
    let disk = vm.disk();
    let last = vm.end().unwrap();
    let records = check_image(&disk, plan.records_start).unwrap();
    println!("{records}");
    assert!(records.is_one_boot() && !records.torn_tail, "{records}");
    assert!(records.records >= synced, "{records}, and {synced} were told to be on the disk");
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
    assert!(watched.iter().all(|watched| !watched.runs.is_empty()));
}

fn check_witnesses(testimonies: &[Testimony]) {
    let stays = stays(testimonies);
    stays.iter().for_each(|stay| println!("seen at {stay}"));
    assert_eq!(overlap(testimonies), None);
    assert!(testimonies.iter().all(|testimony| testimony.frames_missed == 0));
    let places: Vec<_> = stays.iter().map(|stay| stay.place.as_str()).collect();
    assert_eq!(places, ["a", "b", "a", "b"]);
}
