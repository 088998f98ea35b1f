//! What the story plays on: two sites with a WAN between them, clients, and the operator's desk; and
//! the example that is installed there.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::image::GuestImage;
use lab::sandbox::Process;
use lab::vm_lock::{self, VmLock, VmLockError};
use lab::world::{Site, World, WorldPlan};
use scenarios::installation::{self, Installation};
use setup::Demo;
use wan::Change;

use crate::desk::Desk;
use crate::ending::Ending;
use crate::error::DemoError;
use crate::telling::Telling;

/// The example that is installed.
pub(crate) const EXAMPLE: &str = "two-sites";
/// Where its agents expect what VMs boot.
const KERNEL: &str = "/var/lib/causeway/images/kernel";
const INITRAMFS: &str = "/var/lib/causeway/images/initrd";
/// Machines of clients: on one, programs honour TTLs, on the other they do not.
const CLIENTS: u8 = 2;
/// At one try for the right to run a VM, so that an end that is asked for meanwhile is seen.
const TRY: Duration = Duration::from_millis(200);
/// DNS, and the VIP at which each site's name server answers.
const DNS_PORT: u16 = 53;
const DNS_VIP: u8 = 2;

/// The right to run a real VM on this machine, and what it boots.
pub(crate) struct Permit {
    image: GuestImage,
    _lock: VmLock,
}

impl Permit {
    /// Waits for it, for as long as other VMs of tests may run.
    pub(crate) fn get(telling: &mut Telling, ending: &Ending) -> Result<Permit, DemoError> {
        let until = Instant::now() + vm_lock::WAIT_MAX;
        let mut is_told = false;
        let lock = loop {
            ending.check()?;
            match VmLock::take(TRY) {
                Ok(lock) => break lock,
                Err(VmLockError::Held { holder, .. }) if Instant::now() < until => {
                    if !is_told {
                        let who = format!("process {holder}");
                        telling.says(&format!("Waiting for {who}, which runs a VM here as well."));
                        is_told = true;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        };
        Ok(Permit { image: GuestImage::build()?, _lock: lock })
    }
}

/// The world, with the example's daemons in it.
pub(crate) struct Stage {
    pub(crate) world: Arc<World>,
    permit: Permit,
    daemons: Vec<Process>,
}

impl Stage {
    /// Builds the world, with nothing in it yet.
    pub(crate) fn build(asked: &Demo, permit: Permit, ending: &Ending) -> Result<Stage, DemoError> {
        let plan = WorldPlan { clients: CLIENTS, wan: wan(asked), ..WorldPlan::default() };
        let world = Arc::new(World::build(&plan).map_err(DemoError::World)?);
        ending.takes_along(&world)?;
        Ok(Stage { world, permit, daemons: Vec::new() })
    }

    /// Gives the operator the example's description, and the hypervisors what VMs boot.
    pub(crate) fn furnish(&self, desk: &Desk<'_>) -> Result<(), DemoError> {
        let description = installation::description(EXAMPLE);
        desk.gives("causeway.toml", &read(&description)?)?;
        for site in self.world.sites() {
            let image = &self.permit.image;
            site.place().write_file(KERNEL.as_ref(), read(&image.kernel)?)?;
            site.place().write_file(INITRAMFS.as_ref(), read(&image.initramfs)?)?;
        }
        Ok(())
    }

    /// Copies what `causeway init` has made to the hosts, and starts every daemon.
    pub(crate) fn install(&mut self, desk: &Desk<'_>, folder: &str) -> Result<usize, DemoError> {
        let installation = Installation::read(&desk.file(folder))?;
        self.daemons = installation::start(&self.world, &installation)?;
        Ok(self.daemons.len())
    }

    /// A site.
    pub(crate) fn site(&self, name: &str) -> &Site {
        self.world.site(name)
    }

    /// A site's name server, as clients reach it.
    pub(crate) fn name_server(&self, site: &str) -> SocketAddr {
        SocketAddr::from((self.site(site).vip(DNS_VIP).v4, DNS_PORT))
    }

    /// The operator's desk.
    pub(crate) fn desk<'e>(&self, ending: &'e Ending) -> Result<Desk<'e>, DemoError> {
        Desk::new(self.world.desk(), ending)
    }
}

/// What lies between the sites, each way.
fn wan(asked: &Demo) -> Change {
    Change {
        delay_us: Some(asked.rtt_ms * 500),
        loss_ppm: Some(asked.loss_ppm),
        rate_bits_per_s: Some(asked.rate_mbit * 1_000_000),
        ..Change::default()
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, DemoError> {
    fs::read(path).map_err(|cause| DemoError::File { what: "read", path: path.to_owned(), cause })
}
