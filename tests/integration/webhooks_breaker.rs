//! A hook that fails again and again is left alone for a while, and then tried with one call.

use std::time::{Duration, Instant};

use crolang_broker::Server;
use serde_json::{Value, json};

use crate::support::{Fault, Hook, Node, Reply, metric, start_with_variables};

const URL: &str = "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL";

/// Failures in a row after which a hook is left alone.
const FAILURES: usize = 10;

/// For how long.
const OPEN_FOR: Duration = Duration::from_secs(5);

fn yes() -> Value {
    json!({"authorized": true, "authenticated": true})
}

async fn start(hook: &Hook) -> Server {
    start_with_variables(&[(URL, &hook.url("/"))]).await
}

/// Sends one message to nobody and returns its ack.
async fn ask(alice: &mut Node) -> String {
    alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"nobody"}"#).await
}

const FAILED: &str = "[\"ERROR\"]";
const PASSED: &str = "[\"NOT_CONNECTED\"]";

#[tokio::test]
async fn after_many_failures_in_a_row_it_is_left_alone_and_then_tried_once() {
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    hook.fault(Fault::Status(500), yes()).await;
    for n in 1..=FAILURES {
        assert_eq!(ask(&mut alice).await, FAILED);
        assert_eq!(hook.count(), n);
    }
    let opened = Instant::now();
    hook.answer(|_| yes());
    for _ in 0..50 {
        assert_eq!(ask(&mut alice).await, FAILED);
    }
    assert!(opened.elapsed() < OPEN_FOR / 2, "they fail at once");
    assert_eq!(hook.count(), FAILURES, "nobody was asked");
    // The first one that is tried fails: the others do not follow.
    hook.fault(Fault::Status(500), yes()).await;
    while hook.count() == FAILURES {
        assert!(opened.elapsed() < 2 * OPEN_FOR, "no call is tried");
        assert_eq!(ask(&mut alice).await, FAILED);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let tried = opened.elapsed();
    assert!(tried > OPEN_FOR - Duration::from_millis(500), "tried after {tried:?}");
    hook.answer(|_| yes());
    for _ in 0..50 {
        assert_eq!(ask(&mut alice).await, FAILED);
    }
    assert_eq!(hook.count(), FAILURES + 1);
    // The next one that is tried is answered: all go through again.
    while ask(&mut alice).await == FAILED {
        assert!(opened.elapsed() < 4 * OPEN_FOR, "it stays left alone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..5 {
        assert_eq!(ask(&mut alice).await, PASSED);
    }
    assert_eq!(hook.count(), FAILURES + 7);
}

#[tokio::test]
async fn a_no_and_a_success_in_between_are_no_failures_in_a_row() {
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    hook.answer(|_| json!({"authorized": false}));
    for _ in 0..3 * FAILURES {
        assert_eq!(ask(&mut alice).await, "[\"UNAUTHORIZED\"]");
    }
    for _ in 0..3 {
        hook.fault(Fault::Html, yes()).await;
        for _ in 0..FAILURES - 1 {
            assert_eq!(ask(&mut alice).await, FAILED);
        }
        hook.answer(|_| yes());
        assert_eq!(ask(&mut alice).await, PASSED);
    }
    assert_eq!(hook.count(), 3 * FAILURES + 3 * FAILURES);
}

#[tokio::test]
async fn one_hook_that_fails_does_not_silence_another() {
    let hook = Hook::start(|_| yes()).await;
    let door = Hook::start(|_| yes()).await;
    let server = start_with_variables(&[
        (URL, &hook.url("/")),
        ("NODES_AUTHENTICATION_WEBHOOK_URL", &door.url("/")),
    ])
    .await;
    let address = server.address();
    let mut alice = Node::connect(address, "alice").await;
    hook.fault(Fault::Closed, yes()).await;
    for _ in 0..FAILURES + 5 {
        assert_eq!(ask(&mut alice).await, FAILED);
    }
    assert_eq!(hook.count(), 2 * FAILURES, "each call is repeated once");
    assert!(Node::try_connect(address, "bob").await.is_ok());
    door.refuse().await;
    for _ in 0..FAILURES + 5 {
        let answer = Node::try_connect(address, "carol").await.err().unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    door.accept().await;
    let before = door.count();
    let answer = Node::try_connect(address, "carol").await.err().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(door.count(), before, "it is left alone, though it would answer");
}

#[tokio::test]
async fn waiting_for_a_permit_is_no_failure_and_ends_at_once_where_it_cannot_succeed() {
    let hook = Hook::start(|_| Reply::After(Duration::from_millis(100), yes())).await;
    let server = start_with_variables(&[
        (URL, &hook.url("/")),
        ("WEBHOOK_TIMEOUT_MS", "500"),
        ("WEBHOOK_MAX_IN_FLIGHT", "1"),
    ])
    .await;
    let mut alice = Node::connect(server.address(), "alice").await;
    for _ in 0..8 {
        assert_eq!(ask(&mut alice).await, PASSED);
    }
    let many = burst(60);
    let began = Instant::now();
    alice.send_all(&many).await;
    let passed = passed(&mut alice, &many).await;
    assert!((2..30).contains(&passed), "{passed} passed");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let outcome = |outcome| {
        let name =
            format!("crolang_webhook_calls_total{{hook=\"authorization\",outcome=\"{outcome}\"}}");
        metric(&server, &name)
    };
    assert_eq!((outcome("circuit_open"), outcome("timeout")), (0.0, 0.0));
    assert_eq!(outcome("busy") as usize, many.len() - passed);
    assert_eq!(ask(&mut alice).await, PASSED);
}

fn burst(messages: usize) -> Vec<String> {
    let message = |n| format!(r#"42{n}["SOCKET_MSG_EXCHANGE","{{\"to\":\"nobody\"}}"]"#);
    (0..messages).map(message).collect()
}

/// How many acks of a burst say that it passed.
async fn passed(alice: &mut Node, burst: &[String]) -> usize {
    let mut passed = 0;
    for _ in burst {
        let ack = alice.text().await;
        assert!(ack.ends_with(PASSED) || ack.ends_with(FAILED), "{ack}");
        passed += usize::from(ack.ends_with(PASSED));
    }
    passed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_opens_it_once_and_is_not_what_is_tried() {
    let hook = Hook::start(|_| yes()).await;
    let server =
        start_with_variables(&[(URL, &hook.url("/")), ("WEBHOOK_TIMEOUT_MS", "500")]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    // Calls that began before it opened and fail after that do not prolong it.
    hook.hold();
    let many = burst(60);
    alice.send_all(&many).await;
    let began = Instant::now();
    assert_eq!(passed(&mut alice, &many).await, 0);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(hook.count(), many.len());
    hook.release();
    hook.answer(|_| Reply::After(Duration::from_millis(100), yes()));
    // Of those who come together when it is time, one is tried, and lets the next ones through.
    let few = burst(20);
    loop {
        assert!(began.elapsed() < 2 * OPEN_FOR, "no call is tried");
        alice.send_all(&few).await;
        let passed = passed(&mut alice, &few).await;
        assert!(passed <= 1, "{passed} are tried");
        if passed == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(hook.count(), many.len() + 1);
    assert_eq!(ask(&mut alice).await, PASSED);
}
