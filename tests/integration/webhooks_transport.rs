//! How a webhook is reached: TLS and whom it trusts, a proxy, and the signature on each call.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crolang_broker::Server;
use hmac::{Hmac, KeyInit, Mac};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::{
    Authority, Call, Fault, Hook, Node, Reply, configuration, eventually, metric,
    start_with_variables,
};

const URL: &str = "NODES_AUTHENTICATION_WEBHOOK_URL";

fn yes() -> Value {
    json!({"authenticated": true})
}

/// Connects a node to a server whose webhook is at this URL; the answer that kept it out, if any.
async fn kept_out(url: &str, ca_file: Option<&str>) -> Option<String> {
    let mut variables = vec![(URL, url), ("WEBHOOK_TIMEOUT_MS", "1000")];
    variables.extend(ca_file.map(|path| ("WEBHOOK_CA_FILE", path)));
    let server = start_with_variables(&variables).await;
    Node::try_connect(server.address(), "alice").await.err()
}

fn assert_unavailable(answer: Option<String>) {
    let answer = answer.expect("the node was let in");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn a_certificate_for_the_right_name_from_a_trusted_authority_will_do() {
    let authority = Authority::new();
    let ca = authority.file();
    let ca = ca.path().to_str();
    let hook = Hook::start_tls(authority.server("127.0.0.1"), |_| yes()).await;
    assert_eq!(kept_out(&hook.url("/auth"), ca).await, None);
    assert_eq!(hook.bodies(), [json!({"id": "alice", "nodeId": "alice"})]);
    let hook = Hook::start_tls(authority.server("localhost"), |_| yes()).await;
    assert_eq!(kept_out(&hook.url("/").replace("127.0.0.1", "localhost"), ca).await, None);
    // Anyone who trusts an authority of its own still speaks plain HTTP where the URL says so.
    let hook = Hook::start(|_| yes()).await;
    assert_eq!(kept_out(&hook.url("/"), ca).await, None);
}

#[tokio::test]
async fn a_server_that_speaks_only_http_2_will_do() {
    let authority = Authority::new();
    let ca = authority.file();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/auth", listener.local_addr().unwrap());
    let acceptor = authority.http2_server("127.0.0.1");
    let hook = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
        let answer = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
            assert_eq!(request.version(), hyper::Version::HTTP_2);
            Ok::<_, std::convert::Infallible>(hyper::Response::new(yes().to_string()))
        });
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, answer).await;
    });
    assert_eq!(kept_out(&url, ca.path().to_str()).await, None);
    hook.abort();
}

#[tokio::test]
async fn any_other_certificate_is_a_failure_and_gets_no_request() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ca = authority.file();
    let ca = ca.path().to_str();
    let servers = [
        ("for another name", authority.server("webhook.example")),
        ("for a name and not for the address", authority.server("localhost")),
        ("expired", authority.expired_server("127.0.0.1")),
        ("from another authority", other.server("127.0.0.1")),
    ];
    for (what, server) in servers {
        let hook = Hook::start_tls(server, |_| yes()).await;
        let answer = kept_out(&hook.url("/"), ca).await;
        assert!(answer.is_some(), "let in by a certificate {what}");
        assert_unavailable(answer);
        assert_eq!(hook.count(), 0, "{what}");
    }
    let hook = Hook::start_tls(authority.server("127.0.0.1"), |_| yes()).await;
    assert_unavailable(kept_out(&hook.url("/"), None).await);
    assert_eq!(hook.count(), 0, "nobody trusts an authority that nobody named");
    let plain = Hook::start(|_| yes()).await;
    assert_unavailable(kept_out(&plain.url("/").replace("http:", "https:"), ca).await);
    assert_eq!(plain.count(), 0);
}

#[tokio::test]
async fn a_file_without_certificates_stops_the_start_and_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let pem = |inside: &str| {
        format!("-----BEGIN CERTIFICATE-----\n{inside}\n-----END CERTIFICATE-----\n")
    };
    let contents = ["".into(), "no certificate".into(), pem("%%%"), pem("bm8gY2VydGlmaWNhdGU=")];
    for content in contents {
        std::fs::write(file.path(), &content).unwrap();
        assert_stops_the_start(path, &content).await;
    }
    assert_stops_the_start("/nowhere/ca.pem", "no file").await;
}

