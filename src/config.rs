//! The configuration: read once, from the environment and a `.env` file, and checked as a whole.
//!
//! [`VARIABLES`] is the list of everything that can be set; `--help` prints it, `.env.example` and
//! `doc/reference/configuration.md` are generated from it. An error never stops the reading: all
//! of them are reported together.

mod api;
mod cluster;
mod discovery;
mod env_file;
mod host;
mod listener;
mod login;
mod peer_relay;
mod reader;
mod rtc;
mod secret_files;
mod settings;
mod variable;
mod variables;
mod webhooks;

pub use host::Host;
pub use peer_relay::PeerRelayConfig;
pub use settings::{Misspelled, Origin, Setting, Settings};
pub use variable::Variable;
pub use variables::VARIABLES;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use crate::api::ApiSettings;
use crate::broker::{BrokerSettings, DuplicateIdPolicy, RtcFallback, StaticRtc};
use crate::cluster::ClusterSettings;
use crate::gateway::{ListenerSettings, TransportSettings};
use crate::lifecycle::LifecycleSettings;
use crate::login::LoginSettings;
use crate::protocol::SupportedNodes;
use crate::telemetry::{LogFormat, LogLevel};
use crate::webhooks::WebhookSettings;
pub(crate) use env_file::env_variables;
use env_file::read_env_file;
use link::LinkLimits;
use reader::Reader;

/// The least limit of memory, in bytes.
const MIN_MEMORY_LIMIT: u64 = 32 << 20;

/// The most worker threads; more than there are cores make nothing faster.
const MAX_WORKER_THREADS: usize = 1024;

/// Where the server API and its page have their endpoints.
const API_PATHS: [&str; 2] = ["/api/v1", "/admin"];

const LOG_LEVELS: [(&str, LogLevel); 4] = [
    ("0", LogLevel::Minimal),
    ("1", LogLevel::Connections),
    ("2", LogLevel::Events),
    ("3", LogLevel::Debug),
];

const DUPLICATE_ID_POLICIES: [(&str, DuplicateIdPolicy); 3] = [
    ("probe", DuplicateIdPolicy::Probe),
    ("reject", DuplicateIdPolicy::Reject),
    ("replace", DuplicateIdPolicy::Replace),
];

const RTC_FALLBACKS: [(&str, RtcFallback); 3] =
    [("last", RtcFallback::Last), ("default", RtcFallback::Default), ("close", RtcFallback::Close)];

/// Everything an operator can set, as the parts take it. Each field of a part is the variable of
/// a similar name; durations are set in milliseconds, as the variable's ending says.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address to listen on, or a name for it.
    pub host: Host,
    /// The TCP port to listen on; 0 takes a free one.
    pub port: u16,
    /// The number of threads that serve; `None` for as many as there are cores.
    pub worker_threads: Option<NonZeroUsize>,
    /// How much is logged.
    pub log_level: LogLevel,
    /// The form of a log line.
    pub log_format: LogFormat,
    /// The most connections at a time.
    pub max_connections: usize,
    /// The memory that the process may have, in bytes; `None` for three quarters of what the container
    /// or the machine has.
    pub memory_limit: Option<u64>,
    /// How long the end of the process may take.
    pub shutdown_timeout: Duration,
    /// The limits of each connection.
    pub link: LinkLimits,
    /// What holds for connections before they are WebSockets.
    pub listener: ListenerSettings,
    /// The address of a second listener, for operators.
    pub internal_addr: Option<SocketAddr>,
    /// Who may use the server API.
    pub api: ApiSettings,
    /// The address of the API's own listener.
    pub api_addr: Option<SocketAddr>,
    /// The address of a listener for metrics alone.
    pub metrics_addr: Option<SocketAddr>,
    /// How Socket.IO is spoken on a connection.
    pub transport: TransportSettings,
    /// What the broker allows.
    pub broker: BrokerSettings,
    /// The RTC configuration that nodes are given if there is no webhook to ask.
    pub static_rtc: StaticRtc,
    /// Logins by JWT, if nodes need them.
    pub login: Option<LoginSettings>,
    /// The webhooks.
    pub webhooks: WebhookSettings,
    /// The events of nodes, for a webhook and for streams.
    pub lifecycle: LifecycleSettings,
    /// The cluster of replicas, if `REDIS_URL` makes this broker one of them.
    pub cluster: Option<ClusterSettings>,
    /// Discovery, if `STORAGE_TYPE` switches it on.
    pub discovery: Option<rondevu::Settings>,
    /// The peer-relay network.
    pub peer_relay: PeerRelayConfig,
    /// Every variable with the value that is in force, without secrets.
    pub settings: Vec<Setting>,
}

/// A source of variables: returns the text that a name is set to.
pub trait Source: Fn(&str) -> Option<OsString> {}

impl<F: Fn(&str) -> Option<OsString>> Source for F {}

/// A variable whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}; allowed: {allowed}")]
pub struct ConfigError {
    /// The variable's name, or the file's.
    pub variable: &'static str,
    /// What is wrong, with the value where it is no secret.
    pub problem: String,
    /// What is allowed instead.
    pub allowed: &'static str,
}

