//! Where VMs run, as their agents say, and how one comes into the world. Nothing of it is remembered
//! here: the agents' records are the truth, and who could not be asked is named.

use std::collections::BTreeMap;

use hypervisor::{CallTrouble, Hypervisor};
use orchestrator_api::operator::{
    MoveId, Sighting, StartVm, Unasked, VmPlace, VmPlaces, VmStarted,
};
use orchestrator_api::{OrderKey, OrderRequest, Place, VmView};
use placement::{Answer, Command, Epoch, Owner, PartName, SiteName, VmName};
use tokio::task::JoinSet;

use super::config::Config;
use super::moves::Shared;

/// Why a VM is not started, or not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// No such site.
    #[error("site {0} is not known to this service; see `causeway serve check` for those it knows")]
    UnknownSite(SiteName),
    /// No such agent.
    #[error("site {site} has no agent {agent}; see `causeway serve check` for those it has")]
    UnknownAgent {
        /// The site.
        site: SiteName,
        /// The agent.
        agent: PartName,
    },
    /// Several agents, and none named.
    #[error("site {site} has {count} agents; name one of them with --agent")]
    WhichAgent {
        /// The site.
        site: SiteName,
        /// How many.
        count: usize,
    },
    /// Nobody has a record of the VM.
    #[error("VM {0} is not known to any agent; see `causeway vm list`")]
    UnknownVm(VmName),
    /// It runs nowhere for good.
    #[error("VM {vm} runs nowhere for good ({seen}); let its last move end, see `causeway status`")]
    Nowhere {
        /// Which.
        vm: VmName,
        /// What agents say.
        seen: String,
    },
    /// An agent that may have a record could not be asked.
    #[error("{}; see that they run, {remedy}", unreached(.unasked))]
    Unasked {
        /// Which.
        unasked: Vec<Unasked>,
        /// What else can be done.
        remedy: &'static str,
    },
    /// The VM has a record already.
    #[error("VM {vm} is known at {at}; move it with `causeway move`, or choose another name")]
    Exists {
        /// Which.
        vm: VmName,
        /// Where.
        at: Place,
    },
    /// Another call starts it at this moment.
    #[error("VM {0} is being started by another call; see `causeway vm list` in a moment")]
    BeingStarted(VmName),
    /// The agent did not place it.
    #[error("VM {vm} was not started at {at}")]
    NotPlaced {
        /// Which.
        vm: VmName,
        /// Where.
        at: Place,
        /// In its words.
        #[source]
        source: Box<CallTrouble>,
    },
    /// The agent answered something else.
    #[error("agent {at} answered something else than was asked; are both of one version?")]
    Odd {
        /// Which.
        at: Place,
    },
}

fn unreached(unasked: &[Unasked]) -> String {
    let named: Vec<String> =
        unasked.iter().map(|unasked| format!("agent {}: {}", unasked.at, unasked.why)).collect();
    named.join("; ")
}

/// What agents told, and who told nothing.
pub(crate) struct Seen {
    views: BTreeMap<Place, Vec<VmView>>,
    unasked: Vec<Unasked>,
}

/// Asks all agents at once; each has its own bound.
pub(crate) async fn look(shared: &Shared) -> Seen {
    let mut asking = JoinSet::new();
    for (place, _) in shared.parties().agents() {
        let (place, shared) = (place.clone(), shared.clone());
        asking.spawn(async move {
            let told = match shared.parties().agent_at(&place) {
                Some(agent) => agent.vms().await,
                None => Ok(Vec::new()),
            };
            (place, told)
        });
    }
    let mut seen = Seen { views: BTreeMap::new(), unasked: Vec::new() };
    while let Some(asked) = asking.join_next().await {
        match asked {
            Ok((place, Ok(views))) => {
                seen.views.insert(place, views);
            }
            Ok((at, Err(trouble))) => {
                let why = daemon::with_causes(&trouble);
                seen.unasked.push(Unasked { at, why });
            }
            Err(error) => tracing::error!(%error, "asking an agent panicked; report it"),
        }
    }
    seen.unasked.sort_by(|one, other| one.at.cmp(&other.at));
    seen
}

impl Seen {
    /// Every VM, as operators see it.
    pub(crate) fn told(self, under_way: impl Fn(&VmName) -> Option<MoveId>) -> VmPlaces {
        let mut vms: BTreeMap<VmName, VmPlace> = BTreeMap::new();
        for (at, views) in self.views {
            for view in views {
                let vm = view.record.vm.clone();
                let place = vms.entry(vm.clone()).or_insert_with(|| VmPlace {
                    vm: vm.clone(),
                    runs_at: None,
                    epoch: Epoch::NONE,
                    sightings: Vec::new(),
                    mover: under_way(&vm),
                });
                let sighting = sighting(at.clone(), &view);
                if sighting.seat.runs() {
                    place.runs_at = Some(at.clone());
                }
                place.epoch = place.epoch.max(sighting.epoch);
                place.sightings.push(sighting);
            }
        }
        VmPlaces { vms: vms.into_values().collect(), unasked: self.unasked }
    }

