//! What the tunnel says it has handed to TCP and UDP, held against what crossed the WAN.

use std::fmt;

use lab::host::Host;
use lab::world::World;
use proxy_api::{Tunnel, TunnelWire};

use crate::crew::Crew;
use crate::tunnel::TUNNEL_PORT;

/// Of IPv4, TCP, and its timestamps, which every segment carries.
const SEGMENT_HEADER_BYTES: u64 = 20 + 20 + 12;
/// Of IPv4 and UDP.
const DATAGRAM_HEADER_BYTES: u64 = 20 + 8;
/// Of a hundred bytes, so many may be unaccounted for: acknowledgements carry other options when
/// segments are lost, and nobody stops the clock while things are counted.
const OFF_PERCENT_MAX: u64 = 2;

/// One direction.
#[derive(Debug)]
pub(crate) struct Wire {
    from: String,
    to: String,
    sent: TunnelWire,
    received: TunnelWire,
    tcp: Segments,
    /// What the WAN was given to carry.
    offered_bytes: u64,
}

/// What the system says of a host's tunnel connections.
#[derive(Debug, Default, Clone, Copy)]
struct Segments {
    segments: u64,
    repeated_bytes: u64,
}

impl Wire {
    /// From the first crew's site to the second's, since the start of everything.
    pub(crate) fn between(world: &World, from: &Crew<'_>, to: &Crew<'_>) -> Wire {
        let counters = world.wan().counters().unwrap();
        let direction = counters.direction(from.site.name(), to.site.name()).unwrap();
        let at = |crew: &Crew<'_>, other: &Crew<'_>| of_peer(&crew.proxy.tunnel(), other);
        Wire {
            from: from.site.name().to_owned(),
            to: to.site.name().to_owned(),
            sent: at(from, to),
            received: at(to, from),
            tcp: Segments::of(&from.site.proxy()),
            offered_bytes: direction.delivery.offered.bytes,
        }
    }

    /// Datagrams that were sent and did not come.
    pub(crate) fn datagrams_lost(&self) -> u64 {
        self.sent.datagrams_sent.saturating_sub(self.received.datagrams_received)
    }

    /// Nothing crossed that the tunnel did not send, and nothing that it sent is missing.
    pub(crate) fn adds_up(&self) {
        let told = self.told_bytes();
        let off = told.abs_diff(self.offered_bytes);
        assert!(off * 100 <= OFF_PERCENT_MAX * self.offered_bytes, "{self}: {self:?}");
    }

    fn told_bytes(&self) -> u64 {
        self.sent.tcp_sent_bytes
            + self.tcp.repeated_bytes
            + self.tcp.segments * SEGMENT_HEADER_BYTES
            + self.sent.datagrams_sent_bytes
            + self.sent.datagrams_sent * DATAGRAM_HEADER_BYTES
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (told, offered) = (self.told_bytes(), self.offered_bytes);
        let of = told as f64 / offered as f64;
        write!(
            f,
            "{} to {}: the tunnel tells of {told} bytes, the WAN of {offered}: {of:.4}; {} of {} \
             datagrams lost",
            self.from,
            self.to,
            self.datagrams_lost(),
            self.sent.datagrams_sent
        )
    }
}

impl Segments {
    fn of(host: &Host) -> Segments {
        let filter = format!("( sport = :{TUNNEL_PORT} or dport = :{TUNNEL_PORT} )");
        let told = host.succeed(&["ss", "-tinHO", "state", "established", &filter]).unwrap();
        let mut all = Segments::default();
        for line in told.lines() {
            all.segments += field(line, "segs_out:").expect("a connection that has sent");
            all.repeated_bytes += field(line, "bytes_retrans:").unwrap_or(0);
        }
        assert!(all.segments > 0, "no connection of the tunnel's: {told}");
        all
    }
}

fn field(line: &str, name: &str) -> Option<u64> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok())
}

fn of_peer(tunnel: &Tunnel, crew: &Crew<'_>) -> TunnelWire {
    let site = crew.site.name();
    let peer = tunnel.peers.iter().find(|peer| peer.identity.site.as_str() == site);
    peer.expect("the two are peers").wire
}
