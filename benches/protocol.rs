//! The pure parts that every message or newcomer passes through, and the directory in memory.
//!
//! The addresses of a message are also read by serde_json alone, as a yardstick: once into a tree,
//! once into a struct that borrows.
#![allow(clippy::unwrap_used, reason = "a bench stops there")]

use std::borrow::Cow;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crolang_broker::internals::{
    HeldIds, is_event_packet, is_handshake, presence_ack, receiver_bytes,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// How many IDs have an owner while the directory is asked.
const HELD_IDS: usize = 10_000;

/// The text of an event, in the form of the official nodes' messages. `to` is the key of the
/// receiver's ID as it is written there.
fn event(to: &str, content_bytes: usize) -> String {
    let content = "x".repeat(content_bytes);
    let message = format!(
        r#"{{"platformFrom":"JVM","versionFrom":"1.0.0","from":"alice","{to}":"bob","channel":"chat","content":"{content}"}}"#
    );
    serde_json::to_string(&("SOCKET_MSG_EXCHANGE", message)).unwrap()
}

/// The receiver's ID, as the broker reads it.
fn receiver(event: &str) -> usize {
    receiver_bytes(event).unwrap()
}

fn receiver_by_tree(event: &str) -> usize {
    let [_, message]: [String; 2] = serde_json::from_str(event).unwrap();
    let message: Value = serde_json::from_str(&message).unwrap();
    message["to"].as_str().unwrap().len()
}

#[derive(Deserialize)]
struct Addresses<'a> {
    #[serde(borrow)]
    to: Cow<'a, str>,
    #[serde(borrow)]
    from: Option<Cow<'a, str>>,
}

fn receiver_by_struct(event: &str) -> usize {
    let [_, message]: [Cow<'_, str>; 2] = serde_json::from_str(event).unwrap();
    let Addresses { to, from } = serde_json::from_str(&message).unwrap();
    black_box(from);
    to.len()
}

fn addresses(c: &mut Criterion) {
    let mut group = c.benchmark_group("addresses of a message");
    // The last is one that nobody sends, and that is read the long way.
    for (to, size) in [("to", 200), ("to", 16 * 1024), (r"\u0074o", 200)] {
        let text = event(to, size);
        group.throughput(Throughput::Bytes(text.len() as u64));
        for (name, read) in [
            ("broker", receiver as fn(&str) -> usize),
            ("serde_json struct", receiver_by_struct),
            ("serde_json tree", receiver_by_tree),
        ] {
            assert_eq!(read(&text), "bob".len());
            let id = BenchmarkId::new(name, format!("{to} {size}"));
            group.bench_with_input(id, &text, |b, text| {
                b.iter(|| read(black_box(text)));
            });
        }
    }
    group.finish();
}

fn packet(c: &mut Criterion) {
    let text = event("to", 200);
    c.bench_function("event packet", |b| b.iter(|| is_event_packet(black_box(&text))));
}

fn handshake(c: &mut Criterion) {
    let query = "EIO=4&transport=websocket&id=alice%20%C3%BC&version=1.0.0&runtime=JVM\
                 &data=%7B%22token%22%3A%22abcdefgh%22%7D";
    assert!(is_handshake(query));
    c.bench_function("handshake", |b| b.iter(|| is_handshake(black_box(query))));
}

fn presence(c: &mut Criterion) {
    let mut group = c.benchmark_group("presence question and answer");
    for count in [20, 1_000] {
        let ids: Vec<_> = (0..count).map(|n| format!("node-{n:08}")).collect();
        let content = json!({ "ids": ids }).to_string();
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::from_parameter(count), &content, |b, content| {
            b.iter(|| presence_ack(black_box(content), 1_000, |id| id.ends_with('0')).unwrap());
        });
    }
    group.finish();
}

fn directory(c: &mut Criterion) {
    let directory = HeldIds::new(HELD_IDS).unwrap();
    let mut group = c.benchmark_group("directory in memory");
    group.bench_function("acquire and release", |b| {
        b.iter(|| assert!(directory.acquire_and_release()));
    });
    group.bench_function("look up", |b| b.iter(|| assert!(black_box(&directory).look_up())));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1));
    targets = addresses, packet, handshake, presence, directory
}
criterion_main!(benches);
