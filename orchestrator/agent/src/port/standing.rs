//! What stands at a VM's ports: on the disk before it stands in the kernel.

use network::{Mac, PortWanted};
use placement::Epoch;
use serde::{Deserialize, Serialize};

/// The version of the file.
pub(crate) const STANDING_VERSION: u32 = 1;

/// What stands for one VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Standing {
    /// The move for which packets are kept back, from before the proxy hears of it.
    pub(crate) holding: Option<Epoch>,
    /// The VM is elsewhere, and what is for it is turned round by no process.
    pub(crate) is_away: bool,
    /// Since when it is known with whom the VM speaks, in seconds since 1970.
    pub(crate) watched_since_s: Option<u64>,
    /// By card.
    pub(crate) cards: Vec<AtCard>,
}

/// What stands at one card's port, by the leg that it leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AtCard {
    /// What is for the VM goes there.
    pub(crate) turn_round: Option<Mac>,
    /// What the VM sends goes there.
    pub(crate) take_over: Option<Mac>,
    /// Where a hold stands: how it was before. A VM that came by a move may be turned round already.
    pub(crate) before_hold: Option<Mac>,
}

impl Standing {
    /// At one card, from now on if nothing stood there yet.
    pub(crate) fn at(&mut self, card: usize) -> &mut AtCard {
        if self.cards.len() <= card {
            self.cards.resize(card + 1, AtCard::default());
        }
        &mut self.cards[card]
    }

    /// Turned round to these legs, for this move.
    pub(crate) fn hold(&mut self, epoch: Epoch, legs: Vec<Option<Mac>>) {
        let is_first = self.holding.is_none();
        for (card, leg) in legs.into_iter().enumerate() {
            let at = self.at(card);
            if is_first {
                at.before_hold = at.turn_round;
            }
            at.turn_round = leg;
        }
        self.holding = Some(epoch);
    }

    /// Turned round as before the hold. It stands until the proxy has released too.
    pub(crate) fn call_off(&mut self) {
        self.cards.iter_mut().for_each(|at| at.turn_round = at.before_hold);
    }

    /// What the kernel is to do at one card.
    pub(crate) fn wanted(&self, card: usize) -> PortWanted {
        let at = self.cards.get(card).copied().unwrap_or_default();
        PortWanted { turn_round: at.turn_round, take_over: at.take_over }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Mac = Mac([2, 0, 0, 0, 1, 1]);

    #[test]
    fn a_hold_that_is_called_off_leaves_the_port_as_it_was_also_one_that_a_move_turned_round() {
        for before in [None, Some(HERE)] {
            let mut standing = Standing::default();
            *standing.at(0) = AtCard { turn_round: before, take_over: before, ..AtCard::default() };
            // A hold that is ordered again is the same hold.
            for _ in 0..2 {
                standing.hold(Epoch::new(5), vec![Some(HERE)]);
                assert_eq!(standing.wanted(0).turn_round, Some(HERE));
            }
            for _ in 0..2 {
                standing.call_off();
                assert_eq!(standing.wanted(0).turn_round, before);
                assert_eq!(standing.wanted(0).take_over, before);
                assert_eq!(standing.holding, Some(Epoch::new(5)));
            }
        }
    }
}
