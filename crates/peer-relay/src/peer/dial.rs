//! Opening channels: TCP, TLS where the URL says so, and the WebSocket's handshake.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{WebSocketStream, tungstenite};
use url::{Host, Url};

use super::Inner;
use crate::channel::{self, End, ReadAhead};
use crate::id::PeerId;
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

/// Opens connections.
pub(crate) struct Dialer {
    links: LinkSet,
    /// Set up when the first `wss` URL is dialed.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Dialer {
    pub(crate) fn new(links: LinkSet) -> Self {
        Self { links, tls: OnceLock::new() }
    }

    async fn connect(&self, url: &Url) -> Result<Link, DialError> {
        let port = url.port_or_known_default().ok_or(DialError::Url)?;
        let stream = match url.host().ok_or(DialError::Url)? {
            Host::Domain(name) => TcpStream::connect((name, port)).await?,
            Host::Ipv4(address) => TcpStream::connect((address, port)).await?,
            Host::Ipv6(address) => TcpStream::connect((address, port)).await?,
        };
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
        let link = self.in_time(deadline, self.dialer.connect(url)).await?;
        let handle = link.handle();
        if url.scheme() == "ws" {
            let socket = self.in_time(deadline, upgrade(url, link)).await?;
            return Ok(self.run(socket, handle, expected).await);
        }
        let host = url.host_str().ok_or(DialError::Url)?.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|_| DialError::Url)?;
        let connector = self.dialer.tls()?;
        let opened = async {
            let stream = connector.connect(name, link).await?;
            upgrade(url, stream).await
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
                inner.metrics.channel_ended("dial_failed");
                tracing::debug!(peer = %id, "a peer could not be dialed");
            }
            // Nothing if it became a neighbour in the meantime.
            inner.membership().unreachable(Instant::now(), id);
        });
    }
}

async fn upgrade<S>(url: &Url, stream: S) -> Result<WebSocketStream<ReadAhead<S>>, DialError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = Some(channel::config());
    let stream = ReadAhead::new(stream);
    let opened = tokio_tungstenite::client_async_with_config(url.as_str(), stream, config);
    match opened.await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Io(error)) => Err(DialError::Connection(error)),
        Err(error) => Err(DialError::WebSocket(Box::new(error))),
    }
}
