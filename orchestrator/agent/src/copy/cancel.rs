//! Gives a copy up, whatever QEMU is doing about it: asked first, then its connections are broken
//! through the second monitor.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{CopyError, no_arguments};
use crate::qemu::{Monitor, MonitorError, Monitors};

/// How long QEMU may take by itself, before its connections are broken.
const BY_ITSELF_MAX: Duration = Duration::from_secs(3);
/// How long it may take then.
const AFTER_YANK_MAX: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Ends memory's copy, then the mirrors. With `runs_on`, a VM that no order stopped runs after it.
pub(crate) async fn cancel(monitors: &Monitors, runs_on: bool) -> Result<(), CopyError> {
    let work = &monitors.work;
    if is_copying(work).await? {
        work.execute("migrate_cancel", no_arguments()).await?;
    }
    if !is_over(Part::Memory, work, BY_ITSELF_MAX).await? {
        yank(monitors, "migration").await?;
        if !is_over(Part::Memory, work, AFTER_YANK_MAX).await? {
            return Err(CopyError::Stuck("memory".to_owned()));
        }
    }
    end_mirrors(monitors).await?;
    remove_nodes(work).await?;
    if runs_on {
        let status = work.execute("query-status", no_arguments()).await?;
        if status["running"] != Value::Bool(true) {
            work.execute("cont", no_arguments()).await?;
        }
    }
    Ok(())
}

async fn end_mirrors(monitors: &Monitors) -> Result<(), CopyError> {
    let work = &monitors.work;
    for job in mirrors(work).await? {
        let ending =
            work.execute("block-job-cancel", json!({ "device": job, "force": true })).await;
        match ending {
            // It has ended by itself meanwhile.
            Ok(_) | Err(MonitorError::Refused { .. }) => {}
            Err(other) => return Err(other.into()),
        }
    }
    if is_over(Part::Mirrors, work, BY_ITSELF_MAX).await? {
        return Ok(());
    }
    yank(monitors, "block-node").await?;
    if is_over(Part::Mirrors, work, AFTER_YANK_MAX).await? {
        return Ok(());
    }
    Err(CopyError::Stuck("a mirror".to_owned()))
}

async fn is_copying(work: &Monitor) -> Result<bool, MonitorError> {
    let seen = work.execute("query-migrate", no_arguments()).await?;
    Ok(!matches!(
        seen["status"].as_str(),
        None | Some("none" | "completed" | "failed" | "cancelled")
    ))
}

async fn mirrors(work: &Monitor) -> Result<Vec<String>, MonitorError> {
    let jobs = work.execute("query-block-jobs", no_arguments()).await?;
    let names = jobs.as_array().into_iter().flatten().filter_map(|job| job["device"].as_str());
    Ok(names.filter(|name| is_ours(name)).map(ToOwned::to_owned).collect())
}

async fn remove_nodes(work: &Monitor) -> Result<(), MonitorError> {
    let nodes = work.execute("query-named-block-nodes", json!({ "flat": true })).await?;
    let names =
        nodes.as_array().into_iter().flatten().filter_map(|node| node["node-name"].as_str());
    let mut ours: Vec<&str> = names.filter(|name| is_ours(name)).collect();
    // What stands on a connection goes before it.
    ours.sort_by_key(|name| name.ends_with("-nbd"));
    for name in ours {
        work.execute("blockdev-del", json!({ "node-name": name })).await?;
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix("mig").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Breaks the connections of these instances, past whatever QEMU is busy with.
async fn yank(monitors: &Monitors, kind: &str) -> Result<(), MonitorError> {
    let emergency = &monitors.emergency;
    let known = emergency.execute_out_of_band("query-yank", no_arguments()).await?;
    let instances: Vec<&Value> = known
        .as_array()
        .into_iter()
        .flatten()
        .filter(|instance| instance["type"] == kind)
        .collect();
    if !instances.is_empty() {
        tracing::warn!(count = instances.len(), "connections of a stuck copy broken off");
        emergency.execute_out_of_band("yank", json!({ "instances": instances })).await?;
    }
    Ok(())
}

/// What there is to end.
#[derive(Debug, Clone, Copy)]
enum Part {
    Memory,
    Mirrors,
}

/// Whether nothing of it is left within `bound`.
async fn is_over(part: Part, work: &Monitor, bound: Duration) -> Result<bool, CopyError> {
    let until = Instant::now() + bound;
    loop {
        let left = match part {
            Part::Memory => is_copying(work).await?,
            Part::Mirrors => !mirrors(work).await?.is_empty(),
        };
        if !left || Instant::now() >= until {
            return Ok(!left);
        }
        sleep(LOOK_INTERVAL).await;
    }
}
