//! From a TCP connection to the broker and back: HTTP, WebSocket, Socket.IO.
//!
//! In the order in which a connection passes them:
//!
//! - `bind`, `settings`, `listener`: accept connections and serve HTTP on them until the upgrade.
//! - `client_socket`, `tls`: TCP, or TLS without a proxy.
//! - `networks`, `proxy_protocol`, `forwarded`: the client's address, also behind proxies.
//! - `address_limits`, `addresses`, `origins`, `rejection`: limits per address, and rejected
//!   connections.
//! - `http_stream`: the deadlines of requests.
//! - `upgrade`: the check before there is a WebSocket; a node is admitted, refused or rejected.
//! - `namespace`: the Socket.IO namespace, which connects a node or returns its refusal.
//! - `events`: passes a connected node's events to its session.
//! - `peer_endpoint`: the endpoint for peers of the peer-relay network.

mod address_limits;
mod addresses;
mod bind;
mod client_socket;
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
mod tls;
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
pub(crate) use proxy_protocol::read_header;
pub use settings::ListenerSettings;
pub(crate) use tls::Tls;
pub use tls::{TlsError, TlsFiles};
pub(crate) use upgrade::socket_io_routes;
