//! The tokens of the API, and what each permits.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The shortest token, in bytes: about 95 random bits as hexadecimal digits or letters.
const MIN_BYTES: usize = 16;

/// The longest token, in bytes.
const MAX_BYTES: usize = 256;

/// What a token permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    Read,
    Write,
}

/// A token as a client sends it. Not shown.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the text of the token.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The tokens that are valid. Compared by a keyed digest, so that the time that it takes says nothing
/// about them (double HMAC verification).
#[derive(Clone)]
pub struct Tokens {
    key: [u8; 32],
    tokens: Vec<(Right, Vec<u8>)>,
}

/// Shows how many there are.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.tokens.len())
    }
}

/// Splits a list of tokens at its commas; `None` if one of them is too short, too long, or cannot be
/// sent in a header.
pub(crate) fn split(text: &str) -> Option<Vec<String>> {
    let tokens = text.split(',').map(|token| token.trim().to_owned());
    let is_usable = |token: &String| {
        (MIN_BYTES..=MAX_BYTES).contains(&token.len())
            && token.bytes().all(|b| b.is_ascii_graphic())
    };
    tokens.map(|token| Some(token).filter(is_usable)).collect()
}

impl Tokens {
    /// Takes the tokens that may read and change, and those that may only read.
    pub(crate) fn new(write: &[String], read: &[String]) -> Self {
        let mut tokens = Self { key: rand::random(), tokens: Vec::new() };
        for (right, given) in [(Right::Write, write), (Right::Read, read)] {
            for token in given {
                let digest = tokens.digest(token.as_bytes());
                tokens.tokens.push((right, digest));
            }
        }
        tokens
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Returns what a token permits, and its name in the log: its right and its place among those of
    /// the same right, from 1.
    pub(super) fn find(&self, token: &[u8]) -> Option<(Right, String)> {
        let digest = self.digest(token);
        // The first is the one with more rights.
        let at = self.tokens.iter().position(|(_, known)| *known == digest)?;
        let (right, _) = *self.tokens.get(at)?;
        let earlier = self.tokens.iter().take(at).filter(|(other, _)| *other == right).count();
        let name = match right {
            Right::Read => "read",
            Right::Write => "write",
        };
        Some((right, format!("{name}-{}", earlier + 1)))
    }

    fn digest(&self, token: &[u8]) -> Vec<u8> {
        // Keys of any length are accepted.
        let mac = Hmac::<Sha256>::new_from_slice(&self.key);
        mac.map(|mac| mac.chain_update(token).finalize().into_bytes().to_vec()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_right_and_its_name() {
        let given = |tokens: &[&str]| tokens.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let tokens = Tokens::new(&given(&["one", "two"]), &given(&["three", "two"]));
        for (token, expected) in [
            ("one", Some((Right::Write, "write-1"))),
            ("two", Some((Right::Write, "write-2"))),
            ("three", Some((Right::Read, "read-1"))),
            ("", None),
            ("on", None),
            ("one ", None),
            ("four", None),
        ] {
            let expected = expected.map(|(right, name)| (right, name.to_owned()));
            assert_eq!(tokens.find(token.as_bytes()), expected, "{token:?}");
        }
        assert!(Tokens::new(&[], &[]).is_empty());
        assert!(!format!("{tokens:?}").contains("one"));
    }

    #[test]
    fn a_list_is_split_at_its_commas() {
        let (long, longest) = ("x".repeat(MIN_BYTES), "y".repeat(MAX_BYTES));
        let list = format!(" {long}, {longest}");
        assert_eq!(split(&list), Some(vec![long.clone(), longest.clone()]));
        for wrong in ["", ",", &long[1..], &format!("{long},"), &format!("{longest}y")] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
        assert_eq!(split("with a blank inside"), None);
    }
}
