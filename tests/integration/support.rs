//! A server to test, and nodes that talk to it in raw frames.

mod node;

pub use node::{Frame, Node, frame, upgrade_request};

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crolang_broker::config::Config;
use crolang_broker::server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest that anything may take that should happen at once.
pub const SOON: Duration = Duration::from_secs(5);

/// A server on a free port.
pub async fn start() -> Server {
    start_with(|_| ()).await
}

/// A server on a free port, with a changed configuration.
pub async fn start_with(change: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config { host: [127, 0, 0, 1].into(), port: 0, ..Config::default() };
    change(&mut config);
    Server::bind(&config).await.unwrap()
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The value of a metric, by its name with labels.
pub fn metric(server: &Server, name: &str) -> f64 {
    let text = server.metrics().encode();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// Waits until the server holds nothing for anybody any more.
pub async fn back_at_the_start(server: &Server) {
    eventually("no links", || server.links().is_empty()).await;
    assert_eq!(metric(server, "crolang_nodes"), 0.0);
}

/// Sends bytes and returns all that comes back until the server closes.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
    // A reset is an end too.
    let _ = read.await.expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The answer to a plain GET.
pub async fn get(address: SocketAddr, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n");
    exchange(address, request.as_bytes()).await
}
