//! Discovery on each of its storage backends: a real server, asked over one kept connection.
//!
//! One request after the other: what a request takes, and not how many can be served at a time.
//! The backend `redis` is left out where no `redis-server` is on the path.
#![allow(clippy::unwrap_used, reason = "a bench stops there")]

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use crolang_broker::{Config, Server};
use tokio::runtime::Runtime;

/// How many sessions the list has that is asked for.
const LISTED: usize = 100;

/// The longest that anything may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A Redis server that keeps nothing and ends when it is dropped.
struct Redis {
    process: Child,
    url: String,
}

impl Redis {
    /// None if there is no such program.
    fn start() -> Option<Self> {
        // Free a moment ago; where somebody else takes it meanwhile, nothing answers below.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let port = address.port().to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        let process = command.stdout(Stdio::null()).spawn().ok()?;
        let redis = Self { process, url: format!("redis://{address}") };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < TIMEOUT, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A connection that is kept.
struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    fn connect(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self { stream, answer: Vec::new() }
    }

    /// The body of the answer to a request, which has to be 200.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> &str {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: broker\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).unwrap();
        self.answer.clear();
        let mut wanted = None;
        let mut room = [0; 64 * 1024];
        while wanted.is_none_or(|(_, end)| self.answer.len() < end) {
            let count = self.stream.read(&mut room).unwrap();
            assert!(count > 0, "the connection ended");
            self.answer.extend(&room[..count]);
            wanted = wanted.or_else(|| extent(&self.answer));
        }
        let (begin, _) = wanted.unwrap();
        let text = std::str::from_utf8(&self.answer).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{method} {path}: {text}");
        &text[begin..]
    }

    /// Makes a session; its code.
    fn offer(&mut self, topic: &str) -> String {
        let offer = "v=0\\r\\n".repeat(100);
        let body = format!(r#"{{"info":"a peer","offer":"{offer}"}}"#);
        let answer = self.ask("POST", &format!("/{topic}/offer"), &body);
        answer.split('"').nth(3).unwrap().to_owned()
    }
}

/// Where the body of an answer begins and ends, once its head has come.
fn extent(answer: &[u8]) -> Option<(usize, usize)> {
    let begin = memchr::memmem::find(answer, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..begin]).unwrap().to_ascii_lowercase();
    let length: usize =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
    Some((begin, begin + length))
}

/// A server with this storage and without the limits that a bench would run into.
fn start(runtime: &Runtime, storage: &[(&str, &str)]) -> Server {
    let common = [
        ("HOST", "127.0.0.1"),
        ("PORT", "0"),
        ("DISCOVERY_MAX_REQUESTS_PER_SECOND", "0"),
        ("DISCOVERY_MAX_SESSIONS", "10000000"),
        ("DISCOVERY_MAX_SESSIONS_PER_ORIGIN", "10000000"),
        ("DISCOVERY_MAX_STORED_BYTES", "4000000000"),
        ("DISCOVERY_MAX_PERCENT_PER_ADDRESS", "100"),
    ];
    let all = [&common, storage].concat();
    let config = Config::read(|name| {
        let set = all.iter().find(|(variable, _)| *variable == name);
        set.map(|(_, value)| OsString::from(value))
    });
    runtime.block_on(Server::bind(&config.unwrap())).unwrap()
}

fn requests(c: &mut Criterion, backend: &str, storage: &[(&str, &str)]) {
    let runtime = Runtime::new().unwrap();
    let server = start(&runtime, &[&[("STORAGE_TYPE", backend)], storage].concat());
    let mut client = Client::connect(server.address());
    let mut group = c.benchmark_group(format!("discovery on {backend}"));

    let code = client.offer("found");
    let candidate = format!(r#"{{"code":"{code}","side":"answerer","candidate":"a"}}"#);
    client.ask("POST", "/answer", &candidate);
    for _ in 0..LISTED {
        client.offer("listed");
    }
    let poll = format!(r#"{{"code":"{code}","side":"offerer"}}"#);
    group.bench_function("poll", |b| b.iter(|| client.ask("POST", "/poll", &poll).len()));
    group.bench_function(format!("list of {LISTED}"), |b| {
        b.iter(|| client.ask("GET", "/listed/sessions", "").len());
    });
    let answer = format!(r#"{{"code":"{code}","side":"answerer","answer":"b"}}"#);
    group.bench_function("answer", |b| b.iter(|| client.ask("POST", "/answer", &answer).len()));
    group.bench_function("offer", |b| b.iter(|| client.offer("offered")));
    group.finish();
    runtime.block_on(server.shutdown());
}

fn backends(c: &mut Criterion) {
    requests(c, "memory", &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.db");
    requests(c, "sqlite", &[("STORAGE_PATH", file.to_str().unwrap())]);
    match Redis::start() {
        Some(redis) => requests(c, "redis", &[("REDIS_URL", &redis.url)]),
        None => eprintln!("discovery on redis: skipped, there is no redis-server"),
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1));
    targets = backends
}
criterion_main!(benches);