async fn assert_stops_the_start(path: &str, what: &str) {
    let variables = [("WEBHOOK_CA_FILE", path), (URL, "https://127.0.0.1:9/")];
    let problem = match configuration(&variables) {
        Err(errors) => errors.to_string(),
        Ok(config) => match Server::bind(&config).await {
            Err(error) => error.to_string(),
            Ok(_) => panic!("it starts with {what:?}"),
        },
    };
    assert!(problem.contains("WEBHOOK_CA_FILE"), "{what:?}: {problem}");
}

#[tokio::test]
async fn calls_go_through_the_proxy_that_is_set() {
    let proxy = Hook::start(|_| yes()).await;
    let proxy_url = proxy.url("").replace("http://", "http://user:pass@");
    let server = start_with_variables(&[
        // A name that nobody can resolve: only the proxy is to know it.
        (URL, "http://webhook.invalid/auth?x=1"),
        ("WEBHOOK_PROXY", &proxy_url),
    ])
    .await;
    Node::connect(server.address(), "alice").await;
    let call = proxy.calls().pop().unwrap();
    assert_eq!(call.target, "http://webhook.invalid/auth?x=1");
    assert_eq!(call.header("host"), Some("webhook.invalid"));
    assert_eq!(call.header("proxy-authorization"), Some("Basic dXNlcjpwYXNz"));
    assert_eq!(call.body, json!({"id": "alice", "nodeId": "alice"}));
    proxy.refuse().await;
    let answer = Node::try_connect(server.address(), "bob").await.err();
    assert_unavailable(answer);
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_not_used_again() {
    let hook = Hook::start(|_| Reply::Last(yes())).await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    for n in 0..20 {
        let entered = Node::try_connect(server.address(), &format!("n{n}")).await;
        assert!(entered.is_ok(), "{n}: {:?}", entered.err());
        eventually("it is closed", || hook.open_connections() == 0).await;
    }
    // And one that is kept serves them all.
    hook.answer(|_| yes());
    for n in 0..20 {
        Node::connect(server.address(), &format!("m{n}")).await;
    }
    assert_eq!((hook.count(), hook.open_connections()), (40, 1));
}

#[tokio::test]
async fn a_call_whose_connection_breaks_before_an_answer_is_repeated_once() {
    let hook = Hook::start(|_| yes()).await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    for fault in [Fault::Closed, Fault::Reset] {
        let first = AtomicBool::new(true);
        hook.answer(move |_| {
            let is_first = first.swap(false, Ordering::SeqCst);
            if is_first { Reply::Fault(fault, yes()) } else { yes().into() }
        });
        let before = hook.count();
        let entered = Node::try_connect(server.address(), &format!("{fault:?}")).await;
        assert!(entered.is_ok(), "{fault:?}: {:?}", entered.err());
        hook.fault(fault, yes()).await;
        assert_unavailable(Node::try_connect(server.address(), "carol").await.err());
        assert_eq!(hook.count() - before, 4, "{fault:?}");
    }
}

/// Sends messages to nobody that are authorized by the hook, with pauses of about the time after
/// which it closes idle connections, so that many calls meet a connection that is closing.
async fn lose_none(hook: &Hook, limit: Duration) {
    const NODES: usize = 4;
    const MESSAGES: usize = 60;
    let server = start_with_variables(&[
        ("AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL", &hook.url("/")),
        ("ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL", &hook.url("/told")),
    ])
    .await;
    let mut nodes = JoinSet::new();
    for node in 0..NODES {
        let mut node = Node::connect(server.address(), &format!("n{node}")).await;
        nodes.spawn(async move {
            for message in 0..MESSAGES {
                let ack = node.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"nobody"}"#).await;
                assert_eq!(ack, "[\"NOT_CONNECTED\"]", "message {message}");
                tokio::time::sleep(limit.mul_f64(0.9 + 0.01 * (message % 20) as f64)).await;
            }
        });
    }
    nodes.join_all().await;
    let told = r#"crolang_webhook_calls_total{hook="on_socket_message",outcome="ok"}"#;
    eventually("all are told", || metric(&server, told) == (NODES * MESSAGES) as f64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_closes_while_idle_cost_no_call() {
    let hook = Hook::start(|_| json!({"authorized": true})).await;
    for limit in [Duration::from_millis(5), Duration::from_millis(20)] {
        hook.close_idle_after(limit);
        lose_none(&hook, limit).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_closes_after_some_answers_cost_no_call() {
    for every in [1, 2, 3, 7] {
        let calls = AtomicUsize::new(0);
        let hook = Hook::start(move |_| {
            let answer = json!({"authorized": true});
            let is_last = calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(every);
            if is_last { Reply::Last(answer) } else { answer.into() }
        })
        .await;
        lose_none(&hook, Duration::from_micros(500)).await;
    }
}

#[tokio::test]
async fn idle_connections_are_closed_before_servers_close_theirs() {
    let hook = Hook::start(|_| yes()).await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    Node::connect(server.address(), "alice").await;
    assert_eq!(hook.open_connections(), 1);
    let began = Instant::now();
    eventually("it is closed", || hook.open_connections() == 0).await;
    let idle = began.elapsed();
    assert!(idle > Duration::from_millis(500) && idle < Duration::from_secs(2), "{idle:?}");
}

fn secret(byte: u8) -> String {
    format!("whsec_{}", STANDARD.encode([byte; 32]))
}

/// The signature of a call with the key of [`secret`].
fn signature(call: &Call, byte: u8) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&[byte; 32]).unwrap();
    let (id, timestamp) = (call.header("webhook-id"), call.header("webhook-timestamp"));
    mac.update(format!("{}.{}.{}", id.unwrap(), timestamp.unwrap(), call.text).as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn each_call_of_each_hook_is_signed_with_each_secret() {
    let answer = json!({
        "authenticated": true,
        "authorized": true,
        "iceServers": [{"urls": ["stun:a"]}],
        "invalidNodesIds": [],
    });
    let hook = Hook::start(move |_| answer.clone()).await;
    let url = hook.url("/");
    for (secrets, keys) in
        [(secret(1), &[1][..]), (format!("{}  {}", secret(2), secret(3)), &[2, 3])]
    {
        let before = hook.count();
        let server = start_with_variables(&[
            (URL, &url),
            ("AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL", &url),
            ("NODES_VALIDITY_CHECK_WEBHOOK_URL", &url),
            ("RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL", &url),
            ("ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL", &url),
            ("NODE_EVENTS_WEBHOOK_URL", &url),
            ("NODES_STATUS_CHECK_INTERVAL_MS", "50"),
            ("WEBHOOK_SECRET", &secrets),
        ])
        .await;
        let mut alice = Node::connect(server.address(), "%C3%A4lice").await;
        let ack = alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"bob"}"#).await;
        assert_eq!(ack, "[\"NOT_CONNECTED\"]");
        let names = [
            "authentication",
            "authorization",
            "validity",
            "rtc_configuration",
            "on_socket_message",
            "node_events",
        ];
        for name in names {
            let ok = format!("crolang_webhook_calls_total{{hook=\"{name}\",outcome=\"ok\"}}");
            eventually(name, || metric(&server, &ok) >= 1.0).await;
        }
        let calls = hook.calls().split_off(before);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut ids = std::collections::HashSet::new();
        for call in &calls {
            let expected: Vec<_> = keys.iter().map(|key| signature(call, *key)).collect();
            assert_eq!(call.header("webhook-signature"), Some(expected.join(" ").as_str()));
            let timestamp = call.header("webhook-timestamp").unwrap().parse().unwrap();
            let age = now.abs_diff(Duration::from_secs(timestamp));
            assert!(age < Duration::from_secs(10), "{age:?}");
            assert!(ids.insert(call.header("webhook-id").unwrap()), "an ID is used twice");
        }
        assert!(calls.len() >= names.len());
        // So that what it is told last is not taken for the next server's.
        server.shutdown().await;
    }
}
