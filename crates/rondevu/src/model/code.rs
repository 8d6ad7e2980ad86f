//! The code of a session, by which both sides name it.

use std::fmt;

use serde::{Serialize, Serializer};
use uuid::Uuid;

/// The code of a session: a random UUID. It has exactly one spelling, lower case with hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(Uuid);

impl Code {
    /// Returns a new code (RFC 9562, version 4).
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Parses a code; `None` for texts that are no session's code, among them other spellings.
    pub fn parse(text: &str) -> Option<Self> {
        let code = Self(Uuid::try_parse(text).ok()?);
        (code.to_string() == text).then_some(code)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_one_spelling() {
        let code = Code::random().to_string();
        assert_eq!(Code::parse(&code).map(|code| code.to_string()), Some(code.clone()));
        let others =
            [code.to_uppercase(), code.replace('-', ""), format!("{{{code}}}"), "x".into()];
        for text in others.iter().filter(|text| **text != code) {
            assert_eq!(Code::parse(text), None, "{text}");
        }
    }
}
