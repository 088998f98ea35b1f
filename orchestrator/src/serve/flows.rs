//! Flows, wherever they are: asked of every proxy, and killed at the one that carries them.

use std::fmt;
use std::str::FromStr;

use hypervisor::{CallTrouble, Dial};
use orchestrator_api::operator::{FlowAt, FlowKilled, FlowView, FlowsPart, UnaskedProxy};
use placement::{PartName, SiteName, VmName};
use proxy_api::{Flow, FlowId, FlowQuery};

use super::moves::Shared;
use crate::migration::Parties;
use crate::migration::parties::DialledProxy;

/// Pages that one proxy is asked for in one go.
const PAGES_MAX: usize = 128;
/// What a proxy says that does not know a flow.
const UNKNOWN_FLOW: &str = "unknown_flow";

/// Where a listing goes on: at this proxy, after this flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct From {
    site: SiteName,
    proxy: PartName,
    after: Option<FlowId>,
}

/// A text that is no place to go on from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no place to go on from; write what the last part said")]
pub(crate) struct NoFrom;

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.site, self.proxy)?;
        self.after.map_or(Ok(()), |after| write!(f, ".{after}"))
    }
}

impl FromStr for From {
    type Err = NoFrom;
    fn from_str(text: &str) -> Result<From, NoFrom> {
        let mut parts = text.splitn(3, '.');
        let site = parts.next().and_then(|site| site.parse().ok()).ok_or(NoFrom)?;
        let proxy = parts.next().and_then(|proxy| proxy.parse().ok()).ok_or(NoFrom)?;
        let after = parts.next().map(|after| after.parse().map_err(|_| NoFrom)).transpose()?;
        Ok(From { site, proxy, after })
    }
}

/// Which flows are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// Those of one VM.
    pub(crate) vm: Option<VmName>,
    /// Those of one site.
    pub(crate) site: Option<SiteName>,
    /// Where the last part ended.
    pub(crate) from: Option<From>,
}

/// Why a flow is not killed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unkilled {
    /// Nobody carries it.
    #[error("no flow {flow} lives at any proxy{unasked}; see `causeway flows`")]
    Unknown {
        /// Which.
        flow: FlowId,
        /// Proxies that could not be asked, in words.
        unasked: String,
    },
    /// Several do.
    #[error(
        "flow {flow} is carried by {carriers}; kill it there, with `causeway-proxy flows kill`"
    )]
    Several {
        /// Which.
        flow: FlowId,
        /// By whom.
        carriers: String,
    },
    /// The one that carries it did not do it.
    #[error(transparent)]
    Call(#[from] CallTrouble),
}

impl Shared {
    /// A page of one proxy's live flows, and where to go on.
    pub(crate) async fn flows(&self, asked: &Asked) -> FlowsPart {
        let all = self.parties().proxies().into_iter();
        let is_meant = |site: &SiteName| asked.site.as_ref().is_none_or(|meant| meant == site);
        let mut rest = all.filter(|((site, name), _)| {
            let is_next =
                asked.from.as_ref().is_none_or(|from| (site, name) >= (&from.site, &from.proxy));
            is_meant(site) && is_next
        });
        let nothing = FlowsPart { flows: Vec::new(), unasked: None, more_from: None };
        let Some(((site, name), proxy)) = rest.next() else { return nothing };
        let next = rest.next().map(|((site, proxy), _)| From {
            site: site.clone(),
            proxy: proxy.clone(),
            after: None,
        });
        let from = asked.from.as_ref().filter(|from| from.site == *site && from.proxy == *name);
        let after = from.and_then(|from| from.after);
        match proxy.flows(&FlowQuery { after, ..FlowQuery::default() }).await {
            Ok(page) => {
                let of_vm = |flow: &Flow| asked.vm.is_none() || flow.vm == asked.vm;
                let flows = page.flows.into_iter().filter(of_vm);
                let flows = flows.map(|flow| view(site, name, flow)).collect();
                let here = page.more_after.map(|after| From {
                    site: site.clone(),
                    proxy: name.clone(),
                    after: Some(after),
                });
                FlowsPart {
                    flows,
                    unasked: None,
                    more_from: here.or(next).map(|at| at.to_string()),
                }
            }
            Err(trouble) => {
                let (site, proxy) = (site.clone(), name.clone());
                let why = daemon::with_causes(&trouble);
                let unasked = Some(UnaskedProxy { site, proxy, why });
                FlowsPart { flows: Vec::new(), unasked, more_from: next.map(|at| at.to_string()) }
            }
        }
    }

    /// Kills a flow at the proxy that carries it.
    pub(crate) async fn kill(&self, flow: FlowId) -> Result<FlowKilled, Unkilled> {
        let (mut carriers, mut unasked) = (Vec::new(), String::new());
        for ((site, name), proxy) in self.parties().proxies() {
            match proxy.flow(flow).await {
                // Of the history there is nothing to kill.
                Ok(known) if known.closed_at_ms.is_some() => {}
                Ok(_) => carriers.push((site, name, proxy)),
                Err(trouble) if trouble.is_refusal_as(UNKNOWN_FLOW) => {}
                Err(trouble) => {
                    unasked += &format!(", not asked: {}", daemon::with_causes(&trouble));
                }
            }
        }
        match &carriers[..] {
            [] => Err(Unkilled::Unknown { flow, unasked }),
            [(site, name, proxy)] => {
                proxy.kill(flow).await?;
                let (site, proxy) = ((*site).clone(), (*name).clone());
                Ok(FlowKilled { at: FlowAt { site, proxy, flow: flow.to_string() } })
            }
            several => {
                let named = several.iter().map(|(site, name, _)| format!("{site}/{name}"));
                let carriers = named.collect::<Vec<_>>().join(" and ");
                Err(Unkilled::Several { flow, carriers })
            }
        }
    }
}

/// All live flows of one proxy, or those to one VM.
pub(crate) async fn live_of<D: Dial>(
    proxy: &DialledProxy<D>,
    vm: Option<&VmName>,
) -> Result<Vec<Flow>, CallTrouble> {
    let (mut live, mut query) = (Vec::new(), FlowQuery::default());
    for _ in 0..PAGES_MAX {
        let page = proxy.flows(&query).await?;
        live.extend(page.flows.into_iter().filter(|flow| vm.is_none() || flow.vm.as_ref() == vm));
        query.after = page.more_after;
        if query.after.is_none() {
            break;
        }
    }
    Ok(live)
}

fn view(site: &SiteName, proxy: &PartName, flow: Flow) -> FlowView {
    FlowView {
        at: FlowAt { site: site.clone(), proxy: proxy.clone(), flow: flow.id.to_string() },
        protocol: flow.protocol.as_str().to_owned(),
        state: flow.state.as_str().to_owned(),
        up_bytes: flow.up.given,
        down_bytes: flow.down.given,
        owed_bytes: flow.owed_bytes(),
        service: flow.service,
        client: flow.client,
        vip: flow.vip,
        backend: flow.backend,
        vm: flow.vm,
        opened_at_unix_ms: flow.opened_at_ms,
        last_bytes_at_unix_ms: flow.last_bytes_at_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_goes_on_from_what_it_said_and_from_nothing_else() {
        for text in ["a.p1", "a.p1.650f3a-1a"] {
            assert_eq!(text.parse::<From>().unwrap().to_string(), text);
        }
        for text in ["", "a", "a.", "a.p1.", "a.p1.x", "a.p1.1-1.2", "A.p1", "a/p1"] {
            assert_eq!(text.parse::<From>(), Err(NoFrom), "{text}");
        }
    }
}
