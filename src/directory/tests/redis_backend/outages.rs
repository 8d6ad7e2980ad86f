//! Redis goes away and comes back, with what it had or without.

use test_support::{Way, eventually_within};

use super::*;

/// How long IDs are not given out after Redis has lost what it had, with some time to spare.
const SETTLED: Duration = Duration::from_secs(10);

#[tokio::test]
async fn ids_are_given_out_only_while_redis_is_there() {
    let cluster = Cluster::start(1, LONG, LONG).await;
    let view = &cluster.views[0];
    let lease = view.directory.acquire(&node("a"), view.somebody()).await.unwrap();
    let proxy = &cluster.proxies[0];
    for name in ["reset", "silent", "held up"] {
        proxy.refuse().await;
        match name {
            "reset" => proxy.cut(),
            "silent" => proxy.discard(Way::Both),
            _ => proxy.hold(Way::ToTarget),
        }
        eventually(name, || !view.directory.is_ready()).await;
        let newcomer = view.directory.acquire(&node("b"), view.somebody()).await;
        assert_eq!(refusal(newcomer), Some(AcquireError::Unavailable), "{name}");
        let heir = view.directory.take_over(&node("b"), view.somebody(), view.somebody()).await;
        assert_eq!(refusal(heir), Some(AcquireError::Unavailable), "{name}");
        assert!(view.directory.locate("b").await.is_err(), "{name}");
        assert!(view.directory.are_elsewhere(&["b"]).await.is_err(), "{name}");
        assert!(view.directory.is_claimed(&node("a"), lease.owner()), "{name}");
        proxy.cut();
        cluster.until_back(0).await;
        let newcomer = view.directory.acquire(&node("b"), view.somebody()).await;
        drop(newcomer.unwrap_or_else(|error| panic!("after {name}: {error}")));
        assert_eq!(cluster.stands("a"), lease.owner().to_string(), "after {name}");
    }
}

