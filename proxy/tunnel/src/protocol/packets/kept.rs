//! Packets kept in order, bounded in bytes.

use std::collections::VecDeque;

use bytes::Bytes;

use super::inner::Transport;

/// What one packet costs beside its bytes.
const ENTRY_BYTES: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Grows from each to the next.
    pub(super) index: u64,
    pub(super) bytes: Bytes,
    may_go: bool,
}

/// A queue. What came first of it may be read several times.
#[derive(Debug)]
pub(super) struct Kept {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    next: u64,
}

impl Kept {
    pub(super) fn new(bytes_max: usize) -> Kept {
        Kept { entries: VecDeque::new(), bytes: 0, bytes_max, next: 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Keeps a packet as the newest. Gives whether it is kept, and how many had to go, it among them: where there is no room, the oldest
    /// that are not TCP go for one that is not either, whose sender would not say it again; TCP says
    /// again what was dropped, the newest at least cost.
    pub(super) fn push(&mut self, bytes: Bytes, transport: Transport) -> (bool, u64) {
        let may_go = transport != Transport::Tcp;
        let cost = bytes.len() + ENTRY_BYTES;
        let mut dropped = 0;
        if may_go && cost <= self.bytes_max {
            while self.bytes + cost > self.bytes_max && self.drop_oldest() {
                dropped += 1;
            }
        }
        if self.bytes + cost > self.bytes_max {
            return (false, dropped + 1);
        }
        self.bytes += cost;
        self.entries.push_back(Entry { index: self.next, bytes, may_go });
        self.next += 1;
        (true, dropped)
    }

    /// The first whose index is at least `index`.
    pub(super) fn from(&self, index: u64) -> impl Iterator<Item = &Entry> {
        let first = self.entries.partition_point(|entry| entry.index < index);
        self.entries.range(first..)
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes.len() + ENTRY_BYTES;
        Some(entry.bytes)
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(at) = self.entries.iter().position(|entry| entry.may_go) else { return false };
        if let Some(entry) = self.entries.remove(at) {
            self.bytes -= entry.bytes.len() + ENTRY_BYTES;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u8) -> Bytes {
        Bytes::from(vec![number; 36])
    }

    fn numbers(kept: &Kept) -> Vec<u8> {
        kept.from(0).map(|entry| entry.bytes[0]).collect()
    }

    #[test]
    fn the_newest_of_tcp_and_the_oldest_of_the_rest_go_where_there_is_no_room() {
        let mut kept = Kept::new(400);
        for (number, transport) in [(1, Transport::Tcp), (2, Transport::Udp), (3, Transport::Udp)] {
            assert_eq!(kept.push(packet(number), transport), (true, 0));
        }
        assert_eq!(kept.push(packet(4), Transport::Tcp), (true, 0));
        assert_eq!(kept.push(packet(5), Transport::Tcp), (false, 1));
        assert_eq!(numbers(&kept), [1, 2, 3, 4]);
        assert_eq!(kept.push(packet(6), Transport::Udp), (true, 1));
        assert_eq!(numbers(&kept), [1, 3, 4, 6]);
        assert_eq!(kept.from(2).map(|entry| entry.index).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(kept.bytes() <= 400);
        assert_eq!(kept.push(Bytes::from(vec![0; 1_000]), Transport::Udp), (false, 1));
        assert_eq!(numbers(&kept), [1, 3, 4, 6], "what can never fit makes nothing go");
        while kept.pop().is_some() {}
        assert_eq!(kept.bytes(), 0);
    }

    #[test]
    fn a_queue_of_tcp_alone_drops_what_is_not() {
        let mut kept = Kept::new(200);
        kept.push(packet(1), Transport::Tcp);
        kept.push(packet(2), Transport::Tcp);
        assert_eq!(kept.push(packet(3), Transport::Udp), (false, 1));
        assert_eq!(numbers(&kept), [1, 2]);
    }
}
