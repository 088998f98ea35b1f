//! A name server at each site, whose one name follows the VM, and a client that asks them.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use guest::resolver::{Honouring, Ignoring, ask};
use lab::sandbox::{Launch, Process};
use lab::world::{Site, World};

use crate::asking::{Papers, vm};
use crate::crew::{put, until};

/// The name.
pub(crate) const NAME: &str = "shop.example.net";
/// How long answers for it live, usually.
pub(crate) const TTL_S: u32 = 300;
/// And while the VM moves.
const TTL_MOVING_S: u32 = 5;
/// Longest wait for one answer.
const ASK_MAX: Duration = Duration::from_secs(5);

/// The name server of one site; it answers at the site's first VIP.
pub(crate) struct NameServer<'w> {
    world: &'w World,
    site: &'w Site,
    process: Process,
}

impl<'w> NameServer<'w> {
    /// Starts it, with the name at site a.
    pub(crate) fn start(world: &'w World, site: &'w Site, papers: &Papers) -> NameServer<'w> {
        let bundle = papers.bundle(site.name(), "gslb", "ns1");
        for file in ["certificate.pem", "key.pem", "ca.pem"] {
            let bytes = fs::read(bundle.join(file)).unwrap();
            put(site, &format!("/etc/causeway/ns1/{file}"), bytes, 0o600);
        }
        put(site, "/etc/causeway/gslb.toml", configuration(world, site).into_bytes(), 0o644);
        let words = ["run", "--config", "/etc/causeway/gslb.toml"];
        let launch = Launch::ours("causeway-gslb").unwrap().args(words).log("gslb");
        let process = site.proxy().spawn(&launch).unwrap();
        let server = NameServer { world, site, process };
        until("the name server answers", || server.asked().map(drop));
        server
    }

    /// What a client is told: the site whose VIP it is, and for how long that may be believed.
    fn asked(&self) -> Option<(String, u32)> {
        assert!(self.process.ended().unwrap().is_none(), "the name server has ended");
        let at = format!("@{}", self.site.vip(1).v4);
        let words = ["dig", "-r", &at, "+time=2", "+tries=1", "+noall", "+answer", NAME, "A"];
        let told = self.world.client(1).succeed(&words).ok()?;
        let fields: Vec<&str> = told.split_whitespace().collect();
        let [_, ttl_s, _, _, address] = fields[..] else { return None };
        let is_at = |site: &&Site| site.vip(1).v4.to_string() == address;
        let site = self.world.sites().iter().find(is_at)?;
        Some((site.name().to_owned(), ttl_s.parse().ok()?))
    }

    /// It answers with this site, for as long as ever, or shortly.
    #[track_caller]
    pub(crate) fn answers(&self, site: &Site, is_shortened: bool) {
        let told = self.asked().expect("an answer");
        let ttl_s = if is_shortened { TTL_MOVING_S } else { TTL_S };
        assert_eq!(told, (site.name().to_owned(), ttl_s));
    }
}

/// Two clients that find the VM by its name: one honours TTLs, the other asks once.
pub(crate) struct Visitors<'s> {
    server: &'s NameServer<'s>,
    begun: Instant,
    honouring: Honouring,
    ignoring: Ignoring,
}

impl<'s> Visitors<'s> {
    /// Of this name server.
    pub(crate) fn of(server: &'s NameServer<'s>) -> Visitors<'s> {
        let (honouring, ignoring) = (Honouring::default(), Ignoring::default());
        Visitors { server, begun: Instant::now(), honouring, ignoring }
    }

    /// Where each goes, so long after the beginning by the clock of their caches.
    pub(crate) fn go_to(&mut self, after_s: u32) -> [IpAddr; 2] {
        let server = self.server;
        let address = SocketAddr::from((server.site.vip(1).v4, 53));
        let asked = || ask(address, NAME, 7, ASK_MAX);
        let asking = || server.world.client(1).inside(asked).unwrap();
        let now = self.begun + Duration::from_secs(after_s.into());
        [self.honouring.address(now, asking).unwrap(), self.ignoring.address(asking).unwrap()]
    }
}

fn configuration(world: &World, site: &Site) -> String {
    let (name, here, dns) = (site.name(), site.proxy_address().v4, site.vip(1).v4);
    let mut text = format!(
        "site = \"{name}\"\nname = \"ns1\"\n[control]\nlisten = \"{here}:7404\"\n\
         [identity]\ncertificate = \"ns1/certificate.pem\"\nkey = \"ns1/key.pem\"\n\
         authority = \"ns1/ca.pem\"\n[state]\nfolder = \"/var/lib/causeway/gslb\"\n\
         [dns]\nlisten = [\"{dns}:53\"]\n[[zone]]\nname = \"example.net\"\n\
         ns = [\"ns1.example.net\"]\ncontact = \"hostmaster@example.net\"\n\
         [[zone.record]]\nname = \"ns1.example.net\"\ntype = \"A\"\ndata = [\"{dns}\"]\n\
         [[steered]]\nname = \"{NAME}\"\nvms = [\"{}\"]\ninitial_site = \"a\"\n\
         ttl_s = {TTL_S}\nttl_moving_s = {TTL_MOVING_S}\n",
        vm()
    );
    for at in world.sites() {
        let (site, vip) = (at.name(), at.vip(1));
        text += &format!(
            "[[steered.at]]\nsite = \"{site}\"\naddress = [\"{}\", \"{}\"]\n",
            vip.v4, vip.v6
        );
    }
    text
}
