//! What only the directory in Redis does: it outlives outages, lost data, dead replicas and what
//! others write.
//!
//! - `outages`: Redis goes away and comes back.

mod outages;

use std::future::Future;
use std::time::{Duration, Instant};

use test_support::{Proxy, RedisServer, SOON, eventually};
use tokio::time::timeout;

use super::{View, node, owner_on, refusal};
use crate::directory::{AcquireError, LeaseSettings, LostLease};
use crate::node::{Owner, ReplicaId};

/// A time to live that is over while a test waits.
const SHORT: Duration = Duration::from_secs(2);

/// One that is not: what happens in the test is not its doing.
const LONG: Duration = Duration::from_secs(60);

const NO_GRACE: Duration = Duration::ZERO;

/// A Redis server and its replicas, each behind a proxy of its own.
struct Cluster {
    redis: RedisServer,
    proxies: Vec<Proxy>,
    views: Vec<View>,
}

impl Cluster {
    async fn start(replicas: usize, ttl: Duration, outage_grace: Duration) -> Self {
        let redis = RedisServer::start().await;
        let mut cluster = Self { redis, proxies: Vec::new(), views: Vec::new() };
        for _ in 0..replicas {
            let proxy = Proxy::start(cluster.redis.address()).await;
            let leases = LeaseSettings { ttl, outage_grace };
            cluster.views.push(View::open(proxy.address(), "test", leases));
            cluster.proxies.push(proxy);
        }
        for view in &cluster.views {
            view.until_ready().await;
        }
        cluster
    }

    /// Who has the ID, as it stands in Redis.
    fn stands(&self, id: &str) -> String {
        self.redis.command(&["GET", &key(id)])
    }

    fn ttl_ms(&self, key: &str) -> i64 {
        self.redis.command(&["PTTL", key]).parse().unwrap()
    }

    fn every_key_runs_out(&self) {
        for key in self.redis.keys("*") {
            assert_ne!(self.ttl_ms(&key), -1, "{key} stays for ever");
        }
    }

    /// Cuts a replica off until [`Proxy::pass`].
    async fn cut_off(&self, replica: usize) {
        self.proxies[replica].refuse().await;
        self.proxies[replica].cut();
        eventually("it is away", || !self.views[replica].directory.is_ready()).await;
    }

    async fn until_back(&self, replica: usize) {
        self.proxies[replica].pass().await;
        self.views[replica].until_ready().await;
    }

    /// Cuts a replica off for good and takes its key away, as if that had run out.
    async fn kill(&self, replica: usize) {
        self.cut_off(replica).await;
        self.redis.command(&["DEL", &replica_key(self.views[replica].replica)]);
    }
}

fn key(id: &str) -> String {
    format!("test:node:{id}")
}

fn replica_key(replica: ReplicaId) -> String {
    format!("test:replica:{replica}")
}

fn events(view: &View, event: &str) -> String {
    let start = format!("crolang_lease_events_total{{event=\"{event}\"}} ");
    let text = view.metrics.encode();
    text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or("0").to_owned()
}

async fn in_time<T>(what: impl Future<Output = Option<T>>) -> T {
    timeout(SOON, what).await.expect("it comes in time").unwrap()
}

fn lost(id: &str, owner: Owner) -> LostLease {
    LostLease { node: node(id), connection: owner.connection }
}

