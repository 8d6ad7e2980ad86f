//! The tests' own tools do what they promise: proxies, Redis servers, processes.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{
    Authority, HaProxy, Mode, Node, Port, Process, Proxy, RedisCluster, RedisServer, SOON,
    Sentinels, Way, eventually, get,
};

/// Long enough that what does not come until then is kept from coming.
const A_WHILE: Duration = Duration::from_millis(100);

/// A server that says its name and then gives back what it gets; it ends when it is dropped.
struct Echo {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Echo {
    async fn start(name: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    // An error is a client that is gone.
                    let _ = stream.write_all(&[name]).await;
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Self { address, _tasks: tasks }
    }
}

/// An echo server, a proxy in front of it, and a connection through the proxy.
async fn proxied() -> (Echo, Proxy, TcpStream) {
    let echo = Echo::start(b'!').await;
    let proxy = Proxy::start(echo.address).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(read(&mut stream, 1).await, b"!");
    (echo, proxy, stream)
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    timeout(SOON, stream.read_exact(&mut bytes)).await.expect("something comes").unwrap();
    bytes
}

/// Whether nothing comes for a while, not even the end.
async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(A_WHILE, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn a_proxy_passes_on_and_counts() {
    let (echo, proxy, mut stream) = proxied().await;
    let much: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let (mut from, mut to) = stream.split();
    let mut back = vec![0; much.len()];
    let (sent, came) = tokio::join!(to.write_all(&much), from.read_exact(&mut back));
    assert!(sent.is_ok() && came.is_ok() && back == much);
    assert_eq!((proxy.connections(), proxy.accepted()), (1, 1));
    to.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut back).await.unwrap(), 0, "the end comes through and back");
    eventually("no connections", || proxy.connections() == 0).await;
    let mut second = TcpStream::connect(proxy.address()).await.unwrap();
    read(&mut second, 1).await;
    drop(echo);
    assert_eq!(second.read(&mut back).await.unwrap_or(0), 0);
    assert_eq!(proxy.accepted(), 2);
    drop(proxy);
}

