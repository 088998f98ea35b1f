//! Waiting until what a channel was given has arrived.

use std::sync::Arc;

use super::peer::{Door, Peer};
use crate::protocol::channel::Grant;
use crate::protocol::session::{Ending, Gone};

/// Why a barrier does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// There is no such grant here.
    #[error("the channel has no grant here, so that nothing can be said of its bytes")]
    NoGrant,
    /// A stream of the channel was cut off: bytes may be missing at the far end.
    #[error("a stream of the channel was cut off; its bytes may be missing at the far end")]
    CutOff,
    /// A program's connection does not say what it holds.
    #[error("the program's connection cannot be asked what it holds")]
    Unknown,
}

/// What one stream has to reach.
pub(super) struct Mark {
    peer: Arc<Peer>,
    door: Arc<Door>,
    offset: u64,
}

/// Marks every open stream of a channel where its program's writing stands now.
pub(super) fn marks(peers: &[Arc<Peer>], grant: &Grant) -> Result<Vec<Mark>, BarrierError> {
    let mut marks = Vec::new();
    for peer in peers {
        let (doors, was_cut_off) = peer.channel(grant);
        if was_cut_off {
            return Err(BarrierError::CutOff);
        }
        for door in doors {
            // Held, so that no byte is neither in the socket nor in the session.
            let local = door.local();
            let unread = local.as_ref().map_or(Ok(0), |local| local.unread_bytes());
            let progress = peer.on(&door, |session, stream, _| session.progress(stream));
            drop(local);
            let unread = unread.map_err(|_| BarrierError::Unknown)?;
            match progress {
                Ok((written, _)) => {
                    marks.push(Mark { peer: Arc::clone(peer), door, offset: written + unread });
                }
                Err(Gone) => ended(&door)?,
            }
        }
    }
    Ok(marks)
}

impl Mark {
    pub(super) async fn reached(self) -> Result<(), BarrierError> {
        let mut progress = self.door.progress.subscribe();
        loop {
            match self.peer.on(&self.door, |session, stream, _| session.progress(stream)) {
                Ok((_, delivered)) if delivered >= self.offset => return Ok(()),
                Ok(_) => {}
                Err(Gone) => return ended(&self.door),
            }
            if progress.changed().await.is_err() {
                return Err(BarrierError::CutOff);
            }
        }
    }
}

fn ended(door: &Door) -> Result<(), BarrierError> {
    match door.ending.get() {
        Some(Ending::Complete) => Ok(()),
        _ => Err(BarrierError::CutOff),
    }
}
