//! What every proxy has noted of a move's flows, and whom the VM spoke with at both ends, merged with
//! what they told before.
//!
//! A proxy forgets with its reclaim and its restart, an agent what was silent for an hour. So nothing
//! that was once told is dropped for not being told again: a flow keeps its last word, with the time of
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use hypervisor::{CallTrouble, Code, Hypervisor};
use ledger::VmEnd;
use ledger::report::Said;
use orchestrator_api::agent::Spoken;
use placement::{End, Epoch, Pair, PartName, SiteName, VmName};
use proxy_api::{FlowId, PinnedFlow, PinnedPage, Straggler};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::together::together;
use crate::migration::{Parties, ProxyPort};

/// Pages that one proxy may tell: somewhat more than it ever notes.
pub const PAGES_MAX: usize = 128;
/// How long one party may take to tell all that it knows.
pub const TELLING_MAX: Duration = Duration::from_secs(60);
/// What a proxy says that has noted nothing.
const NOT_NOTED: &str = "not_noted";
/// Flows, stragglers, or conversations that are kept of one party.
pub const KEPT_MAX: usize = 200_000;

/// The move that is asked about.
#[derive(Debug, Clone, Copy)]
pub struct OfMove<'a> {
    /// Of which VM.
    pub vm: &'a VmName,
    /// Its ends.
    pub pair: &'a Pair,
    /// Under which epoch it acts, or acted last.
    pub epoch: Epoch,
    /// No later move of this VM has begun: what is seen at its ports is of this one.
    pub is_last: bool,
}

/// What was collected for one move.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collected {
    /// Of which epoch; what an earlier attempt's flows did is another ledger.
    pub epoch: Option<Epoch>,
    /// By every proxy.
    pub proxies: Vec<FromProxy>,
    /// By the agents at both ends.
    pub agents: Vec<FromAgent>,
}

/// What one proxy has told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromProxy {
    /// Its site.
    pub site: SiteName,
    /// Its name.
    pub name: PartName,
    /// What it said last.
    pub said: Said,
    /// When it told last, by our clock.
    pub told_at_ms: Option<u64>,
    /// As of when that was, by its own.
    pub as_of_ms: Option<u64>,
    /// Each flow's last word.
    pub flows: BTreeMap<FlowId, Word>,
    /// Who came too late.
    pub stragglers: BTreeMap<FlowId, Straggler>,
    /// Flows that it did not note, or that are not kept here.
    pub left_out: u64,
    /// Its addresses on networks: whom the VM speaks with there is a proxy, not a peer.
    pub legs: BTreeSet<IpAddr>,
}

/// The last word on a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// As of when, by the proxy's clock.
    pub as_of_ms: u64,
    /// The flow.
    pub pinned: PinnedFlow,
}

/// What one agent has told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromAgent {
    /// Which end.
    pub end: VmEnd,
    /// Its site.
    pub site: SiteName,
    /// Its name.
    pub name: PartName,
    /// What it said last.
    pub said: Said,
    /// When it told last, by our clock.
    pub told_at_ms: Option<u64>,
    /// Since when it watches, in seconds since 1970.
    pub since_s: Option<u64>,
    /// With whom the VM has spoken, each once.
    pub spoken: Vec<Spoken>,
    /// It has never left anything out.
    pub is_whole: bool,
}

/// Asks everybody, at the same time and each within [`TELLING_MAX`], and merges what they tell.
pub async fn collect<P: Parties>(
    parties: &P,
    of: OfMove<'_>,
    now_ms: impl Fn() -> u64,
    collected: &mut Collected,
) {
    collect_taken_over(parties, of, &[], now_ms, collected).await;
}

/// The same of a move that other services took over, one after another, after its VM was released: what
/// was noted as its flows were kept back bears the epoch of `of`, what was noted since then that of the
/// takeover by which it went on just then.
pub async fn collect_taken_over<P: Parties>(
    parties: &P,
    of: OfMove<'_>,
    taken_over: &[Epoch],
    now_ms: impl Fn() -> u64,
    collected: &mut Collected,
) {
    if collected.epoch != Some(of.epoch) {
        *collected = Collected { epoch: Some(of.epoch), ..Collected::default() };
    }
    let proxies = parties.proxies();
    let asking = proxies.iter().map(|(_, proxy)| bounded(heard_from_proxy(*proxy, of, taken_over)));
    let ends = [(VmEnd::Source, &of.pair.from), (VmEnd::Target, &of.pair.to)];
    let watching = ends.map(|(_, end)| bounded(heard_from_agent(parties.agent(end), of)));
    let watching = watching.into_iter().filter(|_| of.is_last);
    let (told, watched) = tokio::join!(together(asking), together(watching));
    let at_ms = now_ms();
    for (((site, name), _), heard) in proxies.iter().zip(told) {
        collected.proxy(site, name).hear(heard, at_ms);
    }
    for ((which, end), heard) in ends.into_iter().zip(watched) {
        collected.agent(which, end).hear(heard, at_ms);
    }
}

