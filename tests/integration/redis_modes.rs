//! The ways to Redis: one server by all kinds of URLs, sentinels, a cluster.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::redis_outage::{AT_ONCE, BACK, LONG, OK, Pair, Side, all_connected};
use crate::support::{
    Authority, Node, Process, Proxy, RedisCluster, RedisServer, Sentinels, Way, configuration,
    eventually, metric, start_with_variables,
};

/// Two brokers that act as one by this URL.
async fn works(redis: &RedisServer, url: &str, variables: &[(&str, &str)]) {
    // Brokers of a test before, which were dropped and not shut down, may have left their IDs.
    redis.command(&["FLUSHALL"]);
    let mut pair = Pair::start([url, url], variables).await;
    pair.is_whole(|| redis.keys("crolang:node:*")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_reached_as_a_user_in_a_database() {
    let redis = RedisServer::start().await;
    // Before 7.0 a user may use every channel until that is reset.
    let rules = ["on", ">secret word", "~crolang:*", "resetchannels", "&crolang:*", "+@all"];
    redis.command(&[&["ACL", "SETUSER", "broker"], &rules[..]].concat());
    let url = format!("redis://broker:secret%20word@{}/3", redis.address());
    let mut pair = Pair::start([&url, &url], &[]).await;
    pair.relays().await;
    let keyspace = redis.command(&["INFO", "keyspace"]);
    // Six nodes, two replicas and the list of these.
    assert!(keyspace.contains("db3:keys=9,") && !keyspace.contains("db0:"), "{keyspace}");
    pair.nobody_was_disconnected();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_reached_by_tls_and_by_a_socket() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let redis = RedisServer::start_tls(&authority).await;
    let (trusted, other) = (authority.file(), stranger.file());
    let path = |file: &tempfile::NamedTempFile| file.path().to_str().unwrap().to_owned();
    let (trusted, other) = (path(&trusted), path(&other));
    works(&redis, &redis.tls_url(), &[("REDIS_CA_FILE", &trusted)]).await;
    works(&redis, &redis.unix_url(), &[]).await;
    let url = redis.tls_url();
    for variables in
        [&[("REDIS_URL", &*url)][..], &[("REDIS_URL", &url), ("REDIS_CA_FILE", &other)]]
    {
        let broker = start_with_variables(variables).await;
        let mut side = Side { broker, members: Vec::new() };
        side.turns_away().await;
        assert!(!side.is_ready().await);
        assert_eq!(metric(&side.broker, "crolang_redis_connected{use=\"nodes\"}"), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_shown_a_certificate_if_it_asks_for_one() {
    let authority = Authority::new();
    let redis = RedisServer::start_mutual_tls(&authority).await;
    let (certificate, key) = authority.pem("broker.example");
    let write = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        (file, path)
    };
    let (_certificate, certificate) = write(&certificate);
    let (_key, key) = write(&key);
    let ca = authority.file();
    let ca = ("REDIS_CA_FILE", ca.path().to_str().unwrap());
    let both = [ca, ("REDIS_CERT_FILE", &*certificate), ("REDIS_KEY_FILE", &*key)];
    works(&redis, &redis.tls_url(), &both).await;
    let url = redis.tls_url();
    let broker = start_with_variables(&[("REDIS_URL", &*url), ca]).await;
    let mut side = Side { broker, members: Vec::new() };
    side.turns_away().await;
    for (variables, named) in [
        (&both[..2], "REDIS_CERT_FILE"),
        (&[ca, both[2]], "REDIS_CERT_FILE"),
        (&[both[1], ("REDIS_KEY_FILE", &*certificate)], "REDIS_KEY_FILE"),
    ] {
        let errors = configuration(variables).unwrap_err().to_string();
        assert!(errors.contains(named), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_may_become_right_later() {
    let redis = RedisServer::start_with(&["--requirepass", "another"]).await;
    let url = redis.url_with_password("right");
    let broker = start_with_variables(&[("REDIS_URL", &url)]).await;
    let mut side = Side { broker, members: Vec::new() };
    assert!(!side.is_ready().await);
    side.turns_away().await;
    redis.command(&["CONFIG", "SET", "requirepass", "right"]);
    side.until_ready(BACK).await;
    side.try_join("a").await.unwrap();
    side.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_keep_clusters_apart() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    // With all that means something to Redis or in its patterns.
    let (one, other) = ("one", "*:{o n}é[");
    let mut pairs = Vec::new();
    for prefix in [one, other] {
        pairs.push(Pair::start([&url, &url], &[("REDIS_KEY_PREFIX", prefix)]).await);
    }
    for pair in &mut pairs {
        // The same IDs on both; nobody is told of the other's.
        pair.relays().await;
        assert_eq!(pair.0[0].members[0].find(&["b0", "b1"]).await, all_connected(&["b0", "b1"]));
    }
    pairs[0].0[0].try_join("c").await.unwrap();
    let asking = &mut pairs[1].0[1].members[0];
    assert!(asking.find(&["c"]).await.contains("false"));
    assert_eq!(asking.send("c").await.0, "[\"NOT_CONNECTED\"]");
    let keys = redis.keys("*");
    let count =
        |prefix: &str| keys.iter().filter(|it| it.starts_with(&format!("{prefix}:"))).count();
    assert_eq!((count(one), count(other), keys.len()), (10, 9, 19));
}

fn joined(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(|it| format!("redis://{it}")).collect::<Vec<_>>().join(",")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_lead_to_the_next_primary() {
    let mut sentinels = Sentinels::start().await;
    // The first one in the list does not answer, and for the other broker it is not even there.
    let silent = Proxy::start(sentinels.addresses()[0]).await;
    silent.discard(Way::Both);
    let dead = Proxy::start(sentinels.addresses()[0]).await;
    dead.refuse().await;
    let urls = [&silent, &dead].map(|first| {
        let mut addresses = sentinels.addresses();
        addresses[0] = first.address();
        joined(&addresses)
    });
    let variables = [("REDIS_MODE", "sentinel"), ("REDIS_SENTINEL_NAME", Sentinels::NAME)];
    let mut pair = Pair::start([&urls[0], &urls[1]], &variables).await;
    pair.relays().await;
    let old = sentinels.kill_primary();
    pair.is_apart().await;
    sentinels.until_replaced(old).await;
    let primary = sentinels.servers.iter().find(|server| server.address() != old).unwrap();
    pair.is_whole(|| primary.keys("crolang:node:*")).await;
    // What sentinels do not know of is no primary.
    let broker = start_with_variables(&[
        ("REDIS_URL", &urls[1]),
        ("REDIS_MODE", "sentinel"),
        ("REDIS_SENTINEL_NAME", "another"),
    ])
    .await;
    assert!(!Side { broker, members: Vec::new() }.is_ready().await);
}

/// How often a command was called on all servers of the cluster.
fn calls(cluster: &RedisCluster, command: &str) -> u64 {
    let calls = |server: &RedisServer| server.command_calls().get(command).copied().unwrap_or(0);
    cluster.servers.iter().map(calls).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_act_as_one_by_a_cluster() {
    let cluster = RedisCluster::start().await;
    // One server is enough to find the others.
    let urls = cluster.urls();
    let mut pair =
        Pair::start([&urls[0], &urls[1..].join(",")], &[("REDIS_MODE", "cluster")]).await;
    pair.is_whole(|| cluster.keys("crolang:node:*")).await;
    assert!(calls(&cluster, "spublish") > 0 && calls(&cluster, "publish") == 0);
    let [a, b] = &mut pair.0;
    let ids: Vec<_> = (0..60).map(|number| format!("many{number}")).collect();
    for id in &ids {
        b.try_join(id).await.unwrap();
    }
    let counts: Vec<_> =
        cluster.servers.iter().map(|server| server.keys("crolang:node:many*").len()).collect();
    assert!(counts.iter().all(|count| *count > 0), "on every server: {counts:?}");
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    assert_eq!(a.members[0].find(&ids).await, all_connected(&ids));
    for id in ids.iter().step_by(10) {
        assert_eq!(a.members[0].send(id).await.0, OK);
    }
    // A live holder wins, wherever the newcomer comes.
    let holder = Node::connect(b.broker.address(), "held").await.live();
    for address in [a.broker.address(), b.broker.address()] {
        let refusal = Node::try_connect(address, "held").await.err().unwrap();
        assert_eq!(refusal, "44{\"message\":\"client already connected\"}");
    }
    drop(holder);
    eventually("it is free", || cluster.keys("crolang:node:held").is_empty()).await;
    // A silent one does not.
    let _silent = Node::connect(b.broker.address(), "silent").await;
    Node::connect(a.broker.address(), "silent").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_a_killed_replica_are_free_in_a_cluster() {
    let cluster = RedisCluster::start().await;
    let url = cluster.urls().join(",");
    let variables =
        [("REDIS_URL", &*url), ("REDIS_MODE", "cluster"), ("REDIS_LOCK_TTL_MS", "60000")];
    let mut killed = Process::start(&variables).await;
    let staying = start_with_variables(&variables).await;
    let mut nodes = Vec::new();
    for number in 0..10 {
        nodes.push(Node::connect(killed.address, &format!("n{number}")).await);
    }
    killed.kill();
    let began = Instant::now();
    for number in 0..10 {
        while let Err(answer) = Node::try_connect(staying.address(), &format!("n{number}")).await {
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(began.elapsed() < Duration::from_secs(12), "{answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_server_of_a_cluster_disconnects_nobody() {
    let mut cluster = RedisCluster::start().await;
    for server in &cluster.servers {
        server.command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let url = cluster.urls().join(",");
    let mut pair = Pair::start([&url, &url], &[("REDIS_MODE", "cluster")]).await;
    cluster.servers[0].kill();
    let began = Instant::now();
    while began.elapsed() < 2 * LONG {
        let [a, b] = &mut pair.0;
        tokio::join!(a.goes_on(), b.goes_on());
        // Whatever it is that they are told, it comes in time.
        for (side, to) in [(&mut *a, "b1"), (&mut *b, "a1")] {
            let asked = Instant::now();
            side.members[0].send(to).await;
            assert!(asked.elapsed() < 3 * AT_ONCE, "{:?}", asked.elapsed());
        }
    }
    pair.nobody_was_disconnected();
    cluster.servers[0].restart().await;
    cluster.until_it_is_whole().await;
    pair.is_whole(|| cluster.keys("crolang:node:*")).await;
}
