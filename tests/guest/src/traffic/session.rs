//! What the server knows of its UDP clients, and how both ends count datagrams.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Token;
use super::datagram::{Answer, Ask};

/// Sessions that a server keeps. A datagram that would open one more is not answered, and counted.
pub const SESSIONS_MAX: usize = 8192;

/// How far behind the highest number a datagram can be and still be told new from repeated.
pub const WINDOW: u64 = 1024;

const WORDS: usize = (WINDOW / 64) as usize;

/// What one end has counted of numbered datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Different numbers that came.
    pub received: u64,
    /// The highest number, plus one; 0 before the first.
    pub highest: u64,
    /// Datagrams whose number had come before.
    pub duplicates: u64,
    /// New datagrams that came after a higher number.
    pub reordered: u64,
    /// Datagrams more than [`WINDOW`] behind: new or repeated, nobody knows.
    pub ancient: u64,
}

/// Counts of one stream of datagrams, with the window that tells new from repeated.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    counts: Counts,
    /// Bit n mod [`WINDOW`]: number n came. Valid for the last [`WINDOW`] numbers.
    seen: [u64; WORDS],
}

impl Tally {
    /// Counts a datagram; true if it is new.
    pub fn count(&mut self, number: u64) -> bool {
        let counts = &mut self.counts;
        if number >= counts.highest {
            let next = number.saturating_add(1);
            let passed = next - counts.highest;
            for skipped in next.saturating_sub(passed.min(WINDOW))..next {
                self.seen[slot(skipped)] &= !bit(skipped);
            }
            counts.highest = next;
        } else if counts.highest - number > WINDOW {
            counts.ancient += 1;
            return false;
        } else if self.seen[slot(number)] & bit(number) != 0 {
            counts.duplicates += 1;
            return false;
        } else {
            counts.reordered += 1;
        }
        counts.received += 1;
        self.seen[slot(number)] |= bit(number);
        true
    }

    /// What has been counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

fn slot(number: u64) -> usize {
    (number / 64) as usize % WORDS
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

/// One client's session as the server logs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEntry {
    /// The client's address, as the server sees it.
    pub peer: SocketAddr,
    /// The client's own random number for the session.
    pub nonce: u64,
    /// The server's token for it, kept in its memory alone.
    pub token: Token,
    /// What came from the client.
    pub counts: Counts,
    /// When the first datagram came, in milliseconds of the Unix epoch.
    pub first_ms: u64,
    /// When the latest one came.
    pub last_ms: u64,
}

/// The server's sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    known: HashMap<(SocketAddr, u64), (SessionEntry, Tally)>,
    refused: u64,
}

impl Sessions {
    /// Counts `ask` and says what to answer; `fresh` names the session if this opens one. `None`
    /// when all [`SESSIONS_MAX`] places are taken, or there is no name.
    pub fn receive(
        &mut self,
        peer: SocketAddr,
        ask: &Ask,
        now_ms: u64,
        fresh: impl FnOnce() -> Option<Token>,
    ) -> Option<Answer> {
        let key = (peer, ask.nonce);
        if !self.known.contains_key(&key) {
            // A query opens nothing: a server that has forgotten a session must say so by silence.
            if ask.number.is_none() || self.known.len() >= SESSIONS_MAX {
                self.refused += 1;
                return None;
            }
            let (token, counts) = (fresh()?, Counts::default());
            let (first_ms, last_ms) = (now_ms, now_ms);
            let entry = SessionEntry { peer, nonce: ask.nonce, token, counts, first_ms, last_ms };
            self.known.insert(key, (entry, Tally::default()));
        }
        let (entry, tally) = self.known.get_mut(&key)?;
        if let Some(number) = ask.number {
            tally.count(number);
            entry.counts = tally.counts();
            entry.last_ms = now_ms;
        }
        Some(Answer {
            nonce: ask.nonce,
            number: ask.number,
            sent_us: ask.sent_us,
            token: entry.token,
            counts: entry.counts,
        })
    }

    /// Every session, in the order of the clients' addresses.
    #[must_use]
    pub fn entries(&self) -> Vec<SessionEntry> {
        let mut entries: Vec<_> = self.known.values().map(|(entry, _)| entry.clone()).collect();
        entries.sort_by_key(|entry| (entry.peer, entry.nonce));
        entries
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Datagrams that were not answered: no place for their session, or a query for none.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn named(token: [u8; 16]) -> Option<Token> {
        Some(Token(token))
    }

    fn ask(number: Option<u64>) -> Ask {
        Ask { nonce: 5, number, sent_us: 1 }
    }

    #[test]
    fn a_session_keeps_its_token_and_a_query_counts_nothing() {
        let mut sessions = Sessions::default();
        let peer = "192.0.2.7:99".parse().unwrap();
        let unknown = sessions.receive(peer, &ask(None), 1, || named([1; 16]));
        assert_eq!(unknown, None);
        for number in [0, 1, 1, 3, 2] {
            let answer = sessions.receive(peer, &ask(Some(number)), 2, || named([2; 16])).unwrap();
            assert_eq!((answer.token, answer.number), (Token([2; 16]), Some(number)));
        }
        let answer = sessions.receive(peer, &ask(None), 9, || named([3; 16])).unwrap();
        let counts = Counts { received: 4, highest: 4, duplicates: 1, reordered: 1, ancient: 0 };
        assert_eq!((answer.token, answer.counts), (Token([2; 16]), counts));
        assert_eq!(sessions.entries()[0].last_ms, 2);
    }

    #[test]
    fn a_full_table_refuses_newcomers_and_serves_the_known() {
        let mut sessions = Sessions::default();
        let peer = |n: usize| SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 7));
        for n in 0..SESSIONS_MAX {
            assert!(sessions.receive(peer(n), &ask(Some(0)), 1, || named([0; 16])).is_some());
        }
        let one_more = SocketAddr::from(([192, 0, 2, 1], 7));
        assert_eq!(sessions.receive(one_more, &ask(Some(0)), 1, || named([0; 16])), None);
        assert!(sessions.receive(peer(3), &ask(Some(1)), 1, || named([0; 16])).is_some());
        assert_eq!((sessions.len(), sessions.refused()), (SESSIONS_MAX, 1));
    }

    proptest! {
        #[test]
        fn the_window_counts_as_a_set_would(numbers in proptest::collection::vec(0_u64..900, 0..400)) {
            let mut tally = Tally::default();
            let mut set = BTreeSet::new();
            let mut duplicates = 0;
            for number in numbers {
                let new = set.insert(number);
                duplicates += u64::from(!new);
                prop_assert_eq!(tally.count(number), new);
            }
            let counts = tally.counts();
            prop_assert_eq!(counts.received, set.len() as u64);
            prop_assert_eq!(counts.duplicates, duplicates);
            prop_assert_eq!(counts.highest, set.last().map_or(0, |last| last + 1));
        }

        #[test]
        fn any_numbers_are_counted_once_each(numbers in proptest::collection::vec(any::<u64>(), 0..60)) {
            let mut tally = Tally::default();
            for number in &numbers {
                tally.count(*number);
            }
            let counts = tally.counts();
            prop_assert_eq!(counts.received + counts.duplicates + counts.ancient, numbers.len() as u64);
        }
    }
}
