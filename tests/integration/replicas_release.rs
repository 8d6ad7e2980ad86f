//! An ID is free again for the whole cluster as soon as its connection has ended, in whatever way
//! and at whatever point that was; what Redis missed of it is made good.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crolang_broker::Server;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::{
    Call, Client, Hook, KeptOut, Node, Proxy, RedisServer, Replica, Reply, SOON, Way,
    back_at_the_start, eventually, frame, metric, seeded, start_replica, start_replicas,
    until_ready, url_through,
};

/// How soon an ID has to be free once its connection has ended.
const FREE: Duration = Duration::from_millis(100);

/// How often a connection ends here and the next with the same ID begins there.
const ROUNDS: usize = 1_000;

/// What nothing may take that does not wait for a holder.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Whether the broker can ask Redis.
const REDIS_CONNECTED: &str = "crolang_redis_connected{use=\"nodes\"}";

/// Ends a node's connection in one of the ways in which that happens.
async fn leave(mut node: Node, way: usize) {
    match way % 4 {
        // Without a word.
        0 => {}
        1 => {
            let socket = socket2::SockRef::from(&node.stream);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
        // WebSocket's close frame, and then Socket.IO's disconnect packet.
        2 => node.send_bytes(&frame(0x88, &[3, 232])).await,
        _ => node.send("41").await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_free_on_every_replica_as_soon_as_its_connection_has_ended() {
    let redis = RedisServer::start().await;
    // Nobody asks the holder, so only its release lets the next one in.
    let replicas = start_replicas(2, &redis, &[("DUPLICATE_ID_POLICY", "reject")]).await;
    let mut waits = Vec::new();
    let mut node = Node::connect(replicas[0].address(), "a").await;
    for round in 1..=ROUNDS {
        let next = replicas[round / 2 % 2].address();
        leave(node, round).await;
        let left = Instant::now();
        node = loop {
            match Node::try_connect(next, "a").await {
                Ok(node) => break node,
                Err(answer) => assert!(answer.starts_with("44{"), "{answer}"),
            }
            assert!(left.elapsed() < SOON, "not in time: the ID is free");
        };
        waits.push(left.elapsed());
    }
    waits.sort_unstable();
    // Not the last few: this computer may have other things to do.
    let (most, last) = (waits[waits.len() * 9 / 10], waits[waits.len() - 1]);
    assert!(most < FREE, "{most:?} in nine of ten rounds, {last:?} in the longest");
    assert!(last < AT_ONCE, "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_one_replica_enters_another_at_its_first_try() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(3, &redis, &[]).await;
    let mut node = Node::connect(replicas[0].address(), "a").await;
    for round in 1..=ROUNDS {
        leave(node, round).await;
        let began = Instant::now();
        node = Node::connect(replicas[round % 3].address(), "a").await;
        assert!(began.elapsed() < AT_ONCE, "round {round}: {:?}", began.elapsed());
    }
    assert_eq!(redis.keys("crolang:node:*"), ["crolang:node:a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_of_a_killed_replica_get_in_elsewhere_when_they_come_again() {
    let redis = RedisServer::start().await;
    let variables = [("REDIS_LOCK_TTL_MS", "4000")];
    let mut killed = Replica::start(&redis, &variables).await;
    let others = start_replicas(2, &redis, &variables).await;
    let mut nodes = Vec::new();
    for number in 0..200 {
        nodes.push(Node::connect(killed.address(), &format!("node{number}")).await);
    }
    killed.process.kill();
    let began = Instant::now();
    let mut comebacks = JoinSet::new();
    for (number, _) in nodes.iter().enumerate() {
        let address = others[number % 2].address();
        comebacks.spawn(comes_back(address, format!("node{number}")));
    }
    let entered = comebacks.join_all().await;
    // The replica's key, a contest that began before it ran out, and what the retries take.
    let limit = Duration::from_millis(4_000 + 2_500 + 2_000);
    assert!(began.elapsed() < limit, "{:?}", began.elapsed());
    let kept: f64 = others.iter().map(|other| metric(other, "crolang_nodes")).sum();
    assert_eq!((entered.len(), kept), (200, 200.0));
}

/// Comes back as official nodes do: after 2 s, and again after a 503.
async fn comes_back(address: SocketAddr, id: String) -> Client {
    sleep(Duration::from_secs(2)).await;
    loop {
        match Client::enter(address, &id, SOON).await {
            Ok(client) => return client,
            Err(KeptOut::Unavailable(_)) => sleep(Duration::from_millis(500)).await,
            Err(other) => panic!("{id}: {other:?}"),
        }
    }
}

fn node_keys(redis: &RedisServer) -> HashSet<String> {
    redis.keys("crolang:node:*").into_iter().collect()
}

/// A hook that takes up to 60 ms.
async fn slow_hook(answer: Value) -> Hook {
    Hook::start(move |call: &Call| {
        let ms = call.at.elapsed().subsec_nanos() % 60;
        Reply::After(Duration::from_millis(ms.into()), answer.clone())
    })
    .await
}

/// Connects many clients, some with the same ID, and cuts each at a random point.
async fn connect_and_cut(addresses: &[SocketAddr], random: &mut StdRng, count: usize) {
    let mut clients = JoinSet::new();
    for number in 0..count {
        let mut random = StdRng::seed_from_u64(random.random());
        let address = addresses[number % addresses.len()];
        clients.spawn(async move {
            let id = format!("node{}", random.random_range(0..count / 2));
            let life = Duration::from_millis(random.random_range(0..200));
            let is_reset = random.random();
            if random.random_ratio(1, 4) {
                // It never sends CONNECT.
                let Ok(client) = Client::begin(address, &id).await else { return };
                sleep(life).await;
                return if is_reset { client.reset() } else { drop(client) };
            }
            // Cut wherever it is by then, or a little after it is in.
            if let Ok(client) = Client::enter(address, &id, life).await {
                sleep(life / 4).await;
                if is_reset {
                    client.reset();
                }
            }
        });
        if number % 16 == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }
    clients.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_connects_that_were_cut_at_a_random_point() {
    let mut random = seeded();
    let redis = RedisServer::start().await;
    let authentication = slow_hook(json!({"authenticated": true})).await;
    let rtc = slow_hook(json!({"rtcConfiguration": {"iceServers": [{"urls": ["stun:a"]}]}})).await;
    let variables = [
        ("NODES_AUTHENTICATION_WEBHOOK_URL", &*authentication.url("/")),
        ("RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL", &*rtc.url("/")),
        // Those who stay are not to be silent for long.
        ("PING_INTERVAL_MS", "2000"),
    ];
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(Replica::start(&redis, &variables).await);
    }
    let mut at_rest = Vec::new();
    for replica in &replicas {
        // What is made at the first call of a webhook, and then stays, is not left by anybody.
        drop(Node::connect(replica.address(), "first").await);
    }
    authentication.refuse().await;
    rtc.refuse().await;
    for replica in &replicas {
        at_rest.push(replica.process.holdings_at_rest().await);
    }
    authentication.accept().await;
    rtc.accept().await;
    let addresses: Vec<_> = replicas.iter().map(Replica::address).collect();
    let mut stay = Vec::new();
    for number in 0..10 {
        stay.push(Node::connect(addresses[number % 2], &format!("stays{number}")).await.live());
    }
    let expected: HashSet<_> =
        (0..10).map(|number| format!("crolang:node:stays{number}")).collect();

    connect_and_cut(&addresses, &mut random, 1_000).await;
    // The leases live for a minute: no key goes by itself in time.
    eventually("no key is left", || node_keys(&redis) == expected).await;

    // The same while Redis comes and goes.
    let troubles = async {
        for (number, replica) in replicas.iter().cycle().take(6).enumerate() {
            match number % 3 {
                0 => replica.link.cut(),
                1 => replica.link.hold(Way::Both),
                _ => replica.link.discard(Way::ToClient),
            }
            sleep(Duration::from_millis(1_000)).await;
            replica.link.pass().await;
        }
    };
    let many = async {
        for _ in 0..8 {
            connect_and_cut(&addresses, &mut random, 125).await;
            sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::join!(troubles, many);
    for address in &addresses {
        until_ready(*address).await;
    }
    eventually("no key is left after the troubles", || node_keys(&redis) == expected).await;
    assert!(stay.iter().all(|node| !node.is_over()));
    drop(stay);
    eventually("no key is left at all", || node_keys(&redis).is_empty()).await;
    // What is kept open to the hooks is theirs to close.
    authentication.refuse().await;
    rtc.refuse().await;
    for (replica, at_rest) in replicas.iter().zip(at_rest) {
        replica.process.until_it_holds(at_rest).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_redis_missed_is_made_good() {
    let redis = RedisServer::start().await;
    let link = Proxy::start(redis.address()).await;
    let replica = start_replica(&url_through(&link), &[]).await;
    // Lost on the way, lost on the way back, late.
    for fault in 0..4 {
        let node = Node::connect(replica.address(), "a").await;
        match fault {
            0 => link.discard(Way::ToTarget),
            1 => link.discard(Way::ToClient),
            2 => link.hold(Way::Both),
            _ => {
                link.refuse().await;
                link.cut();
                eventually("Redis is unavailable", || metric(&replica, REDIS_CONNECTED) == 0.0)
                    .await;
            }
        }
        drop(node);
        back_at_the_start(&replica).await;
        if fault != 1 {
            assert_eq!(redis.keys("crolang:node:*").len(), 1);
        }
        eventually("Redis is unavailable", || metric(&replica, REDIS_CONNECTED) == 0.0).await;
        link.pass().await;
        eventually("the ID is free", || redis.keys("crolang:node:*").is_empty()).await;
        until_ready(replica.address()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_no_connection_stands_behind_lock_nobody_out() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(2, &redis, &[]).await;
    let names: Vec<String> = redis.keys("crolang:replica:*");
    assert_eq!(names.len(), 2);
    for name in &names {
        let name = name.strip_prefix("crolang:replica:").unwrap();
        for content in [&format!("{name}:999999999"), &format!("{name}:0")] {
            for replica in &replicas {
                // In the name of a replica that lives, but knows nothing of it.
                redis.command(&["SET", "crolang:node:a", content]);
                enter_at_once(replica, content).await;
                eventually("its key is gone", || node_keys(&redis).is_empty()).await;
            }
        }
    }
    let foreign: [&[&str]; 8] = [
        &["SET", "crolang:node:a", ""],
        &["SET", "crolang:node:a", "somebody"],
        &["SET", "crolang:node:a", "00000000000000000000000000000000:1"],
        &["SET", "crolang:node:a", "\u{fffd}\r\n:\0"],
        &["LPUSH", "crolang:node:a", "1"],
        &["HSET", "crolang:node:a", "1", "2"],
        &["ZADD", "crolang:node:a", "1", "2"],
        &["XADD", "crolang:node:a", "*", "1", "2"],
    ];
    for command in foreign {
        for replica in &replicas {
            redis.command(command);
            enter_at_once(replica, &command.join(" ")).await;
            // The next one may be of another type.
            eventually("its key is gone", || node_keys(&redis).is_empty()).await;
        }
    }
}

/// Lets a node enter whose key is as described, and leave again.
async fn enter_at_once(replica: &Server, what: &str) {
    let began = Instant::now();
    let entering = timeout(SOON, Node::try_connect(replica.address(), "a"));
    let entered = entering.await.unwrap_or_else(|_| panic!("{what}: no answer"));
    let node = entered.unwrap_or_else(|answer| panic!("{what}: {answer}"));
    assert!(began.elapsed() < AT_ONCE, "{what}: {:?}", began.elapsed());
    drop(node);
    back_at_the_start(replica).await;
}
