//! The parties of the toy world. Each remembers the highest fence that it has seen and refuses what
//! carries an older one, or the same from another owner; each answers a key that it has seen as it
//! did before. That is all that the engine asks of a remote party.

use std::collections::{BTreeMap, BTreeSet};

use saga::Context;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Party {
    OldTower,
    NewTower,
    Depot,
    Notices,
    Painter,
    Chart,
    Bank,
}

/// What a party is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Order {
    Survey,
    Claim,
    GiveBack,
    LookClaim,
    Place,
    Cancel,
    LookPlaced,
    Paint,
    Scrape,
    LookPaint,
    Dim,
    Relight(Option<Word>),
    LookSeat,
    Light { release: u64 },
    RefuseLight { release: u64 },
    LookVerdict { release: u64 },
    Dismantle,
}

/// Why a dimmed tower may light up again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Word {
    RefusedBy { release: u64 },
    NeverSent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Letter {
    pub(crate) key: String,
    /// Saga and attempt, which a cancellation covers.
    pub(crate) attempt: String,
    pub(crate) fence: u64,
    pub(crate) owner: String,
    pub(crate) order: Order,
}

impl Letter {
    pub(crate) fn new(cx: &Context, order: Order) -> Self {
        let (key, authority) = (cx.key(), cx.authority());
        Self {
            key: key.to_string(),
            attempt: format!("{}#{}/{}", key.saga, key.attempt, key.step),
            fence: authority.fence.as_ref().map_or(0, |fence| fence.value),
            owner: format!("{}/{}", key.saga, authority.incarnation),
            order,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Yes,
    No(String),
    Stale { seen: u64 },
    Surveyed { seen: u64, fit: bool },
    There(Option<u64>),
    Accepted { release: u64 },
    Refused { release: u64 },
}

/// What the world makes hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// The new tower is not fit.
    Unfit,
    /// The depot has no oil.
    NoOil,
    /// The new tower refuses the light.
    Unwilling,
    /// The new tower cannot light up, and says so without a verdict.
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seat {
    Empty,
    Here,
    Released { release: u64, owner: String },
    Gone,
}

#[derive(Clone, Debug)]
struct Tower {
    seen: u64,
    owner: String,
    claimed: bool,
    given_back: u64,
    lit: bool,
    seat: Seat,
    ended: u64,
    refused: u64,
    replies: BTreeMap<(String, Order), Reply>,
}

/// A party that takes orders and can cancel them: oil, notices, entries in the chart, payments.
#[derive(Clone, Debug, Default)]
struct Stall {
    seen: u64,
    next: u64,
    placed: BTreeMap<u64, String>,
    cancelled: BTreeSet<String>,
    ever: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    weather: Weather,
    old: Tower,
    new: Tower,
    stalls: BTreeMap<Party, Stall>,
    coats: u32,
    /// The painter refuses older fences, as all others do, where this has a value.
    pub(crate) painter_seen: Option<u64>,
    pub(crate) wrong: Vec<String>,
}

/// The two ways in which everything may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stayed,
    Moved,
}

impl World {
    pub(crate) fn new(weather: Weather) -> Self {
        let tower = |lit, seat| Tower {
            seen: 0,
            owner: String::new(),
            claimed: false,
            given_back: 0,
            lit,
            seat,
            ended: 0,
            refused: 0,
            replies: BTreeMap::new(),
        };
        let stalls = [Party::Depot, Party::Notices, Party::Chart, Party::Bank];
        Self {
            weather,
            old: tower(true, Seat::Here),
            new: tower(false, Seat::Empty),
            stalls: stalls.into_iter().map(|party| (party, Stall::default())).collect(),
            coats: 0,
            painter_seen: None,
            wrong: Vec::new(),
        }
    }

    pub(crate) fn handle(&mut self, to: Party, letter: &Letter) -> Reply {
        let weather = self.weather;
        let reply = match to {
            Party::OldTower => self.old.handle(letter, weather),
            Party::NewTower => self.new.handle(letter, weather),
            Party::Painter => self.paint(letter),
            Party::Depot if weather == Weather::NoOil && letter.order == Order::Place => {
                Reply::No("the depot has no oil".to_owned())
            }
            stall => self.stalls.get_mut(&stall).unwrap().handle(letter),
        };
        if self.old.lit && self.new.lit {
            self.wrong.push(format!("both towers are lit after {letter:?}"));
        }
        if self.coats > 1 {
            self.wrong.push(format!("painted twice after {letter:?}"));
        }
        reply
    }

    /// The painter knows no keys: to look first is all that keeps him from painting twice.
    fn paint(&mut self, letter: &Letter) -> Reply {
        if let Some(seen) = &mut self.painter_seen {
            if letter.fence < *seen {
                return Reply::Stale { seen: *seen };
            }
            *seen = letter.fence;
        }
        match letter.order {
            Order::Paint => self.coats += 1,
            Order::Scrape => self.coats = 0,
            _ => return Reply::There((self.coats > 0).then_some(1)),
        }
        Reply::Yes
    }

    /// What the world has come to; what is left over if it is neither of the two.
    pub(crate) fn outcome(&self) -> Result<Outcome, String> {
        if !self.wrong.is_empty() {
            return Err(self.wrong.join("\n"));
        }
        let placed = |party| self.stalls[&party].placed.len();
        let all = [Party::Depot, Party::Notices, Party::Chart, Party::Bank].map(placed);
        let towers = (&self.old.seat, self.old.lit, self.new.lit, self.new.claimed);
        match (towers, all, self.coats) {
            ((Seat::Here, true, false, false), [0, 0, 0, 0], 0) if !self.old.claimed => {
                Ok(Outcome::Stayed)
            }
            ((Seat::Gone, false, true, _), [1, 1, 1, 1], 1) => Ok(Outcome::Moved),
            _ => Err(format!("neither stayed nor moved: {self:#?}")),
        }
    }

