//! The toy saga, as a workflow reads.

use saga::{Before, Context, FenceName, Finished, Halted, NotTaken, StepId, Trouble, Workflow};
use serde::{Deserialize, Serialize};

use crate::post::Post;
use crate::rooms::{Claim, Dim, Dismantle, LightUp, Paint, Place, Survey};
use crate::world::{Letter, Order, Party, Reply};

const FENCE: StepId = StepId::new("fence");
const OIL: StepId = StepId::new("oil");
const NOTICE: StepId = StepId::new("notice");
const CHART: StepId = StepId::new("chart");
const PAY: StepId = StepId::new("pay");

/// Moves the light.
pub(crate) struct MoveLight<P> {
    pub(crate) post: P,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wish {
    pub(crate) light: FenceName,
    /// Turns back after the release, before the pivot.
    pub(crate) fickle: bool,
}

impl Wish {
    pub(crate) fn new(fickle: bool) -> Self {
        Self { light: FenceName::new("light/cape").unwrap(), fickle }
    }
}

impl<P: Post> Workflow for MoveLight<P> {
    const NAME: &'static str = "move-light";
    type Input = Wish;
    type Output = u64;

    async fn run<'w>(&'w self, saga: Before<'w>, wish: &'w Wish) -> Result<Finished<u64>, Halted> {
        let post = &self.post;
        let place = |id, at, hasty| Place { post, id, at, hasty };

        let (saga, survey) = saga.ask(Survey(post)).await?;
        if !survey.fit {
            return Err(saga.undo("the new tower is not fit").await);
        }
        let (saga, _) = saga.register(FENCE, &wish.light, survey.seen).await?;
        let (saga, ()) = saga.step(Claim(post)).await?;
        let (saga, _) = saga.step(place(OIL, Party::Depot, true)).await?;
        let (saga, _) = saga.step(place(NOTICE, Party::Notices, false)).await?;
        let (saga, ()) = saga.step(Paint(post)).await?;
        let (saga, release) = saga.release(Dim(post)).await?;

        let light_up = LightUp { post, release };
        let (saga, _) = if wish.fickle {
            saga.turn_back(light_up, "the wind has turned").await?
        } else {
            saga.pivot(light_up).await?
        };

        let (saga, entry) = saga.step(place(CHART, Party::Chart, false)).await?;
        let (saga, _) = saga.step(place(PAY, Party::Bank, false)).await?;
        let (saga, ()) = saga.step(Dismantle(post)).await?;
        saga.finish(entry).await
    }

    async fn take_over(&self, cx: &Context, _: &Wish) -> Result<(), NotTaken> {
        for tower in [Party::OldTower, Party::NewTower] {
            match self.post.send(tower, Letter::new(cx, Order::Claim)).await? {
                Reply::Yes => {}
                Reply::Stale { seen } => return Err(NotTaken::Behind { seen }),
                other => return Err(Trouble::permanent(format!("an odd reply: {other:?}")).into()),
            }
        }
        Ok(())
    }

    async fn give_back(&self, cx: &Context, _: &Wish) -> Result<(), Trouble> {
        for tower in [Party::OldTower, Party::NewTower] {
            match self.post.send(tower, Letter::new(cx, Order::GiveBack)).await? {
                Reply::Yes => {}
                other => return Err(Trouble::permanent(format!("an odd reply: {other:?}"))),
            }
        }
        Ok(())
    }
}
