//! The origin of a request, which isolates the sessions of one web site from those of others.

use std::sync::Arc;

/// The longest `Origin` header in bytes; browsers send host names.
const MAX_ORIGIN_BYTES: usize = 1024;

/// The origin of requests without the header.
const NO_ORIGIN: &str = "unknown";

/// The value of the `Origin` header. Sessions of one origin are invisible to all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(Arc<str>);

/// The `Origin` header is longer than 1024 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the origin is longer than {MAX_ORIGIN_BYTES} bytes")]
pub struct OriginTooLong;

impl Origin {
    /// Parses the value of the header. A missing or empty one is the origin `unknown`.
    ///
    /// # Errors
    /// [`OriginTooLong`].
    pub fn parse(header: Option<&[u8]>) -> Result<Self, OriginTooLong> {
        match header {
            None | Some([]) => Ok(Self(NO_ORIGIN.into())),
            Some(value) if value.len() > MAX_ORIGIN_BYTES => Err(OriginTooLong),
            Some(value) => Ok(Self(String::from_utf8_lossy(value).into())),
        }
    }

    /// Returns an origin that was stored, and so parsed before.
    #[cfg(any(feature = "sqlite", feature = "redis", test))]
    pub(crate) fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_header_is_an_origin_too() {
        let origin = |header| Origin::parse(header).map(|origin| origin.as_str().to_owned());
        assert_eq!(origin(None), Ok("unknown".into()));
        assert_eq!(origin(Some(b"")), Ok("unknown".into()));
        assert_eq!(origin(Some(b"https://a")), Ok("https://a".into()));
        assert_eq!(origin(Some(&[b'a'; 1025])), Err(OriginTooLong));
    }
}
