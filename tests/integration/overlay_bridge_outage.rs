//! The bridge while Redis fails: it stops in both directions, since nobody can tell whose name an
//! ID is; nobody is disconnected, and it comes back with Redis.

use std::time::{Duration, Instant};

use crolang_broker::Server;
use peer_relay::PeerId;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::redis_outage::{AT_ONCE, BACK, ERROR, LONG, OK, TTL_MS};
use crate::support::{
    Node, PEERS, Proxy, RawPeer, RedisServer, Way, eventually, eventually_within, id, metric,
    start_replica, until_ready, url_through,
};

const MESSAGE: &str = "SOCKET_MSG_EXCHANGE";
const VARIABLES: [(&str, &str); 3] =
    [("PEER_RELAY_PATH", PEERS), ("PEER_RELAY_BRIDGE", "true"), ("REDIS_LOCK_TTL_MS", TTL_MS)];

/// Two replicas on one Redis, each by a link of its own. They are no neighbours in the overlay.
struct House {
    redis: RedisServer,
    links: [Proxy; 2],
    replicas: [Server; 2],
}

impl House {
    async fn open() -> Self {
        let redis = RedisServer::start().await;
        let links = [Proxy::start(redis.address()).await, Proxy::start(redis.address()).await];
        let [a, b] = links.each_ref().map(url_through);
        let replicas = [start_replica(&a, &VARIABLES).await, start_replica(&b, &VARIABLES).await];
        Self { redis, links, replicas }
    }

    /// Every node that came is still there.
    fn nobody_was_disconnected(&self) {
        for replica in &self.replicas {
            let text = replica.metrics();
            for ended in
                ["crolang_connections_closed_total{", "crolang_peer_relay_channels_ended_total{"]
            {
                let mut lines = text.lines().filter(|line| line.starts_with(ended));
                assert!(lines.all(|line| line.ends_with(" 0")), "{text}");
            }
        }
    }
}

/// What a node sends to a peer.
fn to_peer(to: PeerId, number: u64) -> String {
    json!({"to": to, "number": number}).to_string()
}

/// What a peer sends for a node.
fn letter(to: &str, number: u64) -> Value {
    let message = json!({"number": number}).to_string();
    json!({"type": "user", "data": {"to": to, "message": message}})
}

/// What became of all that peers sent to a replica, by name.
fn outcome(replica: &Server, name: &str) -> f64 {
    metric(replica, &format!("crolang_bridge_messages_total{{outcome=\"{name}\"}}"))
}

/// The number of the message that a node got next from a peer.
async fn number_for_node(node: &mut Node) -> u64 {
    loop {
        let event: Value = serde_json::from_str(&node.text().await[2..]).unwrap();
        let message: Value = serde_json::from_str(event[1].as_str().unwrap()).unwrap();
        if let Some(number) = message["number"].as_u64() {
            return number;
        }
    }
}

/// The number of the message that a peer got next from a node.
async fn number_for_peer(peer: &mut RawPeer) -> u64 {
    loop {
        let data = peer.message().await["data"]["data"].clone();
        if let Some(message) = data["message"].as_str() {
            let message: Value = serde_json::from_str(message).unwrap();
            return message["number"].as_u64().unwrap();
        }
    }
}

