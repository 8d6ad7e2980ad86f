//! Cross-origin requests: which origins may read the answers (`CORS_ORIGINS`).
//!
//! As Rondevu does it, with credentials; so an origin that is allowed is named, never `*` (Fetch
//! standard, 3.3.5).

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

/// How long a browser may remember a preflight's answer, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The origins that may read answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// `*`.
    All,
    /// Those that are listed.
    Some(Arc<[String]>),
}

impl FromStr for AllowedOrigins {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let origins: Vec<_> = text.split(',').map(|origin| origin.trim().to_owned()).collect();
        let is_usable = |origin: &String| {
            !origin.is_empty() && origin.bytes().all(|byte| byte.is_ascii_graphic())
        };
        match origins.iter().all(is_usable) {
            true if origins.iter().any(|origin| origin == "*") => Ok(Self::All),
            true => Ok(Self::Some(origins.into())),
            false => Err(()),
        }
    }
}

impl AllowedOrigins {
    fn allow(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::All => !origin.is_empty(),
            Self::Some(origins) => {
                origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
            }
        }
    }
}

/// Answers preflights, and adds to other answers what lets browsers read them.
pub(super) async fn cors(
    State(allowed): State<AllowedOrigins>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).filter(|origin| allowed.allow(origin));
    let origin = origin.cloned();
    let mut response =
        if request.method() == Method::OPTIONS { preflight() } else { next.run(request).await };
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    let allow = HeaderValue::from_static("true");
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, allow);
    let exposed = HeaderValue::from_static("Content-Type");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    // The answer depends on who asks: no cache may give it to others.
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    response
}

fn preflight() -> Response {
    let mut headers = HeaderMap::new();
    let methods = HeaderValue::from_static("GET,POST,OPTIONS");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    let allowed = HeaderValue::from_static("Content-Type");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.insert(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    (StatusCode::NO_CONTENT, headers).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_a_star_or_a_list() {
        let origins = |text: &str| text.parse::<AllowedOrigins>();
        assert_eq!(origins("*"), Ok(AllowedOrigins::All));
        assert_eq!(origins("https://a, *"), Ok(AllowedOrigins::All));
        let listed = origins("https://a , http://b:1").unwrap();
        for (origin, is_allowed) in
            [("https://a", true), ("http://b:1", true), ("http://b", false), ("", false)]
        {
            assert_eq!(listed.allow(&HeaderValue::from_static(origin)), is_allowed, "{origin}");
        }
        for wrong in ["", ",", "https://a,", "https://a b"] {
            assert_eq!(origins(wrong), Err(()), "{wrong}");
        }
    }
}
