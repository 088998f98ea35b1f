//! Why a call was not served, in the server's words or in ours.

use serde::{Deserialize, Serialize};

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server answered, and said no.
    #[error("{} ({}; {})", refusal.message, refusal.code, refusal.remedy)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The server's words.
        refusal: Refusal,
    },
    /// The connection broke: whether the call was carried out is not known. Its repetition tells.
    #[error("the connection broke before the answer was whole; send the same again over a new one")]
    Broken(#[source] hyper::Error),
    /// The answer is not of this API.
    #[error("the answer (status {status}) cannot be read: {why}; are both ends of one version?")]
    Unintelligible {
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        why: String,
    },
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
