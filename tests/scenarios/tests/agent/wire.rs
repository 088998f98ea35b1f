//! What the tunnel says it has handed to TCP and UDP, held against what crossed the WAN.

use std::fmt;

use lab::host::Host;
use lab::world::World;
use proxy_api::{Tunnel, TunnelWire};
use wan::Tally;

use crate::crew::{Crew, until};
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
    offered: Tally,
    /// Of that, what it lost.
    lost: Tally,
}

/// What the system says of a host's tunnel connections.
#[derive(Debug, Default, Clone, Copy)]
struct Segments {
    segments: u64,
    repeated_bytes: u64,
}

impl Wire {
    /// From the first crew's site to the second's, since the start of everything. Whoever uses the
    /// VM across the WAN has stopped: no datagram may be under way.
    pub(crate) fn between(world: &World, from: &Crew<'_>, to: &Crew<'_>) -> Wire {
        let at = |crew: &Crew<'_>, other: &Crew<'_>| of_peer(&crew.proxy.tunnel(), other);
        let (sent, received) = until("no datagram is under way", || {
            let look = || (at(from, to), at(to, from));
            let (earlier, later) = (look(), look());
            let counts =
                |of: &(TunnelWire, TunnelWire)| (of.0.datagrams_sent, of.1.datagrams_received);
            (counts(&earlier) == counts(&later)).then_some(later)
        });
        let counters = world.wan().counters().unwrap();
        let direction = counters.direction(from.site.name(), to.site.name()).unwrap();
        Wire {
            from: from.site.name().to_owned(),
            to: to.site.name().to_owned(),
            sent,
            received,
            tcp: Segments::of(&from.site.proxy()),
            offered: direction.delivery.offered,
            lost: direction.delivery.lost,
        }
    }

    /// Datagrams that were sent and did not come: the WAN has lost them.
    pub(crate) fn datagrams_lost(&self) -> u64 {
        let (sent, received) = (self.sent.datagrams_sent, self.received.datagrams_received);
        let lost = sent.checked_sub(received).expect("no more came than was sent");
        assert!(lost <= self.lost.packets, "{self}, but the WAN lost {:?}", self.lost);
        lost
    }

    /// Nothing crossed that the tunnel did not send, and nothing that it sent is missing.
    pub(crate) fn adds_up(&self) {
        let told = self.told_bytes();
        let off = told.abs_diff(self.offered.bytes);
        assert!(off * 100 <= OFF_PERCENT_MAX * self.offered.bytes, "{self}: {self:?}");
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
        let (told, offered) = (self.told_bytes(), self.offered.bytes);
        let of = told as f64 / offered as f64;
        write!(
            f,
            "{} to {}: the tunnel tells of {told} bytes, the WAN of {offered}: {of:.4}; {} of {} \
             datagrams came",
            self.from, self.to, self.received.datagrams_received, self.sent.datagrams_sent
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
