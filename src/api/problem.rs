//! Why a request was not done: a problem document (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderValue};
use http::{HeaderName, StatusCode};
use serde::Serialize;

use super::attempts::WINDOW;
use crate::bans::{BanError, StoreError};
use crate::broker::NodeError;

/// How long a caller should wait before it tries again after a temporary error, in seconds.
const RETRY_AFTER_SECONDS: u64 = 2;

/// A request that was not done.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

/// The body of every error.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemDocument {
    /// Always `about:blank`: the status says what kind of problem it is.
    r#type: &'static str,
    /// The phrase of the status.
    title: &'static str,
    /// The status.
    status: u16,
    /// The cause, for programs.
    code: &'static str,
    /// The cause, for people.
    detail: String,
}

/// The code of a problem, in the extensions of its response.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProblemCode(pub(super) &'static str);

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), header: None }
    }

    fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.header = Some((name, value.into()));
        self
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "the request has no valid token in its header Authorization";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    pub(super) fn read_only() -> Self {
        Self::new(StatusCode::FORBIDDEN, "read_only_token", "this token may only read")
    }

    pub(super) fn too_many_failures() -> Self {
        let detail = "too many requests of this address had no valid token";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", detail)
            .with(header::RETRY_AFTER, WINDOW.as_secs())
    }

    pub(super) fn too_many_requests() -> Self {
        Self::unavailable("too_many_requests", "too many requests are being worked on")
    }

    pub(super) fn too_many_streams() -> Self {
        Self::unavailable("too_many_streams", "too many streams are open")
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        let detail = "the endpoint does not know this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    pub(super) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    pub(super) fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
            .with(header::RETRY_AFTER, RETRY_AFTER_SECONDS)
    }

    /// A body that cannot be read, as the library says.
    pub(super) fn body(status: StatusCode, detail: String) -> Self {
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(status, "too_large", detail),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::new(status, "media_type", detail),
            StatusCode::REQUEST_TIMEOUT => Self::new(status, "too_slow", detail),
            _ => Self::bad_request(detail),
        }
    }
}

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::NotConnected => {
                Self::new(StatusCode::NOT_FOUND, "not_connected", error.to_string())
            }
            NodeError::NotLocated => Self::unavailable("redis_unavailable", error.to_string()),
            NodeError::Unresponsive => Self::unavailable("replica_unresponsive", error.to_string()),
        }
    }
}

impl From<BanError> for Problem {
    fn from(error: BanError) -> Self {
        let detail = error.to_string();
        match error {
            BanError::TooMany => Self::conflict("too_many_bans", detail),
            BanError::NotFound => Self::not_found(detail),
            BanError::Store(StoreError::Unavailable) => {
                Self::unavailable("redis_unavailable", detail)
            }
            BanError::Store(StoreError::Contended) => Self::unavailable("contended", detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = ProblemDocument {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail,
        };
        let body = serde_json::to_string(&document).unwrap_or_default();
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response.headers_mut().extend(self.header);
        response.extensions_mut().insert(ProblemCode(self.code));
        response
    }
}
