//! Killed anywhere, the saga ends in one of its two allowed states, with nothing left over.

use saga::{Cause, End, Event};

use crate::keeper::{lived, points};
use crate::post::Mishap;
use crate::world::{Outcome, Weather};

const KILLS: [Mishap; 3] = [Mishap::KilledBefore, Mishap::KilledAfter, Mishap::KilledWithLetter(6)];

/// Every way that a saga can take when nothing fails, with its end.
const WAYS: [(Weather, bool, Outcome); 6] = [
    (Weather::Fair, false, Outcome::Moved),
    (Weather::Fair, true, Outcome::Stayed),
    (Weather::Unfit, false, Outcome::Stayed),
    (Weather::NoOil, false, Outcome::Stayed),
    (Weather::Unwilling, false, Outcome::Stayed),
    (Weather::Broken, false, Outcome::Stayed),
];

#[test]
fn without_mishaps_each_way_ends_where_it_should() {
    for (weather, fickle, expected) in WAYS {
        let (keeper, whole) = lived(weather, fickle, []);
        assert_eq!(whole.outcome, expected, "{weather:?} {}", keeper.story());
        assert_eq!(whole.lives, 1);
    }
}

#[test]
fn killed_once_at_any_point_it_ends_as_if_it_had_not_been() {
    for (weather, fickle, expected) in WAYS {
        for point in 0..points(weather, fickle) {
            for kill in KILLS {
                let (keeper, whole) = lived(weather, fickle, [(point, kill)]);
                assert_eq!(
                    whole.outcome,
                    expected,
                    "{weather:?}, {kill:?} at {point}\n{}",
                    keeper.story()
                );
            }
        }
    }
}

#[test]
fn killed_twice_at_any_two_points_it_ends_as_if_it_had_not_been() {
    for (weather, fickle, expected) in WAYS {
        for first in 0..points(weather, fickle) {
            // After the first kill there are as many points as that takes; the last has no effect.
            let (_, once) = lived(weather, fickle, [(first, Mishap::KilledAfter)]);
            for second in first + 1..once.points {
                let kills = [(first, Mishap::KilledAfter), (second, Mishap::KilledAfter)];
                let (keeper, whole) = lived(weather, fickle, kills);
                assert_eq!(
                    whole.outcome,
                    expected,
                    "{weather:?}, killed at {first} and {second}\n{}",
                    keeper.story()
                );
            }
        }
    }
}

#[test]
fn before_the_release_a_kill_costs_an_attempt_and_after_it_none() {
    let mut attempts_seen = [0, 0];
    for point in 0..points(Weather::Fair, false) {
        let (keeper, _) = lived(Weather::Fair, false, [(point, Mishap::KilledAfter)]);
        let events = keeper.events();
        let resumed = events.iter().position(|event| matches!(event, Event::Resumed { .. }));
        let Some(resumed) = resumed else { continue };
        let released = events[..resumed]
            .iter()
            .any(|event| matches!(event, Event::Done { step, .. } if step == "dim"));
        let began = events.iter().any(|event| matches!(event, Event::Began { .. }));
        let anything = resumed > 1;
        let releasing =
            matches!(&events[resumed - 1], Event::Started { step, .. } if step == "dim");
        if !releasing {
            assert_eq!(began, anything && !released, "{}", keeper.story());
        }
        attempts_seen[usize::from(began)] += 1;
    }
    assert!(attempts_seen.iter().all(|seen| *seen > 5), "{attempts_seen:?}");
}

#[test]
fn interrupted_too_often_it_ends_undone() {
    // Killed soon after each attempt has placed its first orders.
    let kills =
        (0..2000).filter(|point| point % 17 == 16).map(|point| (point, Mishap::KilledAfter));
    let (keeper, whole) = lived(Weather::Fair, false, kills);
    assert_eq!(whole.end, End::Undone(Cause::InterruptedTooOften), "{}", keeper.story());
}

#[test]
fn a_pivot_whose_answer_nobody_heard_is_asked_about_before_it_is_sent_again() {
    for kill in [Mishap::KilledBefore, Mishap::KilledAfter] {
        let (calm, _) = lived(Weather::Fair, false, []);
        let story = calm.story();
        let line = story.lines().find(|line| line.contains("NewTower Light {")).unwrap();
        let sent = line.split(':').next().unwrap().parse().unwrap();
        let (keeper, _) = lived(Weather::Fair, false, [(sent, kill)]);
        let story = keeper.story();
        let asked = story.matches("NewTower LookVerdict").count();
        let sent = story.matches("NewTower Light {").count();
        let expected = if kill == Mishap::KilledBefore { 2 } else { 1 };
        assert_eq!((asked, sent), (1, expected), "{story}");
    }
}
