//! How a call came to nothing, by what its caller can do about it.

use std::error::Error;

use orchestrator_api::{CallError, Refusal};

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallTrouble {
    /// Nothing was sent: it had no effect.
    #[error("{party} is not reached; see that it runs, and the way to it")]
    Unreached {
        /// Whom.
        party: String,
        /// What the system said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It was sent, and no answer came: whether it had an effect, the same key tells.
    #[error("{party} has not answered; the same call with the same key tells what became of it")]
    Unheard {
        /// Whom.
        party: String,
        /// Its connection broke, rather than that it took too long.
        is_cut: bool,
        /// How that showed.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It was answered, and refused.
    #[error("{party} says no: {} ({}; {})", refusal.message, refusal.code, refusal.remedy)]
    Refused {
        /// Who.
        party: String,
        /// In its words.
        refusal: Refusal,
    },
    /// The answer is none that this version knows.
    #[error("{party} gave an answer that cannot be read; see that both ends are of one version")]
    Unintelligible {
        /// Who.
        party: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// The refusals that a move acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A later epoch has been seen.
    Older,
    /// The epoch was never claimed there.
    NotClaimed,
    /// Somebody else owns it.
    Owned,
    /// The move was ended there.
    Ended,
    /// The VM switched over by itself, and its copy was given up.
    SwitchedOver,
    /// There is no record of the VM.
    UnknownVm,
    /// It may be otherwise in a moment: it is busy, unsure, not there yet, or an effect failed that
    /// may be had by the same order once more.
    Passing,
    /// All else: the same call would be refused again.
    Other,
}

impl CallTrouble {
    /// What was refused; none where nothing was.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        let CallTrouble::Refused { refusal, .. } = self else { return None };
        Some(match refusal.code.as_str() {
            "older" | "stale_epoch" => Code::Older,
            "not_claimed" => Code::NotClaimed,
            "owned" => Code::Owned,
            "ended" => Code::Ended,
            "switched_over" => Code::SwitchedOver,
            "unknown_vm" => Code::UnknownVm,
            "busy" | "under_way" | "unsure" | "not_loaded" | "not_completed" | "effect_failed"
            | "not_kept" | "ending" | "unsettled" => Code::Passing,
            _ => Code::Other,
        })
    }

    /// Whether it was refused by this very word, which no [`Code`] stands for.
    #[must_use]
    pub fn is_refusal_as(&self, code: &str) -> bool {
        matches!(self, CallTrouble::Refused { refusal, .. } if refusal.code == code)
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            CallTrouble::Unreached { .. } | CallTrouble::Unheard { .. } => true,
            CallTrouble::Refused { .. } => self.code() == Some(Code::Passing),
            CallTrouble::Unintelligible { .. } => false,
        }
    }

    /// How a call over an open connection ended, that `party` was asked.
    #[must_use]
    pub fn of_call(party: String, error: CallError) -> CallTrouble {
        match error {
            CallError::Refused { refusal, .. } => CallTrouble::Refused { party, refusal },
            CallError::Broken(_) => {
                CallTrouble::Unheard { party, is_cut: true, source: Box::new(error) }
            }
            CallError::Unintelligible { .. } => {
                CallTrouble::Unintelligible { party, source: Box::new(error) }
            }
        }
    }
}
