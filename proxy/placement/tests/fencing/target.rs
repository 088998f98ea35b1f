//! What the target does: reserve, start, refuse, arm.

use placement::rules::{self, Alone};
use placement::*;

use crate::agent::*;

#[test]
fn a_target_is_reserved_only_beside_no_seat() {
    let mut target = Agent::new("b").claimed(2, 1, "a", "b");
    let (effects, answer) = target.done(Command::Reserve { authority: authority(2, 1) });
    assert_eq!(answer, Answer::Reserved);
    let made = Incarnation { made_by: release(2, 1), from: Some(end("a")) };
    assert_eq!(effects, [Effect::KillOthers(release(2, 1)), Effect::CreateTarget(made)]);

    let here = Agent::placed("b").claimed(2, 1, "a", "b");
    let tried = here.tried(Command::Reserve { authority: authority(2, 1) });
    assert!(matches!(tried, Err(Denied::Seat { .. })));
    let mut started = target_started();
    started.done(takeover(3, 2, "a", "b"));
    let tried = started.tried(Command::Reserve { authority: authority(3, 2) });
    assert!(matches!(tried, Err(Denied::Seat { .. })));
}

#[test]
fn a_reservation_said_again_makes_no_second_shell() {
    let mut target = target_reserved();
    target.sees(&release(2, 1), ProcessState::Incoming { loaded: false });
    let again = target.tried(Command::Reserve { authority: authority(2, 1) }).unwrap();
    assert_eq!((again.steps.len(), again.answer), (0, Answer::Reserved));
}

#[test]
fn a_reservation_whose_shell_is_gone_is_made_again() {
    let again = target_reserved().tried(Command::Reserve { authority: authority(2, 1) }).unwrap();
    assert!(again.steps.contains(&Step::Do(Effect::KillOthers(release(2, 1)))));
}

#[test]
fn gone_stays_until_a_release_is_accepted() {
    let mut a = source_released();
    a.done(Command::Forget { authority: authority(2, 1), release: release(2, 1) });
    a.facts.processes.clear();
    a.done(Command::GiveBack { authority: authority(2, 1) });
    a.done(claim(3, 1, "b", "a"));
    a.done(Command::Reserve { authority: authority(3, 1) });
    assert!(matches!(a.record.seat, Seat::Gone { .. }));
    a.sees(&release(3, 1), ProcessState::Incoming { loaded: true });
    a.done(start(3, 1, release(3, 1)));
    assert!(matches!(a.record.seat, Seat::Started { armed: false, .. }));
}

#[test]
fn a_start_closes_the_export_then_accepts_then_runs_then_says_so() {
    let target = target_loaded();
    let plan = target.tried(start(2, 1, release(2, 1))).unwrap();
    let own = Incarnation { made_by: release(2, 1), from: Some(end("a")) };
    let kinds: Vec<String> = plan
        .steps
        .iter()
        .map(|step| match step {
            Step::Write(record) => match &record.seat {
                Seat::Accepted(seat) if *seat == own => "accepted".to_owned(),
                Seat::Started { incarnation, armed: false } if *incarnation == own => {
                    "started".to_owned()
                }
                seat => panic!("{seat:?}"),
            },
            Step::Do(effect) => format!("{effect:?}").split('(').next().unwrap().to_owned(),
        })
        .collect();
    let order = ["CloseExport", "accepted", "PinPort", "Continue", "started", "ReleaseQueue"];
    assert_eq!(kinds, order);
    let Step::Write(accepted) = &plan.steps[1] else { panic!() };
    assert_eq!((accepted.taken.clone(), accepted.target.clone()), (Some(release(2, 1)), None));
}

#[test]
fn a_start_acts_once() {
    let mut target = target_started();
    let again = target.tried(start(2, 1, release(2, 1))).unwrap();
    let answer =
        Answer::Accepted { taken: release(2, 1), seat: Box::new(target.record.seat.clone()) };
    // The packets may follow twice; the VM does not run twice.
    assert_eq!(again.steps, [Step::Do(Effect::ReleaseQueue(Epoch::new(2)))]);
    assert_eq!(again.answer, answer);
    // Nor after the VM has moved on.
    let gone_at = speaker("a");
    let of = release(2, 1);
    target.done(Command::Arm { authority: authority(2, 1), release: of.clone(), gone_at });
    target.done(Command::GiveBack { authority: authority(2, 1) });
    target.done(claim(3, 1, "b", "a"));
    target.sees(&of, ProcessState::Completed { of: Epoch::new(3) });
    target.done(Command::Release { authority: authority(3, 1) });
    let late = target.tried(start(2, 1, of.clone())).unwrap();
    assert!(late.steps.is_empty());
    assert!(matches!(late.answer, Answer::Accepted { taken, .. } if taken == of));
}

