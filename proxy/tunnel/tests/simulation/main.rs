//! Sites in virtual time, over a network that delays, falls silent, breaks, and lets the past arrive
//! late: what the programs at the ends of streams see of it is time, never a wrong byte.
//!
//! The sessions are the very ones that ship. Each lane and each program acts only when its session
//! wakes it, so that a wake-up that is lost stops the run.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests; sizes are small and a seed comes from outside"
)]

mod checks;
mod connections;
mod dice;
mod faults;
mod network;
mod program;
mod sessions;
mod streams;
mod world;

use dice::Dice;
use program::Script;
use tunnel::protocol::bounds::{CHUNK_BYTES_MAX, Limits};
use world::{Counts, Happening, World};

/// Runs that every test of chance makes, with seeds of this day.
const RUNS: u64 = 2_000;
/// Seeds that once found something, and some that did not.
const SEEDS: [u64; 8] = [0, 1, 2, 3, 42, 1_000, 77_777, u64::MAX];
/// Longest virtual time that a run may take.
const RUN_US_MAX: u64 = 600_000_000;

fn limits() -> Limits {
    let window = CHUNK_BYTES_MAX as u32;
    Limits { window_bytes: window, send_buffer_bytes: window, streams_max: 6, ..Limits::default() }
}

fn any_script(dice: &mut Dice, sites: usize) -> Script {
    let from = dice.below(sites as u64) as usize;
    let to = (from + 1 + dice.below(sites as u64 - 1) as usize) % sites;
    let most = if dice.one_in(6) { 500_000 } else { 4_000 };
    let mut length = || if dice.one_in(8) { 0 } else { dice.skewed(most) };
    let lengths = [length(), length()];
    let reset_after = dice.one_in(10).then(|| dice.skewed(lengths[1].max(1)) - 1);
    let noise = dice.one_in(2);
    let permitted = !dice.one_in(12);
    let outcome = Default::default();
    Script { from, to, lengths, noise, permitted, reset_after, outcome }
}

fn any_run(seed: u64, sites: usize, restarts: bool) -> Counts {
    let mut world = World::new(sites, limits(), seed);
    world.restarts = restarts;
    world.delay_us = world.dice.skewed(60_000);
    for _ in 0..1 + world.dice.below(6) {
        let script = any_script(&mut world.dice, sites);
        let delay = world.dice.below(3_000_000);
        world.script(script, delay);
    }
    world.faults_until = 4_000_000 + world.dice.below(8_000_000);
    world.at(0, Happening::Fault);
    world.run(RUN_US_MAX);
    world.counts
}

fn many_runs(sites: usize, restarts: bool) -> Counts {
    let asked = std::env::var("CAUSEWAY_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let first = asked.unwrap_or_else(dice::any_seed);
    println!("seeds {SEEDS:?}, then {RUNS} from {first} on; CAUSEWAY_SEED=N runs one");
    let fresh = (0..RUNS).map(|run| first.wrapping_add(run));
    let seeds: Vec<u64> = match asked {
        Some(seed) => vec![seed],
        None => SEEDS.into_iter().chain(fresh).collect(),
    };
    let mut all = Counts::default();
    for seed in seeds {
        let run = std::panic::catch_unwind(|| any_run(seed, sites, restarts));
        let Ok(run) = run else { panic!("seed {seed} (see above)") };
        all.complete += run.complete;
        all.reset += run.reset;
        all.refused += run.refused;
        all.cuts += run.cuts;
        all.torn += run.torn;
        all.redialled += run.redialled;
        all.restarts += run.restarts;
        all.resumptions += run.resumptions;
        all.window_full += run.window_full;
        all.again_bytes += run.again_bytes;
        all.duplicate_bytes += run.duplicate_bytes;
    }
    println!("{all:?}");
    if asked.is_none() {
        let Counts { complete, reset, refused, cuts, torn, redialled, .. } = all;
        let Counts { resumptions, again_bytes, window_full, .. } = all;
        for (what, count) in [
            ("again_bytes", again_bytes),
            ("complete", complete),
            ("reset", reset),
            ("refused", refused),
            ("cuts", cuts),
            ("torn", torn),
            ("redialled", redialled),
            ("resumptions", resumptions),
            ("window_full", window_full),
        ] {
            assert!(count >= 100, "{what} happened only {count} times in all runs");
        }
        assert!(restarts == (all.restarts > 100), "{all:?}");
    }
    all
}

#[test]
fn two_sites_lose_no_byte_whatever_the_network_does() {
    many_runs(2, false);
}

#[test]
fn three_sites_lose_no_byte_whatever_the_network_does() {
    many_runs(3, false);
}

#[test]
fn after_a_restart_both_ends_agree_that_its_streams_are_over() {
    many_runs(3, true);
}

fn exchange(seed: u64, tear_at: Option<u64>) -> World {
    let mut world = World::new(2, limits(), seed);
    world.tear_at = tear_at;
    let outcome = <[program::Outcome; 2]>::default();
    let script = |lengths, noise, permitted, reset_after| {
        let outcome = outcome.clone();
        Script { from: 0, to: 1, lengths, noise, permitted, reset_after, outcome }
    };
    world.script(script([150, 90], true, true, None), 100_000);
    world.script(script([0, 400], false, true, None), 120_000);
    world.script(script([10, 10], true, false, None), 140_000);
    world.script(script([50, 60], true, true, Some(30)), 160_000);
    let backward = Script { from: 1, to: 0, ..script([70, 0], true, true, None) };
    world.script(backward, 180_000);
    world.run(RUN_US_MAX);
    world
}

#[test]
fn an_exchange_ends_the_same_wherever_its_connections_break() {
    let seed = dice::any_seed();
    println!("seed {seed}");
    let whole = exchange(seed, None);
    assert_eq!((whole.counts.complete, whole.counts.refused, whole.counts.reset), (3, 1, 1));
    for tear_at in 0..=whole.delivered {
        let run = std::panic::catch_unwind(|| exchange(seed, Some(tear_at)));
        let Ok(torn) = run else { panic!("seed {seed}, cut after {tear_at} bytes (see above)") };
        let counts = (torn.counts.complete, torn.counts.refused, torn.counts.reset);
        assert_eq!(counts, (3, 1, 1), "cut after {tear_at} bytes");
    }
    println!("{} positions", whole.delivered + 1);
}
