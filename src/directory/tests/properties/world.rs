//! The replicas of a case, what each of them believes, and what has to be true of that.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use test_support::{RedisServer, Way, eventually};
use tokio::time::{sleep, timeout};

use super::model::{Expected, Holder, Link, Model};
use super::replica::{Held, Replica};
use super::{NODES, REPLICAS, Transition};
use crate::directory::tests::node;
use crate::directory::{AcquireError, Lease, LeaseSettings};
use crate::node::{NodeId, Owner};

/// Leases are extended every 3 s, and the replicas' keys every second: what has contact loses
/// nothing to a machine that is slow for a moment. Nobody gives up for an outage.
pub(super) const LEASES: LeaseSettings =
    LeaseSettings { ttl: Duration::from_secs(9), outage_grace: Duration::from_secs(120) };

/// How long one of several newcomers waits for a holder that is on its way in or out.
const TAKEOVER_TIMEOUT: Duration = Duration::from_millis(500);

/// The longest that may pass until all is well again.
const SETTLED: Duration = Duration::from_secs(20);

const PREFIX: &str = "test";

/// Deletes what a replica has, and its own key.
const RUN_OUT: &str = "for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':node:*')) do
  if string.find(redis.call('GET', key), ARGV[2], 1, true) then redis.call('DEL', key) end
end
redis.call('DEL', ARGV[1] .. ':replica:' .. ARGV[2])";

pub(super) struct World {
    replicas: Vec<Replica>,
    /// Replicas that are gone, and whose keys are perhaps not.
    dead: Vec<String>,
    /// Whether Redis has lost all since the last check. Others must not notice.
    is_flushed: bool,
    redis: RedisServer,
}

/// What the broker says of a connection whose ID somebody wants.
enum Verdict {
    Alive,
    Passing,
    Gone,
    Silent,
}

impl World {
    pub(super) async fn start() -> Self {
        let redis = RedisServer::start().await;
        let replicas = (0..REPLICAS).map(|_| Replica::start(&redis, PREFIX));
        let replicas = join_all(replicas).await;
        Self { replicas, dead: Vec::new(), is_flushed: false, redis }
    }

    /// Lets it happen; `model` is how things should stand afterwards.
    pub(super) async fn take(
        &mut self,
        transition: Transition,
        model: &Model,
    ) -> Result<(), String> {
        match transition {
            Transition::Acquire { replica, node } => {
                self.contend(&[replica], &id(node), model.expected).await?;
            }
            Transition::Race { node } => {
                let is_running = |replica: &usize| !self.replicas[*replica].is_paused();
                let newcomers: Vec<_> = (0..REPLICAS).filter(is_running).collect();
                self.contend(&newcomers, &id(node), model.expected).await?;
            }
            Transition::Abandon { replica, node, after } => {
                let view = &self.replicas[replica].view;
                let node = id(node);
                let acquired = view.directory.acquire(&node, view.somebody());
                let acquired = timeout(after, acquired).await;
                if model.expected == Expected::Lost && matches!(acquired, Ok(Ok(_))) {
                    return Err(format!("{replica} got {node:?}, which somebody has"));
                }
            }
            Transition::Release { replica, node } => {
                self.replicas[replica].leases.remove(&id(node));
            }
            Transition::ReleaseAll { node } => {
                let running = self.replicas.iter_mut().filter(|replica| !replica.is_paused());
                running.for_each(|replica| drop(replica.leases.remove(&id(node))));
            }
            Transition::Extend => self.extend().await?,
            Transition::Crash { replica } => self.crash(replica).await,
            Transition::DeadRunOut => {
                for dead in std::mem::take(&mut self.dead) {
                    self.run_out(&dead);
                }
            }
            Transition::Pause { replica } => self.replicas[replica].pause().await,
            Transition::Resume { replica } => self.replicas[replica].resume(),
            Transition::Cut { replica } => {
                let replica = &mut self.replicas[replica];
                replica.proxy.refuse().await;
                replica.proxy.cut();
                replica.link = Link::Cut;
                replica.disturb();
            }
            Transition::Freeze { replica } => {
                let replica = &mut self.replicas[replica];
                replica.proxy.hold(Way::Both);
                replica.link = Link::Frozen;
                replica.disturb();
            }
            Transition::LoseAnswers { replica } => {
                let replica = &mut self.replicas[replica];
                replica.proxy.discard(Way::ToClient);
                replica.link = Link::WithoutAnswers;
                replica.disturb();
            }
            Transition::RunOut { replica } => {
                let replica = &self.replicas[replica];
                if !replica.is_paused() {
                    // Nothing runs out before the replica knows that it is cut off.
                    eventually("it is away", || !replica.view.directory.is_ready()).await;
                }
                self.run_out(&replica.view.replica.to_string());
            }
            Transition::Restore { replica, late } => self.replicas[replica].restore(late).await,
            Transition::Flush => {
                self.redis.command(&["FLUSHALL"]);
                self.is_flushed = true;
            }
            Transition::Wait { duration } => sleep(duration).await,
            Transition::Settle => self.settle().await?,
        }
        self.replicas.iter_mut().try_for_each(Replica::evict)
    }

