//! Mirrors every disk to the target's export, and watches that they go on following.

use std::time::Duration;

use orchestrator_api::{Phase, Progress};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{CopyError, Source, mirror_name, no_arguments};

/// Between two looks at the mirrors. How long they take is the link's and the orchestrator's to
/// bound; each look is bounded by itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub(super) async fn run(
    source: &Source,
    progress: &watch::Sender<Progress>,
) -> Result<(), CopyError> {
    for disk in 0..source.disks {
        begin(source, disk).await?;
    }
    loop {
        look(source, progress).await?;
        sleep(LOOK_INTERVAL).await;
    }
}

async fn begin(source: &Source, disk: usize) -> Result<(), CopyError> {
    let (work, name) = (source.work(), mirror_name(disk));
    let connection = format!("{name}-nbd");
    let server = json!({ "type": "unix", "path": source.disk_socket });
    let export = format!("disk{disk}");
    // Without a reconnect of QEMU's own: the channel resumes by itself, and when it is closed the
    // mirror must end at once.
    let nbd =
        json!({ "driver": "nbd", "node-name": connection, "server": server, "export": export });
    work.execute("blockdev-add", nbd).await?;
    let raw = json!({ "driver": "raw", "node-name": name, "file": connection,
                      "detect-zeroes": "unmap", "discard": "unmap" });
    work.execute("blockdev-add", raw).await?;
    let mirror = json!({ "job-id": name, "device": export, "target": name, "sync": "full",
                         "copy-mode": "background", "on-source-error": "report",
                         "on-target-error": "report" });
    work.execute("blockdev-mirror", mirror).await?;
    Ok(())
}

async fn look(source: &Source, progress: &watch::Sender<Progress>) -> Result<(), CopyError> {
    let jobs = source.work().execute("query-block-jobs", no_arguments()).await?;
    let (mut length, mut done, mut ready) = (0, 0, true);
    for disk in 0..source.disks {
        let name = mirror_name(disk);
        let job = jobs.as_array().and_then(|jobs| jobs.iter().find(|job| job["device"] == *name));
        let gone = || CopyError::Mirror { disk, why: "its job is gone".to_owned() };
        let job = job.ok_or_else(gone)?;
        length += job["len"].as_u64().unwrap_or(0);
        done += job["offset"].as_u64().unwrap_or(0);
        ready &= job["ready"] == Value::Bool(true);
    }
    progress.send_modify(|progress| {
        progress.disk_bytes = length;
        progress.disk_done_bytes = done;
        if ready {
            progress.phase = Phase::InStep;
        }
    });
    Ok(())
}
