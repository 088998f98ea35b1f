//! Called off at every record: before the pivot the VM stays, from the pivot on it is told what to
//! do instead.

use std::sync::{Arc, Mutex};

use saga::AbortRefused;
use saga::journal::memory::Fault;

use crate::trial::{Came, Trial, lived};

#[tokio::test(start_paused = true)]
async fn called_off_at_any_record_it_ends_as_was_promised() {
    let calm = Trial::new().await;
    lived(&calm).await;
    let records = calm.events("web.1").await.len();
    let (mut stayed, mut refused) = (0, 0);
    for at in 0..records {
        let trial = Trial::new().await;
        let answer = Arc::new(Mutex::new(None));
        let (control, told) = (Arc::clone(&trial.control), Arc::clone(&answer));
        trial.faults(move |append, _| {
            if append == at
                && let Some(control) = control.lock().unwrap().clone()
            {
                let told = Arc::clone(&told);
                tokio::spawn(async move {
                    let answer = control.abort("the operator says so").await;
                    *told.lock().unwrap() = Some(answer);
                });
            }
            Fault::None
        });
        let came = lived(&trial).await;
        tokio::task::yield_now().await;
        let answer = answer.lock().unwrap().take();
        let story = trial.story("web.1").await;
        match (&answer, &came) {
            (Some(Ok(())), Came::Stayed(why)) => {
                assert!(why.contains("the operator says so"), "{why}\n{story}");
                stayed += 1;
            }
            (Some(Err(AbortRefused::PastPivot { step: "start", .. })), Came::Moved) => refused += 1,
            // Asked in the moment of its opening, or of its end.
            (None | Some(Err(AbortRefused::NotDriven)), Came::Moved) => {}
            other => panic!("{other:?} at {at}\n{story}"),
        }
    }
    assert!(stayed > 10 && refused > 3, "{stayed} stayed, {refused} refused");
}
