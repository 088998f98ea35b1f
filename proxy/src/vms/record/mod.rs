//! What a proxy remembers of one VM, and how each call changes it. Pure.
//!
//! ```text
//! where the VM leaves:   Staged -> Diverted -> StandsIn -> (redirect) away
//!                        any of them -> (release: it runs here after all) as before
//! where it arrives:      Staged -> Released -> (redirect) here, with places elsewhere
//! ```
//!
//! Where it left earlier:  away -> (stage: it is to go on) -> (redirect) away, to there
//!
//! A repetition finds what it wants and changes nothing. What stands in the kernel for the VM is
//! worked out from the record alone, so that a restarted proxy sets the same.

mod fit;
mod home;
mod on;
mod stands;
pub(super) mod way;

use std::net::IpAddr;

use placement::{Authority, Epoch, Identity, Pair, PartName, Role, SiteName};
use proxy_api::{Card, Elsewhere, Place, Redirect, Stage};
use serde::{Deserialize, Serialize};

/// Where this proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// Its site.
    pub site: SiteName,
    /// Its name there.
    pub proxy: PartName,
    /// The network that it has a leg on, if it has one.
    pub network: Option<PartName>,
    /// The leg's addresses, with the lengths of their subnets' prefixes.
    pub leg: Vec<(IpAddr, u8)>,
    /// The network's own gateways here.
    pub gateways: Vec<IpAddr>,
}

impl Here {
    /// Whether one of a claim's ends is here.
    #[must_use]
    pub fn is_end_of(&self, pair: &Pair) -> bool {
        let is_here = |end: &placement::End| end.site == self.site && end.proxy == self.proxy;
        is_here(&pair.from) || is_here(&pair.to)
    }

    /// Whether the VM leaves from here, or is to come here.
    #[must_use]
    pub fn is_end_of_stage(&self, stage: &Stage) -> bool {
        self.is(&stage.from) || self.is(&stage.to)
    }

    fn is(&self, place: &Place) -> bool {
        place.site == self.site && place.proxy == self.proxy
    }
}

/// One VM, as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The newest claim.
    pub claim: Option<KeptClaim>,
    /// Where it runs, as far as was told.
    pub placement: Option<Place>,
    /// Its card, once a move has named it.
    card: Option<Card>,
    /// It has left from here, and what is here for it follows it.
    away: Option<Away>,
    /// It is here, and these are the places that it goes on talking to.
    elsewhere: Vec<Elsewhere>,
    /// It came back here: what no list names stays here.
    is_home: bool,
    /// The move that brought it here, as it was told last.
    #[serde(default)]
    came_by: Option<Epoch>,
    /// It is at home: those that it spoke with elsewhere, of which it may believe something else.
    #[serde(default)]
    behind: Vec<IpAddr>,
    moving: Option<Moving>,
}

/// A claim and its ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptClaim {
    /// Whose.
    pub authority: Authority,
    /// From where to where.
    pub pair: Pair,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Away {
    to: Place,
    /// The move by which it left.
    epoch: Epoch,
    #[serde(default)]
    next: Option<Next>,
}

/// A place that a VM, which has left from here, is to go on to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Next {
    to: Place,
    authority: Authority,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Moving {
    stage: Stage,
    step: Step,
}

/// How far a move has come at this proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Staged,
    Diverted,
    StandsIn,
    Released,
}

/// Why a call is not for this VM as it stands here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// This proxy is at neither end.
    #[error("the move from {from} to {to} does not touch this proxy; call the proxies it names")]
    NotAnEnd {
        /// The one end's proxy.
        from: String,
        /// The other's.
        to: String,
    },
    /// Both ends are one proxy.
    #[error("the vm would stay with the same proxy; this version moves packets between two")]
    SameProxy,
    /// The network is not one of this proxy's.
    #[error("this proxy has no leg on network '{0}'; name one of its [[network]]s")]
    NoNetwork(PartName),
    /// The stage makes no sense.
    #[error("the stage cannot be: {0}")]
    Unfit(String),
    /// Nothing was staged.
    #[error("no move of this vm is staged here under {0}; stage it first")]
    NotStaged(Authority),
    /// A move is further than that.
    #[error("move {epoch} of this vm {far} here; {remedy}")]
    UnderWay {
        /// Which.
        epoch: Epoch,
        /// How far.
        far: &'static str,
        /// What ends it.
        remedy: &'static str,
    },
    /// It is at the move's other end that this is done.
    #[error("the vm is {0} here; this is for the other end of its move")]
    OtherEnd(&'static str),
    /// The VM's port was not diverted.
    #[error("nothing is kept back for this vm; divert it first")]
    NotDiverted,
    /// It does not run here by that move.
    #[error(
        "the vm does not run here by move {0}; ask the proxy where it does, and name the last move"
    )]
    NotHere(Epoch),
    /// A later move has been here.
    #[error("what stands here is of move {of}, after move {asked}; name that one")]
    Later {
        /// What stands.
        of: Epoch,
        /// What was asked.
        asked: Epoch,
    },
}

