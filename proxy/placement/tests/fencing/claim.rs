//! The first placement, claims, and who may command.

use placement::order::Evidence;
use placement::*;

use crate::agent::*;

#[test]
fn the_first_placement_is_recorded_armed_before_the_process_starts() {
    let agent = Agent::new("a");
    let plan = agent.tried(Command::Place { owner: owner(1) }).unwrap();
    let Step::Write(record) = &plan.steps[0] else { panic!("{plan:?}") };
    assert!(record.seat.is_here());
    assert_eq!((record.epoch, record.owner.clone()), (Epoch::FIRST, None));
    assert!(matches!(plan.steps[1], Step::Do(Effect::Boot(_))));
}

#[test]
fn a_vm_is_placed_once() {
    let placed = Agent::placed("a");
    let again = placed.tried(Command::Place { owner: owner(1) }).unwrap();
    assert_eq!((again.steps.len(), again.answer), (0, Answer::Runs));
    let by_another = placed.tried(Command::Place { owner: owner(2) });
    assert!(matches!(by_another, Err(Denied::Seat { .. })));
    let claimed = Agent::new("b").claimed(2, 1, "a", "b");
    assert!(claimed.tried(Command::Place { owner: owner(1) }).is_err());
}

#[test]
fn only_an_orchestrator_commands() {
    let source = source_in_move();
    for by in [agent("b"), "causeway://site/hq/role/operator/name/o".parse().unwrap()] {
        let tried = source.asked(by, Command::Stop { authority: authority(2, 1) });
        assert!(matches!(tried, Err(Denied::Caller { .. })));
    }
}

#[test]
fn a_claim_is_granted_where_nobody_owns_and_said_again_to_its_owner() {
    let mut source = Agent::placed("a");
    let (_, answer) = source.done(claim(2, 1, "a", "b"));
    assert_eq!(answer, Answer::Granted { record: Box::new(source.record.clone()) });
    assert_eq!(source.record.owner, Some(owner(1)));
    let again = source.tried(claim(2, 1, "a", "b")).unwrap();
    assert_eq!((again.steps.len(), again.answer), (0, answer));
}

#[test]
fn a_claim_is_refused_to_a_second_owner_until_the_lease_ends_or_a_takeover_is_ordered() {
    let mut source = source_in_move();
    assert!(matches!(source.tried(claim(2, 2, "a", "b")), Err(Denied::Owned { .. })));
    assert!(matches!(source.tried(claim(3, 2, "a", "b")), Err(Denied::Owned { .. })));
    // An owner's next move is a claim like any other: it has to give the last one back.
    assert!(matches!(source.tried(claim(3, 1, "a", "b")), Err(Denied::Owned { .. })));
    assert!(source.tried(takeover(3, 2, "a", "b")).is_ok());
    source.facts.lease_ran_out = true;
    assert!(source.tried(claim(3, 2, "a", "b")).is_ok());
}

#[test]
fn a_takeover_needs_a_later_epoch() {
    let source = source_in_move();
    assert!(matches!(source.tried(takeover(2, 2, "a", "b")), Err(Denied::Owned { .. })));
    assert!(matches!(source.tried(takeover(1, 2, "a", "b")), Err(Denied::Older { .. })));
}

#[test]
fn a_standing_claim_does_not_change_its_ends() {
    let source = source_in_move();
    assert!(matches!(source.tried(claim(2, 1, "a", "c")), Err(Denied::Older { .. })));
}

#[test]
fn a_claim_of_others_business_is_refused() {
    let third = Agent::new("c");
    assert!(matches!(third.tried(claim(2, 1, "a", "b")), Err(Denied::WrongEnd { .. })));
    let mut namesake = Agent::new("b");
    namesake.facts.here.agent = "hv2".parse().unwrap();
    assert!(matches!(namesake.tried(claim(2, 1, "a", "b")), Err(Denied::WrongEnd { .. })));
}

#[test]
fn a_claim_given_back_is_nobodys_and_its_epoch_stays_used() {
    let mut source = source_in_move();
    source.done(Command::GiveBack { authority: authority(2, 1) });
    assert_eq!((source.record.owner.clone(), source.record.epoch), (None, Epoch::new(2)));
    assert_eq!(source.record.pair, Some(pair("a", "b")));
    let again = source.tried(Command::GiveBack { authority: authority(2, 1) }).unwrap();
    assert!(again.steps.is_empty());
    let stop = source.tried(Command::Stop { authority: authority(2, 1) });
    assert!(matches!(stop, Err(Denied::GivenBack { .. })));
    assert!(source.tried(claim(2, 2, "a", "b")).is_err());
    assert!(source.tried(claim(3, 2, "a", "b")).is_ok());
}

#[test]
fn a_stranger_cannot_give_back() {
    let source = source_in_move();
    let tried = source.tried(Command::GiveBack { authority: authority(2, 9) });
    assert!(matches!(tried, Err(Denied::Owned { .. })));
}

/// Every command that carries an authority, with one that would be in order for `agent`.
fn under(authority: &Authority) -> Vec<Command> {
    let authority = authority.clone();
    let of = release(2, 1);
    let evidence = Some(Evidence::Refused { by: speaker("b"), release: of.clone() });
    vec![
        Command::GiveBack { authority: authority.clone() },
        Command::Reserve { authority: authority.clone() },
        Command::Hold { authority: authority.clone() },
        Command::Stop { authority: authority.clone() },
        Command::Release { authority: authority.clone() },
        Command::Start { authority: authority.clone(), release: of.clone() },
        Command::Refuse { authority: Some(authority.clone()), release: of.clone() },
        Command::Run { authority: authority.clone(), evidence },
        Command::Forget { authority: authority.clone(), release: of.clone() },
        Command::Arm { authority, release: of, gone_at: speaker("a") },
    ]
}

#[test]
fn every_command_under_an_older_epoch_another_owner_or_no_claim_is_refused() {
    for agent in [source_completed(), source_released(), target_loaded()] {
        for (epoch, incarnation) in [(1, 1), (2, 2), (3, 1)] {
            for command in under(&authority(epoch, incarnation)) {
                let denied = agent.tried(command.clone()).unwrap_err();
                let fits = match epoch {
                    1 => matches!(denied, Denied::Older { .. }),
                    2 => matches!(denied, Denied::Owned { .. }),
                    _ => matches!(denied, Denied::NotClaimed { .. }),
                };
                assert!(fits, "{command:?}: {denied:?}");
            }
        }
    }
}

#[test]
fn a_record_survives_the_way_through_its_file() {
    for agent in [source_released(), target_loaded(), target_started(), Agent::new("c")] {
        let text = serde_json::to_string(&agent.record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), agent.record);
    }
    let text = serde_json::to_string(&target_loaded().record).unwrap();
    let unknown = text.replacen('{', "{\"surprise\":1,", 1);
    assert!(serde_json::from_str::<Record>(&unknown).is_err());
}
