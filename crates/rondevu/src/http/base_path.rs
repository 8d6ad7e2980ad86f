//! The path on the server that all endpoints are below.

use std::str::FromStr;
use std::sync::Arc;

use super::openapi;

/// A base path: the root, or segments like `/a/b`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasePath(Arc<str>);

/// The path does not begin with a slash, or has a segment that is empty or would need an escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path is neither / nor plain segments, each after a slash")]
pub struct InvalidBasePath;

impl Default for BasePath {
    /// The root.
    fn default() -> Self {
        Self("".into())
    }
}

impl FromStr for BasePath {
    type Err = InvalidBasePath;

    fn from_str(text: &str) -> Result<Self, InvalidBasePath> {
        let path = text.strip_prefix('/').ok_or(InvalidBasePath)?;
        if path.is_empty() {
            return Ok(Self::default());
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        let is_segment = |segment: &str| {
            !segment.is_empty() && segment.chars().all(is_plain) && !matches!(segment, "." | "..")
        };
        match path.split('/').all(is_segment) {
            true => Ok(Self(text.into())),
            false => Err(InvalidBasePath),
        }
    }
}

impl BasePath {
    /// Returns what precedes the path of each endpoint; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is an endpoint at this path of the server.
    pub fn has_endpoint(&self, path: &str) -> bool {
        if path == openapi::PATH {
            return true;
        }
        let Some(inside) = path.strip_prefix(self.as_str()) else { return false };
        matches!(
            inside.split('/').collect::<Vec<_>>()[..],
            [""] | ["", "" | "topics" | "answer" | "poll" | "health"]
                | ["", _, "sessions" | "events" | "offer"]
        )
    }

    /// Returns the first segment below the base path.
    pub(super) fn first_segment<'a>(&self, path: &'a str) -> &'a str {
        let inside = path.strip_prefix(self.as_str()).unwrap_or(path);
        inside.strip_prefix('/').unwrap_or(inside).split('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_plain() {
        let path = |text: &str| text.parse().map(|path: BasePath| path.as_str().to_owned());
        assert_eq!(path("/"), Ok("".into()));
        assert_eq!(path("/a/b-1"), Ok("/a/b-1".into()));
        for invalid in ["", "a", "/a/", "//", "/a//b", "/{a}", "/*", "/a b", "/%61", "/.."] {
            assert_eq!(path(invalid), Err(InvalidBasePath), "{invalid}");
        }
    }

    #[test]
    fn endpoints_are_below_the_base_path() {
        let has = |base: &str, path: &str| base.parse::<BasePath>().unwrap().has_endpoint(path);
        for path in
            ["/", "/topics", "/answer", "/poll", "/t/offer", "/health", "/discovery/openapi.json"]
        {
            assert!(has("/", path), "{path}");
        }
        assert!(!has("/", "/peers") && !has("/", "/a/b") && !has("/", "/a/b/offer"));
        assert!(has("/a", "/a") && has("/a", "/a/t/events") && !has("/a", "/b/t/events"));
        assert!(!has("/a", "/poll") && !has("/a", "/ab"));
    }

    #[test]
    fn the_first_segment_is_below_the_base_path() {
        let first = |base: &str, path: &'static str| {
            base.parse::<BasePath>().unwrap().first_segment(path).to_owned()
        };
        assert_eq!(first("/", "/t%2F/offer"), "t%2F");
        assert_eq!(first("/a/b", "/a/b/t/sessions"), "t");
        assert_eq!(first("/a", "/a/a/sessions"), "a");
    }
}
