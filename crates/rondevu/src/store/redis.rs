//! Sessions in Redis, shared by all replicas.
//!
//! Each operation is one script, so it is atomic; a change is published to all replicas in the same
//! step. Whether a session has expired is decided by the time that is an argument; Redis itself
//! expires every key [`SLACK`] later, whether or not a replica is there to clean up.
//!
//! The keys, behind a prefix whose hash tag puts them into one slot of a cluster:
//!
//! - `session:<code>`: a hash with a whole session, each candidate in a field.
//! - `ends`, `places`, `sizes`, `totals`: of all sessions, when each expires, the place where it is
//!   listed, its bytes, and the sums. A place is an origin and a topic.
//! - `origin:<origin>`: the sessions of an origin, by when they expire.
//! - `topics:<origin>`, `listed:<place>`, `ends:<place>`: the topics that have sessions without an
//!   answer, and these sessions, in their order and by when they expire.
//!
//! `listener` receives the changes of other replicas; `rows` parses what scripts return.

mod listener;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use redis_session::{Redis, RedisFailure, RedisMetrics, RedisSettings, RedisState, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    Change, MAX_CANDIDATES, MAX_LISTED_BYTES, MAX_LISTED_SESSIONS, MAX_SESSION_BYTES,
    Notifications, StoreError, StoreLimits,
};
use crate::model::{
    Answer, Code, JsonText, NewSession, Origin, Page, SecretHash, Session, Side,
    TEXT_OVERHEAD_BYTES, Timestamp, Topic, Topics,
};
use listener::Message;

/// The part of keys and channel that is discovery's; in braces, so that a cluster puts all of them
/// into one slot.
const NAME: &str = "{discovery}";

/// How much longer than a session its keys live: replicas decide by their own clocks, which differ a
/// little.
const SLACK: Duration = Duration::from_secs(60);

/// How long the start waits for Redis before it continues without.
const START_TIMEOUT: Duration = Duration::from_secs(2);

/// The most sessions that are removed by one script, which blocks Redis.
const CLEAN_UP_BATCH: usize = 256;

/// The most permits for scripts that are running or queued. Commands that share a pipeline share its
/// timeout, so their replies must be bounded together.
const MAX_IN_FLIGHT: usize = 64;

/// The permits that a list takes.
const LIST_PERMITS: u32 = 16;

macro_rules! script {
    ($name:literal) => {
        concat!(include_str!("redis/common.lua"), include_str!(concat!("redis/", $name, ".lua")))
    };
}

const CREATE: &str = script!("create");
const ADD_ANSWER: &str = script!("add_answer");
const ADD_CANDIDATE: &str = script!("add_candidate");
const CLEAN_UP: &str = script!("clean_up");
const GET: &str = script!("get");
const SESSIONS: &str = script!("sessions");
const TOPICS: &str = script!("topics");

/// Returns the commands that scripts need, on `key`, which is gone afterwards.
fn required_commands(key: &str) -> Vec<Cmd> {
    let command = |text: &str| {
        let mut words = text.split(' ');
        let mut command = redis::cmd(words.next().unwrap_or_default());
        command.arg(key).arg(words.collect::<Vec<_>>());
        command
    };
    let mut script = redis::cmd("EVAL");
    script.arg("return redis.call('EXISTS', KEYS[1])").arg(1).arg(key);
    let hash = ["HSET a b", "HINCRBY c 1", "HGET a", "HMGET a c", "HGETALL", "HSTRLEN a"];
    let set = ["ZADD 1 a", "ZCOUNT 0 1", "ZRANGE 0 1", "ZREVRANGE 0 1", "ZRANGEBYSCORE 0 1"];
    let expiry = ["EXISTS", "PEXPIRE 1000", "PTTL"];
    let hash = hash.iter().chain(&expiry).chain(&["HDEL a", "DEL"]);
    let set = set.iter().chain(&["PEXPIRE 1000", "ZREM a", "DEL"]);
    hash.chain(set).map(|text| command(text)).chain([script]).collect()
}

/// The sessions that all replicas share; a cheap handle.
#[derive(Clone)]
pub(super) struct RedisStore {
    scripts: Scripts,
    _listener: Arc<AbortOnDropHandle<()>>,
}

