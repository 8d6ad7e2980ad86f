//! Cross-origin requests: the web pages of which origins may read responses.
//!
//! As in Rondevu, with credentials; so an allowed origin is named, never `*` (Fetch standard, 3.3.5).

use std::net::Ipv6Addr;
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
        match origins.iter().all(|origin| origin == "*" || can_be_sent(origin)) {
            true if origins.iter().any(|origin| origin == "*") => Ok(Self::All),
            true => Ok(Self::Some(origins.into())),
            false => Err(InvalidOrigins),
        }
    }
}

/// Whether a browser can send this origin: `null`, or a scheme and a host without anything behind
/// its port, in lower case and without the scheme's own port (HTML standard, "serialization of an
/// origin"). Any other would be configured and never match.
fn can_be_sent(origin: &str) -> bool {
    if origin == "null" {
        return true;
    }
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_host = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .and_then(|address| {
                address.parse::<Ipv6Addr>().ok().filter(|it| it.to_string() == address)
            })
            .is_some(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| {
                    byte.is_ascii_graphic()
                        && !byte.is_ascii_uppercase()
                        && !b"/?#@*:[]\\%".contains(&byte)
                })
        }
    };
    let own_port = match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    };
    let is_port = port.is_none_or(|text| {
        text.parse::<u16>().is_ok_and(|port| port.to_string() == text && Some(port) != own_port)
    });
    is_scheme && is_host && is_port
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
        for sent in [
            "null",
            "https://app.example.org",
            "https://app.example.org:8443",
            "http://[::1]:3000",
            "http://localhost",
            "https://xn--bcher-kva.example",
            "chrome-extension://abcdefghijklmnop",
            "capacitor://localhost",
        ] {
            assert!(origins(sent).is_ok(), "{sent}");
        }
        for invalid in [
            "",
            ",",
            "https://a,",
            "https://a b",
            "https://a/",
            "https://a/b",
            "a",
            "a:8080",
            "https://",
            "https://:1",
            "https://a:443",
            "http://a:080",
            "http://a:80",
            "http://a:65536",
            "https://A",
            "HTTPS://a",
            "https://*.a",
            "https://u@a",
            "https://a?b",
            "http://[::0001]",
            "http://::1",
            "https://bücher.example",
        ] {
            assert_eq!(origins(invalid), Err(InvalidOrigins), "{invalid}");
        }
    }
}
