//! An ID never has two owners, whatever fails: replicas, Redis, the link between them. Only a
//! replica that is cut off may keep a connection whose ID somebody else has got meanwhile.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{
    Client, Frame, KeptOut, Node, Proxy, RedisServer, Replica, SOON, Way, eventually, metric,
    seeded, start_replica, start_replicas, until_ready, url_through,
};

const IDS: usize = 50;
const CLIENTS: usize = 200;

/// How long leases and the replicas' own keys live. A busy machine that keeps a replica from running
/// for two thirds of it cuts it off like any other fault, but nobody here would know.
const TTL: Duration = Duration::from_millis(4_000);

/// A fault after which every lease has run out that was not extended meanwhile.
const LONG: Duration = Duration::from_millis(4_500);

/// How long a replica that was cut off may take to notice what it has lost, once it is back.
const CONTACT: Duration = Duration::from_millis(2_000);

/// The time for which a client provably had an ID: from its greeting to the last question that was
/// answered.
#[derive(Debug, Clone)]
struct Stay {
    id: usize,
    replica: usize,
    from: Instant,
    to: Instant,
}

/// A time in which a replica was cut off, and a little more.
struct Isolation {
    replica: usize,
    from: Instant,
    to: Instant,
}

/// Two stays with one ID at the same time, on replicas of which none was cut off.
fn twins(stays: &[Stay], isolations: &[Isolation]) -> Vec<(Stay, Stay)> {
    let mut stays = stays.to_vec();
    stays.sort_by_key(|stay| (stay.id, stay.from));
    let mut twins = Vec::new();
    for (place, stay) in stays.iter().enumerate() {
        let later = &stays[place + 1..];
        for other in later.iter().take_while(|other| other.id == stay.id && other.from < stay.to) {
            let (from, to) = (other.from, stay.to.min(other.to));
            let is_excused = |it: &Isolation| {
                [stay.replica, other.replica].contains(&it.replica)
                    && it.from <= from
                    && to <= it.to
            };
            if from < to && !isolations.iter().any(is_excused) {
                twins.push((stay.clone(), other.clone()));
            }
        }
    }
    twins
}

#[test]
fn twins_are_found_unless_their_replica_was_cut_off() {
    let now = Instant::now();
    let at = |ms| now + Duration::from_millis(ms);
    let stay = |id, replica, from, to| Stay { id, replica, from: at(from), to: at(to) };
    let cut = |replica, from, to| [Isolation { replica, from: at(from), to: at(to) }];
    let apart = [stay(0, 0, 0, 10), stay(0, 1, 10, 20), stay(1, 2, 5, 15)];
    assert!(twins(&apart, &[]).is_empty());
    let together = [stay(0, 1, 9, 20), stay(0, 0, 0, 10)];
    assert_eq!(twins(&together, &[]).len(), 1);
    assert!(twins(&together, &cut(0, 0, 10)).is_empty());
    assert_eq!(twins(&together, &cut(2, 0, 10)).len(), 1, "another replica was cut off");
    assert_eq!(twins(&together, &cut(0, 0, 9)).len(), 1, "it was back by then");
}

/// Comes, stays for a little while and leaves, again and again.
async fn contend(addresses: Vec<SocketAddr>, mut random: StdRng, stays: Arc<Mutex<Vec<Stay>>>) {
    loop {
        let (id, replica) = (random.random_range(0..IDS), random.random_range(0..addresses.len()));
        match Client::enter(addresses[replica], &format!("node{id}"), SOON).await {
            Ok(mut client) => {
                let from = Instant::now();
                let (mut to, until) = (from, from + pause(&mut random, 100..1_000));
                while Instant::now() < until
                    && let Some(alive) = client.ask().await
                {
                    to = alive;
                    sleep(pause(&mut random, 20..80)).await;
                }
                stays.lock().unwrap().push(Stay { id, replica, from, to });
                if random.random() {
                    client.reset();
                }
            }
            Err(_) => sleep(pause(&mut random, 100..400)).await,
        }
    }
}

