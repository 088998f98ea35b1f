//! A move together with the call that ordered it, so that the journal knows both: a call that is
//! repeated after a crash is told from a second one.

use orchestrator_api::Move;
use orchestrator_api::operator::CallKey;
use placement::Identity;
use saga::{Before, Context, Finished, Halted, NotTaken, Trouble, Workflow};
use serde::{Deserialize, Serialize};

/// What the journal keeps of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ordered {
    /// The call's key.
    pub key: CallKey,
    /// Who called.
    pub by: Identity,
    /// What was ordered.
    pub wanted: Move,
}

/// The workflow of a move, with the call beside its input.
#[derive(Debug)]
pub(crate) struct AsOrdered<W>(pub(crate) W);

impl<W: Workflow<Input = Move>> Workflow for AsOrdered<W> {
    const NAME: &'static str = W::NAME;
    type Input = Ordered;
    type Output = W::Output;

    async fn run<'w>(
        &'w self,
        saga: Before<'w>,
        input: &'w Ordered,
    ) -> Result<Finished<W::Output>, Halted> {
        self.0.run(saga, &input.wanted).await
    }

    async fn take_over(&self, cx: &Context, input: &Ordered) -> Result<(), NotTaken> {
        self.0.take_over(cx, &input.wanted).await
    }

    async fn give_back(&self, cx: &Context, input: &Ordered) -> Result<(), Trouble> {
        self.0.give_back(cx, &input.wanted).await
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use orchestrator_api::MoveOptions;
    use placement::{End, Pair};

    use super::*;

    /// Of VM web, from a to b.
    pub(crate) fn ordered() -> Ordered {
        let end = |site: &str, port| End {
            site: site.parse().unwrap(),
            agent: "hv1".parse().unwrap(),
            address: ([127, 0, 0, 1], port).into(),
            proxy: "p1".parse().unwrap(),
        };
        Ordered {
            key: "key-1".parse().unwrap(),
            by: "causeway://site/hq/role/operator/name/ada".parse().unwrap(),
            wanted: Move {
                vm: "web".parse().unwrap(),
                pair: Pair { from: end("a", 1), to: end("b", 2) },
                options: MoveOptions::default(),
            },
        }
    }
}
