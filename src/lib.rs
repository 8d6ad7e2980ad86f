//! The rendezvous server for CrolangP2P: nodes connect by an ID over Socket.IO, exchange the
//! signaling of WebRTC connections, and relay messages where there is no direct connection.
//!
//! # How a message travels
//!
//! A client's TCP connection is a [`link`]. The [`gateway`] serves HTTP on it and, at the upgrade,
//! asks the [`broker`] to admit the node. The broker acquires the node's ID from the [`directory`]
//! and attaches the lease to the link, so that the ID is released however the link ends. From then
//! on the gateway passes each event to the node's session, and the message takes its path through
//! five files of `broker`: `session` (takes the event), `authorize` (may it pass?), `route` (where
//! is the receiver?), `pipeline` (in what order, if a reply has to be awaited?) and `deliver`. The
//! [`delivery`] finds the receiver's connection, whose link queues the message in its outbox, or
//! sends it to the receiver's replica through [`redis_session`]. The payload is forwarded as it
//! came, and the ack says how the delivery ended.
//!
//! # Reading order
//!
//! 1. [`node`], [`protocol`]: the domain types. [`link`]: one connection.
//! 2. [`directory`], [`delivery`]: who owns an ID, and how to reach its connection. [`lifecycle`]: what
//!    happens to nodes. [`bans`]: who must not connect. [`webhooks`]: the operator's own servers.
//!    [`login`]: tokens instead of one.
//! 3. [`broker`]: what uses all of these. [`cluster`]: replicas that act as one.
//! 4. [`api`], [`gateway`], [`http`]: the endpoints; [`rondevu`] has those of discovery, and [`overlay`] is
//!    the peer-relay network.
//! 5. [`server`]: puts the parts together. [`config`], [`telemetry`], [`metrics`]: what operators
//!    set and see.
//!
//! Modules import only downwards; `doc/explanation/architecture.md` lists them from the bottom up.
//!
//! # In another program
//!
//! [`Config`] and [`Server`] are all that is needed to run a broker. The crates [`peer_relay`] and
//! [`rondevu`] can be used without it.
//!
//! ```
//! use crolang_broker::{Config, Server};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config { host: [127, 0, 0, 1].into(), port: 0, ..Config::default() };
//! let server = Server::bind(&config).await?;
//! println!("nodes connect to http://{}", server.address());
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```
#![allow(rustdoc::private_intra_doc_links, reason = "the reading guide is for the crate's readers")]

mod api;
mod bans;
mod broker;
mod circuit_breaker;
mod cluster;
mod config;
mod delivery;
mod directory;
mod gateway;
mod http;
#[doc(hidden)]
pub mod internals;
mod lifecycle;
mod login;
mod memory_budget;
mod metrics;
mod node;
mod overlay;
mod protocol;
mod secret_url;
mod server;
mod sharded;
mod telemetry;
mod webhooks;

pub use api::{ApiSettings, Token, Tokens};
pub use broker::{BrokerSettings, DuplicateIdPolicy, RtcFallback, StaticRtc, TurnServers};
pub use cluster::ClusterSettings;
pub use config::{
    Config, ConfigError, ConfigErrors, Host, Misspelled, Origin, PeerRelayConfig, Setting,
    Settings, Source, VARIABLES, Variable,
};
pub use directory::LeaseSettings;
pub use gateway::{
    AddressLimits, InvalidNetworks, InvalidOrigins, ListenerSettings, Networks, ProxyProtocol,
    TlsError, TlsFiles, TransportSettings, WebSocketOrigins,
};
pub use lifecycle::LifecycleSettings;
pub use link::LinkLimits;
pub use login::{InvalidKey, KeySource, LoginKeys, LoginSettings};
pub use metric_set::Description as MetricDescription;
pub use metrics::described_metrics;
#[cfg(feature = "overlay")]
pub use peer_relay;
pub use protocol::{InvalidRtcConfiguration, NodeVersion, RtcConfiguration, SupportedNodes};
pub use redis_session::{InvalidRedisSettings, RedisMode, RedisSettings, SentinelSettings};
pub use secret_url::SecretUrl;
pub use server::{Server, StartError};
pub use telemetry::{LogError, LogFormat, LogGuard, LogLevel, init_logging};
pub use webhooks::{
    CallSettings, ClientError, DataFormat, ExtraRoots, InvalidSecret, Signer, WebhookSettings,
};
