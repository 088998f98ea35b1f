//! Several futures polled as one, each of which borrows what its caller has.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

/// All their results, in their order.
pub(crate) async fn together<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut asked: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut told: Vec<Option<F::Output>> = asked.iter().map(|_| None).collect();
    let all = poll_fn(|cx| {
        let mut is_waiting = false;
        for (future, result) in asked.iter_mut().zip(&mut told) {
            if result.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(output) => *result = Some(output),
                    Poll::Pending => is_waiting = true,
                }
            }
        }
        if is_waiting { Poll::Pending } else { Poll::Ready(()) }
    });
    pin!(all).await;
    told.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_wait_at_once_and_answer_in_their_order() {
        let begun = Instant::now();
        let told = together([30, 10, 20].map(|ms| async move {
            sleep(Duration::from_millis(ms)).await;
            ms
        }));
        assert_eq!(told.await, [30, 10, 20]);
        assert_eq!(begun.elapsed(), Duration::from_millis(30));
        assert!(together(Vec::<std::future::Ready<()>>::new()).await.is_empty());
    }
}
