//! What one node sends to another arrives in the order in which it was sent, whatever replica the
//! receiver is on, and also while it moves.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crolang_broker::Server;
use rand::RngExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::replicas_relay::{ask, to, until_free};
use crate::support::{
    EVENTS, Frame, Hook, Node, RedisServer, Reply, SOON, eventually, metric, seeded, start_replica,
};

const AUTHORIZATION: &str = "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL";
const MESSAGE: &str = "SOCKET_MSG_EXCHANGE";

/// Random numbers for many tasks.
pub struct Random(AtomicU64);

impl Random {
    pub fn new() -> Self {
        Self(AtomicU64::new(seeded().random()))
    }

    /// A number below `limit`.
    pub fn below(&self, limit: u64) -> u64 {
        // SplitMix64.
        let mut n = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (n ^ (n >> 31)) % limit
    }
}

/// A webhook that says yes after 0 to so many milliseconds, another time at each call.
async fn slow_hook(random: &Arc<Random>, most_ms: u64) -> Hook {
    let random = random.clone();
    Hook::start(move |_| {
        Reply::After(Duration::from_millis(random.below(most_ms + 1)), json!({"authorized": true}))
    })
    .await
}

async fn three(redis: &RedisServer, variables: &[(&str, &str)]) -> [Server; 3] {
    [
        start_replica(&redis.url(), variables).await,
        start_replica(&redis.url(), variables).await,
        start_replica(&redis.url(), variables).await,
    ]
}

/// How many messages between replicas had no answer in time.
fn unanswered(replicas: &[Server]) -> usize {
    let name = "crolang_replica_messages_total{outcome=\"unanswered\"}";
    replicas.iter().map(|replica| metric(replica, name) as usize).sum()
}

