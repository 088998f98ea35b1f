//! The life of a flow as a pure state machine: every event means something in every state, and no
//! byte is given that was not taken.
//!
//! ```text
//! Dialling --Connected--> Open --Ended(first)--> half closed --Ended(second)--> Closed(..Fin)
//!     |                     |                        |
//!     +------ Reset, Lost, Expired, Killed, Shutdown, DialFailed, DialTimedOut ------> Closed
//! ```

use proxy_api::{CloseReason, FlowState, Side};

/// What has passed from one peer to the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    taken: u64,
    given: u64,
    has_ended: bool,
}

impl Way {
    /// Bytes taken from the sender.
    #[must_use]
    pub fn taken(self) -> u64 {
        self.taken
    }

    /// Bytes given to the receiver's connection.
    #[must_use]
    pub fn given(self) -> u64 {
        self.given
    }

    /// Whether its sender has ended it, and the receiver was told so.
    #[must_use]
    pub fn has_ended(self) -> bool {
        self.has_ended
    }

    /// Bytes that the proxy itself holds.
    #[must_use]
    pub fn held(self) -> u64 {
        self.taken - self.given
    }
}

/// Both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ways {
    /// From client to server.
    pub up: Way,
    /// From server to client.
    pub down: Way,
}

impl Ways {
    /// The way that begins at `side`.
    #[must_use]
    pub fn from(self, side: Side) -> Way {
        match side {
            Side::Client => self.up,
            Side::Server => self.down,
        }
    }

    fn way_mut(&mut self, side: Side) -> &mut Way {
        match side {
            Side::Client => &mut self.up,
            Side::Server => &mut self.down,
        }
    }
}

/// Where a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// No backend has answered yet.
    Dialling,
    /// Bytes pass, both ways or, where one has ended, one way.
    Open {
        /// What has passed.
        ways: Ways,
        /// Who ended first.
        first: Option<Side>,
    },
    /// Over.
    Closed {
        /// Why.
        reason: CloseReason,
        /// What had passed.
        ways: Ways,
    },
}

/// What happens to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A backend has answered.
    Connected,
    /// None will; of a session, whose backend is heard of only by an answer, that none is there.
    DialFailed,
    /// The backend did not answer in time.
    DialTimedOut,
    /// Bytes were taken from `from`.
    Taken {
        /// Who sent them.
        from: Side,
        /// How many.
        bytes: u64,
    },
    /// Bytes taken from `from` were given to the other.
    Given {
        /// Who sent them.
        from: Side,
        /// How many.
        bytes: u64,
    },
    /// `from` has ended its direction, and the other has been told so.
    Ended {
        /// Who.
        from: Side,
    },
    /// `by` broke the flow off.
    Reset {
        /// Who.
        by: Side,
    },
    /// `side` answers nothing any more.
    Lost {
        /// Who.
        side: Side,
    },
    /// Nothing passed for too long.
    Expired,
    /// An operator wants it so.
    Killed,
    /// The proxy ends.
    Shutdown,
}

impl Life {
    /// What follows. Total: what cannot happen in a state leaves it as it is.
    #[must_use]
    pub fn after(self, event: Event) -> Life {
        let Some(reason) = event.ends_with() else { return self.passed(event) };
        match self {
            Life::Dialling => Life::Closed { reason, ways: Ways::default() },
            Life::Open { ways, .. } => Life::Closed { reason, ways },
            Life::Closed { .. } => self,
        }
    }

    /// What has passed so far.
    #[must_use]
    pub fn ways(self) -> Ways {
        match self {
            Life::Dialling => Ways::default(),
            Life::Open { ways, .. } | Life::Closed { ways, .. } => ways,
        }
    }

    /// Why it is over, if it is.
    #[must_use]
    pub fn reason(self) -> Option<CloseReason> {
        match self {
            Life::Closed { reason, .. } => Some(reason),
            Life::Dialling | Life::Open { .. } => None,
        }
    }

    /// As it is told.
    #[must_use]
    pub fn told(self) -> FlowState {
        match self {
            Life::Dialling => FlowState::Dialling,
            Life::Open { first: None, .. } => FlowState::Open,
            Life::Open { first: Some(by), .. } => FlowState::HalfClosed { by },
            Life::Closed { reason, .. } => FlowState::Closed { reason },
        }
    }

    /// Events that end nothing by themselves.
    fn passed(self, event: Event) -> Life {
        let (mut ways, first) = match self {
            Life::Dialling if event == Event::Connected => (Ways::default(), None),
            Life::Open { ways, first } => (ways, first),
            Life::Dialling | Life::Closed { .. } => return self,
        };
        match event {
            Event::Taken { from, bytes } => {
                let way = ways.way_mut(from);
                if !way.has_ended {
                    way.taken = way.taken.saturating_add(bytes);
                }
            }
            Event::Given { from, bytes } => {
                let way = ways.way_mut(from);
                way.given += bytes.min(way.held());
            }
            // An end is passed on only behind the last byte.
            Event::Ended { from } if ways.from(from).held() == 0 => {
                ways.way_mut(from).has_ended = true;
                let first = first.unwrap_or(from);
                if ways.up.has_ended && ways.down.has_ended {
                    return Life::Closed { reason: in_order(first), ways };
                }
                return Life::Open { ways, first: Some(first) };
            }
            _ => {}
        }
        Life::Open { ways, first }
    }
}

