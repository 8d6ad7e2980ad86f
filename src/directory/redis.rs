//! The directory of many replicas, in Redis.
//!
//! A node's key names its owner, `replica:connection`, and lives `REDIS_LOCK_TTL_MS` from its last
//! extension. Each replica has a key of its own that lives a few seconds: without it the replica is
//! gone, and its IDs are free at once. An ID is acquired by setting its key if there is none;
//! scripts that extend, release or take over a key compare the owner first, in Redis ([`EXTEND`],
//! [`RELEASE`], [`TAKE_OVER`]).
//!
//! Redis may lose data, and replies may be lost. So a missing key is set again, a lease that
//! another owner has is given up ([`LostLease`]), and a key that names this replica but is not
//! claimed here is free.
//!
//! - `claims`: what this replica owns or is about to own.
//! - `locations`: where the nodes of other replicas are.
//! - `replicas`: which other replicas are alive; `members`: which there are.
//! - `maintenance`: extends leases, restores them after an outage, gives up lost ones.
//! - `permissions`: the commands that Redis has to permit.

mod claims;
mod locations;
mod maintenance;
mod members;
mod permissions;
mod replicas;

pub(crate) use maintenance::Maintenance;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use redis::{Cmd, Value};
use redis_session::{Redis, RedisFailure};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::{AcquireError, Unavailable};
use crate::metrics::Metrics;
use crate::node::{ConnectionId, NodeId, Owner, ReplicaId};
use claims::Claims;
use replicas::Replicas;

const EXTEND: &str = include_str!("redis/extend.lua");
const RELEASE: &str = include_str!("redis/release.lua");
const TAKE_OVER: &str = include_str!("redis/take_over.lua");

/// The longest that a replica's own key lives without being extended.
const MAX_REPLICA_TTL: Duration = Duration::from_secs(10);

/// How often an ID may change hands while it is being acquired.
const MAX_ROUNDS: usize = 4;

/// The most locations that are remembered.
const MAX_LOCATIONS: u64 = 100_000;

/// The most releases that are stored while Redis is unavailable. The keys of further ones expire.
const MAX_UNRELEASED: usize = 100_000;

/// The most lost leases that may be queued.
const MAX_LOST: usize = 65_536;

/// What an operator decides about leases.
#[derive(Debug, Clone, Copy)]
pub struct LeaseSettings {
    /// How long a lease lives without being extended (`REDIS_LOCK_TTL_MS`).
    pub ttl: Duration,
    /// How long nodes stay connected after their lease must have expired (`REDIS_OUTAGE_GRACE_MS`).
    pub outage_grace: Duration,
}

/// A lease that was lost: its connection does not own the ID any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LostLease {
    pub(crate) node: NodeId,
    pub(crate) connection: ConnectionId,
}

/// The owners of all IDs; a cheap handle.
#[derive(Clone)]
pub(crate) struct RedisDirectory(Arc<Shared>);

struct Shared {
    redis: Redis,
    replica: ReplicaId,
    settings: LeaseSettings,
    claims: Claims,
    replicas: Replicas,
    locations: Cache<Box<str>, Owner>,
    /// Whether IDs may be given out. Not while Redis is unavailable, nor until the leases have been
    /// asserted after it was.
    is_ready: AtomicBool,
    is_closed: AtomicBool,
    /// When the command was sent by which Redis last confirmed the replica's own key.
    shown_alive: Mutex<Option<Instant>>,
    releases: mpsc::Sender<Release>,
    unreleased: Mutex<Vec<(NodeId, Owner)>>,
    lost: mpsc::Sender<LostLease>,
    metrics: Metrics,
}

type Answered = oneshot::Receiver<Result<Value, RedisFailure>>;

/// A release that was sent to Redis.
struct Release {
    node: NodeId,
    owner: Owner,
    answered: Result<Answered, RedisFailure>,
}

impl RedisDirectory {
    /// The directory as `replica` sees it; what has to be run to keep it; what was lost.
    pub(super) fn new(
        redis: Redis,
        replica: ReplicaId,
        settings: LeaseSettings,
        metrics: Metrics,
    ) -> (Self, Maintenance, mpsc::Receiver<LostLease>) {
        let (releases, released) = mpsc::channel(MAX_UNRELEASED);
        let (lost, losses) = mpsc::channel(MAX_LOST);
        let shared = Arc::new(Shared {
            redis,
            replica,
            settings,
            claims: Claims::new(),
            replicas: Replicas::new(),
            locations: Cache::builder()
                .max_capacity(MAX_LOCATIONS)
                .time_to_live(settings.ttl)
                .build(),
            is_ready: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            shown_alive: Mutex::default(),
            releases,
            unreleased: Mutex::default(),
            lost,
            metrics,
        });
        (Self(shared.clone()), Maintenance::new(Self(shared), released), losses)
    }

