//! The rooms of the toy saga.

use saga::{
    Answer, Context, Evidence, Observed, Pivot, Question, Release, Reversible, Step, StepId,
    Trouble, Verdict,
};
use serde::{Deserialize, Serialize};

use crate::post::Post;
use crate::world::{Letter, Order, Party, Reply, Word};

const TOWERS: [Party; 2] = [Party::OldTower, Party::NewTower];

async fn ask(post: &dyn Post, to: Party, cx: &Context, order: Order) -> Result<Reply, Trouble> {
    match post.send(to, Letter::new(cx, order)).await? {
        Reply::No(why) => Err(Trouble::permanent(why)),
        Reply::Stale { seen } => Err(Trouble::permanent(format!("{to:?} has seen {seen}"))),
        reply => Ok(reply),
    }
}

fn odd<T>(reply: &Reply) -> Result<T, Trouble> {
    Err(Trouble::permanent(format!("an odd reply: {reply:?}")))
}

fn seen(reply: &Reply) -> Result<Observed<u64>, Trouble> {
    match reply {
        Reply::There(Some(what)) => Ok(Observed::Done(*what)),
        Reply::There(None) => Ok(Observed::NotDone),
        other => odd(other),
    }
}

/// Is the new tower fit, and which fence have the towers seen?
pub(crate) struct Survey<'w>(pub(crate) &'w dyn Post);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Surveyed {
    pub(crate) seen: u64,
    pub(crate) fit: bool,
}

impl Question for Survey<'_> {
    type Answer = Surveyed;

    fn id(&self) -> StepId {
        StepId::new("survey")
    }

    async fn ask(&self, cx: &Context) -> Result<Surveyed, Trouble> {
        let mut survey = Surveyed { seen: 0, fit: true };
        for tower in TOWERS {
            match ask(self.0, tower, cx, Order::Survey).await? {
                Reply::Surveyed { seen, fit } => {
                    survey = Surveyed { seen: survey.seen.max(seen), fit: survey.fit && fit };
                }
                other => return odd(&other),
            }
        }
        Ok(survey)
    }
}

/// Both towers obey this saga alone.
pub(crate) struct Claim<'w>(pub(crate) &'w dyn Post);

impl Step for Claim<'_> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("claim")
    }

    async fn observe(&self, cx: &Context) -> Result<Observed<()>, Trouble> {
        for tower in TOWERS {
            if seen(&ask(self.0, tower, cx, Order::LookClaim).await?)? == Observed::NotDone {
                return Ok(Observed::NotDone);
            }
        }
        Ok(Observed::Done(()))
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        for tower in TOWERS {
            ask(self.0, tower, cx, Order::Claim).await?;
        }
        Ok(())
    }
}

impl Reversible for Claim<'_> {
    async fn undo(&self, cx: &Context, _: Option<&()>) -> Result<(), Trouble> {
        for tower in TOWERS {
            ask(self.0, tower, cx, Order::GiveBack).await?;
        }
        Ok(())
    }
}

/// One order at a party that takes orders.
pub(crate) struct Place<'w> {
    pub(crate) post: &'w dyn Post,
    pub(crate) id: StepId,
    pub(crate) at: Party,
    /// Leaves at once when it is told of an abort, rather than finish.
    pub(crate) hasty: bool,
}

impl Step for Place<'_> {
    type Outcome = u64;

    fn id(&self) -> StepId {
        self.id
    }

    async fn observe(&self, cx: &Context) -> Result<Observed<u64>, Trouble> {
        seen(&ask(self.post, self.at, cx, Order::LookPlaced).await?)
    }

    async fn perform(&self, cx: &Context) -> Result<u64, Trouble> {
        let reply = ask(self.post, self.at, cx, Order::Place).await?;
        if self.hasty && cx.is_aborted() {
            return Err(Trouble::transient("told to stop"));
        }
        match seen(&reply)? {
            Observed::Done(number) => Ok(number),
            Observed::NotDone => odd(&reply),
        }
    }
}

impl Reversible for Place<'_> {
    async fn undo(&self, cx: &Context, _: Option<&u64>) -> Result<(), Trouble> {
        ask(self.post, self.at, cx, Order::Cancel).await.map(drop)
    }
}

/// A coat of paint, from somebody who paints as often as he is told.
pub(crate) struct Paint<'w>(pub(crate) &'w dyn Post);

