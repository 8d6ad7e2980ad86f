//! Nodes come, leave and are refused: what the webhook for their events is told, and when.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Fault, Hook, Node, RedisServer, eventually, metric, start_replicas, start_with_variables,
    unix_time,
};

const URL: &str = "NODE_EVENTS_WEBHOOK_URL";
const MESSAGE: &str = "SOCKET_MSG_EXCHANGE";

/// The events of all batches that a hook was sent, in their order.
fn events(hook: &Hook) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    let now = unix_time().as_millis() as u64;
    for batch in hook.bodies() {
        assert!(batch["replica"].is_string() && batch["epoch"].is_u64(), "{batch}");
        for event in batch["events"].as_array().unwrap() {
            assert!(now.abs_diff(event["time"].as_u64().unwrap()) < 60_000, "{event}");
            events.push(event.clone());
        }
    }
    events
}

/// The type and node of each event.
fn stories(events: &[Value]) -> Vec<(&str, &str)> {
    events
        .iter()
        .map(|event| {
            (event["type"].as_str().unwrap(), event["nodeId"].as_str().unwrap_or_default())
        })
        .collect()
}

async fn told(hook: &Hook, count: usize) -> Vec<Value> {
    eventually(&format!("{count} events"), || events(hook).len() >= count).await;
    events(hook)
}

