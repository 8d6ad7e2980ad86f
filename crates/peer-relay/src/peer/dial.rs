//! Opening channels: TCP, TLS where the URL says so, and the WebSocket's handshake.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{WebSocketStream, tungstenite};
use url::{Host, Url};

use super::Inner;
use super::addresses::client;
use crate::channel::{self, End, ReadAhead};
use crate::id::PeerId;
use crate::membership::DialCounts;
use link::{Link, LinkSet};

/// How long it may take until the WebSocket is open.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest URL of a stranger, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// Why a channel could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// It is no `ws` or `wss` URL with a host.
    #[error("not a ws or wss URL")]
    Url,
    /// There are too many connections already.
    #[error("too many connections")]
    Full,
    /// Other peers have made this one dial that address too often.
    #[error("the address was dialed too often")]
    TooOften,
    /// This peer leaves.
    #[error("this peer leaves")]
    Leaving,
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// The connection failed, or its certificate is not trusted.
    #[error(transparent)]
    Connection(#[from] io::Error),
    /// TLS cannot be set up at all.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// The other side does not speak WebSocket at that URL.
    #[error(transparent)]
    WebSocket(Box<tungstenite::Error>),
}

/// How often an address, and a port of it, may be dialed in a minute or two because of URLs that other
/// peers send: nobody shall be flooded with connections in this way.
const MAX_DIALS_PER_ADDRESS: u32 = 64;
const MAX_DIALS_PER_PORT: u32 = 4;

/// Opens connections.
pub(crate) struct Dialer {
    links: LinkSet,
    targets: Mutex<Targets>,
    /// Set up when the first `wss` URL is dialed.
    tls: OnceLock<Arc<ClientConfig>>,
}

/// What has been dialed because of URLs that other peers sent.
struct Targets {
    addresses: DialCounts<IpAddr>,
    ports: DialCounts<(IpAddr, u16)>,
}

impl Targets {
    fn may_dial(&mut self, now: Instant, target: SocketAddr) -> bool {
        let address = client(target.ip());
        self.ports.count(now, (address, target.port())) && self.addresses.count(now, address)
    }
}

impl Dialer {
    pub(crate) fn new(links: LinkSet) -> Self {
        let now = Instant::now();
        let targets = Targets {
            addresses: DialCounts::new(now, MAX_DIALS_PER_ADDRESS),
            ports: DialCounts::new(now, MAX_DIALS_PER_PORT),
        };
        Self { links, targets: Mutex::new(targets), tls: OnceLock::new() }
    }

    /// Connects to the host of a URL; `is_own` if the URL is one of this peer's settings.
    async fn connect(&self, url: &Url, is_own: bool) -> Result<Link, DialError> {
        let port = url.port_or_known_default().ok_or(DialError::Url)?;
        let mut targets: Vec<SocketAddr> = match url.host().ok_or(DialError::Url)? {
            Host::Domain(name) => lookup_host((name, port)).await?.collect(),
            Host::Ipv4(address) => vec![(address, port).into()],
            Host::Ipv6(address) => vec![(address, port).into()],
        };
        if !is_own {
            let mut counted = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
            targets.retain(|target| counted.may_dial(Instant::now(), *target));
            if targets.is_empty() {
                return Err(DialError::TooOften);
            }
        }
        let stream = TcpStream::connect(&targets[..]).await?;
        // An option only: a connection that is gone already shows itself at the first read.
        let _ = stream.set_nodelay(true);
        let address = stream.peer_addr()?;
        self.links.open(stream, address).map_err(|_| DialError::Full)
    }

    fn tls(&self) -> Result<TlsConnector, DialError> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone().into());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        Ok(self.tls.get_or_init(|| Arc::new(config)).clone().into())
    }
}

