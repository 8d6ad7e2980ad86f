//! Sessions in Redis, shared by all replicas.
//!
//! Each change and each look is one script, so nothing comes between its parts; a change tells all
//! replicas in the same step. The scripts decide by the time that is handed in when a session is
//! gone; Redis itself lets every key run out [`SLACK`] later, whoever is there to clean up.
//!
//! Keys, behind a prefix whose hash tag puts them into one slot of a cluster:
//!
//! - `session:<code>`: a hash with everything of a session, candidates each in a field.
//! - `ends`, `places`, `sizes`, `totals`: all sessions by their end, where they are listed, the
//!   bytes that they take, and the sums.
//! - `origin:<origin>`: the sessions of an origin by their end.
//! - `topics:<origin>`, `listed:<place>`, `ends:<place>`: the sessions without an answer, in their
//!   order and by their end, and the topics that have some.
//!
//! `listener` hears what others change; `rows` reads what scripts return.

mod listener;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use redis_session::{Redis, RedisFailure, RedisSettings, RedisState};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::super::news::{News, NewsItem};
use super::super::session::{TEXT_OVERHEAD_BYTES, Timestamp};
use super::{
    Code, JsonText, MAX_CANDIDATES, MAX_LISTED_BYTES, MAX_LISTED_SESSIONS, MAX_SESSION_BYTES,
    NewSession, Origin, Page, Session, Side, StoreError, StoreLimits, Topic, Topics,
};
use crate::metrics::Metrics;
use listener::Message;

/// What tells discovery's keys and channel from others; in braces, so that a cluster puts all of
/// them into one slot.
const NAME: &str = "{discovery}";

/// How much longer than a session its keys live: replicas' clocks differ a little, and who looks
/// first decides by its own.
const SLACK: Duration = Duration::from_secs(60);

/// How long the start waits for Redis before it goes on without.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// The most sessions that are cleaned up in one script; others wait for it.
const CLEANED_AT_ONCE: usize = 256;

/// How many scripts may run or wait in Redis's queue. With it, and not only with the list's own
/// limit, what may be on its way at a time is limited: what shares a pipeline has to arrive in
/// time together.
const TURNS: usize = 64;

/// How many of the turns a list takes.
const TURNS_OF_LIST: u32 = 16;

macro_rules! script {
    ($name:literal) => {
        concat!(include_str!("redis/common.lua"), include_str!(concat!("redis/", $name, ".lua")))
    };
}

const CREATE: &str = script!("create");
const ADD_ANSWER: &str = script!("add_answer");
const ADD_CANDIDATE: &str = script!("add_candidate");
const DELETE: &str = script!("delete");
const CLEAN_UP: &str = script!("clean_up");
const GET: &str = script!("get");
const SESSIONS: &str = script!("sessions");
const TOPICS: &str = script!("topics");

/// What all replicas share; a cheap handle.
#[derive(Clone)]
pub(super) struct RedisStore {
    scripts: Scripts,
    _listener: Arc<AbortOnDropHandle<()>>,
}

/// The way to Redis.
#[derive(Clone)]
struct Scripts(Arc<Inner>);

struct Inner {
    redis: Redis,
    keys: String,
    channel: String,
    publish: &'static str,
    /// Tells this replica's news from others'.
    replica: u64,
    limits: StoreLimits,
    news: News,
    turns: Arc<Semaphore>,
    /// Changes that Redis was asked for; each has a turn, and ends with its command.
    changes: TaskTracker,
}

impl RedisStore {
    /// Connects; `news` are told of what this and other replicas change. If Redis is not there
    /// within some time, it may come later.
    pub(super) async fn open(
        settings: RedisSettings,
        limits: StoreLimits,
        news: News,
        metrics: Metrics,
    ) -> Self {
        let (redis, frames) = Redis::start(settings, "discovery", NAME, metrics.redis());
        let (publish, channel) = redis.publication(NAME);
        let mut state = redis.state();
        let connected = state.wait_for(|state| *state != RedisState::Unavailable);
        if tokio::time::timeout(START_PATIENCE, connected).await.is_err() {
            tracing::warn!("Redis is unavailable, and with it the sessions of discovery");
        }
        let scripts = Scripts(Arc::new(Inner {
            keys: redis.key(NAME, ""),
            redis,
            channel,
            publish,
            replica: rand::random(),
            limits,
            news: news.clone(),
            turns: Arc::new(Semaphore::new(TURNS)),
            changes: TaskTracker::new(),
        }));
        let listening = listener::listen(scripts.clone(), frames, state, news);
        let listener = AbortOnDropHandle::new(tokio::spawn(listening));
        Self { scripts, _listener: Arc::new(listener) }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.scripts.0.redis.is_connected()
    }

