//! An abort is promised before the pivot, refused after it, and what is promised is kept.

use saga::{AbortRefused, Cause, End, Event};

use crate::keeper::{Keeper, lived, points};
use crate::post::Mishap;
use crate::world::{Outcome, Weather};

fn pivot_sent(keeper: &Keeper) -> bool {
    keeper
        .events()
        .iter()
        .any(|event| matches!(event, Event::Started { step, .. } if step == "light-up"))
}

#[test]
fn an_abort_at_any_point_undoes_everything_or_is_refused_with_what_to_do_instead() {
    let (mut promised, mut refused) = (0, 0);
    for point in 1..points(Weather::Fair, false) {
        let (keeper, whole) = lived(Weather::Fair, false, [(point, Mishap::Abort)]);
        let story = keeper.story();
        match whole.answer {
            Some(Ok(())) => {
                promised += 1;
                let reason = "the captain says so".to_owned();
                assert_eq!(whole.end, End::Undone(Cause::Aborted { reason }), "{point}\n{story}");
                assert_eq!(whole.outcome, Outcome::Stayed);
                assert!(!pivot_sent(&keeper), "{point}\n{story}");
            }
            Some(Err(AbortRefused::PastPivot { step, instead })) => {
                refused += 1;
                assert_eq!((step, instead), ("light-up", "move the light back with a new saga"));
                assert_eq!(whole.outcome, Outcome::Moved);
                assert!(pivot_sent(&keeper), "{point}\n{story}");
            }
            other => panic!("{other:?} at {point}\n{story}"),
        }
    }
    assert!(promised >= 20 && refused >= 10, "{promised} {refused}");
}

#[test]
fn a_promised_abort_outlives_a_kill_at_any_later_point() {
    let mut kept = 0;
    for point in 1..points(Weather::Fair, false) {
        let (_, once) = lived(Weather::Fair, false, [(point, Mishap::Abort)]);
        for kill in point + 1..once.points {
            for how in [Mishap::KilledBefore, Mishap::KilledAfter] {
                let mishaps = [(point, Mishap::Abort), (kill, how)];
                let (keeper, whole) = lived(Weather::Fair, false, mishaps);
                if whole.answer == Some(Ok(())) {
                    kept += 1;
                    let story = keeper.story();
                    assert_eq!(whole.outcome, Outcome::Stayed, "{point} {kill} {how:?}\n{story}");
                }
            }
        }
    }
    assert!(kept > 300, "{kept}");
}

fn point_of(story: &str, what: &str) -> usize {
    let line = story.lines().find(|line| line.contains(what)).unwrap();
    line.split(':').next().unwrap().parse().unwrap()
}

#[test]
fn once_the_pivot_is_refused_an_abort_is_promised_again() {
    let (calm, _) = lived(Weather::Unwilling, false, []);
    let sent = point_of(&calm.story(), r#""kind":"pivot""#);
    let refused = point_of(&calm.story(), r#""event":"refused""#);
    for point in sent..points(Weather::Unwilling, false) - 1 {
        let (keeper, whole) = lived(Weather::Unwilling, false, [(point, Mishap::Abort)]);
        let promised = whole.answer == Some(Ok(()));
        assert_eq!(promised, point > refused, "{:?} at {point}\n{}", whole.answer, keeper.story());
        assert_eq!(whole.end, End::Undone(Cause::Refused { step: "light-up".to_owned() }));
    }
}

#[test]
fn nobody_is_asked_to_refuse_what_was_never_sent_or_is_taken_back_already() {
    let (calm, _) = lived(Weather::Fair, true, []);
    let back = point_of(&calm.story(), r#"{"event":"undone","step":"dim"}"#);
    assert!(!calm.story().contains("RefuseLight"));
    for point in back..points(Weather::Fair, true) {
        let (keeper, _) = lived(Weather::Fair, true, [(point, Mishap::KilledAfter)]);
        assert!(!keeper.story().contains("RefuseLight"), "{point}\n{}", keeper.story());
    }
    // Another runner has no such evidence, and asks.
    let turned = point_of(&calm.story(), r#""event":"turned-back""#);
    let (keeper, _) = lived(Weather::Fair, true, [(turned, Mishap::KilledAfter)]);
    assert!(keeper.story().contains("RefuseLight"), "{}", keeper.story());
}

#[test]
fn an_abort_while_everything_is_being_undone_is_promised_at_once() {
    let (calm, _) = lived(Weather::Fair, true, []);
    let first = point_of(&calm.story(), r#""event":"undoing""#);
    let (keeper, whole) = lived(Weather::Fair, true, [(first, Mishap::Abort)]);
    assert_eq!(whole.answer, Some(Ok(())));
    let events = keeper.events();
    let promised = events.iter().position(|event| matches!(event, Event::AbortRequested { .. }));
    let undone = events.iter().rposition(|event| matches!(event, Event::Undone { .. }));
    assert!(promised < undone, "{}", keeper.story());
}
