//! A real VM boots from the lab's image, and does all that later tests ask of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use guest::clients::Clients;
use guest::control::Control;
use guest::dirty::DirtyRate;
use guest::ending::{Ending, Party};
use guest::flows::Report;
use guest::flows::plan::{FlowSpec, Mode, Plan, SessionSpec};
use guest::records::check::check_image;
use guest::service::READY;
use lab::host::Host;
use lab::image::GuestImage;
use lab::image::console::{self, Came};
use lab::qemu_args::{Accelerator, Begin, Mac, Memory, QEMU, QemuProcess, Tap};
use lab::sandbox::{Launch, Place, PlacePlan, Process};
use lab::vm_lock::{self, VmLock};

/// Longest boot, beside compilers on every core; alone it takes two seconds.
const BOOT_TIME_MAX: Duration = Duration::from_secs(120);
/// Longest wait for what the guest does at once when it has a core to itself.
const WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

const FOLDER: &str = "/run/vm";
const DISK_BYTES: u64 = 64 << 20;
const RECORDS_START: u64 = 1 << 20;
const GUEST: [&str; 2] = ["10.77.0.5:7000", "[fd77::5]:7000"];
const NEIGHBOUR: [&str; 2] = ["10.77.0.1:9000", "[fd77::1]:9000"];
const CONTROL: &str = "10.77.0.5:7001";
const WORDS: [&str; 10] = [
    "causeway.addr4=10.77.0.5/24",
    "causeway.gw4=10.77.0.1",
    "causeway.addr6=fd77::5/64",
    "causeway.gw6=fd77::1",
    "causeway.disk=/dev/vda",
    "causeway.disk_start=1048576",
    "causeway.records=20",
    "causeway.heartbeat=200",
    "causeway.port=7000",
    "causeway.control=7001",
];

/// A VM on a host of its own; all of it ends with this value.
struct Vm {
    qemu: Process,
    monitor: Monitor,
    host: Host,
    place: Place,
    _lock: VmLock,
}

impl Vm {
    fn boot() -> Self {
        let image = GuestImage::build().unwrap();
        let lock = VmLock::take(vm_lock::WAIT_MAX).unwrap();
        let accelerator = Accelerator::probe(&image).unwrap();
        let kept = [&image.kernel, &image.initramfs].map(|path| path.parent().unwrap().to_owned());
        let plan = PlacePlan { kept: kept.into(), ..PlacePlan::named("boot") };
        let place = Place::make(&plan).unwrap();
        place.add_hosts(&["hv"]).unwrap();
        let host = place.host(Some("hv"));
        host.ip_batch(
            "tuntap add dev tap0 mode tap\n\
             addr add 10.77.0.1/24 dev tap0\n\
             addr add fd77::1/64 dev tap0 nodad\n\
             link set tap0 up txqueuelen 10000\n",
        )
        .unwrap();
        place.write_file(&Path::new(FOLDER).join("disk"), b"").unwrap();
        let disk = File::options().write(true).open(in_place(&place, "disk")).unwrap();
        disk.set_len(DISK_BYTES).unwrap();
        let begun = Instant::now();
        let qemu = host.spawn(&launch(image, accelerator)).unwrap();
        let monitor = Monitor::connect(&in_place(&place, "work"));
        let vm = Self { qemu, monitor, host, place, _lock: lock };
        vm.console_when(|text| text.contains(READY), BOOT_TIME_MAX);
        println!("booted in {:?} with {accelerator:?}", begun.elapsed());
        vm
    }

    fn console_when(&self, right: impl Fn(&str) -> bool, time_max: Duration) -> String {
        let path = in_place(&self.place, "console");
        wait("the console", time_max, || {
            let text = std::fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            if right(&text) { Ok(text) } else { Err(text) }
        })
    }

    fn control(&self) -> Control<std::net::TcpStream> {
        let address = CONTROL.parse().unwrap();
        self.host.inside(|| Control::connect(address, WAIT_MAX)).unwrap().unwrap()
    }

    fn clients(&self) -> (Process, Clients<impl Write, impl io::Read>) {
        let launch = Launch::ours("causeway-guest").unwrap().arg("clients");
        let mut process = self.host.spawn(&launch.with_stdin().with_stdout()).unwrap();
        let streams = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        (process, Clients::over(streams.0, streams.1))
    }

