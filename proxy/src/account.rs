//! Station seven, *account*: what is left of a flow once it is over.
//!
//! One entry of the access log (target `access`), the metrics of its service, and a place in the
//! history, which is bounded.

use std::collections::VecDeque;

use proxy_api::Flow;

/// Ended flows that each worker remembers; the oldest go first.
pub const ENDED_MAX: usize = 8_192;

/// A worker's history.
#[derive(Debug, Default)]
pub struct History {
    ended: VecDeque<Flow>,
}

impl History {
    /// Takes in a flow that is over.
    pub fn push(&mut self, flow: Flow) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(flow);
    }

    /// What is remembered, as it ended.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.ended.iter()
    }
}

/// Writes the access log's entry.
pub fn log(flow: &Flow) {
    let proxy_api::FlowState::Closed { reason } = flow.state else { return };
    tracing::info!(
        target: "access",
        flow = %flow.id,
        service = %flow.service,
        protocol = flow.protocol.as_str(),
        client = %flow.client,
        vip = %flow.vip,
        backend = %flow.backend,
        server = %flow.server,
        reason = reason.as_str(),
        bytes_up = flow.up.given,
        bytes_down = flow.down.given,
        lasted_ms = flow.closed_at_ms.unwrap_or(flow.opened_at_ms) - flow.opened_at_ms,
        stall_us_max = flow.stall_us_max,
        "flow ended"
    );
}
