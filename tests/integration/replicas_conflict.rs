//! Newcomers for an ID that a connection of another replica holds: a live holder wins, a dead one
//! does not, and nobody is refused for good because of a holder that nobody can ask.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crolang_broker::Server;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{
    Client, Hook, KeptOut, Live, Node, Proxy, RedisServer, Replica, SOON, Way, eventually,
    eventually_within, metric, start_replica, start_replicas,
};

const ALREADY_CONNECTED: &str = "44{\"message\":\"client already connected\"}";

/// The longest that a newcomer waits for its answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What comes without asking anybody who does not answer.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Whether the newcomer got in, and how long that took.
async fn newcomer(address: SocketAddr, id: &str) -> (Result<Live, String>, Duration) {
    let began = Instant::now();
    let entered = Node::try_connect(address, id).await;
    (entered.map(Node::live), began.elapsed())
}

fn is_busy(answer: &str, cause: &str) -> bool {
    answer.starts_with("HTTP/1.1 503") && answer.contains("\r\nretry-after: 2\r\n") && {
        // The body may come behind the head.
        answer.ends_with("\r\n\r\n") || answer.contains(cause)
    }
}

fn replaced(server: &Server) -> f64 {
    metric(server, "crolang_connections_closed_total{reason=\"replaced\"}")
}

