//! Copies that fail, in every phase, and VMs that switch over by themselves.

use hypervisor::model::CopyPlan;
use orchestrator_api::Phase;

use crate::trial::{Came, QUICK, Trial, lived, place, vm};

#[tokio::test(start_paused = true)]
async fn a_copy_that_fails_in_any_phase_leaves_the_vm_where_it_is() {
    for phase in [Phase::Mirroring, Phase::InStep, Phase::Copying, Phase::Finishing] {
        let trial = Trial::new().await;
        trial.world.copies(CopyPlan { fails_in: Some(phase), ..QUICK });
        let came = lived(&trial).await;
        let Came::Stayed(why) = &came else { panic!("{phase:?}: {came:?}") };
        assert!(why.contains("as planned") || why.contains("copy"), "{phase:?}: {why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_switches_over_by_itself_is_copied_anew_a_few_times() {
    for (switch_overs, moves) in [(1, true), (2, true), (20, false)] {
        let trial = Trial::new().await;
        trial.world.copies(CopyPlan { switch_overs, ..QUICK });
        let came = lived(&trial).await;
        assert_eq!(came == Came::Moved, moves, "{switch_overs}: {came:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_switches_over_as_it_is_stopped_runs_on_somewhere() {
    let trial = Trial::new().await;
    trial.world.copies(CopyPlan { switch_overs: 1, at_stop: true, ..QUICK });
    lived(&trial).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_without_room_is_refused_before_anything_is_touched() {
    let trial = Trial::new().await;
    trial.world.furnish(&place("b"), |host| host.disk_free_bytes = 1 << 20);
    let came = lived(&trial).await;
    let Came::Stayed(why) = &came else { panic!("{came:?}") };
    assert!(why.contains("disk"), "{why}");
    assert!(trial.world.left_over(&place("b"), &vm()).is_empty());
}