#[tokio::test]
async fn after_a_short_outage_ids_are_given_out_at_once() {
    let cluster = Cluster::start(1, LONG, LONG).await;
    cluster.cut_off(0).await;
    let began = Instant::now();
    cluster.until_back(0).await;
    // It is back within its longest pause, and does not wait for others to settle.
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn after_redis_has_lost_all_others_have_time_to_come_back_first() {
    let mut cluster = Cluster::start(2, LONG, LONG).await;
    let owner = cluster.views[1].somebody();
    let _lease = cluster.views[1].directory.acquire(&node("a"), owner).await.unwrap();
    cluster.cut_off(0).await;
    cluster.cut_off(1).await;
    cluster.redis.restart().await;
    // The one that may hand out the ID is there first, the owner follows later.
    cluster.proxies[0].pass().await;
    let view = &cluster.views[0];
    eventually("it is connected", || view.redis.is_connected()).await;
    eventually("it shows that it is alive", || cluster.redis.keys("test:replica:*").len() == 1)
        .await;
    let back = Instant::now();
    let newcomer = view.directory.acquire(&node("a"), view.somebody()).await;
    assert_eq!(refusal(newcomer), Some(AcquireError::Unavailable));
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.proxies[1].pass().await;
    eventually_within(SETTLED, "it gives out IDs", || view.directory.is_ready()).await;
    assert!(back.elapsed() > Duration::from_millis(1_500), "{:?}", back.elapsed());
    let newcomer = view.directory.acquire(&node("a"), view.somebody()).await;
    assert_eq!(refusal(newcomer), Some(AcquireError::Taken(owner)));
    assert!(cluster.views[1].lost.try_recv().is_err());
}

#[tokio::test]
async fn after_an_outage_longer_than_its_own_key_a_replica_waits_for_the_others() {
    let cluster = Cluster::start(1, LONG, LONG).await;
    cluster.kill(0).await;
    let began = Instant::now();
    cluster.proxies[0].pass().await;
    let view = &cluster.views[0];
    eventually_within(SETTLED, "it gives out IDs", || view.directory.is_ready()).await;
    assert!(began.elapsed() > Duration::from_millis(1_500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_given_back_while_redis_is_away_is_free_at_its_return() {
    let cluster = Cluster::start(1, LONG, LONG).await;
    let view = &cluster.views[0];
    let proxy = &cluster.proxies[0];
    for silent in [false, true] {
        let mut leases = Vec::new();
        for number in 0..300 {
            let id = node(&format!("n{number}"));
            leases.push(view.directory.acquire(&id, view.somebody()).await.unwrap());
        }
        let kept = leases.pop().unwrap();
        if silent {
            // It learns of this outage by the releases, which are perhaps done.
            proxy.hold(Way::ToTarget);
        } else {
            cluster.cut_off(0).await;
        }
        drop(leases);
        eventually("it is away", || !view.directory.is_ready()).await;
        assert_eq!(cluster.redis.keys("test:node:*").len(), 300);
        proxy.cut();
        cluster.until_back(0).await;
        eventually("all are free", || cluster.redis.keys("test:node:*").len() == 1).await;
        assert_eq!(cluster.stands("n299"), kept.owner().to_string());
        drop(kept);
        eventually("the last is free", || cluster.redis.keys("test:node:*").is_empty()).await;
    }
}

#[tokio::test]
async fn what_redis_refused_to_give_back_is_free_when_it_takes_writes_again() {
    let cluster = Cluster::start(1, LONG, LONG).await;
    let view = &cluster.views[0];
    let lease = view.directory.acquire(&node("a"), view.somebody()).await.unwrap();
    // As a primary that was demoted: it answers, but lets nobody write.
    cluster.redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
    drop(lease);
    eventually("it is away", || !view.directory.is_ready()).await;
    cluster.redis.command(&["REPLICAOF", "NO", "ONE"]);
    view.until_ready().await;
    eventually("it is free", || cluster.redis.keys("test:node:*").is_empty()).await;
}

#[tokio::test]
async fn an_id_whose_new_owner_never_heard_of_it_is_given_back() {
    let cluster = Cluster::start(1, LONG, LONG).await;
    let view = &cluster.views[0];
    let gone = owner_on(ReplicaId::random());
    let began = Instant::now();
    // Until it does not have to wait behind something else that gets no answer, and is not sent.
    while cluster.redis.keys("test:node:*").is_empty() {
        assert!(began.elapsed() < 4 * SOON);
        cluster.proxies[0].cut();
        cluster.until_back(0).await;
        cluster.proxies[0].discard(Way::ToClient);
        let acquired = view.directory.take_over(&node("a"), gone, view.somebody()).await;
        assert_eq!(refusal(acquired), Some(AcquireError::Unavailable));
    }
    cluster.proxies[0].cut();
    cluster.until_back(0).await;
    eventually("it is free", || cluster.redis.keys("test:node:*").is_empty()).await;
}

#[tokio::test]
async fn leases_outlive_an_outage_within_the_grace() {
    let mut cluster = Cluster::start(1, SHORT, LONG).await;
    let owner = cluster.views[0].somebody();
    let _lease = cluster.views[0].directory.acquire(&node("a"), owner).await.unwrap();
    cluster.cut_off(0).await;
    eventually("all keys have run out", || cluster.redis.keys("*").is_empty()).await;
    cluster.proxies[0].pass().await;
    eventually("it is made again", || cluster.stands("a") == owner.to_string()).await;
    assert!(cluster.views[0].lost.try_recv().is_err());
    cluster.every_key_runs_out();
}

#[tokio::test]
async fn without_grace_leases_are_given_up_before_others_can_have_them() {
    let mut cluster = Cluster::start(8, Duration::from_millis(1_500), NO_GRACE).await;
    let mut leases = Vec::new();
    for view in &cluster.views {
        let id = node(&view.replica.to_string());
        leases.push(view.directory.acquire(&id, view.somebody()).await.unwrap());
    }
    let Cluster { redis, proxies, views } = &mut cluster;
    let given_up =
        views.iter_mut().zip(proxies).zip(&leases).map(async |((view, proxy), lease)| {
            // Each at another time between two extensions.
            let phase = lease.owner().connection.number() % 4;
            tokio::time::sleep(Duration::from_millis(150 * phase)).await;
            proxy.refuse().await;
            proxy.cut();
            let given_up = in_time(view.lost.recv()).await;
            let left = redis.command(&["PTTL", &replica_key(view.replica)]);
            assert_eq!(given_up.connection, lease.owner().connection);
            left.parse::<i64>().unwrap()
        });
    let left = futures_util::future::join_all(given_up).await;
    assert!(left.iter().all(|left| *left > 100), "when they were given up: {left:?} ms");
}

#[tokio::test]
async fn a_replica_that_leaves_says_so() {
    let cluster = Cluster::start(2, LONG, LONG).await;
    let [leaving, staying] = &cluster.views[..] else { unreachable!() };
    let lease = leaving.directory.acquire(&node("a"), leaving.somebody()).await.unwrap();
    drop(lease);
    leaving.directory.close().await;
    // What was released before is free, and its key stays deleted.
    let listed = || cluster.redis.command(&["GET", "test:replicas:all"]).trim().to_owned();
    let left =
        || (cluster.redis.keys("test:replica:*"), cluster.redis.keys("test:node:*"), listed());
    let expected =
        (vec![replica_key(staying.replica)], Vec::<String>::new(), staying.replica.to_string());
    assert_eq!(left(), expected);
    assert!(!leaving.directory.is_ready());
    let newcomer = leaving.directory.acquire(&node("a"), leaving.somebody()).await;
    assert_eq!(refusal(newcomer), Some(AcquireError::Unavailable));
    cluster.redis.command(&["CONFIG", "RESETSTAT"]);
    // The other one has been at work for longer than a replica takes to show that it is alive.
    let extensions = || cluster.redis.command_calls().get("pexpire").copied().unwrap_or(0);
    eventually("time has passed", || extensions() >= 2).await;
    assert_eq!(left(), expected);
}
