//! A real VM at a site of a world, with nothing of the product around it: what a test starts, looks
//! at from outside, and moves [by hand](by_hand). Where the network alone matters, a VM can be a
//! [namespace].

pub mod by_hand;
pub mod namespace;
mod watcher;

pub use watcher::{Run, Watched, Watcher, ran_twice};

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use guest::service::READY;
use serde_json::Value;

use crate::LabError;
use crate::host::Host;
use crate::image::console::{self, Came, ConsoleFault};
use crate::image::{GuestImage, ImageError};
use crate::qemu_args::{Accelerator, Begin, Memory, QEMU, QemuArgsError, QemuProcess};
use crate::qmp::{Qmp, QmpError};
use crate::sandbox::{Launch, Process};
use crate::vm_lock::VmLock;
use crate::world::{APPLICATION_BITS, Dual, Site, Station};

/// Longest boot, beside compilers on every core; alone it takes two seconds.
pub const BOOT_MAX: Duration = Duration::from_secs(120);
/// How long a guest that runs may take to say so on its console.
const ALIVE_MAX: Duration = Duration::from_secs(60);
/// How long a QEMU may take to end once it was told to.
const END_MAX: Duration = Duration::from_secs(30);
/// Between two looks at a console.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Where VMs lie at their site.
const FOLDER: &str = "/var/lib/vms";
/// The bridge of every site.
const BRIDGE: &str = "br0";

/// Why a VM did not do as the test wanted.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The lab could not.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Its monitor said otherwise.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// Its guest is in trouble, or was silent.
    #[error("the guest of {vm} is not well")]
    Console {
        /// The process, by its tap.
        vm: String,
        /// What its console shows.
        #[source]
        fault: ConsoleFault,
    },
    /// Its guest was reset, which a healthy one never is.
    #[error("the guest of {vm} was reset: {watched}")]
    Reset {
        /// The process, by its tap.
        vm: String,
        /// All that was seen of it.
        watched: Watched,
    },
    /// There is nothing to boot.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It cannot be started so.
    #[error(transparent)]
    Arguments(#[from] QemuArgsError),
    /// A file of it.
    #[error("cannot {what}")]
    File {
        /// What was tried.
        what: String,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Its process ended otherwise than by our word.
    #[error("{QEMU} of {vm} ended with {status}; see the end of its log")]
    Crashed {
        /// The process, by its tap.
        vm: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The guest never said that it serves.
    #[error("the guest does not serve after {BOOT_MAX:?}; its console: {console}")]
    NotServing {
        /// All of it.
        console: String,
    },
}

/// What a VM is, wherever it runs.
#[derive(Debug, Clone)]
pub struct VmPlan {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uuid: String,
    /// Its place on the application subnet.
    pub station: Station,
    /// Its gateways there.
    pub gateway: Dual,
    /// Records that it appends to its disk, a second.
    pub records_per_s: u32,
    /// The size of its disk.
    pub disk_bytes: u64,
    /// Where on it the records begin.
    pub records_start: u64,
    /// Up to where the disk is full of noise, which nothing can make smaller.
    pub noise_end: u64,
    /// What boots, and what runs it.
    pub machine: Machine,
}

/// What every VM of a test has in common.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What boots.
    pub image: GuestImage,
    /// What runs it.
    pub accelerator: Accelerator,
}

impl Machine {
    /// Builds the image and finds out what can run it, both only where it is not known yet. To find
    /// out, a VM may have to run: that takes the right to run one.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn ready(_right: &VmLock) -> Result<Self, VmError> {
        let image = GuestImage::build()?;
        let accelerator = Accelerator::probe(&image)
            .map_err(|cause| VmError::File { what: format!("start {QEMU}"), cause })?;
        Ok(Self { image, accelerator })
    }

    /// The folders that a site must see.
    #[must_use]
    pub fn kept(&self) -> Vec<PathBuf> {
        let files = [&self.image.kernel, &self.image.initramfs];
        files.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect()
    }
}

