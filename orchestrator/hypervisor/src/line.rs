//! Calls to one party over streams that are dialled, kept while they last, and dialled anew when
//! they break.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use orchestrator_api::{CallError, Connection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::dial::Dial;
use crate::trouble::CallTrouble;

/// How long a connection may take, TLS included.
pub const DIAL_MAX: Duration = Duration::from_secs(5);
/// Connections kept for the next call.
const IDLE_MAX: usize = 4;

/// A client of one control API.
pub trait Client: Send + Sized + 'static {
    /// A client over `stream`, and what moves its bytes.
    fn over<S: AsyncRead + AsyncWrite + Unpin + Send>(
        stream: S,
    ) -> impl Future<Output = Result<(Self, Connection<S>), CallError>> + Send;
}

/// One call of that API. Made twice it has no effect twice.
pub trait Call<C>: Send + Sync {
    /// What is answered.
    type Answer: Send;

    /// How long it may take.
    const BOUND: Duration;

    /// Makes it.
    fn make(&self, client: &mut C) -> impl Future<Output = Result<Self::Answer, CallError>> + Send;
}

/// The line to one party.
#[derive(Debug)]
pub struct Line<D, C> {
    dial: D,
    idle: Mutex<Vec<Session<C>>>,
}

/// A connection, and the task that moves its bytes; it ends with the session.
#[derive(Debug)]
struct Session<C> {
    client: C,
    moves_bytes: JoinHandle<()>,
}

impl<C> Drop for Session<C> {
    fn drop(&mut self) {
        self.moves_bytes.abort();
    }
}

impl<D: Dial, C: Client> Line<D, C> {
    /// A line to the party that `dial` reaches. Nothing is opened before the first call.
    pub const fn new(dial: D) -> Line<D, C> {
        Line { dial, idle: Mutex::new(Vec::new()) }
    }

    /// One call. A kept connection may have died unseen while nobody used it, so a call that breaks
    /// on one is made once more on a new one.
    ///
    /// # Errors
    /// See [`CallTrouble`].
    pub async fn call<K: Call<C>>(&self, call: &K) -> Result<K::Answer, CallTrouble> {
        if let Some(session) = self.kept() {
            match self.once(session, call).await {
                Err(CallTrouble::Unheard { is_cut: true, .. }) => {}
                ended => return ended,
            }
        }
        let session = self.open().await?;
        self.once(session, call).await
    }

    async fn once<K: Call<C>>(
        &self,
        mut session: Session<C>,
        call: &K,
    ) -> Result<K::Answer, CallTrouble> {
        let answer = match timeout(K::BOUND, call.make(&mut session.client)).await {
            Ok(answer) => answer,
            Err(elapsed) => {
                let (party, source) = (self.dial.party(), Box::new(elapsed));
                return Err(CallTrouble::Unheard { party, is_cut: false, source });
            }
        };
        if matches!(answer, Ok(_) | Err(CallError::Refused { .. })) {
            self.keep(session);
        }
        answer.map_err(|error| CallTrouble::of_call(self.dial.party(), error))
    }

    async fn open(&self) -> Result<Session<C>, CallTrouble> {
        let unreached = |source| CallTrouble::Unreached { party: self.dial.party(), source };
        let dialled = timeout(DIAL_MAX, self.dial.dial()).await;
        let stream = dialled.map_err(|elapsed| unreached(Box::new(elapsed)))?;
        let stream = stream.map_err(|error| unreached(Box::new(error)))?;
        let opened = C::over(stream).await;
        let (client, connection) = opened.map_err(|error| unreached(Box::new(error)))?;
        // How a connection ends, the call that is made over it learns.
        let moves_bytes = tokio::spawn(async move { drop(connection.await) });
        Ok(Session { client, moves_bytes })
    }

    fn kept(&self) -> Option<Session<C>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|session| !session.moves_bytes.is_finished());
        idle.pop()
    }

    fn keep(&self, session: Session<C>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(session);
        }
    }
}
