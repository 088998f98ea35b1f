//! A service's metrics: looked up once, so that counting is an addition and nothing else.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use proxy_api::{CloseReason, RefusedFor, Side};

use crate::config::ServiceConfig;

/// Why a datagram was not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Its client has no session, and may not have one.
    Refused,
    /// The socket it was for takes no more at the moment.
    Full,
    /// The system would not take it for another reason, such as its length or an ICMP error.
    System,
}

impl Dropped {
    const ALL: [Dropped; 3] = [Dropped::Refused, Dropped::Full, Dropped::System];

    fn as_str(self) -> &'static str {
        match self {
            Dropped::Refused => "refused",
            Dropped::Full => "full",
            Dropped::System => "system",
        }
    }
}

/// The handles.
pub(crate) struct Measures {
    opened: Counter,
    active: Gauge,
    closed: Vec<Counter>,
    refused: Vec<Counter>,
    up: Counter,
    down: Counter,
    connect: Histogram,
    dropped: Vec<Counter>,
}

impl Measures {
    pub(crate) fn of(config: &ServiceConfig) -> Measures {
        let service = [
            ("service", config.name.as_str().to_owned()),
            ("protocol", config.protocol.as_str().to_owned()),
        ];
        let with = |name: &'static str, value: &'static str| {
            let mut labels = service.to_vec();
            labels.push((name, value.to_owned()));
            labels
        };
        let closed = |reason: &CloseReason| {
            counter!("causeway_flows_closed_total", &with("reason", reason.as_str()))
        };
        let refused = |why: &RefusedFor| {
            counter!("causeway_clients_refused_total", &with("reason", why.as_str()))
        };
        let dropped = |why: &Dropped| {
            counter!("causeway_datagrams_dropped_total", &with("reason", why.as_str()))
        };
        Measures {
            opened: counter!("causeway_flows_opened_total", &service),
            active: gauge!("causeway_flows_active", &service),
            closed: CloseReason::ALL.iter().map(closed).collect(),
            refused: RefusedFor::ALL.iter().map(refused).collect(),
            up: counter!("causeway_bytes_total", &with("way", "up")),
            down: counter!("causeway_bytes_total", &with("way", "down")),
            connect: histogram!("causeway_connect_seconds", &service),
            dropped: Dropped::ALL.iter().map(dropped).collect(),
        }
    }

    pub(crate) fn opened(&self) {
        self.opened.increment(1);
        self.active.increment(1.0);
    }

    pub(crate) fn closed(&self, reason: CloseReason) {
        self.active.decrement(1.0);
        if let Some(count) = self.closed.get(reason as usize) {
            count.increment(1);
        }
    }

    pub(crate) fn refused(&self, why: RefusedFor) {
        if let Some(count) = self.refused.get(why as usize) {
            count.increment(1);
        }
    }

    pub(crate) fn passed(&self, from: Side, bytes: u64) {
        match from {
            Side::Client => self.up.increment(bytes),
            Side::Server => self.down.increment(bytes),
        }
    }

    pub(crate) fn connected(&self, after: Duration) {
        self.connect.record(after);
    }

    pub(crate) fn dropped(&self, why: Dropped) {
        if let Some(count) = self.dropped.get(why as usize) {
            count.increment(1);
        }
    }
}

impl std::fmt::Debug for Measures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Measures")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_own_place() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, why) in RefusedFor::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index);
        }
        for (index, why) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index);
        }
    }
}
