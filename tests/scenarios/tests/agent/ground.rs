//! What a test that moves a real VM stands on: the right to run one, what boots it, sites with a WAN
//! between them, and everybody's papers.

use lab::vm::Machine;
use lab::vm_lock::{self, VmLock};
use lab::world::{Site, World, WorldPlan};
use wan::Change;

use crate::asking::Papers;
use crate::crew::Crew;

/// Packets of a million that the lossy line loses.
const LOSS_PPM: u32 = 1_000;

/// Over so slow a WAN a disk is on its way for minutes.
const SLOW_BITS_PER_S: u64 = 200_000;

/// All of it, and in the order in which it goes.
pub(crate) struct Ground {
    pub(crate) world: World,
    pub(crate) papers: Papers,
    machine: Machine,
    _lock: VmLock,
}

impl Ground {
    /// Waits for the right to run a VM, and builds the sites.
    pub(crate) fn of(plan: &WorldPlan) -> Ground {
        let lock = VmLock::take(vm_lock::WAIT_MAX).unwrap();
        let machine = Machine::ready(&lock).unwrap();
        let world = World::build(plan).unwrap();
        Ground { world, papers: Papers::new(), machine, _lock: lock }
    }

    /// The crew of a site, to which packets of a VM can follow.
    pub(crate) fn crew<'g>(&'g self, site: &'g Site) -> Crew<'g> {
        Crew::start_joined(&self.world, site, &self.papers, &self.machine)
    }
}

/// Two sites, with a gigabit between them and a round trip of 20 ms.
pub(crate) fn two_sites() -> WorldPlan {
    let wan = Change {
        delay_us: Some(10_000),
        rate_bits_per_s: Some(1_000_000_000),
        ..Change::default()
    };
    WorldPlan { wan, ..WorldPlan::default() }
}

/// The same, over a line that loses one packet in a thousand.
pub(crate) fn two_sites_lossy() -> WorldPlan {
    let WorldPlan { wan, .. } = two_sites();
    WorldPlan { wan: Change { loss_ppm: Some(LOSS_PPM), ..wan }, ..WorldPlan::default() }
}

/// From now on hardly anything gets from one site to the other.
pub(crate) fn slows_down(world: &World) {
    set_rate(world, Some(SLOW_BITS_PER_S));
}

/// As much as in the beginning.
pub(crate) fn speeds_up(world: &World) {
    set_rate(world, world.plan().wan.rate_bits_per_s);
}

fn set_rate(world: &World, rate_bits_per_s: Option<u64>) {
    world.wan().set("a", "b", Change { rate_bits_per_s, ..Change::default() }).unwrap();
}
