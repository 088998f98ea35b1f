//! What sagas, steps and fences are called, and the key that a remote command carries.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name of a saga, a fence or a workflow, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Longest id of a step, in bytes.
pub const STEP_ID_BYTES_MAX: usize = 48;

/// A name that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is no name for a {what}: use 1 to {NAME_BYTES_MAX} letters, digits and the signs . - _ : / @"
)]
pub struct NameError {
    name: String,
    what: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a name.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:/@".contains(&byte);
                if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed) {
                    Ok(Self(name))
                } else {
                    // A name that came from outside may be of any length; the message is not.
                    let name = name.chars().take(NAME_BYTES_MAX).collect();
                    Err(NameError { name, what: $what })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of one saga, unique in its journal for ever.
    SagaName, "saga"
}

name! {
    /// The name of a counter in the journal that only grows: who registered its newest value may
    /// go through the pivot. Usually the name of the thing that several sagas could want at once.
    FenceName, "fence"
}

/// A counter of the journal at a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Which counter.
    pub name: FenceName,
    /// Its value.
    pub value: u64,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// The stable id of a step. It stands in journals, so it outlives the release that wrote it: a step
/// may be renamed in the code, its id may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(&'static str);

impl StepId {
    /// An id of small letters, digits and dashes. In a `const`, a bad one does not compile:
    ///
    /// ```
    /// # use saga::StepId;
    /// const RESERVE: StepId = StepId::new("reserve");
    /// ```
    ///
    /// ```compile_fail,E0080
    /// # use saga::StepId;
    /// const RESERVE: StepId = StepId::new("Reserve the target");
    /// ```
    ///
    /// # Panics
    ///
    /// If the id has any other sign, none at all, or more than [`STEP_ID_BYTES_MAX`].
    #[must_use]
    pub const fn new(id: &'static str) -> Self {
        let bytes = id.as_bytes();
        assert!(
            !bytes.is_empty() && bytes.len() <= STEP_ID_BYTES_MAX,
            "a step id has 1 to 48 bytes"
        );
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            let allowed = byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(allowed, "a step id has small letters, digits and dashes");
            at += 1;
        }
        Self(id)
    }

    /// The id as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a command to a remote party does for its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// A question, which has no effect: its answer is never repeated from memory.
    Observe,
    /// The step's effect.
    Perform,
    /// The effect taken back.
    Undo,
    /// The pivot asked to refuse for ever.
    Refuse,
}

/// The idempotency key of a command: the same for every repetition, also by a runner that resumes
/// the saga, and other for all else. A remote party that has done what a key asks for does it no
/// second time, and answers as it did. (One that refused for want of authority or evidence did
/// nothing, and remembers no answer: another runner may ask with more.)
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The saga.
    pub saga: SagaName,
    /// Which attempt of it, from 1.
    pub attempt: u32,
    /// The step's id.
    pub step: String,
    /// What is done for the step.
    pub act: Act,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let act = match self.act {
            Act::Observe => "observe",
            Act::Perform => "perform",
            Act::Undo => "undo",
            Act::Refuse => "refuse",
        };
        write!(f, "{}#{}/{}/{act}", self.saga, self.attempt, self.step)
    }
}

/// On whose authority a command goes out. A party that has seen a higher fence, or the same from
/// another incarnation, refuses it: so no command of a runner that was replaced has an effect late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// Which runner of this saga, from 1; each resumption is a new one.
    pub incarnation: u32,
    /// The fence that it registered; none before the saga has registered one.
    pub fence: Option<Fence>,
}