#[test]
fn a_vm_that_comes_a_second_time_is_taken_anew_and_the_first_time_stays_accepted() {
    let mut b = target_started();
    let (first, gone_at) = (release(2, 1), speaker("a"));
    b.done(Command::Arm { authority: authority(2, 1), release: first.clone(), gone_at });
    b.done(Command::GiveBack { authority: authority(2, 1) });
    b.done(claim(3, 1, "b", "a"));
    b.sees(&first, ProcessState::Completed { of: Epoch::new(3) });
    b.done(Command::Release { authority: authority(3, 1) });
    b.done(Command::Forget { authority: authority(3, 1), release: release(3, 1) });
    b.done(Command::GiveBack { authority: authority(3, 1) });
    b.done(claim(4, 1, "a", "b"));
    b.done(Command::Reserve { authority: authority(4, 1) });
    let second = release(4, 1);
    b.sees(&second, ProcessState::Incoming { loaded: true });
    let (effects, answer) = b.done(start(4, 1, second.clone()));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Continue(_))));
    assert!(matches!(answer, Answer::Accepted { taken, .. } if taken == second));
    for late in [start(2, 1, first.clone()), refuse(4, 1, first)] {
        let answer = b.tried(late).unwrap().answer;
        assert!(matches!(answer, Answer::Accepted { taken, .. } if taken == second));
    }
}

#[test]
fn a_start_waits_until_everything_has_arrived() {
    let mut target = target_reserved();
    target.sees(&release(2, 1), ProcessState::Incoming { loaded: false });
    assert_eq!(target.tried(start(2, 1, release(2, 1))), Err(Denied::NotLoaded));
}

#[test]
fn a_start_without_its_target_is_a_refusal_on_record() {
    let never_reserved = Agent::new("b").claimed(2, 1, "a", "b");
    let died = target_reserved();
    for mut target in [never_reserved, died] {
        let (effects, answer) = target.done(start(2, 1, release(2, 1)));
        assert_eq!(answer, Answer::Refused { release: release(2, 1) });
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Continue(_))));
        assert_eq!((target.record.ended, target.record.target.clone()), (Epoch::new(2), None));
    }
}

#[test]
fn a_start_after_a_refusal_is_refused() {
    let mut target = target_loaded();
    target.done(refuse(2, 1, release(2, 1)));
    let late = target.tried(start(2, 1, release(2, 1))).unwrap();
    assert_eq!(late, Plan { steps: vec![], answer: Answer::Refused { release: release(2, 1) } });
    // Even where a shell of that name still stands.
    let mut zombie = target_loaded();
    zombie.record.ended = Epoch::new(2);
    let (effects, answer) = zombie.done(start(2, 1, release(2, 1)));
    assert_eq!(effects, [Effect::KillTarget(release(2, 1))]);
    assert_eq!(answer, Answer::Refused { release: release(2, 1) });
}

#[test]
fn a_start_from_another_owners_release_of_the_same_epoch_is_refused() {
    assert!(target_loaded().tried(start(2, 1, release(2, 9))).is_err());
    let started = target_started();
    let tried = started.tried(start(2, 1, release(2, 9)));
    assert_eq!(tried, Err(Denied::OtherRelease { ours: release(2, 1) }));
}

#[test]
fn a_release_from_the_future_is_refused() {
    let target = target_loaded();
    for command in [start(2, 1, release(3, 1)), refuse(2, 1, release(3, 1))] {
        assert!(matches!(target.tried(command), Err(Denied::NotClaimed { .. })));
    }
}

#[test]
fn a_takeover_carries_the_standing_release_forward() {
    let mut target = target_loaded();
    target.done(takeover(3, 2, "a", "b"));
    let (effects, answer) = target.done(start(3, 2, release(2, 1)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Continue(_))));
    assert!(matches!(answer, Answer::Accepted { taken, .. } if taken == release(2, 1)));
}

#[test]
fn an_accepted_seat_is_finished_by_whoever_finds_it() {
    let mut target = target_loaded();
    let plan = target.tried(start(2, 1, release(2, 1))).unwrap();
    let accepted = Plan { steps: plan.steps[..2].to_vec(), ..plan.clone() };
    target.carry_out(&accepted);
    let finish = rules::finish_accepted(&target.record, &target.facts).unwrap();
    assert_eq!(finish.steps, plan.steps[2..]);
    assert_eq!(target.tried(start(2, 1, release(2, 1))).unwrap(), finish);
    assert_eq!(rules::when_alone(&target.record, &target.facts, false), Alone::Do(finish));
    target.facts.processes.clear();
    assert_eq!(rules::finish_accepted(&target.record, &target.facts), None);
}

