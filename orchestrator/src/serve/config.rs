//! What the service is told: who it is, and which sites there are, with the agents, proxies and name
//! servers at them. Written by an operator, then checked.
//!
//! ```toml
//! site = "hq"
//! name = "serve"                    # as in the certificate
//!
//! [control]
//! listen = "192.0.2.10:7400"
//!
//! [identity]                        # `causeway pki issue --role orchestrator` writes these
//! certificate = "certificate.pem"
//! key = "key.pem"
//! authority = "ca.pem"
//!
//! [state]
//! folder = "/var/lib/causeway/serve"
//!
//! [[sites]]
//! name = "a"
//!
//! [[sites.proxy]]
//! name = "p1"
//! address = "198.51.100.2:7401"
//!
//! [[sites.agent]]
//! name = "hv1"
//! address = "198.51.100.3:7402"
//! proxy = "p1"                      # whose leg stands on its networks; where there are several
//!
//! [[sites.name_server]]             # where names follow VMs
//! name = "ns1"
//! address = "198.51.100.4:7404"
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use daemon::config::{
    Basics, ConfigError, Problems, Told, WrittenControl, WrittenIdentity, WrittenLog, WrittenState,
    beside, read,
};
use daemon::loaded::Configuration;
use orchestrator_api::Place;
use placement::{End, Identity, PartName, Role, SiteName};
use serde::Deserialize;
use toml::Spanned;

/// Most sites.
pub const SITES_MAX: usize = 64;
/// Most agents, most proxies, and most name servers of one site.
pub const PARTS_MAX: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    site: Spanned<String>,
    name: Spanned<String>,
    control: WrittenControl,
    identity: WrittenIdentity,
    state: WrittenState,
    #[serde(default)]
    log: WrittenLog,
    sites: Spanned<Vec<WrittenSite>>,
    gates: Option<WrittenGates>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSite {
    name: Spanned<String>,
    #[serde(default)]
    proxy: Vec<WrittenPart>,
    #[serde(default)]
    agent: Vec<WrittenAgent>,
    #[serde(default)]
    name_server: Vec<WrittenPart>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPart {
    name: Spanned<String>,
    address: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAgent {
    name: Spanned<String>,
    address: Spanned<String>,
    proxy: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGates {
    folder: Spanned<String>,
}

/// What the service is told to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What every daemon is told.
    pub basics: Basics,
    /// Which orchestrator of its site it is; its orders carry the name.
    pub name: PartName,
    /// Every site, at least one.
    pub sites: Vec<SiteConfig>,
    /// Where moves are held up, for rehearsals; see [`gates`](super::gates).
    pub gates: Option<PathBuf>,
}

/// A data center.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteConfig {
    /// Its name.
    pub name: SiteName,
    /// Its proxies.
    pub proxies: Vec<PartConfig>,
    /// Its hypervisors' hosts.
    pub agents: Vec<AgentConfig>,
    /// Its name servers.
    pub name_servers: Vec<PartConfig>,
}

/// Something that is called by its name at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartConfig {
    /// Which one of its role and site.
    pub name: PartName,
    /// Where its control server listens.
    pub address: SocketAddr,
}

/// A hypervisor's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// Its agent.
    pub part: PartConfig,
    /// The proxy whose leg stands on its networks.
    pub proxy: PartName,
}

impl Configuration for Config {
    const ROLE: Role = Role::Orchestrator;

    fn read(path: &Path) -> Result<Config, ConfigError> {
        read(path, check)
    }

    fn basics(&self) -> &Basics {
        &self.basics
    }

    fn name(&self) -> Option<&PartName> {
        Some(&self.name)
    }
}

impl Config {
    /// The site of this name.
    #[must_use]
    pub fn site(&self, name: &SiteName) -> Option<&SiteConfig> {
        self.sites.iter().find(|site| site.name == *name)
    }

    /// Every agent of every site, as an end of a move.
    pub fn ends(&self) -> impl Iterator<Item = End> {
        self.sites.iter().flat_map(SiteConfig::ends)
    }

    /// One agent, as an end of a move.
    #[must_use]
    pub fn end(&self, at: &Place) -> Option<End> {
        self.ends().find(|end| at.is_at(end))
    }

    /// Where a proxy listens.
    #[must_use]
    pub fn proxy(&self, site: &SiteName, name: &PartName) -> Option<SocketAddr> {
        let proxies = &self.site(site)?.proxies;
        proxies.iter().find(|proxy| proxy.name == *name).map(|proxy| proxy.address)
    }
}

