//! Any number of mishaps of any kind, by chance.

use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::keeper::Keeper;
use crate::post::{Fate, Mishap};
use crate::world::Weather;

const CASES: u32 = 6_000;
const MISHAPS_MAX: usize = 14;
const POINTS: usize = 160;

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        2 => Just(Mishap::KilledBefore),
        2 => Just(Mishap::KilledAfter),
        2 => (0_u8..60).prop_map(Mishap::KilledWithLetter),
        3 => Just(Mishap::Lost),
        3 => Just(Mishap::AnswerLost),
        3 => (1_u8..60).prop_map(Mishap::Late),
        2 => (1_u8..60).prop_map(Mishap::Twice),
        1 => Just(Mishap::Abort),
    ]
}

fn weather() -> impl Strategy<Value = Weather> {
    prop_oneof![
        6 => Just(Weather::Fair),
        1 => Just(Weather::Unfit),
        1 => Just(Weather::NoOil),
        2 => Just(Weather::Unwilling),
        2 => Just(Weather::Broken),
    ]
}

fn seed() -> u64 {
    match std::env::var("CAUSEWAY_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    }
}

#[test]
fn whatever_happens_it_moves_or_stays_and_the_same_chance_gives_the_same_journal() {
    let seed = seed();
    println!("seed {seed}; CAUSEWAY_SEED=N repeats one");
    let config = Config {
        cases: CASES,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let mishaps = prop::collection::btree_map(0..POINTS, mishap(), 0..MISHAPS_MAX);
    let chance = (weather(), prop::bool::weighted(0.2), mishaps);
    let lived = TestRunner::new(config).run(&chance, |(weather, fickle, mishaps)| {
        let fate = || Fate { mishaps: mishaps.clone(), ..Fate::default() };
        let first = Keeper::new(weather, fickle, fate());
        first.live_on();
        let again = Keeper::new(weather, fickle, fate());
        again.live_on();
        prop_assert_eq!(first.events(), again.events());
        prop_assert_eq!(first.story(), again.story());
        Ok(())
    });
    if let Err(failed) = lived {
        panic!("seed {seed}: {failed}");
    }
}