    /// How often anything was ordered at a party, cancelled or not.
    pub(crate) fn ever_placed(&self, party: Party) -> u64 {
        self.stalls[&party].ever
    }
}

impl Stall {
    fn handle(&mut self, letter: &Letter) -> Reply {
        if letter.fence < self.seen {
            return Reply::Stale { seen: self.seen };
        }
        self.seen = letter.fence;
        let placed = self.placed.iter().find(|(_, by)| **by == letter.attempt).map(|(id, _)| *id);
        match (&letter.order, placed) {
            (Order::Place, None) if self.cancelled.contains(&letter.attempt) => {
                Reply::No("this order was cancelled".to_owned())
            }
            (Order::Place, None) => {
                self.next += 1;
                self.ever += 1;
                self.placed.insert(self.next, letter.attempt.clone());
                Reply::There(Some(self.next))
            }
            (Order::Cancel, _) => {
                self.cancelled.insert(letter.attempt.clone());
                self.placed.retain(|_, by| *by != letter.attempt);
                Reply::Yes
            }
            (_, placed) => Reply::There(placed),
        }
    }
}

impl Tower {
    fn handle(&mut self, letter: &Letter, weather: Weather) -> Reply {
        if letter.order == Order::Survey {
            return Reply::Surveyed { seen: self.seen, fit: weather != Weather::Unfit };
        }
        let stranger = letter.fence == self.seen && letter.owner != self.owner;
        if letter.fence < self.seen || stranger {
            return Reply::Stale { seen: self.seen };
        }
        self.seen = letter.fence;
        self.owner.clone_from(&letter.owner);
        let looks =
            matches!(letter.order, Order::LookClaim | Order::LookSeat | Order::LookVerdict { .. });
        let asked = (letter.key.clone(), letter.order.clone());
        if let Some(reply) = self.replies.get(&asked) {
            return reply.clone();
        }
        let reply = self.obey(letter, weather);
        if !looks && !matches!(reply, Reply::No(_)) {
            self.replies.insert(asked, reply.clone());
        }
        reply
    }

    fn obey(&mut self, letter: &Letter, weather: Weather) -> Reply {
        match &letter.order {
            Order::Claim if letter.fence <= self.given_back => {
                return Reply::No("this claim was given back".to_owned());
            }
            Order::Claim => self.claimed = true,
            Order::GiveBack => {
                self.claimed = false;
                self.given_back = letter.fence;
            }
            Order::LookClaim => return Reply::There(self.claimed.then_some(letter.fence)),
            Order::Dim => return self.dim(letter),
            Order::Relight(word) => return self.relight(letter, word.as_ref()),
            Order::LookSeat => {
                return Reply::There(match self.seat {
                    Seat::Released { release, .. } => Some(release),
                    _ => None,
                });
            }
            Order::Light { release } if weather == Weather::Unwilling => {
                return self.refuse(*release);
            }
            Order::Light { .. } if weather == Weather::Broken => {
                return Reply::No("the lamp is broken".to_owned());
            }
            Order::Light { release } => return self.light(*release),
            Order::RefuseLight { release } => return self.refuse(*release),
            Order::LookVerdict { release } => return self.verdict(*release),
            Order::Dismantle if matches!(self.seat, Seat::Released { .. } | Seat::Gone) => {
                self.seat = Seat::Gone;
            }
            other => return Reply::No(format!("a tower does not {other:?}")),
        }
        Reply::Yes
    }

    fn dim(&mut self, letter: &Letter) -> Reply {
        if self.seat != Seat::Here || letter.fence <= self.ended || !self.claimed {
            return Reply::No("this is not the time to dim".to_owned());
        }
        self.lit = false;
        self.seat = Seat::Released { release: letter.fence, owner: letter.owner.clone() };
        Reply::There(Some(letter.fence))
    }

    fn relight(&mut self, letter: &Letter, word: Option<&Word>) -> Reply {
        let may = match (&self.seat, word) {
            (Seat::Here, _) => true,
            (Seat::Released { release, .. }, Some(Word::RefusedBy { release: refused })) => {
                refused >= release
            }
            (Seat::Released { owner, .. }, Some(Word::NeverSent)) => *owner == letter.owner,
            _ => false,
        };
        if !may {
            return Reply::No("the light was released, and this is no evidence".to_owned());
        }
        self.seat = Seat::Here;
        self.lit = true;
        self.ended = letter.fence;
        Reply::Yes
    }

    fn light(&mut self, release: u64) -> Reply {
        if self.seat == Seat::Empty && release > self.refused {
            self.seat = Seat::Here;
            self.lit = true;
        }
        self.verdict(release)
    }

    fn refuse(&mut self, release: u64) -> Reply {
        if self.seat == Seat::Empty {
            self.refused = self.refused.max(release);
        }
        self.verdict(release)
    }

    fn verdict(&self, release: u64) -> Reply {
        match self.seat {
            Seat::Here => Reply::Accepted { release },
            _ if release <= self.refused => Reply::Refused { release },
            _ => Reply::There(None),
        }
    }
}
