//! `causeway flows`: the connections that proxies carry, wherever they are, and how to kill one.

use std::fmt::Write;

use clap::{Args, Subcommand};
use daemon::program::Failure;
use orchestrator_api::operator::{FlowKilled, FlowView, UnaskedProxy};
use placement::{SiteName, VmName};
use serde::Serialize;

use super::Common;
use super::commands::{failed, open, tell};
use super::line::{Line, LineError};

/// Most flows that one call lists.
const LISTED_MAX: usize = 100_000;

/// `causeway flows`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Flows {
    #[command(subcommand)]
    does: Option<Does>,
    /// Those towards one VM; all, if left out.
    vm: Option<VmName>,
    /// Those that proxies of one site carry.
    #[arg(long)]
    site: Option<SiteName>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Does {
    /// Kill flows: both peers of each see a RST.
    Kill {
        /// Which, by the ids that `causeway flows` lists.
        #[arg(required = true, value_name = "ID", value_parser = flow_id)]
        ids: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
}

/// What is listed.
#[derive(Debug, Default, Serialize)]
pub(super) struct Listed {
    flows: Vec<FlowView>,
    unasked: Vec<UnaskedProxy>,
    /// There are more than are listed.
    is_cut: bool,
}

/// Lists flows, or kills some.
///
/// # Errors
/// The service does not tell; or a flow was not killed.
pub async fn flows(asked: Flows) -> Result<(), Failure> {
    if let Some(Does::Kill { ids, common }) = asked.does {
        return kill(&ids, &common).await;
    }
    let mut line = open(&asked.common)?;
    let listed = fetched(&mut line, asked.vm.as_ref(), asked.site.as_ref()).await;
    tell(&asked.common, &listed.map_err(failed)?, in_words)
}

/// All of them, part by part.
pub(super) async fn fetched(
    line: &mut Line,
    vm: Option<&VmName>,
    site: Option<&SiteName>,
) -> Result<Listed, LineError> {
    let (mut listed, mut from) = (Listed::default(), None::<String>);
    loop {
        let part = line.call(async |client| client.flows(vm, site, from.as_deref()).await).await?;
        listed.flows.extend(part.flows);
        listed.unasked.extend(part.unasked);
        from = part.more_from;
        if from.is_none() {
            return Ok(listed);
        }
        if listed.flows.len() >= LISTED_MAX {
            listed.is_cut = true;
            return Ok(listed);
        }
    }
}

/// A line each.
pub(super) fn in_words(listed: &Listed) -> String {
    let mut told = String::new();
    for flow in &listed.flows {
        let FlowView { at, client, vip, service, backend, state, protocol, .. } = flow;
        let vm = flow.vm.as_ref().map(|vm| format!(" (VM {vm})")).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(
            told,
            "{}  {}/{}  {protocol} {client} -> {vip}  {service} at {backend}{vm}  {state}, {} up, {} \
             down, {} owed",
            at.flow, at.site, at.proxy, flow.up_bytes, flow.down_bytes, flow.owed_bytes
        );
    }
    if listed.flows.is_empty() {
        told += "no flows\n";
    }
    if listed.is_cut {
        let _ = writeln!(told, "and more; name a VM or a --site");
    }
    for unasked in &listed.unasked {
        let UnaskedProxy { site, proxy, why } = unasked;
        let _ = writeln!(told, "not asked: proxy {site}/{proxy}: {why}");
    }
    told
}

/// Each of them, also after one that was not killed.
async fn kill(ids: &[String], common: &Common) -> Result<(), Failure> {
    let mut line = open(common)?;
    let mut first = None;
    for id in ids {
        match line.call(async |client| client.kill(id).await).await {
            Ok(killed) => tell(common, &killed, |FlowKilled { at }| {
                format!("{} at {}/{} is killed\n", at.flow, at.site, at.proxy)
            })?,
            Err(error) if first.is_none() => first = Some(error),
            Err(error) => eprintln!("{}", daemon::with_causes(&error)),
        }
    }
    first.map_or(Ok(()), |error| Err(failed(error)))
}

/// It goes into a path, so that it is no other text.
fn flow_id(text: &str) -> Result<String, &'static str> {
    let fits = text.split_once('-').is_some_and(|(boot, number)| {
        let is_hex = |part: &str| {
            (1..=16).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        is_hex(boot) && is_hex(number)
    });
    if fits { Ok(text.to_owned()) } else { Err("is no flow's id; see `causeway flows`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_named_by_its_id_alone() {
        assert_eq!(flow_id("650f3a-1a"), Ok("650f3a-1a".to_owned()));
        for text in ["", "-", "kill", "650f3a", "650f3a-", "a-1/../b", "1-12345678901234567"] {
            assert!(flow_id(text).is_err(), "{text}");
        }
    }
}