impl VmPlan {
    /// A VM that writes twenty records a second to a small disk.
    #[must_use]
    pub fn usual(machine: Machine, site: &Site) -> Self {
        Self {
            name: "web".into(),
            uuid: "6f1c7f2e-5f0a-4d5e-9a57-000000000001".into(),
            station: crate::world::addresses::vm(1),
            gateway: site.gateway().ip,
            records_per_s: 20,
            disk_bytes: 64 << 20,
            records_start: 1 << 20,
            noise_end: 0,
            machine,
        }
    }

    fn words(&self) -> Vec<String> {
        let Dual { v4, v6 } = self.station.ip;
        let (v4_bits, v6_bits) = APPLICATION_BITS;
        [
            format!("addr4={v4}/{v4_bits}"),
            format!("gw4={}", self.gateway.v4),
            format!("addr6={v6}/{v6_bits}"),
            format!("gw6={}", self.gateway.v6),
            "disk=/dev/vda".to_owned(),
            format!("disk_start={}", self.records_start),
            format!("records={}", self.records_per_s),
            "heartbeat=200".to_owned(),
        ]
        .map(|word| format!("causeway.{word}"))
        .into()
    }
}

/// A VM's process at a site, with a tap on the site's bridge. It ends with this value.
pub struct Vm {
    plan: VmPlan,
    /// Which one of the VM's processes: each has files, tap and name of its own.
    number: u32,
    came: Came,
    host: Host,
    site: String,
    monitor: Qmp,
    watcher: Watcher,
    process: Process,
}

impl Vm {
    /// Boots the VM at `site`, and waits until it serves.
    ///
    /// # Errors
    /// It does not.
    pub fn boot(plan: &VmPlan, site: &Site) -> Result<Self, VmError> {
        let vm = Self::start(plan, 1, site, Begin::Boot)?;
        let until = Instant::now() + BOOT_MAX;
        while !vm.console()?.contains(READY) {
            if Instant::now() > until {
                return Err(VmError::NotServing { console: vm.console()? });
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(vm)
    }

    /// A process at `site` that waits to receive this VM.
    fn target_at(&self, site: &Site, number: u32) -> Result<Self, VmError> {
        Self::start(&self.plan, number, site, Begin::Receive)
    }

    /// Ends a target that nothing will come to, and its port with it.
    fn abandon(self) -> Result<(), VmError> {
        self.process.kill()?;
        self.remove_tap()
    }

    fn start(plan: &VmPlan, number: u32, site: &Site, begin: Begin) -> Result<Self, VmError> {
        let host = site.hypervisor();
        let tap = tap_name(plan, number);
        host.ip_batch(&format!(
            "tuntap add dev {tap} mode tap\n\
             link set {tap} master {BRIDGE} addrgenmode none\n\
             link set {tap} up txqueuelen 10000\n"
        ))?;
        let folder = Path::new(FOLDER).join(&tap);
        let seen = host.place().path(&folder);
        host.place().write_file(&folder.join("disk"), b"")?;
        make_disk(plan, &seen.join("disk"), begin)?;
        let process = host.spawn(&launch(plan, &tap, &folder, begin)?)?;
        let monitor = Qmp::connect(&seen.join("work"))?;
        let watcher = Watcher::start(format!("{tap} at {}", site.name()), &seen.join("watch"))?;
        let site = site.name().to_owned();
        let came = match begin {
            Begin::Boot => Came::Booting,
            Begin::Receive => Came::Moving,
        };
        Ok(Self { plan: plan.clone(), number, came, host, site, monitor, watcher, process })
    }

    /// What it is.
    #[must_use]
    pub fn plan(&self) -> &VmPlan {
        &self.plan
    }

    /// The site that it runs at.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.site
    }

    /// Its monitor.
    pub fn monitor(&mut self) -> &mut Qmp {
        &mut self.monitor
    }

    /// Its disk, as the harness reaches it.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.folder().join("disk")
    }

