//! What an agent does of its own accord.

use placement::rules::{self, AfterBoot, Alone};
use placement::*;

use crate::agent::*;

#[test]
fn after_a_reboot_the_seat_decides() {
    let rebooted = |mut agent: Agent| {
        agent.facts.processes.clear();
        rules::after_boot(&agent.record, &agent.facts)
    };
    let AfterBoot::Boot(plan) = rebooted(source_in_move()) else { panic!("here boots") };
    let Step::Write(record) = &plan.steps[0] else { panic!("{plan:?}") };
    assert_eq!(record.ended, Epoch::new(2), "the move under way is over");
    let own = Incarnation { made_by: release(1, 1), from: None };
    assert_eq!(plan.steps[1], Step::Do(Effect::Boot(own)));

    let ask_to = AfterBoot::AskTo { to: end("b"), release: release(2, 1) };
    assert_eq!(rebooted(source_released()), ask_to);
    let ask_from = AfterBoot::AskFrom { from: end("a"), release: release(2, 1) };
    assert_eq!(rebooted(target_started()), ask_from);
    let mut accepted = target_loaded();
    let plan = accepted.tried(start(2, 1, release(2, 1))).unwrap();
    accepted.carry_out(&Plan { steps: plan.steps[..2].to_vec(), answer: plan.answer });
    assert_eq!(rebooted(accepted), ask_from);

    let mut gone = source_released();
    gone.done(Command::Forget { authority: authority(2, 1), release: release(2, 1) });
    assert_eq!(rebooted(gone), AfterBoot::Nothing);
    assert_eq!(rebooted(target_loaded()), AfterBoot::Nothing);
    assert_eq!(rebooted(Agent::new("b")), AfterBoot::Nothing);
}

#[test]
fn a_process_that_outlived_its_agent_is_not_booted_beside() {
    for agent in [source_in_move(), target_started()] {
        assert_eq!(rules::after_boot(&agent.record, &agent.facts), AfterBoot::Nothing);
    }
}

#[test]
fn an_unarmed_seat_boots_on_its_own_release_and_is_given_up_on_any_other_answer() {
    let mut target = target_started();
    target.facts.processes.clear();
    let source = source_released().record.seat;
    let plan = rules::boot_on_answer(&target.record, &source).unwrap();
    assert!(matches!(plan.steps.last(), Some(Step::Do(Effect::Boot(_)))));
    let mut accepted = target_loaded();
    let begun = accepted.tried(start(2, 1, release(2, 1))).unwrap();
    accepted.carry_out(&Plan { steps: begun.steps[..2].to_vec(), answer: begun.answer });
    let plan = rules::boot_on_answer(&accepted.record, &source).unwrap();
    let Step::Write(record) = &plan.steps[0] else { panic!("{plan:?}") };
    assert!(matches!(record.seat, Seat::Started { armed: false, .. }), "{:?}", record.seat);
    let mut gone = source_released();
    gone.done(Command::Forget { authority: authority(2, 1), release: release(2, 1) });
    let plan = rules::boot_on_answer(&target.record, &gone.record.seat).unwrap();
    assert!(matches!(plan.steps.last(), Some(Step::Do(Effect::Boot(_)))));

    for other in [source_in_move().record.seat, Seat::None] {
        let plan = rules::boot_on_answer(&target.record, &other).unwrap();
        let [Step::Write(record)] = &plan.steps[..] else { panic!("{plan:?}") };
        assert_eq!(record.seat, Seat::None);
        assert_eq!(record.taken, Some(release(2, 1)), "accepted stays accepted");
    }
    assert_eq!(rules::boot_on_answer(&source_in_move().record, &source), None);
}

#[test]
fn alone_and_past_the_budget_a_stopped_source_runs_on_and_a_released_one_asks() {
    let source = source_completed();
    assert_eq!(rules::when_alone(&source.record, &source.facts, false), Alone::Nothing);
    let Alone::Do(plan) = rules::when_alone(&source.record, &source.facts, true) else {
        panic!("it runs on")
    };
    let Step::Write(record) = &plan.steps[0] else { panic!("{plan:?}") };
    assert_eq!(record.ended, Epoch::new(2));
    assert!(matches!(plan.steps[1], Step::Do(Effect::Continue(_))));

    let released = source_released();
    let asks = Alone::AskTo { to: end("b"), release: release(2, 1) };
    assert_eq!(rules::when_alone(&released.record, &released.facts, true), asks);
    let mut running = source_in_move();
    running.sees(&release(1, 1), ProcessState::Running);
    assert_eq!(rules::when_alone(&running.record, &running.facts, true), Alone::Nothing);
}

#[test]
fn alone_an_idle_target_is_refused_once_the_source_has_answered() {
    let target = target_loaded();
    assert_eq!(rules::when_alone(&target.record, &target.facts, false), Alone::Nothing);
    let alone = rules::when_alone(&target.record, &target.facts, true);
    let Alone::AskFromThen { from, refuse } = alone else { panic!("it asks first") };
    assert_eq!(from, end("a"));
    assert_eq!(refuse.answer, Answer::Refused { release: release(2, 1) });
    assert_eq!(refuse.steps[0], Step::Do(Effect::KillTarget(release(2, 1))));
}
