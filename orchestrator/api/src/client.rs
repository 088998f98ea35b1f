//! Asks one agent over one stream: one call at a time, in order. Spawns nothing: the caller polls
//! the connection beside the call, and decides how long to wait.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use placement::{Answer, VmName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::agent::{
    CopyRequest, OrderRequest, Progress, Refusal, RefusalBody, VmList, VmView, path,
};

/// Longest answer that is read.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The agent answered, and said no.
    #[error("{} ({}; {})", refusal.message, refusal.code, refusal.remedy)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The agent's words.
        refusal: Refusal,
    },
    /// The connection broke: whether the call was carried out is not known. Its repetition, with
    /// the same key, tells.
    #[error("the connection to the agent broke; send the same again over a new one")]
    Broken(#[source] hyper::Error),
    /// The answer is not of this API.
    #[error("the agent's answer (status {status}) cannot be read: {why}; are both of one version?")]
    Unintelligible {
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        why: String,
    },
}

/// Asks one agent over one stream.
#[derive(Debug)]
pub struct AgentClient {
    requests: SendRequest<Full<Bytes>>,
}

/// Moves the client's bytes; it must be polled while a call is awaited, and ends with the stream.
#[must_use = "no call makes progress unless the connection is polled"]
pub struct Connection<S: AsyncRead + AsyncWrite + Unpin>(
    http1::Connection<TokioIo<S>, Full<Bytes>>,
);

impl AgentClient {
    /// A client over `stream`, which must be secured and lead to the agent that is meant.
    ///
    /// # Errors
    /// The stream is broken already.
    pub async fn over<S>(stream: S) -> Result<(AgentClient, Connection<S>), CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (requests, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(CallError::Broken)?;
        Ok((AgentClient { requests }, Connection(connection)))
    }

    /// Every VM that the agent has a record of.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn vms(&mut self) -> Result<VmList, CallError> {
        self.call(Method::GET, path::VMS.to_owned(), None::<&()>).await
    }

    /// One VM.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that the agent has no record of it.
    pub async fn vm(&mut self, vm: &VmName) -> Result<VmView, CallError> {
        self.call(Method::GET, of(path::VM, vm), None::<&()>).await
    }

    /// Gives a command of *Fencing*.
    ///
    /// # Errors
    /// See [`CallError`]. Where the agent refused, nothing changed, but for `effect_failed`: then
    /// the same order may be given again.
    pub async fn order(&mut self, order: &OrderRequest) -> Result<Answer, CallError> {
        self.call(Method::POST, of(path::ORDERS, &order.key.vm), Some(order)).await
    }

    /// Gives a command about the copy.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn copy(&mut self, copy: &CopyRequest) -> Result<Progress, CallError> {
        self.call(Method::POST, of(path::COPY, &copy.key.vm), Some(copy)).await
    }

    async fn call<B: Serialize, T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: String,
        body: Option<&B>,
    ) -> Result<T, CallError> {
        let unsaid = |why: &dyn fmt::Display| unintelligible(StatusCode::BAD_REQUEST, why);
        let body = match body.map(serde_json::to_vec).transpose() {
            Ok(body) => Full::new(Bytes::from(body.unwrap_or_default())),
            Err(error) => return Err(unsaid(&error)),
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = hyper::Uri::try_from(path).map_err(|error| unsaid(&error))?;
        // HTTP/1.1 wants a host; whom we reached, TLS has settled.
        request.headers_mut().insert(HOST, HeaderValue::from_static("causeway"));

        self.requests.ready().await.map_err(CallError::Broken)?;
        let answer = self.requests.send_request(request).await.map_err(CallError::Broken)?;
        let (status, body) = (answer.status(), answer.into_body());
        let body = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(unintelligible(status, &format!("over {ANSWER_BYTES_MAX} bytes")));
            }
            Err(error) => match error.downcast::<hyper::Error>() {
                Ok(error) => return Err(CallError::Broken(*error)),
                Err(error) => return Err(unintelligible(status, &error)),
            },
        };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| unintelligible(status, &error));
        }
        match serde_json::from_slice::<RefusalBody>(&body) {
            Ok(body) => Err(CallError::Refused { status: status.as_u16(), refusal: body.error }),
            Err(_) => Err(unintelligible(status, &"a refusal that is not of ours")),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Connection<S> {
    type Output = Result<(), CallError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(CallError::Broken)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// A path with the VM's name in it. Names need no escaping.
fn of(pattern: &str, vm: &VmName) -> String {
    pattern.replace("{vm}", vm.as_str())
}

fn unintelligible(status: StatusCode, why: &dyn fmt::Display) -> CallError {
    CallError::Unintelligible { status: status.as_u16(), why: why.to_string() }
}
