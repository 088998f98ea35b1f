//! What a handler gives back: a reply, or a refusal that says what to do.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// What becomes of a call.
pub type Answer = Result<Reply, Refusal>;

const JSON: &str = "application/json";

/// A call that was served.
#[derive(Debug)]
pub struct Reply {
    content_type: &'static str,
    body: Bytes,
}

impl Reply {
    /// `value` as JSON.
    ///
    /// # Errors
    /// JSON cannot hold it.
    pub fn json<T: Serialize>(value: &T) -> Answer {
        match serde_json::to_vec(value) {
            Ok(body) => Ok(Reply { content_type: JSON, body: body.into() }),
            Err(error) => Err(Refusal::internal(&error.to_string())),
        }
    }

    /// Text of the given media type.
    #[must_use]
    pub fn text(content_type: &'static str, text: String) -> Reply {
        Reply { content_type, body: text.into() }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        response(StatusCode::OK, self.content_type, self.body)
    }
}

/// A call that was not served: `{ "error": { "code", "message", "remedy" } }` on the wire. `code`
/// is for programs and stays; the texts are for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    remedy: String,
    allow: Option<String>,
}

impl Refusal {
    /// `message` names the thing and what is wrong with it, `remedy` says what to do.
    #[must_use]
    pub fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Refusal {
        Refusal { status, code, message: message.into(), remedy: remedy.into(), allow: None }
    }

    /// The same, in the words of an error and its causes.
    #[must_use]
    pub fn caused(
        status: StatusCode,
        code: &'static str,
        error: &dyn std::error::Error,
        remedy: impl Into<String>,
    ) -> Refusal {
        Refusal::new(status, code, crate::with_causes(error), remedy)
    }

    /// The same, in words that say what is wrong and then, after their last `; `, what to do; where
    /// they do not, `remedy` does.
    #[must_use]
    pub fn worded(
        status: StatusCode,
        code: &'static str,
        words: &str,
        remedy: &'static str,
    ) -> Refusal {
        let (message, remedy) = words.rsplit_once("; ").unwrap_or((words, remedy));
        Refusal::new(status, code, message, remedy)
    }

    /// The caller did nothing wrong.
    #[must_use]
    pub fn internal(why: &str) -> Refusal {
        let remedy = "report it, with the log around this time";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", why, remedy)
    }

    pub(super) fn with_allow(mut self, methods: String) -> Refusal {
        self.allow = Some(methods);
        self
    }

    /// The word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let body = serde_json::json!({ "error": {
            "code": self.code, "message": self.message, "remedy": self.remedy,
        }});
        let mut response = response(self.status, JSON, body.to_string().into());
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    }
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
