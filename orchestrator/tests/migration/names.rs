//! Names follow the VM: shortened before the copy, steered once it runs at the target, restored at
//! the end. Whatever becomes of name servers and of calls to them, the move goes its way.

use std::time::Duration;

use orchestrator::migration::survey;
use orchestrator_api::{HealthTold, NamesTold, Weight};
use placement::{Authority, Epoch, Owner};
use proxy_api::Health;
use saga::Event;
use tokio::time::Instant;

use crate::name_servers::{Mishap, ModelNameServer, NAME, TTLS_S};
use crate::trial::{Came, Trial, lived, vm, wanted};

const MISHAPS: [Mishap; 4] = [Mishap::Lost, Mishap::AnswerLost, Mishap::Late(2), Mishap::Twice(3)];
/// Longest that silent name servers may hold a move up: the check, and three orders.
const HELD_UP_MAX: Duration = Duration::from_secs(40);

fn server<'t>(trial: &'t Trial, site: &str) -> &'t ModelNameServer {
    &trial.parties.name_servers[&(site.parse().unwrap(), "ns1".parse().unwrap())]
}

/// The outcome of a step, as the journal has it.
async fn outcome<T: serde::de::DeserializeOwned>(trial: &Trial, wanted: &str) -> T {
    let done = trial.events("web.1").await.into_iter().rev().find_map(|event| match event {
        Event::Done { step, outcome } if step == wanted => Some(outcome),
        _ => None,
    });
    serde_json::from_value(done.unwrap_or_else(|| panic!("no {wanted} is done"))).unwrap()
}

