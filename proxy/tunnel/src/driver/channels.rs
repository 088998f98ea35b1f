//! The streams of channels: those that programs here begin, and those that peers ask for.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::local::{LocalStream, dial};
use super::peer::{Asked, Door, Peer};
use super::relay::relay;
use super::report::TunnelEvent;
use super::tunnel::Inner;
use crate::protocol::channel::Exit;
use crate::protocol::grants::Ask;
use crate::protocol::refusal::Refusal;
use crate::protocol::session::OpenError;

/// Pause after the system had no room for another connection of a program.
const NO_ROOM_MS: u64 = 100;

impl Inner {
    /// Opens a stream towards the far end of a grant, over a peer that is connected if any is.
    fn open(&self, ask: Ask) -> Result<(Arc<Peer>, Arc<Door>), OpenError> {
        let site = self.site();
        if site.stopping || site.grants.check(&ask.grant).is_err() {
            return Err(OpenError::OutOfReach);
        }
        let there = |peer: &&Arc<Peer>| peer.identity.site == ask.grant.to;
        let mut there: Vec<&Arc<Peer>> = self.peers.iter().filter(there).collect();
        there.sort_by_key(|peer| !*peer.control.borrow());
        let peer = there.first().ok_or(OpenError::OutOfReach)?;
        Ok((Arc::clone(peer), peer.open(ask)?))
    }

    fn admit(&self, peer: &Peer, ask: &Ask) -> Result<Exit, Refusal> {
        let site = self.site();
        if site.stopping {
            return Err(Refusal::Stopping);
        }
        site.grants.admit(ask, &peer.identity.site, &site.permits)
    }

    /// Dials out for the peer, and relays. The grant is looked at before and after, as it may have
    /// been revoked while the dial went on.
    async fn serve(&self, peer: &Peer, door: &Arc<Door>, ask: &Ask) -> Result<(), Refusal> {
        let exit = self.admit(peer, ask)?;
        let local = dial(&exit).await.map_err(|error| {
            tracing::warn!(grant = %ask.grant, %error, "a permitted target was not reached");
            Refusal::Unreachable
        })?;
        {
            let site = self.site();
            site.grants.check(&ask.grant)?;
            let accepted = peer.on(door, |session, stream, now| session.accept(stream, true, now));
            if accepted.is_err() {
                return Ok(()); // The opener has given up.
            }
        }
        let grant = ask.grant.clone();
        self.reporter.tell(TunnelEvent::ChannelOpened { peer: peer.identity.clone(), grant });
        relay(peer, door, local).await;
        Ok(())
    }
}

pub(super) async fn answer_asks(
    inner: Arc<Inner>,
    peer: Arc<Peer>,
    mut asks: mpsc::Receiver<Asked>,
) {
    while let Some((door, ask)) = asks.recv().await {
        let (serving, peer) = (Arc::clone(&inner), Arc::clone(&peer));
        inner.spawn(async move {
            if let Err(refusal) = serving.serve(&peer, &door, &ask).await {
                let refused = peer.on(&door, |session, stream, now| {
                    session.refuse(stream, refusal, now);
                    Ok(())
                });
                // If the stream is gone, the opener has given up.
                let _ = refused;
            }
        });
    }
}

/// Takes programs' connections for as long as the grant stands.
pub(super) async fn enter(inner: Arc<Inner>, listener: UnixListener, ask: Ask) {
    loop {
        let unix = match listener.accept().await {
            Ok((unix, _)) => unix,
            Err(error) => {
                tracing::warn!(%error, "no room for another connection of a program");
                sleep(Duration::from_millis(NO_ROOM_MS)).await;
                continue;
            }
        };
        let (entering, ask) = (Arc::clone(&inner), ask.clone());
        inner.spawn(async move { enter_one(&entering, unix, ask).await });
    }
}

async fn enter_one(inner: &Inner, unix: UnixStream, ask: Ask) {
    let grant = ask.grant.clone();
    match inner.open(ask) {
        Ok((peer, door)) => relay(&peer, &door, LocalStream::Unix(unix)).await,
        Err(error) => tracing::warn!(%grant, %error, "a program's connection was not taken"),
    }
}
