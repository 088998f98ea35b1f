//! What is said over the control socket: one JSON line to ask, one JSON line to answer.
//!
//! ```text
//! {"do":"set","pair":{"from":"a","to":"b","both":true},"change":{"delay_us":10000}}
//! {"do":"cut","pair":{"from":"a","to":"b"}}
//! {"do":"heal","pair":{"from":"a","to":"b"}}
//! {"do":"counters"}
//! {"do":"quit"}
//! ```
//!
//! The answer is `{"answer":"done"}`, `{"answer":"counted","counters":{…}}` or
//! `{"answer":"refused","reason":"…"}`; one that is refused has changed nothing.

use serde::{Deserialize, Serialize};

use crate::counters::Counters;
use crate::plan::{PlanError, PortName};
use crate::settings::Change;

/// Longest line that is asked. A longer one is refused and its connection closed.
pub const LINE_BYTES_MAX: usize = 4096;
/// Longest line that is answered: the counters of all directions of the most ports, with room.
pub(crate) const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// One direction, or both, between two ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The port that packets come from.
    pub from: PortName,
    /// The port that they go to.
    pub to: PortName,
    /// Whether the way back is meant too.
    #[serde(default)]
    pub both: bool,
}

impl Pair {
    /// One direction.
    pub fn one_way(from: &str, to: &str) -> Result<Self, PlanError> {
        Ok(Self { from: from.parse()?, to: to.parse()?, both: false })
    }

    /// Both directions.
    pub fn both_ways(one: &str, other: &str) -> Result<Self, PlanError> {
        Ok(Self { from: one.parse()?, to: other.parse()?, both: true })
    }
}

/// What is asked of a running emulator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Change settings; fields that are not named stay.
    Set {
        /// Of what.
        pair: Pair,
        /// To what.
        change: Change,
    },
    /// Discard silently, from now until `heal`; what is under way too.
    Cut {
        /// Between whom.
        pair: Pair,
    },
    /// End a cut.
    Heal {
        /// Between whom.
        pair: Pair,
    },
    /// Say what was counted.
    Counters {},
    /// End the emulator; its devices disappear.
    Quit {},
}

/// What a running emulator answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// It is so now.
    Done {},
    /// What was counted.
    Counted {
        /// Of every direction and port.
        counters: Counters,
    },
    /// Nothing was changed.
    Refused {
        /// What was wrong, and what to do.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_lines_are_understood() {
        let line =
            r#"{"do":"set","pair":{"from":"a","to":"b","both":true},"change":{"delay_us":1}}"#;
        let change = Change { delay_us: Some(1), ..Change::default() };
        let pair = Pair::both_ways("a", "b").unwrap();
        assert_eq!(serde_json::from_str::<Request>(line).unwrap(), Request::Set { pair, change });
        let line = r#"{"do":"cut","pair":{"from":"a","to":"b"}}"#;
        let pair = Pair::one_way("a", "b").unwrap();
        assert_eq!(serde_json::from_str::<Request>(line).unwrap(), Request::Cut { pair });
        let quit = serde_json::from_str::<Request>(r#"{"do":"quit"}"#).unwrap();
        assert_eq!(quit, Request::Quit {});
        assert_eq!(serde_json::to_string(&Reply::Done {}).unwrap(), r#"{"answer":"done"}"#);
    }

    #[test]
    fn unknown_words_and_fields_are_refused() {
        for line in [
            "",
            "{}",
            r#"{"do":"explode"}"#,
            r#"{"do":"quit","now":true}"#,
            r#"{"do":"cut","pair":{"from":"a","to":"b","bot":true}}"#,
            r#"{"do":"set","pair":{"from":"a","to":"b"},"change":{"delay":1}}"#,
            r#"{"do":"cut","pair":{"from":"A","to":"b"}}"#,
        ] {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
    }
}