#[tokio::test(start_paused = true)]
async fn names_are_shortened_then_steered_then_restored_at_every_name_server() {
    let trial = Trial::new().await;
    assert_eq!(trial.live("web.1", &wanted("a", "b")).await, Came::Moved);
    for server in trial.parties.name_servers.values() {
        assert_eq!(server.taken(), ["shorten", "steer b", "steer b", "restore"]);
        assert_eq!(server.answer(), ("b".to_owned(), TTLS_S[0]));
    }
    let steered: NamesTold = outcome(&trial, "steer").await;
    assert_eq!((steered.confirmed, steered.unconfirmed.len()), (3, 0));
    let [name] = &steered.names[..] else { panic!("one name, told by three: {steered:?}") };
    assert_eq!((name.name.as_str(), name.site.as_str()), (NAME, "b"));
    assert_eq!(steered.outdated_until_unix_s, Some(1_300));
    let shortened: NamesTold = outcome(&trial, "shorten").await;
    assert_eq!(shortened.names[0].site.as_str(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_name_server_that_is_down_for_the_whole_move_is_named_and_holds_nothing_up() {
    let trial = Trial::new().await;
    server(&trial, "c").fate(|_| Mishap::Lost);
    let begun = Instant::now();
    assert_eq!(trial.live("web.1", &wanted("a", "b")).await, Came::Moved);
    assert!(begun.elapsed() < HELD_UP_MAX, "{:?}", begun.elapsed());
    for step in ["shorten", "steer", "restore"] {
        let told: NamesTold = outcome(&trial, step).await;
        assert_eq!(told.confirmed, 2, "{step}");
        let [silent] = &told.unconfirmed[..] else { panic!("{told:?}") };
        assert_eq!((silent.site.as_str(), silent.name.as_str()), ("c", "ns1"));
        assert!(silent.why.contains("silence"), "{}", silent.why);
    }
    assert_eq!(server(&trial, "b").answer().0, "b");
}

#[tokio::test(start_paused = true)]
async fn a_name_server_that_comes_back_before_the_end_is_steered_then() {
    let trial = Trial::new().await;
    // The check asks once; shorten and steer spend all their tries.
    let (begun, back) = (Instant::now(), Duration::from_secs(22));
    server(&trial, "c").fate(move |_| match begun.elapsed() < back {
        true => Mishap::Lost,
        false => Mishap::None,
    });
    assert_eq!(trial.live("web.1", &wanted("a", "b")).await, Came::Moved);
    let steered: NamesTold = outcome(&trial, "steer").await;
    assert_eq!(steered.unconfirmed.len(), 1, "{steered:?}");
    let restored: NamesTold = outcome(&trial, "restore").await;
    assert_eq!((restored.confirmed, restored.unconfirmed.len()), (3, 0));
    assert_eq!(server(&trial, "c").answer(), ("b".to_owned(), TTLS_S[0]));
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_one_call_to_a_name_server_it_answers_rightly_in_the_end() {
    let calm = Trial::new().await;
    assert_eq!(lived(&calm).await, Came::Moved);
    let calls = server(&calm, "b").calls();
    assert!(calls > 5, "{calls}");
    for at in 0..calls {
        for mishap in MISHAPS {
            println!("{mishap:?} at {at}");
            let trial = Trial::new().await;
            let fate = move |point| if point == at { mishap } else { Mishap::None };
            server(&trial, "b").fate(fate);
            assert_eq!(lived(&trial).await, Came::Moved);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_move_goes_beyond_every_epoch_that_a_name_server_has_seen() {
    let trial = Trial::new().await;
    server(&trial, "c").heard(&vm(), &by_another(41));
    assert_eq!(trial.live("web.1", &wanted("a", "b")).await, Came::Moved);
    let told: NamesTold = outcome(&trial, "steer").await;
    assert!(told.unconfirmed.is_empty(), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_server_that_has_heard_of_a_later_epoch_meanwhile_is_named_with_its_words() {
    let trial = Trial::new().await;
    let late = server(&trial, "c").clone();
    trial.world.fate(move |called| {
        if called.step == "reserve" {
            late.heard(&vm(), &by_another(99));
        }
        hypervisor::model::fate::Mishap::None
    });
    assert_eq!(trial.live("web.1", &wanted("a", "b")).await, Came::Moved);
    let told: NamesTold = outcome(&trial, "restore").await;
    assert_eq!((told.confirmed, told.unconfirmed.len()), (2, 1));
    assert!(told.unconfirmed[0].why.contains("stale_epoch"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_tells_the_names_and_warns_of_a_silent_name_server() {
    let trial = Trial::new().await;
    server(&trial, "c").fate(|_| Mishap::Lost);
    let plan = survey(&trial.parties, &wanted("a", "b")).await.plan;
    assert!(plan.is_go(), "{plan:?}");
    let [name] = &plan.names[..] else { panic!("{:?}", plan.names) };
    assert_eq!((name.name.as_str(), name.site.as_str(), name.follows), (NAME, "a", true));
    let warned = plan.findings.iter().filter(|finding| finding.weight == Weight::Warns);
    let warned: Vec<&str> = warned.map(|finding| finding.thing.as_str()).collect();
    assert_eq!(warned, ["name server ns1 of site c"]);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_not_well_is_told_and_the_move_goes_on() {
    for (found, told) in [
        (None, HealthTold::Unserved),
        (Some(Health::Up), HealthTold::Healthy { addresses: 1 }),
        (Some(Health::Unchecked), HealthTold::Unchecked),
        (
            Some(Health::Down),
            HealthTold::Unhealthy { addresses: vec!["10.9.2.1:80".parse().unwrap()] },
        ),
    ] {
        let trial = Trial::new().await;
        if let Some(found) = found {
            trial.parties.proxies[&("b".parse().unwrap(), "p1".parse().unwrap())].finds(found);
        }
        assert_eq!(lived(&trial).await, Came::Moved);
        assert_eq!(outcome::<HealthTold>(&trial, "health").await, told);
    }
}

fn by_another(epoch: u64) -> Authority {
    let owner = Owner { name: "other".parse().unwrap(), incarnation: 7 };
    Authority { epoch: Epoch::new(epoch), owner }
}