/// What needs no Redis goes on: a node that sends to one of the same replica.
fn sends_nearby(
    mut node: Node,
    to: &'static str,
    mut stop: watch::Receiver<bool>,
) -> JoinHandle<Node> {
    tokio::spawn(async move {
        while !*stop.borrow_and_update() {
            assert_eq!(node.ask(MESSAGE, &json!({ "to": to }).to_string()).await, OK);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        node
    })
}

/// A node that sends to a peer until it is told to stop: its answers, and how long each took.
fn sends_to_peer(
    mut node: Node,
    to: PeerId,
    mut stop: watch::Receiver<bool>,
) -> JoinHandle<(Node, Vec<(String, Duration)>)> {
    tokio::spawn(async move {
        let mut answers = Vec::new();
        while !*stop.borrow_and_update() {
            let began = Instant::now();
            let ack = node.ask(MESSAGE, &to_peer(to, answers.len() as u64)).await;
            answers.push((ack, began.elapsed()));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (node, answers)
    })
}

/// A peer that sends to two nodes until it is told to stop: how many messages to each.
fn sends_to_nodes(
    mut peer: RawPeer,
    to: [&'static str; 2],
    mut stop: watch::Receiver<bool>,
) -> JoinHandle<(RawPeer, u64)> {
    tokio::spawn(async move {
        let mut sent = 0;
        while !*stop.borrow_and_update() {
            for to in to {
                peer.send_to(peer.other, letter(to, sent)).await;
            }
            // Peers go on among themselves, whatever becomes of Redis.
            peer.send_to(id(7), json!({"type": "user", "data": "hello"})).await;
            sent += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (peer, sent)
    })
}

/// Keeps a number, which must be greater than those before. Returns whether more are to come.
fn keep(read: &mut Vec<u64>, number: u64) -> bool {
    assert!(read.last().is_none_or(|before| *before < number), "{number} after {read:?}");
    if number != u64::MAX {
        read.push(number);
    }
    number != u64::MAX
}

/// What a node gets, up to the greatest number.
fn read_by_node(mut node: Node) -> JoinHandle<(Node, Vec<u64>)> {
    tokio::spawn(async move {
        let mut read = Vec::new();
        while keep(&mut read, number_for_node(&mut node).await) {}
        (node, read)
    })
}

/// What a peer gets, up to the greatest number.
fn read_by_peer(mut peer: RawPeer) -> JoinHandle<(RawPeer, Vec<u64>)> {
    tokio::spawn(async move {
        let mut read = Vec::new();
        while keep(&mut read, number_for_peer(&mut peer).await) {}
        (peer, read)
    })
}

/// Both worlds talk all the while; then comes a fault, and then its end.
async fn talk_through(fault: impl AsyncFn(&mut House), end: impl AsyncFn(&mut House)) {
    let mut house = House::open().await;
    let [a, b] = house.replicas.each_ref().map(Server::address);
    let alice = Node::connect(a, "alice").await;
    let here = Node::connect(a, "here").await;
    let there = Node::connect(b, "there").await;
    let listener = RawPeer::connect(a, id(7)).await;
    let speaker = RawPeer::connect(a, id(8)).await;
    let (stop, stopped) = watch::channel(false);
    let from_node = sends_to_peer(alice, id(7), stopped.clone());
    let from_peer = sends_to_nodes(speaker, ["here", "there"], stopped.clone());
    let neighbours = [(a, "near-here", "here"), (b, "near-there", "there")];
    let mut nearby = Vec::new();
    for (address, from, to) in neighbours {
        nearby.push(sends_nearby(Node::connect(address, from).await, to, stopped.clone()));
    }
    // What comes is read at once: nothing is lost for want of room.
    let (listener, here, there) = (read_by_peer(listener), read_by_node(here), read_by_node(there));

    let [replica, _] = &house.replicas;
    eventually("both ways are open", || outcome(replica, "delivered") > 20.0).await;
    let errors = outcome(replica, "error");
    fault(&mut house).await;
    let began = Instant::now();
    let [replica, _] = &house.replicas;
    eventually("the bridge has stopped", || outcome(replica, "error") > errors).await;
    tokio::time::sleep(LONG.saturating_sub(began.elapsed())).await;
    end(&mut house).await;
    let [replica, _] = &house.replicas;
    let delivered = outcome(replica, "delivered");
    eventually_within(BACK, "it is back", || outcome(replica, "delivered") > delivered + 20.0)
        .await;

    stop.send_replace(true);
    let (mut alice, answers) = from_node.await.unwrap();
    let mut others = Vec::new();
    for node in nearby {
        others.push(node.await.unwrap());
    }
    let (mut speaker, sent) = from_peer.await.unwrap();
    let names = ["delivered", "error", "too_many"];
    let dealt_with = || names.iter().map(|name| outcome(replica, name)).sum::<f64>();
    eventually("every message has an outcome", || dealt_with() == 2.0 * sent as f64).await;
    let [delivered, error, _] = names.map(|name| outcome(replica, name));
    let began = Instant::now();
    while !(here.is_finished() && there.is_finished()) {
        assert!(began.elapsed() < BACK, "one replica is not back");
        for to in ["here", "there"] {
            speaker.send_to(speaker.other, letter(to, u64::MAX)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(alice.ask(MESSAGE, &to_peer(id(7), u64::MAX)).await, OK);

    // `OK` means that the peer got it, and an error that it did not.
    let (_listener, arrived) = listener.await.unwrap();
    let ok = (0..).zip(&answers).filter(|(_, (ack, _))| ack == OK).map(|(number, _)| number);
    assert_eq!(arrived, ok.collect::<Vec<u64>>());
    let refused: Vec<_> = answers.iter().filter(|(ack, _)| ack != OK).collect();
    assert!(!refused.is_empty(), "nobody noticed the fault");
    assert!(refused.iter().all(|(ack, _)| ack == ERROR), "{refused:?}");
    // Where the receiver is, is asked once.
    let longest = answers.iter().map(|(_, took)| *took).max();
    assert!(longest < Some(2 * AT_ONCE), "{longest:?}");
    // The other replica's answer may be what was lost.
    let ((_here, at_here), (_there, at_there)) = (here.await.unwrap(), there.await.unwrap());
    let got = (at_here.len() + at_there.len()) as f64;
    assert!((delivered..=delivered + error).contains(&got), "{delivered} {got} {error}");
    assert_eq!(replica.peer().unwrap().neighbours(), [id(7), id(8)]);
    house.nobody_was_disconnected();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_stops_the_bridge_and_nothing_else() {
    talk_through(async |house| house.redis.kill(), async |house| house.redis.restart().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_stops_the_bridge_and_nothing_else() {
    talk_through(async |house| house.redis.pause(), async |house| house.redis.resume()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_keep_everything_stop_the_bridge_and_nothing_else() {
    talk_through(
        async |house| house.links.iter().for_each(|link| link.hold(Way::Both)),
        async |house| {
            for link in &house.links {
                link.pass().await;
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_a_node_stays_its_own_through_an_outage() {
    let mut house = House::open().await;
    let [a, b] = house.replicas.each_ref().map(Server::address);
    let name = id(7).to_string();
    let mut alice = Node::connect(a, "alice").await;
    let mut bob = Node::connect(b, "bob").await;
    let mut named = Node::connect(b, &name).await;
    // Peers with the node's ID at either replica.
    let mut far = RawPeer::connect(a, id(7)).await;
    let mut near = RawPeer::connect(b, id(7)).await;
    assert_eq!(alice.ask(MESSAGE, &to_peer(id(7), 1)).await, OK);
    assert_eq!(number_for_node(&mut named).await, 1);

    house.redis.kill();
    let began = Instant::now();
    while began.elapsed() < LONG {
        // From afar nobody can be told; at home everything goes on.
        assert_eq!(alice.ask(MESSAGE, &to_peer(id(7), 2)).await, ERROR);
        assert_eq!(bob.ask(MESSAGE, &to_peer(id(7), 3)).await, OK);
        assert_eq!(number_for_node(&mut named).await, 3);
        far.send_to(far.other, letter("alice", 4)).await;
        near.send_to(near.other, letter("bob", 5)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let [here, there] = &house.replicas;
    eventually("all are dealt with", || {
        outcome(here, "error") + outcome(here, "name_of_a_node") == f64::from(far.last_nonce as u32)
            && outcome(there, "name_of_a_node") == f64::from(near.last_nonce as u32)
    })
    .await;

    house.redis.restart().await;
    let began = Instant::now();
    while alice.ask(MESSAGE, &to_peer(id(7), 6)).await != OK {
        assert!(began.elapsed() < BACK, "it is not back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(number_for_node(&mut named).await, 6);
    far.is_silent().await;
    near.is_silent().await;
    assert_eq!(outcome(here, "delivered") + outcome(there, "delivered"), 0.0);
    house.nobody_was_disconnected();

    // Once the node has left, the peers have the name.
    drop(named);
    let key = format!("crolang:node:{name}");
    eventually("the ID is free", || house.redis.command(&["EXISTS", &key]) == "0").await;
    for address in [a, b] {
        until_ready(address).await;
    }
    assert_eq!(alice.ask(MESSAGE, &to_peer(id(7), 7)).await, OK);
    assert_eq!(number_for_peer(&mut far).await, 7);
    near.send_to(near.other, letter("bob", 8)).await;
    assert_eq!(number_for_node(&mut bob).await, 8);
}
