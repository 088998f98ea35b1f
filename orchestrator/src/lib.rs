//! `causeway`: the operator's command line, the service behind it, and the agent.
//!
//! So far: [`pki`], which makes the certificates that all parts know each other by, and `causeway
//! agent`, which is the crate `agent`.

pub mod pki;
