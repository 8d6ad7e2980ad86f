//! The keys that tokens are signed with. Each is for one algorithm: what a token says of its own is
//! only compared.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

/// The shortest secret, in bytes: that of the hash (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// The shortest RSA key, in bytes of its DER form: 2048 bits and what is around them.
const MIN_RSA_BYTES: usize = 256;

/// The most keys of a set.
const MAX_KEYS: usize = 64;

/// One key, or a set of them that are chosen from by `kid`.
#[derive(Debug, Clone)]
pub struct LoginKeys(Vec<LoginKey>);

#[derive(Debug, Clone)]
pub(super) struct LoginKey {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// The text is no key that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key, or one that is too weak")]
pub struct InvalidKey;

impl LoginKeys {
    /// A secret for HS256.
    ///
    /// # Errors
    /// [`InvalidKey`] if it has fewer than 32 bytes.
    pub fn secret(secret: &str) -> Result<Self, InvalidKey> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(InvalidKey);
        }
        let key = DecodingKey::from_secret(secret.as_bytes()).map_err(|_| InvalidKey)?;
        Ok(Self(vec![LoginKey { id: None, algorithm: Algorithm::HS256, key }]))
    }

    /// A public key in PEM, or a set of them as JSON (RFC 7517), for RS256, ES256 or EdDSA.
    ///
    /// # Errors
    /// [`InvalidKey`], also for private keys and for sets without any key of these kinds.
    pub fn public(text: &str) -> Result<Self, InvalidKey> {
        let text = text.trim();
        if text.starts_with('{') {
            return Self::set(text.as_bytes());
        }
        if !text.contains("PUBLIC KEY-----") || text.contains("PRIVATE KEY-----") {
            return Err(InvalidKey);
        }
        let pem = text.as_bytes();
        let key = [
            DecodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key)),
            DecodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key)),
            DecodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key)),
        ];
        let (algorithm, key) = key.into_iter().flatten().next().ok_or(InvalidKey)?;
        let length = key.try_get_as_bytes().map_or(0, <[u8]>::len);
        let is_usable = match algorithm {
            Algorithm::RS256 => length >= MIN_RSA_BYTES,
            // An uncompressed point of P-256, and a key of Ed25519.
            Algorithm::ES256 => length == 65,
            _ => length == 32,
        };
        if !is_usable {
            return Err(InvalidKey);
        }
        Ok(Self(vec![LoginKey { id: None, algorithm, key }]))
    }

    /// A set of public keys as JSON.
    ///
    /// # Errors
    /// [`InvalidKey`], also for a set without any key for these algorithms.
    pub(super) fn set(json: &[u8]) -> Result<Self, InvalidKey> {
        let set: JwkSet = serde_json::from_slice(json).map_err(|_| InvalidKey)?;
        let keys: Vec<_> = set.keys.iter().filter_map(LoginKey::of_jwk).collect();
        // Without names nothing says which one is meant.
        let is_clear = keys.len() == 1 || keys.iter().all(|key| key.id.is_some());
        let is_usable = !keys.is_empty() && keys.len() <= MAX_KEYS && is_clear;
        if is_usable { Ok(Self(keys)) } else { Err(InvalidKey) }
    }

    /// Returns the key of a token with this `kid`. A key without a name is for all tokens; a token
    /// without one is for the only key.
    pub(super) fn select(&self, id: Option<&str>) -> Option<&LoginKey> {
        match self.0.as_slice() {
            [only] if id.is_none() || only.id.is_none() => Some(only),
            keys => keys.iter().find(|key| key.id.is_some() && key.id.as_deref() == id),
        }
    }
}

impl LoginKey {
    /// `None` for a key that is not for signatures, or for none of the algorithms.
    fn of_jwk(jwk: &Jwk) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            _ => return None,
        };
        let is_for_signatures =
            jwk.common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
        let named = jwk.common.key_algorithm.as_ref().map(ToString::to_string);
        let is_for_algorithm = named.is_none_or(|named| named == format!("{algorithm:?}"));
        if !is_for_signatures || !is_for_algorithm {
            return None;
        }
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { id: jwk.common.key_id.clone(), algorithm, key })
    }
}