impl Event {
    fn ends_with(self) -> Option<CloseReason> {
        Some(match self {
            Event::DialFailed => CloseReason::ConnectFailed,
            Event::DialTimedOut => CloseReason::ConnectTimeout,
            Event::Reset { by: Side::Client } => CloseReason::ClientRst,
            Event::Reset { by: Side::Server } => CloseReason::ServerRst,
            Event::Lost { side: Side::Client } => CloseReason::ClientLost,
            Event::Lost { side: Side::Server } => CloseReason::ServerLost,
            Event::Expired => CloseReason::IdleTimeout,
            Event::Killed => CloseReason::Killed,
            Event::Shutdown => CloseReason::ProxyShutdown,
            Event::Connected | Event::Taken { .. } | Event::Given { .. } | Event::Ended { .. } => {
                return None;
            }
        })
    }
}

fn in_order(first: Side) -> CloseReason {
    match first {
        Side::Client => CloseReason::ClientFin,
        Side::Server => CloseReason::ServerFin,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(events: &[Event]) -> Life {
        events.iter().fold(Life::Dialling, |life, event| life.after(*event))
    }

    #[test]
    fn a_flow_is_closed_by_who_ended_first() {
        let (client, server) = (Side::Client, Side::Server);
        for (first, second, reason) in
            [(client, server, CloseReason::ClientFin), (server, client, CloseReason::ServerFin)]
        {
            let half = after(&[Event::Connected, Event::Ended { from: first }]);
            assert_eq!(half.told(), FlowState::HalfClosed { by: first });
            assert_eq!(half.after(Event::Ended { from: first }), half, "an end is one end");
            assert_eq!(half.after(Event::Ended { from: second }).reason(), Some(reason));
        }
    }

    #[test]
    fn an_end_overtakes_no_byte() {
        let taken = Event::Taken { from: Side::Client, bytes: 3 };
        let given = Event::Given { from: Side::Client, bytes: 3 };
        let ended = Event::Ended { from: Side::Client };
        let early = after(&[Event::Connected, taken, ended]);
        assert_eq!(early.told(), FlowState::Open);
        let behind = early.after(given).after(ended);
        assert_eq!(behind.told(), FlowState::HalfClosed { by: Side::Client });
        assert_eq!(behind.after(taken), behind, "nothing comes after the end");
    }

    #[test]
    fn bytes_that_were_never_taken_cannot_be_given() {
        let given = Event::Given { from: Side::Server, bytes: 9 };
        let life = after(&[Event::Connected, given]);
        assert_eq!(life.ways(), Ways::default());
    }

    fn side() -> impl Strategy<Value = Side> {
        prop_oneof![Just(Side::Client), Just(Side::Server)]
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Connected),
            8 => (side(), any::<u32>())
                .prop_map(|(from, bytes)| Event::Taken { from, bytes: bytes.into() }),
            8 => (side(), any::<u64>()).prop_map(|(from, bytes)| Event::Given { from, bytes }),
            4 => side().prop_map(|from| Event::Ended { from }),
            1 => side().prop_map(|by| Event::Reset { by }),
            1 => side().prop_map(|side| Event::Lost { side }),
            1 => prop_oneof![
                Just(Event::DialFailed),
                Just(Event::DialTimedOut),
                Just(Event::Expired),
                Just(Event::Killed),
                Just(Event::Shutdown),
            ],
        ]
    }

    proptest! {
        #[test]
        fn bytes_are_conserved_and_an_end_is_for_ever(
            events in prop::collection::vec(event(), 0..64)
        ) {
            let mut life = Life::Dialling;
            for event in events {
                let next = life.after(event);
                for from in [Side::Client, Side::Server] {
                    let (before, now) = (life.ways().from(from), next.ways().from(from));
                    prop_assert!(now.given <= now.taken);
                    prop_assert!(before.taken <= now.taken && before.given <= now.given);
                    prop_assert!(!before.has_ended || now == before, "an ended way moved");
                    prop_assert!(!now.has_ended || now.held() == 0, "an end overtook bytes");
                }
                if life.reason().is_some() {
                    prop_assert_eq!(next, life);
                }
                if let Some(CloseReason::ClientFin | CloseReason::ServerFin) = next.reason() {
                    prop_assert_eq!(next.ways().up.held() + next.ways().down.held(), 0);
                }
                life = next;
            }
        }

        #[test]
        fn whatever_breaks_a_flow_off_leaves_it_closed(
            events in prop::collection::vec(event(), 0..16),
            by in side(),
        ) {
            for last in [
                Event::Reset { by },
                Event::Lost { side: by },
                Event::Killed,
                Event::Shutdown,
                Event::Expired,
                Event::DialFailed,
                Event::DialTimedOut,
            ] {
                prop_assert!(after(&events).after(last).reason().is_some());
            }
        }
    }
}
