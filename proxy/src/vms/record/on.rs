//! A VM that has left from here, and is to go on from where it is to a third place.

use placement::Authority;
use proxy_api::Stage;

use super::{Away, Next, NotNow, Record, fit};

impl Record {
    /// The VM, which has left from here, is to go on to another place.
    ///
    /// # Errors
    /// [`NotNow::NotAnEnd`], where it has not left from here.
    pub fn goes_on(self, stage: &Stage) -> Result<Record, NotNow> {
        let Some(away) = self.away else { return Err(fit::not_an_end(stage)) };
        let next = Next { to: stage.to.clone(), authority: stage.authority.clone() };
        Ok(Record { away: Some(Away { next: Some(next), ..away }), ..self })
    }

    /// It does not go on after all, by that move's own word; none where it was not to.
    #[must_use]
    pub fn stays(&self, authority: &Authority) -> Option<Record> {
        let away = self.away.as_ref()?;
        away.next.as_ref().filter(|next| next.authority == *authority)?;
        Some(Record { away: Some(Away { next: None, ..away.clone() }), ..self.clone() })
    }
}