    /// Whether IDs are given out. Not without all permissions: what cannot be extended is soon
    /// taken by others.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.is_ready.load(Ordering::Acquire) && !self.lacks_permission()
    }

    /// Enters a claim; `false` if it exists already. [`RedisDirectory::release`] must follow a new
    /// one in any case.
    pub(super) fn begin(&self, node: &NodeId, owner: Owner) -> bool {
        self.0.claims.begin(node, owner.connection)
    }

    /// Acquires the ID for a claim that was begun.
    pub(super) async fn acquire(&self, node: &NodeId, owner: Owner) -> Result<(), AcquireError> {
        if !self.is_ready() {
            self.0.claims.end(node, owner.connection, || ());
            return Err(AcquireError::Unavailable);
        }
        self.check_memory(self.ask_for_own_key()).await?;
        let sent = Instant::now();
        let key = self.key(node.as_str());
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(owner.to_string()).arg("NX").arg("PX").arg(self.ttl_ms());
        let mut get = redis::cmd("GET");
        get.arg(&key);
        // Both at once: a taken ID costs no further round trip.
        let (set, get) = (self.0.redis.enqueue(set), self.0.redis.enqueue(get));
        let own = self.ask_for_own_key();
        match self.answer(set).await? {
            Value::Okay => {
                self.check_memory(own).await?;
                self.confirm(node, owner, sent);
                Ok(())
            }
            _ => {
                let holder = match self.answer(get).await {
                    // The key holds something that is not a lease.
                    Err(RedisFailure::Refused(_)) => Value::BulkString(Vec::new()),
                    holder => holder?,
                };
                self.contend(node, owner, holder).await
            }
        }
    }

    /// Acquires the ID, for a claim that was begun, from a holder that is known to be gone.
    pub(super) async fn take_over(
        &self,
        node: &NodeId,
        holder: Owner,
        owner: Owner,
    ) -> Result<(), AcquireError> {
        let holder = self.try_take_over(node, holder.to_string().as_bytes(), owner).await?;
        match holder {
            None => Ok(()),
            Some(holder) => self.contend(node, owner, holder).await,
        }
    }

    /// Takes the ID over if that is possible; otherwise returns its owner.
    async fn contend(
        &self,
        node: &NodeId,
        owner: Owner,
        mut found: Value,
    ) -> Result<(), AcquireError> {
        for _ in 0..MAX_ROUNDS {
            let text = match &found {
                Value::BulkString(text) => text.clone(),
                // It was released a moment ago.
                _ => Vec::new(),
            };
            if let Some(holder) = parse(&text) {
                if holder == owner {
                    // An answer was lost on the way, and the library has asked again.
                    self.confirm(node, owner, Instant::now());
                    return Ok(());
                }
                if self.is_alive(node, holder).await? {
                    self.0.claims.end(node, owner.connection, || ());
                    return Err(AcquireError::Taken(holder));
                }
            }
            match self.try_take_over(node, &text, owner).await? {
                None => return Ok(()),
                Some(other) => found = other,
            }
        }
        Err(AcquireError::Unavailable)
    }

    /// Whether the holder may still be there: its replica is alive and, if that is this one,
    /// claims the ID.
    async fn is_alive(&self, node: &NodeId, holder: Owner) -> Result<bool, AcquireError> {
        if holder.replica == self.0.replica {
            return Ok(self.0.claims.has(node.as_str(), holder.connection));
        }
        let is_alive = self.0.replicas.ask(&self.0.redis, &[holder.replica]).await? == [true];
        if !is_alive {
            self.check_memory(self.ask_for_own_key()).await?;
        }
        Ok(is_alive)
    }

    fn ask_for_own_key(&self) -> Result<Answered, RedisFailure> {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(replicas::key(&self.0.redis, self.0.replica));
        self.0.redis.enqueue(exists)
    }

    /// Fails if this replica's own key is missing: then Redis has lost what it had, and what seems
    /// to be free may well have an owner.
    async fn check_memory(&self, own: Result<Answered, RedisFailure>) -> Result<(), AcquireError> {
        let is_there = self.answer(own).await? == Value::Int(1);
        if is_there && self.is_ready() { Ok(()) } else { Err(AcquireError::Unavailable) }
    }

    /// Sets the key if its value is still `found`; otherwise returns its value.
    async fn try_take_over(
        &self,
        node: &NodeId,
        found: &[u8],
        owner: Owner,
    ) -> Result<Option<Value>, AcquireError> {
        let sent = Instant::now();
        let mut command = self.script(TAKE_OVER, node.as_str());
        command.arg(found).arg(owner.to_string()).arg(self.ttl_ms());
        let (taken, own) = (self.0.redis.enqueue(command), self.ask_for_own_key());
        match self.answer(taken).await? {
            Value::Int(_) => {
                self.check_memory(own).await?;
                self.0.metrics.lease_events.inc(["taken_over"]);
                self.confirm(node, owner, sent);
                Ok(None)
            }
            other => Ok(Some(other)),
        }
    }

    /// The ID is the new owner's. The node that had it here, and did not know that it was lost, learns
    /// it now.
    fn confirm(&self, node: &NodeId, owner: Owner, sent: Instant) {
        self.0.locations.invalidate(node.as_str());
        self.0.claims.confirm(node, owner.connection, sent);
        for connection in self.0.claims.others(node, owner.connection) {
            self.lose(node.clone(), connection);
        }
    }

    fn lose(&self, node: NodeId, connection: ConnectionId) {
        self.0.metrics.lease_events.inc(["lost"]);
        // A lease that finds the queue full is found lost again at its next extension.
        let _ = self.0.lost.try_send(LostLease { node, connection });
    }

    /// Gives the ID back if this replica claims it for that connection, as soon as Redis can be
    /// asked.
    pub(super) fn release(&self, node: &NodeId, owner: Owner) {
        self.0.claims.end(node, owner.connection, || self.send_release(node.clone(), owner));
    }

    fn send_release(&self, node: NodeId, owner: Owner) {
        let mut command = self.script(RELEASE, node.as_str());
        command.arg(owner.to_string());
        let answered = self.0.redis.enqueue(command);
        let release = Release { node, owner, answered };
        if let Err(TrySendError::Full(release) | TrySendError::Closed(release)) =
            self.0.releases.try_send(release)
        {
            self.remember(release.node, release.owner);
        }
    }

    /// Keeps a release for later.
    fn remember(&self, node: NodeId, owner: Owner) {
        let mut unreleased = self.0.unreleased.lock().unwrap_or_else(PoisonError::into_inner);
        if unreleased.len() < MAX_UNRELEASED {
            unreleased.push((node, owner));
        } else {
            self.0.metrics.lease_events.inc(["release_dropped"]);
        }
    }

    /// Whether this replica owns the ID for that owner, or is about to.
    pub(super) fn is_claimed(&self, node: &NodeId, owner: Owner) -> bool {
        self.0.claims.has(node.as_str(), owner.connection)
    }

    /// Tells the others that this replica is leaving, and waits until all releases are done.
    pub(crate) async fn close(&self) {
        self.0.is_ready.store(false, Ordering::Release);
        self.0.is_closed.store(true, Ordering::Release);
        let mut command = redis::cmd("DEL");
        command.arg(replicas::key(&self.0.redis, self.0.replica));
        let removed = self.0.redis.enqueue(self.removal(self.0.replica));
        drop(self.0.redis.run(command).await);
        drop(self.answer(removed).await);
    }

    fn key(&self, node: &str) -> String {
        self.0.redis.key("node", node)
    }

    fn ttl_ms(&self) -> u64 {
        self.0.settings.ttl.as_millis() as u64
    }

    /// How long this replica's own key lives.
    fn replica_ttl(&self) -> Duration {
        self.0.settings.ttl.min(MAX_REPLICA_TTL)
    }

    /// When the replica's own key was last confirmed.
    fn shown_alive(&self) -> Option<Instant> {
        *self.0.shown_alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script(&self, script: &str, node: &str) -> Cmd {
        // The text each time: it is short, and there is no case to handle where Redis has
        // forgotten it.
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(1).arg(self.key(node));
        command
    }

    async fn answer(
        &self,
        answered: Result<Answered, RedisFailure>,
    ) -> Result<Value, RedisFailure> {
        answered?.await.unwrap_or(Err(RedisFailure::Unanswered))
    }
}

impl From<RedisFailure> for AcquireError {
    fn from(_: RedisFailure) -> Self {
        Self::Unavailable
    }
}

impl From<RedisFailure> for Unavailable {
    fn from(_: RedisFailure) -> Self {
        Self
    }
}

fn parse(text: &[u8]) -> Option<Owner> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