/// All errors of a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not valid:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads the process's environment and the `.env` file in the working directory, if there is
    /// one. Environment variables override the file, even when they are empty. The environment itself
    /// is not changed.
    ///
    /// # Errors
    /// All [`ConfigErrors`] at once.
    pub fn load() -> Result<Self, ConfigErrors> {
        let (file, unreadable) = read_env_file(Path::new(".env"));
        let read = Self::read(|name| {
            std::env::var_os(name).or_else(|| file.get(name).map(OsString::from))
        });
        match (read, unreadable) {
            (read, None) => read.map(|config| Self { settings: Settings::load().all(), ..config }),
            (Ok(_), Some(error)) => Err(ConfigErrors(vec![error])),
            (Err(mut errors), Some(error)) => {
                errors.0.insert(0, error);
                Err(errors)
            }
        }
    }

    /// Reads the variables from any source of texts.
    ///
    /// # Errors
    /// All [`ConfigErrors`] at once.
    pub fn read(source: impl Source) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(source);
        let link = LinkLimits {
            write_timeout: reader.milliseconds("WRITE_TIMEOUT_MS", 1),
            message_timeout: reader.milliseconds("MESSAGE_TIMEOUT_MS", 1),
            max_queued_bytes: reader.number("MAX_QUEUED_BYTES", 1),
            max_messages_per_second: reader.rate("MAX_MESSAGES_PER_SECOND"),
            max_bytes_per_second: reader.rate("MAX_BYTES_PER_SECOND"),
        };
        let cluster = cluster::read(&mut reader);
        let config = Self {
            host: reader.parsed("HOST"),
            port: reader.parsed("PORT"),
            worker_threads: reader.optional("WORKER_THREADS", |text| {
                text.parse()
                    .ok()
                    .filter(|threads: &NonZeroUsize| threads.get() <= MAX_WORKER_THREADS)
            }),
            log_level: reader.choice("LOG_LEVEL", &LOG_LEVELS),
            log_format: reader
                .choice("LOG_FORMAT", &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            max_connections: reader.number("MAX_CONNECTIONS", 1),
            memory_limit: reader.optional("MEMORY_LIMIT_BYTES", |text| {
                text.parse().ok().filter(|bytes| *bytes >= MIN_MEMORY_LIMIT)
            }),
            shutdown_timeout: reader.milliseconds("SHUTDOWN_TIMEOUT_MS", 1),
            link,
            listener: listener::read(&mut reader),
            internal_addr: listener::address(&mut reader, "INTERNAL_ADDR"),
            metrics_addr: listener::address(&mut reader, "METRICS_ADDR"),
            api: api::read(&mut reader),
            api_addr: api::addr(&mut reader),
            transport: TransportSettings {
                ping_interval: reader.milliseconds("PING_INTERVAL_MS", 1),
                ping_timeout: reader.milliseconds("PING_TIMEOUT_MS", 1),
            },
            broker: BrokerSettings {
                supported_nodes: SupportedNodes {
                    runtimes: reader.items("ALLOWED_RUNTIMES", |runtime| !runtime.is_empty()),
                    min_version: reader.optional("MIN_NODE_VERSION", |text| text.parse().ok()),
                },
                signaling_enabled: reader.switch("P2P_CONNECTION_ENABLED"),
                relay_enabled: reader.switch("WEBSOCKET_RELAY_ENABLED"),
                max_data_bytes: reader.number("MAX_DATA_BYTES", 1),
                max_presence_ids: reader.number("MAX_PRESENCE_IDS", 1),
                duplicate_id_policy: reader.choice("DUPLICATE_ID_POLICY", &DUPLICATE_ID_POLICIES),
                rtc_fallback: reader.choice("RTC_FALLBACK", &RTC_FALLBACKS),
                ready_requires_redis: reader.switch("READY_REQUIRES_REDIS"),
            },
            static_rtc: rtc::read(&mut reader),
            login: login::read(&mut reader),
            webhooks: webhooks::read(&mut reader),
            lifecycle: webhooks::read_lifecycle(&mut reader),
            discovery: discovery::read(
                &mut reader,
                cluster.as_ref().map(|it| &it.redis),
                link.write_timeout,
            ),
            cluster,
            peer_relay: PeerRelayConfig::read(&mut reader, link),
            settings: reader.settings(),
        };
        if let (Some(discovery), Some(path)) = (&config.discovery, &config.peer_relay.path)
            && discovery.base_path.has_endpoint(path)
        {
            reader.conflict("PEER_RELAY_PATH", "discovery has an endpoint there");
        }
        if !config.api.tokens.is_empty() && config.api_addr.is_none() {
            let base = config.discovery.as_ref().map(|discovery| discovery.base_path.as_str());
            let is_taken =
                |path: &str| API_PATHS.iter().any(|taken| Path::new(path).starts_with(taken));
            if base.is_some_and(is_taken) {
                reader.conflict("DISCOVERY_PATH", "the server API has its endpoints there");
            }
            if config.peer_relay.path.as_deref().is_some_and(is_taken) {
                reader.conflict("PEER_RELAY_PATH", "the server API has its endpoints there");
            }
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
