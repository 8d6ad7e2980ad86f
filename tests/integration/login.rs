//! Nodes that log in with a token, without a webhook.

use std::net::SocketAddr;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::support::{
    Hook, Node, Port, RedisServer, SOON, enter, metric, start_replicas, start_with_variables,
    unix_time,
};

const SECRET: &str = "a secret of more than thirty-two bytes";
const VARIABLES: [(&str, &str); 2] = [("JWT_SECRET", SECRET), ("JWT_LEEWAY_MS", "0")];

fn token(claims: &Value) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = encode(br#"{"alg":"HS256"}"#);
    let message = format!("{header}.{}", encode(claims.to_string().as_bytes()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    format!("{message}.{}", encode(ring::hmac::sign(&key, message.as_bytes()).as_ref()))
}

/// A token's claims for this node, with more of them.
fn claims(id: &str, more: Value) -> Value {
    let mut claims = json!({"sub": id, "exp": unix_time().as_secs() + 60});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

async fn log_in(address: SocketAddr, id: &str, more: Value) -> Result<Node, String> {
    let data = token(&claims(id, more));
    enter(address, &format!("&id={id}&version=1&runtime=r&data={data}")).await
}

const REFUSED: &str = r#"44{"message":"authentication failed"}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_its_node_in_and_nobody_else() {
    let server = start_with_variables(&VARIABLES).await;
    let _alice = log_in(server.address(), "alice", json!({})).await.unwrap();
    let stolen = format!("&id=bob&version=1&runtime=r&data={}", token(&claims("carol", json!({}))));
    assert_eq!(enter(server.address(), &stolen).await.err().unwrap(), REFUSED);
    let none = enter(server.address(), "&id=dave&version=1&runtime=r").await;
    assert_eq!(none.err().unwrap(), REFUSED);
    for (outcome, count) in [("ok", 1.0), ("id", 1.0), ("no_token", 1.0)] {
        let name = format!("crolang_logins_total{{outcome=\"{outcome}\"}}");
        assert_eq!(metric(&server, &name), count, "{outcome}");
    }
    let refused = "crolang_refusals_total{cause=\"authentication_failed\"}";
    assert_eq!(metric(&server, refused), 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_token_is_the_end_of_its_connection() {
    let server = start_with_variables(&VARIABLES).await;
    let expires = unix_time().as_secs() + 2;
    let mut alice = log_in(server.address(), "alice", json!({"exp": expires})).await.unwrap();
    let _bob = log_in(server.address(), "bob", json!({})).await.unwrap();
    tokio::time::timeout(SOON, alice.end()).await.expect("the connection is closed");
    let late = unix_time().as_secs_f64() - expires as f64;
    assert!((-0.1..2.0).contains(&late), "{late} s after the end");
    let closed = "crolang_connections_closed_total{reason=\"login_expired\"}";
    assert_eq!(metric(&server, closed), 1.0);
    // It reconnects with a new one.
    log_in(server.address(), "alice", json!({})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webhook_is_asked_after_the_token() {
    let hook = Hook::start(|call| json!({"authenticated": call.body["id"] == "alice"})).await;
    let url = hook.url("/");
    let mut variables = VARIABLES.to_vec();
    variables.push(("NODES_AUTHENTICATION_WEBHOOK_URL", &url));
    let server = start_with_variables(&variables).await;
    let _alice = log_in(server.address(), "alice", json!({})).await.unwrap();
    assert_eq!(log_in(server.address(), "bob", json!({})).await.err().unwrap(), REFUSED);
    assert_eq!(hook.calls().len(), 2);
    let expired = log_in(server.address(), "carol", json!({"exp": 1})).await;
    assert_eq!(expired.err().unwrap(), REFUSED);
    assert_eq!(hook.calls().len(), 2, "a token that is not valid is nobody's business");
}

fn to(node: &str) -> String {
    format!(r#"{{"to":"{node}"}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_says_to_whom_its_node_may_send() {
    for count in [1, 2] {
        // One of its own: the nodes of servers that were just dropped still have their IDs.
        let redis = RedisServer::start().await;
        let servers = start_replicas(count, &redis, &VARIABLES).await;
        let (here, there) = (servers[0].address(), servers[count - 1].address());
        let mut alice = log_in(here, "alice", json!({"to": ["bob", "room-*"]})).await.unwrap();
        let mut bob = log_in(there, "bob", json!({"to": []})).await.unwrap();
        let mut carol = log_in(there, "carol", json!({})).await.unwrap();

        assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", &to("bob")).await, "[\"OK\"]");
        bob.text().await;
        assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", &to("room-1")).await, "[\"NOT_CONNECTED\"]");
        for event in ["SOCKET_MSG_EXCHANGE", "CONNECTION_ATTEMPT", "CONNECTION_ACCEPTANCE"] {
            assert_eq!(alice.ask(event, &to("carol")).await, "[\"UNAUTHORIZED\"]", "{event}");
        }
        assert_eq!(carol.ask("SOCKET_MSG_EXCHANGE", &to("alice")).await, "[\"OK\"]");
        alice.text().await;

        // Who is asked for a connection may answer, and do no more than that.
        assert_eq!(bob.ask("CONNECTION_ACCEPTANCE", &to("alice")).await, "[\"UNAUTHORIZED\"]");
        assert_eq!(alice.ask("CONNECTION_ATTEMPT", &to("bob")).await, "[\"OK\"]");
        bob.text().await;
        assert_eq!(bob.ask("CONNECTION_ACCEPTANCE", &to("alice")).await, "[\"OK\"]");
        alice.text().await;
        assert_eq!(bob.ask("SOCKET_MSG_EXCHANGE", &to("alice")).await, "[\"UNAUTHORIZED\"]");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authorization_webhook_has_the_last_word() {
    let hook = Hook::start(|_| json!({"authorized": false})).await;
    let url = hook.url("/");
    let mut variables = VARIABLES.to_vec();
    variables.push(("AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL", &url));
    let server = start_with_variables(&variables).await;
    let mut alice = log_in(server.address(), "alice", json!({"to": "bob"})).await.unwrap();
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", &to("carol")).await, "[\"UNAUTHORIZED\"]");
    assert_eq!(hook.calls().len(), 0);
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", &to("bob")).await, "[\"UNAUTHORIZED\"]");
    assert_eq!(hook.calls().len(), 1);
}

/// A key of Ed25519 with a name.
struct Signer(Ed25519KeyPair, &'static str);

impl Signer {
    fn new(name: &'static str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap(), name)
    }

    /// The key in a set, as issuers publish theirs.
    fn set(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": self.1, "x": x, "use": "sig"}]})
    }

    async fn log_in(&self, address: SocketAddr, id: &str) -> Result<Node, String> {
        let header = json!({"alg": "EdDSA", "kid": self.1});
        let encode = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", encode(&header), encode(&claims(id, json!({}))));
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(message.as_bytes()));
        let data = format!("{message}.{signature}");
        enter(address, &format!("&id={id}&version=1&runtime=r&data={data}")).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_read_from_a_url_and_again_when_they_were_replaced() {
    let [old, new] = [Signer::new("old"), Signer::new("new")];
    let set = old.set();
    let issuer = Hook::start(move |_| set.clone()).await;
    let url = issuer.url("/keys");
    let server = start_with_variables(&[
        ("JWT_JWKS_URL", &url),
        ("AUTHENTICATION_FAILURE_CACHE_TTL_MS", "0"),
    ])
    .await;
    let began = Instant::now();
    let _alice = old.log_in(server.address(), "alice").await.unwrap();
    let _bob = old.log_in(server.address(), "bob").await.unwrap();
    for _ in 0..20 {
        assert_eq!(new.log_in(server.address(), "carol").await.err().unwrap(), REFUSED);
    }
    let requests = issuer.calls().len();
    assert!(requests == 1 || began.elapsed() > Duration::from_secs(10), "{requests} requests");
    let call = &issuer.calls()[0];
    assert_eq!((call.method.as_str(), call.target.as_str()), ("GET", "/keys"));

    let set = new.set();
    issuer.answer(move |_| set.clone());
    while new.log_in(server.address(), "carol").await.is_err() {
        assert!(began.elapsed() < 4 * SOON, "the new key is not known");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(old.log_in(server.address(), "dave").await.err().unwrap(), REFUSED);
    assert!(issuer.calls().len() <= 3, "{} requests", issuer.calls().len());
    assert!(metric(&server, "crolang_jwks_requests_total{outcome=\"ok\"}") >= 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_keys_nobody_is_refused_for_good() {
    let nobody = Port::free();
    let url = format!("http://{}/keys", nobody.address());
    let server = start_with_variables(&[("JWT_JWKS_URL", &url)]).await;
    let error = Signer::new("a").log_in(server.address(), "alice").await.err().unwrap();
    assert!(error.starts_with("HTTP/1.1 503 "), "{error}");
    assert_eq!(metric(&server, "crolang_rejections_total{cause=\"login_keys\"}"), 1.0);
    assert_eq!(metric(&server, "crolang_jwks_requests_total{outcome=\"connection\"}"), 1.0);
}
