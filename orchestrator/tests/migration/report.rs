//! The report of a move over the model: what proxies and agents tell is collected, kept and merged,
//! and the page is made again from the file.

use ledger::page::{page, page_of_json};
use ledger::report::{Outcome, Party, Report, Said, StepOutcome};
use ledger::{Broken, Verdict};
use orchestrator::report::{Collected, Figures, Kept, Made, OfMove, collect, make};
use orchestrator_api::MoveOptions;
use orchestrator_api::operator::{MoveState, MoveView};
use placement::Epoch;
use proxy_api::{CloseReason, Flow, FlowId, FlowState, Passed, PinnedFlow, Protocol, WayBytes};
use saga::SagaName;
use saga::journal::Journal;

use crate::proxies::{ModelProxy, PAGE};
use crate::trial::{Came, Trial, place, vm, wanted};

/// The first move of a VM that was placed once.
const EPOCH: Epoch = Epoch::new(2);
const NOW_MS: u64 = 5_000;

fn flow(number: u64, state: FlowState, after_pivot: u64) -> PinnedFlow {
    let way = WayBytes { taken: 100 + after_pivot, given: 100 + after_pivot, owed: 0 };
    let closed_at_ms = matches!(state, FlowState::Closed { .. }).then_some(900);
    PinnedFlow {
        flow: Flow {
            id: FlowId { boot_us: 7, number },
            service: "shop".parse().unwrap(),
            protocol: Protocol::Tcp,
            client: format!("198.51.100.7:{}", 20_000 + number).parse().unwrap(),
            vip: "192.0.2.10:443".parse().unwrap(),
            backend: "b1".parse().unwrap(),
            vm: Some(vm()),
            server: "10.9.2.1:8443".parse().unwrap(),
            source: None,
            state,
            up: way,
            down: way,
            opened_at_ms: 10,
            last_bytes_at_ms: None,
            closed_at_ms,
            owed_since_ms: None,
            stall_us_max: 0,
        },
        listed_at_ms: 50,
        passed_at_listing: Passed { up: 40, down: 40 },
        passed_at_pivot: Some(Passed { up: 100, down: 100 }),
        stall_us_since_listing: 3_000,
    }
}

fn closed(reason: CloseReason) -> FlowState {
    FlowState::Closed { reason }
}

/// More than a page holds, of every fate.
fn flows() -> Vec<PinnedFlow> {
    vec![
        flow(1, FlowState::Open, 9),
        flow(2, FlowState::Open, 0),
        flow(3, closed(CloseReason::ClientRst), 0),
        flow(4, closed(CloseReason::ServerFin), 0),
        flow(5, closed(CloseReason::Killed), 0),
        flow(6, closed(CloseReason::ClientFin), 20),
        flow(7, FlowState::Open, 1),
    ]
}

fn proxy<'t>(trial: &'t Trial, site: &str) -> &'t ModelProxy {
    &trial.parties.proxies[&(site.parse().unwrap(), "p1".parse().unwrap())]
}

async fn collected(trial: &Trial, collected: &mut Collected) {
    let wanted = wanted("a", "b");
    let of = OfMove { vm: &vm(), pair: &wanted.pair, epoch: EPOCH, is_last: true };
    collect(&trial.parties, of, || NOW_MS, collected).await;
}

/// The move as the service tells it.
fn view() -> MoveView {
    MoveView {
        id: "web.1".parse().unwrap(),
        version: 1,
        from: place("a"),
        to: place("b"),
        options: MoveOptions::default(),
        ordered_by: "ada".to_owned(),
        epoch: Some(EPOCH),
        attempt: 1,
        state: MoveState::Completed,
        is_past_pivot: true,
        began_at_unix_ms: 0,
        ended_at_unix_ms: Some(0),
        steps: Vec::new(),
        earlier: Vec::new(),
        progress: None,
        names: None,
        health: None,
        told: Vec::new(),
        waits_at_gate: None,
    }
}

async fn report(trial: &Trial, collected: &Collected) -> Report {
    let records = trial.journal.read(&SagaName::new("web.1").unwrap()).await.unwrap();
    let (view, figures) = (view(), Figures::default());
    let of = Made { at_ms: NOW_MS, view: &view, records: &records, collected, figures: &figures };
    make(of)
}

#[tokio::test(start_paused = true)]
async fn every_page_of_every_proxy_is_in_the_ledger_and_the_page_comes_of_the_file_alone() {
    let trial = Trial::new().await;
    let came = trial.live("web.1", &wanted("a", "b")).await;
    assert_eq!(came, Came::Moved);
    assert!(flows().len() > 2 * PAGE);
    proxy(&trial, "a").notes(EPOCH, Some(flows()));
    proxy(&trial, "b").notes(EPOCH, Some(Vec::new()));

    let mut all = Collected::default();
    collected(&trial, &mut all).await;
    let report = report(&trial, &all).await;
    let totals = &report.ledger.totals;
    let got = (totals.flows, totals.survived, totals.idle, totals.closed_by_client);
    assert_eq!(got, (7, 3, 1, 1));
    assert_eq!((totals.closed_by_server, totals.broken), (1, 1));
    assert_eq!(totals.broken_by.get(&Broken::Killed), Some(&1));
    assert_eq!(report.outcome, Outcome::Draining, "three live on");

    // The model's clock stands still; the steps and their outcomes are all there.
    assert!(report.steps.iter().all(|run| run.outcome == StepOutcome::Done), "{report:#?}");
    for step in ["check", "epoch", "claim", "memory", "release", "start", "arm"] {
        assert_eq!(report.steps.iter().filter(|run| run.step == step).count(), 1, "{step}");
    }
    assert!(report.pause.is_some() && report.ledger.pivot_at_ms.is_some());
    let estimate = report.comparison.memory_bytes.estimate.unwrap();
    assert_eq!(estimate, 262_016 * 1024);

    // The proxy of c carries nothing of this VM, and says so.
    let said = |site: &str| {
        let mut proxies = report.sources.iter().filter(|source| source.is == Party::Proxy);
        proxies.find(|source| source.site.as_str() == site).unwrap().said.clone()
    };
    assert_eq!([said("a"), said("b")], [Said::Told, Said::Told]);
    assert!(matches!(said("c"), Said::Nothing { .. }));
    let json = report.to_json().unwrap();
    assert_eq!(page_of_json(&json).unwrap(), page(&report));
}

