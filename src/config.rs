//! The configuration: read once, from the environment and a `.env` file, and checked as a whole.
//!
//! [`VARIABLES`] is the list of everything that can be set; `--help`, `.env.example` and the
//! README show the same list, and tests hold them to it. A mistake never stops the reading:
//! all of them are reported together.

mod discovery;
mod env_file;
mod peer_relay;
mod reader;
mod redis;
mod secret_url;
mod variable;
mod variables;
mod webhooks;

pub use self::redis::RedisConfig;
pub use peer_relay::PeerRelayConfig;
pub use secret_url::SecretUrl;
pub use variable::Variable;
pub use variables::VARIABLES;
pub use webhooks::{RtcConfig, WebhookConfig};

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use crate::broker::DuplicateIdPolicy;
use crate::telemetry::{LogFormat, LogLevel};
use env_file::read_env_file;
use reader::Reader;

/// The most threads that can be asked for; more than the cores there are make nothing faster.
const MAX_WORKER_THREADS: usize = 1024;

/// Everything an operator can set. Each field is the variable of the same name in upper case;
/// durations are set in milliseconds, as the variable's ending says.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address to listen on.
    pub host: IpAddr,
    /// The TCP port to listen on; 0 takes a free one.
    pub port: u16,
    /// How many threads serve; `None` for as many as there are cores.
    pub worker_threads: Option<NonZeroUsize>,
    /// How much is logged.
    pub log_level: LogLevel,
    /// The form of a log line.
    pub log_format: LogFormat,
    /// Redis, by which replicas act as one.
    pub redis: RedisConfig,
    /// The webhooks.
    pub webhooks: WebhookConfig,
    /// What nodes are told about reaching each other.
    pub rtc: RtcConfig,
    /// Discovery, if `STORAGE_TYPE` switches it on.
    pub discovery: Option<rondevu::Settings>,
    /// The peer-relay network.
    pub peer_relay: PeerRelayConfig,
    /// Whether the signaling events pass.
    pub p2p_connection_enabled: bool,
    /// Whether `SOCKET_MSG_EXCHANGE` passes.
    pub websocket_relay_enabled: bool,
    /// What becomes of a newcomer whose ID is held.
    pub duplicate_id_policy: DuplicateIdPolicy,
    /// The most IDs that one presence question may have.
    pub max_presence_ids: usize,
    /// The most connections at a time.
    pub max_connections: usize,
    /// The most that may wait to be written to one connection, in bytes.
    pub max_queued_bytes: usize,
    /// The time between two heartbeats.
    pub ping_interval: Duration,
    /// How long a heartbeat's answer may take.
    pub ping_timeout: Duration,
    /// How long a write may wait for the peer to read.
    pub write_timeout: Duration,
    /// How long the end of the process may take.
    pub shutdown_timeout: Duration,
}

/// Where variables come from: a name to the text that it is set to.
pub trait Source: Fn(&str) -> Option<OsString> {}

impl<F: Fn(&str) -> Option<OsString>> Source for F {}

/// A variable whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}; allowed: {allowed}")]
pub struct Mistake {
    /// The variable's name, or the file's.
    pub variable: &'static str,
    /// What is wrong, with the value where it is no secret.
    pub problem: String,
    /// What could stand there instead.
    pub allowed: &'static str,
}

/// All mistakes of a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not valid:")?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for Mistakes {}

impl Config {
    /// Reads the process's environment and the `.env` file in the working directory, if there is
    /// one. What the environment sets, be it to nothing, the file cannot change. The environment
    /// itself stays as it is.
    ///
    /// # Errors
    /// All [`Mistakes`] at once.
    pub fn load() -> Result<Self, Mistakes> {
        let (file, unreadable) = read_env_file(Path::new(".env"));
        let read = Self::read(|name| {
            std::env::var_os(name).or_else(|| file.get(name).map(OsString::from))
        });
        match (read, unreadable) {
            (read, None) => read,
            (Ok(_), Some(mistake)) => Err(Mistakes(vec![mistake])),
            (Err(mut mistakes), Some(mistake)) => {
                mistakes.0.insert(0, mistake);
                Err(mistakes)
            }
        }
    }

    /// Reads the variables from any source of texts.
    ///
    /// # Errors
    /// All [`Mistakes`] at once.
    pub fn read(source: impl Source) -> Result<Self, Mistakes> {
        let mut reader = Reader::new(source);
        let redis = RedisConfig::read(&mut reader);
        let config = Self {
            host: reader.parsed("HOST"),
            port: reader.parsed("PORT"),
            worker_threads: reader.optional("WORKER_THREADS", |text| {
                text.parse()
                    .ok()
                    .filter(|threads: &NonZeroUsize| threads.get() <= MAX_WORKER_THREADS)
            }),
            log_level: reader.parsed("LOG_LEVEL"),
            log_format: reader.parsed("LOG_FORMAT"),
            webhooks: WebhookConfig::read(&mut reader),
            rtc: RtcConfig::read(&mut reader),
            discovery: discovery::read(&mut reader, redis.settings.as_ref()),
            redis,
            peer_relay: PeerRelayConfig::read(&mut reader),
            p2p_connection_enabled: reader.switch("P2P_CONNECTION_ENABLED"),
            websocket_relay_enabled: reader.switch("WEBSOCKET_RELAY_ENABLED"),
            duplicate_id_policy: reader.parsed("DUPLICATE_ID_POLICY"),
            max_presence_ids: reader.number("MAX_PRESENCE_IDS", 1),
            max_connections: reader.number("MAX_CONNECTIONS", 1),
            max_queued_bytes: reader.number("MAX_QUEUED_BYTES", 1),
            ping_interval: reader.milliseconds("PING_INTERVAL_MS", 1),
            ping_timeout: reader.milliseconds("PING_TIMEOUT_MS", 1),
            write_timeout: reader.milliseconds("WRITE_TIMEOUT_MS", 1),
            shutdown_timeout: reader.milliseconds("SHUTDOWN_TIMEOUT_MS", 1),
        };
        if let (Some(discovery), Some(path)) = (&config.discovery, &config.peer_relay.path)
            && discovery.base_path.has_endpoint(path)
        {
            reader.conflict("PEER_RELAY_PATH", "discovery has an endpoint there");
        }
        reader.finish(config)
    }
}

impl Default for Config {
    /// What an empty environment gives.
    #[allow(clippy::expect_used, reason = "the defaults are constants, and a test reads them")]
    fn default() -> Self {
        Self::read(|_| None).expect("the defaults are valid")
    }
}

#[cfg(test)]
mod tests;
