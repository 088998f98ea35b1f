//! What is said to an agent, and a client that says it.
//!
//! - [`definition`]: what a VM is, as data: typed and bounded, so that the target's agent can build
//!   a command line from it without trusting whoever sent it.
//! - [`agent`]: orders, the copy, and what an agent shows of a VM.
//! - [`host`]: what it shows of the machine that it stands on.
//! - [`migration`]: a move as it is wished for, planned and followed.
//! - [`followed`]: what followed a move: names, and the application's health.
//! - [`client`]: the calls, over a stream that its caller has opened and secured.
//! - [`operator`]: what operators say to `causeway serve`.

pub mod agent;
pub mod client;
pub mod definition;
pub mod followed;
pub mod host;
pub mod migration;
pub mod operator;

pub use agent::{
    CopyCommand, CopyRequest, OrderKey, OrderRequest, Phase, ProcessDoes, ProcessView, Progress,
    VmList, VmView, path,
};
pub use client::AgentClient;
pub use definition::{
    Boot, Card, DefinitionError, Disk, KernelWord, Mac, MachineType, Uuid, VmDefinition,
};
pub use exchange::{CallError, Connection, Refusal, RefusalBody};
pub use followed::{HealthTold, NamePlace, NamesTold, Unconfirmed};
pub use host::{Accelerator, HOST_PATH, HostNetwork, HostView};
pub use migration::{
    Doing, Estimate, Finding, Move, MoveOptions, MoveProgress, MoveWish, NetworkLevel, Place,
    PlaceError, Plan, PlannedName, PlannedNetwork, Weight,
};
