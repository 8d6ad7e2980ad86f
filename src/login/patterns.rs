//! Lists of IDs in which `*` stands for any characters.

use serde::Deserialize;

/// One pattern, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Patterns {
    One(String),
    Many(Vec<String>),
}

impl Patterns {
    /// Whether one of the patterns describes all of `text`.
    pub(super) fn include(&self, text: &str) -> bool {
        match self {
            Self::One(pattern) => matches(pattern, text),
            Self::Many(patterns) => patterns.iter().any(|pattern| matches(pattern, text)),
        }
    }
}

/// Whether `pattern` describes all of `text`. Each part between two `*` is taken where it comes first,
/// so the time grows with the lengths only.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some((_, behind)) = text.split_once(part) else { return false };
        text = behind;
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("alice", "alice", true),
            ("alice", "alice2", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("room-*", "room-1", true),
            ("room-*", "rooms", false),
            ("*-room", "a-room", true),
            ("*-room", "a-room-", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "acb", false),
            ("ax*xa", "axa", false),
            ("a**c", "abc", true),
            ("*a*a*", "a", false),
            ("*.é.*", "x.é.y", true),
            ("a?c", "abc", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
