//! What proxies and name servers remember of one VM: the highest epoch that they have seen, and
//! whose it was.

use serde::{Deserialize, Serialize};

use crate::epoch::{Authority, Epoch, Owner};

/// The highest epoch seen, its owner, and the highest that ended.
///
/// A proxy that a claim names takes only the claim's epoch; other proxies, and name servers, take a
/// higher one with the placement or the steer that carries it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watermark {
    epoch: Epoch,
    owner: Option<Owner>,
    ended: Epoch,
}

/// Why something is older than what stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "stale", deny_unknown_fields)]
pub enum Stale {
    /// A later epoch has been seen here.
    #[error("epoch {asked} is over: epoch {seen} has been seen here; claim a later one")]
    Older {
        /// What it carried.
        asked: Epoch,
        /// The highest here.
        seen: Epoch,
    },
    /// The same epoch, from somebody else.
    #[error("epoch {epoch} is {owner}'s; claim a later one")]
    Owned {
        /// Which.
        epoch: Epoch,
        /// Whose.
        owner: Owner,
    },
    /// Only a claim raises the epoch here.
    #[error("epoch {asked} was never claimed here, where {seen} is the highest; claim it first")]
    NotClaimed {
        /// What it carried.
        asked: Epoch,
        /// The highest here.
        seen: Epoch,
    },
    /// The move was ended here: it is diverted and redirected no more.
    #[error("epoch {ended} ended here; begin a new move")]
    Ended {
        /// The highest that did.
        ended: Epoch,
    },
}

impl Watermark {
    /// The highest epoch seen.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whose that is.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    /// The highest epoch that ended here.
    #[must_use]
    pub fn ended(&self) -> Epoch {
        self.ended
    }

    /// Takes a claim, a placement or a steer: refuses what is older, or equal from another owner.
    ///
    /// # Errors
    /// [`Stale::Older`] and [`Stale::Owned`].
    pub fn raised(&self, authority: &Authority) -> Result<Watermark, Stale> {
        let Authority { epoch, owner } = authority;
        if *epoch < self.epoch {
            return Err(Stale::Older { asked: *epoch, seen: self.epoch });
        }
        if *epoch == self.epoch && self.owner.as_ref().is_some_and(|ours| ours != owner) {
            let ours = self.owner.clone().unwrap_or_else(|| owner.clone());
            return Err(Stale::Owned { epoch: *epoch, owner: ours });
        }
        Ok(Watermark { epoch: *epoch, owner: Some(owner.clone()), ended: self.ended })
    }

    /// Whether a command is the standing claim's, in a move that has not ended here.
    ///
    /// # Errors
    /// Every [`Stale`].
    pub fn admit(&self, authority: &Authority) -> Result<(), Stale> {
        self.raised(authority)?;
        if authority.epoch > self.epoch {
            return Err(Stale::NotClaimed { asked: authority.epoch, seen: self.epoch });
        }
        if self.ended >= authority.epoch {
            return Err(Stale::Ended { ended: self.ended });
        }
        Ok(())
    }

    /// The move is off, and nothing of it is obeyed any more.
    #[must_use]
    pub fn ending(&self, epoch: Epoch) -> Watermark {
        Watermark { ended: self.ended.max(epoch), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(epoch: u64, incarnation: u64) -> Authority {
        let owner = Owner { name: "serve".parse().unwrap(), incarnation };
        Authority { epoch: Epoch::new(epoch), owner }
    }

    #[test]
    fn it_only_rises() {
        let mark = Watermark::default().raised(&authority(2, 1)).unwrap();
        assert_eq!(mark.epoch(), Epoch::new(2));
        assert!(matches!(mark.raised(&authority(1, 1)), Err(Stale::Older { .. })));
        assert_eq!(mark.raised(&authority(2, 1)), Ok(mark.clone()));
        assert!(matches!(mark.raised(&authority(2, 9)), Err(Stale::Owned { .. })));
        assert_eq!(mark.raised(&authority(7, 9)).unwrap().epoch(), Epoch::new(7));
    }

    #[test]
    fn only_the_standing_claim_is_admitted_and_only_until_its_move_ends() {
        let mark = Watermark::default().raised(&authority(2, 1)).unwrap();
        assert_eq!(mark.admit(&authority(2, 1)), Ok(()));
        assert!(matches!(mark.admit(&authority(3, 1)), Err(Stale::NotClaimed { .. })));
        assert!(matches!(mark.admit(&authority(2, 2)), Err(Stale::Owned { .. })));
        let ended = mark.ending(Epoch::new(2));
        assert!(matches!(ended.admit(&authority(2, 1)), Err(Stale::Ended { .. })));
        assert_eq!(ended.ending(Epoch::new(1)).ended(), Epoch::new(2));
        assert_eq!(ended.raised(&authority(3, 2)).unwrap().admit(&authority(3, 2)), Ok(()));
    }
}
