//! Each hook with each fault: it costs only what depends on that hook, for as long as it lasts.
//!
//! Every row of the table has a server, a hook and two bystanders of its own. The bystanders go
//! on exchanging signaling, which needs no hook any more once their pair is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crolang_broker::Server;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{
    Fault, Frame, Hook, MAX_ANSWER_BYTES, Node, Reply, SOON, eventually, padded, rtc_configuration,
    start_with_variables,
};

/// How long a call may take: far longer than a good one on a busy machine.
const TIMEOUT: Duration = Duration::from_millis(1_000);
const TIMEOUT_MS: &str = "1000";

/// How many messages are sent while the on-message hook has its fault. Were each to wait for the
/// hook, they would take far longer than [`SOON`].
const MESSAGES: usize = 30;

/// How many rows are tested side by side.
const ROWS: usize = 8;

/// What lets everybody pass, for every hook.
fn calm() -> Value {
    json!({
        "authenticated": true,
        "authorized": true,
        "iceServers": [{"urls": ["stun:hook.example"]}],
        "invalidNodesIds": [],
    })
}

/// What a fault is committed on: a yes, and a name to be disconnected.
fn tempting() -> Value {
    let mut answer = calm();
    answer["invalidNodesIds"] = json!(["victim"]);
    answer
}

/// One row: a server with one hook.
struct Row {
    fault: Fault,
    hook: Hook,
    server: Server,
    bystanders: Bystanders,
    /// How many calls had failed before there was a fault: on a busy machine even good ones may.
    failed_before: f64,
}

impl Row {
    async fn start(fault: Fault, variable: &str) -> Self {
        let hook = Hook::start(|_| calm()).await;
        let server = start_with_variables(&[
            ("AUTHENTICATION_FAILURE_CACHE_TTL_MS", "0"),
            (variable, &hook.url("/hook")),
            ("WEBHOOK_TIMEOUT_MS", TIMEOUT_MS),
            ("NODES_STATUS_CHECK_INTERVAL_MS", "50"),
        ])
        .await;
        let bystanders = Bystanders::start(&server).await;
        let failed_before = failures(&server);
        Self { fault, hook, server, bystanders, failed_before }
    }

    async fn node(&self, id: &str) -> Node {
        Node::connect(self.server.address(), id).await
    }

    /// From here on there is the fault.
    async fn begin(&self) {
        self.hook.fault(self.fault, tempting()).await;
    }

    /// How many calls have failed since there is the fault.
    fn failures(&self) -> f64 {
        failures(&self.server) - self.failed_before
    }

    /// From here on there is none any more, and the answer is this.
    async fn over(&self, answer: Value) {
        self.hook.answer(move |_| answer.clone());
        self.hook.accept().await;
    }

    /// Looks at what everything has cost in the end.
    async fn finish(self) {
        let fault = self.fault;
        self.bystanders.finish(fault).await;
        // What was taken of each answer, with what the kernels on both sides hold.
        let endless = self.hook.endless_bytes() / self.hook.count().max(1);
        assert!(endless < 1 << 20, "{fault:?}: {endless} bytes were taken");
        let what = format!("{fault:?}: no call is left");
        eventually(&what, || self.hook.in_flight() == 0).await;
    }
}

/// Two nodes that exchange a hundred messages a second, whatever becomes of others.
struct Bystanders {
    stop: Arc<AtomicBool>,
    times: JoinHandle<Vec<Duration>>,
}