/// Runs the scripts.
#[derive(Clone)]
struct Scripts(Arc<Inner>);

struct Inner {
    redis: Redis,
    keys: String,
    channel: String,
    publish: &'static str,
    /// Distinguishes this replica's messages from others'.
    replica: u64,
    limits: StoreLimits,
    notifications: Notifications,
    permits: Arc<Semaphore>,
    /// The changes in flight; each has a permit, and ends with its command.
    changes: TaskTracker,
}

impl RedisStore {
    /// Connects to Redis, or continues to try in the background after [`START_TIMEOUT`].
    pub(super) async fn open(
        settings: RedisSettings,
        limits: StoreLimits,
        notifications: Notifications,
        metrics: RedisMetrics,
    ) -> Self {
        let (redis, messages) =
            Redis::start(settings, "discovery", NAME, required_commands, metrics);
        let (publish, channel) = redis.publication(NAME);
        let mut state = redis.state();
        let connected = state.wait_for(|state| *state != RedisState::Unavailable);
        if tokio::time::timeout(START_TIMEOUT, connected).await.is_err() {
            tracing::warn!("Redis is unavailable, and with it the sessions of discovery");
        }
        let scripts = Scripts(Arc::new(Inner {
            keys: redis.key(NAME, ""),
            redis,
            channel,
            publish,
            replica: rand::random(),
            limits,
            notifications: notifications.clone(),
            permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            changes: TaskTracker::new(),
        }));
        let listening = listener::listen(scripts.clone(), messages, state, notifications);
        let listener = AbortOnDropHandle::new(tokio::spawn(listening));
        Self { scripts, _listener: Arc::new(listener) }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.scripts.0.redis.is_connected()
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.scripts.0.redis.refusal()
    }

    pub(super) async fn create(&self, session: &NewSession) -> Result<(), StoreError> {
        let NewSession { code, origin, topic, info, offer, secret, created_at, expires_at } =
            session;
        let limits = &self.scripts.0.limits;
        let lifetime = expires_at.since(*created_at) + SLACK;
        let message = Message::created(self.scripts.0.replica, *code, origin, topic);
        let mut change = self.scripts.change(CREATE, &message, *code);
        change.arg(place(origin, topic)).arg(info.as_json()).arg(offer.as_json());
        change.arg(session.bytes()).arg(created_at.0).arg(expires_at.0);
        change.arg(lifetime.as_millis() as u64).arg(limits.max_sessions);
        change.arg(limits.max_sessions_per_origin).arg(limits.max_bytes).arg(CLEAN_UP_BATCH);
        change.arg(hash_bytes(secret.as_ref()));
        self.scripts.commit(change, Change::Created(session.clone())).await
    }

    pub(super) async fn add_answer(
        &self,
        code: Code,
        origin: &Origin,
        answer: Answer,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut change = self.scripts.addition(ADD_ANSWER, code, origin, &answer.text, now);
        change.arg(hash_bytes(answer.secret.as_ref()));
        self.scripts.commit(change, Change::Updated(code)).await
    }

    pub(super) async fn add_candidate(
        &self,
        code: Code,
        origin: &Origin,
        side: Side,
        candidate: JsonText,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut change = self.scripts.addition(ADD_CANDIDATE, code, origin, &candidate, now);
        change.arg(side.name()).arg(MAX_CANDIDATES);
        self.scripts.commit(change, Change::Updated(code)).await
    }

    /// Waits until all changes in flight have ended.
    pub(super) async fn close(&self) {
        self.scripts.0.changes.close();
        self.scripts.0.changes.wait().await;
    }

    /// Removes expired sessions in steps, so that other scripts run between them.
    pub(super) async fn clean_up(&self, now: Timestamp) -> Result<usize, StoreError> {
        loop {
            let mut command = self.scripts.script(CLEAN_UP);
            command.arg(now.0).arg(CLEAN_UP_BATCH);
            let (removed, remaining) = rows::cleaned_up(self.scripts.run(command, 1).await?)?;
            if removed < CLEAN_UP_BATCH {
                return Ok(remaining);
            }
        }
    }

