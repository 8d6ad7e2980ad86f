//! The rendezvous server for CrolangP2P: nodes connect by an ID over Socket.IO, exchange the
//! signaling of direct connections, and send each other messages where there is no direct one.
//!
//! # How a message travels
//!
//! A client's TCP connection is a [`link`]. The [`gateway`] serves HTTP on it, and at the upgrade
//! asks the [`broker`] to admit the node: the broker acquires the node's ID from the
//! [`directory`] and hangs the lease on the link, so that whatever ends the link gives the ID
//! back. From then on the gateway hands each event to the broker, which reads the addresses on it
//! with the [`protocol`] and gives it to the [`delivery`]; that knows the receiver's connection,
//! or the way to its replica, through [`redis_session`].
//! The payload's text is the same all the way, and the answer says what the delivery said.
//!
//! # Reading order
//!
//! [`node`], [`protocol`]: the words. [`link`]: one connection. [`directory`], [`delivery`]: who owns an ID, and the way to its connection. [`broker`]:
//! what is done with them. [`gateway`], [`http`]: the endpoints; [`rondevu`] has those of
//! discovery. [`overlay`]: the other network, in which messages go from peer to
//! peer. [`server`]: the composition. [`config`], [`telemetry`], [`metrics`]: what
//! operators see. Modules import only from those named before them, apart from `server`, which
//! knows everything, and `config`, which only `server` and the program know.
//!
//! # In another program
//!
//! ```
//! use crolang_broker::{config::Config, server::Server};
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

pub mod broker;
pub mod config;
pub mod delivery;
pub mod directory;
pub mod gateway;
pub mod http;
pub mod link;
pub mod metrics;
pub mod node;
pub mod overlay;
pub mod protocol;
pub mod server;
mod sharded;
pub mod telemetry;
pub mod webhooks;