#[tokio::test]
async fn it_is_told_who_came_left_and_was_refused() {
    let hook = Hook::start(|_| json!({"anything": 1})).await;
    let server =
        start_with_variables(&[(URL, &hook.url("/events?x=1")), ("ALLOWED_RUNTIMES", "TEST")])
            .await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut bob = Node::connect(server.address(), "bob").await;
    assert_eq!(alice.ask(MESSAGE, r#"{"to":"bob"}"#).await, "[\"OK\"]");
    assert_eq!(alice.ask(MESSAGE, r#"{"to":"nobody"}"#).await, "[\"NOT_CONNECTED\"]");
    bob.text().await;
    bob.send("41").await;
    bob.end().await;
    told(&hook, 3).await;
    for query in ["&id=eve&version=1&runtime=OTHER", "&version=1&runtime=TEST"] {
        let mut refused = Node::open(server.address(), query).await;
        refused.send("40").await;
        assert!(refused.text().await.starts_with("44"));
    }
    let events = told(&hook, 5).await;
    let expected = [
        ("connected", "alice"),
        ("connected", "bob"),
        ("disconnected", "bob"),
        ("refused", "eve"),
        ("refused", ""),
    ];
    assert_eq!(stories(&events), expected);
    let numbers: Vec<_> = events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    for (field, value) in
        [("address", json!("127.0.0.1")), ("runtime", json!("TEST")), ("version", json!("1.0.0"))]
    {
        assert_eq!(events[1][field], value);
    }
    assert_eq!(events[2]["connection"], events[1]["connection"]);
    assert_eq!(events[2]["reason"], "node_left");
    assert_eq!((&events[2]["messagesIn"], &events[2]["messagesOut"]), (&json!(0), &json!(1)));
    assert!(events[2]["durationMs"].as_u64().unwrap() < 60_000);
    assert_eq!(
        (&events[3]["cause"], &events[4]["cause"]),
        (&json!("unsupported"), &json!("missing_value"))
    );
    assert!(hook.bodies().iter().all(|batch| batch["lost"] == 0));
    let call = hook.calls().remove(0);
    assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", "/events?x=1"));
    // One that never says CONNECT has not come, and so does not leave.
    drop(Node::open(server.address(), "&id=carol&version=1&runtime=TEST").await);
    drop(alice);
    let events = told(&hook, 6).await;
    assert_eq!(stories(&events)[5..], [("disconnected", "alice")]);
    assert_eq!((&events[5]["messagesIn"], &events[5]["messagesOut"]), (&json!(2), &json!(0)));
}

#[tokio::test]
async fn a_replaced_node_leaves_before_the_one_that_replaces_it_comes() {
    let hook = Hook::start(|_| json!({})).await;
    let server =
        start_with_variables(&[(URL, &hook.url("/")), ("DUPLICATE_ID_POLICY", "replace")]).await;
    let _first = Node::connect(server.address(), "alice").await;
    let second = Node::connect(server.address(), "alice").await;
    let events = told(&hook, 3).await;
    let expected = [("connected", "alice"), ("disconnected", "alice"), ("connected", "alice")];
    assert_eq!(stories(&events), expected);
    assert_eq!(events[1]["reason"], "replaced");
    assert_eq!(events[1]["connection"], events[0]["connection"]);
    drop(second);
    let events = told(&hook, 4).await;
    assert_eq!(events[3]["connection"], events[2]["connection"]);
}

#[tokio::test]
async fn a_batch_that_fails_is_sent_again_with_what_came_since() {
    let hook = Hook::start(|_| json!({})).await;
    hook.fault(Fault::Status(500), json!({})).await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    let mut nodes = vec![Node::connect(server.address(), "n0").await];
    hook.called(1).await;
    for n in 1..20 {
        nodes.push(Node::connect(server.address(), &format!("n{n}")).await);
    }
    let failed = hook.count();
    hook.answer(|_| json!({}));
    hook.called(failed + 1).await;
    let batch = hook.bodies().remove(failed);
    assert_eq!(batch["lost"], 0);
    let batch = batch["events"].as_array().unwrap();
    let numbers: Vec<_> = batch.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    // Nothing is told twice once it was taken.
    drop(nodes);
    hook.called(failed + 2).await;
    let next = hook.bodies()[failed + 1]["events"][0]["sequence"].clone();
    assert_eq!(next, 21);
    eventually("an empty queue", || metric(&server, "crolang_node_events_queued") == 0.0).await;
}

#[tokio::test]
async fn what_is_lost_is_counted_and_told() {
    let hook = Hook::start(|_| json!({})).await;
    hook.hold();
    let server = start_with_variables(&[
        (URL, &hook.url("/")),
        ("NODE_EVENTS_MAX_QUEUED", "5"),
        ("NODE_EVENTS_BATCH_SIZE", "3"),
    ])
    .await;
    let mut nodes = vec![Node::connect(server.address(), "n0").await];
    hook.called(1).await;
    for n in 1..10 {
        nodes.push(Node::connect(server.address(), &format!("n{n}")).await);
    }
    hook.release();
    hook.called(3).await;
    let bodies = hook.bodies();
    let told = |body: &Value| {
        let events = body["events"].as_array().unwrap();
        let numbers: Vec<_> = events.iter().map(|it| it["sequence"].as_u64().unwrap()).collect();
        (body["lost"].as_u64().unwrap(), numbers)
    };
    let batches: Vec<_> = bodies.iter().map(told).collect();
    // Ten events: the first was on its way, the last five are stored, and no more than three fit
    // into a batch.
    assert_eq!(batches, [(0, vec![1]), (4, vec![6, 7, 8]), (0, vec![9, 10])]);
    let dropped = r#"crolang_node_events_dropped_total{cause="webhook_queue_full"}"#;
    assert_eq!(metric(&server, dropped), 4.0);
    assert_eq!(metric(&server, r#"crolang_node_events_total{type="connected"}"#), 10.0);
}

#[tokio::test]
async fn refusals_have_a_limit_of_their_own() {
    let hook = Hook::start(|_| json!({})).await;
    let server = start_with_variables(&[
        (URL, &hook.url("/")),
        ("NODE_EVENTS_MAX_REFUSALS_PER_SECOND", "0"),
        ("ALLOWED_RUNTIMES", "TEST"),
    ])
    .await;
    for _ in 0..3 {
        let mut refused = Node::open(server.address(), "&id=eve&version=1&runtime=OTHER").await;
        refused.send("40").await;
        refused.text().await;
    }
    let _alice = Node::connect(server.address(), "alice").await;
    assert_eq!(stories(&told(&hook, 1).await), [("connected", "alice")]);
    let dropped = r#"crolang_node_events_dropped_total{cause="refusal_limit"}"#;
    assert_eq!(metric(&server, dropped), 3.0);
}

#[tokio::test]
async fn a_short_interruption_is_one_event() {
    let hook = Hook::start(|_| json!({})).await;
    let server =
        start_with_variables(&[(URL, &hook.url("/")), ("NODE_EVENTS_DEBOUNCE_MS", "10000")]).await;
    let alice = Node::connect(server.address(), "alice").await;
    drop(alice);
    eventually("she has left", || metric(&server, "crolang_nodes") == 0.0).await;
    let alice = Node::connect(server.address(), "alice").await;
    let events = told(&hook, 2).await;
    assert_eq!(stories(&events), [("connected", "alice"), ("reconnected", "alice")]);
    assert_eq!(events[1]["previous"]["connection"], events[0]["connection"]);
    assert_eq!(events[1]["previous"]["reason"], "peer_closed");
    // A drain waits for nobody's return.
    drop(alice);
    eventually("she has left", || metric(&server, "crolang_nodes") == 0.0).await;
    let began = Instant::now();
    server.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    let events = told(&hook, 3).await;
    assert_eq!(stories(&events)[2..], [("disconnected", "alice")]);
}

#[tokio::test]
async fn the_end_is_told_before_the_process_ends() {
    let hook = Hook::start(|_| json!({})).await;
    hook.fault(Fault::Status(503), json!({})).await;
    let server = start_with_variables(&[(URL, &hook.url("/"))]).await;
    let _nodes = [
        Node::connect(server.address(), "alice").await,
        Node::connect(server.address(), "bob").await,
    ];
    hook.called(1).await;
    let failed = hook.count();
    let shutdown = tokio::spawn(server.shutdown());
    // Tried again soon, although the server fails.
    hook.called(failed + 1).await;
    hook.answer(|_| json!({}));
    shutdown.await.unwrap();
    let last = hook.bodies().pop().unwrap();
    let ends = last["events"].as_array().unwrap();
    assert!(ends.len() >= 2, "{last}");
    assert!(ends[ends.len() - 2..].iter().all(|it| it["reason"] == "draining"), "{last}");
}

#[tokio::test]
async fn a_server_that_hangs_delays_no_node_and_no_end() {
    let hook = Hook::start(|_| json!({})).await;
    hook.hold();
    let server =
        start_with_variables(&[(URL, &hook.url("/")), ("SHUTDOWN_TIMEOUT_MS", "2000")]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    hook.called(1).await;
    let _bob = Node::connect(server.address(), "bob").await;
    assert_eq!(alice.ask(MESSAGE, r#"{"to":"bob"}"#).await, "[\"OK\"]");
    let began = Instant::now();
    server.shutdown().await;
    let took = began.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn each_replica_numbers_its_own() {
    let redis = RedisServer::start().await;
    let hook = Hook::start(|_| json!({})).await;
    let servers = start_replicas(2, &redis, &[(URL, &hook.url("/"))]).await;
    let _nodes = [
        Node::connect(servers[0].address(), "alice").await,
        Node::connect(servers[1].address(), "bob").await,
    ];
    told(&hook, 2).await;
    let bodies = hook.bodies();
    assert_ne!(bodies[0]["replica"], bodies[1]["replica"]);
    for body in bodies {
        assert_eq!(body["events"][0]["sequence"], 1);
    }
}
