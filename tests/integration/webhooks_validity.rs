//! Which nodes may stay? The validity webhook's rounds, and how a node is disconnected.

use std::time::Duration;

use crolang_broker::Server;
use serde_json::{Value, json};

use crate::support::{
    Frame, Hook, Node, back_at_the_start, eventually, metric, start_with_variables,
};

const URL: &str = "NODES_VALIDITY_CHECK_WEBHOOK_URL";

async fn start(hook: &Hook, interval_ms: &str) -> Server {
    start_with_variables(&[
        (URL, &hook.url("/validity")),
        ("NODES_STATUS_CHECK_INTERVAL_MS", interval_ms),
        ("WEBHOOK_TIMEOUT_MS", "30000"),
    ])
    .await
}

fn invalid(ids: &[&str]) -> Value {
    json!({"invalidNodesIds": ids})
}

/// The IDs that a call asks about.
fn ids(body: &Value) -> Vec<String> {
    let mut ids: Vec<String> = serde_json::from_value(body["connectedNodesIds"].clone()).unwrap();
    ids.sort();
    ids
}

/// Waits for a round that begins after this moment.
async fn next_round(hook: &Hook) -> Value {
    let before = hook.count();
    hook.called(before + 1).await;
    hook.bodies()[before].clone()
}

/// Reads what a node sees that is disconnected: the disconnect packet, then the end.
async fn assert_thrown_out(node: &mut Node) {
    assert_eq!(node.text().await, "41");
    assert!(matches!(node.next().await, Frame::End | Frame::Close));
}

async fn assert_relays(sender: &mut Node, to: &str, receiver: &mut Node) {
    let ack = sender.ask("SOCKET_MSG_EXCHANGE", &format!("{{\"to\":\"{to}\"}}")).await;
    assert_eq!(ack, "[\"OK\"]");
    assert!(receiver.text().await.starts_with("42[\"SOCKET_MSG_EXCHANGE\","));
}

#[tokio::test]
async fn it_is_asked_about_all_who_are_there_again_and_again() {
    let hook = Hook::start(|_| invalid(&[])).await;
    let server = start(&hook, "100").await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut bob = Node::connect(server.address(), "bob").await;
    next_round(&hook).await;
    assert_eq!(ids(&next_round(&hook).await), ["alice", "bob"]);
    let call = hook.calls().pop().unwrap();
    assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", "/validity"));
    assert_eq!(call.header("content-type"), Some("application/json"));
    assert_eq!(call.body.as_object().unwrap().len(), 1);
    assert_relays(&mut alice, "bob", &mut bob).await;
    drop(bob);
    eventually("bob is gone", || server.connections() == 1).await;
    next_round(&hook).await;
    assert_eq!(ids(&next_round(&hook).await), ["alice"]);
    // About the interval apart: not twice at once, not half as often.
    let times: Vec<_> = hook.calls().iter().map(|call| call.at).collect();
    let mut pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    pauses.sort();
    assert!(pauses[0] > Duration::from_millis(50), "{pauses:?}");
    assert!(pauses[pauses.len() / 2] < Duration::from_millis(200), "{pauses:?}");
}

#[tokio::test]
async fn an_invalid_node_is_disconnected_for_good_and_nobody_else() {
    let hook = Hook::start(|_| invalid(&[])).await;
    let server = start(&hook, "50").await;
    let address = server.address();
    let mut alice = Node::connect(address, "alice").await;
    let mut bob = Node::connect(address, "bob").await;
    let mut carol = Node::connect(address, "carol").await;
    hook.answer(|_| invalid(&["carol", "carol", "nobody", "Alice", "", " bob"]));
    assert_thrown_out(&mut carol).await;
    eventually("carol is gone", || metric(&server, "crolang_nodes") == 2.0).await;
    let before = hook.count();
    hook.called(before + 2).await;
    assert_relays(&mut alice, "bob", &mut bob).await;
    let ack = alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"carol"}"#).await;
    assert_eq!(ack, "[\"NOT_CONNECTED\"]");
    // All at once, too.
    hook.answer(|call| json!({"invalidNodesIds": call.body["connectedNodesIds"]}));
    assert_thrown_out(&mut alice).await;
    assert_thrown_out(&mut bob).await;
    back_at_the_start(&server).await;
    // A node that is valid again may reconnect.
    hook.answer(|_| invalid(&[]));
    let mut carol = Node::connect(address, "carol").await;
    let before = hook.count();
    hook.called(before + 2).await;
    assert_eq!(carol.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]");
}

#[tokio::test]
async fn what_was_sent_to_it_before_arrives_before_the_disconnect() {
    const MESSAGES: usize = 1_000;
    let hook = Hook::start(|_| invalid(&["bob"])).await;
    hook.hold();
    let server = start(&hook, "50").await;
    let mut bob = Node::connect(server.address(), "bob").await;
    let mut alice = Node::connect(server.address(), "alice").await;
    // More than the kernel holds for a node that does not read: the rest still has to be sent.
    for _ in 0..MESSAGES {
        let ack = alice.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"bob"}"#).await;
        assert_eq!(ack, "[\"OK\"]");
    }
    hook.release();
    eventually("bob is gone", || metric(&server, "crolang_nodes") == 1.0).await;
    // The heartbeat among them is answered, although the broker has closed its side by now.
    for n in 0..MESSAGES {
        let text = bob.text().await;
        assert!(text.starts_with("42[\"SOCKET_MSG_EXCHANGE\","), "{n}: {text}");
    }
    assert_thrown_out(&mut bob).await;
}

