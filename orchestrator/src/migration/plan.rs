//! What a move would be like, found out without touching anything: whether it can be made, what each
//! network promises, and how long it might take.

use hypervisor::Hypervisor;
use orchestrator_api::{
    Estimate, Finding, HostView, Move, NetworkLevel, Place, Plan, PlannedNetwork, VmDefinition,
    VmView, Weight,
};
use placement::{End, Epoch, PartName, Seat};
use proxy_api::Tunnel;
use serde::{Deserialize, Serialize};

use super::parties::{Parties, ProxyPort};
use super::plan_names::names;

/// Free room that a target's disks must leave.
const DISK_SPARE_BYTES: u64 = 256 << 20;
/// Memory that a target's process takes beside the VM's own.
const MEMORY_SPARE_BYTES: u64 = 128 << 20;
/// Round trips of a pause: the mirror's drain, flush and end, and the last of memory. Measured at
/// 20 ms: 190 to 280 ms with nothing to send.
const PAUSE_ROUND_TRIPS: u64 = 10;
/// What a pause takes without any distance.
const PAUSE_BASE_MS: u64 = 40;

/// A plan, and what the move that follows from it goes by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surveyed {
    /// The verdict.
    pub plan: Plan,
    /// The highest epoch that anybody has seen.
    pub seen: Epoch,
}

impl Surveyed {
    /// What the VM is, if the move may be made.
    #[must_use]
    pub fn go(&self) -> Option<VmDefinition> {
        self.plan.definition.clone().filter(|_| self.plan.is_go())
    }
}

/// Looks at both ends of a move. What could not be asked forbids it: nothing is assumed.
pub async fn survey<P: Parties>(parties: &P, wanted: &Move) -> Surveyed {
    let (from, to) = (&wanted.pair.from, &wanted.pair.to);
    let mut findings = Vec::new();
    if from.is_same_agent(to) {
        let what = "the VM is there already".to_owned();
        findings.push(forbids(agent_name(to), what, "name another host"));
    }
    let source = ask(parties, from, wanted, &mut findings).await;
    let target = ask(parties, to, wanted, &mut findings).await;
    let tunnel = tunnel_between(parties, from, to, &mut findings).await;
    let known = names(parties, wanted, &mut findings).await;

    let view = source.as_ref().and_then(|asked| asked.vm.as_ref());
    let definition = view.and_then(|view| view.definition.clone());
    if source.is_some() {
        weigh_source(view, wanted, &mut findings);
    }
    if let Some(asked) = &target {
        weigh_target(asked.vm.as_ref(), to, &mut findings);
    }
    let mut networks = Vec::new();
    if let (Some(source), Some(target), Some(definition)) = (&source, &target, &definition) {
        weigh_hosts((&source.host, &target.host), to, definition, &mut findings);
        networks = levels((&source.host, &target.host), (from, to), definition, &mut findings);
        if wanted.options.hold {
            forbid_plain(&networks, definition, &mut findings);
        }
    }
    let estimate = definition.as_ref().map(|definition| estimate(definition, wanted, tunnel));
    let seen = [&source, &target].into_iter().flatten();
    let seen = seen.filter_map(|asked| asked.vm.as_ref()).map(|view| view.record.epoch).max();
    let seen = seen.max(known.seen);
    let plan = Plan {
        vm: wanted.vm.clone(),
        from: Place::from(from),
        to: Place::from(to),
        definition,
        findings,
        networks,
        names: known.names,
        estimate,
    };
    Surveyed { plan, seen: seen.unwrap_or(Epoch::NONE) }
}

/// What one end's agent told.
struct Asked {
    host: HostView,
    vm: Option<VmView>,
}

async fn ask<P: Parties>(
    parties: &P,
    end: &End,
    wanted: &Move,
    findings: &mut Vec<Finding>,
) -> Option<Asked> {
    let Some(agent) = parties.agent(end) else {
        let what = "is not known to the service".to_owned();
        findings.push(forbids(agent_name(end), what, "add it to the service's configuration"));
        return None;
    };
    let asked = match agent.host().await {
        Ok(host) => agent.vm(&wanted.vm).await.map(|vm| Asked { host, vm }),
        Err(trouble) => Err(trouble),
    };
    asked
        .map_err(|trouble| {
            let what = format!("cannot be asked: {}", daemon::with_causes(&trouble));
            findings.push(forbids(agent_name(end), what, "see that it runs, and the way to it"));
        })
        .ok()
}

