//! A connection to Redis that is kept alive: one queue of commands, one channel to subscribe to,
//! and a supervisor that reconnects both.
//!
//! All commands go through one queue, so they are executed in the order in which they were sent;
//! queued commands are sent in pipelines of bounded length. Only questions ([`Redis::ask`]) have a
//! queue of their own, behind the other. Nothing is retried here. The sender of a command
//! learns whether it was executed ([`Value`]), was not
//! ([`RedisFailure::Unavailable`], [`RedisFailure::Refused`]), or may have been
//! ([`RedisFailure::Unanswered`]).
//!
//! That Redis is unavailable is a state ([`RedisState`]), not an error path. The supervisor
//! reconnects for as long as it takes, with timeouts of its own: the connections of the `redis`
//! crate would wait for a dead server, stay on a demoted primary, and not notice that they receive
//! nothing any more.
//!
//! - `settings`: where Redis is.
//! - `refusal`: what Redis refuses to do.
//! - `session`: one connection for commands and one for the channel, opened together.
//! - `supervisor`: opens sessions, serves the queue on them, notices when they end.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod metrics;
mod refusal;
mod session;
mod settings;
mod supervisor;

pub use metrics::RedisMetrics;
pub use refusal::Refusal;
pub use settings::{
    Certificates, InvalidRedisSettings, RedisMode, RedisSettings, SentinelSettings,
};

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use supervisor::{Ends, Supervisor};

/// The timeout of a command, from the start of its pipeline to the reply; also that of opening one
/// connection.
pub const COMMAND_TIMEOUT: Duration = Duration::from_millis(900);

/// The longest pause between two attempts to connect.
pub const MAX_BACKOFF: Duration = Duration::from_millis(500);

/// The most commands in the queue.
const MAX_QUEUED: usize = 65_536;

/// The most queries in the queue; further callers wait.
const MAX_QUEUED_QUESTIONS: usize = 1024;

/// The most messages of the channel that are queued. Beyond them the connection is not read, and
/// Redis closes it when its own limit is reached.
const MAX_QUEUED_MESSAGES: usize = 1024;

/// A cheap handle on the connection, which is closed when the last handle is dropped.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    prefix: String,
    publish: &'static str,
    requests: mpsc::Sender<Request>,
    questions: mpsc::Sender<Request>,
    state: watch::Receiver<RedisState>,
    refusal: watch::Receiver<Option<Refusal>>,
    metrics: RedisMetrics,
    _supervisor: AbortOnDropHandle<()>,
}

/// Whether commands can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisState {
    /// Redis is not connected.
    Unavailable,
    /// Redis is connected, in the session of this number. Sessions are counted from 1: a new number
    /// says that commands and messages may have been lost in between.
    Connected(u64),
}

/// Why a command has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisFailure {
    /// The command was not sent: Redis is not connected, or the queue is full.
    #[error("Redis is unavailable")]
    Unavailable,
    /// The command was sent, and may or may not have been executed.
    #[error("Redis did not reply")]
    Unanswered,
    /// The command was not executed; holds Redis's error code.
    #[error("Redis refused a command: {0}")]
    Refused(String),
}

/// A command on its way to the supervisor.
struct Request {
    /// The session it is meant for: a command that comes too late is not sent in the next one.
    session: u64,
    command: Cmd,
    answer: Option<oneshot::Sender<Result<Value, RedisFailure>>>,
}

/// A message received on the channel.
pub type Message = Vec<u8>;

impl Redis {
    /// Starts to connect and to subscribe to the channel `name`, whose messages are received from
    /// the second value. Other sessions may subscribe to the same channel. Metrics have `usage` as
    /// a label.
    ///
    /// `required` returns the commands that have to work, on the key that it is given, and leave
    /// nothing there. They are executed when a session begins: one that lacks a permission is not
    /// used. While a command is refused ([`Redis::refusal`]), they are tried once a second.
    pub fn start(
        settings: RedisSettings,
        usage: &'static str,
        name: &str,
        required: impl FnOnce(&str) -> Vec<Cmd>,
        metrics: RedisMetrics,
    ) -> (Self, mpsc::Receiver<Message>) {
        let (requests, queue) = mpsc::channel(MAX_QUEUED);
        let (questions, queued_questions) = mpsc::channel(MAX_QUEUED_QUESTIONS);
        let (messages, received) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let (state_sender, state) = watch::channel(RedisState::Unavailable);
        let (refusal_sender, refusal) = watch::channel(None);
        let prefix = settings.key_prefix().to_owned();
        let publish = settings.publish_command();
        let channel = channel(&prefix, name);
        let mut required = required(&format!("{prefix}:check:{name}"));
        let mut publication = redis::cmd(publish);
        publication.arg(self::channel(&prefix, "check")).arg("");
        required.push(publication);
        metrics.connected(usage, false);
        let ends = Ends {
            requests: queue,
            questions: queued_questions,
            messages,
            state: state_sender,
            refusal: refusal_sender,
        };
        let supervisor = Supervisor::new(settings, usage, channel, required, ends, metrics.clone());
        let supervisor = AbortOnDropHandle::new(tokio::spawn(supervisor.run()));
        let inner = Inner {
            prefix,
            publish,
            requests,
            questions,
            state,
            refusal,
            metrics,
            _supervisor: supervisor,
        };
        (Self(Arc::new(inner)), received)
    }