#[tokio::test]
async fn a_node_that_does_not_read_is_thrown_out_too() {
    let hook = Hook::start(|_| invalid(&[])).await;
    let server = start_with_variables(&[
        (URL, &hook.url("/")),
        ("NODES_STATUS_CHECK_INTERVAL_MS", "50"),
        ("WRITE_TIMEOUT_MS", "1000"),
    ])
    .await;
    let mut bob = Node::connect(server.address(), "bob").await;
    socket2::SockRef::from(&bob.stream).set_recv_buffer_size(16 * 1024).unwrap();
    let mut alice = Node::connect(server.address(), "alice").await;
    let text = format!(r#"{{"to":"bob","s":"{}"}}"#, "x".repeat(100_000));
    while alice.ask("SOCKET_MSG_EXCHANGE", &text).await == "[\"OK\"]" {}
    hook.answer(|_| invalid(&["bob"]));
    eventually("bob is gone", || metric(&server, "crolang_nodes") == 1.0).await;
    Node::connect(server.address(), "carol").await;
    bob.end().await;
}

#[tokio::test]
async fn a_malformed_answer_throws_nobody_out() {
    let hook = Hook::start(|_| invalid(&[])).await;
    let server = start(&hook, "20").await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let malformed = [
        json!({}),
        json!({"invalidNodesIds": null}),
        json!({"invalidNodesIds": "alice"}),
        json!({"invalidNodesIds": {"alice": true}}),
        json!({"invalidNodesIds": true}),
        json!({"invalidNodesIds": ["alice", 1]}),
        json!({"invalidNodesIds": [["alice"]]}),
        json!({"InvalidNodesIds": ["alice"]}),
        json!({"invalidNodesIds": [{"id": "alice"}]}),
    ];
    for answer in malformed {
        let reply = answer.clone();
        hook.answer(move |_| reply.clone());
        let before = hook.count();
        hook.called(before + 2).await;
        assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]", "{answer}");
        // A good round in between, as after many failures in a row nobody would be asked.
        hook.answer(|_| invalid(&[]));
        let before = hook.count();
        hook.called(before + 2).await;
    }
    hook.answer(|_| invalid(&["alice"]));
    assert_thrown_out(&mut alice).await;
}

#[tokio::test]
async fn many_nodes_are_asked_about_in_batches() {
    let hook = Hook::start(|_| invalid(&[])).await;
    let server = start_with_variables(&[
        (URL, &hook.url("/")),
        ("NODES_STATUS_CHECK_INTERVAL_MS", "200"),
        ("VALIDITY_CHECK_BATCH_SIZE", "3"),
    ])
    .await;
    let mut nodes = Vec::new();
    for n in 0..8 {
        nodes.push(Node::connect(server.address(), &format!("n{n}")).await);
    }
    // A round that began before the last one came is over after these.
    let before = hook.count();
    hook.called(before + 6).await;
    hook.answer(|call| {
        let asked = ids(&call.body);
        let odd = asked.iter().filter(|id| ["n1", "n3", "n5", "n7"].contains(&id.as_str()));
        json!({"invalidNodesIds": odd.collect::<Vec<_>>()})
    });
    for (n, node) in nodes.iter_mut().enumerate() {
        if n % 2 == 1 {
            assert_thrown_out(node).await;
        }
    }
    assert_eq!(metric(&server, "crolang_nodes"), 4.0);
    let sizes: Vec<_> = hook.bodies().iter().map(|body| ids(body).len()).collect();
    assert!(sizes.iter().all(|size| *size <= 3), "{sizes:?}");
    let asked: std::collections::HashSet<_> =
        hook.bodies()[before..].iter().flat_map(ids).collect();
    assert_eq!(asked.len(), 8, "everybody is asked about");
    for node in nodes.iter_mut().step_by(2) {
        assert_eq!(node.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]");
    }
}

#[tokio::test]
async fn a_node_that_left_and_came_back_during_the_call_stays() {
    let hook = Hook::start(|_| invalid(&[])).await;
    let server = start(&hook, "50").await;
    let alice = Node::connect(server.address(), "alice").await;
    let mut bob = Node::connect(server.address(), "bob").await;
    hook.hold();
    assert_eq!(ids(&next_round(&hook).await).len(), 2);
    let held = hook.count();
    drop(alice);
    let mut alice = Node::connect(server.address(), "alice").await;
    // Only the call that is under way says so; it was asked about the alice that left.
    let first = std::sync::atomic::AtomicBool::new(true);
    hook.answer(move |_| {
        let is_first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        invalid(if is_first { &["alice"] } else { &[] })
    });
    assert_eq!(hook.count(), held, "no other round begins while one is under way");
    hook.release();
    hook.called(held + 2).await;
    assert_relays(&mut bob, "alice", &mut alice).await;
    hook.answer(|_| invalid(&["alice"]));
    assert_thrown_out(&mut alice).await;
}

#[tokio::test]
async fn a_call_does_not_hold_up_anybody_nor_the_shutdown() {
    let hook = Hook::start(|_| invalid(&[])).await;
    let server = start(&hook, "20").await;
    let mut alice = Node::connect(server.address(), "alice").await;
    hook.hold();
    next_round(&hook).await;
    let mut bob = Node::connect(server.address(), "bob").await;
    for _ in 0..50 {
        assert_relays(&mut alice, "bob", &mut bob).await;
    }
    let began = std::time::Instant::now();
    server.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // A drain is no disconnect: the nodes are to come back.
    assert!(matches!(alice.next().await, Frame::End | Frame::Close));
    eventually("the call is given up", || hook.open_connections() == 0).await;
}
