//! The end in good order.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::support::{Node, start, start_with};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_queued_is_written_and_then_every_connection_is_closed() {
    let server = start().await;
    let address = server.address();
    let mut receiver = Node::connect(address, "bob").await;
    let mut sender = Node::connect(address, "alice").await;
    let _idle = TcpStream::connect(address).await.unwrap();
    let events: Vec<_> = (0..500)
        .map(|n| format!(r#"42{n}["SOCKET_MSG_EXCHANGE","{{\"to\":\"bob\",\"n\":{n}}}"]"#))
        .collect();
    sender.send_all(&events).await;
    assert_eq!(sender.text().await, "430[\"OK\"]");
    let began = Instant::now();
    server.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let (mut acked, mut received) = (1, 0);
    while let crate::support::Frame::Text(text) = sender.next().await {
        assert!(text.starts_with("43"), "{text}: no Socket.IO disconnect, or clients stay away");
        acked += usize::from(text.ends_with("[\"OK\"]"));
    }
    while let crate::support::Frame::Text(text) = receiver.next().await {
        assert!(text.starts_with("42"), "{text}");
        received += 1;
    }
    assert!(received >= acked, "{acked} were acked, {received} received");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_read_is_cut_off_in_time() {
    let server = start_with(|config| config.shutdown_timeout = Duration::from_secs(2)).await;
    let _bob = Node::connect(server.address(), "bob").await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let text = format!(r#"{{"to":"bob","s":"{}"}}"#, "x".repeat(100_000));
    while alice.ask("SOCKET_MSG_EXCHANGE", &text).await == "[\"OK\"]" {}
    let began = Instant::now();
    server.shutdown().await;
    let took = began.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_server_is_gone() {
    let server = start().await;
    let address = server.address();
    let mut node = Node::connect(address, "a").await;
    drop(server);
    node.end().await;
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::support::SOON, refused).await.expect("the port is closed");
}
