//! What a peer is told of a VM's packets, and what becomes of what it tells.

use bytes::Bytes;
use placement::{Epoch, Identity};

use super::{Own, Post};
use crate::protocol::Moment;
use crate::protocol::bounds::{HOLD_BYTES_MAX, NOTES_MAX, TUPLES_MAX};
use crate::protocol::packets::admission::Dropped;
use crate::protocol::packets::incoming::{Ahead, Incoming};
use crate::protocol::packets::kept::Kept;
use crate::protocol::packets::message::Told;
use crate::protocol::packets::outgoing::Outgoing;
use crate::protocol::packets::plan::{Stand, Tuple, Way};
use crate::protocol::packets::ways::Verdict;

impl Own {
    /// A peer's word about a move.
    pub(in crate::protocol::packets) fn told(
        &mut self,
        peer: &Identity,
        epoch: Epoch,
        told: Told,
        verdicts: Vec<Verdict>,
        now: Moment,
        post: &mut Post<'_>,
    ) {
        if matches!(told, Told::Released | Told::Done) {
            return self.told_outgoing(peer, epoch, &told, post);
        }
        let is_it = |it: &Incoming| it.from == *peer && it.epoch == epoch;
        if !self.incoming.as_ref().is_some_and(is_it) {
            // It has all come, or what came before this proxy's own restart cannot be told from it.
            let is_over = matches!(self.stand(), Some(Stand::Here { talks })
                if talks.iter().any(|place| place.peer == *peer));
            if is_over && matches!(told, Told::Begin { .. } | Told::End) {
                self.note(peer.clone(), epoch, Told::Released, post);
                self.note(peer.clone(), epoch, Told::Done, post);
            }
            return post.drop(&mut self.counts, Dropped::NotItsPeer, verdicts.len() as u64);
        }
        match told {
            Told::Begin { queue } => self.begun(peer, epoch, queue, post),
            Told::Leftovers { first, packets } => {
                self.ahead(Ahead::Leftover, first, packets, verdicts, post);
            }
            Told::Held { first, packets } => {
                self.ahead(Ahead::Held, first, packets, verdicts, post);
            }
            Told::Tuples(tuples) => self.learn(peer, tuples),
            Told::Stopped => {
                self.incoming.iter_mut().for_each(Incoming::has_all_leftovers);
                self.flow(now, post);
            }
            Told::End => {
                // Before the release nothing is marked: the sender waits for it.
                self.incoming.iter_mut().for_each(Incoming::has_all_leftovers);
                self.flow(now, post);
                if let Some(incoming) = self.incoming.take_if(|it| it.flows()) {
                    self.note(peer.clone(), epoch, Told::Done, post);
                    for packet in incoming.end() {
                        post.outlet.device(&packet);
                        self.counts.received += 1;
                    }
                }
            }
            Told::CalledOff => {
                let away = match self.stand() {
                    Some(Stand::Staged { away, .. }) => away.clone(),
                    _ => return,
                };
                self.void(away.as_ref(), post);
                self.incoming = Some(Incoming::new(peer.clone(), epoch));
            }
            Told::Released | Told::Done => {}
        }
    }

    /// The other end's word about what is kept here for it.
    fn told_outgoing(&mut self, peer: &Identity, epoch: Epoch, told: &Told, post: &mut Post<'_>) {
        let is_it = |it: &Outgoing| it.to == *peer && it.epoch == epoch;
        let Some(outgoing) = self.outgoing.as_mut().filter(|it| is_it(it)) else { return };
        match told {
            Told::Released => {
                outgoing.released();
                post.nudge(peer);
            }
            _ => self.outgoing = None,
        }
    }

    fn begun(&mut self, peer: &Identity, epoch: Epoch, queue: u64, post: &mut Post<'_>) {
        let Some(incoming) = &mut self.incoming else { return };
        incoming.begin(queue);
        if incoming.is_released() {
            self.note(peer.clone(), epoch, Told::Released, post);
        } else if matches!(self.stand(), Some(Stand::Staged { away: Some(_), .. })) {
            self.waiting.get_or_insert_with(|| Kept::new(HOLD_BYTES_MAX));
        }
    }

    fn ahead(
        &mut self,
        ahead: Ahead,
        first: u64,
        packets: Vec<Bytes>,
        verdicts: Vec<Verdict>,
        post: &mut Post<'_>,
    ) {
        let Some(incoming) = &mut self.incoming else { return };
        for ((index, packet), verdict) in (first..).zip(packets).zip(verdicts) {
            match (incoming.is_new(ahead, index), verdict) {
                (false, _) => {}
                (true, Err(cause)) => post.drop(&mut self.counts, cause, 1),
                (true, Ok(_)) if incoming.flows() => {
                    post.outlet.device(&packet);
                    self.counts.held += 1;
                    self.counts.released += 1;
                }
                (true, Ok(transport)) => {
                    let (is_kept, dropped) = incoming.keep(ahead, packet, transport);
                    self.counts.held += u64::from(is_kept);
                    post.drop(&mut self.counts, Dropped::Overflow, dropped);
                }
            }
        }
    }

    /// Conversations that the other end's port saw last.
    fn learn(&mut self, peer: &Identity, tuples: Vec<Tuple>) {
        let Some(Way { stand: Stand::Staged { talks, .. } | Stand::Here { talks }, .. }) =
            &mut self.way
        else {
            return;
        };
        if let Some(place) = talks.iter_mut().find(|place| place.peer == *peer) {
            let room = TUPLES_MAX.saturating_sub(place.tuples.len());
            place.tuples.extend(tuples.into_iter().take(room));
        }
    }

    /// The next thing to tell a peer.
    pub(in crate::protocol::packets) fn next_told(
        &mut self,
        peer: &Identity,
    ) -> Option<(Epoch, Told)> {
        if let Some(at) = self.notes.iter().position(|(to, ..)| to == peer) {
            let (_, epoch, told) = self.notes.remove(at)?;
            return Some((epoch, told));
        }
        let outgoing = self.outgoing.as_mut().filter(|outgoing| outgoing.to == *peer)?;
        Some((outgoing.epoch, outgoing.next()?))
    }

    /// A peer has forgotten what it was told; whether there is something to tell it again.
    pub(in crate::protocol::packets) fn forgotten_by(&mut self, peer: &Identity) -> bool {
        self.notes.retain(|(to, ..)| to != peer);
        let mut notes = Vec::new();
        if let Some(outgoing) = self.outgoing.as_mut().filter(|outgoing| outgoing.to == *peer) {
            outgoing.again();
            return true;
        }
        match &self.way {
            Some(Way { epoch, stand: Stand::Away { to, .. }, .. }) if to == peer => {
                notes.push((*epoch, Told::End));
            }
            _ => {}
        }
        if let Some(incoming) = self.incoming.as_ref().filter(|it| it.from == *peer)
            && incoming.is_released()
        {
            notes.push((incoming.epoch, Told::Released));
        }
        let is_any = !notes.is_empty();
        self.notes.extend(notes.into_iter().map(|(epoch, told)| (peer.clone(), epoch, told)));
        is_any
    }

    pub(super) fn note(&mut self, peer: Identity, epoch: Epoch, told: Told, post: &mut Post<'_>) {
        post.nudge(&peer);
        let note = (peer, epoch, told);
        if !self.notes.contains(&note) {
            if self.notes.len() >= NOTES_MAX {
                self.notes.pop_front();
            }
            self.notes.push_back(note);
        }
    }
}
