//! The commands themselves.

use std::path::{Path, PathBuf};

use clap::Args;
use daemon::config::{ConfigError, read};
use daemon::program::{Failure, say};
use orchestrator_api::operator::{
    AbortMove, BeginMove, CallKey, Drain, MoveId, MoveState, PlanMove, StartVm,
};
use orchestrator_api::{CallError, MoveOptions, VmDefinition};
use placement::{PartName, SiteName, VmName};
use serde::Serialize;

use super::Common;
use super::following::{Watched, follow};
use super::line::{Line, LineError};
use super::operator_file::OperatorFile;
use super::{reclaim, words};
use crate::random;

/// A move that ended undone.
pub const UNDONE: u8 = 3;

const BYTES_PER_MEGABIT: u64 = 125_000;

/// `causeway vm start`.
#[derive(Debug, Args)]
pub struct VmStart {
    /// The VM's name; its definition says the same.
    vm: VmName,
    /// Where it is to run.
    #[arg(long)]
    site: SiteName,
    /// On which host of the site; needed where there are several.
    #[arg(long)]
    agent: Option<PartName>,
    /// What the VM is, as TOML.
    #[arg(long, value_name = "FILE")]
    definition: PathBuf,
    /// Vouch that no agent which cannot be asked now has ever had this VM.
    #[arg(long)]
    new: bool,
    #[command(flatten)]
    common: Common,
}

/// `causeway plan`, and the beginning of `causeway move`.
#[derive(Debug, Args)]
pub struct Wish {
    /// Which VM.
    vm: VmName,
    /// To which site.
    #[arg(long, value_name = "SITE")]
    to: SiteName,
    /// To which host of the site; needed where there are several.
    #[arg(long)]
    agent: Option<PartName>,
    /// The pause to aim at: memory is copied until what remains goes over in it.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pause_ms: Option<u64>,
    /// How fast memory is copied.
    #[arg(long, value_name = "MBIT", value_parser = clap::value_parser!(u64).range(1..=800_000))]
    rate_mbit: Option<u64>,
    /// How long the VM may stand still, whatever the reason, before the move is called off.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..))]
    stopped_ms_max: Option<u64>,
    /// Do not keep the VM's packets back while it stands still, nor have them follow it: its users'
    /// connections break. For networks on which an agent has no proxy to tell of a hold.
    #[arg(long)]
    no_hold: bool,
    #[command(flatten)]
    common: Common,
}

/// `causeway move`.
#[derive(Debug, Args)]
pub struct Move {
    #[command(flatten)]
    wish: Wish,
    /// Order it, and do not wait for its end.
    #[arg(long)]
    no_wait: bool,
}

/// `causeway status`.
#[derive(Debug, Args)]
pub struct Status {
    /// A move, as VM.NUMBER, or a VM; everything, if left out.
    what: Option<String>,
    /// Go on telling, until the move has ended.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    common: Common,
}

