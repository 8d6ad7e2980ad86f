//! The end in good order.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{Frame, Node, start, start_with};

/// Reads until the end, in a task of its own: how many texts there were, each of which must have
/// this start and this end.
fn count(mut node: Node, start: &'static str, end: &'static str) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let mut texts = 0;
        while let Frame::Text(text) = node.next_unanswered().await {
            // No Socket.IO disconnect above all: clients do not come back after one.
            assert!(text.starts_with(start), "{text}");
            texts += usize::from(text.ends_with(end));
        }
        texts
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acked_is_delivered_and_then_every_connection_is_closed() {
    for _ in 0..5 {
        let server = start().await;
        let address = server.address();
        let receiver = Node::connect(address, "bob").await;
        let mut sender = Node::connect(address, "alice").await;
        let idle = TcpStream::connect(address).await.unwrap();
        let event = r#"["SOCKET_MSG_EXCHANGE","{\"to\":\"bob\"}"]"#;
        let events: Vec<_> = (0..2000).map(|n| format!("42{n}{event}")).collect();
        sender.send_all(&events).await;
        assert_eq!(sender.text().await, "430[\"OK\"]");
        let (acked, received) = (count(sender, "43", "[\"OK\"]"), count(receiver, "42", ""));
        let began = Instant::now();
        server.shutdown().await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        let (acked, received) = (acked.await.unwrap() + 1, received.await.unwrap());
        assert!(received >= acked, "{acked} were acked, {received} received");
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
        drop(idle);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_read_is_cut_off_in_time() {
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