impl SiteConfig {
    fn ends(&self) -> impl Iterator<Item = End> {
        self.agents.iter().map(|agent| End {
            site: self.name.clone(),
            agent: agent.part.name.clone(),
            address: agent.part.address,
            proxy: agent.proxy.clone(),
        })
    }

    /// Who a part of this site is.
    #[must_use]
    pub fn identity(&self, role: Role, name: &PartName) -> Identity {
        Identity { site: self.name.clone(), role, name: name.clone() }
    }
}

fn check(written: Written, problems: &mut Problems<'_>) -> Result<Config, Told> {
    let Written { site, name, control, identity, state, log, sites, gates } = written;
    let basics = Basics::check(&site, &control, &identity, &state, &log, problems);
    let name = problems.parse("name", &name);
    let sites = check_sites(&sites, problems);
    let gates = gates.map(|gates| folder(&gates.folder, problems)).transpose();
    Ok(Config { basics: basics?, name: name?, sites: sites?, gates: gates? })
}

fn folder(written: &Spanned<String>, problems: &mut Problems<'_>) -> Result<PathBuf, Told> {
    if written.get_ref().is_empty() {
        return Err(problems.at(written.span(), "gates.folder", "is empty; write a path"));
    }
    Ok(beside(problems.path(), Path::new(written.get_ref())))
}

fn check_sites(
    written: &Spanned<Vec<WrittenSite>>,
    problems: &mut Problems<'_>,
) -> Result<Vec<SiteConfig>, Told> {
    if !(1..=SITES_MAX).contains(&written.get_ref().len()) {
        let message = format!("there must be 1 to {SITES_MAX}; add [[sites]], or leave some out");
        return Err(problems.at(written.span(), "sites", message));
    }
    let mut sites: Vec<SiteConfig> = Vec::new();
    let mut told = None;
    for site in written.get_ref() {
        match check_site(site, problems) {
            Ok(checked) if sites.iter().any(|known| known.name == checked.name) => {
                told = Some(problems.at(site.name.span(), "sites.name", TWICE));
            }
            Ok(checked) => sites.push(checked),
            Err(problem) => told = Some(problem),
        }
    }
    told.map_or(Ok(sites), Err)
}

fn check_site(written: &WrittenSite, problems: &mut Problems<'_>) -> Result<SiteConfig, Told> {
    let name = problems.parse("sites.name", &written.name);
    let lengths = [written.proxy.len(), written.agent.len(), written.name_server.len()];
    if lengths.iter().any(|length| *length > PARTS_MAX) {
        let message = format!("has more than {PARTS_MAX} parts of one kind; leave some out");
        return Err(problems.at(written.name.span(), "sites.name", message));
    }
    let proxies = parts("sites.proxy", &written.proxy, problems);
    let name_servers = parts("sites.name_server", &written.name_server, problems);
    let agents = check_agents(&written.agent, proxies.as_deref().unwrap_or(&[]), problems);
    Ok(SiteConfig { name: name?, proxies: proxies?, agents: agents?, name_servers: name_servers? })
}

fn check_agents(
    written: &[WrittenAgent],
    proxies: &[PartConfig],
    problems: &mut Problems<'_>,
) -> Result<Vec<AgentConfig>, Told> {
    let mut told = None;
    let mut parts: Vec<PartConfig> = Vec::new();
    let mut agents: Vec<AgentConfig> = Vec::new();
    for agent in written {
        let checked = part("sites.agent", &agent.name, &agent.address, &parts, problems);
        match (checked, leg(agent, proxies, problems)) {
            (Ok(part), Ok(proxy)) => {
                parts.push(part.clone());
                agents.push(AgentConfig { part, proxy });
            }
            (Err(problem), _) | (_, Err(problem)) => told = Some(problem),
        }
    }
    told.map_or(Ok(agents), Err)
}

fn parts(
    field: &str,
    written: &[WrittenPart],
    problems: &mut Problems<'_>,
) -> Result<Vec<PartConfig>, Told> {
    let mut parts: Vec<PartConfig> = Vec::new();
    let mut told = None;
    for one in written {
        match part(field, &one.name, &one.address, &parts, problems) {
            Ok(checked) => parts.push(checked),
            Err(problem) => told = Some(problem),
        }
    }
    told.map_or(Ok(parts), Err)
}

