//! Ten thousand calls to each kind of server that closes connections of its own accord: none is
//! lost.
//!
//! It takes minutes, most of them pauses as long as servers keep idle connections, so it runs only
//! when asked for:
//!
//! ```sh
//! cargo test --release --test integration webhooks_soak -- --ignored --nocapture
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{Hook, Node, Reply, eventually, metric, start_with_variables};

/// Nodes that visit at the same time, so that many connections are idle afterwards.
const VISITORS: usize = 65;

/// How often each of them visits. A visit is four calls: authentication, RTC configuration,
/// authorization and on-message.
const VISITS: usize = 40;

/// The pause between two visits where the server counts answers and no time.
const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// The metric that counts calls.
const CALLS: &str = "crolang_webhook_calls_total";

/// A yes of every hook.
fn yes() -> Value {
    json!({
        "authenticated": true,
        "authorized": true,
        "invalidNodesIds": [],
        "iceServers": [{"urls": ["stun:stun.example.org:3478"]}],
    })
}

/// Connects, sends one message to nobody and leaves, again and again. The pauses are from nine
/// tenths of `pause` to eleven, so that calls come just before, just after and while the server
/// closes. Returns what was no yes.
async fn visit(address: SocketAddr, visitor: usize, pause: Duration) -> Vec<String> {
    let mut lost = Vec::new();
    for visit in 0..VISITS {
        match Node::try_connect(address, &format!("visitor{visitor}-{visit}")).await {
            Ok(mut node) => {
                let ack = node.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"nobody"}"#).await;
                lost.extend((ack != "[\"NOT_CONNECTED\"]").then_some(ack));
            }
            Err(answer) => lost.push(answer),
        }
        sleep(pause.mul_f64(0.9 + 0.01 * ((visit * 7 + visitor) % 20) as f64)).await;
    }
    lost
}

/// Has all five hooks of a broker asked at one server, whose connections live as `kind` says.
async fn soak(kind: &str, hook: &Hook, pause: Duration) {
    let url = |name: &str| hook.url(&format!("/{name}"));
    let server = start_with_variables(&[
        ("NODES_AUTHENTICATION_WEBHOOK_URL", &url("authentication")),
        ("AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL", &url("authorization")),
        ("NODES_VALIDITY_CHECK_WEBHOOK_URL", &url("validity")),
        ("NODES_STATUS_CHECK_INTERVAL_MS", &pause.as_millis().to_string()),
        ("RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL", &url("rtc")),
        ("ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL", &url("on-message")),
        // Often enough for a test's node, which does not wait long for anything.
        ("PING_INTERVAL_MS", "5000"),
    ])
    .await;
    // Somebody for the validity check to ask about.
    let mut resident = Node::connect(server.address(), "resident").await;
    // Answers heartbeats, and is never told anything.
    let resident = tokio::spawn(async move { resident.next().await });
    let mut visitors = JoinSet::new();
    for visitor in 0..VISITORS {
        visitors.spawn(visit(server.address(), visitor, pause));
    }
    let lost = visitors.join_all().await.concat();
    let outcomes = || {
        let metrics = server.metrics();
        let calls = metrics.lines().filter_map(|line| line.strip_prefix(CALLS));
        calls.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lost, Vec::<String>::new(), "{kind}: {:#?}", outcomes());
    let ok = |hook| metric(&server, &format!("{CALLS}{{hook=\"{hook}\",outcome=\"ok\"}}")) as usize;
    let messages = VISITORS * VISITS;
    eventually("all are told", || ok("on_socket_message") == messages).await;
    assert_eq!(
        [ok("authentication"), ok("rtc_configuration"), ok("authorization")],
        [messages + 1, messages + 1, messages],
        "{kind}"
    );
    let checks = ok("validity");
    assert!(
        checks >= VISITS / 2 && !resident.is_finished(),
        "{kind}: only {checks} validity checks"
    );
    let outcomes = outcomes();
    assert!(outcomes.iter().all(|line| line.contains("outcome=\"ok\"")), "{kind}: {outcomes:#?}");
    println!("{kind}: {} calls of five hooks, none lost", 4 * messages + 2 + checks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes six minutes"]
async fn servers_that_close_their_connections_lose_no_call() {
    for every in [1, 2, 3, 7, 100] {
        let answers = AtomicUsize::new(0);
        let hook = Hook::start(move |_| {
            let is_last = answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(every);
            if is_last { Reply::Last(yes()) } else { yes().into() }
        })
        .await;
        soak(&format!("closed after every {every} answers"), &hook, SHORT_PAUSE).await;
    }
    for millis in [200, 1_000, 2_000, 5_000] {
        let limit = Duration::from_millis(millis);
        let hook = Hook::start(|_| yes()).await;
        hook.close_idle_after(limit);
        soak(&format!("closed after {limit:?} idle"), &hook, limit).await;
    }
}
