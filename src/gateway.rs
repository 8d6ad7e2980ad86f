//! The way from a TCP connection to the broker and back: HTTP, WebSocket, Socket.IO.
//!
//! In the order in which a node meets them:
//!
//! - `bind`, `settings`, `listener`: accepts connections and serves HTTP on them until they are upgraded.
//! - `networks`, `proxy_protocol`, `forwarded`: whose connection it is, behind proxies too.
//! - `address_limits`, `addresses`, `origins`, `rejection`: what one address may do, and who is turned away.
//! - `http_stream`: the deadlines of requests.
//! - `upgrade`: the check before any WebSocket exists; here a node gets its ID or is turned away.
//! - `namespace`: the Socket.IO namespace; tells a node that it is connected, or why not.
//! - `events`: takes a connected node's events to its session.
//! - `peer_endpoint`: the endpoint for peers of the peer-relay network.

mod address_limits;
mod addresses;
mod bind;
mod events;
mod forwarded;
mod http_stream;
mod listener;
mod namespace;
mod networks;
mod origins;
mod peer_endpoint;
mod proxy_protocol;
mod rejection;
mod settings;
mod upgrade;

pub use address_limits::AddressLimits;
pub(crate) use addresses::Addresses;
pub(crate) use bind::bind;
pub(crate) use listener::Listener;
pub use namespace::TransportSettings;
pub(crate) use namespace::socket_io;
pub use networks::{InvalidNetworks, Networks};
pub use origins::{InvalidOrigins, WebSocketOrigins};
pub(crate) use peer_endpoint::peer_relay_route;
pub use proxy_protocol::ProxyProtocol;
pub use settings::ListenerSettings;
pub(crate) use upgrade::socket_io_routes;