/// `causeway abort`.
#[derive(Debug, Args)]
pub struct Abort {
    /// Which move, as VM.NUMBER.
    #[arg(value_name = "MOVE")]
    id: MoveId,
    /// Why, for the record.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Starts a VM for the first time.
///
/// # Errors
/// It cannot be.
pub async fn vm_start(asked: VmStart) -> Result<(), Failure> {
    let definition = definition(&asked.definition).map_err(Failure::wrong)?;
    if definition.name != asked.vm {
        let (vm, file) = (&asked.vm, asked.definition.display());
        let why = format!("{file}: defines VM {}, not {vm}; name the same", definition.name);
        return Err(Failure::wrong(why));
    }
    let wish = StartVm {
        key: key()?,
        definition,
        site: asked.site,
        agent: asked.agent,
        is_new: asked.new,
    };
    let mut line = open(&asked.common)?;
    let started = line.call(async |client| client.start(&wish).await).await.map_err(failed)?;
    tell(&asked.common, &started, words::started)
}

/// Lists the VMs.
///
/// # Errors
/// The service does not tell.
pub async fn vm_list(common: Common) -> Result<(), Failure> {
    let mut line = open(&common)?;
    let places = line.call(async |client| client.vms().await).await.map_err(failed)?;
    tell(&common, &places, words::vms)
}

/// Says what a move would be like; *no-go* is a failure.
///
/// # Errors
/// It cannot be found out, or the move cannot be.
pub async fn plan(asked: Wish) -> Result<(), Failure> {
    let wish =
        PlanMove { site: asked.to.clone(), agent: asked.agent.clone(), options: asked.options() };
    let mut line = open(&asked.common)?;
    let plan = line.call(async |client| client.plan(&asked.vm, &wish).await).await;
    let plan = plan.map_err(failed)?;
    tell(&asked.common, &plan, words::plan)?;
    if plan.is_go() { Ok(()) } else { Err(Failure::wrong("the move cannot be made like this")) }
}

/// Moves a VM, and tells how it goes.
///
/// # Errors
/// It cannot be ordered; or it ended undone.
pub async fn order_move(asked: Move) -> Result<(), Failure> {
    let Move { wish, no_wait } = asked;
    let begin = BeginMove {
        key: key()?,
        vm: wish.vm.clone(),
        site: wish.to.clone(),
        agent: wish.agent.clone(),
        options: wish.options(),
    };
    let mut line = open(&wish.common)?;
    let begun = line.call(async |client| client.begin(&begin).await).await.map_err(failed)?;
    if no_wait {
        return tell(&wish.common, &begun, |begun| format!("{} has begun\n", begun.id));
    }
    watch(&mut line, &begun.id, wish.common.json).await
}

/// Tells of moves.
///
/// # Errors
/// The service does not tell.
pub async fn status(asked: Status) -> Result<(), Failure> {
    let mut line = open(&asked.common)?;
    let Some(what) = &asked.what else {
        if asked.follow {
            return Err(Failure::wrong(
                "name the move to follow: causeway status VM.NUMBER --follow",
            ));
        }
        let moves = line.call(async |client| client.moves().await).await.map_err(failed)?;
        let drains = drains(&mut line, None).await?;
        let told = WithDrains { told: moves, drains };
        return tell(&asked.common, &told, |told| {
            words::moves(&told.told) + &drained(&told.drains)
        });
    };
    let id = match what.parse::<MoveId>() {
        Ok(id) => id,
        Err(_) => newest_of(&mut line, what).await?,
    };
    if asked.follow {
        return watch(&mut line, &id, asked.common.json).await;
    }
    let view = line.call(async |client| client.one_move(&id, None).await).await.map_err(failed)?;
    let mut drains = drains(&mut line, Some(&id.vm)).await?;
    drains.retain(|drain| drain.id == id);
    let told = WithDrains { told: view, drains };
    tell(&asked.common, &told, |told| words::one_move(&told.told) + &drained(&told.drains))
}

/// What is told, and the places that it is about which are not given back.
#[derive(Serialize)]
struct WithDrains<T> {
    #[serde(flatten)]
    told: T,
    drains: Vec<Drain>,
}

async fn drains(line: &mut Line, vm: Option<&VmName>) -> Result<Vec<Drain>, Failure> {
    let list = line.call(async |client| client.drains(vm).await).await.map_err(failed)?;
    Ok(list.drains)
}

fn drained(drains: &[Drain]) -> String {
    drains.iter().map(|drain| reclaim::drain(drain) + "\n").collect()
}

/// Calls a move off.
///
/// # Errors
/// It is too late, or it cannot be promised.
pub async fn abort(asked: Abort) -> Result<(), Failure> {
    let wish = AbortMove { key: key()?, reason: asked.reason.clone() };
    let mut line = open(&asked.common)?;
    let promised = line.call(async |client| client.abort(&asked.id, &wish).await).await;
    let promised = promised.map_err(failed)?;
    tell(&asked.common, &promised, |promised| {
        format!("{0} is being undone; watch it with `causeway status {0} --follow`\n", promised.id)
    })
}

impl Wish {
    fn options(&self) -> MoveOptions {
        let default = MoveOptions::default();
        let pace = self.rate_mbit.map(|rate| rate.saturating_mul(BYTES_PER_MEGABIT));
        MoveOptions {
            pause_ms: self.pause_ms.unwrap_or(default.pause_ms),
            pace_bytes_per_s: pace.unwrap_or(default.pace_bytes_per_s),
            stopped_ms_max: self.stopped_ms_max.unwrap_or(default.stopped_ms_max),
            hold: !self.no_hold,
        }
    }
}

async fn watch(line: &mut Line, id: &MoveId, json: bool) -> Result<(), Failure> {
    match follow(line, id, json).await.map_err(failed)? {
        Watched::Left => {
            eprintln!(
                "the move goes on; watch it with `causeway status {id} --follow`, call it off with \
                 `causeway abort {id}`"
            );
            Ok(())
        }
        Watched::Ended(view) => match &view.state {
            MoveState::Undone { why } => {
                Err(Failure::coded(UNDONE, format!("{id} was undone; the VM runs on: {why}")))
            }
            MoveState::Stuck { why } => Err(Failure::failed(format!("{id} is stuck: {why}"))),
            _ => Ok(()),
        },
    }
}

pub(super) async fn newest_of(line: &mut Line, vm: &str) -> Result<MoveId, Failure> {
    let vm: VmName = vm.parse().map_err(Failure::wrong)?;
    let list = line.call(async |client| client.moves().await).await.map_err(failed)?;
    let of_vm = list.moves.into_iter().filter(|view| view.id.vm == vm);
    let newest = of_vm.map(|view| view.id).max_by_key(|id| id.number);
    newest.ok_or_else(|| Failure::wrong(format!("VM {vm} has no moves; see `causeway vm list`")))
}

pub(super) fn open(common: &Common) -> Result<Line, Failure> {
    let file = OperatorFile::load(common.config.as_deref()).map_err(Failure::wrong)?;
    Ok(Line::new(file))
}

fn definition(path: &Path) -> Result<VmDefinition, ConfigError> {
    read(path, |definition: VmDefinition, _| Ok(definition))
}

/// What the service refused cannot be; all else may be tried again.
pub(super) fn failed(error: LineError) -> Failure {
    match error {
        LineError::Call(CallError::Refused { status, .. }) if status < 500 => Failure::wrong(error),
        _ => Failure::failed(error),
    }
}

pub(super) fn tell<T: Serialize>(
    common: &Common,
    value: &T,
    in_words: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if common.json {
        let line = serde_json::to_string(value).map_err(Failure::failed)?;
        return say(&(line + "\n"));
    }
    say(&in_words(value))
}

/// One for each call that changes something, so that its repetition is known.
pub(super) fn key() -> Result<CallKey, Failure> {
    let drawn = random::bytes().map_err(Failure::failed)?;
    format!("{:032x}", u128::from_ne_bytes(drawn)).parse().map_err(Failure::failed)
}
