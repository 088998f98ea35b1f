//! Moves under way: each a saga with a task that drives it, over any number of stops, until it has
//! ended.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use orchestrator_api::operator::{AbortMove, BeginMove, MoveId};
use orchestrator_api::{Move, Place, Plan};
use placement::{Identity, Owner, Pair, VmName};
use saga::journal::{Journal, JournalError};
use saga::{AbortRefused, Driven, Event, OpenError, Runner, SagaName, Stopped, Wait, Workflow};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::clock::{MachineClock, unix_ms};
use super::config::Config;
use super::dial::TlsDial;
use super::ordered::{AsOrdered, Ordered};
use super::places::{self, PlaceError};
use super::reclaimed::{GivenBack, Homes};
use super::reporting::Reports;
use super::starting::Starting;
use super::table::{Entry, Table};
use super::telling::Telling;
use crate::migration::{Dialled, MoveVm, survey};
use crate::report::Figures;

/// How long an abort waits for a move's driver to come back to it.
const DRIVER_MAX: Duration = Duration::from_secs(10);

type Flow = AsOrdered<MoveVm<Dialled<TlsDial>>>;

/// What all moves share, wherever it is handed.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    workflow: Flow,
    journal: Arc<dyn Journal>,
    pub(crate) table: Arc<Table>,
    pub(crate) reports: Reports,
    pub(crate) given_back: GivenBack,
    pub(crate) homes: Homes,
    /// One order at a time: a VM has one move, and each a name of its own.
    ordering: Mutex<()>,
    /// VMs that are being started.
    pub(crate) starting: Starting,
    /// VMs of which something is given back, or a move begins: never both at once.
    pub(crate) reclaiming: Starting,
}

impl Deref for Shared {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("table", &self.table).finish_non_exhaustive()
    }
}

