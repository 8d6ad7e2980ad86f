//! Signs calls as Standard Webhooks specifies, so that a server can verify that the broker sent
//! them.
//!
//! Source: the Standard Webhooks specification 1.0, "Signature scheme" (symmetric).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// The least and the most bytes of a key.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Signs with one key, or with several while one replaces another.
#[derive(Clone)]
pub struct Signer(Vec<Hmac<Sha256>>);

/// A text that is no list of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret is `whsec_` and the base64 of 24 to 64 bytes; several are separated by blanks")]
pub struct InvalidSecret;

impl Signer {
    /// Reads one secret, or several separated by blanks.
    ///
    /// # Errors
    /// [`InvalidSecret`] if there is none, or one that is not valid.
    pub fn parse(secrets: &str) -> Result<Self, InvalidSecret> {
        let keys: Vec<_> = secrets.split_whitespace().map(key).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(InvalidSecret) } else { Ok(Self(keys)) }
    }

    /// The value of `webhook-signature` for a call with this ID, at this time in seconds since
    /// 1970, with this body.
    pub(crate) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let signatures: Vec<_> = self
            .0
            .iter()
            .map(|key| {
                let mut mac = key.clone();
                mac.update(format!("{id}.{timestamp}.").as_bytes());
                mac.update(body);
                format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
            })
            .collect();
        signatures.join(" ")
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({} keys)", self.0.len())
    }
}

fn key(secret: &str) -> Result<Hmac<Sha256>, InvalidSecret> {
    let encoded = secret.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
    let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
    if !KEY_BYTES.contains(&key.len()) {
        return Err(InvalidSecret);
    }
    Hmac::new_from_slice(&key).map_err(|_| InvalidSecret)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that the official libraries test with.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn agrees_with_the_published_vector() {
        assert_eq!(Signer::parse(SECRET).unwrap().sign(ID, 1_614_265_330, BODY), SIGNATURE);
    }

    #[test]
    fn several_secrets_give_several_signatures() {
        let other = format!("whsec_{}", STANDARD.encode([7; 32]));
        let signatures =
            Signer::parse(&format!("{other}  {SECRET}")).unwrap().sign(ID, 1_614_265_330, BODY);
        let (first, second) = signatures.split_once(' ').unwrap();
        assert!(first != second && second == SIGNATURE);
    }

    #[test]
    fn what_is_no_secret() {
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        for text in [
            "",
            "  ",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_",
            "whsec_%%%",
            &short,
            &format!("{SECRET} x"),
        ] {
            assert_eq!(Signer::parse(text).err(), Some(InvalidSecret), "{text}");
        }
    }
}
