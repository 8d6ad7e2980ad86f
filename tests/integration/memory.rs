//! What nodes leave behind when they have left: next to nothing.

use crate::support::{Node, Process, SOON, eventually_within, resident_bytes};

/// Connects so many nodes.
async fn connect(broker: &Process, count: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    for n in 0..count {
        nodes.push(Node::connect(broker.address, &format!("n{n}")).await);
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_those_who_left_is_given_back() {
    const NODES: usize = 500;
    // Nobody answers heartbeats here, and a busy machine may take its time.
    let broker = Process::start(&[("PING_INTERVAL_MS", "600000")]).await;
    // The first nodes make the process grow by more than what they take.
    drop(connect(&broker, 100).await);
    let before = resident_bytes(broker.pid());
    let nodes = connect(&broker, NODES).await;
    let with = resident_bytes(broker.pid());
    assert!(with > before + NODES * 6_144, "{before}, then {with} bytes");
    drop(nodes);
    eventually_within(SOON * 4, "half of what they took is given back", || {
        resident_bytes(broker.pid()) < before + (with - before) / 2
    })
    .await;
}
