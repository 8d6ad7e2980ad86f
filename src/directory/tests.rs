//! What every backend of the directory promises: one suite, run by each.
//!
//! Each case gets two views of one empty directory, as two replicas have them. For the memory of
//! one process those are two handles on the same map.
//!
//! - `redis_backend`: what only the backend in Redis does.
//! - `properties`: what holds whatever happens to replicas, links and Redis, in any order.

mod properties;
mod redis_backend;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};

use redis_session::{Certificates, Message, Redis, RedisMode, RedisSettings, SentinelSettings};
use test_support::{RedisServer, SOON, eventually};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::node::ConnectionId;

/// A directory in Redis as one replica sees it, with its own connections and its own maintenance.
struct View {
    replica: ReplicaId,
    directory: Directory,
    redis: Redis,
    lost: mpsc::Receiver<LostLease>,
    metrics: Metrics,
    _maintenance: AbortOnDropHandle<()>,
    /// The channel would end if nobody could take anything from it.
    _frames: mpsc::Receiver<Message>,
}

impl View {
    /// A view through the Redis server, or the proxy, at `address`. It may not be ready yet.
    fn open(address: SocketAddr, prefix: &str, leases: LeaseSettings) -> Self {
        let url = format!("redis://{address}").parse().unwrap();
        let sentinel = SentinelSettings { primary: String::new(), username: None, password: None };
        let settings = RedisSettings::new(
            &[url],
            RedisMode::Single,
            sentinel,
            prefix.into(),
            Certificates::default(),
        )
        .unwrap();
        let (replica, metrics) = (ReplicaId::random(), Metrics::new());
        let (name, required) = (replica.to_string(), RedisDirectory::required_commands);
        let (redis, frames) = Redis::start(settings, "nodes", &name, required, metrics.redis());
        let (directory, maintenance, lost) =
            Directory::redis(redis.clone(), replica, leases, metrics.clone());
        let maintenance = AbortOnDropHandle::new(tokio::spawn(maintenance.run()));
        Self {
            replica,
            directory,
            redis,
            lost,
            metrics,
            _maintenance: maintenance,
            _frames: frames,
        }
    }

    /// Waits until all that was sent before has been done, if Redis is available.
    async fn flush(&self) {
        drop(self.redis.run(::redis::cmd("PING")).await);
    }

    async fn until_ready(&self) {
        eventually("the directory is ready", || self.directory.is_ready()).await;
    }

    /// A new connection of this replica.
    fn somebody(&self) -> Owner {
        owner_on(self.replica)
    }
}

/// A new connection of that replica.
fn owner_on(replica: ReplicaId) -> Owner {
    Owner { replica, connection: ConnectionId::next() }
}

fn node(id: &str) -> NodeId {
    NodeId::parse(id).unwrap()
}

/// What came instead of a lease.
fn refusal(acquired: Result<Lease, AcquireError>) -> Option<AcquireError> {
    acquired.err()
}

/// Two views of one directory.
struct Views {
    here: Directory,
    there: Directory,
    replicas: [ReplicaId; 2],
    _kept: Option<(View, View, RedisServer)>,
}

impl Views {
    async fn memory() -> Self {
        let here = Directory::memory();
        let replica = ReplicaId::random();
        Self { there: here.clone(), here, replicas: [replica; 2], _kept: None }
    }

    async fn redis() -> Self {
        let redis = RedisServer::start().await;
        let ttl = Duration::from_secs(30);
        let leases = LeaseSettings { ttl, outage_grace: ttl };
        let [a, b] = [(); 2].map(|()| View::open(redis.address(), "test", leases));
        a.until_ready().await;
        b.until_ready().await;
        Self {
            here: a.directory.clone(),
            there: b.directory.clone(),
            replicas: [a.replica, b.replica],
            _kept: Some((a, b, redis)),
        }
    }

    /// A new connection on this replica.
    fn one_here(&self) -> Owner {
        owner_on(self.replicas[0])
    }

    /// A new connection on the other replica.
    fn one_there(&self) -> Owner {
        owner_on(self.replicas[1])
    }
}

/// Acquires as soon as nobody else has the ID; how long that took.
async fn until_free(directory: &Directory, id: &NodeId, owner: Owner) -> (Lease, Duration) {
    let began = Instant::now();
    loop {
        match directory.acquire(id, owner).await {
            Ok(lease) => return (lease, began.elapsed()),
            Err(AcquireError::Unavailable) => panic!("the directory is there"),
            Err(AcquireError::Taken(_)) => assert!(began.elapsed() < SOON, "{id} stays taken"),
        }
    }
}

