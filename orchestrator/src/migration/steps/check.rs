//! Whether the move can be made, found out at both ends before anything is touched.

use saga::{Context, Question, StepId, Trouble};

use crate::migration::ends::Ends;
use crate::migration::parties::Parties;
use crate::migration::plan::{Surveyed, survey};

/// See the module.
pub(in crate::migration) struct Check<'w, P>(pub(in crate::migration) Ends<'w, P>);

impl<P: Parties> Question for Check<'_, P> {
    type Answer = Surveyed;

    fn id(&self) -> StepId {
        StepId::new("check")
    }

    async fn ask(&self, _: &Context) -> Result<Surveyed, Trouble> {
        Ok(survey(self.0.parties, self.0.wanted).await)
    }
}
