//! The secret of a session, by which its offerer recognises the answer it waits for.
//!
//! Anybody can answer any session. An offerer that has asked for a secret gives it to whom it
//! expects, outside of discovery; an answer that comes with it is from them. Stores have only the
//! hash, so that nobody who reads them can answer in somebody else's place.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::JsonText;

/// The length of a secret in bytes.
const SECRET_BYTES: usize = 16;

/// A random secret; as text, the base64url of its bytes.
#[derive(Clone, Copy)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// Returns a new secret.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Parses a secret; `None` for texts that are no session's secret.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; SECRET_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (length == SECRET_BYTES).then_some(Self(bytes))
    }

    /// Returns what a store may have of it. The secret is random, so one hash is enough.
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.0).into())
    }
}

impl fmt::Debug for Secret {
    /// Leaves out the secret, which must not be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// The SHA-256 of a secret.
#[derive(Debug, Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Returns the hash that a store has in these bytes.
    #[cfg(any(feature = "sqlite", feature = "redis"))]
    pub(crate) fn stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the bytes of the hash.
    #[cfg(any(feature = "sqlite", feature = "redis"))]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for SecretHash {
    /// Takes the same time wherever the two differ.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// An answer, with the hash of the secret that came with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The answerer's description.
    pub text: JsonText,
    /// The secret that the answerer has given, right or wrong.
    pub secret: Option<SecretHash>,
}

impl From<JsonText> for Answer {
    /// An answer without a secret.
    fn from(text: JsonText) -> Self {
        Self { text, secret: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_survives_its_text_and_has_its_own_hash() {
        let secret = Secret::random();
        let json = serde_json::to_string(&secret).unwrap();
        let text: String = serde_json::from_str(&json).unwrap();
        assert_eq!(text.len(), 22);
        assert_eq!(Secret::parse(&text).unwrap().hash(), secret.hash());
        assert_ne!(Secret::random().hash(), secret.hash());
    }

    #[test]
    fn other_texts_are_no_secrets() {
        let right = "A".repeat(22);
        assert!(Secret::parse(&right).is_some());
        let long = "A".repeat(100_000);
        // The last but one has bits behind the end, so that no secret has two texts.
        for text in [
            "",
            "A",
            &right[1..],
            &long,
            &format!("{right}=="),
            &format!("{}B", &right[1..]),
            "\u{e4}",
        ] {
            assert!(Secret::parse(text).is_none(), "{text}");
        }
    }
}
