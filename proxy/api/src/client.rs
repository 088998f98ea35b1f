//! A client over one stream: one call at a time, in order.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use placement::{PartName, VmName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    ChannelGranted, ChannelRevoked, Claim, Claimed, Drained, Flow, FlowId, FlowPage, FlowQuery,
    GrantChannel, Killed, Refusal, RefusalBody, Reloaded, Services, Status, Tunnel, path,
};

/// Longest answer that is read; metrics of many services are the longest.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The proxy answered, and said no.
    #[error("{} ({}; {})", refusal.message, refusal.code, refusal.remedy)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The proxy's words.
        refusal: Refusal,
    },
    /// The connection broke: whether the call was carried out is not known.
    #[error("the connection to the proxy broke; ask again over a new one")]
    Broken(#[source] hyper::Error),
    /// The answer is not of this API.
    #[error("the proxy's answer (status {status}) cannot be read: {why}; are both of one version?")]
    Unintelligible {
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        why: String,
    },
}

/// Asks one proxy over one stream.
#[derive(Debug)]
pub struct Client {
    requests: SendRequest<Full<Bytes>>,
}

/// Moves the client's bytes; it must be polled while a call is awaited, and ends with the stream.
#[must_use = "no call makes progress unless the connection is polled"]
pub struct Connection<S: AsyncRead + AsyncWrite + Unpin>(
    http1::Connection<TokioIo<S>, Full<Bytes>>,
);

impl Client {
    /// A client over `stream`, which must be secured and lead to the proxy that is meant.
    ///
    /// # Errors
    /// The stream is broken already.
    pub async fn over<S>(stream: S) -> Result<(Client, Connection<S>), CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (requests, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(CallError::Broken)?;
        Ok((Client { requests }, Connection(connection)))
    }

