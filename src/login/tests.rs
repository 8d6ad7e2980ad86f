//! Good tokens and all the bad ones.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "a secret of more than thirty-two bytes";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn login_with(keys: LoginKeys) -> Login {
    let texts = |text: &str| Some(vec![text.to_owned(), "other".to_owned()]);
    let leeway = Duration::from_secs(5);
    with_settings(LoginSettings {
        keys: KeySource::Given(keys),
        audience: texts("crolang"),
        issuer: texts("us"),
        leeway,
    })
}

fn with_settings(settings: LoginSettings) -> Login {
    let calls = CallSettings {
        timeout: Duration::from_secs(5),
        max_in_flight: 1,
        extra_roots: None,
        proxy: None,
        signer: None,
    };
    Login::new(settings, &calls, &Metrics::new()).unwrap()
}

fn login() -> Login {
    login_with(LoginKeys::secret(SECRET).unwrap())
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn token_of(header: &str, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64(header), base64(claims));
    let signature = base64(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256(secret: &[u8]) -> impl FnOnce(&[u8]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    move |message| ring::hmac::sign(&key, message).as_ref().to_vec()
}

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// The claims of a good token for alice, with changes; null removes one.
fn claims(changes: Value) -> String {
    let mut claims = json!({"sub": "alice", "exp": now() + 60, "aud": "crolang", "iss": "us"});
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims.to_string()
}

fn good(changes: Value) -> String {
    token_of(HS256, &claims(changes), hs256(SECRET.as_bytes()))
}

fn alice(login: &Login, data: &str) -> Result<Grant, LoginError> {
    // Nothing is waited for where the keys are given.
    login.log_in(&NodeId::parse("alice").unwrap(), Some(data)).now_or_never().unwrap()
}

fn refused(data: &str) -> LoginError {
    alice(&login(), data).expect_err(data)
}

#[test]
fn a_good_token_is_taken_bare_or_in_an_object() {
    let token = good(json!({}));
    for data in [token.clone(), format!(" {token}\n"), json!({"token": token, "x": 1}).to_string()]
    {
        let grant = alice(&login(), &data).unwrap();
        assert!(grant.may_send_to("bob"));
        let left = grant.expires.duration_since(Instant::now()).as_secs();
        assert!((60..=65).contains(&left), "exp and the leeway: {left}");
    }
    // Fractions of seconds and several audiences are legal; an end far away is an end.
    for changes in [
        json!({"exp": now() as f64 + 60.5, "aud": ["x", "crolang"], "iss": "other"}),
        json!({"exp": 1e18, "nbf": now() - 1}),
        json!({"exp": now() - 3, "nbf": now() + 3}),
    ] {
        alice(&login(), &good(changes.clone())).unwrap_or_else(|it| panic!("{changes}: {it:?}"));
    }
}

#[test]
fn a_token_is_for_its_own_node_or_those_that_it_describes() {
    assert_eq!(refused(&good(json!({"sub": "alice2"}))), LoginError::Id);
    assert_eq!(refused(&good(json!({"sub": "*"}))), LoginError::Id, "sub is no pattern");
    assert_eq!(refused(&good(json!({"sub": null}))), LoginError::Id);
    for nodes in [json!("alice"), json!("al*"), json!(["x", "*ice"])] {
        alice(&login(), &good(json!({"sub": "a user", "nodes": nodes}))).unwrap();
    }
    for nodes in [json!("bob*"), json!([])] {
        assert_eq!(refused(&good(json!({"nodes": nodes}))), LoginError::Id);
    }
    assert_eq!(refused(&good(json!({"nodes": 1}))), LoginError::Claims);
    let grant = alice(&login(), &good(json!({"to": ["bob", "room-*"]}))).unwrap();
    let may = ["bob", "room-1", "carol"].map(|to| grant.may_send_to(to));
    assert_eq!(may, [true, true, false]);
    assert!(!alice(&login(), &good(json!({"to": []}))).unwrap().may_send_to("bob"));
}

#[test]
fn wrong_claims_are_refused() {
    for (changes, expected) in [
        (json!({"exp": now() - 10}), LoginError::Expired),
        (json!({"exp": null}), LoginError::Claims),
        (json!({"exp": "tomorrow"}), LoginError::Claims),
        (json!({"exp": -1}), LoginError::Claims),
        (json!({"nbf": now() + 10}), LoginError::NotYetValid),
        (json!({"nbf": "now"}), LoginError::Claims),
        (json!({"aud": "another"}), LoginError::Audience),
        (json!({"aud": []}), LoginError::Audience),
        (json!({"aud": null}), LoginError::Claims),
        (json!({"iss": "them"}), LoginError::Issuer),
        (json!({"iss": null}), LoginError::Claims),
    ] {
        assert_eq!(refused(&good(changes.clone())), expected, "{changes}");
    }
    // Which of two claims counts depends on who reads it.
    let twice = claims(json!({})).replacen('{', r#"{"sub":"mallory","#, 1);
    assert_eq!(refused(&token_of(HS256, &twice, hs256(SECRET.as_bytes()))), LoginError::Claims);
    let unlimited = with_settings(LoginSettings {
        keys: KeySource::Given(LoginKeys::secret(SECRET).unwrap()),
        audience: None,
        issuer: None,
        leeway: Duration::ZERO,
    });
    let error = alice(&unlimited, &good(json!({}))).unwrap_err();
    assert_eq!(error, LoginError::Audience, "it is meant for somebody else");
    alice(&unlimited, &good(json!({"aud": null, "iss": null}))).unwrap();
}

#[test]
fn what_is_no_token_is_refused() {
    let token = good(json!({}));
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let changed = base64(claims(json!({"sub": "root"})));
    for (data, expected) in [
        (String::new(), LoginError::NoToken),
        ("{}".into(), LoginError::NoToken),
        (r#"{"token":1}"#.into(), LoginError::NoToken),
        (r#"{"token":"a","token":"b"}"#.into(), LoginError::NoToken),
        ("x".into(), LoginError::Malformed),
        ("..".into(), LoginError::Malformed),
        (format!("{header}.{payload}"), LoginError::Malformed),
        (format!("{token}.{signature}"), LoginError::Malformed),
        (format!("{header}.{payload}."), LoginError::Signature),
        (format!("{header}.{changed}.{signature}"), LoginError::Signature),
        (good(json!({"x": "y".repeat(1 << 20)})) + "A", LoginError::Malformed),
    ] {
        let error = refused(&data);
        let is_cut = data.len() > 1 << 20;
        assert!(error == expected || is_cut, "{data:.80}: {error:?}");
    }
    let login = login();
    let none = login.log_in(&NodeId::parse("alice").unwrap(), None).now_or_never().unwrap();
    assert_eq!(none.unwrap_err(), LoginError::NoToken);
    let other = token_of(HS256, &claims(json!({})), hs256(b"another secret of thirty-two bytes!"));
    assert_eq!(refused(&other), LoginError::Signature);
}

#[test]
fn a_token_does_not_choose_its_algorithm_or_key() {
    let no_signature = |_: &[u8]| Vec::new();
    for algorithm in ["none", "None", "nOnE", "NONE", "", "HS257"] {
        let header = json!({"alg": algorithm}).to_string();
        let error = refused(&token_of(&header, &claims(json!({})), no_signature));
        assert_eq!(error, LoginError::Malformed, "{algorithm}");
    }
    for header in [json!({"alg": "HS384"}), json!({"alg": "RS256"}), json!({"alg": "EdDSA"})] {
        let forged = token_of(&header.to_string(), &claims(json!({})), hs256(SECRET.as_bytes()));
        assert_eq!(refused(&forged), LoginError::Algorithm, "{header}");
    }
    // Keys that a token brings along, or points to, are not looked at.
    let own = b"a secret of the attacker, as long as it takes";
    for more in [
        json!({"jwk": {"kty": "oct", "k": base64(own)}}),
        json!({"jku": "http://127.0.0.1:1/keys"}),
        json!({"x5u": "http://127.0.0.1:1/x5u"}),
        json!({"kid": "../../dev/null"}),
        json!({"kid": "' UNION SELECT 'x"}),
    ] {
        let mut header = json!({"alg": "HS256"});
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let header = header.to_string();
        let forged = token_of(&header, &claims(json!({})), hs256(own));
        assert_eq!(refused(&forged), LoginError::Signature, "{more}");
        let with_empty_key = token_of(&header, &claims(json!({})), hs256(b""));
        assert_eq!(refused(&with_empty_key), LoginError::Signature, "{more}");
    }
    let critical = r#"{"alg":"HS256","crit":["exp"],"exp":1}"#;
    let forged = token_of(critical, &claims(json!({})), hs256(SECRET.as_bytes()));
    assert!(alice(&login(), &forged).is_err(), "an extension that must be understood");
}

/// A public key in PEM: what is around it in DER, and the key.
fn pem(around: &[u8], key: &[u8]) -> String {
    use base64::engine::general_purpose::STANDARD;
    let der = STANDARD.encode([around, key].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
}

const AROUND_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const AROUND_ED25519: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[test]
fn public_keys_are_for_their_algorithm_alone() {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let p256 = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
    let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let ed25519 = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    let p256_pem = pem(&AROUND_P256, p256.public_key().as_ref());
    let ed25519_pem = pem(&AROUND_ED25519, ed25519.public_key().as_ref());
    let by_p256 = |message: &[u8]| p256.sign(&random, message).unwrap().as_ref().to_vec();
    let by_ed25519 = |message: &[u8]| ed25519.sign(message).as_ref().to_vec();

    let with_p256 = login_with(LoginKeys::public(&p256_pem).unwrap());
    let with_ed25519 = login_with(LoginKeys::public(&ed25519_pem).unwrap());
    let es256 = token_of(r#"{"alg":"ES256"}"#, &claims(json!({})), by_p256);
    let eddsa = token_of(r#"{"alg":"EdDSA","kid":"any"}"#, &claims(json!({})), by_ed25519);
    alice(&with_p256, &es256).unwrap();
    alice(&with_ed25519, &eddsa).unwrap();
    assert_eq!(alice(&with_p256, &eddsa).unwrap_err(), LoginError::Algorithm);
    assert_eq!(alice(&with_ed25519, &es256).unwrap_err(), LoginError::Algorithm);
    // The classic: the public key, which everybody has, as the secret of HS256.
    for secret in [p256_pem.as_bytes(), p256_pem.trim().as_bytes(), p256.public_key().as_ref()] {
        let forged = token_of(HS256, &claims(json!({})), hs256(secret));
        assert_eq!(alice(&with_p256, &forged).unwrap_err(), LoginError::Algorithm);
    }
    // A signature of zeros, which some libraries took for any message.
    let zeros = token_of(r#"{"alg":"ES256"}"#, &claims(json!({})), |_| vec![0; 64]);
    assert_eq!(alice(&with_p256, &zeros).unwrap_err(), LoginError::Signature);

    let (x, y) = p256.public_key().as_ref()[1..].split_at(32);
    let (x, y, ed) = (base64(x), base64(y), base64(ed25519.public_key().as_ref()));
    let set = json!({"keys": [
        {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "1", "use": "sig", "alg": "ES256"},
        {"kty": "OKP", "crv": "Ed25519", "x": ed, "kid": "2"},
        {"kty": "OKP", "crv": "Ed25519", "x": ed, "kid": "for encryption", "use": "enc"},
        {"kty": "oct", "k": base64(SECRET), "kid": "secret"},
        {"kty": "of the future", "kid": "9"},
    ]});
    let with_set = login_with(LoginKeys::public(&set.to_string()).unwrap());
    let named = |header: Value, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        let token = token_of(&header.to_string(), &claims(json!({})), sign);
        alice(&with_set, &token).map(drop)
    };
    assert_eq!(named(json!({"alg": "ES256", "kid": "1"}), &by_p256), Ok(()));
    assert_eq!(named(json!({"alg": "EdDSA", "kid": "2"}), &by_ed25519), Ok(()));
    let unknown = Err(LoginError::UnknownKey);
    assert_eq!(named(json!({"alg": "ES256"}), &by_p256), unknown);
    for kid in ["3", "secret", "for encryption", ""] {
        assert_eq!(named(json!({"alg": "EdDSA", "kid": kid}), &by_ed25519), unknown, "{kid}");
    }
    let other = json!({"alg": "ES256", "kid": "2"});
    assert_eq!(named(other, &by_p256), Err(LoginError::Algorithm));
}

#[test]
fn keys_that_are_too_weak_or_none_are_refused() {
    assert!(LoginKeys::secret(&"x".repeat(31)).is_err());
    assert!(LoginKeys::secret(&"x".repeat(32)).is_ok());
    for text in [
        "",
        "{}",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"eHh4"}]}"#,
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        &pem(&AROUND_ED25519, &[1; 31]),
    ] {
        assert!(LoginKeys::public(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_data_panics(data in ".*", parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        prop_assert!(alice(&login(), &data).is_err());
        prop_assert!(alice(&login(), &parts.join(".")).is_err());
    }
}