/// How many bytes have come to a server that it has not read, on all its connections: proc(5),
/// `/proc/net/tcp`.
fn unread_bytes(server: SocketAddr) -> u64 {
    let local = format!(":{:04X}", server.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let unread = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (_, received) = fields[4].split_once(':').unwrap();
        let is_open = fields[1].ends_with(&local) && fields[3] == "01";
        is_open.then(|| u64::from_str_radix(received, 16).unwrap())
    };
    table.lines().skip(1).filter_map(unread).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_nobody_hears_is_replaced_from_every_replica_within_three_seconds() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(2, &redis, &[]).await;
    let proxy = Proxy::start(replicas[0].address()).await;
    let _same = Node::connect_settled(proxy.address(), "same").await.live();
    let _other = Node::connect_settled(proxy.address(), "other").await.live();
    // From now on the holders' computers are gone, and nobody was told.
    proxy.discard(Way::Both);
    let (same, other) = tokio::join!(
        newcomer(replicas[0].address(), "same"),
        newcomer(replicas[1].address(), "other")
    );
    for (entered, took) in [same, other] {
        assert!(entered.is_ok(), "{:?}", entered.err());
        assert!(took < TIMEOUT, "{took:?}");
        drop(entered);
    }
    assert_eq!((replaced(&replicas[0]), replaced(&replicas[1])), (2.0, 0.0));
    eventually("the old connections are closed", || replicas[0].connections() == 0).await;
    assert_eq!(metric(&replicas[0], "crolang_nodes"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_holder_keeps_its_id_on_every_replica() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(3, &redis, &[]).await;
    let proxy = Proxy::start(replicas[0].address()).await;
    let holder = Node::connect(proxy.address(), "a").await.live();
    // Far away, but there.
    proxy.delay(Duration::from_millis(100));
    for replica in replicas.iter().cycle().take(9) {
        let (entered, took) = newcomer(replica.address(), "a").await;
        assert_eq!(entered.err().unwrap(), ALREADY_CONNECTED);
        assert!(took < AT_ONCE, "a live holder answers at once: {took:?}");
    }
    assert!(!holder.is_over());
    let owner = redis.command(&["GET", "crolang:node:a"]);
    proxy.cut();
    let (entered, _) = newcomer(replicas[1].address(), "a").await;
    assert!(entered.is_ok(), "{:?}", entered.err());
    assert_ne!(redis.command(&["GET", "crolang:node:a"]), owner);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_upgrades_keeps_an_id_from_nobody_on_any_replica() {
    let redis = RedisServer::start().await;
    for policy in ["probe", "reject"] {
        let replicas = start_replicas(2, &redis, &[("DUPLICATE_ID_POLICY", policy)]).await;
        let mut squatter = Node::open(replicas[0].address(), "&id=a&version=1&runtime=r").await;
        let mut waiting = Node::open(replicas[1].address(), "&id=a&version=1&runtime=r").await;
        let (entered, took) = newcomer(replicas[1].address(), "a").await;
        assert!(entered.is_ok() && took < AT_ONCE, "{:?} {took:?}", entered.err());
        for late in [&mut squatter, &mut waiting] {
            late.send("40").await;
            assert_eq!(late.text().await, ALREADY_CONNECTED);
        }
        let (refused, _) = newcomer(replicas[0].address(), "a").await;
        assert_eq!(refused.err().unwrap(), ALREADY_CONNECTED);
        let nodes = replicas.iter().map(|replica| metric(replica, "crolang_nodes"));
        assert_eq!(nodes.collect::<Vec<_>>(), [0.0, 1.0]);
        drop(entered);
        eventually("it left", || metric(&replicas[1], "crolang_nodes") == 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_holder_that_is_not_read_is_neither_replaced_nor_said_to_be_alive() {
    let redis = RedisServer::start().await;
    let hook = Hook::start(|_| json!({"authorized": true})).await;
    let variables = [
        ("AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL", &*hook.url("/")),
        ("WEBHOOK_TIMEOUT_MS", "30000"),
    ];
    let replicas = start_replicas(2, &redis, &variables).await;
    hook.hold();
    let mut holder = Node::connect_settled(replicas[0].address(), "a").await;
    // More than may wait, and more than is read ahead of that.
    let padding = "x".repeat(2_000);
    let event = format!(r#"42["SOCKET_MSG_EXCHANGE","{{\"to\":\"b\",\"x\":\"{padding}\"}}"]"#);
    holder.send_all(&vec![event; 150]).await;
    let (mut before, mut since) = (0, Instant::now());
    eventually("it is not read any more", || {
        let unread = unread_bytes(replicas[0].address());
        if before != unread {
            (before, since) = (unread, Instant::now());
        }
        unread > 0 && hook.in_flight() > 0 && since.elapsed() > Duration::from_millis(300)
    })
    .await;
    let (same, other) =
        tokio::join!(newcomer(replicas[0].address(), "a"), newcomer(replicas[1].address(), "a"));
    for (entered, took) in [same, other] {
        let answer = entered.err().unwrap();
        assert!(is_busy(&answer, "holder_busy"), "{answer}");
        assert!(took < TIMEOUT, "{took:?}");
    }
    for replica in &replicas {
        let busy = metric(replica, "crolang_rejections_total{cause=\"holder_busy\"}");
        assert_eq!(busy, 1.0, "{}", replica.metrics());
    }
    hook.release();
    let holder = holder.live();
    let (entered, _) = newcomer(replicas[1].address(), "a").await;
    assert_eq!(entered.err().unwrap(), ALREADY_CONNECTED);
    assert!(!holder.is_over());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reject_refuses_without_asking_the_other_replica() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(2, &redis, &[("DUPLICATE_ID_POLICY", "reject")]).await;
    let mut holder = Node::connect(replicas[0].address(), "a").await;
    let (entered, took) = newcomer(replicas[1].address(), "a").await;
    assert_eq!(entered.err().unwrap(), ALREADY_CONNECTED);
    assert!(took < AT_ONCE, "{took:?}");
    // No ping came before the answer.
    assert_eq!(holder.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replace_takes_the_id_from_a_live_holder_on_the_other_replica() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(2, &redis, &[("DUPLICATE_ID_POLICY", "replace")]).await;
    let mut holder = Node::connect(replicas[0].address(), "a").await;
    for number in 1..=10 {
        let began = Instant::now();
        let newcomer = Node::connect(replicas[number % 2].address(), "a").await;
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        holder.end().await;
        holder = newcomer;
        assert_eq!(holder.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]");
    }
    assert_eq!((replaced(&replicas[0]), replaced(&replicas[1])), (5.0, 5.0));
}

/// A replica in a process of its own with a node "a", and one in this process.
async fn holder_and_other(redis: &RedisServer, ttl_ms: &str) -> (Replica, Node, Server) {
    let variables = [("REDIS_LOCK_TTL_MS", ttl_ms)];
    let holder = Replica::start(redis, &variables).await;
    let node = Node::connect(holder.address(), "a").await;
    (holder, node, start_replica(&redis.url(), &variables).await)
}

/// The key by which the replica that holds "a" shows that it is alive.
fn replica_key(redis: &RedisServer) -> String {
    let owner = redis.command(&["GET", "crolang:node:a"]);
    format!("crolang:replica:{}", owner.split_once(':').unwrap().0)
}

/// Retries after each 503 until it is in; how often that was.
async fn comes_again(address: SocketAddr, id: &str) -> usize {
    let began = Instant::now();
    for times in 0.. {
        let asked = Instant::now();
        match Client::enter(address, id, SOON).await {
            Ok(_) => return times,
            Err(KeptOut::Unavailable(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
        assert!(asked.elapsed() < TIMEOUT, "{:?}", asked.elapsed());
        assert!(began.elapsed() < 2 * SOON, "not in time: it is in");
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_id_of_a_killed_replica_is_busy_until_the_replicas_key_has_run_out() {
    let redis = RedisServer::start().await;
    let (mut holder, _node, other) = holder_and_other(&redis, "60000").await;
    let key = replica_key(&redis);
    holder.process.kill();
    // As if most of its 10 s were over.
    assert_eq!(redis.command(&["PEXPIRE", &key, "3000"]), "1");
    let times = comes_again(other.address(), "a").await;
    assert!(times > 0, "the holder might have been alive");
    assert_eq!(redis.command(&["EXISTS", &key]), "0");
    assert_eq!(metric(&other, "crolang_lease_events_total{event=\"taken_over\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_a_killed_replica_are_free_at_once_when_its_key_is_deleted() {
    let redis = RedisServer::start().await;
    let (mut holder, _node, other) = holder_and_other(&redis, "60000").await;
    holder.process.kill();
    assert_eq!(redis.command(&["DEL", &replica_key(&redis)]), "1");
    let (entered, took) = newcomer(other.address(), "a").await;
    assert!(entered.is_ok(), "{:?}", entered.err());
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_key_is_deleted_loses_ids_to_others_and_learns_it() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(2, &redis, &[]).await;
    let entered = Client::enter(replicas[0].address(), "a", SOON).await;
    let mut holder = entered.unwrap_or_else(|kept_out| panic!("{kept_out:?}"));
    let holder = tokio::spawn(async move {
        while holder.ask().await.is_some() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let key = replica_key(&redis);
    let newcomer = loop {
        redis.command(&["DEL", &key]);
        match Node::try_connect(replicas[1].address(), "a").await {
            Ok(node) => break node.live(),
            // The replica has made its key again just before it was looked for.
            Err(answer) => assert_eq!(answer, ALREADY_CONNECTED),
        }
    };
    timeout(SOON, holder).await.expect("the old connection is closed").unwrap();
    assert_eq!(metric(&replicas[0], "crolang_lease_events_total{event=\"lost\"}"), 1.0);
    assert!(!newcomer.is_over());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_id_of_a_stopped_replica_is_busy_and_then_free() {
    let redis = RedisServer::start().await;
    let (holder, mut node, other) = holder_and_other(&redis, "2000").await;
    holder.process.pause();
    let began = Instant::now();
    let times = comes_again(other.address(), "a").await;
    assert!(times > 0, "the holder might have been alive");
    assert!(began.elapsed() > Duration::from_secs(1), "its key has run out");
    holder.process.resume();
    // What it has lost it learns as soon as it is back.
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_newcomers_on_all_replicas_one_gets_a_dead_holders_id() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(3, &redis, &[]).await;
    let mut silent = Node::connect_settled(replicas[0].address(), "a").await;
    let newcomers: Vec<_> =
        (0..30).map(|number| tokio::spawn(newcomer(replicas[number % 3].address(), "a"))).collect();
    silent.end().await;
    let mut connected = Vec::new();
    for newcomer in newcomers {
        match newcomer.await.unwrap().0 {
            Ok(node) => connected.push(node),
            Err(answer) => {
                assert!(
                    answer == ALREADY_CONNECTED || answer.starts_with("HTTP/1.1 503"),
                    "{answer}"
                );
            }
        }
    }
    let nodes = || replicas.iter().map(|replica| metric(replica, "crolang_nodes")).sum::<f64>();
    eventually_within(TIMEOUT, "one is left", || {
        nodes() == 1.0 && connected.iter().filter(|node| !node.is_over()).count() == 1
    })
    .await;
    let owner = redis.command(&["GET", "crolang:node:a"]);
    assert!(owner.contains(':'), "{owner}");
}