fn pause(random: &mut StdRng, ms: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(ms))
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    ReplicaKilled,
    ReplicaStopped,
    LinkSilent,
    LinkReset,
    RedisEmptied,
    RedisPaused,
}

/// Lets it happen to one of the replicas, or to all; returns when it is over.
async fn happen(fault: Fault, victim: usize, redis: &RedisServer, replicas: &mut [Replica]) {
    let replica = &mut replicas[victim];
    match fault {
        Fault::ReplicaKilled => replica.restart().await,
        Fault::ReplicaStopped => {
            replica.process.pause();
            sleep(LONG).await;
            replica.process.resume();
        }
        Fault::LinkSilent => {
            replica.link.hold(Way::Both);
            sleep(LONG).await;
            replica.link.pass().await;
        }
        Fault::LinkReset => {
            replica.link.refuse().await;
            replica.link.cut();
            sleep(LONG).await;
            replica.link.pass().await;
        }
        Fault::RedisEmptied => drop(redis.command(&["FLUSHALL"])),
        Fault::RedisPaused => {
            let pause = LONG.as_millis().to_string();
            redis.command(&["CLIENT", "PAUSE", &pause, "ALL"]);
            sleep(LONG).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_never_has_two_owners_whatever_fails() {
    let mut random = seeded();
    let redis = RedisServer::start().await;
    let ttl = TTL.as_millis().to_string();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start(&redis, &[("REDIS_LOCK_TTL_MS", &ttl)]).await);
    }
    let addresses: Vec<_> = replicas.iter().map(Replica::address).collect();
    let stays = Arc::new(Mutex::new(Vec::new()));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let random = StdRng::seed_from_u64(random.random());
        clients.spawn(contend(addresses.clone(), random, stays.clone()));
    }
    let began = Instant::now();
    let mut faults = [
        Fault::ReplicaKilled,
        Fault::ReplicaStopped,
        if random.random() { Fault::LinkSilent } else { Fault::LinkReset },
        Fault::RedisEmptied,
        Fault::RedisPaused,
    ];
    faults.shuffle(&mut random);
    let mut isolations = Vec::new();
    for fault in faults {
        sleep(pause(&mut random, 100..600)).await;
        let (victim, from) = (random.random_range(0..replicas.len()), Instant::now());
        println!("{:?}: {fault:?}, replica {victim}", began.elapsed());
        happen(fault, victim, &redis, &mut replicas).await;
        until_ready(addresses[victim]).await;
        if let Fault::ReplicaStopped | Fault::LinkSilent | Fault::LinkReset = fault {
            isolations.push(Isolation { replica: victim, from, to: Instant::now() + CONTACT });
        }
        for address in &addresses {
            until_ready(*address).await;
        }
        // Time for what the fault has left behind to show.
        sleep(CONTACT).await;
    }
    let before = stays.lock().unwrap().len();
    eventually("IDs are still had", || stays.lock().unwrap().len() > before + IDS).await;
    clients.shutdown().await;
    for (number, replica) in replicas.iter_mut().enumerate() {
        let log = replica.process.log();
        assert!(!log.contains("panicked"), "replica {number}: {log}");
    }
    let stays = stays.lock().unwrap();
    println!("{} stays", stays.len());
    let twins = twins(&stays, &isolations);
    for (stay, other) in twins.iter().take(10) {
        let at = |time: Instant| time.duration_since(began);
        let (id, from, to) = (stay.id, at(other.from), at(stay.to.min(other.to)));
        println!("node{id} on {} and {}, {from:?} to {to:?}", stay.replica, other.replica);
    }
    assert!(twins.is_empty(), "{} twins", twins.len());
    for id in 0..IDS {
        assert!(stays.iter().filter(|stay| stay.id == id).count() > 1, "nobody got node{id}");
    }
}