    /// Compares what the replicas believe with what they have to.
    pub(super) fn check(&self, model: &Model) -> Result<(), String> {
        for (number, holder) in model.holders.iter().enumerate() {
            let node = id(number);
            let has = |replica: &usize| self.replicas[*replica].leases.contains_key(&node);
            let holders: Vec<_> = (0..REPLICAS).filter(has).collect();
            let undisturbed = holders.iter().filter(|replica| {
                let replica = &self.replicas[**replica];
                replica.is_undisturbed(&replica.leases[&node])
            });
            let is_right = match holder {
                Holder::Nobody | Holder::Left => holders.is_empty(),
                Holder::Replica(owner) => holders == [*owner],
                // Whatever has happened to it, it keeps what nobody else wanted.
                Holder::Doubtful(owner) => holders == [*owner],
                Holder::Somebody => holders.len() == 1,
                Holder::Dead => holders.is_empty(),
                Holder::Unknown => undisturbed.count() <= 1,
            };
            if !is_right {
                return Err(format!("{holder:?} has to have {node:?}, {holders:?} do"));
            }
        }
        Ok(())
    }

    async fn crash(&mut self, replica: usize) {
        let next = Replica::start(&self.redis, PREFIX).await;
        let dead = std::mem::replace(&mut self.replicas[replica], next);
        self.dead.push(dead.kill().await);
        if self.is_flushed {
            // The new one does not know that Redis has lost anything, and may be faster than those
            // who are about to make their leases again.
            self.replicas.iter_mut().for_each(Replica::disturb);
        }
    }

    fn run_out(&self, replica: &str) {
        self.redis.command(&["EVAL", RUN_OUT, "0", PREFIX, replica]);
    }