const RUN_FIRST: &str = "have the agent run or release the vm here first";

impl Record {
    /// Takes a claim.
    #[must_use]
    pub fn claimed(self, authority: &Authority, pair: &Pair) -> Record {
        let claim = KeptClaim { authority: authority.clone(), pair: pair.clone() };
        Record { claim: Some(claim), ..self }
    }

    /// Whether this caller is the agent of `here` that the standing claim names.
    #[must_use]
    pub fn names_agent(&self, here: &Here, authority: &Authority, caller: &Identity) -> bool {
        let Some(claim) = &self.claim else { return false };
        let is_end = |end: &placement::End| {
            end.site == here.site && end.proxy == here.proxy && end.agent == caller.name
        };
        let is_ours = caller.role == Role::Agent && caller.site == here.site;
        is_ours
            && claim.authority == *authority
            && (is_end(&claim.pair.from) || is_end(&claim.pair.to))
    }

    /// The next placement.
    ///
    /// # Errors
    /// See [`NotNow`].
    pub fn staged(self, here: &Here, stage: Stage) -> Result<Record, NotNow> {
        fit::check(here, &stage)?;
        if let Some(Moving { stage: earlier, step }) = &self.moving {
            if *earlier == stage {
                return Ok(self);
            }
            if *step != Step::Staged {
                let epoch = earlier.authority.epoch;
                let far = "is under way";
                return Err(NotNow::UnderWay { epoch, far, remedy: RUN_FIRST });
            }
        }
        let card = Some(stage.card.clone());
        let behind = if here.is(&stage.to) { Vec::new() } else { self.behind.clone() };
        Ok(Record { card, behind, moving: Some(Moving { stage, step: Step::Staged }), ..self })
    }

    /// The undo of a stage.
    ///
    /// # Errors
    /// [`NotNow::UnderWay`].
    pub fn unstaged(self) -> Result<Record, NotNow> {
        match &self.moving {
            Some(Moving { stage, step }) if *step != Step::Staged => {
                let epoch = stage.authority.epoch;
                let (far, remedy) = match step {
                    Step::Released => ("has arrived", "redirect to this place"),
                    _ => ("keeps packets back", RUN_FIRST),
                };
                Err(NotNow::UnderWay { epoch, far, remedy })
            }
            _ => Ok(Record { moving: None, ..self }),
        }
    }

    /// What this proxy has for the VM is kept back.
    ///
    /// # Errors
    /// See [`NotNow`].
    pub fn diverted(self, here: &Here, authority: &Authority) -> Result<Record, NotNow> {
        let step = match self.leaving(here, authority)? {
            Step::Staged => Step::Diverted,
            further => further,
        };
        Ok(self.at(step))
    }

    /// This proxy answers for the VM.
    ///
    /// # Errors
    /// See [`NotNow`].
    pub fn stands_in(self, here: &Here, authority: &Authority) -> Result<Record, NotNow> {
        match self.leaving(here, authority)? {
            Step::Staged => Err(NotNow::NotDiverted),
            _ => Ok(self.at(Step::StandsIn)),
        }
    }

    /// Whether leftovers are taken.
    ///
    /// # Errors
    /// See [`NotNow`].
    pub fn takes_leftovers(&self, here: &Here, authority: &Authority) -> Result<(), NotNow> {
        match self.leaving(here, authority)? {
            Step::Staged => Err(NotNow::NotDiverted),
            _ => Ok(()),
        }
    }