/// Why a move is not begun, or not called off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MoveError {
    /// About the places.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Another move of this VM has not ended.
    #[error("VM {vm} is being moved by {under_way}; wait for its end, or `causeway abort` it")]
    UnderWay {
        /// Which VM.
        vm: VmName,
        /// Which move.
        under_way: MoveId,
    },
    /// What it left is being given back.
    #[error("what VM {0} left elsewhere is being given back; order the move again in a moment")]
    BeingReclaimed(VmName),
    /// It runs there.
    #[error("VM {vm} runs at {at} already; name another site or host")]
    There {
        /// Which VM.
        vm: VmName,
        /// Where.
        at: Place,
    },
    /// The key is another order's.
    #[error("this key began {0}, which is another move; give each order a key of its own")]
    KeyReused(MoveId),
    /// The saga cannot be opened.
    #[error("the move cannot be put into the journal")]
    Open(#[from] OpenError),
    /// No such move.
    #[error("there is no move {0}; see `causeway status` for those there are")]
    Unknown(MoveId),
    /// It is over.
    #[error("move {0} has ended; see `causeway status {0}` for how")]
    Ended(MoveId),
    /// Too late, or nobody there.
    #[error(transparent)]
    Abort(#[from] AbortRefused),
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        mover: MoveVm<Dialled<TlsDial>>,
        journal: Arc<dyn Journal>,
        table: Arc<Table>,
        (reports, given_back, homes): (Reports, GivenBack, Homes),
    ) -> Shared {
        let workflow = AsOrdered(mover);
        let ordering = Mutex::new(());
        Shared(Arc::new(Inner {
            config,
            workflow,
            journal,
            table,
            reports,
            given_back,
            homes,
            ordering,
            starting: Starting::default(),
            reclaiming: Starting::default(),
        }))
    }

    /// Whom moves can talk to.
    pub(crate) fn parties(&self) -> &Dialled<TlsDial> {
        &self.workflow.0.parties
    }

    /// In whose name they are spoken to.
    pub(crate) fn owner(&self) -> &Owner {
        &self.workflow.0.owner
    }

    /// Where moves' records lie.
    pub(crate) fn journal(&self) -> &dyn Journal {
        &*self.journal
    }

    /// Begins a move, which is in the journal when this returns.
    pub(crate) async fn begin(&self, by: &Identity, wish: &BeginMove) -> Result<MoveId, MoveError> {
        let _alone = self.ordering.lock().await;
        if let Some((id, entry)) = self.table.begun_by(&wish.key) {
            let earlier = &entry.ordered.wanted;
            let same = earlier.vm == wish.vm && earlier.pair.to.site == wish.site;
            return if same { Ok(id) } else { Err(MoveError::KeyReused(id)) };
        }
        let _unclaimed = self
            .reclaiming
            .begin(&wish.vm)
            .ok_or_else(|| MoveError::BeingReclaimed(wish.vm.clone()))?;
        if let Some(under_way) = self.table.under_way(&wish.vm) {
            return Err(MoveError::UnderWay { vm: wish.vm.clone(), under_way });
        }
        let to = places::meant(&self.config, &wish.site, wish.agent.as_ref())?;
        let wanted = self.wanted(&wish.vm, &to, wish.options).await?;
        let ordered = Ordered { key: wish.key.clone(), by: by.clone(), wanted };
        let id = self.table.next_of(&wish.vm);
        self.open(id.clone(), ordered).await?;
        Ok(id)
    }

    /// What a move would be like.
    pub(crate) async fn plan(
        &self,
        vm: &VmName,
        to: &Place,
        options: orchestrator_api::MoveOptions,
    ) -> Result<Plan, MoveError> {
        let wanted = self.wanted(vm, to, options).await?;
        Ok(survey(self.parties(), &wanted).await.plan)
    }

    /// Promises that a move is undone, or says why not.
    pub(crate) async fn abort(
        &self,
        by: &Identity,
        id: &MoveId,
        wish: &AbortMove,
    ) -> Result<(), MoveError> {
        let entry = self.table.get(id).ok_or_else(|| MoveError::Unknown(id.clone()))?;
        if entry.view().state.has_ended() {
            return Err(MoveError::Ended(id.clone()));
        }
        let mut driver = entry.control.subscribe();
        entry.wake.notify_one();
        // In a statement of its own: what is looked at must not be kept over the next wait.
        let driven = timeout(DRIVER_MAX, driver.wait_for(Option::is_some)).await;
        let control = driven.ok().and_then(|seen| seen.ok().and_then(|control| control.clone()));
        let control = control.ok_or(AbortRefused::NotDriven)?;
        let why = wish.reason.as_deref().unwrap_or("no reason given");
        let words = format!("{by}: {why}");
        // It is told once it is asked, for the answer may take as long as the step under way.
        let telling = async { entry.tell(|telling| telling.abort_asked(&words)) };
        let (promised, ()) = tokio::join!(biased; control.abort(words.clone()), telling);
        Ok(promised?)
    }

    /// Goes on with everything that the journal holds, and tells of what has ended.
    pub(crate) async fn take_up(&self) -> Result<usize, JournalError> {
        let mut taken_up = 0;
        for found in self.journal.list().await? {
            let Ok(id) = found.saga.as_str().parse::<MoveId>() else {
                tracing::warn!(saga = %found.saga, "not a move of ours; it is left alone");
                continue;
            };
            let records = self.journal.read(&found.saga).await?;
            let Some(entry) = told(&id, &records, &self.reports.figures(&id)) else {
                tracing::warn!(saga = %found.saga, "not readable as a move; it is left alone");
                continue;
            };
            let entry = Arc::new(entry);
            self.table.put(id.clone(), Arc::clone(&entry));
            if !entry.view().state.has_ended() {
                taken_up += 1;
                tokio::spawn(self.clone().attend(id, Arc::clone(&entry)));
                tokio::spawn(self.clone().keep_driving(found.saga, entry, None));
            }
        }
        self.collect_missed();
        Ok(taken_up)
    }

    async fn wanted(
        &self,
        vm: &VmName,
        to: &Place,
        options: orchestrator_api::MoveOptions,
    ) -> Result<Move, MoveError> {
        let from = places::look(self).await.home_of(vm)?;
        if from == *to {
            return Err(MoveError::There { vm: vm.clone(), at: from });
        }
        let end = |place: &Place| {
            let (site, agent) = (place.site.clone(), place.agent.clone());
            self.config.end(place).ok_or(PlaceError::UnknownAgent { site, agent })
        };
        let pair = Pair { from: end(&from)?, to: end(to)? };
        Ok(Move { vm: vm.clone(), pair, options })
    }

    async fn open(&self, id: MoveId, ordered: Ordered) -> Result<(), MoveError> {
        let name = SagaName::new(id.to_string()).expect("a move's name is one of a saga");
        let telling = Telling::new(id.clone(), &ordered, unix_ms());
        let entry = Arc::new(Entry::new(ordered.clone(), telling, &Figures::default()));
        let (opened, open) = tokio::sync::oneshot::channel();
        let (shared, of_task) = (self.clone(), Arc::clone(&entry));
        let saga = name.clone();
        tokio::spawn(async move {
            let runner = shared.runner(&of_task);
            match runner.open(&shared.workflow, saga.clone(), ordered).await {
                Ok(driven) => {
                    // Whoever has gone learns by its key.
                    let _ = opened.send(Ok(()));
                    let stopped = shared.drive(driven, &of_task).await;
                    shared.clone().keep_driving(saga, Arc::clone(&of_task), stopped).await;
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        });
        self.table.put(id.clone(), Arc::clone(&entry));
        let result = open.await.unwrap_or(Err(OpenError::Unknown(name)));
        match &result {
            Ok(()) => drop(tokio::spawn(self.clone().attend(id, entry))),
            Err(_) => self.table.remove(&id),
        }
        Ok(result?)
    }

    fn runner(&self, entry: &Arc<Entry>) -> Runner {
        let watcher: Arc<Entry> = Arc::clone(entry);
        Runner::new(Arc::clone(&self.journal), Arc::new(MachineClock)).watched_by(watcher)
    }

    /// Drives a move to its end, or until it cannot go on for now: why.
    async fn drive(&self, driven: Driven<'_, Flow>, entry: &Entry) -> Option<Stopped> {
        entry.control.send_replace(Some(driven.control()));
        let ended = driven.drive().await;
        entry.control.send_replace(None);
        ended.err()
    }

    /// Resumes a move until it has ended, or nobody can drive it any more.
    async fn keep_driving(self, saga: SagaName, entry: Arc<Entry>, mut stopped: Option<Stopped>) {
        let mut failed = 0;
        loop {
            if let Some(stopped) = &stopped {
                let why = daemon::with_causes(stopped);
                if !may_go_on(stopped) {
                    tracing::error!(%saga, why, "a move is stuck");
                    entry.tell(|telling| telling.is_stuck(why));
                    return;
                }
                tracing::warn!(%saga, why, "a move waits");
                entry.tell(|telling| telling.waits(why));
                failed += 1;
                let wait = Wait::Retry { failed }.backoff();
                tokio::select! {
                    () = sleep(wait) => {}
                    () = entry.wake.notified() => {}
                }
            } else if entry.view().state.has_ended() {
                return;
            }
            stopped = match self.runner(&entry).resume(&self.workflow, saga.clone()).await {
                Ok(driven) => self.drive(driven, &entry).await,
                Err(OpenError::Stopped(stopped)) => Some(*stopped),
                Err(error) => {
                    let why = daemon::with_causes(&error);
                    tracing::error!(%saga, why, "a move cannot be resumed");
                    entry.tell(|telling| telling.is_stuck(why));
                    return;
                }
            };
        }
    }
}

/// Whether resuming may cure it.
fn may_go_on(stopped: &Stopped) -> bool {
    match stopped {
        Stopped::GaveUp { .. } | Stopped::Journal { .. } => true,
        Stopped::Superseded { .. }
        | Stopped::Fenced { .. }
        | Stopped::Record { .. }
        | Stopped::TooLong { .. }
        | Stopped::ProgramChanged { .. } => false,
    }
}

/// A move as its records tell it; none where they are not of one.
fn told(id: &MoveId, records: &[saga::Record], figures: &Figures) -> Option<Entry> {
    let mut telling: Option<(Ordered, Telling)> = None;
    for record in records {
        let event = Event::decode(record).ok()?;
        match (&event, &mut telling) {
            (Event::Opened { workflow, input }, None) if *workflow == Flow::NAME => {
                let ordered: Ordered = serde_json::from_value(input.clone()).ok()?;
                let begun = Telling::new(id.clone(), &ordered, record.at_unix_ms);
                telling = Some((ordered, begun));
            }
            (event, Some((_, telling))) => telling.tell(event, record.at_unix_ms),
            _ => return None,
        }
    }
    telling.map(|(ordered, telling)| Entry::new(ordered, telling, figures))
}
