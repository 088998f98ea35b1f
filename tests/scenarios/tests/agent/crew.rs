//! Two sites with an agent each, and what the tests say to them.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use daemon::identity::Credentials;
use guest::service::READY;
use lab::sandbox::{Launch, Process};
use lab::vm::Machine;
use lab::world::{APPLICATION_BITS, Dual, Site, World, addresses};
use orchestrator_api::{CopyCommand, Phase, ProcessDoes, Progress, VmDefinition};
use placement::{Answer, Authority, Command, End, Identity, Pair, Release};
use rustix::process::Signal;

use crate::asking::{self, Asked, Papers, authority, order, owner, vm};
use crate::ground::two_sites;
use crate::tunnel::{Channels, Proxy, control_address};

/// Longest wait for anything, on a machine busy with compilers.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
const PORT: u16 = 7402;
/// Where records begin on the disk.
pub(crate) const RECORDS_START: u64 = 1 << 20;
/// A gigabit.
pub(crate) const PACE: u64 = 125_000_000;
const REMAINS_MAX: u64 = 8 << 20;
/// Copies of one move, each begun anew after a VM that switched over by itself.
const ATTEMPTS_MAX: u32 = 3;
/// Of agent and proxy alike.
pub(crate) const SOCKETS: &str = "/run/causeway/agent";
const DISKS: &str = "/var/lib/causeway/disks";

pub(crate) fn world() -> World {
    World::build(&two_sites()).unwrap()
}

/// An agent at a site of a world.
pub(crate) struct Crew<'w> {
    pub(crate) site: &'w Site,
    /// Its site's.
    pub(crate) proxy: Arc<Proxy<'w>>,
    serve: Credentials,
    process: Option<Process>,
}

