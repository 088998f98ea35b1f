//! A move by hand: QEMU's own mirror and migration over the plain WAN, as a careful operator with
//! two monitors would do it. It holds no packets, redirects nobody and fences nothing: the control
//! that the product is measured against.
//!
//! target waits -> disk mirrored -> memory copied -> stopped by command -> mirror ended, device
//! state -> both ends done -> the caller's gate -> runs at the target -> source ended.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Vm, VmError, Watched};
use crate::qmp::{Event, Qmp, QmpError};
use crate::world::Site;

/// Where a receiving QEMU listens for the disk, and for memory.
const DISK_PORT: u16 = 10_809;
const MEMORY_PORT: u16 = 4_444;

/// How long a disk or memory may take.
const COPY_MAX: Duration = Duration::from_secs(300);
/// How long the end may take, from the stop on.
const FINISH_MAX: Duration = Duration::from_secs(60);
/// Between two looks at what remains. A longer one would miss the moment: a guest that dirties
/// little switches over by itself within a quarter of a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Attempts at a pace that leaves time to stop the VM by command, each at half the last's.
const ATTEMPTS_MAX: u32 = 4;
/// Pace of the first, in bytes per second: a gigabit.
const PACE_BYTES_PER_S: u64 = 125_000_000;
/// What may remain when the VM is stopped: some 60 ms at that pace.
const REMAINS_BYTES_MAX: u64 = 8 << 20;

/// How the operator's hand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// Looks at once, and often enough.
    Steady,
    /// Looks away for so long at the first attempt, as on a machine that was busy otherwise.
    LateAtFirst(Duration),
}

/// How a move went.
#[derive(Debug, Clone)]
pub struct Moved {
    /// From the first order until the VM ran at the target.
    pub took: Duration,
    /// Of it, until the mirror was in step.
    pub mirror_took: Duration,
    /// From the stop until it ran again.
    pub pause: Duration,
    /// One, and one more for each time that the VM switched over by itself.
    pub attempts: u32,
    /// What the source's process did, to its end.
    pub source: Watched,
}

/// Moves the VM to `site`. Between finish and start, with the VM standing still at both ends, `gate`
/// may look at source and target disk.
///
/// # Errors
/// Something refused or took too long. Both processes end then; nothing is kept.
pub fn move_vm(
    mut source: Vm,
    site: &Site,
    hand: Hand,
    gate: impl FnOnce(&Path, &Path),
) -> Result<(Vm, Moved), VmError> {
    let begun = Instant::now();
    for attempt in 1..=ATTEMPTS_MAX {
        let mut target = source.target_at(site, source.number + attempt)?;
        listen(&mut target.monitor, site)?;
        mirror_disk(&mut source.monitor, site)?;
        let mirror_took = begun.elapsed();
        start_memory(&mut source.monitor, site, PACE_BYTES_PER_S >> (attempt - 1))?;
        if let (1, Hand::LateAtFirst(by)) = (attempt, hand) {
            thread::sleep(by);
        }
        if !stop_when_little_remains(&mut source.monitor)? {
            target.abandon()?;
            continue;
        }
        let stopped = Instant::now();
        finish(&mut source.monitor, &mut target.monitor)?;
        gate(&source.disk(), &target.disk());
        target.monitor.execute("nbd-server-stop", Value::Null)?;
        target.monitor.execute("cont", Value::Null)?;
        let (pause, took) = (stopped.elapsed(), begun.elapsed());
        let source = source.end()?;
        let moved = Moved { took, mirror_took, pause, attempts: attempt, source };
        return Ok((target, moved));
    }
    let what = "a stop before the VM switched over by itself".to_owned();
    Err(QmpError::TookTooLong { what, bound: begun.elapsed() }.into())
}

/// The target waits for disk and memory.
fn listen(target: &mut Qmp, site: &Site) -> Result<(), QmpError> {
    let host = site.hypervisor_address().v4;
    capabilities(target)?;
    let address = json!({ "type": "inet", "data": {
        "host": host.to_string(), "port": DISK_PORT.to_string(),
    }});
    target.execute("nbd-server-start", json!({ "addr": address }))?;
    target.execute(
        "block-export-add",
        json!({ "type": "nbd", "id": "disk0", "node-name": "disk0", "name": "disk0",
                "writable": true }),
    )?;
    let memory = SocketAddr::from((host, MEMORY_PORT));
    target.execute("migrate-incoming", json!({ "uri": format!("tcp:{memory}") }))?;
    Ok(())
}

fn capabilities(qmp: &mut Qmp) -> Result<(), QmpError> {
    let wanted = ["events", "return-path", "pause-before-switchover", "late-block-activate"];
    let wanted: Vec<Value> =
        wanted.iter().map(|name| json!({ "capability": name, "state": true })).collect();
    qmp.execute("migrate-set-capabilities", json!({ "capabilities": wanted })).map(drop)
}

