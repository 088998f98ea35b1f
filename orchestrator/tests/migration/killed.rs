//! The service killed at every record of its journal.

use std::sync::atomic::Ordering;

use saga::journal::memory::Fault;

use crate::trial::{Came, Trial, lived};

async fn records() -> usize {
    let trial = Trial::new().await;
    assert_eq!(lived(&trial).await, Came::Moved);
    trial.events("web.1").await.len()
}

#[tokio::test(start_paused = true)]
async fn without_mishaps_the_vm_moves_in_one_life() {
    let trial = Trial::new().await;
    let came = lived(&trial).await;
    assert_eq!(came, Came::Moved, "{}", trial.story("web.1").await);
    assert_eq!(trial.lives.load(Ordering::Relaxed), 2, "one for each move");
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_record_the_same_move_completes() {
    for at in 0..records().await {
        for fault in [Fault::KilledBefore, Fault::KilledAfter] {
            let trial = Trial::new().await;
            trial.faults(move |append, _| if append == at { fault } else { Fault::None });
            let came = lived(&trial).await;
            assert_eq!(came, Came::Moved, "{fault:?} at {at}\n{}", trial.story("web.1").await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_two_records_the_same_move_completes() {
    let records = records().await;
    for first in 0..records {
        for later in 1..records {
            let second = first + later;
            let trial = Trial::new().await;
            let dies = move |at| at == first || at == second;
            trial.faults(move |at, _| if dies(at) { Fault::KilledAfter } else { Fault::None });
            let came = lived(&trial).await;
            let story = trial.story("web.1").await;
            assert_eq!(came, Came::Moved, "killed at {first} and {second}\n{story}");
        }
    }
}