    fn neighbour(&self) -> Process {
        let flags = ["serve", "--listen=10.77.0.1,fd77::1", "--port=9000", "--control=9001"];
        let launch = Launch::ours("causeway-guest").unwrap().args(flags).with_stdout();
        let mut process = self.host.spawn(&launch).unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with(READY), "{ready}");
        process
    }

    /// Ends the VM in order, and hands over what it leaves: console, disk, monitor's events.
    fn quit(self) -> (String, PathBuf, Vec<String>, Place) {
        let events = self.monitor.quit();
        assert!(self.qemu.wait(WAIT_MAX).unwrap().success());
        let console = std::fs::read(in_place(&self.place, "console")).unwrap();
        let console = String::from_utf8_lossy(&console).into_owned();
        (console, in_place(&self.place, "disk"), events, self.place)
    }
}

fn launch(image: GuestImage, accelerator: Accelerator) -> Launch {
    let inside = |name: &str| Path::new(FOLDER).join(name);
    let process = QemuProcess {
        name: "boot".into(),
        uuid: "6f1c7f2e-5f0a-4d5e-9a57-000000000001".into(),
        memory: Memory::default(),
        processors: 1,
        accelerator,
        image,
        words: WORDS.map(Into::into).into(),
        mac: Mac([0x02, 0xca, 0, 0, 0, 5]),
        tap: Tap::Named("tap0".into()),
        disk: inside("disk"),
        console: inside("console"),
        monitors: vec![inside("work"), inside("watch")],
    };
    let arguments = process.arguments(Begin::Boot).unwrap();
    let arguments = arguments.into_iter().map(|word| word.into_string().unwrap());
    Launch::new(QEMU).args(arguments)
}

fn in_place(place: &Place, name: &str) -> PathBuf {
    place.path(&Path::new(FOLDER).join(name))
}

/// A monitor that notes every event.
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    fn connect(path: &Path) -> Self {
        let stream = wait("the monitor", WAIT_MAX, || {
            UnixStream::connect(path).map_err(|error| error.to_string())
        });
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        let mut monitor = Self(BufReader::new(stream));
        monitor.line().unwrap();
        monitor.send("qmp_capabilities");
        monitor
    }

    fn quit(mut self) -> Vec<String> {
        self.send("quit");
        // QEMU leaves without a farewell: the end of the stream, or a reset, is the last of it.
        std::iter::from_fn(|| self.line().ok().filter(|line| !line.is_empty())).collect()
    }

    fn send(&mut self, command: &str) {
        let command = format!("{{\"execute\":\"{command}\"}}\n");
        self.0.get_mut().write_all(command.as_bytes()).unwrap();
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line)
    }
}

/// Asks again until the answer is right.
fn wait<T>(what: &str, time_max: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + time_max;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(now) => assert!(Instant::now() < until, "{what} is still not right: {now}"),
        }
        thread::sleep(POLL);
    }
}

fn addresses(texts: [&str; 2]) -> Vec<SocketAddr> {
    texts.map(|text| text.parse().unwrap()).into()
}

fn flows(count: usize, targets: [&str; 2], mode: Mode) -> FlowSpec {
    FlowSpec {
        count,
        targets: addresses(targets),
        sources: Vec::new(),
        mode,
        asks_max: None,
        silent_after_ms: None,
    }
}

fn plan() -> Plan {
    let session = SessionSpec {
        count: 20,
        targets: addresses(GUEST),
        sources: Vec::new(),
        size: 200,
        interval_ms: 100,
    };
    Plan {
        flows: vec![
            flows(800, GUEST, Mode::Paced { size: 200, interval_ms: 1000 }),
            flows(100, GUEST, Mode::Idle),
            flows(96, GUEST, Mode::PingPong { size: 64 }),
            flows(2, GUEST, Mode::Upload { frame: 16384 }),
            flows(2, GUEST, Mode::Download { frame: 16384 }),
        ],
        sessions: vec![session],
    }
}

