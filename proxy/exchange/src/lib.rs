//! The calling half of a control API: one call at a time over a stream that its caller has opened
//! and secured.
//!
//! The apis of proxy, agent and name server put their calls' names and types around this; what a
//! call's bytes are, how much of an answer is read, and what a refusal looks like is said here once.
//! Nothing is spawned: the caller polls the [`Connection`] beside the call, and decides how long to
//! wait.

mod call;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

pub use call::{CallError, Refusal, RefusalBody};

/// Longest answer that is read; metrics of many services are the longest.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Asks one server over one stream, one call after the other.
#[derive(Debug)]
pub struct Exchange {
    requests: SendRequest<Full<Bytes>>,
}

/// Moves the exchange's bytes; it must be polled while a call is awaited, and ends with the stream.
#[must_use = "no call makes progress unless the connection is polled"]
pub struct Connection<S: AsyncRead + AsyncWrite + Unpin>(
    http1::Connection<TokioIo<S>, Full<Bytes>>,
);

impl Exchange {
    /// An exchange over `stream`, which must be secured and lead to the server that is meant.
    ///
    /// # Errors
    /// The stream is broken already.
    pub async fn over<S>(stream: S) -> Result<(Exchange, Connection<S>), CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (requests, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(CallError::Broken)?;
        Ok((Exchange { requests }, Connection(connection)))
    }

    /// `GET`, answered in JSON.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, CallError> {
        self.read(Method::GET, path, Bytes::new()).await
    }

    /// `GET`, answered in text.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get_text(&mut self, path: &str) -> Result<String, CallError> {
        let (status, body) = self.exchange(Method::GET, path, Bytes::new()).await?;
        String::from_utf8(body.into()).map_err(|error| unintelligible(status, &error))
    }

    /// `POST` with nothing to say but the path.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn post<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, CallError> {
        self.read(Method::POST, path, Bytes::new()).await
    }

    /// `POST` of `said` as JSON.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn say<T: DeserializeOwned>(
        &mut self,
        path: &str,
        said: &impl Serialize,
    ) -> Result<T, CallError> {
        let said = serde_json::to_vec(said)
            .map_err(|error| unintelligible(StatusCode::BAD_REQUEST, &error))?;
        self.read(Method::POST, path, said.into()).await
    }

    /// `POST` of `bytes` as they are.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn ship<T: DeserializeOwned>(
        &mut self,
        path: &str,
        bytes: Bytes,
    ) -> Result<T, CallError> {
        self.read(Method::POST, path, bytes).await
    }

    async fn read<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        said: Bytes,
    ) -> Result<T, CallError> {
        let (status, body) = self.exchange(method, path, said).await?;
        serde_json::from_slice(&body).map_err(|error| unintelligible(status, &error))
    }

    /// A body that came with success, or why there is none.
    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        said: Bytes,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let mut request = Request::new(Full::new(said));
        *request.method_mut() = method;
        *request.uri_mut() = hyper::Uri::try_from(path)
            .map_err(|error| unintelligible(StatusCode::BAD_REQUEST, &error))?;
        // HTTP/1.1 wants a host; whom we reached, TLS has settled.
        request.headers_mut().insert(HOST, HeaderValue::from_static("causeway"));

        self.requests.ready().await.map_err(CallError::Broken)?;
        let answer = self.requests.send_request(request).await.map_err(CallError::Broken)?;
        succeeded(answer).await
    }
}

async fn succeeded(answer: Response<Incoming>) -> Result<(StatusCode, Bytes), CallError> {
    let (head, body) = answer.into_parts();
    let status = head.status;
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
        return Ok((status, body));
    }
    match serde_json::from_slice::<RefusalBody>(&body) {
        Ok(body) => Err(CallError::Refused { status: status.as_u16(), refusal: body.error }),
        Err(_) => Err(unintelligible(status, &described(head.headers.get(CONTENT_TYPE)))),
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

/// A path with its `{…}` filled in, in order. Ids and names need no escaping.
#[must_use]
pub fn filled(pattern: &str, values: &[&(dyn fmt::Display + Sync)]) -> String {
    let mut values = values.iter();
    let fill = |segment: &str| match segment.strip_prefix('{').and_then(|_| values.next()) {
        Some(value) => value.to_string(),
        None => segment.to_owned(),
    };
    pattern.split('/').map(fill).collect::<Vec<_>>().join("/")
}

fn unintelligible(status: StatusCode, why: &dyn fmt::Display) -> CallError {
    CallError::Unintelligible { status: status.as_u16(), why: why.to_string() }
}

fn described(content_type: Option<&HeaderValue>) -> String {
    match content_type.and_then(|value| value.to_str().ok()) {
        Some(content_type) => format!("a refusal of type {content_type}, not of ours"),
        None => "a refusal without a reason".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Status {
        uptime_s: u64,
    }

    /// One call against a server that says `answer`, whatever is asked.
    async fn asked(answer: &str) -> Result<Status, CallError> {
        let (here, mut there) = tokio::io::duplex(64 * 1024);
        let (mut exchange, connection) = Exchange::over(here).await.unwrap();
        let served = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(there.read_u8().await.unwrap());
            }
            assert!(head.starts_with(b"GET /v1/status HTTP/1.1\r\n"));
            there.write_all(answer.as_bytes()).await.unwrap();
            drop(there);
        };
        let calling = async {
            tokio::select! {
                answer = exchange.get("/v1/status") => answer,
                Err(error) = connection => Err(error),
            }
        };
        tokio::join!(served, calling).1
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn an_answer_is_read_as_what_it_is() {
        let answer = asked(&http("200 OK", r#"{"uptime_s":7}"#)).await.unwrap();
        assert_eq!(answer, Status { uptime_s: 7 });
    }

    #[test]
    fn paths_are_filled_in_order() {
        assert_eq!(filled("/v1/a/{x}/b/{y}/c", &[&"one", &2]), "/v1/a/one/b/2/c");
    }

    #[tokio::test]
    async fn a_refusal_carries_the_servers_words() {
        let body = r#"{"error":{"code":"wrong_role","message":"no","remedy":"ask"}}"#;
        let error = asked(&http("403 Forbidden", body)).await.unwrap_err();
        let CallError::Refused { status, refusal } = error else { panic!("{error}") };
        assert_eq!((status, refusal.code.as_str()), (403, "wrong_role"));
    }

    #[tokio::test]
    async fn nonsense_and_silence_are_told_from_refusals() {
        for answer in [http("200 OK", "{}"), http("502 Bad Gateway", "<html>")] {
            let error = asked(&answer).await.unwrap_err();
            assert!(matches!(error, CallError::Unintelligible { .. }), "{error}");
        }
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{"] {
            let error = asked(answer).await.unwrap_err();
            assert!(matches!(error, CallError::Broken(_)), "{error}");
        }
    }
}
