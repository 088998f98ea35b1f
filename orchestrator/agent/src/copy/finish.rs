//! From the stop until all of the VM is at the target: the rest of memory, the mirrors' end with
//! every block written and flushed, device state, and the target's word that it has loaded it.

use std::time::Duration;

use orchestrator_api::{Phase, Progress};
use serde_json::json;
use tokio::sync::watch;

use super::memory::{ended, set_pace};
use super::{CopyError, Memory, Source, mirror_name, no_arguments};

/// How long the rest of memory may take. The pause budget is the orchestrator's, which cancels
/// sooner.
const REST_MAX: Duration = Duration::from_secs(60);
/// How long a mirror's last blocks may take.
const MIRROR_END_MAX: Duration = Duration::from_secs(60);
/// How long device state and the target's answer may take.
const DEVICES_MAX: Duration = Duration::from_secs(60);

pub(super) async fn run(
    source: &Source,
    memory: Memory,
    progress: &watch::Sender<Progress>,
) -> Result<(), CopyError> {
    let work = source.work();
    set_pace(work, memory.bytes_per_s).await?;
    migration(source, memory, "pre-switchover", "the rest of memory", REST_MAX).await?;
    for disk in 0..source.disks {
        end_mirror(source, disk).await?;
    }
    // Only here, after our own stop: a source that nobody stopped would run on by itself if the
    // target's answer was lost.
    work.execute("migrate-continue", json!({ "state": "pre-switchover" })).await?;
    migration(source, memory, "completed", "the target's answer", DEVICES_MAX).await?;
    progress.send_modify(|progress| {
        progress.phase = Phase::Completed;
        progress.memory_remaining_bytes = 0;
    });
    Ok(())
}

async fn migration(
    source: &Source,
    memory: Memory,
    wanted: &str,
    what: &str,
    bound: Duration,
) -> Result<(), CopyError> {
    let right = [wanted, "failed", "cancelled"];
    let event = source
        .work()
        .wait_event(memory.from, what, bound, |event| event.is_migration(&right))
        .await?;
    if event.is_migration(&[wanted]) {
        return Ok(());
    }
    let seen = source.work().execute("query-migrate", no_arguments()).await?;
    Err(ended(event.data["status"].as_str().unwrap_or("over"), &seen))
}

async fn end_mirror(source: &Source, disk: usize) -> Result<(), CopyError> {
    let (work, name) = (source.work(), mirror_name(disk));
    let from = work.position();
    work.execute("block-job-cancel", json!({ "device": name })).await?;
    let is_end = |event: &crate::qemu::Event| {
        event.data["device"] == *name
            && matches!(event.name.as_str(), "BLOCK_JOB_COMPLETED" | "BLOCK_JOB_CANCELLED")
    };
    let event = work.wait_event(from, "the mirror's end", MIRROR_END_MAX, is_end).await?;
    // A ready mirror that was told to end completes; anything else has left blocks behind.
    let error = event.data.get("error").map(ToString::to_string);
    if event.name != "BLOCK_JOB_COMPLETED" || error.is_some() {
        let why = error.unwrap_or_else(|| "it was cancelled".to_owned());
        return Err(CopyError::Mirror { disk, why });
    }
    for node in [name.clone(), format!("{name}-nbd")] {
        work.execute("blockdev-del", json!({ "node-name": node })).await?;
    }
    Ok(())
}
