//! Authorization takes its time, for each message another; still none overtakes another to the same
//! receiver, every event gets its one ack, and many calls run side by side.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crolang_broker::Server;
use serde_json::{Value, json};

use crate::support::{
    EVENTS, Frame, Hook, Node, RedisServer, Reply, SOON, back_at_the_start, eventually, metric,
    start_replica, start_with_variables, unix_time,
};

const URL: &str = "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL";

/// How many calls of one connection run side by side.
const SIDE_BY_SIDE: usize = 64;

fn yes() -> Value {
    json!({"authorized": true})
}

async fn start(hook: &Hook) -> Server {
    start_with_variables(&[(URL, &hook.url("/")), ("WEBHOOK_TIMEOUT_MS", "30000")]).await
}

/// Gives 0 to 100 ms, another time at each call. The seed is told, so that a run that fails can
/// be run again.
fn random_delays() -> impl Fn() -> Duration + Send + Sync {
    let seed = unix_time().subsec_nanos();
    println!("delays from seed {seed}");
    let calls = AtomicU64::new(u64::from(seed));
    move || {
        let n = calls.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Duration::from_millis((n >> 40) % 101)
    }
}

fn message(n: usize, to: &str) -> String {
    format!(r#"42{n}["SOCKET_MSG_EXCHANGE","{{\"to\":\"{to}\",\"n\":{n}}}"]"#)
}

/// Reads acks until there are this many; each ID may come once. Heartbeats are not answered: the
/// answer could end up in the middle of what is being sent.
async fn acks(sender: &mut Node, wanted: usize) -> HashMap<usize, String> {
    let mut acks = HashMap::new();
    while acks.len() < wanted {
        let Frame::Text(text) = sender.next_unanswered().await else {
            panic!("the connection ended")
        };
        let ack = text.strip_prefix("43").and_then(|ack| ack.split_once('['));
        let (id, ack) = ack.unwrap_or_else(|| panic!("no ack: {text}"));
        let twice = acks.insert(id.parse().unwrap(), format!("[{ack}"));
        assert!(twice.is_none(), "{id} is acked twice");
    }
    acks
}

const BURST: usize = 400;
const RECEIVERS: [&str; 5] = ["bob", "carol", "refused", "nobody", "bob"];

/// All seven events in turn, to all receivers in turn; each tenth asks for no ack.
fn burst(from: &str) -> Vec<String> {
    let events = (0..BURST).map(|n| {
        let name = EVENTS[n % EVENTS.len()];
        let to = RECEIVERS[n % RECEIVERS.len()];
        let ack = if n % 10 == 9 { String::new() } else { n.to_string() };
        let payload = format!(r#"{{\"to\":\"{to}\",\"from\":\"{from}\",\"n\":{n}}}"#);
        format!(r#"42{ack}["{name}","{payload}"]"#)
    });
    let mut packets: Vec<_> = events.collect();
    // Mistakes and questions in between are answered too.
    packets.insert(BURST / 2, "425000[\"SOCKET_MSG_EXCHANGE\",\"{}\"]".into());
    let question = r#"425001["ARE_NODES_CONNECTED_TO_BROKER","{\"ids\":[]}"]"#;
    packets.insert(BURST / 3, question.into());
    packets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_answers_keep_the_order_and_every_event_gets_one_ack() {
    let delay = random_delays();
    let hook = Hook::start(move |call| {
        Reply::After(delay(), json!({"authorized": call.body["to"] != "refused"}))
    })
    .await;
    let server = start(&hook).await;
    let address = server.address();
    let mut refused = Node::connect(address, "refused").await;
    let mut readers = Vec::new();
    for (id, share) in [("bob", 2), ("carol", 1)] {
        let mut node = Node::connect(address, id).await;
        readers.push(tokio::spawn(async move {
            let mut last: HashMap<String, usize> = HashMap::new();
            for _ in 0..2 * share * BURST / RECEIVERS.len() {
                let event: (String, String) =
                    serde_json::from_str(node.text().await.strip_prefix("42").unwrap()).unwrap();
                let payload: Value = serde_json::from_str(&event.1).unwrap();
                let n = payload["n"].as_u64().unwrap() as usize;
                assert_eq!((payload["to"].as_str(), RECEIVERS[n % 5]), (Some(id), id));
                assert_eq!(event.0, EVENTS[n % EVENTS.len()]);
                let before = last.insert(payload["from"].to_string(), n);
                assert!(before.is_none_or(|before| before < n), "{n} came after {before:?}");
            }
            node
        }));
    }
    let mut senders = Vec::new();
    for id in ["alice", "dave"] {
        let mut node = Node::connect(address, id).await;
        senders.push(tokio::spawn(async move {
            node.send_all(&burst(id)).await;
            let acks = acks(&mut node, BURST - BURST / 10 + 2).await;
            (node, acks)
        }));
    }
    // What asks for no ack may still wait, and would be lost with its sender.
    let mut done = Vec::new();
    for sender in senders {
        let (mut node, acks) = sender.await.unwrap();
        for (n, ack) in acks {
            let expected = match (n, RECEIVERS[n % RECEIVERS.len()]) {
                (5000, _) => "[\"ERROR\"]",
                (5001, _) => "[\"{\\\"results\\\":[]}\"]",
                (_, "nobody") => "[\"NOT_CONNECTED\"]",
                (_, "refused") => "[\"UNAUTHORIZED\"]",
                _ => "[\"OK\"]",
            };
            assert_eq!(ack, expected, "{n}");
        }
        // No ack is left over: the next one is that of the next question.
        assert_eq!(node.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]");
        done.push(node);
    }
    for reader in readers {
        reader.await.unwrap();
    }
    // Nothing reached the one that was refused: the first thing that comes is this.
    hook.answer(|_| yes());
    refused.send(r#"421["SOCKET_MSG_EXCHANGE","{\"to\":\"refused\",\"own\":1}"]"#).await;
    assert!(refused.text().await.contains("own"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_one_connection_run_side_by_side() {
    let hook = Hook::start(|_| Reply::After(Duration::from_millis(200), yes())).await;
    let server = start(&hook).await;
    let mut bob = Node::connect(server.address(), "bob").await;
    let mut alice = Node::connect(server.address(), "alice").await;
    for (messages, limit) in [(SIDE_BY_SIDE, Duration::from_secs(1)), (4 * SIDE_BY_SIDE, SOON)] {
        let began = Instant::now();
        let all: Vec<_> = (0..messages).map(|n| message(n, "bob")).collect();
        alice.send_all(&all).await;
        for n in 0..messages {
            assert!(bob.text().await.contains(&format!("\\\"n\\\":{n}}}")));
        }
        assert!(acks(&mut alice, messages).await.values().all(|ack| ack == "[\"OK\"]"));
        assert!(began.elapsed() < limit, "{messages} took {:?}", began.elapsed());
    }
    assert_eq!(hook.most_in_flight(), SIDE_BY_SIDE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_answer_for_one_receiver_holds_up_nothing_for_others() {
    let redis = RedisServer::start().await;
    let hook = Hook::start(|call| match call.body["to"].as_str() {
        Some("hanging") => Reply::After(Duration::from_secs(3), yes()),
        _ => Reply::Json(yes()),
    })
    .await;
    let url = hook.url("/");
    let [a, b] = [
        start_replica(&redis.url(), &[(URL, &url)]).await,
        start_replica(&redis.url(), &[(URL, &url)]).await,
    ];
    let mut hanging = Node::connect(a.address(), "hanging").await;
    let mut here = Node::connect(a.address(), "here").await;
    let mut there = Node::connect(b.address(), "there").await;
    let mut alice = Node::connect(a.address(), "alice").await;
    let began = Instant::now();
    let waiting: Vec<_> = (0..SIDE_BY_SIDE / 2).map(|n| message(n, "hanging")).collect();
    alice.send_all(&waiting).await;
    hook.called(waiting.len()).await;
    for n in 100..110 {
        for (id, receiver) in [("here", &mut here), ("there", &mut there)] {
            alice.send(&message(n, id)).await;
            assert!(receiver.text().await.contains(&format!("\\\"n\\\":{n}}}")));
            assert_eq!(alice.text().await, format!("43{n}[\"OK\"]"));
        }
        let presence = alice.ask("ARE_NODES_CONNECTED_TO_BROKER", r#"{"ids":["there"]}"#).await;
        assert!(presence.contains(r#"\"connected\":true"#), "{presence}");
        assert_eq!(alice.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // What waited arrives all the same, in order.
    for n in 0..waiting.len() {
        assert!(hanging.text().await.contains(&format!("\\\"n\\\":{n}}}")));
    }
    assert!(acks(&mut alice, waiting.len()).await.values().all(|ack| ack == "[\"OK\"]"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_an_attempt_at_once_arrives_behind_it() {
    let delay = random_delays();
    let hook = Hook::start(move |_| Reply::After(delay(), yes())).await;
    let server = start(&hook).await;
    let mut bob = Node::connect(server.address(), "bob").await;
    let mut alice = Node::connect(server.address(), "alice").await;
    const ICE: &str = "ICE_CANDIDATES_EXCHANGE_INITIATOR_TO_RESPONDER";
    for round in 0..5 {
        let packets: Vec<_> = (0..10)
            .map(|n| {
                let name = if n == 0 { "CONNECTION_ATTEMPT" } else { ICE };
                format!(r#"42{n}["{name}","{{\"to\":\"bob\",\"n\":{n},\"round\":{round}}}"]"#)
            })
            .collect();
        alice.send_all(&packets).await;
        for (n, packet) in packets.iter().enumerate() {
            assert_eq!(bob.text().await, packet.replacen(&format!("42{n}["), "42[", 1));
        }
        assert!(acks(&mut alice, 10).await.values().all(|ack| ack == "[\"OK\"]"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_that_waits_for_answers_is_slowed_down_and_loses_nothing() {
    const FLOOD: usize = 3_000;
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    let mut bob = Node::connect(server.address(), "bob").await;
    let mut alice = Node::connect(server.address(), "alice").await;
    hook.hold();
    let mut stream = alice.second_stream();
    let filler = "x".repeat(3_000);
    let flood: Vec<u8> = (0..FLOOD)
        .flat_map(|n| {
            let text = message(n, "bob")
                .replace("\\\"n\\\"", &format!("\\\"s\\\":\\\"{filler}\\\",\\\"n\\\""));
            crate::support::frame(0x81, text.as_bytes())
        })
        .collect();
    let mut sending = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut stream, &flood).await.unwrap();
    });
    hook.called(SIDE_BY_SIDE).await;
    // While no call is answered, the broker must not read 9 MB that it could only store.
    let read_all = tokio::time::timeout(Duration::from_secs(1), &mut sending).await;
    assert!(read_all.is_err(), "everything was read while nothing was answered");
    assert_eq!(hook.count(), SIDE_BY_SIDE);
    hook.release();
    let reading = tokio::spawn(async move {
        for n in 0..FLOOD {
            assert!(bob.text().await.ends_with(&format!("\\\"n\\\":{n}}}\"]")));
        }
    });
    let acks = acks(&mut alice, FLOOD).await;
    assert!(acks.values().all(|ack| ack == "[\"OK\"]"));
    reading.await.unwrap();
    sending.await.unwrap();
    assert!(hook.most_in_flight() <= SIDE_BY_SIDE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_messages_that_wait_for_answers_count_in_bytes() {
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    hook.hold();
    let mut stream = alice.second_stream();
    let filler = "x".repeat(100_000);
    let long = move |n: usize| {
        format!(r#"42{n}["SOCKET_MSG_EXCHANGE","{{\"to\":\"{n}\",\"s\":\"{filler}\"}}"]"#)
    };
    let sending = tokio::spawn(async move {
        for n in 0..20 {
            let frame = crate::support::frame(0x81, long(n).as_bytes());
            tokio::io::AsyncWriteExt::write_all(&mut stream, &frame).await.unwrap();
        }
    });
    // 256 KB and the message that exceeds them, of which there are 64 at a time if they are short.
    hook.called(3).await;
    let more = tokio::time::timeout(Duration::from_secs(1), hook.called(5)).await;
    assert!(more.is_err(), "{} messages wait", hook.count());
    hook.release();
    let acks = acks(&mut alice, 20).await;
    assert!(acks.values().all(|ack| ack == "[\"NOT_CONNECTED\"]"));
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_with_calls_under_way_leaves_nothing_behind() {
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    let bob = Node::connect(server.address(), "bob").await.live();
    for close in ["41", ""] {
        hook.hold();
        let before = hook.count();
        let mut alice = Node::connect(server.address(), "alice").await;
        let all: Vec<_> = (0..SIDE_BY_SIDE / 2).map(|n| message(n, "bob")).collect();
        alice.send_all(&all).await;
        hook.called(before + all.len()).await;
        if !close.is_empty() {
            alice.send(close).await;
        }
        drop(alice);
        // The ID is free at once, while the calls still wait.
        let began = Instant::now();
        eventually("alice is gone", || metric(&server, "crolang_nodes") == 1.0).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        Node::connect(server.address(), "alice").await;
        hook.release();
        eventually("alice is gone again", || metric(&server, "crolang_nodes") == 1.0).await;
    }
    drop(bob);
    back_at_the_start(&server).await;
}

/// A node with more calls under way than run side by side: the broker reads no more of it for now.
async fn waiting_in_line(hook: &Hook, server: &Server) -> Node {
    hook.hold();
    let mut alice = Node::connect(server.address(), "alice").await;
    let all: Vec<_> = (0..8 * SIDE_BY_SIDE).map(|n| message(n, "bob")).collect();
    alice.send_all(&all).await;
    hook.called(SIDE_BY_SIDE).await;
    alice
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_node_that_waits_in_line_keeps_its_id() {
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    let alice = waiting_in_line(&hook, &server).await.live();
    let twin = Node::try_connect(server.address(), "alice").await.err();
    assert_eq!(twin.as_deref(), Some(r#"44{"message":"client already connected"}"#));
    assert!(!alice.is_over());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_waits_in_line_and_leaves_is_gone_at_once() {
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    for linger in [None, Some(Duration::ZERO)] {
        let alice = waiting_in_line(&hook, &server).await;
        socket2::SockRef::from(&alice.stream).set_linger(linger).unwrap();
        drop(alice);
        let began = Instant::now();
        eventually("alice is gone", || metric(&server, "crolang_nodes") == 0.0).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        hook.release();
        back_at_the_start(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_do_not_hold_up_the_shutdown() {
    let hook = Hook::start(|_| yes()).await;
    let server = start(&hook).await;
    hook.hold();
    let mut alice = Node::connect(server.address(), "alice").await;
    let all: Vec<_> = (0..500).map(|n| message(n, "alice")).collect();
    alice.send_all(&all).await;
    hook.called(SIDE_BY_SIDE).await;
    let ended = tokio::spawn(async move { alice.end().await });
    let began = Instant::now();
    server.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    ended.await.unwrap();
}
