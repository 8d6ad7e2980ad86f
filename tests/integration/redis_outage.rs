//! Redis away disconnects nobody: what goes on without it, what is answered instead, and how all
//! of it comes back. Here it is Redis itself that fails; its links do in `redis_outage_faults`.

use std::time::{Duration, Instant};

use crolang_broker::Server;
use serde_json::{Value, json};

use crate::support::{Node, RedisServer, eventually, get, start_with_variables};

pub const OK: &str = "[\"OK\"]";
pub const ERROR: &str = "[\"ERROR\"]";
const EXCHANGE: &str = "SOCKET_MSG_EXCHANGE";
const ARE_CONNECTED: &str = "ARE_NODES_CONNECTED_TO_BROKER";

/// How long leases live here.
pub const TTL_MS: &str = "2000";

/// An outage after which every lease and every replica's key has run out.
pub const LONG: Duration = Duration::from_millis(2_500);

/// How soon there is an answer to whatever needs Redis: the promise is a second, the rest is for a
/// busy machine. Two waits one after the other would take longer.
pub const AT_ONCE: Duration = Duration::from_millis(1_500);

/// How soon everything is back once Redis is.
pub const BACK: Duration = Duration::from_secs(5);

/// A node that remembers what came while it waited for something else.
pub struct Member {
    pub id: String,
    node: Node,
    received: Vec<u64>,
}

impl Member {
    pub async fn ask(&mut self, event: &str, payload: &Value) -> String {
        let array = json!([event, payload.to_string()]);
        self.node.send(&format!("427{array}")).await;
        loop {
            let text = self.node.text().await;
            match text.strip_prefix("437") {
                Some(ack) => return ack.to_owned(),
                None => self.note(&text),
            }
        }
    }

    /// Reads until this message has come.
    async fn receive(&mut self, number: u64) {
        while !self.received.contains(&number) {
            let text = self.node.text().await;
            self.note(&text);
        }
    }

    fn note(&mut self, text: &str) {
        let event: Value = serde_json::from_str(text.strip_prefix("42").expect(text)).unwrap();
        let payload: Value = serde_json::from_str(event[1].as_str().unwrap()).unwrap();
        let number = payload["number"].as_u64().unwrap();
        assert!(!self.received.contains(&number), "{number} came twice");
        self.received.push(number);
    }

    /// The answer to a message, and its number.
    pub async fn send(&mut self, to: &str) -> (String, u64) {
        let number = rand::random();
        (self.ask(EXCHANGE, &json!({ "to": to, "number": number })).await, number)
    }

    /// The answer to the question which of these are connected.
    pub async fn find(&mut self, ids: &[&str]) -> String {
        self.ask(ARE_CONNECTED, &json!({ "ids": ids })).await
    }

    /// What takes as long as Redis needs gets this answer in time.
    async fn is_told_error(&mut self, elsewhere: &str) {
        for is_question in [false, true, false] {
            let began = Instant::now();
            let ack = match is_question {
                true => self.find(&[elsewhere]).await,
                false => self.send(elsewhere).await.0,
            };
            let took = began.elapsed();
            assert_eq!(ack, ERROR, "{} asked for {elsewhere}: {is_question}", self.id);
            assert!(took < AT_ONCE, "{took:?}");
        }
    }
}

