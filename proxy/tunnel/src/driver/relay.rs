//! Bytes between a program's connection and its stream, at the pace of whichever is slower.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{select, try_join};

use super::local::LocalStream;
use super::peer::{Door, Peer};
use crate::protocol::bounds::CHUNK_BYTES_MAX;
use crate::protocol::refusal::ResetReason;
use crate::protocol::session::{Ending, Gone, Read, Session};

/// Reads below this are copied out of the buffer, which then serves the next.
const COPY_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("the program's connection broke")]
    Local(#[from] io::Error),
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Relays until both directions have ended, or the stream or the program's connection is cut.
pub(super) async fn relay(peer: &Peer, door: &Arc<Door>, local: LocalStream) {
    let local = Arc::new(local);
    *door.local() = Some(Arc::clone(&local));
    let both = async { try_join!(take_in(peer, door, &local), give_out(peer, door, &local)) };
    let ended = select! {
        biased;
        ended = both => ended.map(|_| ()),
        () = door.ended.notified() => Err(RelayError::Gone(Gone)),
    };
    // The last reference is this function's: the program's connection closes with it.
    *door.local() = None;
    match ended {
        Ok(()) => return,
        Err(RelayError::Gone(Gone)) => {}
        Err(RelayError::Local(error)) => {
            tracing::debug!(grant = %door.grant, %error, "a program's connection broke");
            let reset = peer.on(door, |session, stream, now| {
                session.reset(stream, ResetReason::Program, now);
                Ok(())
            });
            // If the stream is gone already, there is nobody left to tell.
            let _: Result<(), Gone> = reset;
        }
    }
    if door.ending.get() != Some(&Ending::Complete) {
        local.cut();
    }
}

async fn take_in(peer: &Peer, door: &Arc<Door>, local: &LocalStream) -> Result<(), RelayError> {
    let mut buffer = BytesMut::new();
    loop {
        let room = peer.on(door, |session, stream, _| session.room(stream))?;
        if room == 0 {
            door.intake.notified().await;
            continue;
        }
        local.readable().await?;
        let _taking = door.local();
        buffer.reserve(CHUNK_BYTES_MAX);
        match local.try_read(&mut (&mut buffer).limit(room)) {
            Ok(0) => {
                peer.on(door, |session, stream, _| session.finish(stream))?;
                return Ok(());
            }
            Ok(count) => {
                let bytes = if count > COPY_BYTES_MAX {
                    buffer.split().freeze()
                } else {
                    let bytes = Bytes::copy_from_slice(&buffer);
                    buffer.clear();
                    bytes
                };
                let taken = peer.on(door, |session, stream, _| session.write(stream, bytes))?;
                debug_assert_eq!(taken, count, "there was room, and nobody else writes");
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn give_out(peer: &Peer, door: &Arc<Door>, local: &LocalStream) -> Result<(), RelayError> {
    loop {
        match peer.on(door, |session, stream, _| session.read(stream))? {
            Read::Bytes(bytes) => {
                local.writable().await?;
                match local.try_write(&bytes) {
                    Ok(count) => {
                        peer.on(door, |session, stream, _| session.deliver(stream, count))?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Read::End => {
                local.end_writing()?;
                peer.on(door, Session::deliver_end)?;
                return Ok(());
            }
            Read::Nothing => door.outlet.notified().await,
            Read::Finished => return Ok(()),
        }
    }
}