/// Tries until it is in; when that was.
async fn enters(address: SocketAddr, id: String) -> Instant {
    loop {
        match Client::enter(address, &id, SOON).await {
            Ok(_) => return Instant::now(),
            Err(KeptOut::Unavailable(_)) => {}
            Err(other) => panic!("{id}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_grace_a_replica_that_is_cut_off_drops_its_nodes_before_others_take_over() {
    let redis = RedisServer::start().await;
    let ttl = TTL.as_millis().to_string();
    let variables = [("REDIS_LOCK_TTL_MS", ttl.as_str()), ("REDIS_OUTAGE_GRACE_MS", "0")];
    let link = Proxy::start(redis.address()).await;
    let cut_off = start_replica(&url_through(&link), &variables).await;
    let other = start_replica(&redis.url(), &variables).await;
    let ids: Vec<_> = (0..60).map(|number| format!("node{number}")).collect();
    let mut holders = Vec::new();
    for id in &ids {
        let mut node = Node::connect(cut_off.address(), id).await;
        holders.push(tokio::spawn(async move {
            node.end().await;
            Instant::now()
        }));
    }
    link.hold(Way::Both);
    let mut newcomers = Vec::new();
    for (number, id) in (0..).zip(&ids) {
        // One asks each moment: a newcomer for an ID that is not free yet waits for its holder, and
        // would not see when that changes.
        let start = TTL / 2 + number * TTL / 60;
        let entered = enters(other.address(), id.clone());
        newcomers.push(tokio::spawn(async move {
            sleep(start).await;
            entered.await
        }));
    }
    for (holder, newcomer) in holders.into_iter().zip(newcomers) {
        let (dropped, entered) = (holder.await.unwrap(), newcomer.await.unwrap());
        // Clearly, and not by luck.
        let margin = entered.saturating_duration_since(dropped);
        assert!(margin > TTL / 20, "{margin:?}");
    }
    let lost = metric(&cut_off, "crolang_connections_closed_total{reason=\"lease_lost\"}");
    assert_eq!(lost, ids.len() as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_the_ids_of_the_living_when_redis_has_lost_them() {
    let redis = RedisServer::start().await;
    let replicas = start_replicas(2, &redis, &[("PING_INTERVAL_MS", "2000")]).await;
    let ids: Vec<_> = (0..20).map(|number| format!("node{number}")).collect();
    let mut holders = Vec::new();
    for id in &ids {
        holders.push(Node::connect(replicas[0].address(), id).await.live());
    }
    redis.command(&["FLUSHALL"]);
    // No replica can have noticed it by now; and later, all know again who has what.
    let began = Instant::now();
    for id in &ids {
        loop {
            let entered = Client::enter(replicas[1].address(), id, SOON).await;
            match entered.err().unwrap_or_else(|| panic!("{id} is there twice")) {
                KeptOut::Refused(_) => break,
                KeptOut::Unavailable(_) => {}
                KeptOut::Lost => panic!("{id}: no answer"),
            }
            assert!(began.elapsed() < 2 * SOON, "not in time: {id} is known to be there");
        }
    }
    assert!(holders.iter().all(|holder| !holder.is_over()));
    let lost = metric(&replicas[0], "crolang_lease_events_total{event=\"lost\"}");
    assert_eq!(lost, 0.0);
    // An ID that nobody has can be had again.
    assert!(Client::enter(replicas[1].address(), "free", SOON).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_over_from_the_dead_does_not_get_what_redis_has_forgotten() {
    let redis = RedisServer::start().await;
    let here = start_replica(&redis.url(), &[]).await;
    let link = Proxy::start(redis.address()).await;
    let there = start_replica(&url_through(&link), &[]).await;
    let mut dead = Node::connect_settled(here.address(), "a").await;
    let address = there.address();
    let newcomer = tokio::spawn(async move { Client::enter(address, "a", SOON).await.err() });
    assert_eq!(dead.next_unanswered().await, Frame::Ping, "it is asked whether it lives");
    link.hold(Way::Both);
    drop(dead);
    // Before the newcomer's replica learns that the holder is gone, somebody else has the ID, and
    // Redis knows nothing of that.
    eventually("the ID is free", || redis.keys("crolang:node:a").is_empty()).await;
    let next = Node::connect(here.address(), "a").await.live();
    redis.command(&["FLUSHALL"]);
    link.pass().await;
    let kept_out = newcomer.await.unwrap().expect("the ID has one owner");
    assert_ne!(kept_out, KeptOut::Lost);
    assert!(!next.is_over());
}
