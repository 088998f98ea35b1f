//! What the source does: hold, stop, release, run, forget, reclaim.

use placement::order::Evidence;
use placement::*;

use crate::agent::*;

#[test]
fn the_source_reserves_nothing_and_the_target_stops_nothing() {
    let tried = source_in_move().tried(Command::Reserve { authority: authority(2, 1) });
    assert!(matches!(tried, Err(Denied::WrongEnd { .. })));
    let mut b = Agent::placed("b").claimed(2, 1, "a", "b");
    b.sees(&release(1, 1), ProcessState::Completed { of: Epoch::new(2) });
    for command in [
        Command::Hold { authority: authority(2, 1) },
        Command::Stop { authority: authority(2, 1) },
        Command::Release { authority: authority(2, 1) },
    ] {
        assert!(matches!(b.tried(command), Err(Denied::WrongEnd { .. })));
    }
}

#[test]
fn an_ended_move_gets_no_hold_stop_release_reserve_or_forget() {
    let mut source = source_completed();
    source.done(run(2, 1, None));
    source.sees(&release(1, 1), ProcessState::Completed { of: Epoch::new(2) });
    for command in [
        Command::Hold { authority: authority(2, 1) },
        Command::Stop { authority: authority(2, 1) },
        Command::Release { authority: authority(2, 1) },
        Command::Forget { authority: authority(2, 1), release: release(2, 1) },
    ] {
        assert!(matches!(source.tried(command), Err(Denied::Ended { .. })));
    }
    let mut target = target_loaded();
    target.done(refuse(2, 1, release(2, 1)));
    let tried = target.tried(Command::Reserve { authority: authority(2, 1) });
    assert!(matches!(tried, Err(Denied::Ended { .. })));
}

#[test]
fn what_may_start_at_any_moment_is_neither_stopped_nor_released() {
    let mut source = source_in_move();
    source.sees(&release(1, 1), ProcessState::Unsure);
    for command in [
        Command::Stop { authority: authority(2, 1) },
        Command::Release { authority: authority(2, 1) },
    ] {
        assert_eq!(source.tried(command), Err(Denied::Unsure));
    }
    source.facts.processes.clear();
    for command in [
        Command::Stop { authority: authority(2, 1) },
        Command::Release { authority: authority(2, 1) },
    ] {
        assert_eq!(source.tried(command), Err(Denied::NoProcess));
    }
}

#[test]
fn hold_and_stop_act_on_the_seats_own_process() {
    let mut source = source_in_move();
    let (effects, answer) = source.done(Command::Hold { authority: authority(2, 1) });
    assert_eq!((effects, answer), (vec![Effect::Hold(Epoch::new(2))], Answer::Held));
    let (effects, answer) = source.done(Command::Stop { authority: authority(2, 1) });
    let own = Incarnation { made_by: release(1, 1), from: None };
    assert_eq!((effects, answer), (vec![Effect::Stop(own)], Answer::Stopped));
}

#[test]
fn a_release_needs_this_very_move_completed_and_not_run_since() {
    let mut source = source_in_move();
    for state in [
        ProcessState::Running,
        ProcessState::Stopped,
        ProcessState::Completed { of: Epoch::new(1) },
    ] {
        source.sees(&release(1, 1), state);
        let tried = source.tried(Command::Release { authority: authority(2, 1) });
        assert!(matches!(tried, Err(Denied::NotCompleted { .. })), "{state:?}");
    }
}

#[test]
fn a_release_is_on_record_before_it_is_said_and_said_as_often_as_asked() {
    let source = source_completed();
    let plan = source.tried(Command::Release { authority: authority(2, 1) }).unwrap();
    let [Step::Write(record)] = &plan.steps[..] else { panic!("{plan:?}") };
    assert!(matches!(&record.seat, Seat::Released { release: r, .. } if *r == release(2, 1)));
    let again = source_released().tried(Command::Release { authority: authority(2, 1) }).unwrap();
    assert_eq!(again, Plan { steps: vec![], answer: plan.answer });
}

#[test]
fn only_from_here_a_move_starts() {
    // Started and not armed is not here.
    let mut unarmed = target_started();
    unarmed.done(Command::GiveBack { authority: authority(2, 1) });
    unarmed.done(claim(3, 1, "b", "c"));
    unarmed.sees(&release(2, 1), ProcessState::Completed { of: Epoch::new(3) });
    for command in [
        Command::Hold { authority: authority(3, 1) },
        Command::Stop { authority: authority(3, 1) },
        Command::Release { authority: authority(3, 1) },
        run(3, 1, None),
    ] {
        assert!(matches!(unarmed.tried(command), Err(Denied::Seat { .. })));
    }
}

#[test]
fn a_takeover_does_not_get_its_own_release_where_one_stands() {
    let mut source = source_released();
    source.done(takeover(3, 2, "a", "b"));
    let tried = source.tried(Command::Release { authority: authority(3, 2) });
    assert_eq!(tried, Err(Denied::OtherRelease { ours: release(2, 1) }));
}

