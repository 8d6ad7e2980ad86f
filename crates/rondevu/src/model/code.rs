//! The code of a session, by which both sides name it.

use std::fmt;

use serde::{Serialize, Serializer};
use uuid::Uuid;

/// The longest code in bytes.
const MAX_CODE_BYTES: usize = 64;

/// The code of a session: a random UUID (lower case, with hyphens), or a text that the offerer chose.
/// It has up to 64 ASCII letters, digits and `-._~`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code {
    bytes: [u8; MAX_CODE_BYTES],
    length: u8,
}

impl Code {
    /// Returns a new code (RFC 9562, version 4).
    pub fn random() -> Self {
        let mut bytes = [0; MAX_CODE_BYTES];
        let length = Uuid::new_v4().hyphenated().encode_lower(&mut bytes).len() as u8;
        Self { bytes, length }
    }

    /// Parses a code; `None` for texts that are no session's code.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_plain) {
            return None;
        }
        let mut bytes = [0; MAX_CODE_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, length: text.len() as u8 })
    }

    fn as_str(&self) -> &str {
        // Always text: see `parse`.
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_short_plain_texts() {
        let random = Code::random().to_string();
        assert_eq!(Uuid::try_parse(&random).unwrap().get_version_num(), 4);
        let longest = "x".repeat(MAX_CODE_BYTES);
        for text in [&*random, "a", "My-room_1.2~", &longest] {
            assert_eq!(Code::parse(text).map(|code| code.to_string()).as_deref(), Some(text));
        }
        assert_ne!(Code::parse("a"), Code::parse("A"));
        for text in ["", " ", "a b", "a/b", "a:b", "\u{e4}", "a\0", &"x".repeat(MAX_CODE_BYTES + 1)]
        {
            assert_eq!(Code::parse(text), None, "{text:?}");
        }
    }
}
