//! What readers of the log find.

use serde_json::{Value, json};

use super::*;
use crate::node::ConnectionId;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn settings() -> LifecycleSettings {
    LifecycleSettings { max_queued: 4, debounce: Duration::ZERO, max_refusals_per_second: 2 }
}

fn log(settings: LifecycleSettings) -> (Lifecycle, Cursor, Metrics) {
    let metrics = Metrics::new();
    let lifecycle = Lifecycle::new(ReplicaId::random(), settings, &metrics);
    let cursor = lifecycle.follow().unwrap();
    (lifecycle, cursor, metrics)
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

fn come(lifecycle: &Lifecycle, name: &str, connection: u64) {
    lifecycle.connected(|| Arrival {
        node: node(name),
        connection: ConnectionId::from_number(connection),
        address: ADDRESS,
        runtime: "JVM".into(),
        version: "1.2".into(),
    });
}

fn go(lifecycle: &Lifecycle, name: &str, connection: u64) {
    lifecycle.disconnected(|| Departure {
        node: node(name),
        connection: ConnectionId::from_number(connection),
        reason: "peer_closed",
        note: None,
        duration_ms: 7,
        messages_in: 1,
        messages_out: 2,
    });
}

/// What is unread, without times, and how many were lost before it.
fn unread(cursor: &mut Cursor) -> (u64, Vec<Value>) {
    let Unread { lost, events } = cursor.peek(100, "test");
    let events = events.iter().map(|event| {
        let mut event = serde_json::to_value(event.as_ref()).unwrap();
        assert!(event.as_object_mut().unwrap().remove("time").is_some_and(|time| time.is_u64()));
        event
    });
    (lost, events.collect())
}

fn types(cursor: &mut Cursor) -> Vec<String> {
    let events = unread(cursor).1;
    events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn events_are_numbered_and_say_what_happened() {
    let (lifecycle, mut cursor, metrics) = log(settings());
    come(&lifecycle, "alice", 3);
    go(&lifecycle, "alice", 3);
    lifecycle.refused(Some(&node("bob")), ADDRESS, "unsupported");
    lifecycle.refused(None, ADDRESS, "missing_value");
    let events = [
        json!({"sequence": 1, "type": "connected", "nodeId": "alice", "connection": 3,
               "address": "127.0.0.1", "runtime": "JVM", "version": "1.2"}),
        json!({"sequence": 2, "type": "disconnected", "nodeId": "alice", "connection": 3,
               "reason": "peer_closed", "durationMs": 7, "messagesIn": 1, "messagesOut": 2}),
        json!({"sequence": 3, "type": "refused", "nodeId": "bob", "address": "127.0.0.1",
               "cause": "unsupported"}),
        json!({"sequence": 4, "type": "refused", "address": "127.0.0.1",
               "cause": "missing_value"}),
    ];
    assert_eq!(unread(&mut cursor), (0, events.to_vec()));
    // They stay unread until the position moves.
    cursor.advance(3);
    assert_eq!(unread(&mut cursor), (0, events[3..].to_vec()));
    assert_eq!(cursor.remaining(), 1);
    cursor.advance(4);
    assert_eq!(unread(&mut cursor), (0, vec![]));
    assert_eq!(metrics.node_events.with(["refused"]).get(), 2);
}

#[test]
fn a_reader_that_is_too_slow_is_told_how_many_it_lost() {
    let (lifecycle, mut cursor, metrics) = log(settings());
    for n in 0..4 {
        come(&lifecycle, "alice", n);
    }
    assert_eq!(unread(&mut cursor).0, 0);
    come(&lifecycle, "alice", 4);
    come(&lifecycle, "alice", 5);
    for _ in 0..2 {
        let (lost, events) = unread(&mut cursor);
        assert_eq!((lost, events.len(), &events[0]["sequence"]), (2, 4, &json!(3)));
        // Counted once, however often they are read.
        assert_eq!(metrics.node_events_dropped.with(["test"]).get(), 2);
    }
    // What was read before it was displaced is not lost.
    cursor.advance(6);
    come(&lifecycle, "alice", 6);
    assert_eq!(unread(&mut cursor).0, 0);
    assert_eq!(metrics.node_events_dropped.with(["test"]).get(), 2);
    assert_eq!(lifecycle.follow().unwrap().remaining(), 0);
}

#[test]
fn too_many_refusals_become_one_number() {
    let (lifecycle, mut cursor, metrics) = log(settings());
    let refuse = || lifecycle.refused(None, ADDRESS, "unsupported");
    for _ in 0..5 {
        refuse();
    }
    assert_eq!(types(&mut cursor), ["refused", "refused"]);
    assert_eq!(metrics.node_events_dropped.with(["refusal_limit"]).get(), 3);
    let began = Instant::now();
    while types(&mut cursor).len() == 2 {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
        refuse();
    }
    let omitted = unread(&mut cursor).1[2]["omitted"].as_u64().unwrap();
    assert!(omitted >= 3, "{omitted}");
}

#[tokio::test]
async fn a_short_interruption_is_one_event() {
    let debounce = Duration::from_secs(1);
    let (lifecycle, mut cursor, _) = log(LifecycleSettings { debounce, ..settings() });
    let _releasing =
        tokio_util::task::AbortOnDropHandle::new(tokio::spawn(lifecycle.clone().release_held()));
    come(&lifecycle, "alice", 1);
    go(&lifecycle, "alice", 1);
    assert_eq!(types(&mut cursor), ["connected"]);
    come(&lifecycle, "alice", 2);
    let again = unread(&mut cursor).1.remove(1);
    assert!(again["awayMs"].is_u64());
    let expected = json!({
        "sequence": 2, "type": "reconnected", "nodeId": "alice", "connection": 2,
        "address": "127.0.0.1", "runtime": "JVM", "version": "1.2", "awayMs": again["awayMs"],
        "previous": {"nodeId": "alice", "connection": 1, "reason": "peer_closed",
                     "durationMs": 7, "messagesIn": 1, "messagesOut": 2}
    });
    assert_eq!(again, expected);
    // Nobody else's return ends the wait, and a departure that lasts is told.
    go(&lifecycle, "alice", 2);
    come(&lifecycle, "bob", 3);
    cursor.advance(3);
    cursor.wait().await;
    assert_eq!(types(&mut cursor), ["disconnected"]);
    // What is held is told at the end, and nothing is held any more.
    go(&lifecycle, "bob", 3);
    assert_eq!(types(&mut cursor).len(), 1);
    lifecycle.stop_holding();
    assert_eq!(types(&mut cursor).len(), 2);
    come(&lifecycle, "bob", 4);
    go(&lifecycle, "bob", 4);
    assert_eq!(types(&mut cursor)[2..], ["connected", "disconnected"]);
}

#[test]
fn no_more_departures_are_held_than_events_are_stored() {
    let debounce = Duration::from_secs(3600);
    let (lifecycle, mut cursor, _) = log(LifecycleSettings { debounce, ..settings() });
    for n in 0..5 {
        go(&lifecycle, &n.to_string(), n);
    }
    assert_eq!(unread(&mut cursor).1[0]["nodeId"], "4");
    assert_eq!(types(&mut cursor).len(), 1);
}

#[test]
fn without_readers_nothing_is_recorded() {
    let lifecycle = Lifecycle::default();
    lifecycle.connected(|| unreachable!("there is no log"));
    lifecycle.disconnected(|| unreachable!("there is no log"));
    lifecycle.refused(None, ADDRESS, "unsupported");
    assert!(lifecycle.follow().is_none());
}
