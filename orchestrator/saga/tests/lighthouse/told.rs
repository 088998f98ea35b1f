//! What rooms and watchers are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use saga::{Act, Event, Notice, Watcher};

use crate::keeper::{Keeper, until_killed};
use crate::post::{Fate, Mishap};
use crate::world::Weather;

#[derive(Debug, Default)]
struct Seen {
    events: Mutex<Vec<Event>>,
    progress: Mutex<Vec<String>>,
}

impl Watcher for Seen {
    fn notice(&self, notice: &Notice<'_>) {
        match notice {
            Notice::Recorded { event, .. } => self.events.lock().unwrap().push((*event).clone()),
            Notice::Progress { key, note } => {
                self.progress.lock().unwrap().push(format!("{key} {note}"));
            }
        }
    }
}

#[test]
fn a_watcher_sees_every_record_in_order_and_how_far_a_step_is() {
    let mut keeper = Keeper::new(Weather::Unwilling, false, Fate::of([(12, Mishap::KilledAfter)]));
    let seen = Arc::new(Seen::default());
    keeper.runner = keeper.runner.clone().watched_by(Arc::clone(&seen) as Arc<dyn Watcher>);
    keeper.live_on();
    let events = keeper.events();
    let told = seen.events.lock().unwrap().clone();
    // The last record before the kill was made, and nobody lived to tell of it.
    let missed: Vec<_> = events.iter().filter(|event| !told.contains(event)).collect();
    assert!(missed.len() <= 1, "{missed:?}");
    assert!(told.len() + 1 >= events.len());
    let progress = seen.progress.lock().unwrap().join("\n");
    assert!(progress.contains(r#"cape/1#2/paint/perform {"walls":4}"#), "{progress}");
}

/// The keys in a story, each with how often it was sent.
fn keys(keeper: &Keeper, act: &str) -> BTreeMap<String, usize> {
    let mut keys = BTreeMap::new();
    for line in keeper.story().lines() {
        for word in line.split(' ').filter(|word| word.ends_with(&format!("/{act}"))) {
            *keys.entry(word.to_owned()).or_default() += 1;
        }
    }
    keys
}

#[test]
fn a_repetition_carries_the_same_key_also_from_another_runner_and_another_attempt_another() {
    // The answer of the chart is lost; then the runner is killed while it pays.
    let calm = Keeper::new(Weather::Fair, false, Fate::default());
    calm.live_on();
    let story = calm.story();
    let point = |what: &str| -> usize {
        let line = story.lines().find(|line| line.contains(what)).unwrap();
        line.split(':').next().unwrap().parse().unwrap()
    };
    let pay = point("Bank Place");
    let keeper = Keeper::new(Weather::Fair, false, Fate::of([(pay, Mishap::KilledBefore)]));
    keeper.live_on();
    let sent = keys(&keeper, "perform");
    assert_eq!(sent["cape/1#1/pay/perform"], 2, "{}", keeper.story());
    assert_eq!(sent["cape/1#1/chart/perform"], 1);
    let looked = keys(&keeper, "observe");
    assert_eq!(looked["cape/1#1/pay/observe"], 1, "looked for before it is done again");
    assert!(!looked.contains_key("cape/1#1/chart/observe"), "its outcome was known");

    let oil = point("Depot Place");
    let keeper = Keeper::new(Weather::Fair, false, Fate::of([(oil, Mishap::KilledAfter)]));
    keeper.live_on();
    let sent = keys(&keeper, "perform");
    assert_eq!((sent["cape/1#1/oil/perform"], sent["cape/1#2/oil/perform"]), (1, 1));
    assert_eq!(keys(&keeper, "undo")["cape/1#1/oil/undo"], 1);
}

#[test]
fn a_key_says_what_it_is_for() {
    let keeper = Keeper::new(Weather::Fair, false, Fate::default());
    let driven = until_killed(keeper.take()).unwrap().unwrap();
    until_killed(driven.drive()).unwrap().unwrap();
    assert!(keys(&keeper, "perform").len() > 8);
    assert!(keys(&keeper, "observe").len() == 1, "only the survey: nothing was in doubt");
    let acts = [Act::Observe, Act::Perform, Act::Undo, Act::Refuse];
    let written: Vec<_> = acts.iter().map(|act| serde_json::to_string(act).unwrap()).collect();
    assert_eq!(written, [r#""observe""#, r#""perform""#, r#""undo""#, r#""refuse""#]);
}