fn mirror_disk(source: &mut Qmp, site: &Site) -> Result<(), QmpError> {
    let host = site.hypervisor_address().v4.to_string();
    let server = json!({ "type": "inet", "host": host, "port": DISK_PORT.to_string() });
    source.execute(
        "blockdev-add",
        json!({ "driver": "nbd", "node-name": "mig0-nbd", "server": server, "export": "disk0",
                "reconnect-delay": 10 }),
    )?;
    source.execute(
        "blockdev-add",
        json!({ "driver": "raw", "node-name": "mig0", "file": "mig0-nbd",
                "detect-zeroes": "unmap", "discard": "unmap" }),
    )?;
    source.execute(
        "blockdev-mirror",
        json!({ "job-id": "mig0", "device": "disk0", "target": "mig0", "sync": "full",
                "copy-mode": "background", "on-source-error": "report",
                "on-target-error": "report" }),
    )?;
    source.wait_event("the mirror in step", COPY_MAX, |e| e.name == "BLOCK_JOB_READY").map(drop)
}

fn start_memory(source: &mut Qmp, site: &Site, pace: u64) -> Result<(), QmpError> {
    capabilities(source)?;
    source
        .execute("migrate-set-parameters", json!({ "downtime-limit": 1, "max-bandwidth": pace }))?;
    let memory = SocketAddr::from((site.hypervisor_address().v4, MEMORY_PORT));
    source.execute("migrate", json!({ "uri": format!("tcp:{memory}") })).map(drop)
}

/// Stops the VM by command once little enough remains. False where it switched over by itself
/// before that: it has run on.
fn stop_when_little_remains(source: &mut Qmp) -> Result<bool, QmpError> {
    let until = Instant::now() + COPY_MAX;
    while Instant::now() < until {
        let progress = source.execute("query-migrate", Value::Null)?;
        match progress["status"].as_str() {
            Some("active") => {
                let remains = progress["ram"]["remaining"].as_u64().unwrap_or(u64::MAX);
                if remains <= REMAINS_BYTES_MAX {
                    return stop(source);
                }
            }
            Some("setup") | None => {}
            Some("pre-switchover" | "device") => return switched_over_by_itself(source),
            Some(other) => {
                let reason = format!("the copy is {other}");
                return Err(QmpError::Refused { command: "migrate".to_owned(), reason });
            }
        }
        thread::sleep(LOOK_INTERVAL);
    }
    Err(QmpError::TookTooLong { what: "the memory's copy".to_owned(), bound: COPY_MAX })
}

/// Stops the VM by command, if it still runs. A VM that switched over by itself a moment before is
/// not `paused`, whatever is ordered then, but finishing its migration; one that went on to that in
/// the instant after our stop looks the same, and is given up as well.
fn stop(source: &mut Qmp) -> Result<bool, QmpError> {
    source.execute("stop", Value::Null)?;
    let status = source.execute("query-status", Value::Null)?;
    if status["status"] == "paused" { Ok(true) } else { switched_over_by_itself(source) }
}

/// A VM that stopped by itself would run on by itself, too, if the end failed, whatever the target
/// does: such a move is called off. The VM runs on here, and the target, left alone, ends.
fn switched_over_by_itself(source: &mut Qmp) -> Result<bool, QmpError> {
    source.wait_event("the switch-over", FINISH_MAX, migration_is("pre-switchover"))?;
    drop_mirror(source)?;
    source.execute("migrate_cancel", Value::Null)?;
    source.wait_event("the cancelled copy", FINISH_MAX, migration_is("cancelled"))?;
    source.execute("cont", Value::Null)?;
    Ok(false)
}

/// From the stop until all is at the target: mirror ended with every block on its disk, device
/// state loaded, both ends done.
fn finish(source: &mut Qmp, target: &mut Qmp) -> Result<(), QmpError> {
    source.wait_event("the switch-over", FINISH_MAX, migration_is("pre-switchover"))?;
    drop_mirror(source)?;
    source.execute("migrate-continue", json!({ "state": "pre-switchover" }))?;
    source.wait_event("the source's end", FINISH_MAX, migration_is("completed"))?;
    target.wait_event("the target's end", FINISH_MAX, migration_is("completed"))?;
    Ok(())
}

/// Ends a mirror in step: all is written and flushed once it has.
fn drop_mirror(source: &mut Qmp) -> Result<(), QmpError> {
    source.execute("block-job-cancel", json!({ "device": "mig0" }))?;
    let ended = source.wait_event("the mirror's end", FINISH_MAX, |e| {
        e.name == "BLOCK_JOB_COMPLETED" || e.name == "BLOCK_JOB_CANCELLED"
    })?;
    if let Some(error) = ended.data.get("error") {
        let reason = error.to_string();
        return Err(QmpError::Refused { command: "blockdev-mirror".to_owned(), reason });
    }
    for node in ["mig0", "mig0-nbd"] {
        source.execute("blockdev-del", json!({ "node-name": node }))?;
    }
    Ok(())
}

fn migration_is(status: &str) -> impl Fn(&Event) -> bool {
    let status = status.to_owned();
    move |event| event.name == "MIGRATION" && event.data["status"] == status.as_str()
}
