//! `causeway reclaim`: the place that a VM has left is given back; and how far it is drained.

use std::fmt::Write;

use clap::Args;
use daemon::program::Failure;
use orchestrator_api::CallError;
use orchestrator_api::operator::{Drain, FLOWS_LIVE, LeftDisk, ReclaimVm, VmReclaimed};
use placement::{Epoch, VmName};

use super::Common;
use super::commands::{failed, key, open, tell};
use super::flows;
use super::line::{Line, LineError};
use super::words::duration;

/// `causeway reclaim`.
#[derive(Debug, Args)]
pub struct Reclaim {
    /// Which VM.
    vm: VmName,
    /// What the move of this release left alone, as `causeway status` tells it.
    #[arg(long, value_name = "N")]
    release: Option<u64>,
    /// Break off the flows that live at the place, and do not mind an application that is not found
    /// well.
    #[arg(long)]
    force: bool,
    /// Leave the disk that was set aside where it is, and name it.
    #[arg(long)]
    keep_disk: bool,
    #[command(flatten)]
    common: Common,
}

/// Gives back what moves of a VM left.
///
/// # Errors
/// It cannot be; where flows live, they are listed first.
pub async fn reclaim(asked: Reclaim) -> Result<(), Failure> {
    let wish = ReclaimVm {
        key: key()?,
        release: asked.release.map(Epoch::new),
        force: asked.force,
        keep_disk: asked.keep_disk,
    };
    let mut line = open(&asked.common)?;
    match line.call(async |client| client.reclaim(&asked.vm, &wish).await).await {
        Ok(reclaimed) => tell(&asked.common, &reclaimed, in_words),
        Err(error) => {
            if is_flows_live(&error) {
                list(&mut line, &asked.vm).await;
            }
            Err(failed(error))
        }
    }
}

/// A place that a VM has left, in a line.
pub(super) fn drain(drain: &Drain) -> String {
    let Drain { id, release, at, pinned, stragglers, .. } = drain;
    let mut told = format!("{id} left {at} (release {release}): ");
    if drain.is_drained() {
        let _ = write!(told, "drained; `causeway reclaim {} --release {release}`", id.vm);
        return told;
    }
    let _ = write!(told, "draining, {pinned} pinned flows, {stragglers} stragglers");
    let since = |at_ms: u64| duration(drain.as_of_unix_ms.saturating_sub(at_ms));
    if let Some(oldest) = drain.oldest_at_unix_ms {
        let _ = write!(told, ", the oldest {} old", since(oldest));
    }
    if let Some(last) = drain.last_bytes_at_unix_ms {
        let _ = write!(told, ", last heard {} ago", since(last));
    }
    for unasked in &drain.unasked {
        let _ =
            write!(told, "; not asked: proxy {}/{}: {}", unasked.site, unasked.proxy, unasked.why);
    }
    told
}

fn in_words(reclaimed: &VmReclaimed) -> String {
    let mut told = String::new();
    for of in &reclaimed.reclaimed {
        let disk = match &of.disk {
            LeftDisk::Deleted => "its disk is deleted".to_owned(),
            LeftDisk::Kept { name } => {
                format!("its disk stays as {name} in the agent's folder of disks")
            }
        };
        // Writing to a string does not fail.
        let _ = writeln!(told, "{} left {}: given back, {disk}", of.id, of.at);
        for flow in &of.broken_off {
            let _ = writeln!(told, "  broken off: {} at {}/{}", flow.flow, flow.site, flow.proxy);
        }
    }
    if let Some(home) = &reclaimed.home {
        let (vm, at, count) = (&reclaimed.vm, &home.at, home.told);
        let _ = writeln!(told, "{vm} is at home at {at}, and was told of {count} machines there");
    }
    told
}

fn is_flows_live(error: &LineError) -> bool {
    matches!(error, LineError::Call(CallError::Refused { refusal, .. })
        if refusal.code == FLOWS_LIVE)
}

/// What keeps the places: for people, beside the refusal, so that no failure to list hides it.
async fn list(line: &mut Line, vm: &VmName) {
    let Ok(list) = line.call(async |client| client.drains(Some(vm)).await).await else { return };
    for place in list.drains.iter().filter(|place| !place.is_drained()) {
        eprintln!("{}", drain(place));
        if let Ok(told) = flows::fetched(line, Some(vm), Some(&place.at.site)).await {
            eprint!("{}", flows::in_words(&told));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_as_drained_only_where_everybody_was_asked() {
        let mut place: Drain = serde_json::from_value(serde_json::json!({
            "move": "web.1", "release": 2, "at": { "site": "a", "agent": "hv1" },
            "pinned": 0, "stragglers": 0, "oldest_at_unix_ms": null,
            "last_bytes_at_unix_ms": null, "as_of_unix_ms": 100_000, "unasked": [],
        }))
        .unwrap();
        let told = drain(&place);
        assert!(told.contains("drained; `causeway reclaim web --release 2`"), "{told}");
        (place.pinned, place.stragglers, place.oldest_at_unix_ms) = (3, 1, Some(39_000));
        let told = drain(&place);
        assert!(told.contains("3 pinned flows, 1 stragglers, the oldest 1 min 1 s old"), "{told}");
        let silent = serde_json::json!({ "site": "a", "proxy": "p1", "why": "silence" });
        (place.pinned, place.stragglers) = (0, 0);
        place.unasked = vec![serde_json::from_value(silent).unwrap()];
        let told = drain(&place);
        assert!(!told.contains("drained") && told.contains("silence"), "{told}");
    }
}