#[test]
fn a_vm_boots_and_serves_a_thousand_checked_flows_records_and_neighbours() {
    let vm = Vm::boot();
    let neighbour = vm.neighbour();
    let mut control = vm.control();
    control.connect_to(flows(2, NEIGHBOUR, Mode::Idle)).unwrap();
    control.connect_to(flows(4, NEIGHBOUR, Mode::Paced { size: 200, interval_ms: 100 })).unwrap();
    control.dirty(DirtyRate { mib_per_s: 8, working_set_mib: 32 }).unwrap();

    let (process, mut clients) = vm.clients();
    clients.start(plan(), WAIT_MAX).unwrap();
    let talking = Instant::now();
    wait("every flow's traffic", WAIT_MAX, || {
        let report = clients.report().unwrap();
        if has_talked(&report) { Ok(()) } else { Err(summary(&report)) }
    });
    let answers: u64 = clients.report().unwrap().flows.iter().map(|flow| flow.answers).sum();
    println!("{answers} answers in {:?}", talking.elapsed());

    let running = vm.place.path(Path::new("/run/copy"));
    let known = control.counters().unwrap().records.unwrap().synced;
    std::fs::copy(in_place(&vm.place, "disk"), &running).unwrap();
    let copied = check_image(&running, RECORDS_START).unwrap();
    assert!(copied.records >= known, "{copied} of {known} that were fsynced");

    let report = clients.stop(WAIT_MAX).unwrap();
    assert!(process.wait(WAIT_MAX).unwrap().success());
    check_clients(&report);
    check_against_log(&mut control, &report);
    check_neighbour(&mut control);
    drop(neighbour);

    let counters = wait("records and dirty pages", WAIT_MAX, || {
        let counters = control.counters().unwrap();
        let recorded = counters.records.as_ref().unwrap().synced >= 20;
        let enough = recorded && counters.dirty.pages >= 1000;
        if enough { Ok(counters) } else { Err(format!("{counters:?}")) }
    });
    vm.console_when(|text| console::check(text, Came::Booting).is_ok(), WAIT_MAX);
    let (console, disk, events, _place) = vm.quit();
    console::check(&console, Came::Booting).unwrap();
    assert!(!events.iter().any(|event| event.contains("\"RESET\"")), "{events:?}");
    let records = check_image(&disk, RECORDS_START).unwrap();
    println!("{records}");
    assert!(records.is_one_boot() && !records.torn_tail, "{records}");
    assert!(records.records >= counters.records.unwrap().synced, "{records}");
    assert_eq!(records.runs[0].boot, counters.boot);
}

fn has_talked(report: &Report) -> bool {
    let busy = report.flows.iter().filter(|flow| flow.mode != Mode::Idle);
    let flows = busy.map(|flow| flow.answers).min() >= Some(3);
    flows && report.sessions.iter().all(|session| session.answers.received >= 5)
}

fn summary(report: &Report) -> String {
    let open = report.flows.iter().filter(|flow| flow.ending.is_open()).count();
    let silent = report.flows.iter().filter(|flow| flow.answers == 0).count();
    let ended = report.flows.iter().find(|flow| !flow.ending.is_open());
    format!("{open} flows open, {silent} without an answer, the first that ended: {ended:?}")
}

fn check_clients(report: &Report) {
    assert_eq!((report.flows.len(), report.sockets_new), (1000, 0));
    for flow in &report.flows {
        assert_eq!(flow.ending, Ending::Fin { by: Party::Client }, "{flow:#?}");
        assert_eq!((flow.verified_up, flow.answers), (flow.sent, flow.asks), "{flow:#?}");
    }
    for session in &report.sessions {
        assert!(session.settled && session.still_known(), "{session:#?}");
        assert_eq!((session.lost_up(), session.lost_down()), (0, 0), "{session:#?}");
        assert_eq!(session.at_server.duplicates, 0, "{session:#?}");
    }
}

/// Every flow is one line of the guest's log, found by its address, and both say the same.
fn check_against_log(control: &mut Control<std::net::TcpStream>, report: &Report) {
    let log = wait("the end of every flow in the guest's log", WAIT_MAX, || {
        let log = control.log().unwrap();
        let open = log.accepted.iter().filter(|line| line.ending.is_open()).count();
        if open == 0 { Ok(log) } else { Err(format!("{open} are open")) }
    });
    assert_eq!(log.accepted.len(), report.flows.len());
    for flow in &report.flows {
        let line = log.accepted.iter().find(|line| Some(line.peer) == flow.local).unwrap();
        assert_eq!((Some(line.token), &line.ending), (flow.token, &flow.ending));
        assert_eq!((line.verified, line.sent), (flow.sent, flow.verified_down));
    }
    for session in &report.sessions {
        let line = log.sessions.iter().find(|line| line.peer == session.local).unwrap();
        assert_eq!((Some(line.token), line.counts), (session.token, session.at_server));
    }
}

fn check_neighbour(control: &mut Control<std::net::TcpStream>) {
    let opened = wait("traffic to the neighbour", WAIT_MAX, || {
        let opened = control.log().unwrap().opened;
        let busy = opened.iter().filter(|flow| flow.mode != Mode::Idle && flow.answers >= 3);
        if busy.count() == 4 { Ok(opened) } else { Err(format!("{opened:#?}")) }
    });
    assert_eq!(opened.len(), 6);
    assert!(opened.iter().all(|flow| flow.ending.is_open() && flow.token.is_some()));
    assert!(opened.iter().any(|flow| flow.local.unwrap().is_ipv6()));
}
