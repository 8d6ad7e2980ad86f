//! The start without Redis, the end without it, and what is said in the log meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::redis_outage::{BACK, Side};
use crate::support::{
    Daemon, Frame, HaProxy, Mode, Node, Port, Process, RedisServer, SOON, eventually, get, program,
    start_with_variables,
};

async fn status(address: SocketAddr, path: &str) -> String {
    let answer = get(address, path).await;
    answer.split(' ').nth(1).unwrap().to_owned()
}

async fn until_ready(process: &Process, limit: Duration) {
    let began = Instant::now();
    while status(process.address, "/readyz").await != "200" {
        assert!(began.elapsed() < limit, "not ready in time: {}", process.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_start_does_not_need_redis() {
    let mut redis = RedisServer::start().await;
    redis.stop().await;
    let server = start_with_variables(&[("REDIS_URL", &redis.url())]).await;
    let mut side = Side { broker: server, members: Vec::new() };
    assert_eq!(status(side.broker.address(), "/health").await, "200");
    assert_eq!(status(side.broker.address(), "/readyz").await, "503");
    side.turns_away().await;
    redis.restart().await;
    side.until_ready(BACK).await;
    side.try_join("a").await.unwrap();
    side.goes_on().await;
}

/// The exit code and all output of a program with these variables.
async fn outcome(variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = program(variables);
    command.stderr(std::process::Stdio::piped());
    let daemon = Daemon::spawn(command);
    // `end` waits no longer than 10 s, and so long is waited for a Redis that is required.
    tokio::time::sleep(Duration::from_secs(2)).await;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_redis_that_is_missing_stops_the_start() {
    let nobody = Port::free();
    let locked = RedisServer::start_with(&["--requirepass", "right"]).await;
    let away = format!("redis://:canary-password@{}", nobody.address());
    let wrong = locked.url_with_password("canary-password");
    let run = async |url| {
        let variables = [("PORT", "0"), ("REDIS_URL", url), ("REDIS_REQUIRED_AT_START", "true")];
        outcome(&variables).await
    };
    for (code, output) in <[_; 2]>::from(tokio::join!(run(&away), run(&wrong))) {
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains("crolang-broker: Redis cannot be reached"), "{output}");
        assert!(!output.contains("canary") && !output.contains("listening"), "{output}");
    }
    let there = RedisServer::start().await;
    let variables = [("REDIS_URL", &*there.url()), ("REDIS_REQUIRED_AT_START", "true")];
    let process = Process::start(&variables).await;
    until_ready(&process, SOON).await;
}

#[tokio::test]
async fn urls_that_cannot_be_right_stop_the_start() {
    let wrong = [
        ("single", "localhost:6379"),
        ("single", "http://:canary@localhost"),
        ("single", "redis://:canary@"),
        ("single", "redis://:canary@localhost/x"),
        ("single", "redis://:canary@localhost:99999"),
        ("single", "unix://"),
        // It would switch off the check of the server's certificate.
        ("single", "rediss://:canary@a/#insecure"),
        ("single", "redis://:canary@a,redis://b"),
        ("single", ","),
        ("sentinel", "unix:///canary"),
        ("cluster", "unix:///canary"),
        ("cluster", "redis://:canary@a/1"),
    ];
    for (mode, url) in wrong {
        let mut command = program(&[("PORT", "0"), ("REDIS_URL", url), ("REDIS_MODE", mode)]);
        let output = command.arg("--check-config").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{mode} {url}: {said}");
        assert!(said.contains("REDIS_URL") && !said.contains("canary"), "{url}: {said}");
    }
}

#[tokio::test]
async fn settings_that_endanger_leases_are_warned_of() {
    let careless =
        RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let careless = careless.await;
    let url = careless.url();
    let process = Process::start(&[("REDIS_URL", &url), ("REDIS_LOCK_TTL_MS", "2000")]).await;
    until_ready(&process, SOON).await;
    let log = process.log();
    assert!(log.contains("REDIS_LOCK_TTL_MS is short"), "{log}");
    assert!(log.contains("maxmemory-policy") && log.contains("allkeys-lru"), "{log}");
    let careful = RedisServer::start().await;
    let process = Process::start(&[("REDIS_URL", &careful.url())]).await;
    until_ready(&process, SOON).await;
    let log = process.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_secret_is_said_while_redis_is_away() {
    const SECRET: &str = "canary-password";
    let mut redis = RedisServer::start_with(&["--requirepass", "another"]).await;
    let url = redis.url_with_password(SECRET).replace("//:", "//default:");
    let mut processes = Vec::new();
    for level in ["0", "1", "2", "3"] {
        let variables = [("REDIS_URL", &*url), ("REDIS_LOCK_TTL_MS", "2000"), ("LOG_LEVEL", level)];
        processes.push(Process::start(&variables).await);
    }
    let until_said = async |what: &str| {
        eventually("every one says why", || processes.iter().all(|it| it.log().contains(what)))
            .await;
    };
    until_said("Password authentication failed").await;
    redis.command(&["CONFIG", "SET", "requirepass", SECRET]);
    for process in &processes {
        until_ready(process, BACK).await;
        let mut node = Node::connect(process.address, &format!("n{}", process.pid())).await;
        node.ask("SOCKET_MSG_EXCHANGE", r#"{"to":"nobody","content":"canary-content"}"#).await;
    }
    redis.stop().await;
    for process in &processes {
        let answer = Node::try_connect(process.address, "newcomer").await.err().unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && !answer.contains("canary"), "{answer}");
        assert!(!get(process.address, "/metrics").await.contains("canary"));
        assert!(!get(process.address, "/readyz").await.contains("canary"));
    }
    until_said("refused").await;
    for process in processes {
        process.signal("TERM");
        let (code, log) = process.end().await;
        assert_eq!(code, Some(0));
        assert!(!log.contains("canary"), "{log}");
        // One line for each reason, not for each attempt.
        let lines = log.lines().filter(|line| line.contains("Redis is unavailable")).count();
        assert!((2..10).contains(&lines), "{lines} in {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_does_not_wait_for_redis() {
    let mut redis = RedisServer::start().await;
    let url = redis.url();
    let variables = [("REDIS_URL", &*url), ("SHUTDOWN_TIMEOUT_MS", "2000"), ("LOG_LEVEL", "1")];
    let ends = async |process: Process, mut node: Node| {
        let began = Instant::now();
        process.signal("TERM");
        node.end().await;
        let (code, log) = process.end().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(began.elapsed() < Duration::from_millis(2_300), "{:?}", began.elapsed());
        assert!(log.contains("\"stopped\""), "{log}");
    };
    for hangs in [true, false] {
        let first = Process::start(&variables).await;
        let second = Process::start(&variables).await;
        until_ready(&first, BACK).await;
        until_ready(&second, BACK).await;
        let nodes =
            [Node::connect(first.address, "a").await, Node::connect(second.address, "b").await];
        let [a, b] = nodes;
        if hangs {
            redis.pause();
        } else {
            redis.kill();
        }
        // One that does not know yet, and one that does.
        ends(first, a).await;
        eventually("it knows", || second.log().contains("Redis is unavailable")).await;
        ends(second, b).await;
        redis.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_ends_leaves_nothing_in_redis() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let leaving = Process::start(&[("REDIS_URL", &url)]).await;
    let staying = Process::start(&[("REDIS_URL", &url)]).await;
    until_ready(&leaving, SOON).await;
    until_ready(&staying, SOON).await;
    let mut nodes = Vec::new();
    for number in 0..100 {
        nodes.push(Node::connect(leaving.address, &format!("n{number}")).await);
    }
    let _other = Node::connect(staying.address, "other").await;
    assert_eq!(redis.keys("crolang:node:*").len(), 101);
    assert_eq!(redis.keys("crolang:replica:*").len(), 2);
    leaving.signal("TERM");
    for (number, mut node) in nodes.into_iter().enumerate() {
        node.end().await;
        // Its ID was free before its connection was closed.
        let again = Node::try_connect(staying.address, &format!("n{number}")).await;
        drop(again.unwrap_or_else(|answer| panic!("n{number}: {answer}")));
    }
    let (code, log) = leaving.end().await;
    assert_eq!(code, Some(0), "{log}");
    let left = || (redis.keys("crolang:*").len(), redis.command(&["GET", "crolang:replicas:all"]));
    let is_other = |list: String| list.trim().len() == 32;
    eventually("only the other is left", || left().0 == 3 && is_other(left().1)).await;
    assert_eq!(redis.keys("crolang:node:*"), ["crolang:node:other"]);
}

/// What a node has seen that talks to the next one all the time.
#[derive(Default)]
struct Talk {
    /// How often it was asked to retry, for each time that it came.
    turned_away: Vec<usize>,
    acked_ok: Vec<u64>,
    received: Vec<u64>,
}

impl Talk {
    /// Enters `n{place}`, however often its connection ends, until it is over for all.
    async fn hold(
        place: usize,
        nodes: usize,
        address: SocketAddr,
        is_over: Arc<AtomicBool>,
        everybody: Arc<Barrier>,
    ) -> Self {
        let (mut talk, mut number) = (Self::default(), 0);
        loop {
            let mut node = talk.enter(place, address).await;
            while !is_over.load(Ordering::SeqCst) {
                number += 1;
                let to = (place + 1) % nodes;
                let Some(ack) = talk.send(&mut node, to, number).await else { break };
                match &*ack {
                    "[\"OK\"]" => talk.acked_ok.push(number),
                    // The other one is on its way back, or its broker was.
                    other => assert!(other.contains("NOT_CONNECTED") || other.contains("ERROR")),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if is_over.load(Ordering::SeqCst) {
                everybody.wait().await;
                // What the others have sent was delivered before this is.
                assert!(talk.send(&mut node, place, 0).await.is_some());
                while talk.received.last() != Some(&0) {
                    let Frame::Text(text) = node.next().await else { panic!("it ended") };
                    talk.note(&text);
                }
                return talk;
            }
        }
    }

    async fn enter(&mut self, place: usize, address: SocketAddr) -> Node {
        self.turned_away.push(0);
        loop {
            match Node::try_connect(address, &format!("n{place}")).await {
                Ok(node) => return node,
                Err(answer) => assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}"),
            }
            *self.turned_away.last_mut().unwrap() += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The ack of a message; `None` if the connection ends before it.
    async fn send(&mut self, node: &mut Node, to: usize, number: u64) -> Option<String> {
        let payload = json!({ "to": format!("n{to}"), "number": number }).to_string();
        node.send(&format!("42{number}{}", json!(["SOCKET_MSG_EXCHANGE", payload]))).await;
        loop {
            let Frame::Text(text) = node.next().await else { return None };
            match text.strip_prefix(&format!("43{number}")) {
                Some(ack) => return Some(ack.to_owned()),
                None => self.note(&text),
            }
        }
    }

    fn note(&mut self, text: &str) {
        let event: Value = serde_json::from_str(text.strip_prefix("42").expect(text)).unwrap();
        let payload: Value = serde_json::from_str(event[1].as_str().unwrap()).unwrap();
        self.received.push(payload["number"].as_u64().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_are_restarted_one_after_the_other_under_load() {
    const NODES: usize = 20;
    let redis = RedisServer::start().await;
    let (url, ports) = (redis.url(), [Port::free(), Port::free()]);
    let start = async |port: &Port| {
        let port = port.number().to_string();
        Process::start(&[("REDIS_URL", &url), ("PORT", &port)]).await
    };
    let mut brokers = vec![start(&ports[0]).await, start(&ports[1]).await];
    let addresses = ports.each_ref().map(Port::address);
    let haproxy = HaProxy::start_with(Mode::Http, Some("/readyz"), &addresses).await;
    eventually("both are ready", || haproxy.healthy() == 2).await;
    let (is_over, everybody) = (Arc::<AtomicBool>::default(), Arc::new(Barrier::new(NODES)));
    let mut talks = JoinSet::new();
    for place in 0..NODES {
        let (address, is_over, everybody) = (haproxy.address(), is_over.clone(), everybody.clone());
        talks.spawn(
            async move { (place, Talk::hold(place, NODES, address, is_over, everybody).await) },
        );
    }
    eventually("all are there", || redis.keys("crolang:node:*").len() == NODES).await;
    for port in &ports {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let leaving = brokers.remove(0);
        leaving.signal("TERM");
        let (code, log) = leaving.end().await;
        assert_eq!(code, Some(0), "{log}");
        brokers.push(start(port).await);
        eventually("both are ready", || haproxy.healthy() == 2).await;
        eventually("all are back", || redis.keys("crolang:node:*").len() == NODES).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    is_over.store(true, Ordering::SeqCst);
    let mut talks = talks.join_all().await;
    talks.sort_by_key(|(place, _)| *place);
    for (place, talk) in &talks {
        let (_, next) = &talks[(place + 1) % NODES];
        assert!((2..=3).contains(&talk.turned_away.len()), "{place} came {:?}", talk.turned_away);
        assert!(talk.turned_away.iter().all(|times| *times <= 1), "{:?}", talk.turned_away);
        assert!(talk.received.is_sorted_by(|a, b| a < b || *b == 0), "{:?}", talk.received);
        assert!(talk.acked_ok.len() > 20, "{}", talk.acked_ok.len());
        for number in &talk.acked_ok {
            assert!(next.received.contains(number), "{place} had an OK for {number}");
        }
    }
}
