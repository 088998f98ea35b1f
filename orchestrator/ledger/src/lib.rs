//! The ledger of a move, and the report that is made of it.
//!
//! Everything here is pure: what proxies, agents and the orchestrator saw goes in as typed events,
//! a value comes out. No clock, no file, no socket.
//!
//! - [`event`]: what is fed, as each party stamped it.
//! - [`fold`]: the events, in any order, and what they make.
//! - [`verdict`]: what became of a flow.
//! - [`rows`]: the ledger itself: one row for each flow alive at the cutover.
//! - [`join`]: the ledger held against somebody else's log.
//! - [`report`]: a move told whole, as JSON.
//! - [`page`]: the report as one HTML page with its pictures.

pub mod event;
pub mod fold;
pub mod join;
pub mod page;
pub mod report;
pub mod rows;
pub mod verdict;

pub use event::{
    Event, FlowEnded, FlowKey, FlowListed, FlowSeen, ProxyKey, SideFlowSeen, StragglerSeen, Tuple,
    VmEnd,
};
pub use fold::{EVENTS_MAX, Fold, Full};
pub use join::{Foreign, Join, Joined, KeptBy, join};
pub use rows::{
    FlowRow, Ledger, Oddity, OddityKind, SideFlowRow, Stalls, StragglerRow, Subject, Totals,
};
pub use verdict::{Broken, Closer, Verdict};
