//! Messages and questions between nodes on different replicas: acks, bytes, who is there, and
//! what it costs in Redis.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{EVENTS, Fault, Frame, Hook, Node, RedisServer, eventually, start_replica};

const AUTHORIZATION: &str = "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL";
const MESSAGE: &str = "SOCKET_MSG_EXCHANGE";
const ATTEMPT: &str = "CONNECTION_ATTEMPT";
const PRESENCE: &str = "ARE_NODES_CONNECTED_TO_BROKER";

/// Waits until nobody owns the ID.
pub async fn until_free(redis: &RedisServer, id: &str) {
    let key = format!("crolang:node:{id}");
    eventually("the ID is free", || redis.command(&["EXISTS", &key]) == "0").await;
}

/// The payload of a message to this node.
pub fn to(receiver: &str) -> String {
    format!(r#"{{"to":"{receiver}"}}"#)
}

/// Sends an event and returns its ack; what was delivered is read by its receiver.
pub async fn ask(sender: &mut Node, event: &str, id: &str, receiver: &mut Node) -> String {
    let ack = sender.ask(event, &to(id)).await;
    if ack == "[\"OK\"]" {
        assert!(receiver.text().await.starts_with(&format!("42[\"{event}\",")));
    }
    ack
}

/// What was called since `before`, without what only the tests call.
fn called_since(redis: &RedisServer, before: &HashMap<String, u64>) -> HashMap<String, u64> {
    let mut calls = redis.command_calls();
    calls.retain(|command, _| !matches!(command.as_str(), "auth" | "info"));
    for (command, count) in &mut calls {
        *count -= before.get(command).copied().unwrap_or(0);
    }
    calls
}

/// The most commands of one kind that the maintenance of one replica has sent since then.
fn maintenance(since: Instant) -> u64 {
    2 * since.elapsed().as_secs() + 4
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_arrives_byte_for_byte_and_is_acked() {
    let redis = RedisServer::start().await;
    let (a, b) = (start_replica(&redis.url(), &[]).await, start_replica(&redis.url(), &[]).await);
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut bob = Node::connect(b.address(), "bob%20%C3%BC:*").await;
    let arguments = [
        r#""{\"from\":\"alice\",\"to\":\"bob ü:*\",\"content\":\"hi\"}""#,
        r#""{\"to\":\"bob ü:*\",\"n\":1.0,\"m\":1e400,\"o\":-0.0}""#,
        r#""{\"to\":\"\\u0062ob ü:*\",\"s\":\"\\/\\ud800\"}""#,
        r#""{\"to\":\"bob ü:*\",\"s\":\"\ud800 \udfff \/ \u0041\"}""#,
        r#""  {\"to\" : \" bob ü:*\u00a0\ufeff\",\n\t\"x\":[[[]]] }  ""#,
        "\"{\\\"to\\\":\\\"bob ü:*\\\",\\\"s\\\":\\\"😀\u{2028}\u{7f}\\\"}\"",
    ];
    for event in EVENTS {
        for argument in arguments {
            let array = format!("[\"{}\",{argument}]", event);
            assert_eq!(alice.ask_raw(&array).await, "[\"OK\"]", "{array}");
            assert_eq!(bob.text().await, format!("42{array}"));
        }
        let array = format!(r#"["{}","{{\"to\":\"alice\"}}"]"#, event);
        assert_eq!(bob.ask_raw(&array).await, "[\"OK\"]");
        assert_eq!(alice.text().await, format!("42{array}"));
        // Without an ack, there is none: the next that comes is that of the next event.
        alice.send(&format!(r#"42["{}","{{\"to\":\"bob ü:*\"}}"]"#, event)).await;
        bob.text().await;
    }
    assert_eq!(alice.ask(MESSAGE, "{}").await, "[\"ERROR\"]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_pass_among_small_ones() {
    let redis = RedisServer::start().await;
    let (a, b) = (start_replica(&redis.url(), &[]).await, start_replica(&redis.url(), &[]).await);
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut bob = Node::connect(b.address(), "bob").await;
    for size in [65_535, 65_536, 270_000, 900_000] {
        for size in [size, 1, 300_000, 2] {
            let filler = "x".repeat(size);
            let array = format!(r#"["{MESSAGE}","{{\"to\":\"bob\",\"s\":\"{filler}\"}}"]"#);
            alice.send(&format!("421{array}")).await;
            assert!(bob.text().await == format!("42{array}"), "{size}");
            assert_eq!(alice.text().await, "431[\"OK\"]", "{size}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_ack_comes_for_nodes_on_other_replicas() {
    let redis = RedisServer::start().await;
    let hook = Hook::start(|call| json!({"authorized": call.body["to"] != "refused"})).await;
    let url = hook.url("/");
    let a = start_replica(&redis.url(), &[(AUTHORIZATION, &url)]).await;
    let (b, c) = (
        start_replica(&redis.url(), &[]).await,
        start_replica(
            &redis.url(),
            &[("P2P_CONNECTION_ENABLED", "false"), ("WEBSOCKET_RELAY_ENABLED", "false")],
        )
        .await,
    );
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut bob = Node::connect(b.address(), "bob").await;
    let mut refused = Node::connect(b.address(), "refused").await;
    let mut disabled = Node::connect(c.address(), "disabled").await;
    for event in EVENTS {
        assert_eq!(ask(&mut alice, event, "bob", &mut bob).await, "[\"OK\"]");
        assert_eq!(alice.ask(event, &to("nobody")).await, "[\"NOT_CONNECTED\"]");
        assert_eq!(alice.ask(event, &to("refused")).await, "[\"UNAUTHORIZED\"]");
        assert_eq!(disabled.ask(event, &to("bob")).await, "[\"DISABLED\"]");
        let payload = r#"{"to":"bob","from":"bob"}"#;
        assert_eq!(alice.ask(event, payload).await, "[\"ERROR\"]");
        hook.fault(Fault::Closed, Value::Null).await;
        assert_eq!(alice.ask(event, &to("disabled")).await, "[\"ERROR\"]", "no authorization");
        hook.answer(|call| json!({"authorized": call.body["to"] != "refused"}));
    }
    // Nodes that were to get nothing got nothing: this is the first that comes.
    for (id, node) in [("refused", &mut refused), ("disabled", &mut disabled)] {
        bob.send(&format!(r#"42["{MESSAGE}","{{\"to\":\"{id}\",\"last\":1}}"]"#)).await;
        assert!(node.text().await.contains("last"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_receiver_on_another_replica_costs_its_senders_an_error_and_loses_nothing_acked() {
    let redis = RedisServer::start().await;
    let (a, b) = (start_replica(&redis.url(), &[]).await, start_replica(&redis.url(), &[]).await);
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut bob = Node::connect(b.address(), "bob").await;
    socket2::SockRef::from(&bob.stream).set_recv_buffer_size(16 * 1024).unwrap();
    let filler = "x".repeat(100_000);
    let array =
        |n: usize| format!(r#"["{MESSAGE}","{{\"to\":\"bob\",\"n\":{n},\"s\":\"{filler}\"}}"]"#);
    for round in 0..2 {
        let mut acked = Vec::new();
        for n in 0..500 {
            match alice.ask_raw(&array(n)).await.as_str() {
                "[\"OK\"]" => acked.push(n),
                "[\"ERROR\"]" => break,
                other => panic!("{other}"),
            }
        }
        assert!(!acked.is_empty() && acked.len() < 500, "round {round}: {}", acked.len());
        for n in acked {
            assert!(bob.text().await == format!("42{}", array(n)), "{round} {n}");
        }
    }
    assert_eq!(ask(&mut alice, MESSAGE, "bob", &mut bob).await, "[\"OK\"]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_knows_the_nodes_of_all_replicas_by_one_command() {
    const QUESTIONS: u64 = 200;
    let redis = RedisServer::start().await;
    let [a, b, c] = [
        start_replica(&redis.url(), &[]).await,
        start_replica(&redis.url(), &[]).await,
        start_replica(&redis.url(), &[]).await,
    ];
    let mut alice = Node::connect(a.address(), "alice").await;
    let bob = Node::connect(b.address(), "bob").await;
    let _carol = Node::connect(c.address(), "carol").await;
    let question = r#"{"ids":["carol"," bob\ufeff","nobody","alice","bob","nobody","*"]}"#;
    let answer = |bob: bool| {
        let ids = ["carol", "bob", "nobody", "alice", "bob", "nobody", "*"];
        let is_there = |id| matches!(id, "carol" | "alice") || (id == "bob" && bob);
        let results = ids.map(|id| json!({"id": id, "connected": is_there(id)}));
        serde_json::to_string(&[json!({"results": results}).to_string()]).unwrap()
    };
    // The first question also asks whether the replicas are alive.
    assert_eq!(alice.ask(PRESENCE, question).await, answer(true));
    let (began, before) = (Instant::now(), redis.command_calls());
    for _ in 0..QUESTIONS {
        assert_eq!(alice.ask(PRESENCE, question).await, answer(true));
    }
    let calls = called_since(&redis, &before);
    let mgets = calls["mget"];
    assert!((QUESTIONS..=QUESTIONS + 3 * maintenance(began)).contains(&mgets), "{calls:?}");
    let others: u64 = calls.values().sum::<u64>() - mgets;
    assert!(others <= 6 * maintenance(began), "{calls:?}");
    drop(bob);
    until_free(&redis, "bob").await;
    assert_eq!(alice.ask(PRESENCE, question).await, answer(false));
    let _bob = Node::connect(c.address(), "bob").await;
    assert_eq!(alice.ask(PRESENCE, question).await, answer(true));
    let many: Vec<_> = (0..1_001).collect();
    for (ids, is_error) in [(&many[..1_000], false), (&many[..], true)] {
        let ids: Vec<_> = ids.iter().map(|n| format!("n{n}")).collect();
        let answer = alice.ask(PRESENCE, &json!({"ids": ids}).to_string()).await;
        assert_eq!(answer == "[\"ERROR\"]", is_error);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_one_replica_cost_redis_nothing() {
    const ROUNDS: usize = 10;
    const BURST: usize = 1000;
    let redis = RedisServer::start().await;
    let [a, b] = [start_replica(&redis.url(), &[]).await, start_replica(&redis.url(), &[]).await];
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut bob = Node::connect(a.address(), "bob").await;
    let _carol = Node::connect(b.address(), "carol").await;
    let (began, before) = (Instant::now(), redis.command_calls());
    for _ in 0..ROUNDS {
        let all: Vec<_> = (0..BURST)
            .map(|n| {
                let event = EVENTS[n % EVENTS.len()];
                format!(r#"42{n}["{event}","{{\"to\":\"bob\",\"n\":{n}}}"]"#)
            })
            .collect();
        alice.send_all(&all).await;
        for n in 0..BURST {
            bob.text().await;
            assert_eq!(alice.text().await, format!("43{n}[\"OK\"]"));
        }
        let presence = alice.ask(PRESENCE, r#"{"ids":["alice","bob","alice"]}"#).await;
        assert!(!presence.contains("false"), "{presence}");
    }
    let calls = called_since(&redis, &before);
    assert!(calls.values().sum::<u64>() <= 2 * 4 * maintenance(began), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_receiver_on_another_replica_costs_one_message_there_and_one_back() {
    const MESSAGES: u64 = 1000;
    let redis = RedisServer::start().await;
    let [a, b] = [start_replica(&redis.url(), &[]).await, start_replica(&redis.url(), &[]).await];
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut bob = Node::connect(b.address(), "bob").await;
    assert_eq!(ask(&mut alice, MESSAGE, "bob", &mut bob).await, "[\"OK\"]");
    let (began, before) = (Instant::now(), redis.command_calls());
    for _ in 0..MESSAGES {
        assert_eq!(ask(&mut alice, MESSAGE, "bob", &mut bob).await, "[\"OK\"]");
    }
    let calls = called_since(&redis, &before);
    let publishes = calls["publish"];
    assert!(publishes <= 2 * MESSAGES + 2 * maintenance(began), "{calls:?}");
    assert_eq!(calls.get("get").copied().unwrap_or(0), 0, "{calls:?}");
    assert!(calls.values().sum::<u64>() - publishes <= 2 * 3 * maintenance(began), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authorized_attempt_opens_the_pair_on_both_replicas() {
    let redis = RedisServer::start().await;
    let hook = Hook::start(|_| json!({"authorized": true})).await;
    let url = hook.url("/");
    let variables = [(AUTHORIZATION, url.as_str())];
    let [a, b] = [
        start_replica(&redis.url(), &variables).await,
        start_replica(&redis.url(), &variables).await,
    ];
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut bob = Node::connect(b.address(), "bob").await;
    assert_eq!(ask(&mut alice, ATTEMPT, "bob", &mut bob).await, "[\"OK\"]");
    // From here on only the open pair lets anything pass.
    hook.answer(|_| json!({"authorized": false}));
    let followers = EVENTS.into_iter();
    for event in followers.filter(|event| ![ATTEMPT, MESSAGE].contains(event)) {
        let before = hook.count();
        assert_eq!(ask(&mut bob, event, "alice", &mut alice).await, "[\"OK\"]", "{event}");
        assert_eq!(ask(&mut alice, event, "bob", &mut bob).await, "[\"OK\"]", "{event}");
        assert_eq!(hook.count(), before, "nobody has to be asked");
    }
    for event in [ATTEMPT, MESSAGE] {
        assert_eq!(bob.ask(event, &to("alice")).await, "[\"UNAUTHORIZED\"]");
        assert_eq!(alice.ask(event, &to("bob")).await, "[\"UNAUTHORIZED\"]");
    }
    // A pair ends with either connection, wherever its node comes back.
    const ACCEPTANCE: &str = "CONNECTION_ACCEPTANCE";
    drop(alice);
    until_free(&redis, "alice").await;
    let mut alice = Node::connect(a.address(), "alice").await;
    assert_eq!(bob.ask(ACCEPTANCE, &to("alice")).await, "[\"UNAUTHORIZED\"]");
    assert_eq!(alice.ask(ACCEPTANCE, &to("bob")).await, "[\"UNAUTHORIZED\"]");
    assert_eq!(alice.ask(MESSAGE, "{}").await, "[\"ERROR\"]", "nothing else came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hook_is_told_whether_a_receiver_on_another_replica_is_connected() {
    let redis = RedisServer::start().await;
    let hook = Hook::start(|_| json!({})).await;
    let url = hook.url("/");
    let a = start_replica(&redis.url(), &[("ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL", &url)]).await;
    let [b, c] = [start_replica(&redis.url(), &[]).await, start_replica(&redis.url(), &[]).await];
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut told = 0;
    for place in [Some(&b), None, Some(&c), Some(&a), None] {
        let mut bob = match place {
            Some(place) => Some(Node::connect(place.address(), "bob").await),
            None => None,
        };
        let ack = alice.ask(MESSAGE, &to("bob")).await;
        let is_connected = bob.is_some();
        assert_eq!(ack, if is_connected { "[\"OK\"]" } else { "[\"NOT_CONNECTED\"]" });
        told += 1;
        hook.called(told).await;
        assert_eq!(
            hook.bodies().pop().unwrap(),
            json!({"senderId": "alice", "receiverId": "bob", "isReceiverConnected": is_connected})
        );
        if let Some(mut bob) = bob.take() {
            bob.text().await;
        }
        until_free(&redis, "bob").await;
    }
    assert_eq!(hook.count(), told, "once for each message, also where it was sent on twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_reaches_a_node_on_another_replica_before_it_is_greeted() {
    let redis = RedisServer::start().await;
    let hook = Hook::start(|_| json!({"iceServers": []})).await;
    hook.hold();
    let url = hook.url("/");
    let a = start_replica(&redis.url(), &[]).await;
    let b = start_replica(&redis.url(), &[("RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL", &url)]).await;
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut bob = Node::open(b.address(), "&id=bob&version=1&runtime=r").await;
    // It talks before it is greeted, too.
    bob.send_all(&["40", &format!(r#"420["{MESSAGE}","{{\"to\":\"alice\",\"early\":1}}"]"#)]).await;
    assert!(bob.text().await.starts_with("40{\"sid\":\""));
    hook.called(1).await;
    assert_eq!(redis.command(&["EXISTS", "crolang:node:bob"]), "1", "it has its ID");
    for event in EVENTS {
        assert_eq!(alice.ask(event, &to("bob")).await, "[\"NOT_CONNECTED\"]");
    }
    hook.release();
    let greeting = bob.text().await;
    assert!(greeting.starts_with("42[\"AUTHENTICATED\","), "{greeting}");
    // What it sent early has waited for the greeting, and passes now.
    assert!(alice.text().await.contains("early"));
    assert_eq!(bob.text().await, "430[\"OK\"]");
    assert_eq!(ask(&mut alice, MESSAGE, "bob", &mut bob).await, "[\"OK\"]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_sent_a_message_from_somebody_else() {
    let redis = RedisServer::start().await;
    let [a, b] = [start_replica(&redis.url(), &[]).await, start_replica(&redis.url(), &[]).await];
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut near = Node::connect(a.address(), "near").await;
    let mut far = Node::connect(b.address(), "far").await;
    for (id, receiver) in [("near", &mut near), ("far", &mut far)] {
        for event in EVENTS {
            for forged in ["near", "far", "nobody", "Alice", ""] {
                let payload = json!({"to": id, "from": forged}).to_string();
                assert_eq!(alice.ask(event, &payload).await, "[\"ERROR\"]", "{event} {payload}");
                let twice = format!(r#"{{"from":"alice","to":"{id}","from":"{forged}"}}"#);
                assert_eq!(alice.ask(event, &twice).await, "[\"ERROR\"]", "{event} {twice}");
            }
            for payload in [json!({"to": id}), json!({"to": id, "from": "alice"})] {
                let payload = payload.to_string();
                assert_eq!(alice.ask(event, &payload).await, "[\"OK\"]", "{event} {payload}");
                let argument = serde_json::to_string(&payload).unwrap();
                let expected = Frame::Text(format!("42[\"{event}\",{argument}]"));
                assert_eq!(receiver.next().await, expected, "nothing forged came before");
            }
        }
    }
}
