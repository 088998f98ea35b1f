//! One connection: bytes between TLS and the session, until either has enough.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rustls::ConnectionCommon;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::select;

use super::counted::Counter;
use super::peer::{ConnDoor, Detached, Peer};
use crate::protocol::packets::keys::{EXPORTER_LABEL, Secret};
use crate::protocol::session::{ConnId, Transmit};
use crate::protocol::wire::Lane;

/// Room for reading: a few TLS records.
const READ_BYTES: usize = 64 * 1024;

/// A connection to be carried.
pub(super) struct Line<S> {
    pub(super) conn: ConnId,
    pub(super) lane: Lane,
    pub(super) tls: S,
    pub(super) counter: Arc<Counter>,
    /// What a control connection's TLS session gives for datagrams.
    pub(super) secret: Option<Secret>,
    /// What was read behind a greeting.
    pub(super) buffer: BytesMut,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) detached: Detached,
    /// It broke, rather than be given up by the session.
    pub(super) broke: Option<io::Error>,
}

/// Carries a connection until it breaks, or the session wants it no more.
pub(super) async fn carry<S>(peer: &Peer, line: Line<S>) -> Carried
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Line { conn, lane, tls, counter, secret, buffer } = line;
    let door = peer.attach(conn, lane, counter, secret);
    let (reading, writing) = tokio::io::split(tls);
    let ended = select! {
        ended = read(peer, conn, reading, buffer) => ended,
        ended = write(peer, conn, &door, writing) => ended,
        () = door.closed.notified() => Ok(()),
    };
    let broke = ended.err();
    if let Some(error) = &broke {
        tracing::debug!(peer = %peer.identity, ?lane, %error, "a connection broke");
    }
    Carried { detached: peer.detach(conn, lane), broke }
}

/// What both ends of a control connection, and nobody else, get out of its TLS session.
pub(super) fn secret<Side>(lane: Lane, tls: &ConnectionCommon<Side>) -> Option<Secret> {
    if lane != Lane::Control {
        return None;
    }
    match tls.export_keying_material([0; Secret::BYTES], EXPORTER_LABEL, None) {
        Ok(bytes) => Some(Secret::new(bytes)),
        Err(error) => {
            tracing::error!(%error, "a TLS session gives no keys for datagrams");
            None
        }
    }
}

/// Always reads on: a peer that is slow is slowed by its streams' windows, so that control and pings
/// never wait here.
async fn read<S: AsyncRead>(
    peer: &Peer,
    conn: ConnId,
    mut reading: ReadHalf<S>,
    mut buffer: BytesMut,
) -> io::Result<()> {
    loop {
        if peer.with(|session, now| session.receive(conn, &mut buffer, now)).is_err() {
            return Ok(());
        }
        buffer.reserve(READ_BYTES);
        if reading.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Takes a frame only when the socket has room, so that the session decides late what goes next.
async fn write<S: AsyncWrite>(
    peer: &Peer,
    conn: ConnId,
    door: &ConnDoor,
    mut writing: WriteHalf<S>,
) -> io::Result<()> {
    loop {
        match peer.with(|session, now| session.transmit(conn, now)) {
            Ok(Some(Transmit { head, payload })) => {
                writing.write_all_buf(&mut head.chain(payload)).await?;
            }
            Ok(None) => {
                writing.flush().await?;
                door.writer.notified().await;
            }
            Err(_) => return Ok(()),
        }
    }
}