/// The first page of both ends' proxies: what flows are owed just now, of so many as it holds. Who
/// does not answer at once is left out: there is a next time.
pub async fn glance<P: Parties>(parties: &P, of: OfMove<'_>, bound: Duration) -> Vec<PinnedPage> {
    let ends = [&of.pair.from, &of.pair.to].map(|end| parties.proxy(end));
    let asking = ends.into_iter().flatten().map(|proxy| async move {
        timeout(bound, proxy.cutover(of.vm, of.epoch, None)).await.ok()?.ok()
    });
    together(asking).await.into_iter().flatten().collect()
}

/// What came of asking: an answer, word that there is none, or silence.
enum Heard<T> {
    Told(T),
    Nothing(String),
    Silent(String),
}

async fn bounded<T>(asking: impl Future<Output = Heard<T>>) -> Heard<T> {
    let late = || Heard::Silent(format!("it has not told all within {TELLING_MAX:?}"));
    timeout(TELLING_MAX, asking).await.unwrap_or_else(|_| late())
}

/// What a proxy told at one go.
struct Noted {
    as_of_ms: u64,
    flows: Vec<Word>,
    stragglers: Vec<Straggler>,
    left_out: u64,
    legs: Vec<IpAddr>,
}

/// Its flows are those of the first epoch under which it has noted any: later ones list those that came
/// after the cutover, too. Who came too late is noted under the last.
async fn heard_from_proxy<X: ProxyPort>(
    proxy: &X,
    of: OfMove<'_>,
    taken_over: &[Epoch],
) -> Heard<Noted> {
    let mut told = noted(proxy, of).await;
    for &epoch in taken_over {
        match &mut told {
            // They are all told with the first page.
            Ok(first) => {
                let later = proxy.cutover(of.vm, epoch, None).await;
                first.stragglers.extend(later.into_iter().flat_map(|page| page.stragglers));
            }
            Err(trouble) if is_not_noted(trouble) => {
                told = noted(proxy, OfMove { epoch, ..of }).await;
            }
            Err(_) => {}
        }
    }
    match told {
        Ok(noted) => Heard::Told(noted),
        Err(trouble) if is_not_noted(&trouble) => Heard::Nothing(daemon::with_causes(&trouble)),
        Err(trouble) => Heard::Silent(daemon::with_causes(&trouble)),
    }
}

fn is_not_noted(trouble: &CallTrouble) -> bool {
    trouble.is_refusal_as(NOT_NOTED)
}

async fn noted<X: ProxyPort>(proxy: &X, of: OfMove<'_>) -> Result<Noted, CallTrouble> {
    let legs = proxy.networks().await?.legs;
    let legs = legs.into_iter().flat_map(|leg| leg.addresses).collect();
    let mut page = proxy.cutover(of.vm, of.epoch, None).await?;
    let mut noted = Noted {
        // All that follows is told then, or later.
        as_of_ms: page.as_of_ms,
        flows: Vec::new(),
        stragglers: Vec::new(),
        left_out: page.left_out,
        legs,
    };
    for number in 1.. {
        let as_of_ms = page.as_of_ms;
        noted.flows.extend(page.flows.into_iter().map(|pinned| Word { as_of_ms, pinned }));
        noted.stragglers.extend(page.stragglers);
        let Some(after) = page.more_after else { break };
        if number == PAGES_MAX {
            // How many more, it does not say.
            noted.left_out += 1;
            break;
        }
        page = proxy.cutover(of.vm, of.epoch, Some(after)).await?;
    }
    Ok(noted)
}

/// What an agent told at one go.
struct Watched {
    since_s: Option<u64>,
    spoken: Vec<Spoken>,
    is_whole: bool,
}

