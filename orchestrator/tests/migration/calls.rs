//! What becomes of the calls: each of them lost, late, repeated, answered to nobody; agents that die
//! between any two steps of their plans.

use std::time::{SystemTime, UNIX_EPOCH};

use hypervisor::model::fate::Mishap;

use crate::trial::{Came, LIVES_MAX, Trial, lived};

const MISHAPS: [Mishap; 9] = [
    Mishap::Lost,
    Mishap::AnswerLost,
    Mishap::Late(3),
    Mishap::Twice(5),
    Mishap::Dies(0),
    Mishap::Dies(1),
    Mishap::Dies(2),
    Mishap::CallerKilled,
    Mishap::CallerKilledLate(6),
];
/// Runs with mishaps by chance.
const RUNS: u64 = 400;
/// Of one run. One ends one life at most: the move has lives left in which nothing happens to it, and
/// must end in them. Without a bound a run of bad luck is no defect, the longer a move the likelier.
const MISHAPS_MAX: usize = LIVES_MAX - 8;

/// The points at which something new is said: a look at a copy is said a hundred times.
async fn points() -> Vec<usize> {
    let trial = Trial::new().await;
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::<(usize, String)>::new()));
    let noted = std::sync::Arc::clone(&seen);
    trial.world.fate(move |called| {
        let mut seen = noted.lock().unwrap();
        if seen.last().is_none_or(|(_, last)| *last != called.what) {
            seen.push((called.point, called.what.clone()));
        }
        Mishap::None
    });
    assert_eq!(trial.live("web.1", &crate::trial::wanted("a", "b")).await, Came::Moved);
    seen.lock().unwrap().iter().map(|(point, _)| *point).collect()
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_one_call_the_vm_is_at_one_of_both_ends() {
    for at in points().await {
        for mishap in MISHAPS {
            let trial = Trial::new().await;
            println!("{mishap:?} at {at}");
            trial.world.fate(move |called| if called.point == at { mishap } else { Mishap::None });
            lived(&trial).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_many_calls_the_vm_is_at_one_of_both_ends() {
    let seed = match std::env::var("CAUSEWAY_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    };
    println!("seed {seed}; CAUSEWAY_SEED=N repeats one");
    let mut ends = [0, 0];
    for run in 0..RUNS {
        let mut dice = Dice(seed.wrapping_add(run).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let one_in = 4 + dice.below(30);
        let trial = Trial::new().await;
        let mut mishaps = 0;
        trial.world.fate(move |_| {
            if mishaps >= MISHAPS_MAX || dice.below(one_in) > 0 {
                return Mishap::None;
            }
            mishaps += 1;
            let delay = u16::try_from(1 + dice.below(40)).unwrap();
            match MISHAPS[usize::try_from(dice.below(9)).unwrap()] {
                Mishap::Late(_) => Mishap::Late(delay),
                Mishap::Twice(_) => Mishap::Twice(delay),
                Mishap::CallerKilledLate(_) => Mishap::CallerKilledLate(delay),
                Mishap::Dies(_) => Mishap::Dies(usize::from(delay) % 5),
                other => other,
            }
        });
        println!("run {run}");
        let came = lived(&trial).await;
        ends[usize::from(came == Came::Moved)] += 1;
    }
    println!("{} stayed, {} moved", ends[0], ends[1]);
    assert!(ends.iter().all(|ends| *ends > 0), "{ends:?}: the mishaps are all of one kind");
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
