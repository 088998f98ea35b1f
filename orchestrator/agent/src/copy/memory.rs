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
/// QEMU keeps its pace by bursts, ten a second, each as fast as the socket takes it: at full pace one
/// of them may be all that remains. So a copy brakes as it nears its end, and is at no moment nearer to
/// it than this: five bursts, and a hundred looks.
const END_AWAY_MS_MIN: u64 = 500;
/// The pace is set anew where it should differ by more than one part in so many.
const PACE_PARTS: u64 = 8;
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
    let mut bytes_per_s = pace.bytes_per_s;
    loop {
        let seen = work.execute("query-migrate", no_arguments()).await?;
        let status = seen["status"].as_str().unwrap_or("setup");
        match status {
            "setup" => {}
            "active" => {
                let wanted = look(&seen, pace, progress).unwrap_or(bytes_per_s);
                if wanted.abs_diff(bytes_per_s) > bytes_per_s / PACE_PARTS {
                    set_pace(work, wanted).await?;
                    bytes_per_s = wanted;
                }
            }
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

/// Takes what was seen into account, and gives the pace that it calls for.
fn look(seen: &Value, pace: Pace, progress: &watch::Sender<Progress>) -> Option<u64> {
    let remaining = seen["ram"]["remaining"].as_u64()?;
    let done = seen["ram"]["transferred"].as_u64().unwrap_or(0);
    let is_ready = remaining <= pace.remaining_bytes_max;
    progress.send_modify(|progress| {
        progress.memory_done_bytes = done;
        progress.memory_remaining_bytes = remaining;
        progress.phase = if is_ready { Phase::Ready } else { Phase::Copying };
    });
    Some(pace.at(remaining))
}

impl Pace {
    /// With so much remaining. Where nothing may remain there is nothing to brake for.
    fn at(self, remaining: u64) -> u64 {
        if self.remaining_bytes_max == 0 {
            return self.bytes_per_s;
        }
        if remaining <= self.remaining_bytes_max {
            return CRAWL_BYTES_PER_S;
        }
        let braked = remaining.saturating_mul(1_000) / END_AWAY_MS_MIN;
        braked.clamp(CRAWL_BYTES_PER_S, self.bytes_per_s.max(CRAWL_BYTES_PER_S))
    }
}

pub(super) async fn set_pace(work: &Monitor, bytes_per_s: u64) -> Result<(), CopyError> {
    work.execute("migrate-set-parameters", json!({ "max-bandwidth": bytes_per_s })).await?;
    Ok(())
}

pub(super) fn ended(status: &str, seen: &Value) -> CopyError {
    let why = seen["error-desc"].as_str().unwrap_or("without a reason").to_owned();
    CopyError::Memory { status: status.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_never_nearer_to_its_end_than_a_few_bursts_and_crawls_once_little_remains() {
        let pace = Pace { bytes_per_s: 125_000_000, remaining_bytes_max: 8_000_000 };
        assert_eq!(pace.at(262_000_000), 125_000_000);
        assert_eq!(pace.at(12_000_000), 24_000_000);
        assert_eq!(pace.at(8_000_000), CRAWL_BYTES_PER_S);
        assert_eq!(pace.at(u64::MAX), 125_000_000);
        let unbraked = Pace { remaining_bytes_max: 0, ..pace };
        assert_eq!((unbraked.at(1), unbraked.at(0)), (125_000_000, 125_000_000));
        let slow = Pace { bytes_per_s: 1, ..pace };
        assert_eq!(slow.at(9_000_000), CRAWL_BYTES_PER_S);
    }
}
