//! `causeway`: the operator's command line, the service behind it, and the agent.
//!
//! So far the first thing that an installation needs: [`pki`], which makes the certificates that
//! all parts of it know each other by.

pub mod pki;
