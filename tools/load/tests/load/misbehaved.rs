//! Brokers that misbehave: each fault has its own name in the report, and the run fails.

use serde_json::Value;

use crate::fake::{Fault, STALL, start};
use crate::program::measure;

/// Runs against a broker with this fault, and gives the counts of what was wrong that are not 0.
async fn wrongs(fault: Fault, arguments: &str) -> Vec<(String, u64)> {
    let address = start(fault).await;
    let told = measure(address, &format!("{arguments} --pairs 2 --seconds 0.5 --warmup 0")).await;
    let json = told.json();
    let counts = json["wrong"].as_object().unwrap().iter();
    let counts = counts.map(|(name, count)| (name.clone(), count.as_u64().unwrap()));
    let counts: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
    assert_eq!(json["ok"], counts.is_empty());
    assert_eq!(told.code, Some(if counts.is_empty() { 0 } else { 1 }));
    for (name, count) in &counts {
        assert!(told.err.contains(&format!("{name} {count}")), "{}", told.err);
    }
    if fault != Fault::Closes {
        assert!(json["count"].as_u64().unwrap() > 0, "{json}");
    }
    if fault == Fault::Error {
        assert_eq!(json["outcomes"]["ERROR"], Value::from(counts[0].1));
    }
    counts
}

/// That this fault is called by this name and no other.
async fn is_called(fault: Fault, name: &str) {
    let counts = wrongs(fault, "relay --rate 400").await;
    let names: Vec<_> = counts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [name], "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_behaves_is_not_complained_about() {
    assert_eq!(wrongs(Fault::None, "relay --window 4").await, []);
    assert_eq!(wrongs(Fault::None, "fan-in --rate 100").await, []);
    assert_eq!(wrongs(Fault::None, "presence --ids 5").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_acks() {
    is_called(Fault::Error, "bad_acks").await;
    is_called(Fault::SecondAck, "unknown_acks").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_that_never_come() {
    is_called(Fault::NoAck, "unanswered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_never_come() {
    is_called(Fault::Keeps, "lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_in_another_order() {
    is_called(Fault::Swaps, "out_of_order").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_come_twice() {
    is_called(Fault::Repeats, "duplicates").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_not_what_was_sent() {
    is_called(Fault::Alters, "altered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_come_to_another() {
    is_called(Fault::Misdelivers, "misdelivered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_end() {
    let counts = wrongs(Fault::Closes, "relay --rate 400").await;
    assert!(counts.contains(&("disconnected".into(), 2)), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_results() {
    let counts = wrongs(Fault::SeesNobody, "presence --ids 4 --window 4").await;
    assert_eq!(counts.len(), 1);
    assert_eq!(counts[0].0, "bad_acks");
}

/// In the closed loop a fault must not end the sending either, or little else would be seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_loop_names_faults_too() {
    let counts = wrongs(Fault::Error, "relay --window 4").await;
    assert_eq!(counts[0].0, "bad_acks");
    let counts = wrongs(Fault::Repeats, "fan-in --window 4").await;
    assert_eq!(counts[0].0, "duplicates");
}

/// A broker that stalls for a third of the time is asked for as much as ever in the open loop, so
/// most of what was due meanwhile is late. Had the sender waited, only one message would be.
#[tokio::test(flavor = "multi_thread")]
async fn a_stall_is_paid_for_by_all_that_was_due() {
    let address = start(Fault::Stalls).await;
    let told = measure(address, "relay --pairs 1 --rate 100 --seconds 1 --warmup 0").await;
    assert_eq!(told.code, Some(0), "{}", told.err);
    for latency in ["received", "acked"] {
        let told = &told.json()["latency_us"][latency];
        let lateness_s = told["mean"].as_f64().unwrap() * told["count"].as_f64().unwrap() / 1e6;
        // 30 messages, late by half the stall on average.
        let stall_s = STALL.as_secs_f64();
        assert!(lateness_s > 0.6 * stall_s * (100.0 * stall_s) / 2.0, "{told}");
    }
}
