//! What nodes leave behind when they have left: next to nothing.

#[cfg(feature = "overlay")]
use serde_json::json;

use crate::support::{Node, Process, SOON, eventually_within, get, resident_bytes};
#[cfg(feature = "overlay")]
use crate::support::{PEERS, RawPeer, id};

/// Connects so many nodes.
async fn connect(broker: &Process, count: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    for n in 0..count {
        nodes.push(Node::connect(broker.address, &format!("n{n}")).await);
    }
    nodes
}

/// A message of 10 KB.
fn long_message(to: &str) -> String {
    let text = "x".repeat(10_000);
    format!(r#"{{"to":"{to}","s":"{text}"}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn towards_the_limit_newcomers_and_messages_are_turned_away_and_nobody_is_lost() {
    const LIMIT: usize = 120 << 20;
    // Nobody is closed for not reading while the memory fills.
    let limit = LIMIT.to_string();
    let variables = [
        ("MEMORY_LIMIT_BYTES", &*limit),
        ("WRITE_TIMEOUT_MS", "600000"),
        ("PING_TIMEOUT_MS", "600000"),
        ("STORAGE_TYPE", "memory"),
        #[cfg(feature = "overlay")]
        ("PEER_RELAY_PATH", PEERS),
        #[cfg(feature = "overlay")]
        ("PEER_RELAY_BRIDGE", "true"),
    ];
    let broker = Process::start(&variables).await;
    let mut bob = Node::connect(broker.address, "bob").await;
    let mut alice = Node::connect(broker.address, "alice").await;
    #[cfg(feature = "overlay")]
    let mut peer = RawPeer::connect(broker.address, id(1)).await;
    let stuck = connect(&broker, 200).await;
    for node in &stuck {
        socket2::SockRef::from(&node.stream).set_recv_buffer_size(4096).unwrap();
    }
    let to_bob = r#"{"to":"bob"}"#;
    let (mut is_refused, mut delivered) = (false, 0);
    for node in (0..stuck.len()).map(|n| format!("n{n}")) {
        // Until the queue of that node is full.
        while !is_refused
            && alice.ask("SOCKET_MSG_EXCHANGE", &long_message(&node)).await == "[\"OK\"]"
        {}
        is_refused = alice.ask("SOCKET_MSG_EXCHANGE", to_bob).await == "[\"ERROR\"]";
        if is_refused {
            break;
        }
        delivered += 1;
    }
    let used = resident_bytes(broker.pid());
    assert!(is_refused && used > LIMIT / 10 * 9 && used < LIMIT / 10 * 11, "{used} bytes");
    let error = Node::try_connect(broker.address, "newcomer").await.err().unwrap();
    assert!(error.starts_with("HTTP/1.1 503"), "{error}");
    let list = get(broker.address, "/t/sessions").await;
    assert!(list.starts_with("HTTP/1.1 503") && list.contains("retry-after: 2"), "{list}");
    assert!(get(broker.address, "/health").await.starts_with("HTTP/1.1 200"));
    #[cfg(feature = "overlay")]
    {
        assert_eq!(RawPeer::refusal(broker.address).await, 503);
        let message = json!({"to": "bob", "message": "{}"});
        peer.send_to(peer.other, json!({"type": "user", "data": message})).await;
        let refused = "crolang_bridge_messages_total{outcome=\"memory_limit\"}";
        let began = std::time::Instant::now();
        while !get(broker.address, "/metrics").await.contains(refused) {
            assert!(began.elapsed() < SOON, "the peer's message is refused");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    let metrics = get(broker.address, "/metrics").await;
    for metric in [
        "crolang_rejections_total{cause=\"memory_limit\"}",
        "crolang_memory_limit_total{action=\"refused_message\"}",
        "crolang_memory_limit_total{action=\"paused_reading\"}",
        "crolang_discovery_requests_total{endpoint=\"sessions\",outcome=\"memory_limit\"}",
    ] {
        let value = metrics.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        assert_ne!(value, Some("0"), "{metric}");
        assert!(value.is_some(), "{metric} is not in {metrics}");
    }
    drop(stuck);
    let began = std::time::Instant::now();
    while Node::try_connect(broker.address, "newcomer").await.is_err() {
        assert!(began.elapsed() < SOON * 4, "memory is returned");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", to_bob).await, "[\"OK\"]");
    for _ in 0..=delivered {
        assert!(bob.text().await.starts_with("42[\"SOCKET_MSG_EXCHANGE\""));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_those_who_left_is_given_back() {
    const NODES: usize = 500;
    // Nobody answers heartbeats here, and a busy machine may take its time.
    let broker = Process::start(&[("PING_INTERVAL_MS", "600000")]).await;
    // The first nodes make the process grow by more than what they take.
    drop(connect(&broker, 100).await);
    let before = resident_bytes(broker.pid());
    let nodes = connect(&broker, NODES).await;
    let with = resident_bytes(broker.pid());
    assert!(with > before + NODES * 6_144, "{before}, then {with} bytes");
    drop(nodes);
    eventually_within(SOON * 4, "half of what they took is returned", || {
        resident_bytes(broker.pid()) < before + (with - before) / 2
    })
    .await;
}
