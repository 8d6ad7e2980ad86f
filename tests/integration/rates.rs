//! Nodes that send more than they may in a second: they are slowed down, and lose nothing.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crolang_broker::Config;

use crate::support::{Node, eventually, frame, metric, start_with};

const MESSAGES_PAUSES: &str = "crolang_rate_limit_pauses_total{limit=\"messages\"}";
const BYTES_PAUSES: &str = "crolang_rate_limit_pauses_total{limit=\"bytes\"}";

fn messages_per_second(config: &mut Config, messages: u32) {
    config.link.max_messages_per_second = NonZeroU32::new(messages);
}

/// So many messages for `bob` in one piece, with acks if `asks`.
fn burst(count: usize, asks: bool) -> Vec<u8> {
    let message = |n: usize| {
        let id = if asks { n.to_string() } else { String::new() };
        let text = format!(r#"42{id}["SOCKET_MSG_EXCHANGE","{{\"to\":\"bob\",\"n\":{n}}}"]"#);
        frame(0x81, text.as_bytes())
    };
    (0..count).flat_map(message).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_messages_wait_and_all_are_delivered_in_order() {
    const RATE: usize = 100;
    let server = start_with(|config| {
        messages_per_second(config, RATE as u32);
        // Their replies wait behind the messages.
        config.transport.ping_interval = Duration::from_millis(300);
        config.transport.ping_timeout = Duration::from_secs(2);
    })
    .await;
    let mut bob = Node::connect(server.address(), "bob").await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let began = Instant::now();
    alice.send_bytes(&burst(RATE / 4, true)).await;
    for n in 0..RATE / 4 {
        assert_eq!(alice.text().await, format!("43{n}[\"OK\"]"));
    }
    assert_eq!(
        metric(&server, MESSAGES_PAUSES),
        0.0,
        "a burst below a second's worth is not held up"
    );
    let receiving = tokio::spawn(async move {
        for n in (0..RATE / 4).chain(0..5 * RATE) {
            let text = format!(r#"42["SOCKET_MSG_EXCHANGE","{{\"to\":\"bob\",\"n\":{n}}}"]"#);
            assert_eq!(bob.text().await, text);
        }
    });
    alice.send_bytes(&burst(5 * RATE, true)).await;
    for n in 0..5 * RATE {
        assert_eq!(alice.text().await, format!("43{n}[\"OK\"]"));
    }
    let took = began.elapsed();
    assert!(took > Duration::from_secs(4), "5.25 seconds' worth took {took:?}");
    assert!(metric(&server, MESSAGES_PAUSES) > 0.0);
    assert_eq!(metric(&server, BYTES_PAUSES), 0.0);
    receiving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_of_a_node_that_leaves_is_delivered() {
    let server = start_with(|config| messages_per_second(config, 10)).await;
    let mut bob = Node::connect(server.address(), "bob").await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut all = burst(300, false);
    all.extend(frame(0x81, b"41"));
    alice.send_bytes(&all).await;
    for n in 0..300 {
        let text = format!(r#"42["SOCKET_MSG_EXCHANGE","{{\"to\":\"bob\",\"n\":{n}}}"]"#);
        assert_eq!(bob.text().await, text);
    }
    alice.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_bytes_wait_and_a_message_of_many_seconds_worth_passes() {
    let server = start_with(|config| {
        config.link.max_bytes_per_second = NonZeroU32::new(20_000);
        config.transport.ping_interval = Duration::from_millis(300);
        config.transport.ping_timeout = Duration::from_secs(2);
    })
    .await;
    let bob = Node::connect(server.address(), "bob").await.live();
    let mut alice = Node::connect(server.address(), "alice").await;
    let long = format!(r#"{{"to":"bob","s":"{}"}}"#, "x".repeat(80_000));
    for _ in 0..5 {
        assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"bob"}"#).await, "[\"OK\"]");
    }
    assert_eq!(metric(&server, BYTES_PAUSES), 0.0);
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", &long).await, "[\"OK\"]");
    let began = Instant::now();
    assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"bob"}"#).await, "[\"OK\"]");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(2500), "80 KB at 20 KB/s were paid for in {took:?}");
    assert!(metric(&server, BYTES_PAUSES) > 0.0);
    assert!(!bob.is_over());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_questions_weigh_as_much_as_their_ids() {
    let server = start_with(|config| messages_per_second(config, 100)).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let ids = vec!["nobody"; 1000];
    let many = serde_json::json!({ "ids": ids }).to_string();
    let began = Instant::now();
    for (question, is_slow) in [(r#"{"ids":["nobody"]}"#, false), (&*many, true)] {
        for _ in 0..4 {
            alice.ask("ARE_NODES_CONNECTED_TO_BROKER", question).await;
        }
        assert_eq!(metric(&server, MESSAGES_PAUSES) > 0.0, is_slow);
    }
    let took = began.elapsed();
    assert!(took > Duration::from_secs(2), "4,000 IDs at 1,000 a second took {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_while_it_is_slowed_down_is_noticed() {
    let server = start_with(|config| {
        messages_per_second(config, 100);
        config.transport.ping_interval = Duration::from_millis(300);
        config.transport.ping_timeout = Duration::from_secs(2);
    })
    .await;
    let mut alice = Node::connect(server.address(), "alice").await;
    alice.send_bytes(&burst(400, false)).await;
    // It answers no heartbeat.
    alice.end().await;
    eventually("it has no ID", || metric(&server, "crolang_nodes") == 0.0).await;
}
