//! Real servers and raw WebSocket clients on loopback: a message through the broker, and one
//! through a peer of the peer-relay network.
//!
//! The parts of the peer-relay network are private to it, and stay so: what is timed is a message
//! from one channel to another, which is parsed, given its way and built anew in between.
//! Server and clients share the machine's cores, so this tells whether a change made something
//! faster; for how fast it is, see `scripts/bench`.
#![allow(clippy::unwrap_used, reason = "a bench stops there")]

#[path = "support/pair.rs"]
#[allow(unreachable_pub, reason = "a test uses it too")]
mod pair;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crolang_broker::{Config, ListenerSettings, Server};
use pair::{MOST_AT_ONCE, Pair, from_client, upgrade};
use peer_relay::PeerId;
use serde_json::json;
use tokio::runtime::Runtime;

/// The path of the peer-relay network.
const PEERS: &str = "/peers";

/// A server on a free port, without heartbeats in between.
fn start(runtime: &Runtime) -> Server {
    let mut config = Config { host: [127, 0, 0, 1].into(), port: 0, ..Config::default() };
    config.transport.ping_interval = Duration::from_secs(3600);
    (config.link.max_messages_per_second, config.link.max_bytes_per_second) = (None, None);
    config.peer_relay.path = Some(PEERS.into());
    config.listener = ListenerSettings::default();
    runtime.block_on(Server::bind(&config)).unwrap()
}

fn relay(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let server = start(&runtime);
    let mut group = c.benchmark_group("relay");
    for (size, at_once) in [(200, 1), (200, MOST_AT_ONCE), (16 * 1024, 1)] {
        let mut pair = Pair::connect(server.address(), size);
        group.throughput(Throughput::Elements(at_once as u64));
        let name = BenchmarkId::new(format!("{size} B, window"), at_once);
        group.bench_function(name, |b| b.iter(|| pair.relay(at_once, at_once)));
    }
    group.finish();
    runtime.block_on(server.shutdown());
}

/// A channel to the peer under test.
struct Neighbour {
    id: PeerId,
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Neighbour {
    /// Exchanges IDs.
    fn connect(server: &Server, byte: u8) -> Self {
        let id = PeerId::from_bytes([byte; 20]);
        let stream = upgrade(server.address(), PEERS);
        let mut neighbour = Self { id, stream, heard: Vec::new() };
        let buffer = json!({"type": "Buffer", "data": id.as_bytes()});
        neighbour.send(&buffer.to_string());
        neighbour.until("\"Buffer\"");
        neighbour
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(&from_client(text)).unwrap();
    }

    /// Reads until `text` has come, whatever comes before: peers also ask who is there.
    fn until(&mut self, text: &str) {
        use std::io::Read;
        let mut room = [0; 4096];
        loop {
            if let Some(at) = memchr::memmem::find(&self.heard, text.as_bytes()) {
                self.heard.drain(..at + text.len());
                return;
            }
            let count = self.stream.read(&mut room).unwrap();
            assert!(count > 0, "the channel ended");
            self.heard.extend(&room[..count]);
        }
    }
}

fn peer(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let server = start(&runtime);
    let mut sender = Neighbour::connect(&server, 1);
    let mut receiver = Neighbour::connect(&server, 2);
    let content = "x".repeat(200);
    let mut nonce = 0_u64;
    c.bench_function("message through a peer", |b| {
        b.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                nonce += 1;
                let nonce = format!("{nonce:012}");
                let message = json!({
                    "to": receiver.id, "from": sender.id, "path": [sender.id],
                    "nonce": nonce, "data": {"content": content},
                });
                let message = message.to_string();
                let began = Instant::now();
                sender.send(&message);
                receiver.until(&nonce);
                took += began.elapsed();
            }
            took
        });
    });
    runtime.block_on(server.shutdown());
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = relay, peer
}
criterion_main!(benches);