fn packet(n: usize, to: &str, from: &str) -> String {
    let event = EVENTS[n % EVENTS.len()];
    format!(r#"42{n}["{event}","{{\"to\":\"{to}\",\"from\":\"{from}\",\"n\":{n}}}"]"#)
}

/// Reads one ack: its ID and its word.
async fn ack(node: &mut Node) -> (usize, String) {
    let Frame::Text(text) = node.next_unanswered().await else { panic!("the connection ended") };
    let ack = text.strip_prefix("43").and_then(|ack| ack.split_once("[\""));
    let (id, word) = ack.unwrap_or_else(|| panic!("no ack: {text}"));
    (id.parse().unwrap(), word.trim_end_matches("\"]").to_owned())
}

/// Who sent an event, and the number in it.
fn sent_by(text: &str) -> (String, usize) {
    let event: (String, String) = serde_json::from_str(text.strip_prefix("42").unwrap()).unwrap();
    let payload: Value = serde_json::from_str(&event.1).unwrap();
    let n = payload["n"].as_u64().unwrap() as usize;
    assert_eq!(event.0, EVENTS[n % EVENTS.len()]);
    (payload["from"].as_str().unwrap().to_owned(), n)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursts_to_receivers_here_and_elsewhere_keep_their_order_while_answers_are_late() {
    const BURST: usize = 1000;
    const RECEIVERS: [&str; 4] = ["bob", "carol", "dan", "bob"];
    let redis = RedisServer::start().await;
    let random = Arc::new(Random::new());
    let hook = slow_hook(&random, 300).await;
    let url = hook.url("/");
    // All calls of this test run beside each other.
    let variables = [(AUTHORIZATION, url.as_str()), ("WEBHOOK_TIMEOUT_MS", "30000")];
    let replicas = three(&redis, &variables).await;
    let mut readers = Vec::new();
    let came = Arc::new(AtomicUsize::new(0));
    for (replica, id) in replicas.iter().zip(["bob", "carol", "dan"]) {
        let mut node = Node::connect(replica.address(), id).await;
        let came = came.clone();
        readers.push(tokio::spawn(async move {
            let mut last = HashMap::new();
            loop {
                let (from, n) = sent_by(&node.text().await);
                came.fetch_add(1, Ordering::SeqCst);
                assert_eq!(RECEIVERS[n % RECEIVERS.len()], id);
                let before = last.insert(from, n);
                assert!(before.is_none_or(|before| before < n), "{n} came behind {before:?}");
            }
        }));
    }
    let mut senders = Vec::new();
    for (replica, id) in replicas.iter().zip(["alice", "erin"]) {
        let mut node = Node::connect(replica.address(), id).await;
        senders.push(tokio::spawn(async move {
            let packets = (0..BURST).map(|n| packet(n, RECEIVERS[n % RECEIVERS.len()], id));
            node.send_all(&packets.collect::<Vec<_>>()).await;
            let (mut acked, mut errors) = (vec![false; BURST], 0);
            for _ in 0..BURST {
                let (n, word) = ack(&mut node).await;
                assert!(matches!(word.as_str(), "OK" | "ERROR"), "{n} {word}");
                assert!(!std::mem::replace(&mut acked[n], true), "{n} is acked twice");
                errors += usize::from(word == "ERROR");
            }
            errors
        }));
    }
    let mut errors = 0;
    for sender in senders {
        errors += sender.await.unwrap();
    }
    assert_eq!(errors, unanswered(&replicas), "on a busy machine an answer may come too late");
    let all_came = || came.load(Ordering::SeqCst) >= 2 * BURST - errors;
    eventually("all that was taken comes", all_came).await;
    assert!(errors < BURST && readers.iter().all(|reader| !reader.is_finished()));
    readers.iter().for_each(JoinHandle::abort);
}

/// Bob moves from replica to replica while alice and erin send to him, each from another one.
async fn order_holds_while_the_receiver_moves(most_ms: Option<u64>) {
    const BURST: usize = 100;
    const MOVES: usize = 15;
    let redis = RedisServer::start().await;
    let random = Arc::new(Random::new());
    let hook = slow_hook(&random, most_ms.unwrap_or(0)).await;
    let url = hook.url("/");
    let variables = [(AUTHORIZATION, url.as_str())];
    let variables = if most_ms.is_some() { &variables[..] } else { &[] };
    let replicas = three(&redis, variables).await;
    let addresses = replicas.each_ref().map(Server::address);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut senders = Vec::new();
    for (address, id) in addresses.into_iter().zip(["alice", "erin"]) {
        let mut node = Node::connect(address, id).await;
        let is_over = is_over.clone();
        senders.push(tokio::spawn(async move {
            let (mut n, mut taken, mut errors) = (0, 0, 0);
            while !is_over.load(Ordering::Relaxed) {
                let packets: Vec<_> = (n..n + BURST).map(|n| packet(n, "bob", id)).collect();
                node.send_all(&packets).await;
                let mut acked = [false; BURST];
                for _ in 0..BURST {
                    let (id, word) = ack(&mut node).await;
                    assert!(
                        matches!(word.as_str(), "OK" | "NOT_CONNECTED" | "ERROR"),
                        "{id} {word}"
                    );
                    assert!(!std::mem::replace(&mut acked[id - n], true), "{id} is acked twice");
                    taken += usize::from(word == "OK");
                    errors += usize::from(word == "ERROR");
                }
                n += BURST;
            }
            (taken, errors)
        }));
    }
    let mut last: HashMap<String, usize> = HashMap::new();
    let mut came = 0;
    for _ in 0..MOVES {
        let address = addresses[random.below(3) as usize];
        let mut bob = loop {
            match Node::try_connect(address, "bob").await {
                Ok(bob) => break bob,
                Err(answer) => assert!(answer.starts_with("HTTP/1.1 503"), "{answer}"),
            }
        };
        for _ in 0..=random.below(150) {
            let (from, n) = sent_by(&bob.text().await);
            let before = last.insert(from, n);
            assert!(before.is_none_or(|before| before < n), "{n} came behind {before:?}");
            came += 1;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let (mut taken, mut errors) = (0, 0);
    for sender in senders {
        let (its_taken, its_errors) =
            tokio::time::timeout(2 * SOON, sender).await.unwrap().unwrap();
        taken += its_taken;
        errors += its_errors;
    }
    assert_eq!(errors, unanswered(&replicas), "on a busy machine an answer may come too late");
    // What was taken for bob and not read was on its way when he left.
    assert!(last.len() == 2 && came <= taken + errors, "{came} of {taken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_holds_while_the_receiver_moves() {
    order_holds_while_the_receiver_moves(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_holds_while_the_receiver_moves_and_answers_are_late() {
    order_holds_while_the_receiver_moves(Some(30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_moves_is_found_where_it_is() {
    let redis = RedisServer::start().await;
    let replicas = [
        start_replica(&redis.url(), &[]).await,
        start_replica(&redis.url(), &[]).await,
        start_replica(&redis.url(), &[]).await,
    ];
    let [a, b, c] = replicas.each_ref().map(Server::address);
    let mut alice = Node::connect(a, "alice").await;
    // To another replica, to the same one again, to the sender's own and away from there.
    for place in [b, c, c, a, b, a, a, c] {
        let mut bob = Node::connect(place, "bob").await;
        for event in EVENTS {
            assert_eq!(ask(&mut alice, event, "bob", &mut bob).await, "[\"OK\"]");
        }
        drop(bob);
        until_free(&redis, "bob").await;
        if place == c {
            assert_eq!(alice.ask(MESSAGE, &to("bob")).await, "[\"NOT_CONNECTED\"]");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_move_right_behind_a_message_is_followed() {
    let redis = RedisServer::start().await;
    let [a, b, c] = [
        start_replica(&redis.url(), &[]).await,
        start_replica(&redis.url(), &[]).await,
        start_replica(&redis.url(), &[]).await,
    ];
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut bob = Node::connect(b.address(), "bob").await;
    assert_eq!(ask(&mut alice, MESSAGE, "bob", &mut bob).await, "[\"OK\"]");
    drop(bob);
    until_free(&redis, "bob").await;
    let mut bob = Node::connect(c.address(), "bob").await;
    // A burst goes to where bob was and has to come here, in order.
    let burst: Vec<_> =
        (0..50).map(|n| format!(r#"42{n}["{MESSAGE}","{{\"to\":\"bob\",\"n\":{n}}}"]"#)).collect();
    alice.send_all(&burst).await;
    for (n, packet) in burst.iter().enumerate() {
        assert_eq!(bob.text().await, packet.replacen(&format!("42{n}["), "42[", 1));
    }
    for _ in &burst {
        assert!(alice.text().await.ends_with("[\"OK\"]"));
    }
}
