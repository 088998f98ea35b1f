//! One value of all that is known of a move: from the journal, from what was collected, and from what
//! was sampled. A pure function of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ledger::report::{
    Comparison, Migration, Outcome, Party, Place, REPORT_VERSION, Report, Source, Versus, timeline,
};
use ledger::{Event, Fold, Ledger, ProxyKey, SideFlowSeen, Tuple, VmEnd};
use orchestrator_api::agent::{Spoken, Transport};
use orchestrator_api::operator::{MoveState, MoveView, StepDoes};
use placement::Epoch;
use proxy_api::Protocol;
use saga::Record;

use super::collect::{Collected, FromProxy, timeless};
use super::figures::Figures;
use super::story::Story;

/// What a report is made of.
#[derive(Debug, Clone, Copy)]
pub struct Made<'a> {
    /// When.
    pub at_ms: u64,
    /// The move as it is told.
    pub view: &'a MoveView,
    /// Its journal.
    pub records: &'a [Record],
    /// What parties told.
    pub collected: &'a Collected,
    /// What was sampled.
    pub figures: &'a Figures,
}

/// Makes it.
#[must_use]
pub fn make(of: Made<'_>) -> Report {
    let Made { at_ms, view, records, collected, figures } = of;
    let story = Story::of(records);
    let mut sources = sources(collected);
    let ledger = ledger(&story, collected, &mut sources);
    let steps = timeline(story.words.iter().cloned());
    let pause = story.pause(view.options.pause_ms);
    Report {
        version: REPORT_VERSION,
        made_at_ms: at_ms,
        migration: Migration {
            name: view.id.to_string(),
            vm: view.id.vm.clone(),
            from: place(&view.from),
            to: place(&view.to),
            epoch: view.epoch.unwrap_or(Epoch::NONE),
            ordered_by: view.ordered_by.clone(),
            attempt: view.attempt,
        },
        outcome: outcome(view, &ledger),
        started_at_ms: view.began_at_unix_ms,
        ended_at_ms: view.ended_at_unix_ms,
        comparison: comparison(&story, view, figures, pause.map(|pause| pause.lasted_ms())),
        pause,
        steps,
        samples: figures.samples.clone(),
        stall_samples: figures.stall_samples.clone(),
        moments: story.moments,
        hold: None,
        ledger,
        reclaimed: Vec::new(),
        sources,
    }
}

fn place(at: &orchestrator_api::Place) -> Place {
    Place { site: at.site.clone(), agent: Some(at.agent.clone()) }
}

fn outcome(view: &MoveView, ledger: &Ledger) -> Outcome {
    let step = || view.steps.last().map(|step| step.step.clone()).unwrap_or_default();
    let is_released =
        view.steps.iter().any(|step| step.step == "release" && step.does == StepDoes::Done);
    match &view.state {
        MoveState::Completed if ledger.flows.iter().any(|row| row.ended_at_ms.is_none()) => {
            Outcome::Draining
        }
        MoveState::Completed => Outcome::Completed,
        MoveState::Undone { why } => Outcome::Undone { because: why.clone() },
        MoveState::UnderWay | MoveState::TurningBack { .. } => Outcome::UnderWay { step: step() },
        MoveState::Waiting { why } if is_released && !view.is_past_pivot => {
            Outcome::InDoubt { because: why.clone() }
        }
        MoveState::Waiting { why } | MoveState::Stuck { why } => {
            Outcome::GaveUp { step: step(), because: why.clone() }
        }
    }
}

fn sources(collected: &Collected) -> Vec<Source> {
    let proxies = collected.proxies.iter().map(|proxy| Source {
        is: Party::Proxy,
        name: proxy.name.clone(),
        site: proxy.site.clone(),
        told_at_ms: proxy.told_at_ms,
        said: proxy.said.clone(),
        left_out: proxy.left_out,
    });
    let agents = collected.agents.iter().map(|agent| Source {
        is: Party::Agent,
        name: agent.name.clone(),
        site: agent.site.clone(),
        told_at_ms: agent.told_at_ms,
        said: agent.said.clone(),
        // It says that it left something out, and not how much.
        left_out: u64::from(!agent.is_whole),
    });
    proxies.chain(agents).collect()
}

