//! What flows and sessions a client is to keep.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::traffic::datagram::{ASK_BYTES, DATAGRAM_BYTES_MAX};
use crate::traffic::frame::PAYLOAD_BYTES_MAX;

/// Flows, and sessions, that one program keeps.
pub const FLOWS_MAX: usize = 16_384;

/// Fastest pace, in milliseconds between messages.
pub const INTERVAL_MS_MIN: u64 = 1;

/// What a flow does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Mode {
    /// Nothing after the hello.
    Idle,
    /// A message each interval, answered by one of the same size.
    Paced {
        /// Payload of a message, and of its answer.
        size: u32,
        /// From one message to the next.
        interval_ms: u64,
    },
    /// The next message as soon as the last is answered.
    PingPong {
        /// Payload of a message, and of its answer.
        size: u32,
    },
    /// As much as the connection takes, from the client to the server.
    Upload {
        /// Payload of each frame.
        frame: u32,
    },
    /// As much as the connection takes, from the server to the client.
    Download {
        /// Payload of each frame.
        frame: u32,
    },
}

/// Flows of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowSpec {
    /// How many.
    pub count: usize,
    /// Whom they go to, in turn.
    pub targets: Vec<SocketAddr>,
    /// Addresses they come from, in turn among those of the target's family; none: the system's
    /// choice.
    #[serde(default)]
    pub sources: Vec<IpAddr>,
    /// What they do.
    pub mode: Mode,
    /// After so many messages the flow ends its own direction, and waits for the server to finish.
    #[serde(default)]
    pub asks_max: Option<u64>,
    /// From so long after its start on the flow sends nothing, until it is told to speak.
    #[serde(default)]
    pub silent_after_ms: Option<u64>,
}

/// UDP sessions of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionSpec {
    /// How many.
    pub count: usize,
    /// Whom they go to, in turn.
    pub targets: Vec<SocketAddr>,
    /// Addresses they come from, as for flows.
    #[serde(default)]
    pub sources: Vec<IpAddr>,
    /// Length of a datagram's payload.
    pub size: usize,
    /// From one datagram to the next.
    pub interval_ms: u64,
}

/// All that a client keeps from its start on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// TCP.
    #[serde(default)]
    pub flows: Vec<FlowSpec>,
    /// UDP.
    #[serde(default)]
    pub sessions: Vec<SessionSpec>,
}

/// A plan that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nobody to connect to.
    #[error("flows or sessions without a target; give at least one ADDRESS:PORT")]
    NoTarget,
    /// More than [`FLOWS_MAX`].
    #[error("{0} flows or sessions in all; keep it to {FLOWS_MAX}")]
    TooMany(usize),
    /// A frame that no header can announce.
    #[error("a frame of {0} bytes; keep it to {PAYLOAD_BYTES_MAX}")]
    FrameTooLong(u32),
    /// A datagram that cannot carry its header, or that no socket takes.
    #[error("a datagram of {0} bytes; give {ASK_BYTES} to {DATAGRAM_BYTES_MAX}")]
    DatagramSize(usize),
    /// Faster than the clock.
    #[error("an interval of 0 ms; give {INTERVAL_MS_MIN} or more")]
    Interval,
}

impl FlowSpec {
    /// Checks the flows, of which `present` are there already.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, present: usize) -> Result<(), PlanError> {
        check_places(self.count, &self.targets, present)?;
        let (frame, interval_ms) = match self.mode {
            Mode::Idle => (0, INTERVAL_MS_MIN),
            Mode::Paced { size, interval_ms } => (size, interval_ms),
            Mode::PingPong { size: frame } | Mode::Upload { frame } | Mode::Download { frame } => {
                (frame, INTERVAL_MS_MIN)
            }
        };
        if frame > PAYLOAD_BYTES_MAX {
            return Err(PlanError::FrameTooLong(frame));
        }
        if interval_ms < INTERVAL_MS_MIN { Err(PlanError::Interval) } else { Ok(()) }
    }

    /// The target and source of the `nth` flow.
    #[must_use]
    pub fn ends(&self, nth: usize) -> (SocketAddr, Option<IpAddr>) {
        ends(&self.targets, &self.sources, nth)
    }
}

impl SessionSpec {
    /// Checks the sessions, of which `present` are there already.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, present: usize) -> Result<(), PlanError> {
        check_places(self.count, &self.targets, present)?;
        if !(ASK_BYTES..=DATAGRAM_BYTES_MAX).contains(&self.size) {
            return Err(PlanError::DatagramSize(self.size));
        }
        if self.interval_ms < INTERVAL_MS_MIN { Err(PlanError::Interval) } else { Ok(()) }
    }

    /// The target and source of the `nth` session.
    #[must_use]
    pub fn ends(&self, nth: usize) -> (SocketAddr, Option<IpAddr>) {
        ends(&self.targets, &self.sources, nth)
    }
}

fn check_places(count: usize, targets: &[SocketAddr], present: usize) -> Result<(), PlanError> {
    let all = present.saturating_add(count);
    if all > FLOWS_MAX {
        return Err(PlanError::TooMany(all));
    }
    if targets.is_empty() && count > 0 { Err(PlanError::NoTarget) } else { Ok(()) }
}

fn ends(targets: &[SocketAddr], sources: &[IpAddr], nth: usize) -> (SocketAddr, Option<IpAddr>) {
    let target = targets[nth % targets.len()];
    let fitting: Vec<&IpAddr> =
        sources.iter().filter(|source| source.is_ipv4() == target.is_ipv4()).collect();
    // All sources meet all targets: the source advances once the targets have all had their turn.
    let source = (!fitting.is_empty()).then(|| *fitting[(nth / targets.len()) % fitting.len()]);
    (target, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(mode: Mode) -> FlowSpec {
        FlowSpec {
            count: 1,
            targets: vec!["192.0.2.1:7".parse().unwrap(), "[2001:db8::1]:7".parse().unwrap()],
            sources: ["192.0.2.8", "192.0.2.9", "2001:db8::9"].map(|ip| ip.parse().unwrap()).into(),
            mode,
            asks_max: None,
            silent_after_ms: None,
        }
    }

    #[test]
    fn a_source_is_of_its_targets_family() {
        let spec = spec(Mode::Idle);
        let sources = [0, 1, 2, 3, 4].map(|nth| spec.ends(nth).1.unwrap().to_string());
        assert_eq!(sources, ["192.0.2.8", "2001:db8::9", "192.0.2.9", "2001:db8::9", "192.0.2.8"]);
    }

    #[test]
    fn a_plan_out_of_bounds_is_refused() {
        assert_eq!(spec(Mode::Idle).check(FLOWS_MAX - 1), Ok(()));
        assert_eq!(spec(Mode::Idle).check(FLOWS_MAX), Err(PlanError::TooMany(FLOWS_MAX + 1)));
        let mut nobody = spec(Mode::Idle);
        nobody.targets.clear();
        assert_eq!(nobody.check(0), Err(PlanError::NoTarget));
        assert_eq!(
            spec(Mode::Paced { size: 9, interval_ms: 0 }).check(0),
            Err(PlanError::Interval)
        );
        let frame = PAYLOAD_BYTES_MAX + 1;
        assert_eq!(spec(Mode::Upload { frame }).check(0), Err(PlanError::FrameTooLong(frame)));
    }
}
