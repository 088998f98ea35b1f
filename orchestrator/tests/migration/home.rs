//! A VM comes home once all that it left is given back: its proxy lets go, then its port is its own,
//! however often that is cut short; and never while anybody elsewhere needs the way.

use std::time::Duration;

use hypervisor::model::fate::Mishap;
use orchestrator::migration::home::{HomeError, Homecoming, come_home};
use orchestrator_api::agent::PortCommand;
use placement::Release;
use proxy_api::WayKind;
use saga::Event;
use tokio::time::timeout;

use crate::proxies::ModelProxy;
use crate::trial::{Came, Trial, end, place, vm, wanted};

/// More are never needed.
const TRIES_MAX: usize = 8;
/// Whoever has no answer by then was killed.
const CALL_MAX: Duration = Duration::from_secs(60);

fn proxy<'t>(trial: &'t Trial, site: &str) -> &'t ModelProxy {
    &trial.parties.proxies[&(site.parse().unwrap(), "p1".parse().unwrap())]
}

/// The VM has moved from a to b, and a's proxy has let go.
async fn moved() -> (Trial, Release) {
    let trial = Trial::new().await;
    assert_eq!(trial.live("web.1", &wanted("a", "b")).await, Came::Moved);
    let events = trial.events("web.1").await;
    let release = events.iter().rev().find_map(|event| match event {
        Event::Done { step, outcome } if step == "release" => Some(outcome.clone()),
        _ => None,
    });
    let release: Release = serde_json::from_value(release.unwrap()).unwrap();
    proxy(&trial, "b").stands(WayKind::Hosting, release.epoch);
    proxy(&trial, "b").has_neighbour("10.9.21.1", "02:00:00:00:21:02", false);
    proxy(&trial, "b").has_neighbour("10.9.0.1", "02:00:00:00:00:02", true);
    (trial, release)
}

async fn comes(trial: &Trial, release: &Release, force: bool) -> Result<usize, HomeError> {
    let (vm, home) = (vm(), end("b"));
    let coming = Homecoming { vm: &vm, home: &home, release, epoch: release.epoch, force };
    come_home(&trial.parties, coming).await
}

fn is_at_home(trial: &Trial) -> bool {
    let port = trial.world.port(&place("b"), &vm());
    let [PortCommand::ComeHome, PortCommand::LiftTakeOver { announced }] = &port[..] else {
        return false;
    };
    let told: Vec<_> = announced.iter().map(|one| (one.mac.to_string(), one.is_router)).collect();
    let wanted = [("02:00:00:00:21:02".to_owned(), false), ("02:00:00:00:00:02".to_owned(), true)];
    proxy(trial, "b").way().is_none() && told == wanted
}

#[tokio::test(start_paused = true)]
async fn its_proxy_lets_go_then_its_port_is_its_own_and_it_is_told_of_who_is_there() {
    let (trial, release) = moved().await;
    // What was under way yet is waited for.
    proxy(&trial, "b").hears(3);
    for _ in 0..2 {
        assert_eq!(comes(&trial, &release, false).await.unwrap(), 2);
        assert!(is_at_home(&trial));
    }
}

#[tokio::test(start_paused = true)]
async fn it_does_not_while_another_proxy_stands_for_it_even_where_it_is_forced() {
    for kind in [WayKind::Away, WayKind::Holding, WayKind::Staged, WayKind::Leaving] {
        for site in ["a", "c"] {
            let (trial, release) = moved().await;
            proxy(&trial, site).stands(kind, release.epoch);
            let refused = comes(&trial, &release, true).await;
            let Err(HomeError::Elsewhere { site: named, .. }) = &refused else {
                panic!("{site} {kind:?}: {refused:?}")
            };
            assert_eq!(named.as_str(), site);
            assert!(proxy(&trial, "b").way().is_some());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_does_not_while_somebody_elsewhere_talks_to_it_unless_it_is_forced() {
    let (trial, release) = moved().await;
    proxy(&trial, "b").hears(1_000);
    let heard = comes(&trial, &release, false).await;
    assert!(matches!(heard, Err(HomeError::StillComes { .. })), "{heard:?}");
    assert!(proxy(&trial, "b").way().is_some());
    assert!(trial.world.port(&place("b"), &vm()).is_empty());
    comes(&trial, &release, true).await.unwrap();
    assert!(is_at_home(&trial));
}

#[tokio::test(start_paused = true)]
async fn it_does_not_while_a_proxy_cannot_be_asked() {
    let (trial, release) = moved().await;
    proxy(&trial, "a").is_silent(true);
    let unasked = comes(&trial, &release, false).await;
    assert!(matches!(unasked, Err(HomeError::Call(_))), "{unasked:?}");
    assert!(proxy(&trial, "b").way().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_came_by_another_move_is_left_as_it_is() {
    let (trial, release) = moved().await;
    proxy(&trial, "b").stands(WayKind::Hosting, release.epoch.next());
    let refused = comes(&trial, &release, true).await;
    assert!(matches!(refused, Err(HomeError::Call(_))), "{refused:?}");
    assert!(trial.world.port(&place("b"), &vm()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_the_calls_asking_again_brings_it_home() {
    for mishap in [
        Mishap::Lost,
        Mishap::AnswerLost,
        Mishap::Late(1),
        Mishap::Twice(1),
        Mishap::Dies(0),
        Mishap::Dies(1),
        Mishap::CallerKilled,
        Mishap::CallerKilledLate(1),
    ] {
        for hit in ["ComeHome", "LiftTakeOver"] {
            let (trial, release) = moved().await;
            let mut is_first = true;
            trial.world.fate(move |called| {
                let is_hit = called.what.contains(hit) && std::mem::take(&mut is_first);
                if is_hit { mishap } else { Mishap::None }
            });
            let mut tried = 0;
            while !matches!(timeout(CALL_MAX, comes(&trial, &release, false)).await, Ok(Ok(2))) {
                tried += 1;
                assert!(tried <= TRIES_MAX, "{hit} {mishap:?}: {}", trial.world.story());
            }
            trial.world.calm();
            assert!(is_at_home(&trial), "{hit} {mishap:?}: {}", trial.world.story());
        }
    }
}
