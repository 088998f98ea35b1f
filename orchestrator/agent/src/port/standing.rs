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
}

impl Standing {
    /// At one card, from now on if nothing stood there yet.
    pub(crate) fn at(&mut self, card: usize) -> &mut AtCard {
        if self.cards.len() <= card {
            self.cards.resize(card + 1, AtCard::default());
        }
        &mut self.cards[card]
    }

    /// What the kernel is to do at one card.
    pub(crate) fn wanted(&self, card: usize) -> PortWanted {
        let at = self.cards.get(card).copied().unwrap_or_default();
        PortWanted { turn_round: at.turn_round, take_over: at.take_over }
    }
}