/// The round trip between both proxies, in milliseconds, if the tunnel stands.
async fn tunnel_between<P: Parties>(
    parties: &P,
    from: &End,
    to: &End,
    findings: &mut Vec<Finding>,
) -> Option<u64> {
    let name = |end: &End| format!("proxy {} of site {}", end.proxy, end.site);
    for end in [from, to] {
        if parties.proxy(end).is_none() {
            let what = "is not known to the service".to_owned();
            findings.push(forbids(name(end), what, "add it to the service's configuration"));
        }
    }
    let told: Tunnel = match parties.proxy(from)?.tunnel().await {
        Ok(told) => told,
        Err(trouble) => {
            let what = format!("cannot be asked: {}", daemon::with_causes(&trouble));
            findings.push(forbids(name(from), what, "see that it runs, and the way to it"));
            return None;
        }
    };
    let is_far = |peer: &&proxy_api::TunnelPeer| {
        peer.identity.site == to.site && peer.identity.name == to.proxy
    };
    match told.peers.iter().find(is_far) {
        Some(peer) if peer.is_connected => Some(peer.rtt_us.unwrap_or(0).div_ceil(1_000)),
        Some(_) => {
            let what = format!("its tunnel to {} does not stand", name(to));
            findings.push(forbids(name(from), what, "see that both proxies run, and the WAN"));
            None
        }
        None => {
            let what = format!("has no tunnel to {}", name(to));
            findings.push(forbids(name(from), what, "add each to the other's [[tunnel.peer]]"));
            None
        }
    }
}

fn weigh_source(view: Option<&VmView>, wanted: &Move, findings: &mut Vec<Finding>) {
    let thing = format!("VM {}", wanted.vm);
    let Some(view) = view else {
        let what = format!("{} has no record of it", agent_name(&wanted.pair.from));
        findings.push(forbids(thing, what, "see `causeway vm list` for where it runs"));
        return;
    };
    if !view.record.seat.is_here() {
        let what = format!("does not run at {} for good", agent_name(&wanted.pair.from));
        findings.push(forbids(thing.clone(), what, "let its last move end first"));
    }
    if view.definition.is_none() {
        let what = "its agent keeps no definition of it".to_owned();
        findings.push(forbids(thing, what, "see the agent's state folder"));
    }
}

fn weigh_target(view: Option<&VmView>, to: &End, findings: &mut Vec<Finding>) {
    let Some(view) = view else { return };
    if !matches!(view.record.seat, Seat::None | Seat::Gone { .. }) {
        let what = "has the VM already".to_owned();
        findings.push(forbids(agent_name(to), what, "let the VM's last move end first"));
    }
}

fn weigh_hosts(
    (from, target): (&HostView, &HostView),
    to: &End,
    definition: &VmDefinition,
    findings: &mut Vec<Finding>,
) {
    let thing = agent_name(to);
    let mut forbid = |what: String, remedy: &str| {
        findings.push(forbids(thing.clone(), what, remedy));
    };
    let disks: u64 = definition.disks.iter().map(|disk| disk.bytes).sum();
    if target.disk_free_bytes < disks.saturating_add(DISK_SPARE_BYTES) {
        let what = format!(
            "has {} MB free for disks, and the VM's take {} MB",
            target.disk_free_bytes >> 20,
            disks >> 20
        );
        forbid(what, "make room in its folder of disks");
    }
    let memory = definition.memory_kib.saturating_mul(1024);
    if target.memory_free_bytes < memory.saturating_add(MEMORY_SPARE_BYTES) {
        let free = target.memory_free_bytes >> 20;
        let what = format!("has {free} MB of memory free, and the VM has {} MB", memory >> 20);
        forbid(what, "stop something there, or choose another host");
    }
    if from.accelerator != target.accelerator {
        let what = "runs guests in another way than the source does".to_owned();
        forbid(what, "set the same qemu.accelerator at both");
    }
    let missing = from
        .processor_features
        .iter()
        .filter(|feature| target.processor_features.binary_search(feature).is_err());
    let missing: Vec<&str> = missing.map(String::as_str).collect();
    if !missing.is_empty() {
        let what = format!("its processor lacks {}", missing.join(", "));
        forbid(what, "choose a host whose processor can do as much");
    }
    if !target.machines.contains(&definition.machine) {
        let what = "cannot make the VM's machine type".to_owned();
        forbid(what, "install a QEMU that knows it");
    }
    if !target.images.contains(&definition.boot.image) {
        let what = format!("has no image {}", definition.boot.image);
        forbid(what, "add it to the agent's [[image]]");
    }
}