async fn heard_from_agent<A: Hypervisor>(agent: Option<&A>, of: OfMove<'_>) -> Heard<Watched> {
    let Some(agent) = agent else {
        return Heard::Silent("it is not known to the service".to_owned());
    };
    let asked = async {
        let watch = agent.watched(of.vm).await?;
        let (since_s, is_whole) = (watch.since_s, watch.is_whole);
        let spoken = watch.conversations;
        Ok::<_, CallTrouble>(Watched { since_s, spoken, is_whole })
    };
    match asked.await {
        Ok(watched) => Heard::Told(watched),
        Err(trouble) if trouble.code() == Some(Code::UnknownVm) => {
            Heard::Nothing(daemon::with_causes(&trouble))
        }
        Err(trouble) => Heard::Silent(daemon::with_causes(&trouble)),
    }
}

impl Collected {
    fn proxy(&mut self, site: &SiteName, name: &PartName) -> &mut FromProxy {
        let known = |proxy: &FromProxy| proxy.site == *site && proxy.name == *name;
        let at = self.proxies.iter().position(known).unwrap_or_else(|| {
            self.proxies.push(FromProxy {
                site: site.clone(),
                name: name.clone(),
                said: Said::Told,
                told_at_ms: None,
                as_of_ms: None,
                flows: BTreeMap::new(),
                stragglers: BTreeMap::new(),
                left_out: 0,
                legs: BTreeSet::new(),
            });
            self.proxies.len() - 1
        });
        &mut self.proxies[at]
    }

    fn agent(&mut self, end: VmEnd, at: &End) -> &mut FromAgent {
        let place = self.agents.iter().position(|agent| agent.end == end).unwrap_or_else(|| {
            self.agents.push(FromAgent {
                end,
                site: at.site.clone(),
                name: at.agent.clone(),
                said: Said::Told,
                told_at_ms: None,
                since_s: None,
                spoken: Vec::new(),
                is_whole: true,
            });
            self.agents.len() - 1
        });
        &mut self.agents[place]
    }
}

impl FromProxy {
    fn hear(&mut self, heard: Heard<Noted>, at_ms: u64) {
        let noted = match heard {
            Heard::Told(noted) => noted,
            Heard::Nothing(because) => return self.said = Said::Nothing { because },
            Heard::Silent(because) => return self.said = Said::Silent { because },
        };
        (self.said, self.told_at_ms) = (Said::Told, Some(at_ms));
        self.as_of_ms = Some(noted.as_of_ms);
        self.left_out = noted.left_out;
        self.legs.extend(noted.legs);
        for word in noted.flows {
            let id = word.pinned.flow.id;
            if self.flows.len() < KEPT_MAX || self.flows.contains_key(&id) {
                self.flows.insert(id, word);
            } else {
                self.left_out += 1;
            }
        }
        for straggler in noted.stragglers {
            if self.stragglers.len() < KEPT_MAX {
                self.stragglers.insert(straggler.flow, straggler);
            }
        }
    }
}

impl FromAgent {
    fn hear(&mut self, heard: Heard<Watched>, at_ms: u64) {
        let watched = match heard {
            Heard::Told(watched) => watched,
            Heard::Nothing(because) => return self.said = Said::Nothing { because },
            Heard::Silent(because) => return self.said = Said::Silent { because },
        };
        (self.said, self.told_at_ms) = (Said::Told, Some(at_ms));
        self.since_s = watched.since_s.or(self.since_s);
        self.is_whole &= watched.is_whole;
        let mut all: BTreeMap<Spoken, Spoken> =
            self.spoken.iter().map(|spoken| (timeless(spoken), *spoken)).collect();
        for now in watched.spoken {
            if all.len() >= KEPT_MAX && !all.contains_key(&timeless(&now)) {
                self.is_whole = false;
                continue;
            }
            let known = all.entry(timeless(&now)).or_insert(now);
            known.first_at_ms = known.first_at_ms.into_iter().chain(now.first_at_ms).min();
            known.last_at_ms = known.last_at_ms.max(now.last_at_ms);
        }
        self.spoken = all.into_values().collect();
    }
}

/// The conversation, whenever it was seen.
pub(super) fn timeless(spoken: &Spoken) -> Spoken {
    Spoken { first_at_ms: None, last_at_ms: None, ..*spoken }
}

#[cfg(test)]
pub(super) mod tests {
    use proxy_api::{Flow, FlowState, Passed, Protocol, WayBytes};

