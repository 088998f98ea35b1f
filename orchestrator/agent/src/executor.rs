//! From an order to its answer: look, decide, carry out, step by step.
//!
//! The rules are `placement`'s. What is added here is their execution: each write is on the disk
//! before the next step, the first effect that fails ends the plan, and a repetition gets the answer
//! that its first saying got. One executor serves one VM, one order at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use daemon::state::{StateError, StateFile};
use orchestrator_api::{OrderKey, OrderRequest, VmDefinition};
use placement::rules::{self, Alone};
use placement::{
    Answer, Command, Denied, Effect, Facts, Identity, Order, Plan, Record, Step, VmName,
};
use serde::{Deserialize, Serialize};

/// Answers kept for repetitions of one VM's orders. A move has fewer steps, and the rules answer
/// older repetitions by themselves.
const ANSWERS_MAX: usize = 64;

/// The version of the record's file.
pub const RECORD_VERSION: u32 = 1;

/// All that an agent has on its disk about one VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// What the rules remember.
    pub record: Record,
    /// What the VM is; as given with the order that last made a process of it.
    pub definition: Option<VmDefinition>,
}

impl Kept {
    /// Of a VM that was never heard of.
    #[must_use]
    pub fn unknown(vm: VmName) -> Kept {
        Kept { record: Record::unknown(vm), definition: None }
    }
}

/// What an executor acts on: the VM's processes, disks and port.
pub trait Host: Send {
    /// Why it could not.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Whether a process could be made of this here; asked before anything is written.
    ///
    /// # Errors
    /// Why not.
    fn accepts(&self, definition: &VmDefinition) -> Result<(), Self::Error>;

    /// Every process of the VM here, and what it does.
    fn facts(&mut self, kept: &Kept) -> impl Future<Output = Result<Facts, Self::Error>> + Send;