impl<'w> Crew<'w> {
    /// Makes all that an agent needs at the site, and starts it, after the site's proxy.
    pub(crate) fn start(
        world: &'w World,
        site: &'w Site,
        papers: &Papers,
        machine: &Machine,
    ) -> Crew<'w> {
        Crew::start_telling(world, site, papers, machine, None)
    }

    /// The same, where packets follow a VM: the site's proxy has a leg, and the agent tells it of
    /// holds.
    pub(crate) fn start_joined(
        world: &'w World,
        site: &'w Site,
        papers: &Papers,
        machine: &Machine,
    ) -> Crew<'w> {
        let proxy = Arc::new(Proxy::start(world, site, papers, true));
        let address = Some(control_address(site));
        Crew::start_beside(proxy, site, papers, machine, address)
    }

    /// The same, with an agent that tells a proxy at this address of holds.
    pub(crate) fn start_telling(
        world: &'w World,
        site: &'w Site,
        papers: &Papers,
        machine: &Machine,
        proxy_address: Option<SocketAddr>,
    ) -> Crew<'w> {
        let proxy = Arc::new(Proxy::start(world, site, papers, false));
        Crew::start_beside(proxy, site, papers, machine, proxy_address)
    }

    fn start_beside(
        proxy: Arc<Proxy<'w>>,
        site: &'w Site,
        papers: &Papers,
        machine: &Machine,
        proxy_address: Option<SocketAddr>,
    ) -> Crew<'w> {
        let put = |to: &str, bytes, mode| put(site, to, bytes, mode);
        let bundle = papers.bundle(site.name(), "agent", "hv1");
        for file in ["certificate.pem", "key.pem", "ca.pem"] {
            let bytes = fs::read(bundle.join(file)).unwrap();
            put(&format!("/etc/causeway/hv1/{file}"), bytes, 0o600);
        }
        let image = &machine.image;
        put("/var/lib/causeway/images/kernel", fs::read(&image.kernel).unwrap(), 0o644);
        put("/var/lib/causeway/images/initrd", fs::read(&image.initramfs).unwrap(), 0o644);
        let accelerator = match machine.accelerator {
            lab::qemu_args::Accelerator::Kvm => "kvm",
            lab::qemu_args::Accelerator::Tcg => "tcg",
        };
        let rest = format!(
            "[state]\nfolder = \"/var/lib/causeway/agent\"\n\
             [qemu]\nuser = \"nobody\"\naccelerator = \"{accelerator}\"\n\
             [folders]\ndisks = \"{DISKS}\"\nsockets = \"{SOCKETS}\"\n\
             [[image]]\nname = \"guest\"\nkernel = \"/var/lib/causeway/images/kernel\"\n\
             initramfs = \"/var/lib/causeway/images/initrd\""
        );
        let listen = SocketAddr::from((site.hypervisor_address().v4, PORT));
        let mut text = asking::configuration(site.name(), listen, &rest);
        if let Some(address) = proxy_address {
            let _ = writeln!(text, "proxy_address = \"{address}\"");
        }
        put("/etc/causeway/agent.toml", text.into_bytes(), 0o644);
        let serve = papers.credentials("a", "orchestrator", "serve");
        let mut crew = Crew { site, proxy, serve, process: None };
        crew.begin();
        crew
    }

    pub(crate) fn begin(&mut self) {
        let words = ["agent", "run", "--config", "/etc/causeway/agent.toml"];
        let launch = Launch::ours("causeway").unwrap().args(words).log("agent");
        self.process = Some(self.site.hypervisor().spawn(&launch).unwrap());
        until("the agent listens", || self.reached().is_ok().then_some(()));
    }

    /// As if its host's memory had failed it alone.
    pub(crate) fn killed(&mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::KILL).unwrap();
        process.wait(WAIT_MAX).unwrap();
    }

    pub(crate) fn end(&self) -> End {
        End {
            site: self.site.name().parse().unwrap(),
            agent: "hv1".parse().unwrap(),
            address: (self.site.hypervisor_address().v4, PORT).into(),
            proxy: "p1".parse().unwrap(),
        }
    }

    /// A file of the process made in `epoch`, as the harness reaches it.
    pub(crate) fn file(&self, epoch: u64, name: &str) -> PathBuf {
        let folder = format!("{DISKS}/{}.{epoch}.{}", vm(), owner(7));
        self.site.place().path(&Path::new(&folder).join(name))
    }

    pub(crate) fn console(&self, epoch: u64) -> String {
        String::from_utf8_lossy(&fs::read(self.file(epoch, "console")).unwrap()).into_owned()
    }

    /// The monitor that is anybody's, as the harness reaches it.
    pub(crate) fn watch_socket(&self, epoch: u64) -> PathBuf {
        self.site.place().path(&PathBuf::from(format!("{SOCKETS}/{}.{epoch}.watch", vm())))
    }

    /// An order under epoch's own authority that must be carried out.
    #[track_caller]
    pub(crate) fn does(&self, step: &str, under: &Authority, command: Command) -> Answer {
        Asked::order(self, &order(step, under, command, None)).unwrap()
    }

    #[track_caller]
    pub(crate) fn copies(&self, step: &str, under: &Authority, command: CopyCommand) -> Progress {
        Asked::copy(self, &asking::copy(step, under, command)).unwrap()
    }

    /// Waits until the copy has come so far.
    #[track_caller]
    pub(crate) fn wait_for(&self, phase: Phase) {
        until(&format!("{phase:?}"), || {
            let progress = self.vm().unwrap().progress.unwrap();
            assert_ne!(progress.phase, Phase::Failed, "{progress:?}");
            (progress.phase == phase).then_some(())
        });
    }

    /// The number of the process that does so.
    #[track_caller]
    pub(crate) fn process_that(&self, does: ProcessDoes) -> u32 {
        until(&format!("a process that {does:?}"), || {
            let view = self.vm().unwrap();
            view.processes.iter().find(|process| process.does == does).map(|found| found.pid)
        })
    }

    fn reached(&self) -> std::io::Result<TcpStream> {
        let address = SocketAddr::from((self.site.hypervisor_address().v4, PORT));
        self.site.hypervisor().inside(|| TcpStream::connect(address)).unwrap()
    }
}

impl Asked for Crew<'_> {
    fn connect(&self) -> TcpStream {
        self.reached().unwrap()
    }

    fn identity(&self) -> Identity {
        format!("causeway://site/{}/role/agent/name/hv1", self.site.name()).parse().unwrap()
    }

    fn papers(&self) -> &Credentials {
        &self.serve
    }
}

/// The guest's words for its site's network.
pub(crate) fn guest(site: &Site) -> VmDefinition {
    let Dual { v4, v6 } = addresses::vm(1).ip;
    let (gateway, (v4_bits, v6_bits)) = (site.gateway().ip, APPLICATION_BITS);
    let words = [
        format!("addr4={v4}/{v4_bits}"),
        format!("gw4={}", gateway.v4),
        format!("addr6={v6}/{v6_bits}"),
        format!("gw6={}", gateway.v6),
        "disk=/dev/vda".to_owned(),
        format!("disk_start={RECORDS_START}"),
        "records=20".to_owned(),
        "heartbeat=200".to_owned(),
    ];
    asking::definition(&words.map(|word| format!("causeway.{word}")))
}

