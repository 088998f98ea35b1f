//! Others that want the same VM, and VMs that nobody knows.

use hypervisor::Hypervisor;
use orchestrator_api::{OrderKey, OrderRequest};
use placement::{Authority, Command, Epoch, Owner};

use crate::proxies::SITES;
use crate::trial::{Came, Trial, lived, owner, place, vm, wanted};

async fn claims(trial: &Trial, epoch: u64, by: Owner) -> Result<(), String> {
    let authority = Authority { epoch: Epoch::new(epoch), owner: by.clone() };
    let key = OrderKey {
        vm: vm(),
        epoch: authority.epoch,
        owner: Some(by),
        step: "claim".parse().unwrap(),
        attempt: 1,
    };
    let pair = wanted("a", "b").pair;
    let command = Command::Claim { authority, pair, takeover: false };
    let order = OrderRequest { key, command, definition: None };
    let answer = trial.parties.agents[&place("a")].order(&order).await;
    answer.map(drop).map_err(|trouble| trouble.to_string())
}

#[tokio::test(start_paused = true)]
async fn of_two_orchestrators_that_move_one_vm_at_once_at_most_one_does() {
    let trial = Trial::new().await;
    let other = trial.another("other");
    let (to_b, to_c) = (wanted("a", "b"), wanted("a", "c"));
    let both = tokio::join!(trial.live("web.1", &to_b), other.live("web.2", &to_c));
    let story = trial.story("web.1").await;
    assert!(trial.world.wrong().is_empty(), "{:?}\n{story}", trial.world.wrong());
    let moved = [&both.0, &both.1].iter().filter(|came| ***came == Came::Moved).count();
    assert!(moved <= 1, "{both:?}\n{story}");
    let at = match &both {
        (Came::Moved, _) => "b",
        (_, Came::Moved) => "c",
        _ => "a",
    };
    assert_eq!(trial.world.runs_at(&vm()), [place(at)], "{both:?}\n{story}");
    for site in SITES {
        let left = trial.world.left_over(&place(site), &vm());
        assert!(left.iter().all(|what| what.starts_with("disk of moved-")), "{left:?}\n{story}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_nobody_knows_is_not_moved() {
    let trial = Trial::new().await;
    let mut unknown = wanted("a", "b");
    unknown.vm = "nobody".parse().unwrap();
    let came = trial.live("nobody.1", &unknown).await;
    let Came::Stayed(why) = came else { panic!("{came:?}") };
    assert!(why.contains("nobody"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_another_owns_is_not_taken_from_it() {
    let trial = Trial::new().await;
    let stranger = Owner { name: "other".parse().unwrap(), incarnation: 7 };
    claims(&trial, 2, stranger.clone()).await.unwrap();
    let came = trial.live("web.1", &wanted("a", "b")).await;
    let Came::Stayed(why) = &came else { panic!("{came:?}") };
    assert!(why.contains("other.0000000000000007"), "{why}");
    let view = trial.parties.agents[&place("a")].vm(&vm()).await.unwrap().unwrap();
    assert_eq!(view.record.owner, Some(stranger));
    assert_eq!(trial.world.runs_at(&vm()), [place("a")]);
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_is_over_is_refused_after_the_move() {
    let trial = Trial::new().await;
    assert_eq!(lived(&trial).await, Came::Moved);
    let refused = claims(&trial, 2, owner(99)).await.unwrap_err();
    assert!(refused.contains("epoch"), "{refused}");
}
