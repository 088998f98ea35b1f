//! One TCP connection of an asker: message after message, each behind its length (RFC 7766).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Admitted, QUESTION_BYTES_MAX, said, told};
use crate::answer::Transport;
use crate::view::Views;

/// How long a connection may lie idle.
const IDLE_MS_MAX: u64 = 10_000;
/// How long a message may take, once its first byte is there.
const MESSAGE_MS_MAX: u64 = 5_000;
/// How long an answer may wait for its asker to take it.
const UNREAD_MS_MAX: u64 = 5_000;
/// The same, once there is a newer view: well within [`ANSWER_MS_MAX`](crate::view::ANSWER_MS_MAX).
const OUTDATED_MS_MAX: u64 = 250;

/// Answers until the asker ends, takes too long, sends what cannot be read, or `ended` says so.
pub(super) async fn converse(
    mut stream: TcpStream,
    views: &Views,
    mut ended: watch::Receiver<bool>,
    _admitted: Admitted,
) {
    // Small answers should not wait for an acknowledgement; where that fails, they do.
    let _ = stream.set_nodelay(true);
    let mut question = vec![0; QUESTION_BYTES_MAX];
    loop {
        let read = tokio::select! {
            () = told(&mut ended) => return,
            read = next(&mut stream, &mut question) => read,
        };
        let Some(length) = read else { return };
        if !say(&mut stream, &question[..length], views).await {
            return;
        }
    }
}

/// The length of the next message; `None` where there is none, or one that is too long or too slow.
async fn next(stream: &mut TcpStream, question: &mut [u8]) -> Option<usize> {
    let idle = Duration::from_millis(IDLE_MS_MAX);
    let first = timeout(idle, stream.read_u8()).await.ok()?.ok()?;
    let rest = async {
        let length = usize::from(u16::from_be_bytes([first, stream.read_u8().await.ok()?]));
        stream.read_exact(question.get_mut(..length)?).await.ok()
    };
    timeout(Duration::from_millis(MESSAGE_MS_MAX), rest).await.ok()?
}

/// Answers one message; false where the connection is of no more use.
async fn say(stream: &mut TcpStream, question: &[u8], views: &Views) -> bool {
    // Held until the answer has left: an order is confirmed only then.
    let view = views.load_full();
    let answer = said(question, &view, Transport::Tcp);
    let Some(framed) = answer.bytes.as_deref().and_then(framed) else { return false };
    tokio::select! {
        written = timeout(Duration::from_millis(UNREAD_MS_MAX), stream.write_all(&framed)) => {
            matches!(written, Ok(Ok(())))
        }
        () = outdated(views, view.serial) => false,
    }
}

async fn outdated(views: &Views, serial: u32) {
    views.outdated(serial).await;
    sleep(Duration::from_millis(OUTDATED_MS_MAX)).await;
}

fn framed(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(bytes.len()).ok()?;
    Some([&length.to_be_bytes(), bytes].concat())
}
