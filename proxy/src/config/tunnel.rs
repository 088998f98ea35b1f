//! `[tunnel]`: this site's end of the tunnel, the proxies at its other ends, and what they may
//! reach here. Without it there is no tunnel, and nothing may be reached.
//!
//! ```toml
//! [tunnel]
//! listen = "198.51.100.10:7402"   # where peers that dial reach us; needed if any does
//! entrances = "/run/causeway/agent"   # 0700, and the agent's folders.sockets where there is one
//!
//! [[tunnel.peer]]
//! identity = "causeway://site/b/role/proxy/name/px1"
//! dial = "203.0.113.10:7402"      # without it, the peer dials us: of each pair exactly one does
//!
//! [[tunnel.permit]]
//! channel = "disk"
//! vm = "web"                      # without it, of every VM
//! target = "unix:/run/causeway/agent/{vm}.{epoch}.disk"
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use daemon::config::{Problems, Told, beside};
use placement::{Identity, Role};
use serde::Deserialize;
use toml::Spanned;
use tunnel::driver::{PeerPlan, Reach};
use tunnel::protocol::permits::{Permit, Permits};

/// Most other proxies.
pub const PEERS_MAX: usize = 64;
/// Most permits.
pub const PERMITS_MAX: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenTunnel {
    listen: Option<Spanned<String>>,
    entrances: Spanned<String>,
    #[serde(default)]
    peer: Vec<WrittenPeer>,
    #[serde(default)]
    permit: Vec<WrittenPermit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPeer {
    identity: Spanned<String>,
    dial: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPermit {
    channel: Spanned<String>,
    vm: Option<Spanned<String>>,
    target: Spanned<String>,
}

/// This site's end of the tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelConfig {
    /// Where peers that dial reach us.
    pub listen: Option<SocketAddr>,
    /// The folder of the sockets that hypervisors connect to, `VM.EPOCH.CHANNEL`, each its owner's.
    pub entrances: PathBuf,
    /// The other proxies.
    pub peers: Vec<PeerPlan>,
    /// What they may reach here.
    pub permits: Permits,
}

pub(super) fn check(
    written: &WrittenTunnel,
    problems: &mut Problems<'_>,
) -> Result<TunnelConfig, Told> {
    let listen = written.listen.as_ref().map(|text| address("tunnel.listen", text, problems));
    let listen = listen.transpose();
    let entrances = match written.entrances.get_ref().as_str() {
        "" => {
            Err(problems.at(written.entrances.span(), "tunnel.entrances", "is empty; write a path"))
        }
        path => Ok(beside(problems.path(), Path::new(path))),
    };
    let peers = peers(written, problems);
    let permits = permits(&written.permit, problems);
    Ok(TunnelConfig { listen: listen?, entrances: entrances?, peers: peers?, permits: permits? })
}

fn peers(written: &WrittenTunnel, problems: &mut Problems<'_>) -> Result<Vec<PeerPlan>, Told> {
    if written.peer.len() > PEERS_MAX {
        let message = format!("more than {PEERS_MAX} peers; leave some out");
        return Err(problems.whole("tunnel.peer", message));
    }
    let mut peers: Vec<PeerPlan> = Vec::new();
    let mut told = None;
    for (number, peer) in written.peer.iter().enumerate() {
        match check_peer(number, peer, written.listen.is_some(), &peers, problems) {
            Ok(peer) => peers.push(peer),
            Err(problem) => told = Some(problem),
        }
    }
    told.map_or(Ok(peers), Err)
}

fn check_peer(
    number: usize,
    written: &WrittenPeer,
    listens: bool,
    earlier: &[PeerPlan],
    problems: &mut Problems<'_>,
) -> Result<PeerPlan, Told> {
    let field = format!("tunnel.peer.{number}.identity");
    let identity: Identity = problems.parse(&field, &written.identity)?;
    let mut wrong = |message| Err(problems.at(written.identity.span(), &field, message));
    if identity.role != Role::Proxy {
        return wrong("is no proxy; name the proxy at the tunnel's other end");
    }
    if earlier.iter().any(|peer| peer.identity == identity) {
        return wrong("is named twice; name each proxy once");
    }
    let reach = match &written.dial {
        Some(dial) => Reach::Dial(address(&format!("tunnel.peer.{number}.dial"), dial, problems)?),
        None if listens => Reach::Await,
        None => {
            return wrong("neither is dialled nor can dial us; give its 'dial', or tunnel.listen");
        }
    };
    Ok(PeerPlan { identity, reach })
}

fn permits(written: &[WrittenPermit], problems: &mut Problems<'_>) -> Result<Permits, Told> {
    if written.len() > PERMITS_MAX {
        let message = format!("more than {PERMITS_MAX} permits; leave some out");
        return Err(problems.whole("tunnel.permit", message));
    }
    let mut permits = Vec::new();
    let mut told = None;
    for (number, permit) in written.iter().enumerate() {
        match check_permit(number, permit, problems) {
            Ok(permit) => permits.push(permit),
            Err(problem) => told = Some(problem),
        }
    }
    told.map_or(Ok(Permits::new(permits)), Err)
}

fn check_permit(
    number: usize,
    written: &WrittenPermit,
    problems: &mut Problems<'_>,
) -> Result<Permit, Told> {
    let field = |name| format!("tunnel.permit.{number}.{name}");
    let channel = problems.parse(&field("channel"), &written.channel);
    let vm = written.vm.as_ref().map(|vm| problems.parse(&field("vm"), vm)).transpose();
    let target = problems.parse(&field("target"), &written.target);
    Ok(Permit { channel: channel?, vm: vm?, target: target? })
}

fn address(
    field: &str,
    written: &Spanned<String>,
    problems: &mut Problems<'_>,
) -> Result<SocketAddr, Told> {
    written.get_ref().parse().map_err(|_| {
        let message = "is no address with a port; write 192.0.2.10:7402 or [2001:db8::10]:7402";
        problems.at(written.span(), field, message)
    })
}
