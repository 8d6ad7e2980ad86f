//! A message was sent: what the on-message webhook is told, and that no message waits for it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Fault, Hook, Node, Reply, SOON, eventually, eventually_within, metric, start_with_variables,
};

const URL: &str = "ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL";
const MESSAGE: &str = "SOCKET_MSG_EXCHANGE";

/// A message that asks for no ack.
const TO_NOBODY: &str = r#"42["SOCKET_MSG_EXCHANGE","{\"to\":\"nobody\"}"]"#;

fn told(from: &str, to: &str, connected: bool) -> Value {
    json!({"senderId": from, "receiverId": to, "isReceiverConnected": connected})
}

/// All that the hook was told, sorted: the order in which it is told is not promised.
fn sorted(mut bodies: Vec<Value>) -> Vec<String> {
    let mut texts: Vec<_> = bodies.drain(..).map(|body| body.to_string()).collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn it_is_told_of_each_message_by_a_post_of_json() {
    let hook = Hook::start(|_| json!({"authorized": false, "anything": "else"})).await;
    let server = start_with_variables(&[(URL, &hook.url("/messages?x=1"))]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut bob = Node::connect(server.address(), "bob").await;
    let payload = r#"{"to":" bob ","from":"alice","content":"nobody's business"}"#;
    assert_eq!(alice.ask(MESSAGE, payload).await, "[\"OK\"]");
    bob.text().await;
    hook.called(1).await;
    let call = hook.calls().pop().unwrap();
    assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", "/messages?x=1"));
    assert_eq!(call.header("content-type"), Some("application/json"));
    assert_eq!(call.body, told("alice", "bob", true));
    assert_eq!(alice.ask(MESSAGE, r#"{"to":"nobody"}"#).await, "[\"NOT_CONNECTED\"]");
    bob.send(r#"42["SOCKET_MSG_EXCHANGE","{\"to\":\"alice\"}"]"#).await;
    alice.text().await;
    hook.called(3).await;
    let expected = vec![
        told("alice", "bob", true),
        told("alice", "nobody", false),
        told("bob", "alice", true),
    ];
    assert_eq!(sorted(hook.bodies()), sorted(expected));
}

#[tokio::test]
async fn it_is_told_of_nothing_else() {
    let hook = Hook::start(|_| json!({})).await;
    let judge = Hook::start(|call| json!({"authorized": call.body["to"] != "refused"})).await;
    let server = start_with_variables(&[
        (URL, &hook.url("/")),
        ("AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL", &judge.url("/")),
    ])
    .await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let _refused = Node::connect(server.address(), "refused").await;
    let mut bob = Node::connect(server.address(), "bob").await;
    assert_eq!(alice.ask(MESSAGE, r#"{"to":"refused"}"#).await, "[\"UNAUTHORIZED\"]");
    assert_eq!(alice.ask(MESSAGE, r#"{"to":"bob","from":"bob"}"#).await, "[\"ERROR\"]");
    assert_eq!(alice.ask("CONNECTION_ATTEMPT", r#"{"to":"bob"}"#).await, "[\"OK\"]");
    bob.text().await;
    let presence = alice.ask("ARE_NODES_CONNECTED_TO_BROKER", r#"{"ids":["bob"]}"#).await;
    assert!(presence.contains("true"));
    judge.fault(Fault::Closed, json!({"authorized": true})).await;
    assert_eq!(alice.ask(MESSAGE, r#"{"to":"bob"}"#).await, "[\"ERROR\"]");
    judge.answer(|_| json!({"authorized": true}));
    // The one message that passes is the first that is told of.
    assert_eq!(alice.ask(MESSAGE, r#"{"to":"bob"}"#).await, "[\"OK\"]");
    hook.called(1).await;
    assert_eq!(hook.bodies(), [told("alice", "bob", true)]);

    let server =
        start_with_variables(&[(URL, &hook.url("/")), ("WEBSOCKET_RELAY_ENABLED", "false")]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    assert_eq!(alice.ask(MESSAGE, r#"{"to":"bob"}"#).await, "[\"DISABLED\"]");
    assert_eq!(hook.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_answers_delays_no_message() {
    let hook = Hook::start(|_| json!({})).await;
    let server = start_with_variables(&[
        (URL, &hook.url("/")),
        ("WEBHOOK_TIMEOUT_MS", "60000"),
        ("WEBHOOK_MAX_IN_FLIGHT", "8"),
    ])
    .await;
    hook.hold();
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut bob = Node::connect(server.address(), "bob").await;
    let mut slowest = Duration::ZERO;
    let began = Instant::now();
    for n in 0..500 {
        let sent = Instant::now();
        assert_eq!(alice.ask(MESSAGE, &format!("{{\"to\":\"bob\",\"n\":{n}}}")).await, "[\"OK\"]");
        bob.text().await;
        slowest = slowest.max(sent.elapsed());
    }
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // Nothing was forgotten, though nobody has answered yet.
    eventually("all are told", || hook.count() == 500).await;
    assert!(hook.bodies().iter().all(|body| *body == told("alice", "bob", true)));
    eventually("few connections are left", || hook.open_connections() <= 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_answers_is_told_of_thousands_in_a_second() {
    const MESSAGES: usize = 5_000;
    let hook = Hook::start(|_| json!({})).await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    hook.hold();
    let mut alice = Node::connect(server.address(), "alice").await;
    for _ in 0..MESSAGES / 100 {
        alice.send_all(&[TO_NOBODY; 100]).await;
    }
    eventually("all are told", || hook.count() == MESSAGES).await;
    let dropped = r#"crolang_webhook_calls_total{hook="on_socket_message",outcome="dropped"}"#;
    assert_eq!(metric(&server, dropped), 0.0);
}

/// Failures in a row after which a hook that is asked, and not told, is left alone.
const FAILURES: usize = 10;

#[tokio::test]
async fn a_server_that_answers_badly_or_never_is_told_all_the_same() {
    for (fault, outcome) in [(Fault::Silent, "timeout"), (Fault::Status(500), "status")] {
        let hook = Hook::start(|_| json!({})).await;
        let url = hook.url("/");
        let server = start_with_variables(&[(URL, &url), ("WEBHOOK_TIMEOUT_MS", "1000")]).await;
        hook.fault(fault, json!({})).await;
        let mut alice = Node::connect(server.address(), "alice").await;
        let failed = format!(
            "crolang_webhook_calls_total{{hook=\"on_socket_message\",outcome=\"{outcome}\"}}"
        );
        for round in 1..=2 {
            alice.send_all(&[TO_NOBODY; FAILURES]).await;
            let all = (round * FAILURES) as f64;
            eventually("all calls fail", || metric(&server, &failed) == all).await;
        }
        assert_eq!(hook.count(), 2 * FAILURES, "{fault:?}");
    }
}

#[tokio::test]
async fn many_are_told_of_at_a_time_while_nobody_answers() {
    const MESSAGES: usize = 200;
    let hook = Hook::start(|_| json!({})).await;
    let server =
        start_with_variables(&[(URL, &hook.url("/")), ("WEBHOOK_TIMEOUT_MS", "60000")]).await;
    hook.hold();
    let mut alice = Node::connect(server.address(), "alice").await;
    alice.send_all(&[TO_NOBODY; MESSAGES]).await;
    hook.called(MESSAGES).await;
    hook.release();
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_left_alone() {
    let hook = Hook::start(|_| json!({})).await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    hook.refuse().await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let left_alone =
        r#"crolang_webhook_calls_total{hook="on_socket_message",outcome="circuit_open"}"#;
    let began = Instant::now();
    while metric(&server, left_alone) == 0.0 {
        assert!(began.elapsed() < SOON, "it is called again and again");
        assert_eq!(alice.ask(MESSAGE, r#"{"to":"nobody"}"#).await, "[\"NOT_CONNECTED\"]");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_to_be_told_is_bounded_and_the_rest_is_counted() {
    const MESSAGES: usize = 12_000;
    let hook = Hook::start(|_| json!({})).await;
    let server = start_with_variables(&[
        (URL, &hook.url("/")),
        ("WEBHOOK_TIMEOUT_MS", "60000"),
        ("WEBHOOK_MAX_IN_FLIGHT", "8"),
    ])
    .await;
    hook.hold();
    let mut alice = Node::connect(server.address(), "alice").await;
    for _ in 0..MESSAGES / 1_000 {
        alice.send_all(&[TO_NOBODY; 1_000]).await;
    }
    assert_eq!(alice.ask(MESSAGE, r#"{"to":"nobody"}"#).await, "[\"NOT_CONNECTED\"]");
    let dropped = r#"crolang_webhook_calls_total{hook="on_socket_message",outcome="dropped"}"#;
    let dropped = metric(&server, dropped) as usize;
    assert!(dropped > 0, "12,000 messages wait to be told of");
    hook.release();
    let is_told = || hook.count() + dropped == MESSAGES + 1;
    eventually_within(4 * SOON, "the rest is told", is_told).await;
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_by_nobody_and_comes_to_its_end() {
    let hook = Hook::start(|_| Reply::After(Duration::from_millis(100), json!({}))).await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    for _ in 0..5 {
        assert_eq!(alice.ask(MESSAGE, r#"{"to":"nobody"}"#).await, "[\"NOT_CONNECTED\"]");
    }
    hook.called(5).await;
    let ok = r#"crolang_webhook_calls_total{hook="on_socket_message",outcome="ok"}"#;
    eventually("all calls end well", || metric(&server, ok) == 5.0).await;
}