impl Inner {
    /// Opens a channel and runs it to its end. Gives what is known of the other side then.
    pub(crate) async fn dial(
        self: &Arc<Self>,
        url: &Url,
        expected: Option<PeerId>,
    ) -> Result<(Option<PeerId>, End), DialError> {
        if !matches!(url.scheme(), "ws" | "wss") {
            return Err(DialError::Url);
        }
        let deadline = Instant::now() + DIAL_TIMEOUT;
        let link = self.in_time(deadline, self.dialer.connect(url, expected.is_none())).await?;
        let handle = link.handle();
        if url.scheme() == "ws" {
            let socket = self.in_time(deadline, self.upgrade(url, link)).await?;
            return Ok(self.run(socket, handle, expected).await);
        }
        let host = url.host_str().ok_or(DialError::Url)?.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|_| DialError::Url)?;
        let connector = self.dialer.tls()?;
        let opened = async {
            let stream = connector.connect(name, link).await?;
            self.upgrade(url, stream).await
        };
        // Boxed: TLS is large, and most channels are without.
        let socket = Box::pin(self.in_time(deadline, opened)).await?;
        Ok(Box::pin(self.run(socket, handle, expected)).await)
    }

    /// Opens something until the deadline, and while this peer does not leave.
    async fn in_time<T>(
        &self,
        deadline: Instant,
        opening: impl Future<Output = Result<T, DialError>>,
    ) -> Result<T, DialError> {
        tokio::select! {
            opened = timeout_at(deadline.into(), opening) => opened.map_err(|_| DialError::Timeout)?,
            () = self.leaving.cancelled() => Err(DialError::Leaving),
        }
    }

    /// Dials a URL that another peer sent for itself.
    pub(crate) fn dial_unknown_peer(self: &Arc<Self>, id: PeerId, url: &str) {
        let url = Some(url).filter(|url| url.len() <= MAX_URL_BYTES);
        let url = url.and_then(|url| Url::parse(url).ok());
        let (Some(url), Some(permit)) = (url, self.reserve()) else {
            return self.membership().unreachable(Instant::now(), id);
        };
        let inner = self.clone();
        self.tasks.spawn(async move {
            let _permit = permit;
            let dialed = tokio::select! {
                dialed = inner.dial(&url, Some(id)) => dialed,
                () = inner.stop.cancelled() => return,
            };
            if !matches!(dialed, Ok((Some(_), _))) {
                let is_limited = matches!(dialed, Err(DialError::TooOften));
                inner.metrics.channel_ended(if is_limited { "dial_limit" } else { "dial_failed" });
                tracing::debug!(peer = %id, "a peer could not be dialed");
            }
            // Nothing if it became a neighbour in the meantime.
            inner.membership().unreachable(Instant::now(), id);
        });
    }

    async fn upgrade<S>(
        &self,
        url: &Url,
        stream: S,
    ) -> Result<WebSocketStream<ReadAhead<S>>, DialError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Some(channel::config(self.max_message_bytes));
        let stream = ReadAhead::new(stream);
        let opened = tokio_tungstenite::client_async_with_config(url.as_str(), stream, config);
        match opened.await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Io(error)) => Err(DialError::Connection(error)),
            Err(error) => Err(DialError::WebSocket(Box::new(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_limited_by_port_and_by_address() {
        let mut dialer = Dialer::new(LinkSet::new(crate::PeerSettings::default().limits, 1));
        let targets = dialer.targets.get_mut().unwrap();
        let now = Instant::now();
        let mut dials = |address: &str, port| {
            let target = SocketAddr::new(address.parse().unwrap(), port);
            targets.may_dial(now, target)
        };
        assert!((0..MAX_DIALS_PER_PORT).all(|_| dials("2001:db8::1", 80)));
        assert!(!dials("2001:db8::2", 80), "another address of that network");
        assert!(dials("2001:db8:0:1::1", 80));
        let rest = (MAX_DIALS_PER_ADDRESS - MAX_DIALS_PER_PORT) as u16;
        assert!((0..rest).all(|number| dials("2001:db8::1", 1000 + number)));
        assert!(!dials("2001:db8::1", 999), "another port");
    }
}