    /// Newcomers on these replicas want the ID at once.
    async fn contend(
        &mut self,
        replicas: &[usize],
        node: &NodeId,
        expected: Expected,
    ) -> Result<(), String> {
        let began = Instant::now();
        let mut winners = Vec::new();
        while winners.is_empty() {
            let world = &*self;
            let takeover_timeout = if replicas.len() > 1 { TAKEOVER_TIMEOUT } else { SETTLED };
            let newcomers = replicas.iter().map(async |replica| {
                let session = world.replicas[*replica].session();
                (*replica, session, world.acquire(*replica, node, takeover_timeout).await)
            });
            for (replica, session, acquired) in join_all(newcomers).await {
                winners.extend(acquired.map(|lease| (replica, session, lease)));
            }
            // On a slow machine a session may break at any time; the newcomer retries.
            if expected != Expected::Won || began.elapsed() > SETTLED {
                break;
            }
        }
        let fits = match expected {
            Expected::Won => winners.len() == 1,
            Expected::Lost => winners.is_empty(),
            Expected::Either => winners.len() <= 1,
        };
        if !fits {
            return Err(format!("{} newcomers got {node:?}: {expected:?}", winners.len()));
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
    async fn acquire(&self, replica: usize, node: &NodeId, timeout: Duration) -> Option<Lease> {
        let view = &self.replicas[replica].view;
        let owner = view.somebody();
        let began = Instant::now();
        let mut acquired = view.directory.acquire(node, owner).await;
        while began.elapsed() < timeout {
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
        if number != asking && !replica.has_contact() {
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

    /// Waits until every lease of a replica with contact has been extended once more.
    async fn extend(&mut self) -> Result<(), String> {
        let mut before = HashMap::new();
        for node in (0..NODES).map(id) {
            let mut replicas = self.replicas.iter();
            let is_held = replicas.any(|replica| {
                let held = replica.leases.get(&node);
                held.is_some_and(|held| replica.is_undisturbed(held))
            });
            if is_held {
                before.insert(node.clone(), self.ttl_ms(&node));
            }
        }
        self.until(|world| {
            before.retain(|node, before| {
                let now = world.ttl_ms(node);
                let is_extended = now > *before;
                *before = now;
                !is_extended
            });
            let left = before.keys().next()?;
            Some(format!("the lease on {left:?} is not extended"))
        })
        .await
    }

    fn ttl_ms(&self, node: &NodeId) -> i64 {
        self.redis.command(&["PTTL", &format!("{PREFIX}:node:{node}")]).parse().unwrap()
    }

    /// Waits until everybody with contact knows what is his, and it is one owner's.
    async fn settle(&mut self) -> Result<(), String> {
        self.until(|world| world.wrong()).await?;
        // Who looks for an ID frees what stands there for nobody. What was released before that
        // is done when this is.
        let connected = self.replicas.iter().filter(|replica| replica.has_contact());
        for view in connected.map(|replica| &replica.view) {
            for node in (0..NODES).map(id) {
                let _ = view.directory.locate(node.as_str()).await;
            }
            view.flush().await;
        }
        self.is_flushed = false;
        for replica in &mut self.replicas {
            let session = replica.session();
            replica.leases.values_mut().for_each(|held| held.good_in = session);
        }
        for key in self.redis.keys("*") {
            if self.redis.command(&["PTTL", &key]) == "-1" {
                return Err(format!("{key} stays for ever"));
            }
        }
        Ok(())
    }

    /// Waits until nothing is wrong.
    async fn until(
        &mut self,
        mut wrong: impl FnMut(&Self) -> Option<String>,
    ) -> Result<(), String> {
        let began = Instant::now();
        loop {
            self.replicas.iter_mut().try_for_each(Replica::evict)?;
            let Some(error) = wrong(self) else { return Ok(()) };
            if began.elapsed() > SETTLED {
                return Err(error);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is not as it should be.
    fn wrong(&self) -> Option<String> {
        let connected = self.replicas.iter().filter(|replica| replica.has_contact());
        let mut owners = HashMap::new();
        for replica in connected {
            if !replica.view.directory.is_ready() {
                return Some("a replica with contact gives out no IDs".into());
            }
            if replica.proxy.connections() != 2 {
                return Some(
                    "an old connection is still there, which may have something late".into(),
                );
            }
            let own = format!("{PREFIX}:replica:{}", replica.view.replica);
            if self.redis.keys(&own).is_empty() {
                return Some("a replica with contact does not show that it is alive".into());
            }
            for (node, held) in &replica.leases {
                let owner = held.lease.owner().to_string();
                let stands = self.redis.command(&["GET", &format!("{PREFIX}:node:{node}")]);
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

    /// Everybody has contact again, all connections end: nothing is left.
    pub(super) async fn end(mut self) -> Result<(), String> {
        for replica in &mut self.replicas {
            replica.resume();
            if replica.link != Link::Good {
                replica.restore(replica.link == Link::Frozen).await;
            }
        }
        self.settle().await?;
        self.replicas.iter_mut().for_each(|replica| replica.leases.clear());
        for dead in std::mem::take(&mut self.dead) {
            self.run_out(&dead);
        }
        self.until(|world| {
            let left = world.redis.keys(&format!("{PREFIX}:node:*"));
            (!left.is_empty()).then(|| format!("{left:?} are left"))
        })
        .await
    }
}

fn id(number: usize) -> NodeId {
    node(&format!("node-{number}"))
}
