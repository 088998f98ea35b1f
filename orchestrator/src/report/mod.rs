//! The report of a move, from what is seen of it to what is shown.
//!
//! ```text
//! while it runs    figures    how much was carried, what flows were owed
//! at its end, and  collect    what every proxy noted of its flows, whom the VM spoke with
//!  when asked for  kept       all of that on the disk, for proxies forget
//! when asked for   story      what the journal says of the steps
//!                  make       one value of all, from which page and table are made
//! ```
//!
//! What is collected is merged with what was known: a flow that its proxy tells no more keeps its last
//! word, and whoever could not be asked is named.

pub mod collect;
pub mod figures;
pub mod kept;
pub mod make;
mod story;
mod together;

pub use collect::{Collected, OfMove, collect, collect_taken_over};
pub use figures::{Figures, Recorder};
pub use kept::Kept;
pub use make::{Made, make};
pub(crate) use story::{claimed_in, taken_over_in};
pub(crate) use together::together;