#[test]
fn a_source_that_is_here_runs_without_evidence_and_ends_the_move() {
    let mut source = source_completed();
    let (effects, answer) = source.done(run(2, 1, None));
    let own = Incarnation { made_by: release(1, 1), from: None };
    assert_eq!(effects, [Effect::Continue(own.clone()), Effect::ReleaseQueue(Epoch::new(2))]);
    assert_eq!((answer, source.record.ended), (Answer::Runs, Epoch::new(2)));
    source.facts.processes.clear();
    let (effects, _) = source.done(run(2, 1, None));
    assert_eq!(effects[0], Effect::Boot(own));
}

#[test]
fn a_source_that_released_runs_only_on_evidence() {
    let source = source_released();
    let refused = |by: &str, of| Some(Evidence::Refused { by: speaker(by), release: of });
    let no = [
        None,
        refused("c", release(2, 1)),
        refused("b", release(1, 1)),
        refused("b", release(2, 9)),
        Some(Evidence::Undone { release: release(1, 1) }),
        Some(Evidence::Fenced { release: release(1, 1), operator: "o".parse().unwrap() }),
    ];
    for evidence in no {
        let tried = source.tried(run(2, 1, evidence.clone()));
        let wanted = matches!(tried, Err(Denied::NoEvidence { .. } | Denied::OtherRelease { .. }));
        assert!(wanted, "{evidence:?}: {tried:?}");
    }
    let yes = [
        refused("b", release(2, 1)),
        refused("b", release(3, 7)),
        Some(Evidence::Undone { release: release(2, 1) }),
        Some(Evidence::Fenced { release: release(2, 1), operator: "o".parse().unwrap() }),
    ];
    for evidence in yes {
        let mut source = source.clone();
        let (_, answer) = source.done(run(2, 1, evidence));
        assert_eq!(answer, Answer::Runs);
        assert!(source.record.seat.is_here());
        assert_eq!(source.record.ended, Epoch::new(2));
    }
}

#[test]
fn only_the_owner_that_got_the_release_can_undo_it() {
    let mut source = source_released();
    source.done(takeover(3, 2, "a", "b"));
    let undone = Some(Evidence::Undone { release: release(2, 1) });
    assert!(matches!(source.tried(run(3, 2, undone)), Err(Denied::NoEvidence { .. })));
}

#[test]
fn a_source_forgets_only_what_it_released() {
    let forget = |of| Command::Forget { authority: authority(2, 1), release: of };
    assert!(matches!(source_completed().tried(forget(release(2, 1))), Err(Denied::Seat { .. })));
    let mut source = source_released();
    let other = source.tried(forget(release(1, 1)));
    assert_eq!(other, Err(Denied::OtherRelease { ours: release(2, 1) }));
    let own = Incarnation { made_by: release(1, 1), from: None };
    let aside = Effect::SetDiskAside { incarnation: own.clone(), left_by: release(2, 1) };
    let plan = source.tried(forget(release(2, 1))).unwrap();
    let Step::Write(record) = &plan.steps[0] else { panic!("{plan:?}") };
    assert!(matches!(record.seat, Seat::Gone { .. }));
    let effects = source.carry_out(&plan);
    assert_eq!(effects, [Effect::Kill(own), aside]);
    // Said again, it finishes what a crash may have left.
    let (again, answer) = source.done(forget(release(2, 1)));
    assert_eq!((again, answer), (effects, Answer::Gone { release: release(2, 1) }));
    let tried = source.tried(run(2, 1, Some(Evidence::Undone { release: release(2, 1) })));
    assert!(matches!(tried, Err(Denied::Seat { .. })), "gone never runs");
}

#[test]
fn a_leftover_is_reclaimed_only_once_its_seat_is_gone() {
    let reclaim = |of| Command::Reclaim { release: of, keep_disk: false };
    let mut source = source_released();
    assert!(matches!(source.tried(reclaim(release(2, 1))), Err(Denied::Seat { .. })));
    assert!(matches!(source.tried(reclaim(release(3, 1))), Err(Denied::Seat { .. })));
    // What an earlier move left is nobody's any more.
    assert!(source.tried(reclaim(release(1, 1))).is_ok());
    source.done(Command::Forget { authority: authority(2, 1), release: release(2, 1) });
    let other = source.tried(reclaim(release(2, 9)));
    assert_eq!(other, Err(Denied::OtherRelease { ours: release(2, 1) }));
    // Bound to no epoch: the next move may be under way.
    source.done(Command::GiveBack { authority: authority(2, 1) });
    source.done(claim(7, 3, "b", "a"));
    let (effects, answer) = source.done(reclaim(release(2, 1)));
    let cleared = Effect::ClearPort(release(2, 1));
    assert_eq!(effects, [cleared.clone(), Effect::DeleteLeftover(release(2, 1))]);
    assert_eq!(answer, Answer::Reclaimed { release: release(2, 1) });
    let kept = source.done(Command::Reclaim { release: release(2, 1), keep_disk: true });
    assert_eq!(kept, (vec![cleared], Answer::Reclaimed { release: release(2, 1) }));
}
