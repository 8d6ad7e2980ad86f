//! What stands behind the arguments' names: read once, and refused where it cannot be.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A length of time, written in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl FromStr for Seconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = text.parse().ok().filter(|seconds| (0.0..=1e6).contains(seconds));
        seconds.map(Duration::from_secs_f64).map(Self).ok_or("not a number of seconds")
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

/// `host:port` of a server.
pub(super) fn address(text: &str) -> Result<String, &'static str> {
    let address = ["http://", "ws://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let address = address.unwrap_or(text).trim_end_matches('/');
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        _ if text.contains("s://") && !text.starts_with("ws://") => Err("TLS is not spoken here"),
        Some(Ok(1..)) => Ok(address.to_owned()),
        _ => Err("not host:port"),
    }
}

/// Only what needs no escaping, neither in a URL nor in JSON.
pub(super) fn prefix(text: &str) -> Result<String, &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let short = (1..=100).contains(&text.len());
    if short && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("1 to 100 letters, digits, '-', '_' or '.'")
    }
}

/// How many in a second.
pub(super) fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1e6).contains(rate));
    rate.ok_or("a number from 0.001 to 1000000")
}

/// A path of a URL, which ends without a slash; `/` is the empty one.
pub(super) fn path(text: &str) -> Result<String, &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
    if text.starts_with('/') && text.chars().all(is_plain) {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err("not a path like /a/b")
    }
}