    /// All that its console has said here.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn console(&self) -> Result<String, VmError> {
        let path = self.folder().join("console");
        match std::fs::read(&path) {
            Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(cause) => Err(VmError::File { what: format!("read {}", path.display()), cause }),
        }
    }

    /// Waits until the guest has said here that it is alive: before it had the time to, its console
    /// would be judged silent.
    ///
    /// # Errors
    /// It stays silent, or its console tells of trouble.
    pub fn wait_alive(&self) -> Result<(), VmError> {
        let until = Instant::now() + ALIVE_MAX;
        loop {
            match console::check(&self.console()?, self.came) {
                Ok(()) => return Ok(()),
                Err(ConsoleFault::NeverAlive) if Instant::now() < until => {}
                Err(fault) => return Err(VmError::Console { vm: self.tap(), fault }),
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// When it has run here so far.
    #[must_use]
    pub fn watched(&self) -> Watched {
        self.watcher.so_far()
    }

    /// Ends the process, and gives what was seen of it.
    ///
    /// # Errors
    /// It does not end, or ends in another way; its guest was reset, was in trouble or never spoke.
    pub fn end(mut self) -> Result<Watched, VmError> {
        match self.monitor.execute("quit", Value::Null) {
            // QEMU may be gone before its answer is.
            Ok(_) | Err(QmpError::Ended { .. }) => {}
            Err(other) => return Err(other.into()),
        }
        let status = self.process.wait(END_MAX)?;
        self.remove_tap()?;
        let vm = self.tap();
        if !status.success() {
            return Err(VmError::Crashed { vm, status });
        }
        if let Err(fault) = console::check(&self.console()?, self.came) {
            return Err(VmError::Console { vm, fault });
        }
        let watched = self.watcher.to_the_end();
        if watched.resets > 0 {
            return Err(VmError::Reset { vm, watched });
        }
        Ok(watched)
    }

    /// A tap without its QEMU would be a link that never carries again.
    fn remove_tap(&self) -> Result<(), VmError> {
        Ok(self.host.ip_batch(&format!("link del {}\n", self.tap()))?)
    }

    fn tap(&self) -> String {
        tap_name(&self.plan, self.number)
    }

    fn folder(&self) -> PathBuf {
        self.host.place().path(&Path::new(FOLDER).join(self.tap()))
    }
}

/// An empty disk; at a boot, with the noise that the plan wants on it.
fn make_disk(plan: &VmPlan, path: &Path, begin: Begin) -> Result<(), VmError> {
    let make = || {
        let mut disk = File::options().write(true).open(path)?;
        disk.set_len(plan.disk_bytes)?;
        if begin == Begin::Boot {
            io::copy(&mut File::open("/dev/urandom")?.take(plan.noise_end), &mut disk)?;
        }
        Ok(())
    };
    make().map_err(|cause| VmError::File { what: format!("make {}", path.display()), cause })
}

fn tap_name(plan: &VmPlan, number: u32) -> String {
    format!("{}{number}", plan.name)
}

fn launch(plan: &VmPlan, tap: &str, folder: &Path, begin: Begin) -> Result<Launch, VmError> {
    let process = QemuProcess {
        name: plan.name.clone(),
        uuid: plan.uuid.clone(),
        memory: Memory::default(),
        processors: 1,
        accelerator: plan.machine.accelerator,
        image: plan.machine.image.clone(),
        words: plan.words(),
        mac: plan.station.mac,
        tap: tap.to_owned(),
        disk: folder.join("disk"),
        console: folder.join("console"),
        monitors: vec![folder.join("work"), folder.join("watch")],
    };
    let arguments = process.arguments(begin)?;
    let arguments = arguments.iter().map(|word| word.to_string_lossy().into_owned());
    Ok(Launch::new(QEMU).args(arguments).log(format!("qemu-{tap}")))
}
