//! Verifies that a request comes from the broker. With a secret, every request must be signed.
//!
//! Source: the Standard Webhooks specification, "Signature scheme" (symmetric). The signature
//! covers the raw body, so it is checked before the JSON is parsed.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::clock::since_1970;

/// How far the broker's clock may differ from ours. A recorded request cannot be replayed after
/// this time; to be stricter, remember each `webhook-id` for as long.
const TOLERANCE_SECS: u64 = 5 * 60;

/// The longest body that is read: a validity check with thousands of long IDs still fits.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// The least and the most bytes of a key, as the specification wants it.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Why a request counts as not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unsigned {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("webhook-timestamp is no time, or too far from now")]
    Time,
    #[error("no signature matches")]
    Mismatch,
}

/// Answers 401 unless the request is signed with one of the secrets.
pub(crate) async fn require(
    State(secrets): State<Secrets>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    match secrets.check(&head.headers, &body, since_1970()) {
        Ok(()) => next.run(Request::from_parts(head, Body::from(body))).await,
        Err(reason) => {
            let reason = json!({"error": reason.to_string()});
            (StatusCode::UNAUTHORIZED, Json(reason)).into_response()
        }
    }
}

/// The valid keys; more than one while a new key replaces an old one.
#[derive(Clone)]
pub(crate) struct Secrets(Arc<[Hmac<Sha256>]>);

impl Secrets {
    /// Reads `whsec_<base64>`, or several of it separated by blanks.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let keys = text.split_whitespace().map(key).collect::<Option<_>>();
        keys.map(Self).ok_or("is not whsec_ and the base64 of 24 to 64 bytes")
    }

    /// `now` is the time since 1970.
    fn check(&self, headers: &HeaderMap, body: &[u8], now: Duration) -> Result<(), Unsigned> {
        let id = header(headers, "webhook-id")?;
        let timestamp = header(headers, "webhook-timestamp")?;
        let signatures = header(headers, "webhook-signature")?;
        let sent: u64 = timestamp.parse().map_err(|_| Unsigned::Time)?;
        if now.as_secs().abs_diff(sent) > TOLERANCE_SECS {
            return Err(Unsigned::Time);
        }
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        let matches = |signature: &[u8]| {
            // `verify_slice` takes the same time wherever the first difference is.
            self.0
                .iter()
                .any(|key| key.clone().chain_update(&signed).verify_slice(signature).is_ok())
        };
        // Another version, or one of another key, is no mistake: the sender may sign in many ways.
        let any = signatures
            .split_whitespace()
            .filter_map(|signature| signature.strip_prefix("v1,"))
            .filter_map(|code| STANDARD.decode(code).ok())
            .any(|signature| matches(&signature));
        if any { Ok(()) } else { Err(Unsigned::Mismatch) }
    }
}

fn key(secret: &str) -> Option<Hmac<Sha256>> {
    let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    if KEY_BYTES.contains(&key.len()) { Hmac::new_from_slice(&key).ok() } else { None }
}

fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Unsigned> {
    headers.get(name).and_then(|value| value.to_str().ok()).ok_or(Unsigned::Missing(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the specification's own libraries are tested with.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SENT: u64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn headers(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.parse().unwrap());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers
    }

    fn check(secrets: &str, headers: &HeaderMap, body: &[u8], now: u64) -> Result<(), Unsigned> {
        Secrets::parse(secrets).unwrap().check(headers, body, Duration::from_secs(now))
    }

    #[test]
    fn one_signature_by_one_secret_is_enough() {
        let sent = SENT.to_string();
        let other = format!("whsec_{}", STANDARD.encode([7; 32]));
        for signature in [
            SIGNATURE.to_owned(),
            format!("v1,AAAA {SIGNATURE}"),
            format!("v1a,AAAA v1 v1,% {SIGNATURE} v2,x"),
        ] {
            let headers = headers(ID, &sent, &signature);
            assert_eq!(check(SECRET, &headers, BODY, SENT), Ok(()), "{signature}");
            let both = format!("{other} {SECRET}");
            assert_eq!(check(&both, &headers, BODY, SENT), Ok(()), "{signature}");
            assert_eq!(check(&other, &headers, BODY, SENT), Err(Unsigned::Mismatch));
        }
    }

    #[test]
    fn whatever_is_signed_cannot_be_changed() {
        let sent = SENT.to_string();
        let mismatch = Err(Unsigned::Mismatch);
        assert_eq!(check(SECRET, &headers(ID, &sent, SIGNATURE), b"{}", SENT), mismatch);
        assert_eq!(check(SECRET, &headers("msg_1", &sent, SIGNATURE), BODY, SENT), mismatch);
        let later = (SENT + 1).to_string();
        assert_eq!(check(SECRET, &headers(ID, &later, SIGNATURE), BODY, SENT), mismatch);
        for signature in ["", "v1,", "v1,AAAA", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="] {
            assert_eq!(check(SECRET, &headers(ID, &sent, signature), BODY, SENT), mismatch);
        }
    }

    #[test]
    fn it_must_have_been_sent_just_now() {
        let at = |now| check(SECRET, &headers(ID, &SENT.to_string(), SIGNATURE), BODY, now);
        assert_eq!(at(SENT + 300), Ok(()));
        assert_eq!(at(SENT - 300), Ok(()));
        assert_eq!(at(SENT + 301), Err(Unsigned::Time));
        assert_eq!(at(SENT - 301), Err(Unsigned::Time));
        for timestamp in ["", "now", "-1", "1614265330.0", "99999999999999999999"] {
            let headers = headers(ID, timestamp, SIGNATURE);
            assert_eq!(check(SECRET, &headers, BODY, SENT), Err(Unsigned::Time), "{timestamp}");
        }
    }

    #[test]
    fn every_header_is_needed() {
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut headers = headers(ID, &SENT.to_string(), SIGNATURE);
            headers.remove(name);
            assert_eq!(check(SECRET, &headers, BODY, SENT), Err(Unsigned::Missing(name)));
        }
    }

    #[test]
    fn what_is_no_secret() {
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        for text in [&SECRET[PREFIX.len()..], "whsec_", "whsec_%", &short, &format!("{SECRET} x")] {
            assert!(Secrets::parse(text).is_err(), "{text}");
        }
    }
}