fn levels(
    (source, target): (&HostView, &HostView),
    (from, to): (&End, &End),
    definition: &VmDefinition,
    findings: &mut Vec<Finding>,
) -> Vec<PlannedNetwork> {
    let mut planned: Vec<PlannedNetwork> = Vec::new();
    for name in definition.cards.iter().map(|card| &card.network) {
        if planned.iter().any(|known| known.network == *name) {
            continue;
        }
        let hold = |host: &HostView, end: &End, findings: &mut Vec<Finding>| {
            let found = host.networks.iter().find(|network| network.name == *name);
            if found.is_none() {
                let what = format!("has no network {name}");
                findings.push(forbids(agent_name(end), what, "add it to the agent's [[network]]"));
            }
            found.is_some_and(|network| network.can_hold)
        };
        let (at_source, at_target) = (hold(source, from, findings), hold(target, to, findings));
        let level = if at_source && at_target { NetworkLevel::Port } else { NetworkLevel::Plain };
        planned.push(PlannedNetwork { network: name.clone(), level });
    }
    planned
}

/// A hold was asked for, and one of the networks cannot have one.
fn forbid_plain(
    networks: &[PlannedNetwork],
    definition: &VmDefinition,
    findings: &mut Vec<Finding>,
) {
    if definition.cards.len() > 1 {
        let thing = format!("VM {}", definition.name);
        let what = format!("has {} network cards, and packets follow one", definition.cards.len());
        findings.push(forbids(
            thing,
            what,
            "order it with --no-hold, which breaks its connections",
        ));
    }
    let plain = networks.iter().filter(|network| network.level == NetworkLevel::Plain);
    for PlannedNetwork { network, .. } in plain {
        let what = "packets cannot be kept back at both ends".to_owned();
        let remedy =
            "give both agents their proxy's address, or order --no-hold, which breaks connections";
        findings.push(forbids(network_name(network), what, remedy));
    }
}

fn estimate(definition: &VmDefinition, wanted: &Move, rtt_ms: Option<u64>) -> Estimate {
    let disk_bytes: u64 = definition.disks.iter().map(|disk| disk.bytes).sum();
    let memory_bytes = definition.memory_kib.saturating_mul(1024);
    let pace = wanted.options.pace_bytes_per_s.max(1);
    let copy_ms = disk_bytes.saturating_add(memory_bytes).saturating_mul(1_000) / pace;
    let rtt = rtt_ms.unwrap_or(0);
    let pause_ms = PAUSE_BASE_MS + PAUSE_ROUND_TRIPS * rtt;
    let mut assumed = vec![
        format!("disks and memory are full, and go over once at {} MB/s", pace / 1_000_000),
        "the VM writes less than the tunnel carries".to_owned(),
    ];
    match rtt_ms {
        Some(rtt) => assumed.push(format!("round trip between the proxies {rtt} ms")),
        None => assumed.push("no distance between the sites: it is not known".to_owned()),
    }
    Estimate {
        total_ms: copy_ms.saturating_add(pause_ms),
        pause_ms,
        disk_bytes,
        memory_bytes,
        assumed,
    }
}

fn forbids(thing: String, what: String, remedy: &str) -> Finding {
    Finding { weight: Weight::Forbids, thing, what, remedy: remedy.to_owned() }
}

fn agent_name(end: &End) -> String {
    format!("agent {} of site {}", end.agent, end.site)
}

fn network_name(network: &PartName) -> String {
    format!("network {network}")
}
