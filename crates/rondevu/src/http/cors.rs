//! Cross-origin requests: the web pages of which origins may read responses.
//!
//! As in Rondevu, with credentials; so an allowed origin is named, never `*` (Fetch standard, 3.3.5).

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may cache the response to a preflight.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The origins that may read responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// `*`.
    All,
    /// The listed origins.
    Some(Arc<[String]>),
}

/// The text is neither `*` nor a list of origins separated by commas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither * nor a list of origins separated by commas")]
pub struct InvalidOrigins;

impl FromStr for AllowedOrigins {
    type Err = InvalidOrigins;

    fn from_str(text: &str) -> Result<Self, InvalidOrigins> {
        let origins: Vec<_> = text.split(',').map(|origin| origin.trim().to_owned()).collect();
        let is_usable = |origin: &String| {
            !origin.is_empty() && origin.bytes().all(|byte| byte.is_ascii_graphic())
        };
        match origins.iter().all(is_usable) {
            true if origins.iter().any(|origin| origin == "*") => Ok(Self::All),
            true => Ok(Self::Some(origins.into())),
            false => Err(InvalidOrigins),
        }
    }
}

impl AllowedOrigins {
    fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::All => !origin.is_empty(),
            Self::Some(origins) => {
                origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
            }
        }
    }
}

/// Adds responses to preflights, and the headers that let browsers read the other responses.
pub(super) fn layer(router: Router, allowed: AllowedOrigins) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| allowed.allows(origin)))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::OPTIONS])
        .allow_headers([header::CONTENT_TYPE])
        .expose_headers([header::CONTENT_TYPE])
        .max_age(MAX_AGE);
    router.layer(cors).layer(map_response(as_rondevu))
}

/// Replaces what tower-http does differently than Rondevu: the status of preflights, what responses
/// vary by, and the case of names.
async fn as_rondevu(mut response: Response) -> Response {
    const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("Content-Type");
    const ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
    let headers = response.headers_mut();
    let is_preflight = headers.contains_key(header::ACCESS_CONTROL_ALLOW_METHODS);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_TYPE);
    headers.insert(header::VARY, ORIGIN);
    if is_preflight {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, CONTENT_TYPE);
        let requested = HeaderValue::from_static("Access-Control-Request-Headers");
        headers.insert(header::VARY, requested);
        headers.append(header::VARY, ORIGIN);
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    response
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
            assert_eq!(listed.allows(&HeaderValue::from_static(origin)), is_allowed, "{origin}");
        }
        for invalid in ["", ",", "https://a,", "https://a b"] {
            assert_eq!(origins(invalid), Err(InvalidOrigins), "{invalid}");
        }
    }
}