/// The answer to a question about these, all of which are connected.
pub fn all_connected(ids: &[&str]) -> String {
    let results: Vec<_> =
        ids.iter().map(|id| format!(r#"{{"id":"{id}","connected":true}}"#)).collect();
    json!([format!(r#"{{"results":[{}]}}"#, results.join(","))]).to_string()
}

/// A broker and the nodes on it.
pub struct Side {
    pub broker: Server,
    pub members: Vec<Member>,
}

impl Side {
    pub async fn start(url: &str, name: &str, variables: &[(&str, &str)]) -> Self {
        let own = [("REDIS_URL", url), ("REDIS_LOCK_TTL_MS", TTL_MS)];
        let mut side = Self {
            broker: start_with_variables(&[variables, &own[..]].concat()).await,
            members: Vec::new(),
        };
        side.until_ready(BACK).await;
        for number in 0..3 {
            side.try_join(&format!("{name}{number}")).await.unwrap();
        }
        side
    }

    /// A newcomer; or what kept it out, which has to come at once.
    pub async fn try_join(&mut self, id: &str) -> Result<(), String> {
        let began = Instant::now();
        let entered = Node::try_connect(self.broker.address(), id).await;
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        self.members.push(Member { id: id.to_owned(), node: entered?, received: Vec::new() });
        Ok(())
    }

    pub async fn is_ready(&self) -> bool {
        get(self.broker.address(), "/readyz").await.starts_with("HTTP/1.1 200 ")
    }

    pub async fn until_ready(&self, limit: Duration) {
        let began = Instant::now();
        while !self.is_ready().await {
            assert!(began.elapsed() < limit, "not ready in time");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Newcomers are asked to retry.
    pub async fn turns_away(&mut self) {
        let answer = self.try_join("newcomer").await.unwrap_err();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.to_lowercase().contains("\r\nretry-after: "), "{answer}");
    }

    /// Everything goes on that does not need Redis.
    pub async fn goes_on(&mut self) {
        self.goes_on_for(self.members.len()).await;
    }

    /// The same for the first few members.
    pub async fn goes_on_for(&mut self, members: usize) {
        let ids: Vec<_> = self.members[..members].iter().map(|member| member.id.clone()).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        for (place, receiver) in ids.iter().enumerate() {
            let sender = &mut self.members[(place + 1) % ids.len()];
            let began = Instant::now();
            let (ack, number) = sender.send(receiver).await;
            assert_eq!(ack, OK);
            assert_eq!(sender.find(&ids).await, all_connected(&ids));
            assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
            self.members[place].receive(number).await;
        }
    }

    /// All that is promised for as long as Redis cannot be asked, from the first moment on.
    pub async fn is_alone(&mut self, elsewhere: [&str; 2]) {
        let others = self.members.split_off(2);
        let mut asking = std::mem::replace(&mut self.members, others);
        let [known, unknown] = elsewhere;
        let [first, second] = asking.as_mut_slice() else { panic!("there are three at least") };
        tokio::join!(
            first.is_told_error(known),
            second.is_told_error(unknown),
            // The others are not held up.
            self.goes_on_alone(),
        );
        self.members.splice(..0, asking);
        self.turns_away().await;
        let began = Instant::now();
        while self.is_ready().await {
            assert!(began.elapsed() < Duration::from_millis(2_500), "it says that it is ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.goes_on().await;
    }

    async fn goes_on_alone(&mut self) {
        for _ in 0..5 {
            self.goes_on().await;
        }
    }

    /// How many nodes have lost their connection, whatever the reason.
    pub fn disconnected(&self) -> f64 {
        let text = self.broker.metrics();
        let lines = text.lines().filter(|it| it.starts_with("crolang_connections_closed_total{"));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }
}

/// Two brokers that act as one, with nodes on each.
pub struct Pair(pub [Side; 2]);

impl Pair {
    pub async fn start(urls: [&str; 2], variables: &[(&str, &str)]) -> Self {
        let (a, b) = tokio::join!(
            Side::start(urls[0], "a", variables),
            Side::start(urls[1], "b", variables)
        );
        let mut pair = Self([a, b]);
        pair.relays().await;
        pair
    }

    /// Each side reaches one node of the other.
    pub async fn relays(&mut self) {
        for turn in [[0, 1], [1, 0]] {
            let [sender, receiver] = self.0.get_disjoint_mut(turn).unwrap();
            let (sender, receiver) = (&mut sender.members[0], &mut receiver.members[0]);
            let (ack, number) = sender.send(&receiver.id).await;
            assert_eq!(ack, OK);
            receiver.receive(number).await;
        }
    }

    /// Both sides are as [`Side::is_alone`].
    pub async fn is_apart(&mut self) {
        let [a, b] = &mut self.0;
        // One that was talked to before, and one that was not.
        tokio::join!(a.is_alone(["b0", "b1"]), b.is_alone(["a0", "a1"]));
    }

    /// Everything works again, in time and with everybody who was there.
    pub async fn is_whole(&mut self, node_keys: impl Fn() -> Vec<String>) {
        let began = Instant::now();
        for turn in [[0, 1], [1, 0]] {
            let [here, there] = self.0.get_disjoint_mut(turn).unwrap();
            here.until_ready(BACK).await;
            let newcomer = format!("n{}", rand::random::<u64>());
            there.until_ready(BACK).await;
            while let Err(answer) = there.try_join(&newcomer).await {
                assert!(began.elapsed() < BACK, "{answer}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let ids: Vec<_> = there.members.iter().map(|member| member.id.clone()).collect();
            for id in &ids {
                let number = loop {
                    let (ack, number) = here.members[0].send(id).await;
                    if ack == OK {
                        break number;
                    }
                    assert!(began.elapsed() < BACK, "{ack} for {id}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                };
                let receiver = there.members.iter_mut().find(|member| member.id == *id);
                receiver.unwrap().receive(number).await;
            }
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            while here.members[1].find(&ids).await != all_connected(&ids) {
                assert!(began.elapsed() < BACK, "not all are found");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let members: usize = self.0.iter().map(|side| side.members.len()).sum();
        eventually("a lease for each", || node_keys().len() == members).await;
        for side in &mut self.0 {
            side.goes_on().await;
        }
        self.nobody_was_disconnected();
    }

    pub fn nobody_was_disconnected(&self) {
        assert_eq!(self.0.each_ref().map(Side::disconnected), [0.0; 2]);
    }
}

/// A Redis, and two brokers on it.
async fn together() -> (RedisServer, Pair) {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let pair = Pair::start([&url, &url], &[]).await;
    (redis, pair)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_redis_disconnects_nobody() {
    let (mut redis, mut pair) = together().await;
    redis.stop().await;
    let began = Instant::now();
    pair.is_apart().await;
    tokio::time::sleep(LONG.saturating_sub(began.elapsed())).await;
    pair.is_apart().await;
    redis.restart().await;
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_disconnects_nobody() {
    let (mut redis, mut pair) = together().await;
    redis.kill();
    pair.is_apart().await;
    redis.restart().await;
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
    // At once, so that the brokers may not even have noticed.
    redis.restart().await;
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_disconnects_nobody() {
    let (redis, mut pair) = together().await;
    redis.pause();
    let began = Instant::now();
    pair.is_apart().await;
    tokio::time::sleep(LONG.saturating_sub(began.elapsed())).await;
    redis.resume();
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_keys_disconnect_nobody() {
    let (redis, mut pair) = together().await;
    redis.command(&["FLUSHALL"]);
    for side in &mut pair.0 {
        side.goes_on().await;
    }
    eventually("the leases are asserted", || redis.keys("crolang:node:*").len() == 6).await;
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_memory_keeps_out_newcomers_and_nobody_else() {
    let (redis, mut pair) = together().await;
    redis.command(&["SET", "fill", &"x".repeat(2_000_000)]);
    redis.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
    redis.try_command(&["SET", "more", "x"]).unwrap_err();
    let began = Instant::now();
    while began.elapsed() < LONG {
        for side in &mut pair.0 {
            side.turns_away().await;
            side.goes_on().await;
        }
        pair.relays().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(redis.keys("crolang:node:*").len(), 6, "leases are still extended");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_password_disconnects_nobody() {
    let redis = RedisServer::start_with(&["--requirepass", "old"]).await;
    let url = redis.url_with_password("old");
    let mut pair = Pair::start([&url, &url], &[]).await;
    redis.command(&["CONFIG", "SET", "requirepass", "new"]);
    for kind in ["normal", "pubsub"] {
        redis.command(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
    }
    pair.is_apart().await;
    redis.command(&["CONFIG", "SET", "requirepass", "old"]);
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_may_not_be_written_disconnects_nobody() {
    let (redis, mut pair) = together().await;
    let connections = || -> u64 {
        let info = redis.command(&["INFO", "stats"]);
        let line = info.lines().find_map(|it| it.strip_prefix("total_connections_received:"));
        line.unwrap().parse().unwrap()
    };
    // Nobody is there; so it is a replica that has what it had.
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let began = Instant::now();
    for side in &mut pair.0 {
        side.turns_away().await;
    }
    let before = connections();
    while began.elapsed() < LONG {
        for side in &mut pair.0 {
            side.goes_on().await;
            side.turns_away().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Each attempt is up to two connections; they become rare.
    let attempts = connections() - before;
    assert!(attempts < 60, "{attempts} connections in {:?}", began.elapsed());
    redis.command(&["REPLICAOF", "NO", "ONE"]);
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
}
