//! The move of a VM on model agents that decide by the real rules: killed at every record, called
//! off at every record, with every call lost, late, repeated, or the death of its agent. However it
//! goes, the VM runs at most once at every instant, and at the end it runs at one of both ends with
//! nothing left over at the other; and then it can be moved again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod abort;
mod calls;
mod copies;
mod home;
mod killed;
mod name_servers;
mod names;
mod others;
mod proxies;
mod reclaim;
mod report;
mod trial;
