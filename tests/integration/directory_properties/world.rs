//! The replicas of a schedule, what each of them believes, and what has to be true of that.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crolang_broker::directory::{AcquireError, Lease, LeaseSettings};
use crolang_broker::node::{NodeId, Owner};
use crolang_broker::redis::RedisState;
use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::{NODES, REPLICAS, Step};
use crate::directory::{View, node};
use crate::support::{Proxy, RedisServer, Way, eventually};

/// Nothing runs out by itself while a schedule is played.
const LEASES: LeaseSettings =
    LeaseSettings { ttl: Duration::from_secs(120), outage_grace: Duration::from_secs(120) };

/// How long a newcomer waits for a holder that is on its way in or out.
const PATIENCE: Duration = Duration::from_millis(500);

/// The longest that may pass until all is well again.
const SETTLED: Duration = Duration::from_secs(10);

/// Deletes the keys that match a pattern.
const DELETE: &str =
    "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end";

/// Deletes what a replica has, and its own key.
const RUN_OUT: &str = "for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':node:*')) do
  if string.find(redis.call('GET', key), ARGV[2], 1, true) then redis.call('DEL', key) end
end
redis.call('DEL', ARGV[1] .. ':replica:' .. ARGV[2])";

pub(super) struct World<'a> {
    redis: &'a RedisServer,
    prefix: String,
    replicas: Vec<Replica>,
    /// Replicas that are gone, and whose keys are perhaps not.
    crashed: Vec<String>,
    /// Whether Redis has lost all since the last check. Others must not notice.
    is_flushed: bool,
    /// Whether commands may have come to Redis when nobody waited for them any more.
    was_late: bool,
}

struct Replica {
    view: View,
    proxy: Proxy,
    link: Link,
    /// What it believes to own.
    leases: HashMap<NodeId, Held>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Good,
    Cut,
    Frozen,
    WithoutAnswers,
}

struct Held {
    lease: Lease,
    /// The session in which it was good. As long as nothing happens to that and to the data in
    /// Redis, there is no reason to lose it.
    good_in: Option<RedisState>,
}

impl Replica {
    async fn start(redis: &RedisServer, prefix: &str) -> Self {
        let proxy = Proxy::start(redis.address()).await;
        let view = View::open(proxy.address(), prefix, LEASES);
        view.until_ready().await;
        Self { view, proxy, link: Link::Good, leases: HashMap::new() }
    }

    fn session(&self) -> Option<RedisState> {
        (self.link == Link::Good).then(|| *self.view.redis.state().borrow())
    }

    fn is_undisturbed(&self, held: &Held) -> bool {
        held.good_in.is_some() && held.good_in == self.session()
    }

    fn disturb(&mut self, link: Link) {
        self.link = link;
        self.leases.values_mut().for_each(|held| held.good_in = None);
    }

    /// Gives up what it has learnt to be lost.
    fn evict(&mut self) -> Result<(), String> {
        while let Ok(lost) = self.view.lost.try_recv() {
            let Some(held) = self.leases.get(&lost.node) else { continue };
            if held.lease.owner().connection != lost.connection {
                continue;
            }
            if self.is_undisturbed(held) {
                return Err(format!("{:?} was lost without any reason", lost.node));
            }
            self.leases.remove(&lost.node);
        }
        Ok(())
    }
}

/// What the broker says of a connection whose ID somebody wants.
enum Verdict {
    Alive,
    Passing,
    Gone,
    Silent,
}

impl<'a> World<'a> {
    pub(super) async fn start(redis: &'a RedisServer, prefix: String) -> Self {
        redis.command(&["EVAL", DELETE, "0", &format!("{prefix}:*")]);
        let replicas = (0..REPLICAS).map(|_| Replica::start(redis, &prefix));
        let replicas = join_all(replicas).await;
        Self { redis, prefix, replicas, crashed: Vec::new(), is_flushed: false, was_late: false }
    }