#[tokio::test]
async fn a_proxy_cuts_and_refuses() {
    let (_echo, proxy, mut stream) = proxied().await;
    proxy.refuse().await;
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    stream.write_all(b"still").await.unwrap();
    assert_eq!(read(&mut stream, 5).await, b"still");
    proxy.cut();
    let cut = timeout(SOON, stream.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(cut.kind(), std::io::ErrorKind::ConnectionReset);
    eventually("no connections", || proxy.connections() == 0).await;
    proxy.pass().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(read(&mut stream, 1).await, b"!");
}

#[tokio::test]
async fn a_proxy_in_front_of_nobody_resets() {
    let nobody = Port::free();
    let proxy = Proxy::start(nobody.address()).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let error = timeout(SOON, stream.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_proxy_holds_back_and_delivers_later() {
    for way in [Way::ToTarget, Way::ToClient, Way::Both] {
        let (_echo, proxy, mut stream) = proxied().await;
        proxy.hold(way);
        stream.write_all(b"later").await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(is_silent(&mut stream).await, "{way:?}");
        proxy.pass().await;
        assert_eq!(read(&mut stream, 5).await, b"later");
        assert_eq!(timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
    }
}

#[tokio::test]
async fn a_proxy_loses_what_it_discards() {
    for way in [Way::ToTarget, Way::ToClient, Way::Both] {
        let (_echo, proxy, mut stream) = proxied().await;
        proxy.discard(way);
        stream.write_all(b"lost").await.unwrap();
        assert!(is_silent(&mut stream).await, "{way:?}");
        proxy.pass().await;
        stream.write_all(b"found").await.unwrap();
        assert_eq!(read(&mut stream, 5).await, b"found");
    }
    // An end does not get through either.
    let (_echo, proxy, mut stream) = proxied().await;
    proxy.discard(Way::ToTarget);
    stream.shutdown().await.unwrap();
    assert!(is_silent(&mut stream).await);
    proxy.pass().await;
    assert_eq!(timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_proxy_delays_without_slowing_down() {
    let (_echo, proxy, mut stream) = proxied().await;
    proxy.delay(A_WHILE);
    let began = Instant::now();
    for _ in 0..20 {
        stream.write_all(b"x").await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let sent = began.elapsed();
    read(&mut stream, 1).await;
    assert!(began.elapsed() >= 2 * A_WHILE, "there and back");
    read(&mut stream, 19).await;
    // One after the other would take twenty times as long.
    assert!(began.elapsed() < sent + 10 * A_WHILE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_proxy_lets_bytes_trickle() {
    let (_echo, proxy, mut stream) = proxied().await;
    proxy.trickle(Duration::from_millis(10));
    stream.write_all(b"0123456789").await.unwrap();
    let began = Instant::now();
    let mut buffer = [0; 10];
    let length = timeout(SOON, stream.read(&mut buffer)).await.unwrap().unwrap();
    read(&mut stream, 10 - length).await;
    assert!(length < 10 && began.elapsed() >= Duration::from_millis(50), "{length}");
    proxy.trickle(Duration::from_secs(60));
    stream.write_all(b"fast").await.unwrap();
    assert_eq!(read(&mut stream, 1).await, b"f");
    proxy.pass().await;
    assert_eq!(read(&mut stream, 3).await, b"ast");
}

#[tokio::test]
async fn redis_comes_back_empty_on_its_port() {
    let mut redis = RedisServer::start().await;
    assert_eq!(redis.url(), format!("redis://127.0.0.1:{}", redis.port));
    assert_eq!(redis.command(&["SET", "a b", "1\r\n2"]), "OK");
    assert_eq!(redis.command(&["GET", "a b"]), "1\r\n2");
    assert_eq!(redis.command(&["GET", "none"]), "");
    assert_eq!(redis.keys("a*"), ["a b"]);
    assert_eq!(redis.command(&["MGET", "a b", "none"]), "1\r\n2\n");
    assert_eq!(redis.command_calls()["get"], 2);
    assert!(redis.try_command(&["INCR", "a b"]).unwrap_err().contains("not an integer"));
    redis.stop().await;
    assert!(TcpStream::connect(redis.address()).await.is_err());
    redis.restart().await;
    assert!(redis.keys("*").is_empty());
    redis.command(&["SET", "c", "1"]);
    redis.restart().await;
    assert!(redis.keys("*").is_empty());
    redis.kill();
    assert!(TcpStream::connect(redis.address()).await.is_err());
    assert!(redis.log().contains("Ready to accept connections"));
    let folder = redis.folder().to_owned();
    drop(redis);
    assert!(!folder.exists());
}

#[tokio::test]
async fn redis_can_be_paused() {
    let redis = RedisServer::start().await;
    redis.pause();
    let mut stream = TcpStream::connect(redis.address()).await.unwrap();
    stream.write_all(b"PING\r\n").await.unwrap();
    assert!(is_silent(&mut stream).await);
    redis.resume();
    assert_eq!(read(&mut stream, 7).await, b"+PONG\r\n");
}

/// What redis-cli says.
fn cli(arguments: &[&str]) -> String {
    let output = Command::new("redis-cli").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn redis_is_reached_with_a_password_by_tls_and_by_a_socket() {
    let redis = RedisServer::start_with(&["--requirepass", "hunter2"]).await;
    assert!(cli(&["-u", &redis.url(), "PING"]).contains("NOAUTH"));
    assert_eq!(cli(&["-u", &redis.url(), "-a", "hunter2", "PING"]), "PONG");
    // redis-cli takes the missing name in such a URL for an empty one.
    assert!(redis.url_with_password("hunter2").starts_with("redis://:hunter2@127.0.0.1:"));
    redis.command(&["CONFIG", "SET", "requirepass", ""]);
    assert_eq!(cli(&["-u", &redis.url(), "PING"]), "PONG");
    let path = redis.unix_url();
    assert_eq!(cli(&["-s", path.strip_prefix("unix://").unwrap(), "PING"]), "PONG");

    let authority = Authority::new();
    let redis = RedisServer::start_tls(&authority).await;
    let roots = authority.file();
    let roots = roots.path().to_str().unwrap();
    assert_eq!(cli(&["-u", &redis.tls_url(), "--cacert", roots, "PING"]), "PONG");
    assert_eq!(cli(&["-u", &redis.tls_url(), "PING"]), "");
}

#[tokio::test]
async fn sentinels_replace_a_primary() {
    let mut sentinels = Sentinels::start().await;
    assert_eq!(sentinels.addresses().len(), 3);
    assert_eq!(sentinels.primary_address(), Some(sentinels.servers[0].address()));
    sentinels.servers[0].command(&["SET", "a", "1"]);
    eventually("it is copied", || sentinels.servers[1].keys("*") == ["a"]).await;
    let old = sentinels.kill_primary();
    sentinels.until_replaced(old).await;
    assert_eq!(sentinels.primary_address(), Some(sentinels.servers[1].address()));
    sentinels.servers[1].command(&["SET", "b", "1"]);
}

#[tokio::test]
async fn a_cluster_shares_the_keys() {
    let cluster = RedisCluster::start().await;
    let urls = cluster.urls();
    for key in ["a", "b", "c", "d"] {
        assert_eq!(cli(&["-c", "-u", &urls[0], "SET", key, "1"]), "OK");
    }
    let mut keys = cluster.keys("*");
    keys.sort();
    assert_eq!(keys, ["a", "b", "c", "d"]);
    // The slots of these keys are 15495, 3300, 7365 and 11298.
    let counts = cluster.servers.iter().map(|server| server.keys("*").len());
    assert_eq!(counts.collect::<Vec<_>>(), [1, 1, 2]);
    cluster.until_it_is_whole().await;
}

#[tokio::test]
async fn haproxy_takes_servers_in_turn() {
    let (a, b, nobody) = (Echo::start(b'a').await, Echo::start(b'b').await, Port::free());
    let haproxy = HaProxy::start(&[a.address, b.address]).await;
    let mut names = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(haproxy.address()).await.unwrap();
        names.extend(read(&mut stream, 1).await);
        stream.write_all(b"echo").await.unwrap();
        assert_eq!(read(&mut stream, 4).await, b"echo");
        streams.push(stream);
    }
    names.sort_unstable();
    assert_eq!(names, b"aabb");
    drop(a);
    eventually("one is gone", || haproxy.healthy() == 1).await;

    let broker = Process::start(&[]).await;
    let servers = [broker.address, nobody.address()];
    let haproxy = HaProxy::start_with(Mode::Http, Some("/health"), &servers).await;
    eventually("the other is missed", || haproxy.healthy() == 1).await;
    for _ in 0..2 {
        assert!(get(haproxy.address(), "/health").await.contains("\"ok\""));
    }
    Node::connect(haproxy.address(), "alice").await;
    let haproxy = HaProxy::start_with(Mode::Tcp, Some("/unheard-of"), &servers).await;
    eventually("a wrong answer is no health", || haproxy.healthy() == 0).await;
}

#[tokio::test]
async fn a_process_is_paused_killed_and_comes_back_where_it_was() {
    let port = Port::free();
    let number = port.number().to_string();
    let mut process = Process::start(&[("PORT", &number)]).await;
    assert_eq!(process.address, port.address());
    assert!(std::fs::exists(format!("/proc/{}", process.pid())).unwrap());
    assert_eq!(process.logged("listening").unwrap()["address"], port.address().to_string());
    let mut node = Node::connect(process.address, "alice").await;
    process.pause();
    let mut answer = tokio::spawn(get(process.address, "/health"));
    assert!(timeout(A_WHILE, &mut answer).await.is_err());
    process.resume();
    assert!(answer.await.unwrap().contains("\"ok\""));
    process.kill();
    node.end().await;
    assert!(process.log().contains("listening"));
    let again = Process::start(&[("PORT", &number)]).await;
    Node::connect(again.address, "alice").await;
    again.signal("TERM");
    assert_eq!(again.end().await.0, Some(0));
}