#[tokio::test(start_paused = true)]
async fn what_was_told_stays_when_a_proxy_forgets_and_whoever_is_silent_is_named() {
    let trial = Trial::new().await;
    trial.live("web.1", &wanted("a", "b")).await;
    for site in ["a", "b", "c"] {
        proxy(&trial, site).notes(EPOCH, Some(Vec::new()));
    }
    proxy(&trial, "a").notes(EPOCH, Some(flows()));
    let outer = tempfile::tempdir().unwrap();
    let id = view().id;
    let mut all = Collected::default();
    collected(&trial, &mut all).await;
    // The service that collected it is killed, and the next one goes on from what it kept.
    let kept = Kept::open(&outer.path().join("reports")).unwrap();
    kept.keep_collected(&id, &all).unwrap();
    drop(kept);
    let kept = Kept::open(&outer.path().join("reports")).unwrap();
    let mut all = kept.collected(&id).unwrap().unwrap();

    proxy(&trial, "a").notes(EPOCH, None);
    proxy(&trial, "b").is_silent(true);
    trial.world.cut_off(&place("a"), true);
    collected(&trial, &mut all).await;
    let told = report(&trial, &all).await;
    assert_eq!(told.ledger.totals.flows, 7);
    let is_of = |party, site: &str| {
        let of =
            told.sources.iter().find(|source| source.is == party && source.site.as_str() == site);
        of.unwrap().clone()
    };
    let (a, b) = (is_of(Party::Proxy, "a"), is_of(Party::Proxy, "b"));
    assert!(matches!(a.said, Said::Nothing { .. }) && a.told_at_ms == Some(NOW_MS), "{a:?}");
    assert!(matches!(&b.said, Said::Silent { because } if because.contains("ending")), "{b:?}");
    assert!(matches!(is_of(Party::Agent, "a").said, Said::Silent { .. }));
    assert!(!told.is_clean());

    // One that lost a flow and tells others: it is accounted for no more, unless it had survived.
    proxy(&trial, "a").notes(EPOCH, Some(vec![flow(1, FlowState::Open, 10)]));
    let mut word = all.clone();
    collected(&trial, &mut word).await;
    for of in word.proxies.iter_mut().filter(|of| of.site.as_str() == "a") {
        // The model's clock stands still, a proxy's does not.
        of.as_of_ms = Some(2_000);
        of.flows.values_mut().take(1).for_each(|word| word.as_of_ms = 2_000);
    }
    let told = report(&trial, &word).await;
    let verdict = |number| {
        let rows = &told.ledger.flows;
        rows.iter().find(|row| row.flow.id.number == number).unwrap().verdict
    };
    assert_eq!([verdict(1), verdict(7)], [Verdict::Survived; 2]);
    assert_eq!(verdict(2), Verdict::Broken(Broken::Unaccounted));
    assert_eq!(verdict(3), Verdict::ClosedByClient);
}

#[tokio::test(start_paused = true)]
async fn a_later_attempts_ledger_holds_nothing_of_the_one_before() {
    let trial = Trial::new().await;
    proxy(&trial, "a").notes(EPOCH, Some(flows()));
    let mut all = Collected::default();
    collected(&trial, &mut all).await;
    let of_a = |all: &Collected| {
        let mut proxies = all.proxies.iter();
        proxies.find(|of| of.site.as_str() == "a").map(|of| of.flows.len())
    };
    assert_eq!(of_a(&all), Some(7));
    let (wanted, epoch) = (wanted("a", "b"), Epoch::new(3));
    let of = OfMove { vm: &vm(), pair: &wanted.pair, epoch, is_last: false };
    collect(&trial.parties, of, || NOW_MS, &mut all).await;
    assert_eq!((of_a(&all), all.epoch), (Some(0), Some(epoch)));
    assert!(all.agents.is_empty(), "of an earlier move its ports tell nothing");
}

#[tokio::test(start_paused = true)]
async fn a_move_that_was_undone_has_a_report_too() {
    let trial = Trial::new().await;
    trial.world.cut_off(&place("b"), true);
    assert!(matches!(trial.live("web.1", &wanted("a", "b")).await, Came::Stayed(_)));
    let mut all = Collected::default();
    collected(&trial, &mut all).await;
    let told = report(&trial, &all).await;
    assert_eq!((told.pause, told.ledger.pivot_at_ms), (None, None));
    assert!(page(&told).contains("web"));
}
