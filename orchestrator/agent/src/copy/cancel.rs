//! Gives a copy up, whatever QEMU is doing about it: asked first, then its connections are broken
//! through the second monitor.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{CopyError, no_arguments};
use crate::qemu::{Monitor, MonitorError, Monitors};

/// How long QEMU may take by itself, before its connections are broken.
const BY_ITSELF_MAX: Duration = Duration::from_secs(3);
/// How long it may take then.
const AFTER_YANK_MAX: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Ends memory's copy, then the mirrors. With `runs_on`, a VM that no order stopped runs after it.
///
/// Where the link is dead without a word, QEMU as a whole waits for it and answers nothing: then
/// the copy's connections are broken, and it is asked once more.
pub(crate) async fn cancel(monitors: &Monitors, runs_on: bool) -> Result<(), CopyError> {
    let work = &monitors.work;
    if !matches!(timeout(BY_ITSELF_MAX, end_all(work)).await, Ok(Ok(()))) {
        yank(monitors).await?;
        let ended = timeout(AFTER_YANK_MAX, end_all(work)).await;
        ended.map_err(|_| CopyError::Stuck(format!("after {AFTER_YANK_MAX:?}")))??;
    }
    if runs_on {
        let status = work.execute("query-status", no_arguments()).await?;
        if status["running"] != Value::Bool(true) {
            work.execute("cont", no_arguments()).await?;
        }
    }
    Ok(())
}

/// Its caller bounds it.
async fn end_all(work: &Monitor) -> Result<(), MonitorError> {
    if is_copying(work).await? {
        work.execute("migrate_cancel", no_arguments()).await?;
    }
    while is_copying(work).await? {
        sleep(LOOK_INTERVAL).await;
    }
    for job in mirrors(work).await? {
        let end = json!({ "device": job, "force": true });
        match work.execute("block-job-cancel", end).await {
            // It has ended by itself meanwhile.
            Ok(_) | Err(MonitorError::Refused { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    while !mirrors(work).await?.is_empty() {
        sleep(LOOK_INTERVAL).await;
    }
    remove_nodes(work).await
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

/// Breaks the copy's connections, past whatever QEMU is busy with.
async fn yank(monitors: &Monitors) -> Result<(), MonitorError> {
    let emergency = &monitors.emergency;
    let known = emergency.execute_out_of_band("query-yank", no_arguments()).await?;
    let is_of_copy = |instance: &&Value| {
        let node = instance["node-name"].as_str();
        instance["type"] == "migration" || node.is_some_and(is_ours)
    };
    let instances: Vec<&Value> =
        known.as_array().into_iter().flatten().filter(is_of_copy).collect();
    if !instances.is_empty() {
        tracing::warn!(count = instances.len(), "connections of a stuck copy broken off");
        emergency.execute_out_of_band("yank", json!({ "instances": instances })).await?;
    }
    Ok(())
}
