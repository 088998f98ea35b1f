//! The ends of channels on this host: sockets that hypervisors connect to, and those that are
//! dialled for the peer.

mod entrance;
mod exit;
mod stream;

pub use entrance::EntranceError;
pub(super) use entrance::{Entrance, prepare_folder};
pub(super) use exit::dial;
pub(super) use stream::LocalStream;