    /// The VM runs here, by its agent's word: where it has arrived, or where it stays after all.
    #[must_use]
    pub fn released(self, here: &Here) -> Record {
        let Some(Moving { stage, .. }) = &self.moving else { return self };
        if !here.is(&stage.to) {
            return Record { moving: None, ..self };
        }
        let elsewhere = stage.elsewhere.clone();
        let is_home = self.away.is_some() || self.is_home;
        Record { elsewhere, is_home, away: None, ..self }.at(Step::Released)
    }

    /// The VM's new placement.
    ///
    /// # Errors
    /// See [`NotNow`].
    pub fn redirected(self, here: &Here, redirect: &Redirect) -> Result<Record, NotNow> {
        let Redirect { authority, placement } = redirect;
        let epoch = authority.epoch;
        let comes = here.is(placement);
        // Whoever took the move over once its VM was held tells it under an epoch of its own: what is
        // held here can be given up in no other way, so that it is of no other move.
        let is_of = |moving: &&Moving| {
            let of = &moving.stage.authority;
            let is_later = of.epoch < epoch && moving.step != Step::Staged;
            of == authority || is_later && moving.stage.to == *placement
        };
        let moving = self.moving.as_ref().filter(is_of);
        match moving {
            Some(Moving { stage, step }) if here.is(&stage.to) => {
                if !comes {
                    return Err(NotNow::OtherEnd("arriving"));
                }
                if *step != Step::Released {
                    let (far, remedy) = ("has not been released", "have the agent here release it");
                    return Err(NotNow::UnderWay { epoch, far, remedy });
                }
            }
            Some(_) if comes => return Err(NotNow::OtherEnd("leaving")),
            _ => {}
        }
        let leaves = moving.is_some() && !comes;
        // What is left is asked back by the epoch under which the VM was released.
        let held_by = moving.map(|moving| moving.stage.authority.epoch);
        let left_by = self.away.as_ref().map(|away| away.epoch).filter(|_| !comes);
        let placement = Some(placement.clone());
        if leaves || left_by.is_some() {
            let (to, is_home, next) = (redirect.placement.clone(), false, None);
            // What it left here is of the move by which it left, wherever it goes on to.
            let away = Some(Away { to, epoch: left_by.or(held_by).unwrap_or(epoch), next });
            let moving = if leaves { None } else { self.moving };
            let (elsewhere, behind, came_by) = (vec![], vec![], None);
            let it = Record { placement, away, moving, elsewhere, is_home, ..self };
            return Ok(Record { behind, came_by, ..it });
        }
        // What was staged earlier and never came to anything is over with a later move.
        let is_stale =
            |moving: &Moving| moving.step == Step::Staged && moving.stage.authority.epoch < epoch;
        let moving = self.moving.filter(|moving| !comes && !is_stale(moving));
        // Where it comes back without a hold, nobody released it here.
        let away = self.away.filter(|_| !comes);
        let came_by = comes.then_some(epoch);
        Ok(Record { placement, moving, away, came_by, ..self })
    }

    /// Nothing is to stand for it any more.
    ///
    /// # Errors
    /// [`NotNow::UnderWay`] and [`NotNow::Later`].
    pub fn reclaimed(self, release: Epoch) -> Result<Record, NotNow> {
        if let Some(Moving { stage, .. }) = &self.moving {
            let (epoch, far) = (stage.authority.epoch, "is staged");
            return Err(NotNow::UnderWay { epoch, far, remedy: "let it end, or unstage it" });
        }
        if let Some(away) = self.away.as_ref().filter(|away| away.epoch > release) {
            return Err(NotNow::Later { of: away.epoch, asked: release });
        }
        let (elsewhere, behind) = (vec![], vec![]);
        Ok(Record { away: None, elsewhere, behind, is_home: false, ..self })
    }

    /// The VM has left from here, or is about to: flows towards it that begin now are stragglers.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.away.is_some()
    }

    fn leaving(&self, here: &Here, authority: &Authority) -> Result<Step, NotNow> {
        let not_staged = || NotNow::NotStaged(authority.clone());
        let Moving { stage, step } = self.moving.as_ref().ok_or_else(not_staged)?;
        if stage.authority != *authority {
            return Err(not_staged());
        }
        if here.is(&stage.from) { Ok(*step) } else { Err(NotNow::OtherEnd("arriving")) }
    }

    fn at(mut self, step: Step) -> Record {
        if let Some(moving) = &mut self.moving {
            moving.step = step;
        }
        self
    }
}

#[cfg(test)]
mod tests;