    /// How the proxy is.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn status(&mut self) -> Result<Status, CallError> {
        self.call(Method::GET, path::STATUS).await
    }

    /// Has the proxy read its configuration and certificates again.
    ///
    /// # Errors
    /// See [`CallError`]; where the proxy refused, it runs on unchanged.
    pub async fn reload(&mut self) -> Result<Reloaded, CallError> {
        self.call(Method::POST, path::RELOAD).await
    }

    /// The proxy's metrics, as text for Prometheus.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn metrics(&mut self) -> Result<String, CallError> {
        let (status, body) = self.exchange(Method::GET, path::METRICS, Bytes::new()).await?;
        String::from_utf8(body.into()).map_err(|error| unintelligible(status, &error))
    }

    /// All services, and how they are.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn services(&mut self) -> Result<Services, CallError> {
        self.call(Method::GET, path::SERVICES).await
    }

    /// One page of the flows that `query` asks for.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn flows(&mut self, query: &FlowQuery) -> Result<FlowPage, CallError> {
        self.call(Method::GET, &flows_path(query)).await
    }

    /// One flow.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that the proxy does not know it (any more).
    pub async fn flow(&mut self, id: FlowId) -> Result<Flow, CallError> {
        self.call(Method::GET, &filled(path::FLOW, &[&id])).await
    }

    /// Kills one flow.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that no such flow lives.
    pub async fn kill(&mut self, id: FlowId) -> Result<Killed, CallError> {
        self.call(Method::POST, &filled(path::FLOW_KILL, &[&id])).await
    }

    /// Begins or ends the drain of a service.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn drain_service(
        &mut self,
        service: &PartName,
        draining: bool,
    ) -> Result<Drained, CallError> {
        let path = if draining { path::SERVICE_DRAIN } else { path::SERVICE_RESUME };
        self.call(Method::POST, &filled(path, &[service])).await
    }

    /// Begins or ends the drain of a backend.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn drain_backend(
        &mut self,
        service: &PartName,
        backend: &PartName,
        draining: bool,
    ) -> Result<Drained, CallError> {
        let path = if draining { path::BACKEND_DRAIN } else { path::BACKEND_RESUME };
        self.call(Method::POST, &filled(path, &[service, backend])).await
    }

    /// Claims a VM for one move.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that the epoch is over or somebody else's.
    pub async fn claim(&mut self, vm: &VmName, claim: &Claim) -> Result<Claimed, CallError> {
        self.say(&filled(path::VM_CLAIM, &[vm]), claim).await
    }

    /// Grants a channel of a move.
    ///
    /// # Errors
    /// See [`CallError`]; among them, that the move is not the one that is claimed.
    pub async fn grant_channel(
        &mut self,
        vm: &VmName,
        channel: &PartName,
        grant: &GrantChannel,
    ) -> Result<ChannelGranted, CallError> {
        self.say(&filled(path::CHANNEL_GRANT, &[vm, channel]), grant).await
    }

    /// Takes a channel's grant back; its streams are reset at both ends.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn revoke_channel(
        &mut self,
        vm: &VmName,
        channel: &PartName,
        grant: &GrantChannel,
    ) -> Result<ChannelRevoked, CallError> {
        self.say(&filled(path::CHANNEL_REVOKE, &[vm, channel]), grant).await
    }

    /// The tunnel's end there.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn tunnel(&mut self) -> Result<Tunnel, CallError> {
        self.call(Method::GET, path::TUNNEL).await
    }

    /// `POST` of `said` as JSON.
    async fn say<T: DeserializeOwned>(
        &mut self,
        path: &str,
        said: &impl Serialize,
    ) -> Result<T, CallError> {
        let said = serde_json::to_vec(said)
            .map_err(|error| unintelligible(StatusCode::BAD_REQUEST, &error))?;
        let (status, body) = self.exchange(Method::POST, path, said.into()).await?;
        serde_json::from_slice(&body).map_err(|error| unintelligible(status, &error))
    }

    async fn call<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
    ) -> Result<T, CallError> {
        let (status, body) = self.exchange(method, path, Bytes::new()).await?;
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
        let headers = request.headers_mut();
        // HTTP/1.1 wants a host; whom we reached, TLS has settled.
        headers.insert(HOST, hyper::header::HeaderValue::from_static("causeway"));

        self.requests.ready().await.map_err(CallError::Broken)?;
        let answer = self.requests.send_request(request).await.map_err(CallError::Broken)?;
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
fn filled(pattern: &str, values: &[&dyn fmt::Display]) -> String {
    let mut values = values.iter();
    let fill = |segment: &str| match segment.strip_prefix('{').and_then(|_| values.next()) {
        Some(value) => value.to_string(),
        None => segment.to_owned(),
    };
    pattern.split('/').map(fill).collect::<Vec<_>>().join("/")
}

fn flows_path(query: &FlowQuery) -> String {
    let FlowQuery { service, state, after, limit } = query;
    let mut path = format!("{}?state={}", path::FLOWS, state.as_str());
    let parts = [
        service.as_ref().map(|service| format!("&service={service}")),
        after.map(|after| format!("&after={after}")),
        limit.map(|limit| format!("&limit={limit}")),
    ];
    path.extend(parts.into_iter().flatten());
    path
}

fn unintelligible(status: StatusCode, why: &dyn fmt::Display) -> CallError {
    CallError::Unintelligible { status: status.as_u16(), why: why.to_string() }
}

fn described(content_type: Option<&hyper::header::HeaderValue>) -> String {
    match content_type.and_then(|value| value.to_str().ok()) {
        Some(content_type) => format!("a refusal of type {content_type}, not of ours"),
        None => "a refusal without a reason".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// One status call against a server that says `answer`, whatever is asked.
    async fn asked(answer: &str) -> Result<Status, CallError> {
        let (here, mut there) = tokio::io::duplex(64 * 1024);
        let (mut client, connection) = Client::over(here).await.unwrap();
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
                answer = client.status() => answer,
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
        let status = Status {
            identity: "causeway://site/a/role/proxy/name/p1".parse().unwrap(),
            version: "0.1.0".to_owned(),
            uptime_s: 7,
            generation: 1,
            certificate_valid_until_s: 9,
        };
        let body = serde_json::to_string(&status).unwrap();
        assert_eq!(asked(&http("200 OK", &body)).await.unwrap(), status);
    }

    #[test]
    fn paths_are_filled_in_order() {
        let (service, backend): (PartName, PartName) =
            ("web".parse().unwrap(), "b1".parse().unwrap());
        assert_eq!(
            filled(path::BACKEND_DRAIN, &[&service, &backend]),
            "/v1/services/web/backends/b1/drain"
        );
        let query = FlowQuery { service: Some(service), limit: Some(9), ..FlowQuery::default() };
        assert_eq!(flows_path(&query), "/v1/flows?state=live&service=web&limit=9");
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
