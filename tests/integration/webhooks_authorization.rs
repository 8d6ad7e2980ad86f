//! May these two communicate? When the authorization webhook is asked, and what its answers do.

use std::time::{Duration, Instant};

use crolang_broker::Server;
use serde_json::{Value, json};

use crate::support::{
    EVENTS, Fault, Hook, Node, Reply, back_at_the_start, eventually, start_with_variables,
};

const URL: &str = "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL";
const MESSAGE: &str = "SOCKET_MSG_EXCHANGE";
const ATTEMPT: &str = "CONNECTION_ATTEMPT";
const ICE: &str = "ICE_CANDIDATES_EXCHANGE_INITIATOR_TO_RESPONDER";

/// The signaling events that answer an attempt or follow it.
const FOLLOWERS: [&str; 5] = [
    "CONNECTION_ACCEPTANCE",
    "CONNECTION_REFUSAL",
    "INCOMING_CONNECTIONS_NOT_ALLOWED",
    ICE,
    "ICE_CANDIDATES_EXCHANGE_RESPONDER_TO_INITIATOR",
];

fn yes() -> Value {
    json!({"authorized": true})
}

async fn start(hook: &Hook) -> Server {
    start_with_variables(&[(URL, &hook.url("/authorize"))]).await
}

async fn pair(server: &Server) -> (Node, Node) {
    (Node::connect(server.address(), "alice").await, Node::connect(server.address(), "bob").await)
}

/// Sends an event and returns its ack; an event that was delivered is read by its receiver.
async fn ask(sender: &mut Node, event: &str, to: &str, receiver: Option<&mut Node>) -> String {
    let ack = sender.ask(event, &format!("{{\"to\":\"{to}\"}}")).await;
    if let Some(receiver) = receiver.filter(|_| ack == "[\"OK\"]") {
        assert!(receiver.text().await.starts_with(&format!("42[\"{event}\",")));
    }
    ack
}

fn asked(from: &str, to: &str) -> Value {
    json!({"from": from, "to": to})
}

#[tokio::test]
async fn it_is_asked_by_a_post_of_json_with_trimmed_ids() {
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    let (mut alice, mut bob) = pair(&server).await;
    let payload = r#"{"to":" bob\u00a0\n","from":"alice","content":"secret"}"#;
    assert_eq!(alice.ask(MESSAGE, payload).await, "[\"OK\"]");
    let event = bob.text().await;
    assert!(event.contains("content"), "{event}");
    let calls = hook.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].method.as_str(), calls[0].target.as_str()), ("POST", "/authorize"));
    assert_eq!(calls[0].header("content-type"), Some("application/json"));
    assert_eq!(calls[0].body, asked("alice", "bob"));
}

#[tokio::test]
async fn it_is_not_asked_about_a_receiver_that_nobody_can_be() {
    let hook = Hook::start(|_| yes()).await;
    let (url, notified) = (hook.url("/authorize"), Hook::start(|_| json!({})).await);
    let on_message = notified.url("/");
    let server = start_with_variables(&[
        (URL, &url),
        ("ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL", &on_message),
    ])
    .await;
    let mut alice = Node::connect(server.address(), "alice").await;
    for length in [257, 900_000, 256] {
        let ack = ask(&mut alice, MESSAGE, &"x".repeat(length), None).await;
        assert_eq!(ack, "[\"NOT_CONNECTED\"]");
    }
    eventually("the short one is notified", || !notified.calls().is_empty()).await;
    for calls in [hook.calls(), notified.calls()] {
        assert_eq!(calls.len(), 1);
    }
    assert_eq!(hook.calls()[0].body, asked("alice", &"x".repeat(256)));
}