#[test]
fn a_refusal_kills_first_then_records_then_answers() {
    let target = target_loaded();
    let plan = target.tried(refuse(2, 1, release(2, 1))).unwrap();
    assert_eq!(plan.answer, Answer::Refused { release: release(2, 1) });
    let [Step::Do(effect), Step::Write(record)] = &plan.steps[..] else { panic!("{plan:?}") };
    assert_eq!(*effect, Effect::KillTarget(release(2, 1)));
    assert_eq!((record.ended, record.target.clone()), (Epoch::new(2), None));
}

#[test]
fn what_was_accepted_is_never_refused() {
    let mut target = target_started();
    let answer = target.tried(refuse(2, 1, release(2, 1))).unwrap();
    assert!(answer.steps.is_empty());
    assert!(matches!(answer.answer, Answer::Accepted { .. }));
    assert!(target.tried(refuse(2, 1, release(2, 9))).is_err());
    // Also when the seat has since moved on, whoever asks.
    let (of, gone_at) = (release(2, 1), speaker("a"));
    target.done(Command::Arm { authority: authority(2, 1), release: of.clone(), gone_at });
    target.done(takeover(3, 2, "b", "c"));
    let ask = Command::Refuse { authority: None, release: of.clone() };
    let late = target.asked(agent("a"), ask).unwrap();
    assert!(matches!(late.answer, Answer::Accepted { .. }));
    let late = target.tried(refuse(3, 2, of)).unwrap();
    assert!(matches!(late.answer, Answer::Accepted { .. }));
    // A takeover that carries another owner's release of that epoch is shown the true one.
    let tried = target.tried(refuse(3, 2, release(2, 9)));
    assert_eq!(tried, Err(Denied::OtherRelease { ours: release(2, 1) }));
}

#[test]
fn a_move_is_not_refused_at_its_own_source() {
    let source = source_in_move();
    let tried = source.tried(refuse(2, 1, release(2, 1)));
    assert!(matches!(tried, Err(Denied::WrongEnd { .. })));
}

#[test]
fn a_refusal_leaves_a_later_target_alone() {
    let mut target = target_loaded();
    target.done(takeover(3, 2, "a", "b"));
    target.done(Command::Reserve { authority: authority(3, 2) });
    let (effects, answer) = target.done(refuse(3, 2, release(2, 1)));
    assert_eq!((effects, answer), (vec![], Answer::Refused { release: release(2, 1) }));
    assert!(target.record.target.is_some());
}

#[test]
fn the_sources_agent_may_ask_for_a_refusal_whatever_the_epoch_and_no_other_agent_may() {
    let ask = || Command::Refuse { authority: None, release: release(2, 1) };
    let mut target = target_loaded();
    target.done(takeover(3, 2, "a", "b"));
    let plan = target.asked(agent("a"), ask()).unwrap();
    assert_eq!(plan.answer, Answer::Refused { release: release(2, 1) });
    let viewer: Identity = "causeway://site/a/role/viewer/name/hv1".parse().unwrap();
    let namesake: Identity = "causeway://site/a/role/agent/name/hv2".parse().unwrap();
    for by in [agent("b"), agent("c"), viewer, namesake, orchestrator()] {
        assert!(matches!(target.asked(by, ask()), Err(Denied::Caller { .. })));
    }
    let stranger = Agent::new("b").asked(agent("a"), ask());
    assert!(matches!(stranger, Err(Denied::Caller { .. })));
    // With an authority it would be an orchestrator's order.
    let forged = target.asked(agent("a"), refuse(3, 2, release(2, 1)));
    assert!(matches!(forged, Err(Denied::Caller { .. })));
}

#[test]
fn a_target_is_armed_only_by_the_word_of_where_it_came_from() {
    let arm = |of, at: &str| Command::Arm {
        authority: authority(2, 1),
        release: of,
        gone_at: speaker(at),
    };
    let mut target = target_started();
    assert!(matches!(target.tried(arm(release(2, 1), "c")), Err(Denied::WrongEnd { .. })));
    let other = target.tried(arm(release(1, 1), "a"));
    assert_eq!(other, Err(Denied::OtherRelease { ours: release(2, 1) }));
    assert!(!target.record.seat.is_here());
    target.done(arm(release(2, 1), "a"));
    assert!(target.record.seat.is_here());
    assert!(target.tried(arm(release(2, 1), "a")).unwrap().steps.is_empty());
    let loaded = target_loaded().tried(arm(release(2, 1), "a"));
    assert!(matches!(loaded, Err(Denied::Seat { .. })));
}
