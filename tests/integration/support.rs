//! A server to test, nodes that talk to it in raw frames, and what it needs around it: webhook
//! servers, Redis servers, other brokers, proxies that fail and balance.

mod api;
mod cluster;
mod events;
mod haproxy;
mod hook;
mod nginx;
mod node;
mod peer;
mod process;
mod tls;
mod web;

pub use api::{API, READ_TOKEN, TOKEN, api_get, api_post, column, request};
pub use cluster::{
    Client, KeptOut, Replica, seeded, start_replica, start_replicas, until_ready, url_through,
};
pub use events::{EVENTS, RELAYED_EVENT};
pub use haproxy::{HaProxy, Mode};
pub use hook::{Call, Fault, Hook, MAX_ANSWER_BYTES, Reply, padded};
pub use nginx::{Nginx, Pass};
pub use node::{Frame, Live, Node, frame, upgrade_request};
pub use peer::{PEERS, RawPeer, buffer, id};
pub use process::{Process, program};
pub use test_support::{
    Authority, Daemon, Port, Proxy, RedisCluster, RedisServer, SOON, Sentinels, Way, eventually,
    eventually_within,
};
pub use tls::TlsFiles;
pub use web::Web;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crolang_broker::{Config, ConfigErrors, Server, StartError, VARIABLES, Variable};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

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

/// A server on this port. It waits for what else holds the port: a process that is just being
/// started has a copy of the listener before for a moment.
pub async fn start_on(port: &Port, change: impl Fn(&mut Config)) -> Server {
    let mut config =
        Config { host: [127, 0, 0, 1].into(), port: port.number(), ..Config::default() };
    change(&mut config);
    let began = Instant::now();
    loop {
        match Server::bind(&config).await {
            Err(StartError::Bind { source, .. })
                if source.kind() == ErrorKind::AddrInUse && began.elapsed() < SOON =>
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            started => return started.unwrap(),
        }
    }
}

/// A server on a free port, as these variables make it.
pub async fn start_with_variables(variables: &[(&str, &str)]) -> Server {
    Server::bind(&configuration(variables).unwrap()).await.unwrap()
}

/// The configuration of a server on a free port, with these variables set.
pub fn configuration(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    for (name, _) in variables {
        let is_listed = |it: &Variable| it.name == *name || it.file() == Some(name);
        assert!(VARIABLES.iter().any(is_listed), "there is no {name}");
    }
    let all = [("HOST", "127.0.0.1"), ("PORT", "0")].iter().chain(variables);
    Config::read(|name| {
        let set = all.clone().find(|(variable, _)| *variable == name);
        set.map(|(_, value)| OsString::from(value))
    })
}

/// A node that connects with this query; or the answer that kept it out: HTTP or `connect_error`.
pub async fn enter(address: SocketAddr, query: &str) -> Result<Node, String> {
    let mut node = Node::try_open(address, query).await?;
    node.send("40").await;
    let answer = node.text().await;
    if answer.starts_with("44") {
        return Err(answer);
    }
    assert!(answer.starts_with("40{\"sid\":\""), "{answer}");
    rtc_configuration(&node.text().await);
    Ok(node)
}

/// The text of the RTC configuration in the event that tells a node that it is connected.
pub fn rtc_configuration(event: &str) -> String {
    let argument = event.strip_prefix("42[\"AUTHENTICATED\",").and_then(|it| it.strip_suffix(']'));
    serde_json::from_str(argument.unwrap_or_else(|| panic!("not greeted but {event}"))).unwrap()
}

/// The time since 1970.
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// The value of a metric, by its name with labels.
pub fn metric(server: &Server, name: &str) -> f64 {
    let text = server.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// How much memory a process has.
pub fn resident_bytes(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Waits until the server holds nothing for anybody any more.
pub async fn back_at_the_start(server: &Server) {
    eventually("no links", || server.connections() == 0).await;
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

/// A connection from the loopback address 127.0.0.`source`.
pub async fn connect_from(source: u8, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, source], 0).into()).unwrap();
    socket.connect(address).await.unwrap()
}

/// The answer to a plain GET.
pub async fn get(address: SocketAddr, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n");
    exchange(address, request.as_bytes()).await
}
