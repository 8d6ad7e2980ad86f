//! The connection to Redis: one queue of commands, one channel to listen on, and a supervisor
//! that keeps both alive.
//!
//! Commands of the whole process go through one queue, so what is sent first is done first; what
//! waits goes out in one pipeline. Nothing here is ever tried again: whoever sent a command is
//! told whether it was done ([`Value`]), certainly not ([`RedisFailure::Away`],
//! [`RedisFailure::Refused`]), or perhaps ([`RedisFailure::Unanswered`]).
//!
//! Redis being away is a state ([`RedisState`]), not an error path. A supervisor connects anew,
//! for as long as it takes, with timeouts of its own: the library's connections would wait for a
//! dead peer, stay on a primary that was demoted, and not notice a channel that has gone deaf.
//!
//! - `settings`: where Redis is.
//! - `session`: one connection for commands and one for the channel, opened together.
//! - `supervisor`: opens sessions, serves the queue on them, notices when they end.

mod session;
mod settings;
mod supervisor;

pub use settings::{InvalidRedisSettings, RedisMode, RedisSettings, SentinelSettings};

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::Metrics;
use supervisor::Supervisor;

/// How long a command may take, from its pipeline's start to its answer; also how long opening
/// one connection may take.
pub const COMMAND_TIMEOUT: Duration = Duration::from_millis(900);

/// The longest pause between two attempts to connect.
pub const MAX_BACKOFF: Duration = Duration::from_millis(500);

/// The most commands that may wait to be sent.
const MAX_WAITING: usize = 65_536;

/// The most messages from the channel that may wait to be taken. Beyond them the connection is
/// read no further, and Redis ends it when its own limit is reached.
const MAX_FRAMES: usize = 1024;

/// A cheap handle on the connection; the last one that is dropped ends it.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    prefix: String,
    publish: &'static str,
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<RedisState>,
    metrics: Metrics,
    _supervisor: AbortOnDropHandle<()>,
}

/// Whether Redis can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisState {
    /// It cannot.
    Away,
    /// It can, in the session of this number. Sessions are counted from 1: a new number says
    /// that commands and messages may have been lost in between.
    Connected(u64),
}

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisFailure {
    /// It was not sent: Redis is away, or too much waits for it.
    #[error("Redis is away")]
    Away,
    /// It was sent, and nobody knows whether it was done.
    #[error("Redis gave no answer")]
    Unanswered,
    /// It was not done; the error's code in Redis's words.
    #[error("Redis refused a command: {0}")]
    Refused(String),
}

/// A command on its way to the supervisor.
struct Request {
    /// The session that it is meant for: one that comes too late is not sent in the next.
    session: u64,
    command: Cmd,
    answer: Option<oneshot::Sender<Result<Value, RedisFailure>>>,
}

/// A message that came on the channel.
pub type Frame = Vec<u8>;

impl Redis {
    /// Starts to connect, and listens on the channel `name`, perhaps as one of several. What comes
    /// there is received from the second value. Metrics call what it is for `usage`.
    pub fn start(
        settings: RedisSettings,
        usage: &'static str,
        name: &str,
        metrics: Metrics,
    ) -> (Self, mpsc::Receiver<Frame>) {
        let (requests, waiting) = mpsc::channel(MAX_WAITING);
        let (frames, received) = mpsc::channel(MAX_FRAMES);
        let (state_sender, state) = watch::channel(RedisState::Away);
        let prefix = settings.key_prefix().to_owned();
        let publish = settings.publish_command();
        let channel = channel(&prefix, name);
        metrics.redis_connected(usage, false);
        let supervisor = Supervisor::new(
            settings,
            usage,
            channel,
            waiting,
            frames,
            state_sender,
            metrics.clone(),
        );
        let supervisor = AbortOnDropHandle::new(tokio::spawn(supervisor.run()));
        let inner = Inner { prefix, publish, requests, state, metrics, _supervisor: supervisor };
        (Self(Arc::new(inner)), received)
    }

    /// The key of a thing of this kind: the prefix, `kind` and `name`, with colons between them.
    pub fn key(&self, kind: &str, name: &str) -> String {
        format!("{}:{kind}:{name}", self.0.prefix)
    }

    /// The state, and a way to wait until it changes.
    pub fn state(&self) -> watch::Receiver<RedisState> {
        self.0.state.clone()
    }

    /// Whether Redis can be asked now.
    pub fn is_connected(&self) -> bool {
        *self.0.state.borrow() != RedisState::Away
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// See [`RedisFailure`].
    pub async fn run(&self, command: Cmd) -> Result<Value, RedisFailure> {
        self.enqueue(command)?.await.unwrap_or(Err(RedisFailure::Unanswered))
    }

    /// Puts a command into the queue at once; its answer comes by the channel that is returned.
    ///
    /// # Errors
    /// [`RedisFailure::Away`] if it cannot be sent.
    pub fn enqueue(
        &self,
        command: Cmd,
    ) -> Result<oneshot::Receiver<Result<Value, RedisFailure>>, RedisFailure> {
        let (answer, answered) = oneshot::channel();
        self.send(command, Some(answer))?;
        Ok(answered)
    }

    /// Sends a message to everybody who listens on the channel `name`, and tells how many they
    /// are.
    ///
    /// # Errors
    /// See [`RedisFailure`].
    pub async fn publish(&self, name: &str, message: Frame) -> Result<u64, RedisFailure> {
        let mut command = redis::cmd(self.0.publish);
        command.arg(channel(&self.0.prefix, name)).arg(message);
        match self.run(command).await? {
            Value::Int(receivers) => Ok(receivers.unsigned_abs()),
            _ => Err(RedisFailure::Refused("an answer of another type".into())),
        }
    }

    /// What a script needs to send a message as [`Redis::publish`] does: the command, and the name
    /// that the channel has in Redis.
    pub fn publication(&self, name: &str) -> (&'static str, String) {
        (self.0.publish, channel(&self.0.prefix, name))
    }

    fn send(
        &self,
        command: Cmd,
        answer: Option<oneshot::Sender<Result<Value, RedisFailure>>>,
    ) -> Result<(), RedisFailure> {
        let RedisState::Connected(session) = *self.0.state.borrow() else {
            return Err(RedisFailure::Away);
        };
        self.0.requests.try_send(Request { session, command, answer }).map_err(|_| {
            self.0.metrics.redis_commands("queue_full", 1);
            RedisFailure::Away
        })
    }
}

fn channel(prefix: &str, name: &str) -> String {
    format!("{prefix}:channel:{name}")
}