impl Step for Paint<'_> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("paint")
    }

    async fn observe(&self, cx: &Context) -> Result<Observed<()>, Trouble> {
        let reply = ask(self.0, Party::Painter, cx, Order::LookPaint).await?;
        Ok(match seen(&reply)? {
            Observed::Done(_) => Observed::Done(()),
            Observed::NotDone => Observed::NotDone,
        })
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        cx.progress(&serde_json::json!({ "walls": 4 }));
        ask(self.0, Party::Painter, cx, Order::Paint).await.map(drop)
    }
}

impl Reversible for Paint<'_> {
    async fn undo(&self, cx: &Context, _: Option<&()>) -> Result<(), Trouble> {
        ask(self.0, Party::Painter, cx, Order::Scrape).await.map(drop)
    }
}

/// The old tower goes dark and says so. The number is the release that evidence must name.
pub(crate) struct Dim<'w>(pub(crate) &'w dyn Post);

/// The new tower's word that it will never light up for a release.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    release: u64,
}

impl Step for Dim<'_> {
    type Outcome = u64;

    fn id(&self) -> StepId {
        StepId::new("dim")
    }

    async fn observe(&self, cx: &Context) -> Result<Observed<u64>, Trouble> {
        seen(&ask(self.0, Party::OldTower, cx, Order::LookSeat).await?)
    }

    async fn perform(&self, cx: &Context) -> Result<u64, Trouble> {
        let reply = ask(self.0, Party::OldTower, cx, Order::Dim).await?;
        match seen(&reply)? {
            Observed::Done(release) => Ok(release),
            Observed::NotDone => odd(&reply),
        }
    }
}

impl Release for Dim<'_> {
    type Refusal = Refusal;

    async fn undo(&self, cx: &Context) -> Result<(), Trouble> {
        ask(self.0, Party::OldTower, cx, Order::Relight(None)).await.map(drop)
    }

    async fn retake(
        &self,
        cx: &Context,
        _: &u64,
        evidence: &Evidence<Refusal>,
    ) -> Result<(), Trouble> {
        let word = match evidence {
            Evidence::Refused(refusal) => Word::RefusedBy { release: refusal.release },
            Evidence::NeverSent(_) => Word::NeverSent,
        };
        ask(self.0, Party::OldTower, cx, Order::Relight(Some(word))).await.map(drop)
    }
}

/// The new tower lights up, or refuses to.
pub(crate) struct LightUp<'w> {
    pub(crate) post: &'w dyn Post,
    pub(crate) release: u64,
}

impl LightUp<'_> {
    async fn verdict(&self, cx: &Context, order: Order) -> Result<Observed<Answer<Self>>, Trouble> {
        match ask(self.post, Party::NewTower, cx, order).await? {
            Reply::Accepted { release } => Ok(Observed::Done(Verdict::Accepted(release))),
            Reply::Refused { release } => Ok(Observed::Done(Verdict::Refused(Refusal { release }))),
            Reply::There(None) => Ok(Observed::NotDone),
            other => odd(&other),
        }
    }
}

impl Pivot for LightUp<'_> {
    type Accepted = u64;
    type Refusal = Refusal;

    const INSTEAD_OF_ABORT: &'static str = "move the light back with a new saga";

    fn id(&self) -> StepId {
        StepId::new("light-up")
    }

    async fn observe(&self, cx: &Context) -> Result<Observed<Answer<Self>>, Trouble> {
        self.verdict(cx, Order::LookVerdict { release: self.release }).await
    }

    async fn perform(&self, cx: &Context) -> Result<Answer<Self>, Trouble> {
        match self.verdict(cx, Order::Light { release: self.release }).await? {
            Observed::Done(verdict) => Ok(verdict),
            Observed::NotDone => Err(Trouble::transient("no verdict")),
        }
    }

    async fn refuse(&self, cx: &Context) -> Result<Answer<Self>, Trouble> {
        match self.verdict(cx, Order::RefuseLight { release: self.release }).await? {
            Observed::Done(verdict) => Ok(verdict),
            Observed::NotDone => Err(Trouble::transient("no verdict")),
        }
    }
}

/// The old tower is taken down.
pub(crate) struct Dismantle<'w>(pub(crate) &'w dyn Post);

impl Step for Dismantle<'_> {
    type Outcome = ();

    fn id(&self) -> StepId {
        StepId::new("dismantle")
    }

    async fn observe(&self, _: &Context) -> Result<Observed<()>, Trouble> {
        // To ask again does no harm.
        Ok(Observed::NotDone)
    }

    async fn perform(&self, cx: &Context) -> Result<(), Trouble> {
        ask(self.0, Party::OldTower, cx, Order::Dismantle).await.map(drop)
    }
}