/// The fold is bounded: what does not fit is counted as left out by whoever told it.
fn ledger(story: &Story, collected: &Collected, sources: &mut [Source]) -> Ledger {
    let mut fold = Fold::default();
    if let Some(at_ms) = story.pivot_at_ms {
        // One event always fits.
        let _ = fold.add(Event::Pivot { at_ms });
    }
    for (proxy, source) in collected.proxies.iter().zip(sources.iter_mut()) {
        for events in told_by(proxy) {
            source.left_out += u64::from(fold.extend(events).is_err());
        }
    }
    let proxied = Proxied::of(collected);
    let at_source = collected.agents.iter().find(|agent| agent.end == VmEnd::Source);
    let at_cutover: BTreeSet<Spoken> =
        at_source.iter().flat_map(|agent| agent.spoken.iter().map(timeless)).collect();
    for agent in &collected.agents {
        // One that began at the target is none of the move's.
        let spoken = agent.spoken.iter().filter(|spoken| at_cutover.contains(&timeless(spoken)));
        for spoken in spoken.filter(|spoken| !proxied.has(spoken)) {
            let (first_at_ms, last_at_ms) = (spoken.first_at_ms, spoken.last_at_ms);
            let (tuple, end) = (tuple(spoken), agent.end);
            // Flows come first: of side flows those are left out that do not fit.
            let _ = fold.add(Event::SideFlow(SideFlowSeen { tuple, end, first_at_ms, last_at_ms }));
        }
    }
    fold.ledger()
}

/// What one proxy told, flow by flow.
fn told_by(proxy: &FromProxy) -> impl Iterator<Item = Vec<Event>> + '_ {
    let key = ProxyKey { site: proxy.site.clone(), name: proxy.name.clone() };
    let collected =
        proxy.as_of_ms.map(|at_ms| vec![Event::Collected { proxy: key.clone(), at_ms }]);
    let stragglers = {
        let key = key.clone();
        proxy.stragglers.values().map(move |told| vec![Event::straggler(&key, told)])
    };
    let flows = proxy
        .flows
        .values()
        .map(move |word| Event::told(&key, word.as_of_ms, &word.pinned).to_vec());
    collected.into_iter().chain(flows).chain(stragglers)
}

/// What a proxy carries is no side flow.
struct Proxied {
    sources: BTreeSet<SocketAddr>,
    legs: BTreeSet<IpAddr>,
}

impl Proxied {
    fn of(collected: &Collected) -> Proxied {
        let flows = collected.proxies.iter().flat_map(|proxy| proxy.flows.values());
        Proxied {
            sources: flows.filter_map(|word| word.pinned.flow.source).collect(),
            legs: collected.proxies.iter().flat_map(|proxy| proxy.legs.iter().copied()).collect(),
        }
    }

    fn has(&self, spoken: &Spoken) -> bool {
        let peer = SocketAddr::new(spoken.peer, spoken.peer_port);
        self.legs.contains(&spoken.peer) || self.sources.contains(&peer)
    }
}

fn tuple(spoken: &Spoken) -> Tuple {
    let protocol = match spoken.by {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    };
    Tuple {
        protocol,
        vm: SocketAddr::new(spoken.vm, spoken.vm_port),
        peer: SocketAddr::new(spoken.peer, spoken.peer_port),
    }
}

fn comparison(
    story: &Story,
    view: &MoveView,
    figures: &Figures,
    paused_ms: Option<u64>,
) -> Comparison {
    let estimate = story.estimate.as_ref();
    let carried = figures.carried;
    let versus = |estimate, actual| Versus { estimate, actual };
    let total_ms = story.pivot_at_ms.map(|at| at.saturating_sub(view.began_at_unix_ms));
    Comparison {
        total_ms: versus(estimate.map(|of| of.total_ms), total_ms),
        pause_ms: versus(estimate.map(|of| of.pause_ms), paused_ms),
        disk_bytes: versus(
            estimate.map(|of| of.disk_bytes),
            carried.map(|carried| carried.disk_bytes),
        ),
        memory_bytes: versus(
            estimate.map(|of| of.memory_bytes),
            carried.map(|carried| carried.memory_bytes),
        ),
        wire_bytes: Versus::default(),
    }
}
