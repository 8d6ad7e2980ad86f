//! Nothing grows with the time that a broker runs: nodes come, talk and leave, and the memory is
//! as much at the end as after the warm-up; files, tasks and keys are as few as at the start.
//!
//! Half a minute shows what is lost with each connection or message. `LEAK_TEST_MINUTES` makes it
//! longer, for what is lost more slowly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{Call, Hook, Node, RedisServer, Replica, eventually, frame, resident_bytes};

/// How long nodes come and leave.
const DURATION: Duration = Duration::from_secs(30);

/// How often the memory is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// By how much the memory may seem to have grown. The allocator takes it from the system in
/// pieces, and some of them are on their way back.
const NOISE_BYTES: usize = 3 << 20;

/// Nodes that send to each other all the time, on each pair of replicas.
const PAIRS: usize = 4;

/// Nodes that come and leave at the same time.
const CHURNERS: usize = 12;

/// What was done so far.
#[derive(Default)]
struct Done {
    visits: AtomicU64,
    messages: AtomicU64,
}

/// Sends to a node that stays, again and again.
async fn send(address: SocketAddr, number: usize, done: Arc<Done>) {
    let mut node = Node::connect(address, &format!("sender{number}")).await;
    let to = format!("receiver{number}");
    for round in 0_u64.. {
        let payload = json!({"to": to, "data": "x".repeat(round as usize % 2_000)}).to_string();
        match node.ask("SOCKET_MSG_EXCHANGE", &payload).await.as_str() {
            "[\"OK\"]" => drop(done.messages.fetch_add(1, Ordering::Relaxed)),
            // To another replica, on a machine that was busy for a second.
            "[\"ERROR\"]" => {}
            other => panic!("{other}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Comes under an ID that was never there before, or always the same, here and there; talks, and
/// leaves in one of several ways.
async fn come_and_leave(addresses: [SocketAddr; 2], number: usize, done: Arc<Done>) {
    for visit in 0_usize.. {
        let id = match visit % 2 {
            0 => format!("visitor{number}"),
            _ => format!("visitor{number}-{visit}"),
        };
        let mut node = match Node::try_connect(addresses[visit / 2 % 2], &id).await {
            Ok(node) => node,
            Err(answer) => {
                // As official nodes do, it retries.
                assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let receiver = format!("receiver{}", number % (2 * PAIRS));
        let ids = json!({"ids": [receiver, "nobody", id]}).to_string();
        node.ask("ARE_NODES_CONNECTED_TO_BROKER", &ids).await;
        for to in [receiver.as_str(), "nobody"] {
            let payload = json!({"to": to}).to_string();
            node.ask("SOCKET_MSG_EXCHANGE", &payload).await;
        }
        match visit % 3 {
            0 => {}
            1 => {
                let socket = socket2::SockRef::from(&node.stream);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
            }
            _ => node.send_bytes(&frame(0x88, &[3, 232])).await,
        }
        done.visits.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(5)).await;
    }
}

/// How long the test runs.
fn duration() -> Duration {
    let Ok(minutes) = std::env::var("LEAK_TEST_MINUTES") else { return DURATION };
    let minutes: f64 = minutes.parse().expect("LEAK_TEST_MINUTES is a number");
    Duration::from_secs_f64(60.0 * minutes)
}

fn median(samples: &[usize]) -> usize {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    samples[samples.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_nodes_that_came_talked_and_left() {
    let redis = RedisServer::start().await;
    let yes = json!({"authenticated": true});
    let authentication = Hook::start(move |_: &Call| yes.clone()).await;
    let variables = [("NODES_AUTHENTICATION_WEBHOOK_URL", &*authentication.url("/"))];
    let replicas =
        [Replica::start(&redis, &variables).await, Replica::start(&redis, &variables).await];
    let addresses = [replicas[0].address(), replicas[1].address()];
    let mut at_rest = Vec::new();
    for replica in &replicas {
        // What is made at the first call of a webhook, and then stays, is no leak.
        drop(Node::connect(replica.address(), "first").await);
    }
    authentication.refuse().await;
    for replica in &replicas {
        at_rest.push(replica.process.holdings_at_rest().await);
    }
    authentication.accept().await;

    let (done, mut load, mut receivers) = (Arc::<Done>::default(), JoinSet::new(), Vec::new());
    for number in 0..2 * PAIRS {
        let receiver = Node::connect(addresses[number % 2], &format!("receiver{number}")).await;
        receivers.push(receiver.live());
        load.spawn(send(addresses[number / 2 % 2], number, done.clone()));
    }
    for number in 0..CHURNERS {
        load.spawn(come_and_leave(addresses, number, done.clone()));
    }
    let (began, duration) = (Instant::now(), duration());
    let mut samples = [Vec::new(), Vec::new()];
    while began.elapsed() < duration {
        sleep(SAMPLE_INTERVAL).await;
        for (samples, replica) in samples.iter_mut().zip(&replicas) {
            samples.push(resident_bytes(replica.process.pid()));
        }
        if let Some(ended) = load.try_join_next() {
            ended.unwrap();
        }
    }
    load.shutdown().await;
    drop(receivers);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!("{} visits, {} messages", count(&done.visits), count(&done.messages));
    assert!(count(&done.visits) > 100 && count(&done.messages) > 1_000);

    for samples in &samples {
        // The first third warms up.
        let third = samples.len() / 3;
        let (warm, end) = (median(&samples[third..2 * third]), median(&samples[2 * third..]));
        println!("{} KB, then {} KB", warm / 1024, end / 1024);
        assert!(end < warm + NOISE_BYTES, "{warm}, then {end} bytes");
    }
    eventually("no lease is left", || redis.keys("crolang:node:*").is_empty()).await;
    assert_eq!(redis.keys("*").len(), replicas.len() + 1, "the replicas' own, and their list");
    // What is kept open to the hook is the hook's to close.
    authentication.refuse().await;
    for (replica, at_rest) in replicas.iter().zip(at_rest) {
        replica.process.until_it_holds(at_rest).await;
    }
}
