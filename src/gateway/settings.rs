//! What an operator decides about connections before they are WebSockets.

use std::time::Duration;

use super::address_limits::AddressLimits;
use super::networks::Networks;
use super::origins::WebSocketOrigins;
use super::proxy_protocol::ProxyProtocol;
use super::tls::TlsFiles;

/// Which connections are accepted, and their limits.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// The proxies whose word on the addresses of clients is taken.
    pub trusted_proxies: Networks,
    /// Whether these proxies speak the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// The files for TLS, if it is spoken without a proxy.
    pub tls: Option<TlsFiles>,
    /// How long a connection may be idle between two requests.
    pub http_idle_timeout: Duration,
    /// Addresses whose connections are closed at once.
    pub banned: Networks,
    /// The origins whose web pages may open WebSockets.
    pub allowed_origins: WebSocketOrigins,
    /// What one address may do.
    pub limits: AddressLimits,
}

impl Default for ListenerSettings {
    /// Trusts no proxy, and limits no address.
    fn default() -> Self {
        Self {
            trusted_proxies: Networks::default(),
            proxy_protocol: ProxyProtocol::Off,
            tls: None,
            http_idle_timeout: Duration::from_secs(75),
            banned: Networks::default(),
            allowed_origins: WebSocketOrigins::All,
            limits: AddressLimits::none(),
        }
    }
}
