//! The proxy's control API: what is said, and a client that says it.
//!
//! Types and paths here are the contract between a proxy and whoever steers it. The client speaks
//! over a stream that its caller has opened and secured, and spawns nothing: the caller polls the
//! connection beside the call, and decides how long to wait.

mod client;

use placement::Identity;
use serde::{Deserialize, Serialize};

pub use client::{ANSWER_BYTES_MAX, CallError, Client, Connection};

/// Where each call goes; the server's table and the client read them here.
pub mod path {
    /// `GET`, viewer and up: [`Status`](super::Status).
    pub const STATUS: &str = "/v1/status";
    /// `POST`, operator and orchestrator: [`Reloaded`](super::Reloaded).
    pub const RELOAD: &str = "/v1/reload";
    /// `GET`, viewer and up: text for Prometheus.
    pub const METRICS: &str = "/metrics";
}

/// How a proxy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who it is, by its certificate.
    pub identity: Identity,
    /// Its version.
    pub version: String,
    /// How long it has run.
    pub uptime_s: u64,
    /// Which configuration it runs on: 1 from the start, one more with each reload that was taken.
    pub generation: u64,
    /// Until when its certificate is valid, in seconds since 1970.
    pub certificate_valid_until_s: u64,
}

/// A reload that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The generation that runs now.
    pub generation: u64,
}

/// Why a call was not served, in the server's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs; stays the same over versions.
    pub code: String,
    /// What was wrong, for people.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalBody {
    /// The refusal itself.
    pub error: Refusal,
}
