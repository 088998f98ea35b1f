//! `causeway`: the operator's command line, the service behind it, and the agent.
//!
//! [`migration`] is the move of a VM, from its plan to its end; [`pki`] makes the certificates that all
//! parts know each other by; `causeway agent` is the crate `agent`.

pub mod cli;
pub mod init;
pub mod migration;
pub mod pki;
mod random;
pub mod report;
pub mod serve;
