//! What a move left is given back: once, by whoever asks last, however many died over it, and never
//! what a later move needs.

use std::time::Duration;

use hypervisor::model::fate::Mishap;
use orchestrator::migration::reclaim::{BrokenOff, Leftover, Manner, ReclaimError, reclaim};
use placement::{Epoch, Release};
use proxy_api::{Health, WayKind};
use saga::Event;
use tokio::time::timeout;

use crate::proxies::ModelProxy;
use crate::trial::{Came, Trial, end, owner, place, vm, wanted};

/// More are never needed: one per mishap, and those that wait for a late call.
const TRIES_MAX: usize = 8;
/// Whoever has no answer by then was killed.
const CALL_MAX: Duration = Duration::from_secs(60);

const PLAIN: Manner = Manner { force: false, keep_disk: false };
const FORCED: Manner = Manner { force: true, keep_disk: false };
const KEPT: Manner = Manner { force: false, keep_disk: true };

fn proxy<'t>(trial: &'t Trial, site: &str) -> &'t ModelProxy {
    &trial.parties.proxies[&(site.parse().unwrap(), "p1".parse().unwrap())]
}

/// Moves the VM, and has its proxies stand as they do after a hold.
async fn moved(trial: &Trial, name: &str, from: &str, to: &str) -> Release {
    assert_eq!(trial.live(name, &wanted(from, to)).await, Came::Moved);
    let events = trial.events(name).await;
    let release = events.iter().rev().find_map(|event| match event {
        Event::Done { step, outcome } if step == "release" => Some(outcome.clone()),
        _ => None,
    });
    let release: Release = serde_json::from_value(release.unwrap()).unwrap();
    proxy(trial, from).stands(WayKind::Away, release.epoch);
    proxy(trial, to).stands(WayKind::Hosting, release.epoch);
    release
}

async fn given_back(
    trial: &Trial,
    release: &Release,
    [from, home]: [&str; 2],
    manner: Manner,
) -> Result<Vec<BrokenOff>, ReclaimError> {
    let (of, from, home) = (vm(), end(from), end(home));
    let left = Leftover { vm: &of, from: &from, release, epoch: release.epoch, home: &home };
    let mut broken_off = Vec::new();
    reclaim(&trial.parties, &owner(9), left, manner, &mut broken_off).await.map(|()| broken_off)
}

fn disks(trial: &Trial, site: &str) -> Vec<String> {
    trial.world.left_over(&place(site), &vm()).into_iter().collect()
}

