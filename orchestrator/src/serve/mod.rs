//! `causeway serve`: the service behind the operator's command line. It drives moves, each of them a
//! saga of its journal, and brings every one to an end that a service before it began.
//!
//! The life of a move here: [`control`] takes the order -> [`places`] finds where the VM runs ->
//! [`moves`] opens its saga and drives it, [`table`] tells how far it is. A restarted service resumes
//! what its journal holds before it takes new orders. What a move left where the VM was is given back
//! by an operator's word: [`leftovers`].

pub mod check;
mod clock;
pub mod config;
mod control;
mod dial;
mod flows;
mod followed;
mod gates;
mod homes;
mod leftovers;
mod moves;
mod ordered;
mod places;
mod reclaimed;
mod reporting;
pub mod run;
mod starting;
mod table;
mod telling;

pub(crate) use telling::worded;
