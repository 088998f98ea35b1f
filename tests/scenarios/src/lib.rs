//! The real programs, run and asked from outside; nothing of theirs is linked in but what their
//! peers use as well: identities, TLS and the client of the control API.
//!
//! Here is what the scenarios share: [`house`] is a folder with a CA, bundles and a
//! configuration, [`running`] a proxy that runs in it, [`strangers`] come with papers that are not
//! in order. [`flows`] are checked flows between machines of the lab, [`vm_port`] is the port of a VM there; [`site`] is a proxy at a site of it, between clients and
//! backends. [`installation`] is an example, made by `causeway init` and started in the lab.

pub mod flows;
pub mod house;
pub mod installation;
pub mod running;
pub mod site;
pub mod strangers;
pub mod vm_port;