impl Bystanders {
    async fn start(server: &Server) -> Self {
        let mut carol = Node::connect(server.address(), "carol").await;
        let mut dave = Node::connect(server.address(), "dave").await;
        assert_eq!(carol.ask("CONNECTION_ATTEMPT", r#"{"to":"dave"}"#).await, "[\"OK\"]");
        dave.text().await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let times = tokio::spawn(async move {
            let mut times = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                let began = Instant::now();
                let ack = carol.ask("CONNECTION_ACCEPTANCE", r#"{"to":"dave"}"#).await;
                assert_eq!(ack, "[\"OK\"]");
                dave.text().await;
                times.push(began.elapsed());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            times
        });
        Self { stop, times }
    }

    async fn finish(self, fault: Fault) {
        self.stop.store(true, Ordering::SeqCst);
        let mut times = self.times.await.unwrap();
        times.sort();
        // A node that waited for the hook would wait for its timeout.
        let median = times[times.len() / 2];
        assert!(median < TIMEOUT / 2, "{fault:?}: {median:?}");
    }
}

/// Tests all faults, some at a time.
async fn every_fault<F: Future<Output = ()> + Send + 'static>(row: impl Fn(Fault) -> F) {
    let mut rows = JoinSet::new();
    for fault in Fault::ALL {
        if rows.len() == ROWS {
            rows.join_next().await.unwrap().unwrap();
        }
        rows.spawn(row(*fault));
    }
    rows.join_all().await;
}

/// How many calls of the server's hook failed, whatever the cause.
fn failures(server: &Server) -> f64 {
    let text = server.metrics();
    text.lines()
        .filter_map(|line| line.strip_prefix("crolang_webhook_calls_total{hook=\""))
        .filter_map(|line| line.split_once("\",outcome=\"")?.1.split_once("\"} "))
        .filter(|(outcome, _)| *outcome != "ok")
        .map(|(_, count)| count.parse::<f64>().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authentication() {
    every_fault(|fault| async move {
        let row = Row::start(fault, "NODES_AUTHENTICATION_WEBHOOK_URL").await;
        row.begin().await;
        let began = Instant::now();
        let answer = Node::try_connect(row.server.address(), "victim").await.err();
        let answer = answer.unwrap_or_else(|| panic!("{fault:?}: it was let in"));
        assert!(began.elapsed() < SOON, "{fault:?}: {:?}", began.elapsed());
        if fault.is_failure() {
            assert!(answer.starts_with("HTTP/1.1 503 "), "{fault:?}: {answer}");
            assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: "), "{answer}");
            assert_eq!(row.failures(), 1.0, "{fault:?}");
        } else {
            assert_eq!(answer, r#"44{"message":"authentication failed"}"#, "{fault:?}");
        }
        row.over(calm()).await;
        let mut victim = row.node("victim").await;
        assert_eq!(victim.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]");
        row.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorization() {
    every_fault(|fault| async move {
        let row = Row::start(fault, "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL").await;
        let mut alice = row.node("alice").await;
        let mut bob = row.node("bob").await;
        row.begin().await;
        let expected = if fault.is_failure() { "[\"ERROR\"]" } else { "[\"UNAUTHORIZED\"]" };
        for event in ["SOCKET_MSG_EXCHANGE", "CONNECTION_ATTEMPT", "CONNECTION_REFUSAL"] {
            let began = Instant::now();
            let ack = alice.ask(event, r#"{"to":"bob"}"#).await;
            assert_eq!(ack, expected, "{fault:?}, {event}");
            assert!(began.elapsed() < SOON, "{fault:?}: {:?}", began.elapsed());
        }
        if fault.is_failure() {
            assert_eq!(row.failures(), 3.0, "{fault:?}");
        }
        row.over(calm()).await;
        // On a busy machine a call may miss its short time limit without any fault.
        let began = Instant::now();
        while alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"bob","n":"first"}"#).await != "[\"OK\"]" {
            assert!(began.elapsed() < SOON, "{fault:?}");
        }
        assert!(bob.text().await.contains("first"), "{fault:?}: something came before");
        row.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rtc_configuration_resolver() {
    every_fault(|fault| async move {
        let row = Row::start(fault, "RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL").await;
        // One server more, without any last good answer and with nothing to fall back on.
        let closing = start_with_variables(&[
            ("RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL", &row.hook.url("/closing")),
            ("WEBHOOK_TIMEOUT_MS", TIMEOUT_MS),
            ("RTC_FALLBACK", "close"),
        ])
        .await;
        row.begin().await;
        let began = Instant::now();
        let text = told(&row.server, "victim").await;
        assert_eq!(text.as_deref(), Some("stun:hook.example"), "{fault:?}: not the last good one");
        assert!(began.elapsed() < SOON, "{fault:?}: {:?}", began.elapsed());
        let began = Instant::now();
        assert_eq!(told(&closing, "victim").await, None, "{fault:?}: the connection is closed");
        assert!(began.elapsed() < SOON, "{fault:?}: {:?}", began.elapsed());
        assert_eq!(row.failures(), 1.0, "{fault:?}");
        row.over(json!({"iceServers": [{"urls": ["stun:new.example"]}]})).await;
        for server in [&row.server, &closing] {
            let began = Instant::now();
            for attempt in 2.. {
                let text = told(server, &format!("victim{attempt}")).await;
                if text.as_deref() == Some("stun:new.example") {
                    break;
                }
                assert!(began.elapsed() < SOON, "{fault:?}: {text:?}");
            }
        }
        drop(closing);
        row.finish().await;
    })
    .await;
}

/// Connects a node; the first URL that it is told, or nothing if its connection is closed.
async fn told(server: &Server, id: &str) -> Option<String> {
    let mut node = Node::open(server.address(), &format!("&id={id}&version=1&runtime=r")).await;
    node.send("40").await;
    assert!(node.text().await.starts_with("40{"));
    let Frame::Text(event) = node.next().await else { return None };
    let configuration: Value = serde_json::from_str(&rtc_configuration(&event)).unwrap();
    configuration["iceServers"][0]["urls"][0].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validity() {
    every_fault(|fault| async move {
        let row = Row::start(fault, "NODES_VALIDITY_CHECK_WEBHOOK_URL").await;
        let mut victim = row.node("victim").await;
        row.begin().await;
        eventually("two rounds fail", || row.failures() >= 2.0).await;
        assert_eq!(victim.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]", "{fault:?}");
        row.over(tempting()).await;
        assert_eq!(victim.text().await, "41", "{fault:?}");
        row.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_socket_message() {
    every_fault(|fault| async move {
        let row = Row::start(fault, "ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL").await;
        let mut alice = row.node("alice").await;
        let mut bob = row.node("bob").await;
        row.begin().await;
        let began = Instant::now();
        for _ in 0..MESSAGES {
            let ack = alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"bob"}"#).await;
            assert_eq!(ack, "[\"OK\"]", "{fault:?}");
            bob.text().await;
        }
        // Had each waited for the hook, it would be longer.
        assert!(
            began.elapsed() < TIMEOUT * (MESSAGES as u32 / 2),
            "{fault:?}: {:?}",
            began.elapsed()
        );
        row.finish().await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_of_the_longest_size_is_read() {
    for bytes in [1_000, MAX_ANSWER_BYTES - 1, MAX_ANSWER_BYTES] {
        let hook = Hook::start(move |_| Reply::Text(padded(&calm().to_string(), bytes))).await;
        let server =
            start_with_variables(&[("NODES_AUTHENTICATION_WEBHOOK_URL", &hook.url("/"))]).await;
        assert!(Node::try_connect(server.address(), "alice").await.is_ok(), "{bytes}");
    }
}
