//! The rendezvous server for CrolangP2P: nodes connect by an ID over Socket.IO, exchange the
//! signaling of direct connections, and send each other messages where there is no direct one.
//!
//! # How a message travels
//!
//! A client's TCP connection is a [`link`]. The [`gateway`] serves HTTP on it, and at the upgrade
//! asks the [`broker`] to admit the node: the broker acquires the node's ID from the [`directory`]
//! and attaches the lease to the link, so that whatever ends the link releases the ID. From then on
//! the gateway hands each event to the node's session, where the road of a message begins:
//! `broker/session` (who sends), `authorize` (may it pass), `route` (where is the receiver),
//! `pipeline` (whose turn is it, if something has to be asked), `deliver`. The [`delivery`] knows
//! the receiver's connection, whose link has an outbox, or the way to its replica, through
//! [`redis_session`]. The text of the payload is the same all the way, and the ack says what the
//! delivery said.
//!
//! # Reading order
//!
//! [`node`], [`protocol`]: the domain types. [`link`]: one connection. [`directory`],
//! [`delivery`]: who owns an ID, and the way to its connection. [`webhooks`]: the operator's own
//! servers. [`broker`]: what is done with them. [`cluster`]: replicas that act as one.
//! [`gateway`], [`http`]: the endpoints; [`rondevu`] has those of discovery, for peers without IDs.
//! [`overlay`]: the other network, in which messages go from peer to peer. [`server`]: the
//! composition. [`config`], [`telemetry`], [`metrics`]: what operators see. Modules import only
//! from those named before them, apart from `server`, which knows everything, and `config`, which
//! only `server` and the program know.
//!
//! # In another program
//!
//! [`Config`] and [`Server`] are the whole broker. The crates [`peer_relay`] and [`rondevu`] can be
//! used without it.
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

#[doc(hidden)]
pub mod bench_internals;
mod broker;
mod circuit_breaker;
mod cluster;
mod config;
mod delivery;
mod directory;
mod gateway;
mod http;
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

pub use broker::{BrokerSettings, DuplicateIdPolicy, RtcFallback, StaticRtc, TurnServers};
pub use cluster::ClusterSettings;
pub use config::{
    Config, ConfigError, ConfigErrors, Host, Misspelled, Origin, PeerRelayConfig, Setting,
    Settings, Source, VARIABLES, Variable,
};
pub use directory::LeaseSettings;
pub use gateway::{
    AddressLimits, InvalidNetworks, InvalidOrigins, ListenerSettings, Networks, ProxyProtocol,
    TransportSettings, WebSocketOrigins,
};
pub use link::LinkLimits;
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
