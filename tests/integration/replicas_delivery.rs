//! What an ack is worth while replicas die, hang and lose Redis: `OK` was handed over, nothing
//! comes twice, and every event that asks for an ack gets one in time.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::replicas_order::Random;
use crate::replicas_relay::{ask, to};
use crate::support::{
    Client, EVENTS, Frame, Node, Process, RedisServer, Replica, SOON, Way, eventually,
    eventually_within, frame, start_replica, until_ready,
};

const MESSAGE: &str = "SOCKET_MSG_EXCHANGE";

/// The longest that an ack may take.
const ACK_LIMIT: Duration = Duration::from_secs(5);

/// How long before its connection ended a message may have been taken that was not read.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

const REPLICAS: usize = 3;
const NODES: u64 = 12;

/// All that happened.
struct World {
    random: Random,
    replicas: [SocketAddr; REPLICAS],
    next_message: AtomicU64,
    is_quiet: AtomicBool,
    is_over: AtomicBool,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    /// By the ID of the message.
    sent: HashMap<u64, Sent>,
    received: HashSet<u64>,
    connections: Vec<Connection>,
    violations: Vec<String>,
}

struct Sent {
    to: u64,
    at: Instant,
    ack: Option<(String, Instant)>,
}

struct Connection {
    node: u64,
    begun: Instant,
    ended: Option<Instant>,
}

impl World {
    fn records(&self) -> std::sync::MutexGuard<'_, Records> {
        self.records.lock().unwrap()
    }

    /// A node that comes back whenever its connection has ended.
    async fn live(self: Arc<Self>, me: u64) {
        let mut last = HashMap::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let address = self.replicas[self.random.below(REPLICAS as u64) as usize];
            let number = self.records().connections.len();
            let connection = Connection { node: me, begun: Instant::now(), ended: None };
            self.records().connections.push(connection);
            // In a task of its own, which ends badly if the replica is killed meanwhile.
            let attempt = async move { Node::try_connect(address, &format!("n{me}")).await };
            match tokio::spawn(attempt).await {
                Ok(Ok(node)) => self.talk(me, number, node, &mut last).await,
                _ => tokio::time::sleep(Duration::from_millis(30)).await,
            }
            self.records().connections[number].ended = Some(Instant::now());
        }
    }

    /// Sends and receives until the connection ends, or all is over and answered.
    async fn talk(&self, me: u64, number: usize, mut node: Node, last: &mut HashMap<String, u64>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let mut unanswered: HashMap<u64, Instant> = HashMap::new();
        loop {
            tokio::select! {
                next = node.next_unanswered() => match next {
                    Frame::Text(text) => match text.strip_prefix("43") {
                        Some(ack) => self.acked(ack, &mut unanswered),
                        None => self.received(me, &text, last),
                    },
                    Frame::Ping => drop(node.stream.write_all(&frame(0x8a, b"")).await),
                    Frame::Pong => {}
                    Frame::Close | Frame::End => return,
                },
                _ = ticks.tick() => {
                    if self.is_over.load(Ordering::Relaxed) && unanswered.is_empty() {
                        return;
                    }
                    if !self.is_quiet.load(Ordering::Relaxed) {
                        let id = self.next_message.fetch_add(1, Ordering::Relaxed);
                        unanswered.insert(id, Instant::now());
                        let packet = self.message(id, number);
                        // An error is followed by the connection's end.
                        let _ = node.stream.write_all(&frame(0x81, packet.as_bytes())).await;
                    }
                }
            }
            let late = unanswered.extract_if(|_, since| since.elapsed() > ACK_LIMIT);
            let late: Vec<_> = late.map(|(id, _)| format!("no ack for {id}")).collect();
            self.records().violations.extend(late);
        }
    }

    fn message(&self, id: u64, connection: usize) -> String {
        let to = self.random.below(NODES);
        self.records().sent.insert(id, Sent { to, at: Instant::now(), ack: None });
        let event = EVENTS[id as usize % EVENTS.len()];
        format!(r#"42{id}["{event}","{{\"to\":\"n{to}\",\"id\":{id},\"by\":\"{connection}\"}}"]"#)
    }

    fn acked(&self, ack: &str, unanswered: &mut HashMap<u64, Instant>) {
        let (id, word) = ack.split_once("[\"").unwrap();
        let (id, word) = (id.parse().unwrap(), word.trim_end_matches("\"]").to_owned());
        let mut records = self.records();
        if unanswered.remove(&id).is_none() {
            records.violations.push(format!("{id} was not waiting for an ack: {word}"));
        }
        records.sent.get_mut(&id).unwrap().ack = Some((word, Instant::now()));
    }

    /// The messages of one connection come in their order, also over several connections here.
    fn received(&self, me: u64, text: &str, last: &mut HashMap<String, u64>) {
        let (_, argument): (String, String) =
            serde_json::from_str(text.strip_prefix("42").unwrap()).unwrap();
        let payload: Value = serde_json::from_str(&argument).unwrap();
        let id = payload["id"].as_u64().unwrap();
        let mut records = self.records();
        if !records.received.insert(id) {
            records.violations.push(format!("{id} came twice"));
        }
        if records.sent[&id].to != me {
            records.violations.push(format!("{id} came to n{me}"));
        }
        let before = last.insert(payload["by"].as_str().unwrap().to_owned(), id);
        if before.is_some_and(|before| before >= id) {
            records.violations.push(format!("{id} came behind {before:?}"));
        }
    }

    /// How many messages were answered so since then.
    fn acks(&self, wanted: &str, since: Instant) -> usize {
        let is_one = |sent: &&Sent| {
            sent.at > since && sent.ack.as_ref().is_some_and(|(word, _)| word == wanted)
        };
        self.records().sent.values().filter(is_one).count()
    }
}

