//! Random walks through everything that can go wrong with the seats of one VM on three hosts:
//! orders lost, repeated, late and out of order; agents that die between any two steps; hosts that
//! reboot; orchestrators that die, come again as others, and take over from each other. The agents
//! run the very rules that ship.
//!
//! At every step: the VM runs nowhere twice, never from an old state, and has one place. At the
//! end of every walk, with nothing failing any more, it runs.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests; a seed comes from outside"
)]

mod dice;
mod host;
mod orchestrator;
mod world;

use dice::Dice;
use world::World;

const WALKS: u64 = 20_000;
/// With `CAUSEWAY_DEEP`, as `cargo verify --deep` sets it.
const WALKS_DEEP: u64 = 50 * WALKS;
const STEPS: usize = 500;

#[test]
fn the_vm_never_runs_twice_nor_from_an_old_state_nor_is_lost() {
    let first = std::env::var("CAUSEWAY_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let deep = std::env::var_os("CAUSEWAY_DEEP").is_some();
    let walks = match (first, deep) {
        (Some(_), _) => 1,
        (None, false) => WALKS,
        (None, true) => WALKS_DEEP,
    };
    let first = first.unwrap_or_else(dice::any_seed);
    println!("seeds {first} to {}; CAUSEWAY_SEED=N repeats one", first.wrapping_add(walks - 1));
    let mut done = world::Done::default();
    for seed in (0..walks).map(|walk| first.wrapping_add(walk)) {
        let mut world = World::new(Dice::new(seed));
        let walked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..STEPS {
                world.step();
                world.check();
            }
            world.settle();
        }));
        if walked.is_err() {
            panic!("seed {seed}; the walk:\n{}", world.story.join("\n"));
        }
        done.add(&world.done);
    }
    println!("{done:?}");
    if walks > 1 {
        done.assert_everything_happened();
    }
}
