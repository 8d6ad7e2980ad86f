//! Long messages: they arrive whole and in order among short ones, and no connection keeps the
//! memory that one took.

use tokio::io::AsyncWriteExt;

use crate::support::{Node, Process, frame, resident_bytes, start};

/// A message for `to` whose text has about `length` bytes, not all of them one byte long.
fn message(ack: &str, to: &str, length: usize) -> String {
    let text = "\u{e9}t\u{e9} ".repeat(length / 6);
    format!(r#"42{ack}["SOCKET_MSG_EXCHANGE","{{\"to\":\"{to}\",\"s\":\"{text}\"}}"]"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_arrive_whole_and_in_order_among_short_ones() {
    let server = start().await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut bob = Node::connect(server.address(), "bob").await;
    let lengths =
        [10, 4_050, 4_100, 20, 8_200, 60_000, 30, 66_000, 300_000, 40, 50, 12_000, 4_096, 0];
    let sent = lengths.map(|length| message("", "bob", length));
    let asked: Vec<String> = lengths
        .iter()
        .enumerate()
        .map(|(n, length)| message(&n.to_string(), "bob", *length))
        .collect();
    for _ in 0..3 {
        // Both write before they read: the answers and the messages fill the same queues.
        let mut writing = alice.second_stream();
        let bytes: Vec<u8> = asked.iter().flat_map(|text| frame(0x81, text.as_bytes())).collect();
        let written = tokio::spawn(async move {
            writing.write_all(&bytes).await.unwrap();
        });
        for text in &sent {
            assert!(bob.text().await == *text, "{} bytes", text.len());
        }
        for n in 0..asked.len() {
            assert_eq!(alice.text().await, format!("43{n}[\"OK\"]"));
        }
        written.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_message_may_come_in_fragments_of_any_length() {
    let server = start().await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut bob = Node::connect(server.address(), "bob").await;
    let sent = message("", "bob", 50_000);
    for length in [1_000, 4_096, 5_000, 20_001] {
        let fragments: Vec<&[u8]> = sent.as_bytes().chunks(length).collect();
        for (index, fragment) in fragments.iter().enumerate() {
            let opcode = if index == 0 { 0x01 } else { 0x00 };
            let is_final = if index + 1 == fragments.len() { 0x80 } else { 0x00 };
            alice.send_bytes(&frame(opcode | is_final, fragment)).await;
        }
        assert!(bob.text().await == sent, "fragments of {length} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_keeps_the_memory_of_one() {
    const NODES: usize = 40;
    const LENGTH: usize = 900_000;
    // Nobody answers heartbeats here, and a busy machine may take its time.
    let broker = Process::start(&[("PING_INTERVAL_MS", "600000")]).await;
    let mut nodes = Vec::new();
    for n in 0..NODES {
        nodes.push(Node::connect(broker.address, &format!("n{n}")).await);
    }
    let mut before = 0;
    for round in 0..=NODES {
        if round == 1 {
            // Behind the first message, which makes the process grow by what one takes.
            before = resident_bytes(broker.pid());
        }
        let (from, to) = (round % NODES, (round + 1) % NODES);
        nodes[from].send(&message("1", &format!("n{to}"), LENGTH)).await;
        assert_eq!(nodes[from].text().await, "431[\"OK\"]");
        assert!(nodes[to].text().await.len() >= LENGTH);
        // The test's own memory is not what this is about.
        nodes[to].forget_buffer();
    }
    let grown = resident_bytes(broker.pid()).saturating_sub(before);
    // Each node has read one and written one. Half of one of the two would be over the limit.
    assert!(grown < NODES * LENGTH / 2, "grown by {grown} bytes");
}
