//! One session: a connection for commands and one for the channel, opened together.

use futures_util::StreamExt;
use futures_util::future::join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{
    AsyncConnectionConfig, Client, Cmd, InfoDict, Pipeline, PushInfo, PushKind, RedisError,
    ServerError, Value, from_redis_value,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::metrics::RedisMetrics;
use super::settings::{RedisMode, RedisSettings, no_pushes};
use super::{COMMAND_TIMEOUT, MAX_QUEUED_MESSAGES, Message, RedisFailure};

/// Why a session could not be opened, or ended. The text holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SessionError {
    /// A step took too long.
    #[error("timeout")]
    Timeout,
    /// The connection broke, or could not be opened.
    #[error("{0}")]
    Connection(String),
    /// Redis cannot be used for now: it is loading, read-only, or wants another password.
    #[error("{0}")]
    Refused(String),
    /// Redis is too old.
    #[error("version {0} is too old, it has to be {1}.{2} or newer")]
    TooOld(String, u32, u32),
    /// No message comes back on the channel.
    #[error("subscription lost")]
    SubscriptionLost,
}

impl From<RedisError> for SessionError {
    fn from(error: RedisError) -> Self {
        Self::Connection(error.to_string())
    }
}

/// Both connections.
pub(super) struct Session {
    pub(super) commands: Commands,
    pub(super) messages: Messages,
}

/// The connection for commands.
pub(super) enum Commands {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// The connection that is subscribed to the channel.
pub(super) enum Messages {
    Server(Box<PubSub>),
    Cluster {
        pushes: mpsc::Receiver<PushInfo>,
        /// Held only to keep it open.
        _connection: ClusterConnection,
    },
}

impl Session {
    /// Opens both connections and subscribes to `channel`.
    pub(super) async fn open(
        settings: &RedisSettings,
        channel: &str,
        metrics: &RedisMetrics,
    ) -> Result<Self, SessionError> {
        match settings.mode() {
            RedisMode::Single => Self::open_server(&settings.single()?, settings, channel).await,
            RedisMode::Sentinel => {
                Self::open_server(&find_primary(settings).await?, settings, channel).await
            }
            RedisMode::Cluster => Self::open_cluster(settings, channel, metrics).await,
        }
    }

    async fn open_server(
        client: &Client,
        settings: &RedisSettings,
        channel: &str,
    ) -> Result<Self, SessionError> {
        // The supervisor has its own timeout for what is sent later.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(COMMAND_TIMEOUT))
            .set_response_timeout(None);
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = in_time(connection).await?;
        let info: InfoDict = in_time(redis::cmd("INFO").query_async(&mut connection)).await?;
        check(&info, settings)?;
        let mut messages = in_time(client.get_async_pubsub()).await?;
        in_time(messages.subscribe(channel)).await?;
        Ok(Self {
            commands: Commands::Server(connection),
            messages: Messages::Server(Box::new(messages)),
        })
    }