    /// The key `<prefix>:<kind>:<name>`.
    pub fn key(&self, kind: &str, name: &str) -> String {
        format!("{}:{kind}:{name}", self.0.prefix)
    }

    /// A receiver of the state, to look at it and to wait until it changes.
    pub fn state(&self) -> watch::Receiver<RedisState> {
        self.0.state.clone()
    }

    /// Whether commands can be sent now.
    pub fn is_connected(&self) -> bool {
        *self.0.state.borrow() != RedisState::Unavailable
    }

    /// Returns a command that Redis refuses at present, to this user or to everybody.
    pub fn refusal(&self) -> Option<Refusal> {
        self.0.refusal.borrow().clone()
    }

    /// Sends a command and waits for the reply.
    ///
    /// # Errors
    /// See [`RedisFailure`].
    pub async fn run(&self, command: Cmd) -> Result<Value, RedisFailure> {
        self.enqueue(command)?.await.unwrap_or(Err(RedisFailure::Unanswered))
    }

    /// Sends a command that only reads, for callers that can wait, and waits for the reply. Commands of
    /// [`Redis::run`] and [`Redis::enqueue`] overtake it, and few keys are asked about at a time.
    ///
    /// # Errors
    /// See [`RedisFailure`].
    pub async fn ask(&self, command: Cmd) -> Result<Value, RedisFailure> {
        let RedisState::Connected(session) = *self.0.state.borrow() else {
            return Err(RedisFailure::Unavailable);
        };
        let (answer, answered) = oneshot::channel();
        let question = Request { session, command, answer: Some(answer) };
        self.0.questions.send(question).await.map_err(|_| RedisFailure::Unavailable)?;
        answered.await.unwrap_or(Err(RedisFailure::Unanswered))
    }

    /// Queues a command immediately, and returns the receiver of its reply.
    ///
    /// # Errors
    /// [`RedisFailure::Unavailable`] if it cannot be queued.
    pub fn enqueue(
        &self,
        command: Cmd,
    ) -> Result<oneshot::Receiver<Result<Value, RedisFailure>>, RedisFailure> {
        let (answer, answered) = oneshot::channel();
        self.send(command, Some(answer))?;
        Ok(answered)
    }

    /// Publishes a message on the channel `name`, and returns the number of its receivers.
    ///
    /// # Errors
    /// See [`RedisFailure`].
    pub async fn publish(&self, name: &str, message: Message) -> Result<u64, RedisFailure> {
        let mut command = redis::cmd(self.0.publish);
        command.arg(channel(&self.0.prefix, name)).arg(message);
        match self.run(command).await? {
            Value::Int(receivers) => Ok(receivers.unsigned_abs()),
            _ => Err(RedisFailure::Refused("a reply of another type".into())),
        }
    }

    /// What a script needs to publish a message as [`Redis::publish`] does: the command, and the
    /// channel's full name.
    pub fn publication(&self, name: &str) -> (&'static str, String) {
        (self.0.publish, channel(&self.0.prefix, name))
    }

    /// Waits until all commands sent before have been executed, if Redis is available.
    pub async fn flush(&self) {
        drop(self.run(redis::cmd("PING")).await);
    }

    fn send(
        &self,
        command: Cmd,
        answer: Option<oneshot::Sender<Result<Value, RedisFailure>>>,
    ) -> Result<(), RedisFailure> {
        let RedisState::Connected(session) = *self.0.state.borrow() else {
            return Err(RedisFailure::Unavailable);
        };
        self.0.requests.try_send(Request { session, command, answer }).map_err(|_| {
            self.0.metrics.commands("queue_full", 1);
            RedisFailure::Unavailable
        })
    }
}

fn channel(prefix: &str, name: &str) -> String {
    format!("{prefix}:channel:{name}")
}