#[tokio::test(start_paused = true)]
async fn a_place_is_given_back_once_no_flow_lives_there_and_again_without_harm() {
    let trial = Trial::new().await;
    let release = moved(&trial, "web.1", "a", "b").await;
    proxy(&trial, "a").carries([1, 2]);
    proxy(&trial, "b").carries([3]);
    for _ in 0..2 {
        let refused = given_back(&trial, &release, ["a", "b"], PLAIN).await;
        assert!(matches!(refused, Err(ReclaimError::FlowsLive { .. })), "{refused:?}");
        assert_eq!(disks(&trial, "a"), ["disk of moved-2"], "nothing is taken meanwhile");
    }
    proxy(&trial, "a").carries([2]);
    let broken_off = given_back(&trial, &release, ["a", "b"], FORCED).await.unwrap();
    let numbers: Vec<u64> = broken_off.iter().map(|broken| broken.flow.number).collect();
    assert_eq!(numbers, [2]);
    for _ in 0..2 {
        assert!(disks(&trial, "a").is_empty(), "{:?}", disks(&trial, "a"));
        assert_eq!(proxy(&trial, "a").way(), None);
        let again = given_back(&trial, &release, ["a", "b"], PLAIN).await.unwrap();
        assert_eq!(again, []);
    }
    // Where the VM is, nothing has changed.
    assert_eq!(proxy(&trial, "b").way(), Some((WayKind::Hosting, release.epoch)));
    trial.check("web.1", &Came::Moved, "a", "b").await;
    trial.moves_on("web.1", &Came::Moved, "a", "b").await;
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_the_agents_call_asking_again_brings_it_to_its_end() {
    for mishap in [
        Mishap::Lost,
        Mishap::AnswerLost,
        Mishap::Late(3),
        Mishap::Twice(2),
        Mishap::Dies(0),
        Mishap::Dies(1),
        Mishap::CallerKilled,
        Mishap::CallerKilledLate(2),
    ] {
        let trial = Trial::new().await;
        let release = moved(&trial, "web.1", "a", "b").await;
        let mut is_first = true;
        trial.world.fate(move |called| {
            let is_hit = std::mem::take(&mut is_first);
            assert!(called.what.contains("Reclaim"), "nothing else is ordered: {}", called.what);
            if is_hit { mishap } else { Mishap::None }
        });
        let mut tried = 0;
        loop {
            tried += 1;
            assert!(tried <= TRIES_MAX, "{mishap:?}: {}", trial.world.story());
            let asked = given_back(&trial, &release, ["a", "b"], PLAIN);
            if let Ok(Ok(_)) = timeout(CALL_MAX, asked).await {
                break;
            }
        }
        trial.world.calm();
        assert!(disks(&trial, "a").is_empty(), "{mishap:?}: {:?}", disks(&trial, "a"));
        assert!(tried == 1 || mishap != Mishap::Twice(2), "{mishap:?}: {tried}");
        trial.check("web.1", &Came::Moved, "a", "b").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_is_kept_as_long_as_it_is_asked_to_be() {
    let trial = Trial::new().await;
    let release = moved(&trial, "web.1", "a", "b").await;
    given_back(&trial, &release, ["a", "b"], KEPT).await.unwrap();
    assert_eq!(disks(&trial, "a"), ["disk of moved-2"]);
    assert_eq!(proxy(&trial, "a").way(), None, "all else is given back");
    given_back(&trial, &release, ["a", "b"], PLAIN).await.unwrap();
    assert!(disks(&trial, "a").is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_while_the_vm_is_not_known_to_be_well() {
    let trial = Trial::new().await;
    let release = moved(&trial, "web.1", "a", "b").await;
    let elsewhere = given_back(&trial, &release, ["a", "c"], FORCED).await;
    assert!(matches!(elsewhere, Err(ReclaimError::Unwell { .. })), "{elsewhere:?}");
    trial.world.cut_off(&place("b"), true);
    let unheard = given_back(&trial, &release, ["a", "b"], FORCED).await;
    assert!(matches!(unheard, Err(ReclaimError::Call(_))), "{unheard:?}");
    assert_eq!(disks(&trial, "a"), ["disk of moved-2"]);
    assert_eq!(proxy(&trial, "a").way(), Some((WayKind::Away, release.epoch)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_while_the_application_takes_no_connections_unless_forced() {
    let trial = Trial::new().await;
    let release = moved(&trial, "web.1", "a", "b").await;
    proxy(&trial, "b").finds(Health::Down);
    let refused = given_back(&trial, &release, ["a", "b"], PLAIN).await;
    let Err(ReclaimError::Unhealthy { addresses, .. }) = &refused else { panic!("{refused:?}") };
    assert_eq!(addresses.len(), 1);
    assert_eq!(disks(&trial, "a"), ["disk of moved-2"]);
    given_back(&trial, &release, ["a", "b"], FORCED).await.unwrap();
    assert!(disks(&trial, "a").is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_while_a_proxy_takes_part_in_another_move_or_cannot_be_asked() {
    let trial = Trial::new().await;
    let release = moved(&trial, "web.1", "a", "b").await;
    for kind in [WayKind::Staged, WayKind::Leaving, WayKind::Holding] {
        proxy(&trial, "a").stands(kind, Epoch::new(3));
        let refused = given_back(&trial, &release, ["a", "b"], FORCED).await;
        assert!(matches!(refused, Err(ReclaimError::UnderWay { .. })), "{kind:?}: {refused:?}");
    }
    proxy(&trial, "a").stands(WayKind::Away, release.epoch);
    proxy(&trial, "a").is_silent(true);
    let unheard = given_back(&trial, &release, ["a", "b"], FORCED).await;
    assert!(matches!(unheard, Err(ReclaimError::Call(_))), "{unheard:?}");
    assert_eq!(disks(&trial, "a"), ["disk of moved-2"], "the agent comes last");
}

#[tokio::test(start_paused = true)]
async fn after_a_return_each_place_is_given_back_by_itself_and_home_stays_as_it_is() {
    let trial = Trial::new().await;
    let there = moved(&trial, "web.1", "a", "b").await;
    let back = moved(&trial, "web.2", "b", "a").await;
    proxy(&trial, "a").carries([1]);
    proxy(&trial, "b").carries([2]);
    // Flows at home keep nothing, and what stands there for those pinned at b stays.
    given_back(&trial, &there, ["a", "a"], PLAIN).await.unwrap();
    assert_eq!(proxy(&trial, "a").way(), Some((WayKind::Hosting, back.epoch)));
    assert!(disks(&trial, "a").is_empty() && !disks(&trial, "b").is_empty());
    let refused = given_back(&trial, &back, ["b", "a"], PLAIN).await;
    assert!(matches!(refused, Err(ReclaimError::FlowsLive { .. })), "{refused:?}");
    proxy(&trial, "b").carries([]);
    given_back(&trial, &back, ["b", "a"], PLAIN).await.unwrap();
    assert!(disks(&trial, "b").is_empty());
    trial.check("web.2", &Came::Moved, "b", "a").await;
    trial.moves_on("web.2", &Came::Moved, "b", "a").await;
}

#[tokio::test(start_paused = true)]
async fn of_two_moves_away_from_one_place_the_older_ones_leftover_goes_alone() {
    let trial = Trial::new().await;
    let first = moved(&trial, "web.1", "a", "b").await;
    moved(&trial, "web.2", "b", "a").await;
    let last = moved(&trial, "web.3", "a", "c").await;
    given_back(&trial, &first, ["a", "c"], PLAIN).await.unwrap();
    assert_eq!(proxy(&trial, "a").way(), Some((WayKind::Away, last.epoch)));
    assert_eq!(disks(&trial, "a"), [format!("disk of moved-{}", last.epoch)]);
    given_back(&trial, &last, ["a", "c"], PLAIN).await.unwrap();
    assert!(disks(&trial, "a").is_empty() && proxy(&trial, "a").way().is_none());
}
