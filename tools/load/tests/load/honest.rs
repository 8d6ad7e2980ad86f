//! Every mode of nodes against the real broker: nothing is wrong, and everything is told.

use std::time::{Duration, Instant};

use crolang_broker::Server;
use serde_json::Value;

use crate::broker::{assert_told, broker, broker_with, number, well_with};
use crate::program::{command, measure, run, told};

/// Runs a mode against a broker of its own; all must be well.
async fn well(arguments: &str) -> Value {
    well_with(broker().await.address(), arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_in_a_closed_loop() {
    let json = well("relay --pairs 4 --window 8 --seconds 1 --warmup 0.2").await;
    assert_eq!((&json["mode"], &json["unit"]), (&"relay".into(), &"messages".into()));
    assert_eq!(json["settings"]["window"], 8);
    assert_told(&json, "received");
    assert_told(&json, "acked");
    assert!(number(&json, "/outcomes/OK") >= number(&json, "/count"));
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_in_an_open_loop() {
    let json = well("relay --pairs 4 --rate 50 --seconds 1 --warmup 0.2 --size 20000").await;
    // What was due, all of which counts, however late it came.
    let due = 4.0 * 50.0 * number(&json, "/measured_s");
    let told = number(&json, "/latency_us/received/count");
    assert!((told - due).abs() <= due / 20.0, "{told} of {due}");
    assert_eq!(json["figures"]["unsent"], 0.0);
    assert_told(&json, "acked");
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_of_another_event_without_acks() {
    let json =
        well("relay --pairs 2 --event CONNECTION_ATTEMPT --no-ack --seconds 0.5 --warmup 0").await;
    assert_told(&json, "received");
    assert_eq!(json["latency_us"]["acked"], Value::Null);
    assert_eq!(json["outcomes"], serde_json::json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn fan_in() {
    let json = well("fan-in --pairs 8 --window 4 --seconds 1 --warmup 0.2").await;
    assert_eq!(json["mode"], "fan-in");
    assert_told(&json, "received");
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_every_kind() {
    for what in ["messages", "unread", "long", "presence", "pings"] {
        // Counted from the first byte on: at least what the kernel takes.
        let json = well(&format!("flood --nodes 2 --what {what} --seconds 1 --warmup 0")).await;
        assert_eq!((&json["mode"], &json["unit"]), (&"flood".into(), &"frames".into()));
        assert_eq!(json["settings"]["what"], what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn presence() {
    let json = well("presence --pairs 4 --ids 9 --seconds 1 --warmup 0.2").await;
    assert_eq!(json["unit"], "questions");
    assert!(number(&json, "/outcomes/right results") >= number(&json, "/count"));
    assert_told(&json, "acked");
}

#[tokio::test(flavor = "multi_thread")]
async fn churn() {
    let json = well("churn --nodes 4 --seconds 1 --warmup 0.2").await;
    assert_eq!(json["unit"], "connections");
    assert_told(&json, "in");
    assert_told(&json, "out");
    assert_eq!(json["outcomes"], serde_json::json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle() {
    let json = well("idle --nodes 200 --seconds 0.5").await;
    assert_eq!(json["count"], 200);
    assert!(number(&json, "/figures/resident_kb_with") > 0.0);
    for figure in ["resident_kb_after", "kb_per_connection", "kb_kept_per_connection"] {
        assert!(json["figures"][figure].is_f64(), "{json}");
    }
    assert_eq!(json["outcomes"], serde_json::json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn storm() {
    let json = well("storm --nodes 200").await;
    assert_eq!(json["count"], 200);
    assert_eq!(json["figures"]["attempts"], 200.0);
    assert!(number(&json, "/figures/all_in_after_s") > 0.0);
    assert_told(&json, "in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_on_a_full_broker_is_turned_away() {
    let broker = broker_with(|config| config.max_connections = 5).await;
    let told = measure(broker.address(), "storm --nodes 8 --retry 0.1 --seconds 1").await;
    assert_eq!(told.code, Some(1));
    assert!(told.err.contains("FAILED: not_in 3"), "{}", told.err);
    let json = told.json();
    assert_eq!((&json["count"], &json["wrong"]["not_in"]), (&5.into(), &3.into()));
    let outcomes = json["outcomes"].as_object().unwrap();
    let turned_away: u64 = outcomes
        .iter()
        .filter(|(name, _)| name.starts_with("503"))
        .filter_map(|(_, count)| count.as_u64())
        .sum();
    assert!(turned_away >= 6, "three nodes come twice or more: {json}");
    assert!(number(&json, "/figures/attempts") >= 11.0, "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_nobody_is_there_for_are_bad_acks() {
    let broker = broker_with(|config| config.broker.relay_enabled = false).await;
    let told = measure(broker.address(), "relay --pairs 2 --seconds 0.2 --warmup 0").await;
    assert_eq!(told.code, Some(1));
    let json = told.json();
    assert_eq!(json["ok"], false);
    assert_eq!(json["outcomes"]["DISABLED"], json["wrong"]["bad_acks"]);
    assert!(number(&json, "/wrong/bad_acks") > 0.0);
    // It was refused, so it is not lost.
    assert_eq!(json["wrong"]["lost"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_held_is_refused() {
    let broker = broker().await;
    let (address, arguments) = (broker.address(), "idle --nodes 1 --prefix twin");
    let first = command(&format!("{arguments} --addr {address} --seconds 20")).spawn().unwrap();
    eventually(|| broker.metrics().lines().any(|line| line == "crolang_nodes 1")).await;
    let told = measure(address, &format!("{arguments} --seconds 0.1")).await;
    assert_eq!(told.code, Some(1));
    assert_eq!(told.json()["outcomes"]["refused: client already connected"], 1);
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_for_people() {
    let broker = broker().await;
    let address = broker.address();
    let told = run(&format!("relay --pairs 2 --seconds 0.3 --warmup 0 --addr {address}")).await;
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
    assert!(told.out.starts_with("relay, measured for 0.3 s\n"), "{}", told.out);
    for part in ["p99.9", "  received", "load itself", "wrong                   nothing"] {
        assert!(told.out.contains(part), "{part} is not in {}", told.out);
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_run_early_and_it_still_reports() {
    let broker = broker().await;
    let address = broker.address();
    let mut command = command(&format!("relay --pairs 2 --seconds 50 --addr {address} --json"));
    let child = command.spawn().unwrap();
    eventually(|| relayed(&broker) >= 100).await;
    let id = child.id().unwrap().to_string();
    let interrupted = std::process::Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(interrupted.success());
    let output = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output());
    let told = told(output.await.expect("it ends").unwrap());
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
    assert_eq!(told.json()["ended_early"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_broker_has_ended_so_does_the_run() {
    let broker = broker().await;
    let arguments = format!("relay --pairs 2 --seconds 50 --addr {} --json", broker.address());
    let child = command(&arguments).spawn().unwrap();
    eventually(|| relayed(&broker) >= 100).await;
    drop(broker);
    let output = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output());
    let told = told(output.await.expect("it ends").unwrap());
    assert_eq!(told.code, Some(1));
    // It ends as soon as nobody is left to send; receivers may not have noticed by then.
    let disconnected = told.json()["wrong"]["disconnected"].as_u64().unwrap();
    assert!((2..=4).contains(&disconnected), "{}", told.out);
}

/// Waits until `condition` holds.
async fn eventually(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(10), "not in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How many messages a broker has relayed.
fn relayed(broker: &Server) -> u64 {
    let name = r#"crolang_messages_total{event="SOCKET_MSG_EXCHANGE",ack="OK"} "#;
    let text = broker.metrics();
    text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or(0)
}