fn part(
    field: &str,
    name: &Spanned<String>,
    address: &Spanned<String>,
    earlier: &[PartConfig],
    problems: &mut Problems<'_>,
) -> Result<PartConfig, Told> {
    let checked = problems.parse::<PartName>(&format!("{field}.name"), name);
    let at = address.get_ref().parse::<SocketAddr>().map_err(|_| {
        let message = "is no address with a port; write 192.0.2.10:7401 or [2001:db8::10]:7401";
        problems.at(address.span(), &format!("{field}.address"), message)
    });
    let (checked, at) = (checked?, at?);
    if earlier.iter().any(|known| known.name == checked) {
        return Err(problems.at(name.span(), &format!("{field}.name"), TWICE));
    }
    Ok(PartConfig { name: checked, address: at })
}

/// The proxy that an agent names, or the only one that there is.
fn leg(
    agent: &WrittenAgent,
    proxies: &[PartConfig],
    problems: &mut Problems<'_>,
) -> Result<PartName, Told> {
    let Some(written) = &agent.proxy else {
        return match proxies {
            [proxy] => Ok(proxy.name.clone()),
            _ => {
                let message =
                    "has no proxy, and its site has not exactly one; add proxy = \"NAME\"";
                Err(problems.at(agent.name.span(), "sites.agent.name", message))
            }
        };
    };
    let name = problems.parse::<PartName>("sites.agent.proxy", written)?;
    if proxies.iter().any(|proxy| proxy.name == name) {
        return Ok(name);
    }
    let message = "is no proxy of this site; add it as [[sites.proxy]]";
    Err(problems.at(written.span(), "sites.agent.proxy", message))
}

const TWICE: &str = "stands twice; give each a name of its own";

#[cfg(test)]
mod tests {
    use daemon::config::parse;

    use super::*;

    const SOUND: &str = r#"site = "hq"
name = "serve"
[control]
listen = "127.0.0.1:7400"
[identity]
certificate = "c"
key = "k"
authority = "a"
[state]
folder = "s"
[[sites]]
name = "a"
[[sites.proxy]]
name = "p1"
address = "192.0.2.1:7401"
[[sites.agent]]
name = "hv1"
address = "192.0.2.2:7402"
"#;

    fn checked(text: &str) -> Result<Config, String> {
        parse(Path::new("serve.toml"), text.as_bytes(), check).map_err(|error| error.to_string())
    }

    #[test]
    fn a_sites_only_proxy_is_its_agents() {
        let config = checked(SOUND).unwrap();
        let end = config.ends().next().unwrap();
        assert_eq!((end.site.as_str(), end.agent.as_str(), end.proxy.as_str()), ("a", "hv1", "p1"));
        assert_eq!(config.proxy(&end.site, &end.proxy), Some("192.0.2.1:7401".parse().unwrap()));
        assert_eq!(config.gates, None);
        assert!(config.sites[0].name_servers.is_empty());
    }

    #[test]
    fn a_sites_name_servers_are_called_at_their_addresses() {
        let server = "[[sites.name_server]]\nname = \"ns1\"\naddress = \"192.0.2.3:7404\"\n";
        let config = checked(&format!("{SOUND}{server}")).unwrap();
        let [server] = &config.sites[0].name_servers[..] else { panic!("{config:?}") };
        assert_eq!(server.name.as_str(), "ns1");
        assert_eq!(server.address, "192.0.2.3:7404".parse().unwrap());
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        let two = "[[sites.proxy]]\nname = \"p2\"\naddress = \"192.0.2.9:1\"\n";
        for (text, named) in [
            (
                format!("{SOUND}proxy = \"p9\"\n"),
                "serve.toml:19:9: 'sites.agent.proxy': is no proxy",
            ),
            (format!("{SOUND}{two}"), "serve.toml:17:8: 'sites.agent.name': has no proxy"),
            (format!("{SOUND}rack = 4\n"), "serve.toml:19:1: unknown field 'rack'"),
            (
                SOUND.replace("192.0.2.2:7402", "hv1:7402"),
                "serve.toml:18:11: 'sites.agent.address'",
            ),
            (
                format!("{SOUND}[[sites]]\nname = \"a\"\n"),
                "serve.toml:20:8: 'sites.name': stands twice",
            ),
            (
                format!("{SOUND}[[sites.name_server]]\nname = \"ns1\"\naddress = \"ns1\"\n"),
                "serve.toml:21:11: 'sites.name_server.address'",
            ),
            (
                format!("{SOUND}[gates]\nfolder = \"\"\n"),
                "serve.toml:20:10: 'gates.folder': is empty",
            ),
        ] {
            let said = checked(&text).unwrap_err();
            assert!(said.contains(named), "no {named} in\n{said}");
        }
    }
}