    async fn open_cluster(
        settings: &RedisSettings,
        channel: &str,
        metrics: &RedisMetrics,
    ) -> Result<Self, SessionError> {
        let client = settings.cluster(no_pushes())?;
        let mut connection = in_time(client.get_async_connection()).await?;
        let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
        let info = in_time(connection.route_command(redis::cmd("INFO"), any)).await?;
        let info = from_redis_value(info).map_err(|error| SessionError::Refused(error.to_string()));
        check(&info?, settings)?;
        let (pushes, messages) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let metrics = metrics.clone();
        let push = move |info| {
            let pushed = pushes.try_send(info);
            if pushed.is_err() {
                metrics.dropped_message();
            }
            pushed
        };
        let client = settings.cluster(Some(push))?;
        let mut subscriber = in_time(client.get_async_connection()).await?;
        in_time(subscriber.ssubscribe(channel)).await?;
        Ok(Self {
            commands: Commands::Cluster(connection),
            messages: Messages::Cluster { pushes: messages, _connection: subscriber },
        })
    }
}

/// Asks one sentinel after the other for the primary.
async fn find_primary(settings: &RedisSettings) -> Result<Client, SessionError> {
    let mut last = SessionError::Timeout;
    for sentinel in settings.sentinels() {
        let mut sentinel = sentinel?.build()?;
        match in_time(sentinel.async_get_client()).await {
            Ok(client) => return Ok(client),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn in_time<T>(step: impl Future<Output = Result<T, RedisError>>) -> Result<T, SessionError> {
    // Boxed, as the library's futures are large.
    match timeout(COMMAND_TIMEOUT, Box::pin(step)).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(SessionError::Timeout),
    }
}

/// Checks that this Redis can be used.
fn check(info: &InfoDict, settings: &RedisSettings) -> Result<(), SessionError> {
    let version: String = info.get("redis_version").unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let has = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = settings.least_version();
    if has < (major, minor) {
        return Err(SessionError::TooOld(version, major, minor));
    }
    // The first command that writes would end such a session, and the next one would be the same.
    if info.get("role").is_some_and(|role: String| role == "slave") {
        return Err(SessionError::Refused("it is a replica, which takes no writes".into()));
    }
    if info.get("loading").is_some_and(|loading: u8| loading != 0) {
        return Err(SessionError::Refused("it is loading its data".into()));
    }
    let policy: String = info.get("maxmemory_policy").unwrap_or_default();
    if policy != "noeviction" {
        tracing::warn!(
            policy,
            "Redis may evict leases when its memory is full: set maxmemory-policy to noeviction"
        );
    }
    Ok(())
}

impl Commands {
    /// Whether this error code says that no command can be executed on this connection for now.
    pub(super) fn is_outage(&self, code: &str) -> bool {
        match self {
            Self::Server(_) => {
                matches!(code, "READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH" | "WRONGPASS")
            }
            // What one server of a cluster says is true of its slots only.
            Self::Cluster(_) => matches!(code, "NOAUTH" | "WRONGPASS"),
        }
    }

    /// Executes a batch in order; returns one reply for each command.
    ///
    /// # Errors
    /// [`SessionError`] if the connection cannot be used any more; each command may or may not have
    /// been executed.
    pub(super) async fn run(&mut self, batch: Vec<Cmd>) -> Result<Replies, SessionError> {
        match self {
            Self::Server(connection) => {
                let mut pipeline = Pipeline::with_capacity(batch.len());
                for command in batch {
                    pipeline.add_command(command);
                }
                let count = pipeline.len();
                let replies = connection.send_packed_commands(&pipeline, 0, count);
                match timeout(COMMAND_TIMEOUT, replies).await {
                    Ok(Ok(replies)) => Ok(replies.into_iter().map(reply).collect()),
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err(SessionError::Timeout),
                }
            }
            // Slots are on many servers, and one that is down must not fail the commands for the
            // others: each command has its own reply. The library executes them concurrently.
            Self::Cluster(connection) => Ok(join_all(batch.into_iter().map(|command| {
                let mut connection = connection.clone();
                async move {
                    match timeout(COMMAND_TIMEOUT, connection.req_packed_command(&command)).await {
                        Ok(Ok(value)) => reply(value),
                        Ok(Err(error)) => Err(match error.code() {
                            Some(code) => RedisFailure::Refused(code.into()),
                            None => RedisFailure::Unanswered,
                        }),
                        Err(_) => Err(RedisFailure::Unanswered),
                    }
                }
            }))
            .await),
        }
    }
}

pub(super) type Replies = Vec<Result<Value, RedisFailure>>;

fn reply(value: Value) -> Result<Value, RedisFailure> {
    match value {
        Value::ServerError(error) => Err(RedisFailure::Refused(code(&error).to_owned())),
        value => Ok(value),
    }
}

/// The code of an error. Versions before 7.0 call each error in a script one of the script, and
/// say behind its place what it was: `ERR Error running script (...): @user_script:1: WRONGTYPE
/// Operation against ...`.
fn code(error: &ServerError) -> &str {
    let of_command = || {
        let (_, place) = error.details()?.rsplit_once("@user_script:")?;
        let (_line, text) = place.split_once(": ")?;
        let word = text.split(' ').next()?.trim_start_matches('-');
        let is_code = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
        is_code.then_some(word)
    };
    match error.code() {
        "ERR" => of_command().unwrap_or("ERR"),
        code => code,
    }
}

impl Messages {
    /// Receives the next message; `None` when the connection has ended.
    pub(super) async fn next(&mut self) -> Option<Message> {
        match self {
            Self::Server(messages) => {
                let message = messages.on_message().next().await?;
                Some(message.get_payload_bytes().to_vec())
            }
            Self::Cluster { pushes, .. } => loop {
                let PushInfo { kind, mut data } = pushes.recv().await?;
                match (kind, data.pop()) {
                    (PushKind::SMessage, Some(Value::BulkString(message))) => return Some(message),
                    // The library reconnects and subscribes again by itself; the supervisor's probe
                    // finds out whether it did.
                    _ => continue,
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SentinelSettings;

    #[test]
    fn an_error_in_a_script_has_the_code_of_the_failed_command() {
        let script = "ERR Error running script (call to f_2e9d): @user_script:";
        for (text, expected) in [
            (format!("{script}1: WRONGTYPE Operation against a key"), "WRONGTYPE"),
            (format!("{script}2: @user_script: 2: -OOM command not allowed"), "OOM"),
            (format!("{script}1: @user_script: 1: -READONLY You can't"), "READONLY"),
            (format!("{script}1: user_script:1: attempt to call a nil value"), "ERR"),
            (format!("{script}1: @user_script: 1: The user can't run this"), "ERR"),
            ("ERR user_script:1: attempt script: f_2e9d, on @user_script:1.".into(), "ERR"),
            ("WRONGTYPE Operation script: f_2e9d, on @user_script:1.".into(), "WRONGTYPE"),
            ("ERR".into(), "ERR"),
        ] {
            let value = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
            assert_eq!(reply(value), Err(RedisFailure::Refused(expected.into())), "{text}");
        }
    }

    #[test]
    fn versions_too_old_for_the_mode_are_rejected() {
        let checked = |mode, version: &str| {
            let sentinel = SentinelSettings { primary: "m".into(), username: None, password: None };
            let url = "redis://127.0.0.1".parse().unwrap();
            let settings = RedisSettings::new(&[url], mode, sentinel, "p".into(), None).unwrap();
            let text = format!("redis_version:{version}\r\nmaxmemory_policy:noeviction\r\n");
            check(&InfoDict::new(&text), &settings)
        };
        let too_old = |version: &str, major, minor| {
            Err(SessionError::TooOld(version.to_owned(), major, minor))
        };
        for mode in [RedisMode::Single, RedisMode::Sentinel] {
            assert_eq!(checked(mode, "6.0.16"), too_old("6.0.16", 6, 2));
            assert_eq!(checked(mode, ""), too_old("", 6, 2));
            assert_eq!(checked(mode, "6.2.14"), Ok(()));
        }
        // It has no sharded channels.
        assert_eq!(checked(RedisMode::Cluster, "6.2.14"), too_old("6.2.14", 7, 0));
        assert_eq!(checked(RedisMode::Cluster, "7.0.0"), Ok(()));
        assert_eq!(checked(RedisMode::Cluster, "8.0.2"), Ok(()));
    }
}
