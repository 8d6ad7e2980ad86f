//! Redis away disconnects nobody, second part: links that fail, an operator who wants it
//! otherwise, and newcomers who want what Redis has lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::redis_outage::{AT_ONCE, BACK, ERROR, LONG, OK, Pair, TTL_MS};
use crate::support::{
    Frame, Node, Proxy, RedisServer, Way, eventually, eventually_within, metric,
    start_with_variables,
};

/// A Redis, two brokers on it, and the link of each.
async fn linked() -> (RedisServer, [Proxy; 2], Pair) {
    let redis = RedisServer::start().await;
    let links = [Proxy::start(redis.address()).await, Proxy::start(redis.address()).await];
    let urls = links.each_ref().map(|link| format!("redis://{}", link.address()));
    let pair = Pair::start([&urls[0], &urls[1]], &[]).await;
    (redis, links, pair)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset_links_disconnect_nobody() {
    let (redis, links, mut pair) = linked().await;
    links[0].cut();
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
    for link in &links {
        link.refuse().await;
        link.cut();
    }
    pair.is_apart().await;
    for link in &links {
        link.pass().await;
    }
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_redis_closes_disconnect_nobody() {
    let (redis, _links, mut pair) = linked().await;
    for kind in ["normal", "pubsub"] {
        redis.command(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
        pair.is_whole(|| redis.keys("crolang:node:*")).await;
    }
}

/// Nothing ends and nothing comes: the links lose or keep what goes this way until all is lost.
async fn goes_dark(way: Way, fault: fn(&Proxy, Way)) {
    let (redis, links, mut pair) = linked().await;
    links.iter().for_each(|link| fault(link, way));
    pair.is_apart().await;
    eventually("all has run out", || redis.keys("*").is_empty()).await;
    pair.is_apart().await;
    for link in &links {
        link.pass().await;
    }
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_lose_everything_disconnect_nobody() {
    goes_dark(Way::Both, Proxy::discard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_keep_everything_disconnect_nobody() {
    goes_dark(Way::Both, Proxy::hold).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_lose_commands_disconnect_nobody() {
    goes_dark(Way::ToTarget, Proxy::discard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_disconnect_nobody() {
    let (redis, links, mut pair) = linked().await;
    for fault in [Proxy::discard, Proxy::hold] {
        links.iter().for_each(|link| fault(link, Way::ToClient));
        pair.is_apart().await;
        for link in &links {
            link.pass().await;
        }
        // Commands whose answers were lost have been done all the same.
        pair.is_whole(|| redis.keys("crolang:node:*")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_alone_is_missed_by_others_at_once() {
    let (redis, links, mut pair) = linked().await;
    links[0].discard(Way::Both);
    let [a, b] = &mut pair.0;
    let cut_off = a.is_alone(["b0", "b1"]);
    let others = async {
        for to in ["a0", "a1", "a0"] {
            let began = Instant::now();
            let (ack, _) = b.members[0].send(to).await;
            assert_eq!(ack, ERROR, "nobody knows whether {to} got it");
            assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        }
        b.try_join("b3").await.unwrap();
        b.goes_on().await;
    };
    tokio::join!(cut_off, others);
    links[0].pass().await;
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_redis_is_waited_for() {
    let (redis, links, mut pair) = linked().await;
    let slow_down = |delay_ms| {
        // There and back: answers come twice as late.
        links.iter().for_each(|link| link.delay(Duration::from_millis(delay_ms)));
    };
    slow_down(50);
    let began = Instant::now();
    while began.elapsed() < LONG {
        pair.relays().await;
        for side in &mut pair.0 {
            assert!(side.is_ready().await);
            side.goes_on().await;
        }
    }
    slow_down(100);
    let mut told = [0, 0];
    let began = Instant::now();
    while began.elapsed() < LONG {
        let [a, b] = &mut pair.0;
        for (side, to) in [(&mut *a, "b0"), (&mut *b, "a0")] {
            let began = Instant::now();
            let (ack, _) = side.members[0].send(to).await;
            assert!(ack == OK || ack == ERROR, "{ack}");
            told[usize::from(ack == OK)] += 1;
            // Up to 0.9 s each for the receiver's place and for the other replica's answer.
            assert!(began.elapsed() < 2 * AT_ONCE, "{:?}", began.elapsed());
            assert!(side.is_ready().await);
            side.goes_on().await;
        }
    }
    println!("errors and not, with answers after 200 ms: {told:?}");
    slow_down(0);
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
    assert_eq!(links.each_ref().map(Proxy::accepted), [2; 2], "nobody connected anew");
}

/// Leads the second connection, which is the first one to listen, through `second`, and all
/// others to `others`. Counts them.
async fn front(others: SocketAddr, second: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, accepted) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = accepted.clone();
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let target = if count.fetch_add(1, Ordering::SeqCst) == 1 { second } else { others };
            connections.spawn(async move {
                let mut target = TcpStream::connect(target).await.unwrap();
                // An error is an end too.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut target).await;
            });
        }
    });
    (address, accepted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deaf_channel_is_found_and_replaced() {
    let redis = RedisServer::start().await;
    let listening = Proxy::start(redis.address()).await;
    let (address, accepted) = front(redis.address(), listening.address()).await;
    let mut pair = Pair::start([&format!("redis://{address}"), &redis.url()], &[]).await;
    assert_eq!((accepted.load(Ordering::SeqCst), listening.accepted()), (2, 1));
    listening.discard(Way::ToClient);
    let began = Instant::now();
    let [a, b] = &mut pair.0;
    for (asks, to) in [(&mut b.members[0], "a0"), (&mut a.members[0], "b0")] {
        let began = Instant::now();
        assert_eq!(asks.send(to).await.0, ERROR, "no answer came back");
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    }
    a.goes_on().await;
    // The probe that is missed, the time until that is noticed, and some for a busy machine.
    let limit = Duration::from_millis(3_500);
    eventually_within(limit, "it connects anew", || accepted.load(Ordering::SeqCst) > 2).await;
    assert!(began.elapsed() > Duration::from_secs(1), "one late message is no deafness");
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
}

/// How long after Redis's end this node's connection ends; nothing may be said before.
async fn end_of(mut node: Node, killed: Instant) -> Duration {
    // A Socket.IO packet that says so would keep clients from coming back.
    let last = node.next_unanswered().await;
    assert!(matches!(last, Frame::End | Frame::Close), "{last:?}");
    killed.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_decides_how_long_nodes_stay_without_redis() {
    let mut redis = RedisServer::start().await;
    let url = redis.url();
    let start = async |grace_ms| {
        let variables = [
            ("REDIS_URL", &*url),
            ("REDIS_LOCK_TTL_MS", TTL_MS),
            ("REDIS_OUTAGE_GRACE_MS", grace_ms),
        ];
        start_with_variables(&variables).await
    };
    let (strict, patient) = (start("0").await, start("1500").await);
    eventually("both are there", || redis.keys("crolang:replica:*").len() == 2).await;
    let strict_node = Node::connect(strict.address(), "a").await;
    let patient_node = Node::connect(patient.address(), "b").await;
    tokio::time::sleep(LONG).await;
    for server in [&strict, &patient] {
        assert_eq!(metric(server, "crolang_nodes"), 1.0, "nobody leaves while Redis is there");
    }
    redis.kill();
    let killed = Instant::now();
    let ends = tokio::join!(end_of(strict_node, killed), end_of(patient_node, killed));
    // Others get the ID once the lease has run out: 2 s after it was extended, at most.
    assert!(ends.0 < Duration::from_millis(2_100), "{ends:?}");
    assert!(ends.1 > Duration::from_millis(2_100) && ends.1 < Duration::from_secs(4), "{ends:?}");
    for server in [&strict, &patient] {
        let reason = "crolang_connections_closed_total{reason=\"lease_lost\"}";
        assert_eq!(metric(server, reason), 1.0);
    }
    redis.restart().await;
    for (server, id) in [(&strict, "b"), (&patient, "a")] {
        let began = Instant::now();
        while let Err(answer) = Node::try_connect(server.address(), id).await {
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(began.elapsed() < Duration::from_secs(5), "{answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Newcomers who want IDs that others hold, on both brokers and all the time, while something
/// happens to Redis.
async fn fight(happens: impl AsyncFnOnce(&mut RedisServer)) {
    let seed: Option<u64> = std::env::var("CHAOS_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = seed.unwrap_or_else(rand::random);
    println!("CHAOS_SEED={seed}");
    let mut redis = RedisServer::start().await;
    let url = redis.url();
    let Pair(sides) = Pair::start([&url, &url], &[]).await;
    let addresses = sides.each_ref().map(|side| side.broker.address());
    let mut holders = Vec::new();
    for number in 0..20 {
        let holder = Node::connect(addresses[number % 2], &format!("h{number}")).await;
        holders.push(holder.live());
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let mut fighters = JoinSet::new();
    for number in 0..8 {
        let (is_over, mut random) = (is_over.clone(), StdRng::seed_from_u64(seed ^ number));
        fighters.spawn(async move {
            let mut tries = 0;
            while !is_over.load(Ordering::SeqCst) {
                let id = format!("h{}", random.random_range(0..20));
                let answer = Node::try_connect(addresses[random.random_range(0..2)], &id).await;
                let answer = answer.err().unwrap_or_else(|| panic!("{id} was held"));
                let is_known = answer.starts_with("HTTP/1.1 503 ")
                    || answer == "44{\"message\":\"client already connected\"}";
                assert!(is_known, "{answer}");
                tries += 1;
                tokio::time::sleep(Duration::from_millis(random.random_range(0..10))).await;
            }
            tries
        });
    }
    happens(&mut redis).await;
    for side in &sides {
        side.until_ready(BACK).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    is_over.store(true, Ordering::SeqCst);
    let tries: usize = fighters.join_all().await.into_iter().sum();
    assert!(tries > 100, "{tries}");
    assert!(holders.iter().all(|holder| !holder.is_over()));
    eventually("a lease for each", || redis.keys("crolang:node:*").len() == 26).await;
    Pair(sides).nobody_was_disconnected();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_keep_their_ids_when_redis_comes_back_empty() {
    fight(async |redis| {
        for pause_ms in [0, 300] {
            redis.kill();
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            redis.restart().await;
            tokio::time::sleep(Duration::from_millis(2_500)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_keep_their_ids_when_redis_loses_its_keys() {
    fight(async |redis| {
        for _ in 0..3 {
            redis.command(&["FLUSHALL"]);
            tokio::time::sleep(Duration::from_millis(1_000)).await;
        }
    })
    .await;
}