async fn an_id_has_one_owner_at_a_time(views: Views) {
    let (first, second, third) = (views.one_here(), views.one_here(), views.one_there());
    let lease = views.here.acquire(&node("a"), first).await.unwrap();
    assert_eq!((lease.node(), lease.owner()), (&node("a"), first));
    let taken = Some(AcquireError::Taken(first));
    assert_eq!(refusal(views.here.acquire(&node("a"), second).await), taken);
    assert_eq!(refusal(views.there.acquire(&node("a"), third).await), taken);
    // Who was refused has left nothing behind that could block or free the ID.
    assert_eq!(refusal(views.there.acquire(&node("a"), third).await), taken);
    let _other = views.there.acquire(&node("b"), third).await.unwrap();
}

async fn the_same_owner_does_not_get_an_id_twice(views: Views) {
    let owner = views.one_here();
    let lease = views.here.acquire(&node("a"), owner).await.unwrap();
    let taken = Some(AcquireError::Taken(owner));
    assert_eq!(refusal(views.here.acquire(&node("a"), owner).await), taken);
    // The refusal has freed nothing.
    assert_eq!(refusal(views.there.acquire(&node("a"), views.one_there()).await), taken);
    drop(lease);
    let _again = views.here.acquire(&node("a"), owner).await.unwrap();
}

async fn one_owner_may_have_many_ids(views: Views) {
    let owner = views.one_here();
    let first = views.here.acquire(&node("a"), owner).await.unwrap();
    let _second = views.here.acquire(&node("b"), owner).await.unwrap();
    drop(first);
    let _free = views.here.acquire(&node("a"), views.one_here()).await.unwrap();
    let taken = Some(AcquireError::Taken(owner));
    assert_eq!(refusal(views.here.acquire(&node("b"), views.one_here()).await), taken);
}

async fn a_dropped_lease_frees_its_id_at_once(views: Views) {
    let id = node("a");
    let mut pauses = Vec::new();
    for _ in 0..21 {
        drop(views.here.acquire(&id, views.one_here()).await.unwrap());
        let lease = views.here.acquire(&id, views.one_here()).await;
        drop(lease.expect("on the same replica it is free the moment that the lease is dropped"));
        let (lease, pause) = until_free(&views.there, &id, views.one_there()).await;
        pauses.push(pause);
        drop(lease);
        drop(until_free(&views.here, &id, views.one_here()).await);
    }
    pauses.sort_unstable();
    // The median, as a single round may have to wait for the processor.
    assert!(pauses[10] < Duration::from_millis(100), "{pauses:?}");
}

async fn an_abandoned_acquisition_leaves_nothing(views: Views) {
    let gone = owner_on(ReplicaId::random());
    for round in 0..60 {
        let id = node(&format!("n{round}"));
        let owner = views.one_here();
        {
            let acquiring = async {
                if round % 2 == 0 {
                    views.here.acquire(&id, owner).await
                } else {
                    views.here.take_over(&id, gone, owner).await
                }
            };
            let mut acquiring = std::pin::pin!(acquiring);
            // Abandoned unstarted, after one step, after two ...
            for _ in 0..round / 2 {
                let done = std::future::poll_fn(|cx| Poll::Ready(acquiring.as_mut().poll(cx)));
                if done.await.is_ready() {
                    break;
                }
                yield_now().await;
            }
        }
        assert!(!views.here.is_claimed(&id, owner));
        let (_lease, _) = until_free(&views.there, &id, views.one_there()).await;
    }
}

async fn of_many_contenders_one_wins(views: Views) {
    for round in 0..30 {
        let id = node(&format!("n{round}"));
        let contenders: Vec<_> = (0..8)
            .map(|number| {
                let here = number % 2 == 0;
                let directory = if here { &views.here } else { &views.there }.clone();
                let owner = if here { views.one_here() } else { views.one_there() };
                let id = id.clone();
                tokio::spawn(async move { directory.acquire(&id, owner).await })
            })
            .collect();
        let mut leases = Vec::new();
        let mut winners = HashSet::new();
        for contender in contenders {
            match contender.await.unwrap() {
                Ok(lease) => leases.push(lease),
                Err(AcquireError::Taken(winner)) => drop(winners.insert(winner)),
                Err(AcquireError::Unavailable) => panic!("the directory is there"),
            }
        }
        assert_eq!(leases.len(), 1, "round {round}");
        assert_eq!(winners, HashSet::from([leases[0].owner()]), "all know who has won");
    }
}