    pub(super) async fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Acquire { replica, node } => self.contend(&[replica], &id(node)).await?,
            Step::Race { node } => self.contend(&[0, 1, 2], &id(node)).await?,
            Step::Abandon { replica, node, after } => {
                let Replica { view, .. } = &self.replicas[replica];
                let node = id(node);
                let acquired = view.directory.acquire(&node, view.somebody());
                drop(timeout(after, acquired).await);
            }
            Step::Leave { replica, node } => {
                self.replicas[replica].leases.remove(&id(node));
            }
            Step::Crash { replica } => self.crash(replica).await,
            Step::Cut { replica } => {
                let replica = &mut self.replicas[replica];
                replica.proxy.refuse().await;
                replica.proxy.cut();
                replica.disturb(Link::Cut);
            }
            Step::Freeze { replica } if self.replicas[replica].link == Link::Good => {
                self.replicas[replica].proxy.hold(Way::Both);
                self.replicas[replica].disturb(Link::Frozen);
            }
            Step::LoseAnswers { replica } if self.replicas[replica].link == Link::Good => {
                self.replicas[replica].proxy.discard(Way::ToClient);
                self.replicas[replica].disturb(Link::WithoutAnswers);
            }
            Step::RunOut { replica } if self.replicas[replica].link != Link::Good => {
                let View { directory, replica, .. } = &self.replicas[replica].view;
                // Nothing runs out before the replica knows that it is cut off.
                eventually("it is away", || !directory.is_ready()).await;
                self.run_out(&replica.to_string());
            }
            Step::Freeze { .. } | Step::LoseAnswers { .. } | Step::RunOut { .. } => {}
            Step::Restore { replica, late } => self.restore(replica, late).await,
            Step::Flush => {
                self.redis.command(&["EVAL", DELETE, "0", &format!("{}:*", self.prefix)]);
                self.is_flushed = true;
            }
            Step::Pause { duration } => sleep(duration).await,
        }
        self.replicas.iter_mut().try_for_each(Replica::evict)
    }

    async fn crash(&mut self, replica: usize) {
        let next = Replica::start(self.redis, &self.prefix).await;
        let dead = std::mem::replace(&mut self.replicas[replica], next);
        // Whatever it still wants to say is not heard.
        dead.proxy.refuse().await;
        dead.proxy.cut();
        self.crashed.push(dead.view.replica.to_string());
        if self.is_flushed {
            // The new one does not know that Redis has lost anything, and may be faster than those
            // who are about to make their leases again.
            let held = self.replicas.iter_mut().flat_map(|replica| replica.leases.values_mut());
            held.for_each(|held| held.good_in = None);
        }
    }

    fn run_out(&self, replica: &str) {
        self.redis.command(&["EVAL", RUN_OUT, "0", &self.prefix, replica]);
    }

    async fn restore(&mut self, replica: usize, late: bool) {
        let replica = &mut self.replicas[replica];
        match replica.link {
            Link::Good => return,
            // Bytes cannot be missing in the middle of a connection that goes on.
            Link::Frozen if late => self.was_late = true,
            _ => replica.proxy.cut(),
        }
        replica.proxy.pass().await;
        replica.link = Link::Good;
    }

    /// Newcomers on these replicas want the ID at once.
    async fn contend(&mut self, replicas: &[usize], node: &NodeId) -> Result<(), String> {
        let world = &*self;
        let newcomers = replicas.iter().map(async |replica| {
            let session = world.replicas[*replica].session();
            (*replica, session, world.acquire(*replica, node).await)
        });
        let mut winners = Vec::new();
        for (replica, session, acquired) in join_all(newcomers).await {
            winners.extend(acquired.map(|lease| (replica, session, lease)));
        }
        if winners.len() > 1 {
            return Err(format!("{} newcomers got {node:?}", winners.len()));
        }
        for (replica, session, lease) in winners {
            let others = self.replicas.iter().enumerate().filter(|(other, _)| *other != replica);
            for (other, owner) in others {
                let held = owner.leases.get(node);
                if held.is_some_and(|held| owner.is_undisturbed(held)) {
                    return Err(format!("{replica} got {node:?}, which {other} has"));
                }
            }
            let held = Held { lease, good_in: session };
            // On the same replica the former connection was judged to be gone, or has lost it.
            if let Some(former) = self.replicas[replica].leases.insert(node.clone(), held)
                && self.replicas[replica].is_undisturbed(&former)
            {
                return Err(format!("{replica} got {node:?}, which it has"));
            }
        }
        Ok(())
    }

    /// As the broker does it.
    async fn acquire(&self, replica: usize, node: &NodeId) -> Option<Lease> {
        let view = &self.replicas[replica].view;
        let owner = view.somebody();
        let began = Instant::now();
        let mut acquired = view.directory.acquire(node, owner).await;
        while began.elapsed() < PATIENCE {
            let holder = match acquired {
                Ok(lease) => return Some(lease),
                Err(AcquireError::Taken(holder)) => holder,
                Err(AcquireError::Unavailable) => return None,
            };
            acquired = match self.judge(replica, node, holder) {
                Verdict::Alive | Verdict::Silent => return None,
                Verdict::Passing => {
                    sleep(Duration::from_millis(10)).await;
                    view.directory.acquire(node, owner).await
                }
                Verdict::Gone => view.directory.take_over(node, holder, owner).await,
            };
        }
        acquired.ok()
    }

    fn judge(&self, asking: usize, node: &NodeId, holder: Owner) -> Verdict {
        let replicas = self.replicas.iter().enumerate();
        let found = replicas.clone().find(|(_, replica)| replica.view.replica == holder.replica);
        let Some((number, replica)) = found else { return Verdict::Silent };
        if number != asking && replica.link != Link::Good {
            return Verdict::Silent;
        }
        let held = replica.leases.get(node).map(|held| held.lease.owner());
        if held == Some(holder) {
            Verdict::Alive
        } else if replica.view.directory.is_claimed(node, holder) {
            Verdict::Passing
        } else {
            Verdict::Gone
        }
    }

    /// Waits until everybody with contact knows what is his, and it is one owner's.
    pub(super) async fn settle(&mut self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            self.replicas.iter_mut().try_for_each(Replica::evict)?;
            let wrong = self.wrong();
            if wrong.is_none() {
                break;
            }
            if began.elapsed() > SETTLED {
                return Err(wrong.unwrap_or_default());
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.is_flushed = false;
        for replica in &mut self.replicas {
            let session = replica.session();
            replica.leases.values_mut().for_each(|held| held.good_in = session);
        }
        for key in self.redis.keys(&format!("{}:*", self.prefix)) {
            if self.redis.command(&["PTTL", &key]) == "-1" {
                return Err(format!("{key} stays for ever"));
            }
        }
        Ok(())
    }

    /// What is not as it should be.
    fn wrong(&self) -> Option<String> {
        let connected = self.replicas.iter().filter(|replica| replica.link == Link::Good);
        let mut owners = HashMap::new();
        for replica in connected {
            if !replica.view.directory.is_ready() {
                return Some("a replica with contact gives out no IDs".into());
            }
            let own = format!("{}:replica:{}", self.prefix, replica.view.replica);
            if self.redis.keys(&own).is_empty() {
                return Some("a replica with contact does not show that it is alive".into());
            }
            for (node, held) in &replica.leases {
                let owner = held.lease.owner().to_string();
                let stands = self.redis.command(&["GET", &format!("{}:node:{node}", self.prefix)]);
                if stands != owner {
                    return Some(format!("{owner} owns {node:?}, but there stands {stands:?}"));
                }
                if let Some(other) = owners.insert(node, owner) {
                    return Some(format!("{other} owns {node:?} too"));
                }
            }
        }
        None
    }

    /// All links are good again, all connections end: nothing is left.
    pub(super) async fn end(mut self) -> Result<(), String> {
        for replica in 0..REPLICAS {
            self.restore(replica, true).await;
        }
        self.settle().await?;
        self.replicas.iter_mut().for_each(|replica| replica.leases.clear());
        for replica in &self.crashed {
            self.run_out(replica);
        }
        if self.was_late {
            // What came late may stand there in the name of a replica that knows nothing of it.
            // It blocks nobody.
            for node in (0..NODES).map(id) {
                let began = Instant::now();
                // A link that was restored late may still break once.
                while self.acquire(0, &node).await.is_none() {
                    if began.elapsed() > SETTLED {
                        return Err(format!("nobody has {node:?}, and nobody gets it"));
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
        let began = Instant::now();
        loop {
            let left = self.redis.keys(&format!("{}:node:*", self.prefix));
            if left.is_empty() {
                return Ok(());
            }
            if began.elapsed() > SETTLED {
                return Err(format!("{left:?} are left"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn id(number: usize) -> NodeId {
    node(&format!("node-{number}"))
}
