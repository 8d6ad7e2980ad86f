//! The origins whose web pages may open WebSockets.

use std::str::FromStr;

use http::HeaderMap;
use http::header::ORIGIN;
use url::Url;

/// The origins whose web pages may open WebSockets (`ALLOWED_ORIGINS`). Programs that are no browsers
/// send no origin, and may always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WebSocketOrigins {
    /// All of them.
    #[default]
    All,
    /// These, in the form in which browsers send them.
    Only(Vec<String>),
}

/// A text that is not a list of origins.
#[derive(Debug, thiserror::Error)]
#[error("not a list of origins")]
pub struct InvalidOrigins;

impl WebSocketOrigins {
    /// Whether a request with these headers may open a WebSocket.
    pub(super) fn allow(&self, headers: &HeaderMap) -> bool {
        let Self::Only(origins) = self else { return true };
        let mut sent = headers.get_all(ORIGIN).into_iter();
        sent.all(|sent| origins.iter().any(|origin| origin.as_bytes() == sent.as_bytes()))
    }
}

impl FromStr for WebSocketOrigins {
    type Err = InvalidOrigins;

    /// Parses `*`, or origins like `https://example.test` separated by commas.
    fn from_str(text: &str) -> Result<Self, InvalidOrigins> {
        if text == "*" {
            return Ok(Self::All);
        }
        let origins = text.split(',').map(|origin| parse(origin.trim()).ok_or(InvalidOrigins));
        origins.collect::<Result<_, _>>().map(Self::Only)
    }
}

/// Returns the origin if a browser can send it (RFC 6454, 6.2): other texts would never match.
fn parse(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let origin = url.origin();
    let sent = if origin.is_tuple() {
        origin.ascii_serialization()
    } else {
        // Those of extensions and apps.
        format!("{}://{}", url.scheme(), url.host_str()?)
    };
    (sent == text).then_some(sent)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn listed_origins_and_programs_may_connect() {
        let origins: WebSocketOrigins =
            "https://a.test, http://b.test:81,chrome-extension://abc".parse().unwrap();
        let allowed = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
            assert!(WebSocketOrigins::All.allow(&headers));
            origins.allow(&headers)
        };
        for origin in ["https://a.test", "http://b.test:81", "chrome-extension://abc"] {
            assert!(allowed(Some(origin)), "{origin}");
        }
        for origin in ["https://a.test:444", "http://a.test", "https://a.test.evil.test", "null"] {
            assert!(!allowed(Some(origin)), "{origin}");
        }
        assert!(allowed(None));
    }

    #[test]
    fn what_no_browser_sends_is_an_error() {
        for text in [
            "",
            ",",
            "*,https://a.test",
            "a.test",
            "https://a.test/",
            "https://A.test",
            "https://a.test:443",
            "https://a.test/path",
            "https://user@a.test",
            "null",
        ] {
            assert!(text.parse::<WebSocketOrigins>().is_err(), "{text}");
        }
    }
}