async fn an_id_is_taken_over_from_a_holder_that_is_gone(views: Views) {
    let id = node("a");
    let (holder, heir) = (views.one_here(), views.one_there());
    let lease = views.here.acquire(&id, holder).await.unwrap();
    let heirs = views.there.take_over(&id, holder, heir).await.unwrap();
    let taken = Some(AcquireError::Taken(heir));
    assert_eq!(refusal(views.here.acquire(&id, views.one_here()).await), taken);
    // A late release of the former holder frees nothing.
    drop(lease);
    assert_eq!(refusal(views.here.acquire(&id, views.one_here()).await), taken);
    drop(heirs);
    drop(until_free(&views.here, &id, views.one_here()).await);
}

async fn an_id_is_not_taken_over_from_somebody_who_came_in_between(views: Views) {
    let id = node("a");
    let (gone, third) = (views.one_here(), views.one_here());
    drop(views.here.acquire(&id, gone).await.unwrap());
    let _lease = views.here.acquire(&id, third).await.unwrap();
    let taken = Some(AcquireError::Taken(third));
    assert_eq!(refusal(views.there.take_over(&id, gone, views.one_there()).await), taken);
    assert_eq!(refusal(views.there.acquire(&id, views.one_there()).await), taken);
}

async fn an_id_that_nobody_has_any_more_is_taken_over(views: Views) {
    let id = node("a");
    let heir = views.one_there();
    let _lease = views.there.take_over(&id, views.one_here(), heir).await.unwrap();
    let taken = Some(AcquireError::Taken(heir));
    assert_eq!(refusal(views.here.acquire(&id, views.one_here()).await), taken);
}

async fn odd_names_are_names_like_others(views: Views) {
    let long = ["x".repeat(256), "x".repeat(255), "ü".repeat(128)];
    let ids = [
        "a",
        "A",
        "ä",
        "a\u{308}",
        "Ä",
        "a b",
        "a  b",
        "a:b",
        "a:",
        ":a",
        ":",
        "{a}",
        "{}",
        "{a}b",
        "}{",
        "*",
        "?",
        "[a]",
        "\\",
        "\"",
        "'",
        "%00",
        "\u{feff}x",
        "__proto__",
        "test:node:a",
        "node:a",
        "😀",
        "\u{200b}",
        "-1",
        "0",
        "nil",
        "a/b",
        "socket.io#/#",
    ];
    // One with a blank at its end that a program cuts off would be another one.
    let ids: Vec<NodeId> = ids
        .into_iter()
        .chain(long.iter().map(String::as_str))
        .filter_map(|id| NodeId::parse(id).ok())
        .collect();
    assert!(ids.len() > 30);
    let mut leases = Vec::new();
    for id in &ids {
        let lease = views.here.acquire(id, views.one_here()).await;
        leases.push(lease.unwrap_or_else(|error| panic!("{id:?}: {error}")));
    }
    let mut heirs = Vec::new();
    for lease in leases {
        let (id, owner) = (lease.node().clone(), lease.owner());
        let taken = Some(AcquireError::Taken(owner));
        assert_eq!(refusal(views.there.acquire(&id, views.one_there()).await), taken, "{id:?}");
        drop(lease);
        heirs.push(until_free(&views.there, &id, views.one_there()).await);
    }
}

async fn an_id_is_claimed_until_its_lease_is_dropped(views: Views) {
    let id = node("a");
    let (owner, other) = (views.one_here(), views.one_here());
    assert!(!views.here.is_claimed(&id, owner));
    let lease = views.here.acquire(&id, owner).await.unwrap();
    assert!(views.here.is_claimed(&id, owner));
    assert!(!views.here.is_claimed(&id, other));
    assert!(!views.here.is_claimed(&node("b"), owner));
    assert!(refusal(views.here.acquire(&id, other).await).is_some());
    assert!(views.here.is_claimed(&id, owner) && !views.here.is_claimed(&id, other));
    drop(lease);
    assert!(!views.here.is_claimed(&id, owner));
}

/// A test of each case for each backend.
macro_rules! contract {
    ($($backend:ident: $cases:tt;)+) => {
        $(mod $backend {
            contract!(@ $backend $cases);
        })+
    };
    (@ $backend:ident [$($case:ident),+ $(,)?]) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::Views::$backend().await).await;
            }
        )+
    };
    ($($case:ident),+ $(,)?) => {
        contract!(memory: [$($case),+]; redis: [$($case),+];);
    };
}

contract!(
    an_id_has_one_owner_at_a_time,
    the_same_owner_does_not_get_an_id_twice,
    one_owner_may_have_many_ids,
    a_dropped_lease_frees_its_id_at_once,
    an_abandoned_acquisition_leaves_nothing,
    of_many_contenders_one_wins,
    an_id_is_taken_over_from_a_holder_that_is_gone,
    an_id_is_not_taken_over_from_somebody_who_came_in_between,
    an_id_that_nobody_has_any_more_is_taken_over,
    odd_names_are_names_like_others,
    an_id_is_claimed_until_its_lease_is_dropped,
);
