#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]
//! The port of a VM in a namespace, at a site of the lab: its tap, and the rules that the agent's own
//! code sets there.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lab::vm::namespace::{CardEnd, NamespaceVm};
use lab::world::{Site, addresses};
use network::{Guest, Mac, OpenTap, Port, PortWanted, TapQueue, VmTag};

const BRIDGE: &str = "br0";
/// How long the stop waits for the port's queue to be empty.
const EMPTY_MAX: Duration = Duration::from_millis(10);

/// The two sites.
pub const A: usize = 0;
/// See [`A`].
pub const B: usize = 1;

/// How a hold ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The VM runs at the target.
    AtTarget,
    /// After so long, at the source.
    CancelledAfter(Duration),
}

/// The VM, as rules name it.
///
/// # Panics
/// Never.
#[must_use]
pub fn web() -> VmTag {
    "web".parse().unwrap()
}

/// The VM, as it is on its network.
#[must_use]
pub fn guest() -> Guest {
    let vm = addresses::vm(1);
    Guest { mac: Mac(vm.mac.0), addresses: vm.ip.each().to_vec() }
}

/// One at a time: two at once lose packets for want of processors alone.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    // One that failed has left nothing that matters here.
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tap that the VM holds.
#[derive(Debug)]
pub struct Tap {
    /// Its name.
    pub name: String,
    /// The VM's end of it.
    pub end: CardEnd,
    /// What waits in it.
    pub queue: TapQueue,
}

impl Tap {
    /// Opens one on the site's bridge, and gives it to the VM.
    ///
    /// # Panics
    /// It cannot be opened.
    #[must_use]
    pub fn open(site: &Site, vm: &NamespaceVm) -> Tap {
        let open = || OpenTap::on(BRIDGE, "causeway VM web").unwrap();
        let tap = site.hypervisor().inside(open).unwrap();
        let name = tap.name().to_owned();
        let descriptor = tap.into_descriptor();
        let queue = TapQueue::over(descriptor.try_clone().unwrap());
        Tap { name, end: vm.hold(descriptor), queue }
    }

    /// Stops the VM once its port is empty, or does not become so; what is left there then.
    ///
    /// # Panics
    /// It cannot be read.
    #[must_use]
    pub fn stop(&self, vm: &NamespaceVm) -> Vec<Vec<u8>> {
        let is_empty = self.queue.wait_until_empty(EMPTY_MAX).unwrap();
        vm.stop();
        let mut leftovers = Vec::new();
        loop {
            let more = self.queue.leftovers(guest().mac).unwrap();
            if more.is_empty() {
                break;
            }
            leftovers.extend(more);
        }
        println!("empty before the stop: {is_empty}; left: {}", leftovers.len());
        leftovers
    }
}

/// Does something with the VM's port at a site.
///
/// # Panics
/// The site's hypervisor cannot be entered.
pub fn at_port<T: Send>(site: &Site, work: impl FnOnce(&Port) -> T + Send) -> T {
    let port = Port::new(web(), guest(), BRIDGE);
    site.hypervisor().inside(|| work(&port)).unwrap()
}

/// Sets the rules of the VM's port at a site.
///
/// # Panics
/// The kernel does not take them.
pub fn set_port(site: &Site, tap: Option<&Tap>, wanted: PortWanted) {
    let tap = tap.map(|tap| tap.name.clone());
    at_port(site, |port| port.set(tap.as_deref(), wanted).unwrap());
}
