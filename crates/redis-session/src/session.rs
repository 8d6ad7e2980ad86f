//! One session: a connection for commands and one for the channel, opened together.

use futures_util::StreamExt;
use futures_util::future::join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{
    AsyncConnectionConfig, Client, Cmd, InfoDict, Pipeline, PushInfo, PushKind, RedisError, Value,
    from_redis_value,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::metrics::RedisMetrics;
use super::refusal::{Refusal, code};
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
    /// A command that is needed is not there, or not for this user.
    #[error("{0}")]
    Lacking(Refusal),
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
    /// A command that is refused for now, by a server that is of use all the same.
    pub(super) refusal: Option<Refusal>,
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
        required: &[Cmd],
        metrics: &RedisMetrics,
    ) -> Result<Self, SessionError> {
        match settings.mode() {
            RedisMode::Single => {
                Self::open_server(&settings.single()?, settings, channel, required).await
            }
            RedisMode::Sentinel => {
                let primary = find_primary(settings).await?;
                Self::open_server(&primary, settings, channel, required).await
            }
            RedisMode::Cluster => Self::open_cluster(settings, channel, required, metrics).await,
        }
    }

    async fn open_server(
        client: &Client,
        settings: &RedisSettings,
        channel: &str,
        required: &[Cmd],
    ) -> Result<Self, SessionError> {
        // The supervisor has its own timeout for what is sent later.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(COMMAND_TIMEOUT))
            .set_response_timeout(None);
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = in_time(connection).await?;
        let info = async { redis::cmd("INFO").query_async(&mut connection).await };
        check(in_time(wished(info)).await?, settings)?;
        let mut commands = Commands::Server(connection);
        let refusal = commands.check(required).await?;
        let mut messages = in_time(client.get_async_pubsub()).await?;
        subscribed("SUBSCRIBE", messages.subscribe(channel)).await?;
        Ok(Self { commands, messages: Messages::Server(Box::new(messages)), refusal })
    }

    async fn open_cluster(
        settings: &RedisSettings,
        channel: &str,
        required: &[Cmd],
        metrics: &RedisMetrics,
    ) -> Result<Self, SessionError> {
        let client = settings.cluster(no_pushes())?;
        let mut connection = in_time(client.get_async_connection()).await?;
        let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
        let info = async {
            from_redis_value(connection.route_command(redis::cmd("INFO"), any).await?)
                .map_err(RedisError::from)
        };
        check(in_time(wished(info)).await?, settings)?;
        let mut commands = Commands::Cluster(connection);
        let refusal = commands.check(required).await?;
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
        subscribed("SSUBSCRIBE", subscriber.ssubscribe(channel)).await?;
        let messages = Messages::Cluster { pushes: messages, _connection: subscriber };
        Ok(Self { commands, messages, refusal })
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

/// Returns what Redis says of itself; `None` if it refuses to, as many managed ones do.
async fn wished(
    info: impl Future<Output = Result<InfoDict, RedisError>>,
) -> Result<Option<InfoDict>, RedisError> {
    match info.await {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.code().is_some_and(|code| ["NOPERM", "ERR"].contains(&code)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn subscribed(
    command: &str,
    subscription: impl Future<Output = Result<(), RedisError>>,
) -> Result<(), SessionError> {
    let subscribed = async {
        match subscription.await {
            Ok(()) => Ok(None),
            Err(error) => {
                let refusal = error.code().and_then(|code| Refusal::of(&redis::cmd(command), code));
                refusal.map(Some).ok_or(error)
            }
        }
    };
    in_time(subscribed).await?.map_or(Ok(()), |refusal| Err(SessionError::Lacking(refusal)))
}

/// Checks that this Redis can be used, as far as it says.
fn check(info: Option<InfoDict>, settings: &RedisSettings) -> Result<(), SessionError> {
    let Some(info) = info else {
        tracing::info!("Redis refuses INFO: its version and its maxmemory-policy are not checked");
        return Ok(());
    };
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
                    Ok(Ok(values)) => {
                        let mut replies = Replies::default();
                        for (command, value) in pipeline.cmd_iter().zip(values) {
                            replies.push(command, reply(value));
                        }
                        Ok(replies)
                    }
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err(SessionError::Timeout),
                }
            }
            // Slots are on many servers, and one that is down must not fail the commands for the
            // others: each command has its own reply. The library executes them concurrently.
            Self::Cluster(connection) => {
                let results = join_all(batch.iter().map(|command| {
                    let mut connection = connection.clone();
                    async move {
                        match timeout(COMMAND_TIMEOUT, connection.req_packed_command(command)).await
                        {
                            Ok(Ok(value)) => reply(value),
                            Ok(Err(error)) => Err(match error.code() {
                                Some(code) => RedisFailure::Refused(code.into()),
                                None => RedisFailure::Unanswered,
                            }),
                            Err(_) => Err(RedisFailure::Unanswered),
                        }
                    }
                }))
                .await;
                let mut replies = Replies::default();
                for (command, result) in batch.iter().zip(results) {
                    replies.push(command, result);
                }
                Ok(replies)
            }
        }
    }

    /// Executes what is needed of Redis on a key of its own. Returns the first command that is
    /// refused; a session without a permission, or on a server that can do nothing, is of no use.
    async fn check(&mut self, required: &[Cmd]) -> Result<Option<Refusal>, SessionError> {
        let Replies { results, refusals } = self.run(required.to_vec()).await?;
        let codes = results.iter().filter_map(|result| match result {
            Err(RedisFailure::Refused(code)) => Some(code),
            _ => None,
        });
        if let Some(refusal) = refusals.iter().find(|refusal| refusal.is_permission()) {
            return Err(SessionError::Lacking(refusal.clone()));
        }
        match codes.into_iter().find(|code| self.is_outage(code)) {
            Some(code) => Err(SessionError::Refused(code.clone())),
            None => Ok(refusals.into_iter().next()),
        }
    }
}

/// The outcome of a batch.
#[derive(Default)]
pub(super) struct Replies {
    /// One for each command, in order.
    pub(super) results: Vec<Result<Value, RedisFailure>>,
    /// The commands that Redis refuses.
    pub(super) refusals: Vec<Refusal>,
}

impl Replies {
    fn push(&mut self, command: &Cmd, result: Result<Value, RedisFailure>) {
        if let Err(RedisFailure::Refused(code)) = &result {
            self.refusals.extend(Refusal::of(command, code));
        }
        self.results.push(result);
    }
}

fn reply(value: Value) -> Result<Value, RedisFailure> {
    match value {
        Value::ServerError(error) => Err(RedisFailure::Refused(code(&error).to_owned())),
        value => Ok(value),
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
    use crate::{Certificates, SentinelSettings};

    #[test]
    fn versions_too_old_for_the_mode_are_rejected() {
        let checked = |mode, version: &str| {
            let sentinel = SentinelSettings { primary: "m".into(), username: None, password: None };
            let url = "redis://127.0.0.1".parse().unwrap();
            let settings =
                RedisSettings::new(&[url], mode, sentinel, "p".into(), Certificates::default())
                    .unwrap();
            let text = format!("redis_version:{version}\r\nmaxmemory_policy:noeviction\r\n");
            check(Some(InfoDict::new(&text)), &settings)
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
