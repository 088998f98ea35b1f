//! Numbered messages, each kept until the peer has it, in order, across connections.

use std::collections::VecDeque;

use bytes::Bytes;

use super::bounds::{MESSAGES_UNCONFIRMED_MAX, PACKET_MESSAGES_MAX};
use super::wire::{Frame, Message};

/// The peer confirms what was never sent, sends what does not follow, or confirms nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfOrder;

#[derive(Debug, Default)]
pub(super) struct Log {
    /// Encoded, and whether packets are in it; the first has number `confirmed + 1`.
    kept: VecDeque<(Bytes, bool)>,
    /// Of `kept`, those with packets.
    with_packets: usize,
    confirmed: u64,
    /// Of `kept`, those that this connection has carried.
    carried: usize,
    /// Of `kept`, those that any connection has.
    ever_carried: usize,
    received: u64,
    told: u64,
}

/// Whether a message is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrived {
    New,
    Known,
}

impl Log {
    /// Messages that the peer has not confirmed.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn push(&mut self, message: Message) -> Result<(), OutOfOrder> {
        if self.kept.len() >= MESSAGES_UNCONFIRMED_MAX {
            return Err(OutOfOrder);
        }
        let number = self.confirmed + self.kept.len() as u64 + 1;
        let has_packets = matches!(message, Message::Packets(_));
        self.with_packets += usize::from(has_packets);
        self.kept.push_back((Frame::Message { number, message }.encoded().0, has_packets));
        Ok(())
    }

    /// Whether another message of packets may be pushed.
    pub(super) fn has_room_for_packets(&self) -> bool {
        self.with_packets < PACKET_MESSAGES_MAX
    }

    /// Whether the next one is of packets, which let what is short go first.
    pub(super) fn is_next_of_packets(&self) -> bool {
        self.kept.get(self.carried).is_some_and(|(_, has_packets)| *has_packets)
    }

    /// The next to send, and whether it goes again.
    pub(super) fn next(&mut self) -> Option<(Bytes, bool)> {
        let bytes = self.kept.get(self.carried)?.0.clone();
        self.carried += 1;
        let again = self.carried <= self.ever_carried;
        self.ever_carried = self.ever_carried.max(self.carried);
        Some((bytes, again))
    }

    pub(super) fn confirmed(&mut self, number: u64) -> Result<(), OutOfOrder> {
        if number > self.confirmed + self.ever_carried as u64 {
            return Err(OutOfOrder);
        }
        while self.confirmed < number {
            let has_packets = self.kept.pop_front().is_some_and(|(_, has_packets)| has_packets);
            self.with_packets -= usize::from(has_packets);
            self.confirmed += 1;
            self.carried = self.carried.saturating_sub(1);
            self.ever_carried -= 1;
        }
        Ok(())
    }

    /// A new connection, over which the peer says that it has `received`.
    pub(super) fn rewind(&mut self, received: u64) -> Result<(), OutOfOrder> {
        if received < self.confirmed {
            return Err(OutOfOrder);
        }
        self.confirmed(received)?;
        self.carried = 0;
        self.told = 0;
        Ok(())
    }

    pub(super) fn arrived(&mut self, number: u64) -> Result<Arrived, OutOfOrder> {
        if number <= self.received {
            return Ok(Arrived::Known);
        }
        if number != self.received + 1 {
            return Err(OutOfOrder);
        }
        self.received = number;
        Ok(Arrived::New)
    }

    /// The confirmation that the peer is owed.
    pub(super) fn confirmation(&mut self) -> Option<u64> {
        (self.told != self.received).then(|| {
            self.told = self.received;
            self.received
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::StreamId;
    use super::*;

    fn finished(stream: u32) -> Message {
        Message::Finished { stream: StreamId(stream) }
    }

    #[test]
    fn what_was_not_confirmed_goes_again_and_nothing_else() {
        let mut log = Log::default();
        for stream in 0..3 {
            log.push(finished(stream)).unwrap();
        }
        assert_eq!(log.next().map(|(_, again)| again), Some(false));
        assert_eq!(log.next().map(|(_, again)| again), Some(false));
        log.confirmed(1).unwrap();
        log.rewind(1).unwrap();
        assert_eq!(log.next().map(|(_, again)| again), Some(true));
        assert_eq!(log.next().map(|(_, again)| again), Some(false));
        assert_eq!(log.next(), None);
        assert_eq!(log.confirmed(4), Err(OutOfOrder));
        log.confirmed(3).unwrap();
        assert_eq!(log.len(), 0);
        assert_eq!(log.rewind(2), Err(OutOfOrder));
    }

    #[test]
    fn a_message_counts_once_and_none_is_skipped() {
        let mut log = Log::default();
        assert_eq!(log.arrived(2), Err(OutOfOrder));
        assert_eq!(log.arrived(1), Ok(Arrived::New));
        assert_eq!(log.arrived(1), Ok(Arrived::Known));
        assert_eq!(log.confirmation(), Some(1));
        assert_eq!(log.confirmation(), None);
    }

    #[test]
    fn messages_that_nobody_confirms_are_bounded() {
        let mut log = Log::default();
        for _ in 0..MESSAGES_UNCONFIRMED_MAX {
            log.push(finished(0)).unwrap();
        }
        assert_eq!(log.push(finished(0)), Err(OutOfOrder));
    }
}