#[tokio::test]
async fn only_true_is_yes_and_a_failure_is_an_error() {
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    let (mut alice, mut bob) = pair(&server).await;
    // The attempt comes last: it opens the pair.
    for event in [MESSAGE, ICE, ATTEMPT] {
        for no in [
            json!({"authorized": false}),
            json!({"authorized": "true"}),
            json!({"authorized": 1}),
            json!({"authorized": null}),
            json!({"Authorized": true, "authenticated": true}),
            json!({}),
        ] {
            let answer = no.clone();
            hook.answer(move |_| answer.clone());
            assert_eq!(ask(&mut alice, event, "bob", None).await, "[\"UNAUTHORIZED\"]", "{no}");
            assert_eq!(ask(&mut alice, event, "no", None).await, "[\"UNAUTHORIZED\"]", "{no}");
        }
        hook.fault(Fault::Status(503), yes()).await;
        assert_eq!(ask(&mut alice, event, "bob", None).await, "[\"ERROR\"]");
        assert_eq!(ask(&mut alice, event, "nobody", None).await, "[\"ERROR\"]");
        hook.answer(|_| yes());
        // Nothing of the above reached bob: the next thing he gets is this.
        assert_eq!(ask(&mut alice, event, "bob", Some(&mut bob)).await, "[\"OK\"]");
        assert_eq!(ask(&mut alice, event, "nobody", None).await, "[\"NOT_CONNECTED\"]");
    }
}

