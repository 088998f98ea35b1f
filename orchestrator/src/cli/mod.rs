//! What operators type: each command is one or a few calls of the service, and what is told of them.
//!
//! [`operator_file`] says where the service is and who the operator is; [`line`] makes the calls;
//! [`following`] watches a move, [`report`] fetches its report, [`reclaim`] and [`flows`] see to what
//! it left; [`words`] and [`tabled`] put what came back into lines for people.

pub mod commands;
pub mod flows;
mod followed;
mod following;
mod line;
mod operator_file;
pub mod reclaim;
pub mod report;
mod tabled;
mod words;

use std::path::PathBuf;

use clap::Args;

/// How every command reaches the service, and tells.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The operator's file: where the service is, and who you are. Else CAUSEWAY_CONFIG, else
    /// ~/.config/causeway/operator.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Tell in JSON, for programs: one object a line.
    #[arg(long)]
    json: bool,
}