    pub(super) async fn topics(
        &self,
        origin: &Origin,
        page: Page,
        now: Timestamp,
    ) -> Result<Topics, StoreError> {
        let mut command = self.scripts.script(TOPICS);
        command.arg(owner(origin)).arg(now.0).arg(page.offset()).arg(page.limit);
        rows::topics(self.scripts.run(command, LIST_PERMITS).await?)
    }

    pub(super) async fn sessions(
        &self,
        origin: &Origin,
        topic: &Topic,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError> {
        let mut command = self.scripts.script(SESSIONS);
        command.arg(place(origin, topic)).arg(now.0);
        command.arg(MAX_LISTED_SESSIONS).arg(MAX_LISTED_BYTES);
        rows::sessions(self.scripts.run(command, LIST_PERMITS).await?)
    }

    pub(super) async fn get(
        &self,
        code: Code,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Session, StoreError> {
        self.scripts.get(code, origin, now).await
    }
}

impl Scripts {
    async fn get(
        &self,
        code: Code,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Session, StoreError> {
        let mut command = self.script(GET);
        command.arg(code.to_string()).arg(owner(origin)).arg(now.0);
        match self.run(command, 1).await? {
            Value::Array(fields) if fields.is_empty() => Err(StoreError::NotFound),
            fields => rows::session(code, fields),
        }
    }

    fn script(&self, script: &str) -> Cmd {
        // With the whole text, so that Redis need not have it cached.
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(2).arg(&self.0.keys).arg(&self.0.channel);
        command
    }

    /// Builds a script that changes a session and publishes that to all replicas.
    fn change(&self, script: &str, message: &Message<'_>, code: Code) -> Cmd {
        let mut command = self.script(script);
        command.arg(self.0.publish).arg(message.encode()).arg(code.to_string());
        command
    }

    /// Builds a change that adds a text to a session.
    fn addition(
        &self,
        script: &str,
        code: Code,
        origin: &Origin,
        text: &JsonText,
        now: Timestamp,
    ) -> Cmd {
        let mut command = self.change(script, &Message::changed(self.0.replica, code), code);
        command.arg(owner(origin)).arg(now.0).arg(text.as_json());
        command.arg(TEXT_OVERHEAD_BYTES).arg(MAX_SESSION_BYTES).arg(self.0.limits.max_bytes);
        command
    }

    /// Makes a change and notifies of it, even if the caller is dropped meanwhile: a command in
    /// flight cannot be taken back.
    async fn commit(&self, command: Cmd, change: Change) -> Result<(), StoreError> {
        let permit = self.permits(1).await?;
        let scripts = self.clone();
        let task = self.0.changes.spawn(async move {
            let _permit = permit;
            rows::done(&scripts.send(command).await?)?;
            scripts.0.notifications.notify(change);
            Ok(())
        });
        task.await.unwrap_or(Err(StoreError::Corrupt))
    }

    async fn run(&self, command: Cmd, permits: u32) -> Result<Value, StoreError> {
        let _permits = self.permits(permits).await?;
        self.send(command).await
    }

    async fn permits(&self, permits: u32) -> Result<OwnedSemaphorePermit, StoreError> {
        let free = self.0.permits.clone();
        free.acquire_many_owned(permits).await.map_err(|_| StoreError::Unavailable)
    }

    /// Sends a command, for which the caller has a permit.
    async fn send(&self, command: Cmd) -> Result<Value, StoreError> {
        self.0.redis.run(command).await.map_err(|failure| match failure {
            RedisFailure::Refused(code) if code == "WRONGTYPE" => {
                tracing::error!(code, "Redis rejected a script of discovery");
                StoreError::Corrupt
            }
            // Its memory is full, it is loading, it was demoted, and so on.
            _ => StoreError::Unavailable,
        })
    }
}

/// Returns an origin as the scripts write it, with its length, which says where it ends.
fn owner(origin: &Origin) -> String {
    let origin = origin.as_str();
    format!("{}:{origin}", origin.len())
}

/// Returns the hash of a secret as the scripts write it; nothing if there is none.
fn hash_bytes(secret: Option<&SecretHash>) -> &[u8] {
    secret.map_or(&[], SecretHash::as_bytes)
}

/// Returns the place where sessions are listed.
fn place(origin: &Origin, topic: &Topic) -> String {
    format!("{}:{}", owner(origin), topic.as_str())
}

#[cfg(test)]
pub(super) mod tests;