    /// Where one VM runs for good: a move begins only there.
    pub(crate) fn home_of(&self, vm: &VmName) -> Result<Place, PlaceError> {
        let records = self.of(vm);
        if let Some((place, _)) = records.iter().find(|(_, view)| view.record.seat.is_here()) {
            return Ok((*place).clone());
        }
        if !self.unasked.is_empty() {
            let remedy = "and order the move again";
            return Err(PlaceError::Unasked { unasked: self.unasked.clone(), remedy });
        }
        if records.is_empty() {
            return Err(PlaceError::UnknownVm(vm.clone()));
        }
        let seen = records.iter().map(|(place, view)| {
            let seat = sighting((*place).clone(), view).seat;
            format!("{place}: {seat:?}")
        });
        let seen = seen.collect::<Vec<_>>().join(", ");
        Err(PlaceError::Nowhere { vm: vm.clone(), seen })
    }

    fn of(&self, vm: &VmName) -> Vec<(&Place, &VmView)> {
        let all = self
            .views
            .iter()
            .flat_map(|(place, views)| views.iter().map(move |view| (place, view)));
        all.filter(|(_, view)| view.record.vm == *vm).collect()
    }
}

/// The host that an operator means by a site, and perhaps an agent.
pub(crate) fn meant(
    config: &Config,
    site: &SiteName,
    agent: Option<&PartName>,
) -> Result<Place, PlaceError> {
    let known = config.site(site).ok_or_else(|| PlaceError::UnknownSite(site.clone()))?;
    let agent = match (agent, &known.agents[..]) {
        (None, [only]) => only.part.name.clone(),
        (None, several) => {
            return Err(PlaceError::WhichAgent { site: site.clone(), count: several.len() });
        }
        (Some(agent), agents) => {
            if !agents.iter().any(|known| known.part.name == *agent) {
                let (site, agent) = (site.clone(), agent.clone());
                return Err(PlaceError::UnknownAgent { site, agent });
            }
            agent.clone()
        }
    };
    Ok(Place { site: site.clone(), agent })
}

/// The first start of a VM. Said again, it finds the VM there.
pub(crate) async fn start(
    shared: &Shared,
    config: &Config,
    owner: &Owner,
    wish: &StartVm,
) -> Result<VmStarted, PlaceError> {
    let vm = &wish.definition.name;
    let at = meant(config, &wish.site, wish.agent.as_ref())?;
    let _alone = shared.starting.begin(vm).ok_or_else(|| PlaceError::BeingStarted(vm.clone()))?;
    let seen = look(shared).await;
    if let Some((known, view)) = seen.of(vm).first() {
        let is_this = **known == at
            && view.record.epoch == Epoch::FIRST
            && view.record.seat.is_here()
            && view.definition.as_ref() == Some(&wish.definition);
        if is_this {
            // Its agent may have died between the record and the boot: what it wrote down names the
            // order that it still owes.
            if let (true, Some(owed)) = (view.processes.is_empty(), view.record.seat.incarnation())
            {
                place(shared, &owed.made_by.owner, wish, &at).await?;
            }
            return Ok(VmStarted { vm: vm.clone(), at, vouched_for: Vec::new() });
        }
        return Err(PlaceError::Exists { vm: vm.clone(), at: (*known).clone() });
    }
    let target_is_silent = seen.unasked.iter().any(|unasked| unasked.at == at);
    if !seen.unasked.is_empty() && (!wish.is_new || target_is_silent) {
        let remedy = "or vouch with --new that none of them has ever had this VM";
        return Err(PlaceError::Unasked { unasked: seen.unasked, remedy });
    }
    place(shared, owner, wish, &at).await?;
    Ok(VmStarted { vm: vm.clone(), at, vouched_for: seen.unasked })
}

async fn place(
    shared: &Shared,
    owner: &Owner,
    wish: &StartVm,
    at: &Place,
) -> Result<(), PlaceError> {
    let vm = &wish.definition.name;
    let key = OrderKey {
        vm: vm.clone(),
        epoch: Epoch::FIRST,
        owner: Some(owner.clone()),
        step: "place".parse().expect("a name"),
        attempt: 1,
    };
    let command = Command::Place { owner: owner.clone() };
    let definition = Some(Box::new(wish.definition.clone()));
    let agent = shared.parties().agent_at(at).ok_or_else(|| PlaceError::Odd { at: at.clone() })?;
    match agent.order(&OrderRequest { key, command, definition }).await {
        Ok(Answer::Runs) => Ok(()),
        Ok(_) => Err(PlaceError::Odd { at: at.clone() }),
        Err(source) => {
            let source = Box::new(source);
            Err(PlaceError::NotPlaced { vm: vm.clone(), at: at.clone(), source })
        }
    }
}

fn sighting(at: Place, view: &VmView) -> Sighting {
    Sighting {
        at,
        epoch: view.record.epoch,
        seat: (&view.record.seat).into(),
        processes: view.processes.iter().map(|process| process.does).collect(),
        copy: view.progress.as_ref().map(|progress| progress.phase),
    }
}