    use super::*;

    /// A flow of web, alive.
    pub(crate) fn pinned(number: u64) -> PinnedFlow {
        let way = WayBytes { taken: 100, given: 100, owed: 0 };
        let port = u16::try_from(20_000 + number).unwrap();
        PinnedFlow {
            flow: Flow {
                id: FlowId { boot_us: 7, number },
                service: "shop".parse().unwrap(),
                protocol: Protocol::Tcp,
                client: ([198, 51, 100, 7], port).into(),
                vip: ([192, 0, 2, 10], 443).into(),
                backend: "b1".parse().unwrap(),
                vm: Some("web".parse().unwrap()),
                server: ([10, 9, 2, 1], 8443).into(),
                source: Some(([10, 9, 1, 1], port).into()),
                state: FlowState::Open,
                up: way,
                down: way,
                opened_at_ms: 10,
                last_bytes_at_ms: Some(20),
                closed_at_ms: None,
                owed_since_ms: None,
                stall_us_max: 5,
            },
            listed_at_ms: 50,
            passed_at_listing: Passed { up: 40, down: 40 },
            passed_at_pivot: Some(Passed { up: 90, down: 90 }),
            stall_us_since_listing: 5,
        }
    }

    /// All that a proxy has noted.
    pub(crate) fn page(as_of_ms: u64, flows: Vec<PinnedFlow>) -> PinnedPage {
        PinnedPage {
            epoch: Epoch::new(2),
            as_of_ms,
            flows,
            stragglers: Vec::new(),
            left_out: 0,
            more_after: None,
        }
    }

    fn told(as_of_ms: u64, numbers: &[u64]) -> Heard<Noted> {
        let flows = numbers.iter().map(|number| Word { as_of_ms, pinned: pinned(*number) });
        Heard::Told(Noted {
            as_of_ms,
            flows: flows.collect(),
            stragglers: Vec::new(),
            left_out: 0,
            legs: Vec::new(),
        })
    }

    #[test]
    fn a_flow_that_is_told_no_more_keeps_its_last_word() {
        let mut collected = Collected::default();
        let proxy = collected.proxy(&"a".parse().unwrap(), &"p1".parse().unwrap());
        proxy.hear(told(100, &[1, 2]), 1);
        proxy.hear(told(200, &[2]), 2);
        let words: Vec<u64> = proxy.flows.values().map(|word| word.as_of_ms).collect();
        assert_eq!((words, proxy.as_of_ms, proxy.told_at_ms), (vec![100, 200], Some(200), Some(2)));
        // It was restarted: what it said before stands.
        proxy.hear(Heard::Nothing("no flow was noted".to_owned()), 3);
        proxy.hear(Heard::Silent("no answer".to_owned()), 4);
        assert_eq!((proxy.flows.len(), proxy.as_of_ms, proxy.told_at_ms), (2, Some(200), Some(2)));
        assert_eq!(proxy.said, Said::Silent { because: "no answer".to_owned() });
    }

    #[test]
    fn conversations_that_fell_silent_stay() {
        let end = End {
            site: "a".parse().unwrap(),
            agent: "hv1".parse().unwrap(),
            address: ([127, 0, 0, 1], 1).into(),
            proxy: "p1".parse().unwrap(),
        };
        let spoken = |port, at_ms| Spoken {
            by: orchestrator_api::agent::Transport::Tcp,
            vm: [10, 9, 2, 1].into(),
            vm_port: port,
            peer: [10, 9, 21, 1].into(),
            peer_port: 5432,
            first_at_ms: Some(at_ms),
            last_at_ms: Some(at_ms),
        };
        let told = |port, at_ms, is_whole| {
            let spoken = vec![spoken(port, at_ms)];
            Heard::Told(Watched { since_s: Some(5), spoken, is_whole })
        };
        let mut collected = Collected::default();
        let agent = collected.agent(VmEnd::Source, &end);
        agent.hear(told(1, 5_000, false), 1);
        agent.hear(told(2, 6_000, true), 2);
        agent.hear(told(2, 7_000, true), 3);
        assert_eq!(
            agent.spoken,
            [spoken(1, 5_000), Spoken { last_at_ms: Some(7_000), ..spoken(2, 6_000) }]
        );
        assert!(!agent.is_whole);
        assert_eq!(collected.agents.len(), 1);
    }
}