#[tokio::test]
async fn what_is_disabled_or_wrong_is_not_asked_about() {
    let hook = Hook::start(|_| yes()).await;
    let disabled = [
        (URL, hook.url("/")),
        ("P2P_CONNECTION_ENABLED", "false".into()),
        ("WEBSOCKET_RELAY_ENABLED", "false".into()),
    ];
    let disabled = disabled.each_ref().map(|(name, value)| (*name, value.as_str()));
    for (variables, expected) in [(&disabled[..1], "[\"ERROR\"]"), (&disabled, "[\"DISABLED\"]")] {
        let server = start_with_variables(variables).await;
        let (mut alice, _bob) = pair(&server).await;
        for event in EVENTS {
            let arrays = [
                r#"["EV"]"#,
                r#"["EV","to bob"]"#,
                r#"["EV","{\"to\":\" \"}"]"#,
                r#"["EV","{\"to\":\"bob\",\"from\":\"bob\"}"]"#,
                r#"["EV","{\"to\":\"bob\"}","{\"to\":\"bob\"}"]"#,
            ];
            for array in arrays {
                let array = array.replace("EV", event);
                assert_eq!(alice.ask_raw(&array).await, expected, "{array}");
            }
            if expected.contains("DISABLED") {
                assert_eq!(ask(&mut alice, event, "bob", None).await, expected);
            }
        }
        assert_eq!(alice.ask_raw(r#"["UNHEARD_OF","{\"to\":\"bob\"}"]"#).await, "[\"ERROR\"]");
    }
    assert_eq!(hook.count(), 0);
}

#[tokio::test]
async fn every_attempt_and_every_message_is_asked_about() {
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    let (mut alice, mut bob) = pair(&server).await;
    let mut expected = Vec::new();
    for event in [ATTEMPT, MESSAGE, ATTEMPT, MESSAGE] {
        assert_eq!(ask(&mut alice, event, "bob", Some(&mut bob)).await, "[\"OK\"]");
        assert_eq!(ask(&mut bob, event, "alice", Some(&mut alice)).await, "[\"OK\"]");
        assert_eq!(ask(&mut alice, event, "nobody", None).await, "[\"NOT_CONNECTED\"]");
        expected.extend([asked("alice", "bob"), asked("bob", "alice"), asked("alice", "nobody")]);
    }
    alice.send(r#"42["SOCKET_MSG_EXCHANGE","{\"to\":\"alice\"}"]"#).await;
    assert!(alice.text().await.starts_with("42[\"SOCKET_MSG_EXCHANGE\","));
    expected.push(asked("alice", "alice"));
    assert_eq!(hook.bodies(), expected);
}

#[tokio::test]
async fn an_event_without_an_ack_passes_only_after_a_yes() {
    let hook = Hook::start(|call| json!({"authorized": call.body["to"] == "bob"})).await;
    let server = start(&hook).await;
    let (mut alice, mut bob) = pair(&server).await;
    let mut carol = Node::connect(server.address(), "carol").await;
    for to in ["carol", "bob"] {
        alice.send(&format!(r#"42["SOCKET_MSG_EXCHANGE","{{\"to\":\"{to}\"}}"]"#)).await;
    }
    bob.text().await;
    assert_eq!(ask(&mut carol, MESSAGE, "bob", Some(&mut bob)).await, "[\"OK\"]");
    hook.answer(|_| yes());
    assert_eq!(ask(&mut bob, MESSAGE, "carol", Some(&mut carol)).await, "[\"OK\"]");
    assert_eq!(hook.count(), 4);
}

#[tokio::test]
async fn an_attempt_that_arrived_opens_the_pair_both_ways() {
    let hook = Hook::start(|call| json!({"authorized": call.body["from"] == "alice"})).await;
    let server = start(&hook).await;
    let (mut alice, mut bob) = pair(&server).await;
    assert_eq!(ask(&mut alice, ATTEMPT, "bob", Some(&mut bob)).await, "[\"OK\"]");
    for event in FOLLOWERS {
        assert_eq!(ask(&mut alice, event, "bob", Some(&mut bob)).await, "[\"OK\"]", "{event}");
        assert_eq!(ask(&mut bob, event, "alice", Some(&mut alice)).await, "[\"OK\"]", "{event}");
    }
    assert_eq!(hook.bodies(), [asked("alice", "bob")], "the others needed no call");
    for event in [ATTEMPT, MESSAGE] {
        assert_eq!(ask(&mut bob, event, "alice", None).await, "[\"UNAUTHORIZED\"]");
    }
    // The pair is these two and nobody else.
    let mut carol = Node::connect(server.address(), "carol").await;
    for event in FOLLOWERS {
        assert_eq!(ask(&mut carol, event, "bob", None).await, "[\"UNAUTHORIZED\"]", "{event}");
        assert_eq!(ask(&mut bob, event, "carol", None).await, "[\"UNAUTHORIZED\"]", "{event}");
    }
    assert_eq!(hook.count(), 3 + 2 * FOLLOWERS.len());
}

#[tokio::test]
async fn an_attempt_that_did_not_arrive_opens_nothing() {
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    assert_eq!(ask(&mut alice, ATTEMPT, "bob", None).await, "[\"NOT_CONNECTED\"]");
    let mut bob = Node::connect(server.address(), "bob").await;
    hook.answer(|_| json!({"authorized": false}));
    assert_eq!(ask(&mut alice, ATTEMPT, "bob", None).await, "[\"UNAUTHORIZED\"]");
    hook.fault(Fault::Reset, yes()).await;
    assert_eq!(ask(&mut alice, ATTEMPT, "bob", None).await, "[\"ERROR\"]");
    hook.answer(|_| json!({"authorized": false}));
    let before = hook.count();
    for event in FOLLOWERS {
        assert_eq!(ask(&mut alice, event, "bob", None).await, "[\"UNAUTHORIZED\"]", "{event}");
        assert_eq!(ask(&mut bob, event, "alice", None).await, "[\"UNAUTHORIZED\"]", "{event}");
    }
    assert_eq!(hook.count(), before + 2 * FOLLOWERS.len());
}

#[tokio::test]
async fn a_pair_is_open_as_long_as_both_connections_last() {
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    for leaver in ["alice", "bob"] {
        hook.answer(|_| yes());
        let (mut alice, mut bob) = pair(&server).await;
        assert_eq!(ask(&mut alice, ATTEMPT, "bob", Some(&mut bob)).await, "[\"OK\"]");
        let gone = if leaver == "alice" { &mut alice } else { &mut bob };
        gone.send("41").await;
        gone.end().await;
        *gone = Node::connect(server.address(), leaver).await;
        hook.answer(|_| json!({"authorized": false}));
        for event in FOLLOWERS {
            assert_eq!(ask(&mut alice, event, "bob", None).await, "[\"UNAUTHORIZED\"]", "{leaver}");
            assert_eq!(ask(&mut bob, event, "alice", None).await, "[\"UNAUTHORIZED\"]", "{leaver}");
        }
        drop((alice, bob));
        back_at_the_start(&server).await;
    }
}

#[tokio::test]
async fn a_receiver_that_leaves_or_a_sender_that_leaves_during_the_call() {
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    let (mut alice, bob) = pair(&server).await;
    hook.hold();
    alice.send(r#"421["CONNECTION_ATTEMPT","{\"to\":\"bob\"}"]"#).await;
    hook.called(1).await;
    drop(bob);
    eventually("bob is gone", || server.connections() == 1).await;
    hook.release();
    assert_eq!(alice.text().await, "431[\"NOT_CONNECTED\"]");
    hook.hold();
    alice.send(r#"422["CONNECTION_ATTEMPT","{\"to\":\"alice\"}"]"#).await;
    hook.called(2).await;
    drop(alice);
    eventually("alice is gone", || server.connections() == 0).await;
    hook.release();
    back_at_the_start(&server).await;
    pair(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_asks_once_for_a_pair() {
    let hook = Hook::start(|call| json!({"authorized": call.body["to"] != "alice"})).await;
    let server =
        start_with_variables(&[(URL, &hook.url("/")), ("AUTHORIZATION_CACHE_TTL_MS", "60000")])
            .await;
    let (mut alice, mut bob) = pair(&server).await;
    // First a burst of those who all find nothing remembered.
    hook.hold();
    let burst: Vec<_> = (0..50)
        .map(|n| format!(r#"42{n}["SOCKET_MSG_EXCHANGE","{{\"to\":\"bob\",\"n\":{n}}}"]"#))
        .collect();
    alice.send_all(&burst).await;
    hook.called(1).await;
    hook.release();
    for n in 0..50 {
        assert!(bob.text().await.contains(&format!("\\\"n\\\":{n}}}")));
    }
    let mut acks = Vec::new();
    for _ in 0..50 {
        acks.push(alice.text().await);
    }
    assert!(acks.iter().all(|ack| ack.ends_with("[\"OK\"]")), "{acks:?}");
    for _ in 0..50 {
        assert_eq!(ask(&mut alice, MESSAGE, "bob", Some(&mut bob)).await, "[\"OK\"]");
    }
    assert_eq!(hook.count(), 1, "100 messages cost one call");
    // The other direction is another question.
    for _ in 0..3 {
        assert_eq!(ask(&mut bob, MESSAGE, "alice", None).await, "[\"UNAUTHORIZED\"]");
        assert_eq!(ask(&mut alice, ATTEMPT, "bob", Some(&mut bob)).await, "[\"OK\"]");
    }
    assert_eq!(hook.bodies(), [asked("alice", "bob"), asked("bob", "alice")]);
}

#[tokio::test]
async fn a_cache_remembers_no_failure_and_nothing_for_longer_than_it_may() {
    let hook = Hook::start(|_| yes()).await;
    let server =
        start_with_variables(&[(URL, &hook.url("/")), ("AUTHORIZATION_CACHE_TTL_MS", "300")]).await;
    let (mut alice, mut bob) = pair(&server).await;
    hook.fault(Fault::Status(500), yes()).await;
    assert_eq!(ask(&mut alice, MESSAGE, "bob", None).await, "[\"ERROR\"]");
    hook.answer(|_| yes());
    assert_eq!(ask(&mut alice, MESSAGE, "bob", Some(&mut bob)).await, "[\"OK\"]");
    assert_eq!(hook.count(), 2);
    let began = Instant::now();
    hook.answer(|_| json!({"authorized": false}));
    while ask(&mut alice, MESSAGE, "bob", Some(&mut bob)).await == "[\"OK\"]" {
        assert!(began.elapsed() < Duration::from_secs(3), "the answer is kept for ever");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(hook.count(), 3);
}

#[tokio::test]
async fn a_slow_answer_for_one_delays_no_other() {
    let hook = Hook::start(|call| match call.body["from"].as_str() {
        Some("alice") => Reply::After(Duration::from_secs(2), yes()),
        _ => Reply::Json(yes()),
    })
    .await;
    let server = start(&hook).await;
    let (mut alice, mut bob) = pair(&server).await;
    let mut carol = Node::connect(server.address(), "carol").await;
    alice.send(r#"427["SOCKET_MSG_EXCHANGE","{\"to\":\"nobody\"}"]"#).await;
    hook.called(1).await;
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(ask(&mut bob, MESSAGE, "carol", Some(&mut carol)).await, "[\"OK\"]");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(alice.text().await, "437[\"NOT_CONNECTED\"]");
}
