//! Where on the server the endpoints are (`DISCOVERY_PATH`).

use std::str::FromStr;
use std::sync::Arc;

use super::openapi;

/// First segments that belong to others.
const TAKEN: [&str; 6] = ["health", "healthz", "livez", "metrics", "readyz", "socket.io"];

/// A path that all endpoints are below: the root, or segments like `/a/b`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount(Arc<str>);

impl FromStr for Mount {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let path = text.strip_prefix('/').ok_or(())?;
        if path.is_empty() {
            return Ok(Self("".into()));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        let is_segment = |segment: &str| {
            !segment.is_empty() && segment.chars().all(is_plain) && !matches!(segment, "." | "..")
        };
        let is_taken = TAKEN.contains(&path.split('/').next().unwrap_or_default());
        match path.split('/').all(is_segment) && !is_taken {
            true => Ok(Self(text.into())),
            false => Err(()),
        }
    }
}

impl Mount {
    /// What stands before each endpoint's path; empty for the root.
    pub fn prefix(&self) -> &str {
        &self.0
    }

    /// Whether an endpoint is at this path of the server.
    pub fn has(&self, path: &str) -> bool {
        if path == openapi::PATH {
            return true;
        }
        let Some(inside) = path.strip_prefix(self.prefix()) else { return false };
        matches!(
            inside.split('/').collect::<Vec<_>>()[..],
            [""] | ["", "" | "answer" | "poll" | "health"]
                | ["", _, "sessions" | "events" | "offer"]
        )
    }

    /// The segment of a request's path that names a topic.
    pub(super) fn topic<'a>(&self, path: &'a str) -> &'a str {
        let inside = path.strip_prefix(self.prefix()).unwrap_or(path);
        inside.strip_prefix('/').unwrap_or(inside).split('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_plain_and_not_anothers() {
        let prefix = |text: &str| text.parse().map(|mount: Mount| mount.prefix().to_owned());
        assert_eq!(prefix("/"), Ok("".into()));
        assert_eq!(prefix("/a/b-1"), Ok("/a/b-1".into()));
        for wrong in
            ["", "a", "/a/", "//", "/a//b", "/{a}", "/*", "/a b", "/%61", "/..", "/socket.io"]
        {
            assert_eq!(prefix(wrong), Err(()), "{wrong}");
        }
        for taken in TAKEN {
            assert_eq!(prefix(&format!("/{taken}")), Err(()));
            assert_eq!(prefix(&format!("/{taken}/x")), Err(()));
        }
    }

    #[test]
    fn endpoints_are_where_they_are() {
        let has = |mount: &str, path: &str| mount.parse::<Mount>().unwrap().has(path);
        for path in ["/", "/answer", "/poll", "/t/offer", "/health", "/discovery/openapi.json"] {
            assert!(has("/", path), "{path}");
        }
        assert!(!has("/", "/peers") && !has("/", "/a/b") && !has("/", "/a/b/offer"));
        assert!(has("/a", "/a") && has("/a", "/a/t/events") && !has("/a", "/b/t/events"));
        assert!(!has("/a", "/poll") && !has("/a", "/ab"));
    }

    #[test]
    fn the_topic_is_the_first_segment_inside() {
        let topic = |mount: &str, path: &'static str| {
            mount.parse::<Mount>().unwrap().topic(path).to_owned()
        };
        assert_eq!(topic("/", "/t%2F/offer"), "t%2F");
        assert_eq!(topic("/a/b", "/a/b/t/sessions"), "t");
        assert_eq!(topic("/a", "/a/a/sessions"), "a");
    }
}