    pub(super) async fn create(&self, session: &NewSession) -> Result<(), StoreError> {
        let NewSession { code, origin, topic, info, offer, created_at, expires_at } = session;
        let limits = &self.scripts.0.limits;
        let lifetime = expires_at.since(*created_at) + SLACK;
        let message = Message::created(self.scripts.0.replica, *code, origin, topic);
        let mut change = self.scripts.change(CREATE, &message, *code);
        change.arg(place(origin, topic)).arg(info.as_json()).arg(offer.as_json());
        change.arg(session.bytes()).arg(created_at.0).arg(expires_at.0);
        change.arg(lifetime.as_millis() as u64).arg(limits.max_sessions);
        change.arg(limits.max_sessions_per_origin).arg(limits.max_bytes).arg(CLEANED_AT_ONCE);
        self.scripts.make(change, NewsItem::Created(session.clone())).await
    }

    pub(super) async fn add_answer(
        &self,
        code: Code,
        origin: &Origin,
        answer: JsonText,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let change = self.scripts.addition(ADD_ANSWER, code, origin, &answer, now);
        self.scripts.make(change, NewsItem::Changed(code)).await
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
        change.arg(rows::side(side)).arg(MAX_CANDIDATES);
        self.scripts.make(change, NewsItem::Changed(code)).await
    }

    pub(super) async fn delete(&self, code: Code) -> Result<(), StoreError> {
        let message = Message::changed(self.scripts.0.replica, code);
        let change = self.scripts.change(DELETE, &message, code);
        self.scripts.make(change, NewsItem::Gone(vec![code])).await
    }

    /// Waits until Redis has made what it was asked for, or cannot say.
    pub(super) async fn close(&self) {
        self.scripts.0.changes.close();
        self.scripts.0.changes.wait().await;
    }

    /// In steps, so that others get their turn between them.
    pub(super) async fn clean_up(&self, now: Timestamp) -> Result<usize, StoreError> {
        loop {
            let mut command = self.scripts.script(CLEAN_UP);
            command.arg(now.0).arg(CLEANED_AT_ONCE);
            let (gone, left) = rows::cleaned_up(self.scripts.run(command, 1).await?)?;
            if gone < CLEANED_AT_ONCE {
                return Ok(left);
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
        rows::topics(self.scripts.run(command, TURNS_OF_LIST).await?)
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
        rows::sessions(self.scripts.run(command, TURNS_OF_LIST).await?)
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
        // The text each time: there is no case to handle where Redis has forgotten it.
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(2).arg(&self.0.keys).arg(&self.0.channel);
        command
    }

    /// A script that changes a session and tells all replicas.
    fn change(&self, script: &str, message: &Message<'_>, code: Code) -> Cmd {
        let mut command = self.script(script);
        command.arg(self.0.publish).arg(message.encode()).arg(code.to_string());
        command
    }

    /// A change that adds a text to a session.
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

    /// Makes a change and tells of it, whether or not who asks for it stays until then: Redis
    /// cannot be asked to forget it.
    async fn make(&self, change: Cmd, item: NewsItem) -> Result<(), StoreError> {
        let turn = self.turns(1).await?;
        let scripts = self.clone();
        let making = self.0.changes.spawn(async move {
            let _turn = turn;
            rows::done(&scripts.ask(change).await?)?;
            scripts.0.news.tell(item);
            Ok(())
        });
        making.await.unwrap_or(Err(StoreError::Broken))
    }

    async fn run(&self, command: Cmd, turns: u32) -> Result<Value, StoreError> {
        let _turns = self.turns(turns).await?;
        self.ask(command).await
    }

    async fn turns(&self, turns: u32) -> Result<OwnedSemaphorePermit, StoreError> {
        let free = self.0.turns.clone();
        free.acquire_many_owned(turns).await.map_err(|_| StoreError::Unavailable)
    }

    /// Asks Redis; only for who has a turn.
    async fn ask(&self, command: Cmd) -> Result<Value, StoreError> {
        self.0.redis.run(command).await.map_err(|failure| match failure {
            RedisFailure::Refused(code) if code == "WRONGTYPE" => {
                tracing::error!(code, "Redis refused a script of discovery");
                StoreError::Broken
            }
            // Its memory is full, it is loading, it is a replica by now, and so on.
            _ => StoreError::Unavailable,
        })
    }
}

/// An origin as the scripts write it: its length tells where it ends.
fn owner(origin: &Origin) -> String {
    let origin = origin.as_str();
    format!("{}:{origin}", origin.len())
}

/// Where sessions are listed.
fn place(origin: &Origin, topic: &Topic) -> String {
    format!("{}:{}", owner(origin), topic.as_str())
}

#[cfg(test)]
pub(super) mod tests;
