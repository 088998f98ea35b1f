//! One call, from its head to its reply. Connection and caller are settled already.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Method, Response, StatusCode};
use metrics::counter;
use placement::{Identity, Role};
use tokio::time::timeout;

use super::bounds::Bounds;
use super::reply::{Answer, Refusal};
use super::route::{Found, Params, Request, Route, RouteTable};

/// What every call of a server needs.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) routes: RouteTable,
    pub(super) bounds: Bounds,
}

impl Desk {
    /// Answers one call of `caller`, whatever comes.
    pub(super) async fn answer(
        self: Arc<Desk>,
        caller: Identity,
        call: hyper::Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = call.into_parts();
        let (method, path) = (head.method, head.uri.path().to_owned());
        let mut route_name = "none";
        let answer = match self.route(&caller, &method, &path) {
            Ok((route, params)) => {
                route_name = route.path;
                let query = head.uri.query().unwrap_or_default().to_owned();
                self.serve(route, caller.clone(), params, query, body).await
            }
            // The body stays unread: the connection cannot carry another call.
            Err(refusal) => Err(refusal),
        };
        let response = match answer {
            Ok(reply) => reply.into_response(),
            Err(refusal) => {
                tracing::info!(%caller, %method, path, code = refusal.code(), "call refused");
                let ends = matches!(refusal.code(), "body_too_long" | "body_too_slow");
                let mut response = refusal.into_response();
                if ends {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        };
        let status = response.status().as_str().to_owned();
        counter!("causeway_control_calls_total", "route" => route_name, "status" => status)
            .increment(1);
        Ok(response)
    }

    fn route(
        &self,
        caller: &Identity,
        method: &Method,
        path: &str,
    ) -> Result<(&Route, Params), Refusal> {
        match self.routes.find(method, path) {
            Found::Route(route, params) if route.roles.contains(&caller.role) => {
                Ok((route, params))
            }
            Found::Route(route, _) => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "wrong_role",
                format!("{caller} has role {}, which may not {method} {path}", caller.role),
                format!("call with a certificate of role {}", one_of(route.roles)),
            )),
            Found::OtherMethods(methods) => Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "wrong_method",
                format!("{path} is not for {method}"),
                format!("use {methods}"),
            )
            .with_allow(methods)),
            Found::Nothing => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "unknown_path",
                format!("{path} does not exist here"),
                "check the path, and that both ends are of one version",
            )),
        }
    }

    async fn serve(
        &self,
        route: &Route,
        caller: Identity,
        params: Params,
        query: String,
        body: Incoming,
    ) -> Answer {
        let limited = Limited::new(body, self.bounds.body_bytes_max);
        let body = match timeout(self.bounds.body(), limited.collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(Refusal::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "body_too_long",
                    format!("the body is longer than {} bytes", self.bounds.body_bytes_max),
                    "send less",
                ));
            }
            Ok(Err(error)) => {
                let message = format!("the body cannot be read: {error}");
                let status = StatusCode::BAD_REQUEST;
                return Err(Refusal::new(status, "bad_body", message, "send it again"));
            }
            Err(_) => {
                return Err(Refusal::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "body_too_slow",
                    format!("the body was not there after {} ms", self.bounds.body_ms_max),
                    "send it again",
                ));
            }
        };
        (route.handler)(Request::new(caller, params, query, body)).await
    }
}

fn one_of(roles: &[Role]) -> String {
    let words: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