/// Has the VM placed, and waits until the guest serves.
pub(crate) fn place(at: &Crew<'_>, definition: &VmDefinition) {
    let command = Command::Place { owner: owner(7) };
    let placed = order("place", &authority(1), command, Some(definition));
    assert_eq!(Asked::order(at, &placed).unwrap(), Answer::Runs);
    until("the guest serves", || at.console(1).contains(READY).then_some(()));
}

/// A move as far as a target that waits: claimed at both ends, reserved, channels joined.
pub(crate) fn begin_move<'w>(
    from: &Crew<'w>,
    to: &Crew<'w>,
    epoch: u64,
    definition: &VmDefinition,
) -> (Authority, Channels<'w>) {
    let under = authority(epoch);
    let pair = Pair { from: from.end(), to: to.end() };
    for agent in [from, to] {
        let (authority, pair) = (under.clone(), pair.clone());
        let answer =
            agent.does("claim", &under, Command::Claim { authority, pair, takeover: false });
        assert!(matches!(answer, Answer::Granted { .. }), "{answer:?}");
    }
    let reserve = Command::Reserve { authority: under.clone() };
    let reserve = order("reserve", &under, reserve, Some(definition));
    assert_eq!(Asked::order(to, &reserve).unwrap(), Answer::Reserved);
    to.process_that(ProcessDoes::Waits);
    let channels = Channels::open(&from.proxy, &to.proxy, &under, &pair);
    (under, channels)
}

/// Mirrors, then copies memory, until little enough remains. A VM that has switched over by itself
/// before that is none the worse, and is copied anew, as the agent says: it is found sooner, at half
/// the pace. `with_target` is told of each target that waits.
pub(crate) fn copy_until_ready(
    from: &Crew<'_>,
    to: &Crew<'_>,
    under: &Authority,
    definition: &VmDefinition,
    mut with_target: impl FnMut(),
) {
    for attempt in 0..ATTEMPTS_MAX {
        if attempt > 0 {
            let reserve = Command::Reserve { authority: under.clone() };
            let reserve = order(&format!("reserve-{attempt}"), under, reserve, Some(definition));
            assert_eq!(Asked::order(to, &reserve).unwrap(), Answer::Reserved);
            to.process_that(ProcessDoes::Waits);
        }
        with_target();
        from.copies(&format!("mirror-{attempt}"), under, CopyCommand::MirrorStart);
        from.wait_for(Phase::InStep);
        let (bytes_per_s, remaining_bytes_max) = (PACE >> attempt, REMAINS_MAX << (2 * attempt));
        let memory = CopyCommand::MemoryStart { bytes_per_s, remaining_bytes_max };
        from.copies(&format!("memory-{attempt}"), under, memory);
        let failure = until("the copy's end, or nearly", || {
            let progress = from.vm().unwrap().progress.unwrap();
            match progress.phase {
                Phase::Ready => Some(None),
                Phase::Failed => Some(Some(progress.failure.unwrap())),
                _ => None,
            }
        });
        let Some(failure) = failure else { return };
        println!("attempt {attempt}: {failure}");
        assert!(failure.contains("switched over by itself"), "{failure}");
    }
    panic!("the VM switched over by itself {ATTEMPTS_MAX} times");
}

pub(crate) fn memory(bytes_per_s: u64) -> CopyCommand {
    CopyCommand::MemoryStart { bytes_per_s, remaining_bytes_max: REMAINS_MAX }
}

/// Calls a move off: refused at the target, then run at the source, then given back by both.
pub(crate) fn call_off(from: &Crew<'_>, to: &Crew<'_>, under: &Authority) {
    let authority = || under.clone();
    let release = Release::from(authority());
    let refuse = Command::Refuse { authority: Some(authority()), release: release.clone() };
    assert_eq!(to.does("refuse", under, refuse), Answer::Refused { release });
    let run = Command::Run { authority: authority(), evidence: None };
    assert_eq!(from.does("run", under, run), Answer::Runs);
    for agent in [from, to] {
        let back = Command::GiveBack { authority: authority() };
        assert_eq!(agent.does("give-back", under, back), Answer::GivenBack);
    }
}

/// A file at a site.
pub(crate) fn put(site: &Site, to: &str, bytes: Vec<u8>, mode: u32) {
    site.place().write_file(Path::new(to), bytes).unwrap();
    let path = site.place().path(Path::new(to));
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + WAIT_MAX;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {WAIT_MAX:?}");
        thread::sleep(POLL);
    }
}
