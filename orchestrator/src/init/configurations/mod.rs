//! From a description to the configuration of each part, as text. Pure: the same description gives
//! the same files.

mod agent;
mod name_server;
mod proxy;
mod service;

use std::net::SocketAddr;

use placement::{Identity, Role, SiteName};
use serde::Serialize;

use super::description::Description;

/// Where daemons keep what they must remember, each in a folder of its own.
const STATE: &str = "/var/lib/causeway";

/// One part of an installation, with what is to lie beside its papers.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) identity: Identity,
    /// Name and text; the first is the configuration.
    pub(super) files: Vec<(String, String)>,
}

/// Why no text can be made of a configuration: none that a description can say.
pub(super) type TextError = toml::ser::Error;

/// Every part, sites first, in the order of the description.
pub(super) fn of(description: &Description) -> Result<Vec<Part>, TextError> {
    let mut parts = Vec::new();
    for site in &description.sites {
        for proxy in &site.proxies {
            let text = proxy::text(description, site, proxy)?;
            parts.push(part(site.identity(Role::Proxy, &proxy.name), "proxy.toml", text));
        }
        for host in &site.hosts {
            let text = agent::text(description, site, host)?;
            parts.push(part(site.identity(Role::Agent, &host.name), "agent.toml", text));
        }
        for server in &site.name_servers {
            let text = name_server::text(description, site, server)?;
            parts.push(part(site.identity(Role::Gslb, &server.name), "gslb.toml", text));
        }
    }
    let serve = &description.serve;
    let at_home = |role, name: &placement::PartName| Identity {
        site: serve.site.clone(),
        role,
        name: name.clone(),
    };
    let text = service::text(description)?;
    parts.push(part(at_home(Role::Orchestrator, &serve.name), "serve.toml", text));
    for operator in &serve.operators {
        let mut made =
            part(at_home(Role::Operator, operator), "operator.toml", service::operator(serve)?);
        for vm in &description.vms {
            let definition = &vm.definition;
            made.files.push((format!("{}.toml", definition.name), toml::to_string(definition)?));
        }
        parts.push(made);
    }
    Ok(parts)
}

fn part(identity: Identity, file: &str, text: String) -> Part {
    Part { identity, files: vec![(file.to_owned(), text)] }
}

#[derive(Debug, Serialize)]
struct Control {
    listen: SocketAddr,
}

#[derive(Debug, Serialize)]
struct Papers {
    certificate: &'static str,
    key: &'static str,
    authority: &'static str,
}

#[derive(Debug, Serialize)]
struct State {
    folder: String,
}

/// As `pki` names them, beside the configuration.
const PAPERS: Papers =
    Papers { certificate: "certificate.pem", key: "key.pem", authority: "ca.pem" };

/// What every daemon's configuration has besides its site.
fn basics(listen: SocketAddr, of: &Identity) -> (Control, Papers, State) {
    let folder = format!("{STATE}/{}-{}", of.role, of.name);
    (Control { listen }, PAPERS, State { folder })
}

/// The end of a pair of proxies that dials is the later one by site and name, unless it is the only
/// one that can be dialled.
fn dials(
    from: (&SiteName, &super::description::Proxy),
    to: (&SiteName, &super::description::Proxy),
) -> Option<SocketAddr> {
    let (reached, _) = to.1.tunnel?;
    let is_later = (from.0, &from.1.name) > (to.0, &to.1.name);
    (is_later || from.1.tunnel.is_none()).then_some(reached)
}