impl Records {
    /// Messages that were taken for a connection that should have got them.
    fn lost(&self) -> Vec<u64> {
        let taken = self.sent.iter().filter_map(|(id, sent)| match &sent.ack {
            Some((word, at)) if word == "OK" && !self.received.contains(id) => {
                Some((id, sent, *at))
            }
            _ => None,
        });
        let lost = taken.filter(|(_, sent, acked)| {
            let mut of_receiver = self.connections.iter().filter(|one| one.node == sent.to);
            let may_have_had_it = |one: &Connection| {
                one.begun <= *acked
                    && one.ended.is_some_and(|end| end >= sent.at && end <= *acked + ON_ITS_WAY)
            };
            !of_receiver.any(may_have_had_it)
        });
        lost.map(|(id, ..)| *id).collect()
    }
}

/// One fault of a replica or of its link to Redis, which is over when this returns.
async fn suffer(replica: &mut Replica, random: &Random) {
    match random.below(5) {
        0 | 1 => replica.restart().await,
        2 => replica.link.cut(),
        3 => replica.link.delay(Duration::from_millis(random.below(500))),
        _ => replica.link.hold([Way::ToClient, Way::ToTarget, Way::Both][random.below(3) as usize]),
    }
    tokio::time::sleep(Duration::from_millis(200 + random.below(1_300))).await;
    replica.link.pass().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acked_has_come_once_whatever_fails() {
    let redis = RedisServer::start().await;
    let random = Random::new();
    let variables = [
        ("REDIS_LOCK_TTL_MS", "2000"),
        ("PING_INTERVAL_MS", "500"),
        // The nodes answer no pings.
        ("PING_TIMEOUT_MS", "60000"),
    ];
    let [a, b, c] = [0; REPLICAS].map(|_| Replica::start(&redis, &variables));
    let mut replicas = [a.await, b.await, c.await];
    let world = Arc::new(World {
        random,
        replicas: replicas.each_ref().map(Replica::address),
        next_message: AtomicU64::new(0),
        is_quiet: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        records: Mutex::default(),
    });
    let nodes: Vec<_> = (0..NODES).map(|node| tokio::spawn(world.clone().live(node))).collect();
    let began = Instant::now();
    eventually("messages go", || world.acks("OK", began) > 100).await;
    let mut faults = 0;
    while began.elapsed() < Duration::from_secs(8) {
        let replica = world.random.below(REPLICAS as u64) as usize;
        suffer(&mut replicas[replica], &world.random).await;
        faults += 1;
    }
    // All is well again: every node comes back, and then nothing but OK is answered.
    let is_back = || {
        let records = world.records();
        let is_there = |node| records.connections.iter().rfind(|one| one.node == node);
        let an_age = Duration::from_millis(500);
        (0..NODES).all(|node| is_there(node).is_some_and(|one| one.begun.elapsed() > an_age))
    };
    eventually_within(3 * SOON, "all are back", is_back).await;
    let well = Instant::now();
    eventually("all is well", || world.acks("OK", well) > 100).await;
    world.is_quiet.store(true, Ordering::Relaxed);
    eventually("all that was taken has come", || world.records().lost().is_empty()).await;
    world.is_over.store(true, Ordering::Relaxed);
    for node in nodes {
        tokio::time::timeout(2 * SOON, node).await.expect("the node ends").unwrap();
    }
    let records = world.records();
    let violations = &records.violations;
    assert!(violations.is_empty(), "{} violations, as {:?}", violations.len(), violations[0]);
    let is_taken = |sent: &&Sent| sent.ack.as_ref().is_some_and(|(word, _)| word == "OK");
    let taken = records.sent.values().filter(is_taken).count();
    println!("{faults} faults, {taken} of {} taken", records.sent.len());
    // Else there was not much that could have gone wrong.
    assert!(faults >= 4 && taken > 500, "{faults} faults, {taken} taken");
}

/// A burst of all seven events for a node that cannot be reached: one ERROR each, in time.
async fn errors_in_time(alice: &mut Node, events: usize, limit: Duration) {
    let packets: Vec<_> = (0..events)
        .map(|n| format!(r#"42{n}["{}","{{\"to\":\"bob\"}}"]"#, EVENTS[n % 7]))
        .collect();
    let began = Instant::now();
    alice.send_all(&packets).await;
    let mut acked = HashSet::new();
    for _ in &packets {
        let ack = alice.text().await;
        let id = ack.strip_prefix("43").and_then(|ack| ack.strip_suffix("[\"ERROR\"]"));
        assert!(acked.insert(id.unwrap_or_else(|| panic!("{ack}")).to_owned()), "{ack} twice");
    }
    assert!(began.elapsed() < limit, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_hangs_or_is_gone_remote_messages_are_errors_in_time() {
    let mut redis = RedisServer::start().await;
    let [a, b] = [start_replica(&redis.url(), &[]).await, start_replica(&redis.url(), &[]).await];
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut near = Node::connect(a.address(), "near").await;
    let mut bob = Node::connect(b.address(), "bob").await;
    assert_eq!(ask(&mut alice, MESSAGE, "bob", &mut bob).await, "[\"OK\"]");
    redis.pause();
    errors_in_time(&mut alice, 60, Duration::from_secs(2)).await;
    assert_eq!(ask(&mut alice, MESSAGE, "near", &mut near).await, "[\"OK\"]");
    redis.resume();
    // What was published and not answered may still come; nothing of it is sent again.
    until_ok(&mut alice, "first").await;
    let mut late = 0;
    while !bob.text().await.contains("first") {
        late += 1;
    }
    assert!(late <= 60, "{late} came late");
    redis.kill();
    errors_in_time(&mut alice, 60, Duration::from_secs(2)).await;
    errors_in_time(&mut alice, 60, Duration::from_secs(1)).await;
    assert_eq!(ask(&mut alice, MESSAGE, "near", &mut near).await, "[\"OK\"]");
    redis.restart().await;
    until_ok(&mut alice, "second").await;
    assert!(bob.text().await.contains("second"), "nothing came while Redis was gone");
}

/// Asks until it is answered OK, which has to come soon. What is not OK has not been sent.
async fn until_ok(alice: &mut Node, text: &str) {
    let began = Instant::now();
    let payload = format!(r#"{{"to":"bob","text":"{text}"}}"#);
    while alice.ask(MESSAGE, &payload).await != "[\"OK\"]" {
        assert!(began.elapsed() < SOON, "it is not back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_replica_hangs_messages_to_it_are_errors_in_time_and_others_pass() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let [a, c] = [start_replica(&redis.url(), &[]).await, start_replica(&redis.url(), &[]).await];
    let b = Process::start(&[("REDIS_URL", &url)]).await;
    until_ready(b.address).await;
    let mut alice = Node::connect(a.address(), "alice").await;
    let mut dave = Node::connect(a.address(), "dave").await;
    let mut bob = Node::connect(b.address, "bob").await;
    let mut carol = Node::connect(c.address(), "carol").await;
    assert_eq!(ask(&mut alice, MESSAGE, "bob", &mut bob).await, "[\"OK\"]");
    b.pause();
    let began = Instant::now();
    errors_in_time(&mut alice, 60, Duration::from_secs(2)).await;
    assert!(began.elapsed() > Duration::from_millis(500), "the replica was given time");
    // More than are sent at a time: it is known by now that there is no answer.
    errors_in_time(&mut alice, 600, Duration::from_secs(3)).await;
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(ask(&mut dave, MESSAGE, "carol", &mut carol).await, "[\"OK\"]");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    assert_eq!(alice.ask(MESSAGE, &to("nobody")).await, "[\"NOT_CONNECTED\"]");
    b.resume();
    until_ok(&mut alice, "first").await;
    // What it had got while it hung comes late, in order, and once.
    for n in 0..60 {
        assert!(bob.text().await.starts_with(&format!("42[\"{}\",", EVENTS[n % 7])));
    }
    let mut trials = 0;
    while !bob.text().await.contains("first") {
        trials += 1;
    }
    assert!(trials <= 10, "{trials} were sent to a replica that was known to be silent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_whose_replica_hangs_are_reached_as_soon_as_they_are_elsewhere() {
    let redis = RedisServer::start().await;
    let (url, ttl) = (redis.url(), ("REDIS_LOCK_TTL_MS", "2000"));
    let a = start_replica(&url, &[ttl]).await;
    let c = start_replica(&url, &[ttl]).await;
    let b = Process::start(&[("REDIS_URL", &url), ttl]).await;
    until_ready(b.address).await;
    let mut alice = Node::connect(a.address(), "alice").await;
    let ids: Vec<_> = (0..20).map(|number| format!("bob{number}")).collect();
    let mut held = Vec::new();
    for id in &ids {
        held.push(Node::connect(b.address, id).await);
    }
    b.pause();
    // Each is looked for at another time, so that what is known of some is as fresh as it can be.
    for id in &ids {
        assert_ne!(alice.ask(MESSAGE, &to(id)).await, "[\"OK\"]");
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let mut entered = Vec::new();
    for id in &ids {
        let began = Instant::now();
        loop {
            match Client::enter(c.address(), id, SOON).await {
                Ok(client) => break entered.push(client),
                Err(kept_out) => assert!(began.elapsed() < 2 * SOON, "{id}: {kept_out:?}"),
            }
        }
        assert_eq!(alice.ask(MESSAGE, &to(id)).await, "[\"OK\"]", "{id}");
    }
}
