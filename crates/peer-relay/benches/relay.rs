//! Messages from one peer to another through a third, over sockets of the loopback address.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::unwrap_used, reason = "a bench stops there")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use peer_relay::{Events, Peer, PeerEvent, PeerId, PeerSettings};

/// The number of messages that travel at a time in the second bench.
const BURST: usize = 64;

struct Pair {
    sender: Peer,
    receiver: PeerId,
    received: Events,
    _others: [Peer; 2],
}

async fn pair() -> Pair {
    let listening = PeerSettings { listen: Some(([127, 0, 0, 1], 0).into()), ..Default::default() };
    let hub = Peer::start(listening).await.unwrap();
    let url = format!("ws://{}", hub.local_addr().unwrap()).parse::<url::Url>().unwrap();
    let leaf = || Peer::start(PeerSettings { bootstrap: vec![url.clone()], ..Default::default() });
    let (sender, receiver) = (leaf().await.unwrap(), leaf().await.unwrap());
    while hub.neighbours().len() < 2 {
        tokio::task::yield_now().await;
    }
    Pair { receiver: receiver.id(), received: receiver.events(), sender, _others: [hub, receiver] }
}

async fn exchange(pair: &mut Pair, count: usize, text: &str) {
    for _ in 0..count {
        pair.sender.send(pair.receiver, text).unwrap();
    }
    let mut missing = count;
    while missing > 0 {
        if let Some(PeerEvent::Message { data, .. }) = pair.received.next().await {
            black_box(data);
            missing -= 1;
        }
    }
}

fn relay(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut pair = runtime.block_on(pair());
    let text = "x".repeat(256);
    let mut group = criterion.benchmark_group("relay");
    for count in [1, BURST] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{count} at a time"), |bencher| {
            bencher.iter(|| runtime.block_on(exchange(&mut pair, count, &text)));
        });
    }
    group.finish();
}

criterion_group!(benches, relay);
criterion_main!(benches);
