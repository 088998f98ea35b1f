//! What moves have left where VMs were: obligations of the placement's history, not of a move that
//! runs. Each completed move owes its old place back, until an operator has it given back; meanwhile
//! it is told how far it has drained.

use std::sync::Arc;

use daemon::state::StateError;
use orchestrator_api::Place;
use orchestrator_api::operator::{
    Drain, FlowAt, LeftDisk, MoveId, MoveReclaimed, MoveState, ReclaimVm, UnaskedProxy, VmReclaimed,
};
use placement::{End, Epoch, Identity, Release, VmName};
use tokio::task::{JoinError, spawn_blocking};

use super::clock::unix_ms;
use super::flows::live_of;
use super::moves::Shared;
use super::places::{self, PlaceError};
use super::reclaimed::Given;
use super::table::Entry;
use crate::migration::home::HomeError;
use crate::migration::reclaim::{BrokenOff, Leftover, Manner, ReclaimError, reclaim};
use crate::migration::{Parties, ProxyPort};

/// Pages of stragglers that one proxy is asked for: somewhat more than it ever notes.
const PAGES_MAX: usize = 128;

/// Why nothing is given back, or not all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreclaimed {
    /// About the VM.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A move of it has not ended.
    #[error("VM {vm} is being moved by {under_way}; wait for its end, then reclaim")]
    UnderWay {
        /// Which VM.
        vm: VmName,
        /// By which move.
        under_way: MoveId,
    },
    /// Another call does so, or orders a move.
    #[error("what VM {0} left is being given back, or a move of it begins; ask again in a moment")]
    Busy(VmName),
    /// Nothing waits.
    #[error("nothing that VM {vm} left waits to be given back{already}; see `causeway status`")]
    Nothing {
        /// Which VM.
        vm: VmName,
        /// What was given back before, in words.
        already: String,
    },
    /// No completed move has this release.
    #[error("no completed move of VM {vm} is of release {release}; there are: {known}")]
    UnknownRelease {
        /// Which VM.
        vm: VmName,
        /// What was asked for.
        release: Epoch,
        /// Those that there are.
        known: String,
    },
    /// It cannot be, or somebody did not do it.
    #[error("{at}, which {id} left, is not given back")]
    Refused {
        /// Which move.
        id: MoveId,
        /// Where.
        at: Place,
        /// Why.
        #[source]
        source: ReclaimError,
    },
    /// Nothing else is left, and it does not speak for itself yet.
    #[error("every place that VM {vm} left is given back, but it is not at home at {at} yet")]
    NotHome {
        /// Which VM.
        vm: VmName,
        /// Where it runs.
        at: Place,
        /// Why.
        #[source]
        source: HomeError,
    },
    /// It is done, and not on our disk.
    #[error("it is done, and cannot be written down")]
    NotKept(#[from] StateError),
    /// A thread of ours ended.
    #[error("the service ends")]
    Ending(#[from] JoinError),
}

/// A completed move, and what it left.
pub(super) struct Left {
    pub(super) id: MoveId,
    pub(super) entry: Arc<Entry>,
    pub(super) release: Release,
    /// Under which it told its parties last.
    pub(super) epoch: Epoch,
}

impl Left {
    fn from(&self) -> &End {
        &self.entry.ordered.wanted.pair.from
    }

    fn at(&self) -> Place {
        Place::from(self.from())
    }
}

impl Shared {
    /// Gives back what moves of a VM left, the oldest first.
    pub(crate) async fn reclaim(
        &self,
        by: &Identity,
        vm: &VmName,
        wish: &ReclaimVm,
    ) -> Result<VmReclaimed, Unreclaimed> {
        let _alone = self.reclaiming.begin(vm).ok_or_else(|| Unreclaimed::Busy(vm.clone()))?;
        if let Some(under_way) = self.table.under_way(vm) {
            return Err(Unreclaimed::UnderWay { vm: vm.clone(), under_way });
        }
        let all = self.left_by(vm);
        let Some(home) = all.last().map(|left| left.entry.ordered.wanted.pair.to.clone()) else {
            return Err(self.nothing(vm, &all).await);
        };
        let meant = |left: &&Left| wish.release.is_none_or(|of| of == left.release.epoch);
        let of_wish: Vec<&Left> = all.iter().filter(meant).collect();
        if let (Some(release), true) = (wish.release, of_wish.is_empty()) {
            let known = all.iter().map(|left| format!("{} ({})", left.release.epoch, left.id));
            let known = known.collect::<Vec<_>>().join(", ");
            return Err(Unreclaimed::UnknownRelease { vm: vm.clone(), release, known });
        }
        let mut reclaimed = Vec::new();
        for left in of_wish {
            match self.given_back.of(&left.id) {
                Some(given) if given.key == wish.key => reclaimed.push(given.done),
                Some(given) if is_all(&given, wish.keep_disk) => {}
                _ => reclaimed.push(self.give_back(by, left, &home, wish).await?),
            }
        }
        let home = self.come_home(by, &all, wish.force).await?;
        let is_news = home.as_ref().is_some_and(|(_, is_news)| *is_news);
        if reclaimed.is_empty() && !is_news {
            return Err(self.nothing(vm, &all).await);
        }
        Ok(VmReclaimed { vm: vm.clone(), reclaimed, home: home.map(|(home, _)| home) })
    }

    /// How far places that VMs have left are drained: of one VM, or of all.
    pub(crate) async fn drains(&self, vm: Option<&VmName>) -> Vec<Drain> {
        let mut vms = self.table.vms();
        vms.retain(|known| vm.is_none_or(|vm| vm == known));
        let mut drains = Vec::new();
        for vm in vms {
            let all = self.left_by(&vm);
            let Some(home) = all.last().map(|left| left.entry.ordered.wanted.pair.to.clone())
            else {
                continue;
            };
            for left in all.iter().filter(|left| self.given_back.of(&left.id).is_none()) {
                drains.push(self.drain_of(left, &home).await);
            }
        }
        drains
    }

    /// Every completed move of a VM, the oldest first.
    fn left_by(&self, vm: &VmName) -> Vec<Left> {
        let of_vm = self.table.of(vm).into_iter();
        let left = of_vm.filter_map(|(id, entry)| {
            let view = entry.view();
            let (epoch, release) = (view.epoch?, entry.release()?);
            (view.state == MoveState::Completed).then_some(Left { id, entry, release, epoch })
        });
        left.collect()
    }

    async fn give_back(
        &self,
        by: &Identity,
        left: &Left,
        home: &End,
        wish: &ReclaimVm,
    ) -> Result<MoveReclaimed, Unreclaimed> {
        // Its proxies forget with it what they noted for the ledger.
        if let Err(error) = self.collect_for(&left.id, &left.entry).await {
            let why = daemon::with_causes(&error);
            tracing::warn!(id = %left.id, why, "what proxies noted of a move is not kept");
        }
        let of = Leftover {
            vm: &left.id.vm,
            from: left.from(),
            release: &left.release,
            epoch: left.epoch,
            home,
        };
        let manner = Manner { force: wish.force, keep_disk: wish.keep_disk };
        let mut broken_off = Vec::new();
        let done = reclaim(self.parties(), self.owner(), of, manner, &mut broken_off).await;
        let (id, at) = (left.id.clone(), left.at());
        for BrokenOff { site, proxy, flow } in &broken_off {
            tracing::warn!(%id, %site, %proxy, %flow, "a flow was broken off for a reclaim");
        }
        let source_of = |source| Unreclaimed::Refused { id: id.clone(), at: at.clone(), source };
        done.map_err(source_of)?;
        let release = left.release.epoch;
        let disk = match wish.keep_disk {
            true => LeftDisk::Kept { name: format!("{}.moved-{release}", id.vm) },
            false => LeftDisk::Deleted,
        };
        let broken_off = broken_off.into_iter().map(told).collect();
        let (at_unix_ms, by) = (unix_ms(), by.to_string());
        let done = MoveReclaimed { id, release, at, disk, broken_off, at_unix_ms, by };
        let (shared, given) = (self.clone(), Given { key: wish.key.clone(), done: done.clone() });
        spawn_blocking(move || shared.given_back.keep(&given.done.id.clone(), given)).await??;
        tracing::info!(by = done.by, id = %done.id, at = %done.at, "reclaimed");
        Ok(done)
    }

    /// Nothing waits, in words that say why.
    async fn nothing(&self, vm: &VmName, all: &[Left]) -> Unreclaimed {
        if all.is_empty()
            && let Err(error @ PlaceError::UnknownVm(_)) = places::look(self).await.home_of(vm)
        {
            return error.into();
        }
        let before = all.iter().filter_map(|left| self.given_back.of(&left.id));
        let before: Vec<String> =
            before.map(|given| format!("{} of {}", given.done.at, given.done.id)).collect();
        let already = if before.is_empty() {
            ", for no move of it has completed".to_owned()
        } else {
            format!(": {} was before", before.join(", "))
        };
        Unreclaimed::Nothing { vm: vm.clone(), already }
    }

    async fn drain_of(&self, left: &Left, home: &End) -> Drain {
        let from = left.from();
        let mut drain = Drain {
            id: left.id.clone(),
            release: left.release.epoch,
            at: left.at(),
            pinned: 0,
            stragglers: 0,
            oldest_at_unix_ms: None,
            last_bytes_at_unix_ms: None,
            as_of_unix_ms: unix_ms(),
            unasked: Vec::new(),
        };
        for ((site, name), proxy) in self.parties().proxies() {
            // Where the VM is home again, its flows are those of everybody.
            let is_home = *site == home.site && *name == home.proxy;
            if *site != from.site || is_home {
                continue;
            }
            let asked = async {
                let live = live_of(proxy, Some(&left.id.vm)).await?;
                let late = if live.is_empty() {
                    Vec::new()
                } else {
                    stragglers(proxy, &left.id.vm, left.epoch).await
                };
                Ok::<_, hypervisor::CallTrouble>((live, late))
            };
            match asked.await {
                Ok((live, late)) => {
                    for flow in live {
                        let is_late = late.contains(&flow.id);
                        *if is_late { &mut drain.stragglers } else { &mut drain.pinned } += 1;
                        let oldest = drain.oldest_at_unix_ms.into_iter().chain([flow.opened_at_ms]);
                        drain.oldest_at_unix_ms = oldest.min();
                        drain.last_bytes_at_unix_ms =
                            drain.last_bytes_at_unix_ms.max(flow.last_bytes_at_ms);
                    }
                }
                Err(trouble) => {
                    let (site, proxy) = (site.clone(), name.clone());
                    let why = daemon::with_causes(&trouble);
                    drain.unasked.push(UnaskedProxy { site, proxy, why });
                }
            }
        }
        drain
    }
}

/// Whether nothing is left for a call that keeps the disk, or does not.
fn is_all(given: &Given, keep_disk: bool) -> bool {
    keep_disk || given.done.disk == LeftDisk::Deleted
}

fn told(flow: BrokenOff) -> FlowAt {
    let BrokenOff { site, proxy, flow } = flow;
    FlowAt { site, proxy, flow: flow.to_string() }
}

/// Flows that began after the VM had left, as the proxy noted them; a restarted one has forgotten.
async fn stragglers<X: ProxyPort>(proxy: &X, vm: &VmName, epoch: Epoch) -> Vec<proxy_api::FlowId> {
    let (mut found, mut after) = (Vec::new(), None);
    for _ in 0..PAGES_MAX {
        let Ok(page) = proxy.cutover(vm, epoch, after).await else { break };
        found.extend(page.stragglers.into_iter().map(|straggler| straggler.flow));
        after = page.more_after;
        if after.is_none() {
            break;
        }
    }
    found
}
