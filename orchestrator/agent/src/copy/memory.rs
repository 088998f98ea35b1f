//! Copies memory while the VM runs, and keeps it from switching over by itself: as soon as little
//! enough remains, the copy slows to a crawl, so that it goes on until the VM is stopped by order.

use std::time::Duration;

use orchestrator_api::{Phase, Progress};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{CopyError, Source, cancel, no_arguments};
use crate::qemu::Monitor;

/// Between two looks at what remains. A longer one would miss the moment: a guest that dirties
/// little switches over by itself within a quarter of a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// The pace of a copy that waits for the stop. Less would not keep the connection's ends talking.
const CRAWL_BYTES_PER_S: u64 = 64 * 1024;

/// How fast, and how far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) bytes_per_s: u64,
    pub(super) remaining_bytes_max: u64,
}

pub(super) async fn run(
    source: &Source,
    pace: Pace,
    progress: &watch::Sender<Progress>,
) -> Result<(), CopyError> {
    let work = source.work();
    capabilities(work).await?;
    // 0 would end the copy after the first pass, without a look at what was dirtied since.
    let parameters = json!({ "downtime-limit": 1, "max-bandwidth": pace.bytes_per_s });
    work.execute("migrate-set-parameters", parameters).await?;
    let uri = format!("unix:{}", source.memory_socket.display());
    work.execute("migrate", json!({ "uri": uri })).await?;
    loop {
        let seen = work.execute("query-migrate", no_arguments()).await?;
        let status = seen["status"].as_str().unwrap_or("setup");
        match status {
            "setup" => {}
            "active" => look(work, &seen, pace, progress).await?,
            "pre-switchover" | "device" => {
                cancel(&source.monitors, true).await?;
                return Err(CopyError::SwitchedOver);
            }
            other => return Err(ended(other, &seen)),
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// What both ends of a copy of memory have to agree on.
pub(crate) async fn capabilities(monitor: &Monitor) -> Result<(), CopyError> {
    let wanted = ["events", "return-path", "pause-before-switchover", "late-block-activate"];
    let wanted: Vec<Value> =
        wanted.iter().map(|name| json!({ "capability": name, "state": true })).collect();
    monitor.execute("migrate-set-capabilities", json!({ "capabilities": wanted })).await?;
    Ok(())
}

async fn look(
    work: &Monitor,
    seen: &Value,
    pace: Pace,
    progress: &watch::Sender<Progress>,
) -> Result<(), CopyError> {
    let Some(remaining) = seen["ram"]["remaining"].as_u64() else { return Ok(()) };
    let done = seen["ram"]["transferred"].as_u64().unwrap_or(0);
    let is_ready = remaining <= pace.remaining_bytes_max;
    let was_ready = progress.borrow().phase == Phase::Ready;
    if is_ready != was_ready {
        let bytes_per_s = if is_ready { CRAWL_BYTES_PER_S } else { pace.bytes_per_s };
        set_pace(work, bytes_per_s).await?;
    }
    progress.send_modify(|progress| {
        progress.memory_done_bytes = done;
        progress.memory_remaining_bytes = remaining;
        progress.phase = if is_ready { Phase::Ready } else { Phase::Copying };
    });
    Ok(())
}

pub(super) async fn set_pace(work: &Monitor, bytes_per_s: u64) -> Result<(), CopyError> {
    work.execute("migrate-set-parameters", json!({ "max-bandwidth": bytes_per_s })).await?;
    Ok(())
}

pub(super) fn ended(status: &str, seen: &Value) -> CopyError {
    let why = seen["error-desc"].as_str().unwrap_or("without a reason").to_owned();
    CopyError::Memory { status: status.to_owned(), why }
}
