//! What a configuration means, for whoever wrote it.

use std::fmt::Write;
use std::path::Path;

use super::config::Config;
use super::run::Loaded;

/// A few lines about it.
#[must_use]
pub fn told(path: &Path, loaded: &Loaded) -> String {
    let Config { basics, sites, gates, .. } = &loaded.config;
    let mut told = format!("{}: in order\n", path.display());
    let mut line = |text: String| {
        // Writing to a string does not fail.
        let _ = writeln!(told, "  {text}");
    };
    line(format!("identity: {}", loaded.credentials.identity()));
    line(format!("control: {}", basics.listen));
    line(format!("journal: {}", basics.state_folder.join(super::run::JOURNAL).display()));
    for site in sites {
        for proxy in &site.proxies {
            line(format!("site {}: proxy {} at {}", site.name, proxy.name, proxy.address));
        }
        for server in &site.name_servers {
            line(format!("site {}: name server {} at {}", site.name, server.name, server.address));
        }
        for agent in &site.agents {
            let (part, proxy) = (&agent.part, &agent.proxy);
            let at = part.address;
            line(format!(
                "site {}: agent {} at {at}, on proxy {proxy}'s leg",
                site.name, part.name
            ));
        }
    }
    if let Some(gates) = gates {
        line(format!("gates: moves wait for files in {}", gates.display()));
    }
    told
}
