//! One incarnation of an orchestrator: honest about what it knows, and otherwise in no order at
//! all. It sends whatever its knowledge allows, again and again.

use placement::order::{Evidence, Speaker};
use placement::*;

use crate::dice::Dice;

#[derive(Debug)]
pub(crate) struct Orchestrator {
    pub(crate) authority: Authority,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) pair: Pair,
    takeover: bool,
    source_granted: Option<Record>,
    target_granted: Option<Record>,
    reserved: bool,
    stopped: bool,
    /// In hand: the source's word, from its answer or from its record.
    release: Option<Release>,
    pivot_journalled: bool,
    undo_journalled: bool,
    refused: Option<Speaker>,
    accepted: bool,
    gone: Option<Speaker>,
    armed: bool,
    /// Given back, or not this incarnation's business.
    retired: bool,
}

impl Orchestrator {
    pub(crate) fn new(
        authority: Authority,
        (from, to): (usize, usize),
        pair: Pair,
        takeover: bool,
    ) -> Orchestrator {
        Orchestrator {
            authority,
            from,
            to,
            pair,
            takeover,
            source_granted: None,
            target_granted: None,
            reserved: false,
            stopped: false,
            release: None,
            pivot_journalled: false,
            undo_journalled: false,
            refused: None,
            accepted: false,
            gone: None,
            armed: false,
            retired: false,
        }
    }

    /// One thing that it may say now, and to which host.
    pub(crate) fn says(&mut self, dice: &mut Dice) -> Option<(usize, Command)> {
        let authority = self.authority.clone();
        if self.retired {
            let host = if dice.one_in(2) { self.from } else { self.to };
            return Some((host, Command::GiveBack { authority }));
        }
        let (Some(source), Some(_)) = (&self.source_granted, &self.target_granted) else {
            return self.claims_or_runs(dice);
        };
        if source.seat.is_here() && (self.release.is_none() || dice.one_in(10)) {
            return self.moves(dice);
        }
        self.release.is_some().then(|| self.carries_on(dice)).flatten()
    }

    fn claims_or_runs(&self, dice: &mut Dice) -> Option<(usize, Command)> {
        let authority = self.authority.clone();
        let here = self.source_granted.as_ref().is_some_and(|record| record.seat.is_here());
        if here && dice.one_in(6) {
            return Some((self.from, Command::Run { authority, evidence: None }));
        }
        let host = if dice.one_in(2) { self.from } else { self.to };
        let (pair, takeover) = (self.pair.clone(), self.takeover);
        Some((host, Command::Claim { authority, pair, takeover }))
    }

    /// From Here: mostly the next step of a move, and else any; the rules keep them in order.
    fn moves(&self, dice: &mut Dice) -> Option<(usize, Command)> {
        let authority = self.authority.clone();
        let next = match (self.reserved, self.stopped) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        let step = if dice.one_in(8) { dice.below(5) } else { next };
        Some(match step {
            0 => (self.to, Command::Reserve { authority }),
            1 => (self.from, Command::Stop { authority }),
            2 => (self.from, Command::Release { authority }),
            3 => (self.from, Command::Hold { authority }),
            _ => (self.from, Command::Run { authority, evidence: None }),
        })
    }

    fn carries_on(&mut self, dice: &mut Dice) -> Option<(usize, Command)> {
        let authority = self.authority.clone();
        let release = self.release.clone()?;
        let own = release.owner == authority.owner;
        if self.accepted && !dice.one_in(4) {
            return self.finishes(release, dice);
        }
        Some(match dice.below(10) {
            0..=4 if !self.undo_journalled => {
                self.pivot_journalled = true;
                (self.to, Command::Start { authority, release })
            }
            5 if own && !self.pivot_journalled => {
                self.undo_journalled = true;
                let evidence = Some(Evidence::Undone { release });
                (self.from, Command::Run { authority, evidence })
            }
            6 => (self.to, Command::Refuse { authority: Some(authority), release }),
            7..=8 => {
                let by = self.refused.clone()?;
                let evidence = Some(Evidence::Refused { by, release });
                (self.from, Command::Run { authority, evidence })
            }
            _ => return None,
        })
    }

    /// Once the target has accepted: forget, arm, reclaim, give back.
    fn finishes(&mut self, release: Release, dice: &mut Dice) -> Option<(usize, Command)> {
        let authority = self.authority.clone();
        let Some(gone_at) = self.gone.clone() else {
            return Some((self.from, Command::Forget { authority, release }));
        };
        match dice.below(4) {
            0..=1 => Some((self.to, Command::Arm { authority, release, gone_at })),
            2 => Some((self.from, Command::Reclaim { release, keep_disk: false })),
            _ => {
                self.retired = self.armed;
                None
            }
        }
    }

    pub(crate) fn hears(&mut self, host: usize, speaker: Speaker, answer: Answer) {
        match answer {
            Answer::Granted { record } if host == self.from => {
                self.learns_from_source(&record);
                self.source_granted = Some(*record);
            }
            Answer::Granted { record } => self.target_granted = Some(*record),
            Answer::Reserved => self.reserved = true,
            Answer::Stopped => self.stopped = true,
            Answer::Released { release } => self.release = Some(release),
            Answer::Accepted { taken, .. } => {
                self.accepted |= self.release.as_ref() == Some(&taken);
            }
            Answer::Refused { release } if self.release.as_ref() == Some(&release) => {
                self.refused = Some(speaker);
            }
            Answer::Gone { .. } => self.gone = Some(speaker),
            Answer::Armed { .. } => self.armed = true,
            // It has run again: what was released is no more. A new move is a new claim's.
            Answer::Runs => self.retired = true,
            _ => {}
        }
    }

    /// A takeover reads the records, not the old owner's mind; a pair that they do not name is not
    /// its own.
    fn learns_from_source(&mut self, record: &Record) {
        match &record.seat {
            Seat::Started { armed: true, .. } => {}
            Seat::Released { release, to, .. } if to.is_same_agent(&self.pair.to) => {
                self.release = Some(release.clone());
            }
            Seat::Gone { release, to, .. } if to.is_same_agent(&self.pair.to) => {
                self.release = Some(release.clone());
                self.accepted = true;
            }
            _ => self.retired = true,
        }
    }
}