#[tokio::test]
async fn leases_are_extended_every_third_of_their_time() {
    let ttl = Duration::from_secs(3);
    let cluster = Cluster::start(1, ttl, LONG).await;
    let [view] = &cluster.views[..] else { unreachable!() };
    let _lease = view.directory.acquire(&node("a"), view.somebody()).await.unwrap();
    let began = Instant::now();
    let mut least = i64::MAX;
    while began.elapsed() < ttl + ttl / 3 {
        least =
            least.min(cluster.ttl_ms(&key("a"))).min(cluster.ttl_ms(&replica_key(view.replica)));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Two thirds of it, and some time for a busy processor.
    assert!(least > 1_400, "{least} ms were left");
    cluster.every_key_runs_out();
}

#[tokio::test]
async fn a_lease_that_redis_has_lost_is_made_again() {
    let mut cluster = Cluster::start(1, SHORT, LONG).await;
    let view = &mut cluster.views[0];
    let owner = view.somebody();
    let _lease = view.directory.acquire(&node("a"), owner).await.unwrap();
    cluster.redis.command(&["DEL", &key("a")]);
    eventually("it is made again", || cluster.stands("a") == owner.to_string()).await;
    cluster.every_key_runs_out();
    cluster.redis.command(&["FLUSHALL"]);
    eventually("it is made again", || cluster.stands("a") == owner.to_string()).await;
    let view = &mut cluster.views[0];
    assert_eq!(cluster.redis.keys("test:replica:*"), [replica_key(view.replica)]);
    eventually("it is counted", || events(view, "asserted") == "2").await;
    assert!(view.lost.try_recv().is_err());
    cluster.every_key_runs_out();
}

#[tokio::test]
async fn a_lease_that_another_owner_has_is_lost() {
    let mut cluster = Cluster::start(1, SHORT, LONG).await;
    let view = &mut cluster.views[0];
    let (owner, foreign) = (view.somebody(), owner_on(ReplicaId::random()).to_string());
    let lease = view.directory.acquire(&node("a"), owner).await.unwrap();
    cluster.redis.command(&["SET", &key("a"), &foreign, "PX", "60000"]);
    assert_eq!(in_time(view.lost.recv()).await, lost("a", owner));
    drop(lease);
    view.flush().await;
    assert_eq!(cluster.stands("a"), foreign, "what is another's is not released");
}

#[tokio::test]
async fn the_former_owner_on_the_same_replica_learns_at_once_that_it_has_lost() {
    let mut cluster = Cluster::start(1, LONG, LONG).await;
    let view = &mut cluster.views[0];
    let (former, newcomer) = (view.somebody(), view.somebody());
    let lease = view.directory.acquire(&node("a"), former).await.unwrap();
    cluster.redis.command(&["DEL", &key("a")]);
    let _new = view.directory.acquire(&node("a"), newcomer).await.unwrap();
    assert_eq!(view.lost.try_recv(), Ok(lost("a", former)));
    drop(lease);
    view.flush().await;
    assert_eq!(cluster.stands("a"), newcomer.to_string());
}

#[tokio::test]
async fn ids_of_a_dead_replica_are_free_at_once() {
    let cluster = Cluster::start(2, LONG, LONG).await;
    let [dead, alive] = &cluster.views[..] else { unreachable!() };
    let owner = dead.somebody();
    let _lease = dead.directory.acquire(&node("a"), owner).await.unwrap();
    cluster.cut_off(0).await;
    // As long as its own key is there, it may come back.
    let refused = refusal(alive.directory.acquire(&node("a"), alive.somebody()).await);
    assert_eq!(refused, Some(AcquireError::Taken(owner)));
    cluster.kill(0).await;
    let heir = alive.somebody();
    let _lease = alive.directory.acquire(&node("a"), heir).await.unwrap();
    assert_eq!(cluster.stands("a"), heir.to_string());
    assert_eq!(events(alive, "taken_over"), "1");
    cluster.every_key_runs_out();
}

#[tokio::test]
async fn a_replica_that_was_thought_dead_gives_up_what_others_have_taken() {
    let mut cluster = Cluster::start(2, LONG, LONG).await;
    let owner = cluster.views[0].somebody();
    let _taken = cluster.views[0].directory.acquire(&node("a"), owner).await.unwrap();
    let _kept = cluster.views[0].directory.acquire(&node("b"), owner).await.unwrap();
    cluster.kill(0).await;
    let heir = cluster.views[1].somebody();
    let _heirs = cluster.views[1].directory.acquire(&node("a"), heir).await.unwrap();
    cluster.until_back(0).await;
    // A replica that is ready has asserted what it has, and knows what it has lost.
    assert_eq!(cluster.views[0].lost.try_recv(), Ok(lost("a", owner)));
    assert!(cluster.views[0].lost.try_recv().is_err());
    assert_eq!((cluster.stands("a"), cluster.stands("b")), (heir.to_string(), owner.to_string()));
}

#[tokio::test]
async fn what_stands_in_the_own_name_without_a_claim_is_free() {
    let cluster = Cluster::start(1, LONG, LONG).await;
    let view = &cluster.views[0];
    cluster.redis.command(&["SET", &key("a"), &view.somebody().to_string(), "PX", "60000"]);
    let owner = view.somebody();
    let _lease = view.directory.acquire(&node("a"), owner).await.unwrap();
    assert_eq!(cluster.stands("a"), owner.to_string());
    // A lookup there frees it too.
    cluster.redis.command(&["SET", &key("b"), &view.somebody().to_string(), "PX", "60000"]);
    assert_eq!(view.directory.locate("b").await, Ok(None));
    eventually("it is freed", || cluster.stands("b").is_empty()).await;
    view.directory.release_stale("a", owner);
    view.flush().await;
    assert_eq!(cluster.stands("a"), owner.to_string(), "what is claimed is not healed");
}

#[tokio::test]
async fn what_is_no_lease_does_not_block_an_id() {
    let cluster = Cluster::start(1, LONG, LONG).await;
    let view = &cluster.views[0];
    let dead = owner_on(ReplicaId::random()).to_string();
    let cut_short = &dead[..dead.len() - 2];
    let binary = "return redis.call('SET', KEYS[1], '\\255\\0\\254')";
    let foreign: [&[&str]; 9] = [
        &["SET", "KEY", ""],
        &["SET", "KEY", "garbage"],
        &["SET", "KEY", cut_short],
        &["SET", "KEY", &dead],
        &["EVAL", binary, "1", "KEY"],
        &["HSET", "KEY", "a", "b"],
        &["RPUSH", "KEY", "a"],
        &["SADD", "KEY", "a"],
        &["XADD", "KEY", "*", "a", "b"],
    ];
    for command in foreign {
        let place = key("a");
        let words: Vec<_> =
            command.iter().map(|word| if *word == "KEY" { &place } else { *word }).collect();
        cluster.redis.command(&words);
        assert_eq!(view.directory.locate("a").await, Ok(None), "{words:?}");
        assert_eq!(view.directory.are_elsewhere(&["a"]).await, Ok(vec![false]), "{words:?}");
        let owner = view.somebody();
        let lease = view.directory.acquire(&node("a"), owner).await;
        let lease = lease.unwrap_or_else(|error| panic!("{words:?}: {error}"));
        assert_eq!(cluster.stands("a"), owner.to_string());
        cluster.every_key_runs_out();
        drop(lease);
        view.flush().await;
        assert!(cluster.redis.keys(&place).is_empty(), "{words:?}");
    }
}

#[tokio::test]
async fn a_lease_under_a_key_of_another_type_is_kept_until_it_has_run_out() {
    let mut cluster = Cluster::start(1, SHORT, SHORT).await;
    let view = &mut cluster.views[0];
    let owner = view.somebody();
    let lease = view.directory.acquire(&node("a"), owner).await.unwrap();
    let began = Instant::now();
    cluster.redis.command(&["DEL", &key("a")]);
    cluster.redis.command(&["RPUSH", &key("a"), "x"]);
    assert_eq!(in_time(view.lost.recv()).await, lost("a", owner));
    assert!(began.elapsed() > SHORT, "it was given up after {:?}", began.elapsed());
    assert_ne!(events(view, "not_extended"), "0");
    drop(lease);
    view.flush().await;
    assert_eq!(cluster.redis.command(&["TYPE", &key("a")]), "list");
    assert!(view.directory.is_ready());
}

#[tokio::test]
async fn nodes_of_other_replicas_are_located() {
    let cluster = Cluster::start(2, LONG, LONG).await;
    let [here, there] = &cluster.views[..] else { unreachable!() };
    let (mine, theirs) = (here.somebody(), there.somebody());
    let _mine = here.directory.acquire(&node("mine"), mine).await.unwrap();
    let lease = there.directory.acquire(&node("theirs"), theirs).await.unwrap();
    assert_eq!(here.directory.known_location("theirs"), None, "nobody has asked yet");
    assert_eq!(here.directory.locate("theirs").await, Ok(Some(theirs)));
    assert_eq!(here.directory.known_location("theirs"), Some(theirs));
    assert_eq!(here.directory.locate("nobody").await, Ok(None));
    assert_eq!(here.directory.locate("mine").await, Ok(None), "it is not elsewhere");
    drop(lease);
    there.flush().await;
    assert_eq!(here.directory.locate("theirs").await, Ok(Some(theirs)), "it is remembered");
    here.directory.forget_location("theirs");
    assert_eq!(here.directory.known_location("theirs"), None);
    assert_eq!(here.directory.locate("theirs").await, Ok(None));
    let lease = there.directory.acquire(&node("theirs"), theirs).await.unwrap();
    assert_eq!(here.directory.locate("theirs").await, Ok(Some(theirs)));
    drop(lease);
    there.flush().await;
    // What comes to this replica is not elsewhere any more.
    let _lease = here.directory.acquire(&node("theirs"), here.somebody()).await.unwrap();
    assert_eq!(here.directory.known_location("theirs"), None);
}

#[tokio::test]
async fn nodes_of_a_dead_replica_are_nowhere() {
    let cluster = Cluster::start(2, LONG, LONG).await;
    let [here, there] = &cluster.views[..] else { unreachable!() };
    let _lease = there.directory.acquire(&node("a"), there.somebody()).await.unwrap();
    assert_eq!(here.directory.are_elsewhere(&["a"]).await, Ok(vec![true]));
    cluster.kill(1).await;
    // That it was alive is believed for about a second.
    let began = Instant::now();
    while here.directory.are_elsewhere(&["a"]).await != Ok(vec![false]) {
        assert!(began.elapsed() < SOON);
    }
    assert_eq!(here.directory.locate("a").await, Ok(None));
}

#[tokio::test]
async fn a_question_costs_one_round_trip_and_another_for_replicas_not_heard_of() {
    let cluster = Cluster::start(3, LONG, LONG).await;
    let [here, there, yonder] = &cluster.views[..] else { unreachable!() };
    let _mine = here.directory.acquire(&node("mine"), here.somebody()).await.unwrap();
    let _theirs = there.directory.acquire(&node("a"), there.somebody()).await.unwrap();
    let _others = yonder.directory.acquire(&node("b"), yonder.somebody()).await.unwrap();
    assert_eq!(here.directory.are_elsewhere(&[]).await, Ok(vec![]));
    let round_trips = async || {
        cluster.redis.command(&["CONFIG", "RESETSTAT"]);
        let answer = here.directory.are_elsewhere(&["a", "none", "b", "mine", "a"]).await;
        assert_eq!(answer, Ok(vec![true, false, true, false, true]));
        cluster.redis.command_calls()["mget"]
    };
    // The maintenance may look for life in between, which counts too.
    let first = round_trips().await;
    assert!((2..=3).contains(&first), "{first}");
    let mut least = u64::MAX;
    for _ in 0..10 {
        least = least.min(round_trips().await);
    }
    assert_eq!(least, 1);
}

#[tokio::test]
async fn commands_overtake_questions() {
    const QUESTIONS: usize = 1_000;
    let cluster = Cluster::start(1, LONG, NO_GRACE).await;
    let redis = cluster.views[0].redis.clone();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..QUESTIONS {
        let redis = redis.clone();
        asked.spawn(async move {
            let mut question = ::redis::cmd("MGET");
            question.arg(vec!["key"; 100]);
            redis.ask(question).await
        });
    }
    tokio::task::yield_now().await;
    redis.run(::redis::cmd("PING")).await.unwrap();
    let mut answered = 0;
    while let Some(answer) = asked.try_join_next() {
        answer.unwrap().unwrap();
        answered += 1;
    }
    assert!(answered < QUESTIONS / 10, "{answered} questions came first");
    while let Some(answer) = asked.join_next().await {
        answer.unwrap().unwrap();
    }
}