    /// Acts, once or again.
    fn perform(
        &mut self,
        effect: &Effect,
        kept: &Kept,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError<E: std::error::Error + 'static> {
    /// The rules forbid it; nothing changed.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The same key came with another command.
    #[error(
        "this key was used for another command; give each command a step or attempt of its own"
    )]
    KeyReused,
    /// Key and command speak of different moves.
    #[error("the key names another epoch or owner than the command; make both the same")]
    KeyDiffers,
    /// There is nothing to make a process from.
    #[error("the VM's definition is missing; send it with place and reserve")]
    NoDefinition,
    /// The definition is of another VM, or differs from what the record has.
    #[error("the definition is not that of this VM; send the one that it was placed with")]
    OtherDefinition,
    /// This host cannot make a process of the definition; nothing changed.
    #[error("the VM cannot be run here")]
    Unfit(#[source] E),
    /// The record could not be written; nothing was done after that.
    #[error("the record cannot be written")]
    Record(#[source] StateError),
    /// An effect failed; those before it are done.
    #[error("{effect} failed")]
    Effect {
        /// Which.
        effect: &'static str,
        /// Why.
        #[source]
        source: E,
    },
    /// What the VM does cannot be told.
    #[error("what the VM's processes do cannot be told")]
    Facts(#[source] E),
}

/// Serves one VM.
#[derive(Debug)]
pub struct Executor<H> {
    file: Arc<Mutex<StateFile<Kept>>>,
    kept: Kept,
    answers: VecDeque<(OrderKey, Command, Answer)>,
    host: H,
}

impl<H: Host> Executor<H> {
    /// Serves the VM from what is on the disk.
    #[must_use]
    pub fn new(file: StateFile<Kept>, kept: Kept, host: H) -> Executor<H> {
        let file = Arc::new(Mutex::new(file));
        Executor { file, kept, answers: VecDeque::new(), host }
    }

    /// What is on the disk.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// What it acts on.
    pub fn host(&mut self) -> &mut H {
        &mut self.host
    }

    /// Host and record at once, for what looks at both.
    pub fn parts(&mut self) -> (&mut H, &Kept) {
        (&mut self.host, &self.kept)
    }

    /// Carries out one order of `by`, whole or up to the first thing that fails.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn order(
        &mut self,
        by: Identity,
        asked: &OrderRequest,
    ) -> Result<Answer, OrderError<H::Error>> {
        if !asked.is_consistent() {
            return Err(OrderError::KeyDiffers);
        }
        if let Some((_, command, answer)) = self.answers.iter().find(|known| known.0 == asked.key) {
            let same = *command == asked.command;
            return if same { Ok(answer.clone()) } else { Err(OrderError::KeyReused) };
        }
        let facts = self.host.facts(&self.kept).await.map_err(OrderError::Facts)?;
        let order = Order { by, command: asked.command.clone() };
        let plan = rules::decide(&self.kept.record, &facts, &order)?;
        let definition = self.definition_for(asked, &plan)?;
        let answer = self.carry_out(plan, definition).await?;
        if self.answers.len() == ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back((asked.key.clone(), asked.command.clone(), answer.clone()));
        Ok(answer)
    }

    /// Finishes what a start that was accepted still owes, after a restart of the agent.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn finish_what_is_owed(&mut self) -> Result<Option<Answer>, OrderError<H::Error>> {
        let facts = self.host.facts(&self.kept).await.map_err(OrderError::Facts)?;
        match rules::when_alone(&self.kept.record, &facts, false) {
            Alone::Do(plan) => self.carry_out(plan, None).await.map(Some),
            Alone::AskTo { .. } | Alone::AskFromThen { .. } | Alone::Nothing => Ok(None),
        }
    }

    /// The definition that the plan's first write is to keep. A process that stands under a seat has
    /// its definition for good.
    fn definition_for(
        &self,
        asked: &OrderRequest,
        plan: &Plan,
    ) -> Result<Option<VmDefinition>, OrderError<H::Error>> {
        if !matches!(asked.command, Command::Place { .. } | Command::Reserve { .. }) {
            return Ok(None);
        }
        let given = asked.definition.as_deref().ok_or(OrderError::NoDefinition)?;
        if given.name != self.kept.record.vm {
            return Err(OrderError::OtherDefinition);
        }
        self.host.accepts(given).map_err(OrderError::Unfit)?;
        let writes = plan.steps.iter().any(|step| matches!(step, Step::Write(_)));
        match &self.kept.definition {
            Some(ours) if !writes && ours != given => Err(OrderError::OtherDefinition),
            _ => Ok(Some(given.clone())),
        }
    }

    async fn carry_out(
        &mut self,
        plan: Plan,
        mut definition: Option<VmDefinition>,
    ) -> Result<Answer, OrderError<H::Error>> {
        for step in plan.steps {
            match step {
                Step::Write(record) => {
                    let definition = definition.take().or_else(|| self.kept.definition.clone());
                    self.write(Kept { record: *record, definition }).await?;
                }
                Step::Do(effect) => {
                    let begun = Instant::now();
                    let done = self.host.perform(&effect, &self.kept).await;
                    let effect_name = name_of(&effect);
                    done.map_err(|source| OrderError::Effect { effect: effect_name, source })?;
                    let vm = &self.kept.record.vm;
                    let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    tracing::info!(%vm, effect = effect_name, took_us, "effect done");
                }
            }
        }
        Ok(plan.answer)
    }

    async fn write(&mut self, next: Kept) -> Result<(), OrderError<H::Error>> {
        let file = Arc::clone(&self.file);
        let writing = next.clone();
        let written = tokio::task::spawn_blocking(move || {
            file.lock().unwrap_or_else(PoisonError::into_inner).save(&writing)
        });
        written.await.expect("saving does not panic").map_err(OrderError::Record)?;
        self.kept = next;
        Ok(())
    }
}

/// For the log and for errors.
fn name_of(effect: &Effect) -> &'static str {
    match effect {
        Effect::Boot(_) => "boot",
        Effect::Continue(_) => "continue",
        Effect::Stop(_) => "stop",
        Effect::Hold(_) => "hold",
        Effect::KillOthers(_) => "kill others",
        Effect::CreateTarget(_) => "create target",
        Effect::KillTarget(_) => "kill target",
        Effect::CloseExport(_) => "close export",
        Effect::PinPort(_) => "pin port",
        Effect::ReleaseQueue(_) => "release queue",
        Effect::Kill(_) => "kill",
        Effect::SetDiskAside { .. } => "set disk aside",
        Effect::DeleteLeftover(_) => "delete leftover",
        Effect::ClearPort(_) => "clear port",
    }
}
