//! Accepts connections and serves HTTP/1.1 on them until they end or become WebSockets.
//!
//! A loop of our own, because `axum::serve` has no deadline for a request's head and keeps the
//! head's buffer for as long as the WebSocket lives.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use bytes::BytesMut;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use super::forwarded::client_addr;
use super::http_stream::{HEAD_TIMEOUT, HttpStream, Progress};
use super::namespace::SocketIoService;
use super::networks::Networks;
use super::proxy_protocol::{ProxyProtocol, read_header};
use super::upgrade::{Arrival, Upgrade};
use crate::metrics::Metrics;
use link::{CloseReason, Link, LinkSet};

/// How long a request that is under way when the drain begins may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The most bytes of a request's head. A handshake's `data` travels in it.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Connections that wait to be accepted; a whole fleet may come back at once.
const BACKLOG: i32 = 4096;

/// What the kernel may hold of unsent bytes for one connection: enough to keep it busy, and no
/// megabytes for a peer that does not read.
const MAX_UNSENT_BYTES: u32 = 128 * 1024;

/// The pause after a failed accept, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The answer where there is no room for another connection.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Opens a listening socket. The unspecified IPv4 address stands for IPv6 too, where there is
/// any.
///
/// # Errors
/// Whatever the operating system says, most often that the port is taken.
pub(crate) fn bind(host: IpAddr, port: u16) -> io::Result<TcpListener> {
    if host.is_unspecified() && host.is_ipv4() {
        match bind_to((Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    bind_to((host, port).into())
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What an operator decides about connections before they are WebSockets.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// The proxies whose word on the addresses of clients is taken.
    pub trusted_proxies: Networks,
    /// Whether these proxies speak the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// How long a connection may be idle between two requests.
    pub http_idle_timeout: Duration,
}

/// Everything that a connection needs on its way.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) settings: Arc<ListenerSettings>,
    pub(crate) links: LinkSet,
    /// What answers requests.
    pub(crate) app: Router,
    /// What takes over a connection that was upgraded.
    pub(crate) socket_io: SocketIoService,
    /// Counts those who find no room.
    pub(crate) metrics: Metrics,
    /// Owns the task of every connection that speaks HTTP.
    pub(crate) tasks: TaskTracker,
}

impl Listener {
    /// Accepts connections until `stop` is cancelled.
    pub(crate) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, remote_addr)) => self.admit(stream, remote_addr, &stop),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, remote_addr: SocketAddr, stop: &CancellationToken) {
        let remote_addr = SocketAddr::new(remote_addr.ip().to_canonical(), remote_addr.port());
        // Options only: a connection that is gone already shows itself at the first read.
        let _ = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
        match self.links.open(stream, remote_addr) {
            Ok(link) => drop(self.tasks.spawn(self.clone().serve(link, stop.clone()))),
            Err(stream) => {
                self.metrics.rejection("max_connections");
                let _ = stream.try_write(FULL);
            }
        }
    }

    /// Serves HTTP; if that ends with an upgrade, hands the link on.
    async fn serve(self, mut link: Link, stop: CancellationToken) {
        let read_ahead = tokio::select! {
            read_ahead = self.read_proxy_header(&mut link) => read_ahead,
            () = stop.cancelled() => return,
        };
        let Some(read_ahead) = read_ahead else {
            self.metrics.rejection("proxy_protocol");
            return;
        };
        let progress = Progress::new();
        let arrival = Arrival::new(link.handle());
        let service = service_fn(|request| {
            let is_pipelined = progress.begin();
            Box::pin(self.respond(arrival.clone(), progress.clone(), is_pipelined, request))
        });
        let stream =
            HttpStream::new(link, read_ahead, progress.clone(), self.settings.http_idle_timeout);
        let connection = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        // Boxed, as it is large and only lives until the upgrade.
        let mut connection = Box::new(connection);
        let served = tokio::select! {
            served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => Some(served),
            () = stop.cancelled() => None,
        };
        let served = match served {
            Some(served) => served,
            None => {
                // What is being answered may still be; nothing new is read.
                Pin::new(&mut *connection).graceful_shutdown();
                let rest = poll_fn(|cx| connection.poll_without_shutdown(cx));
                let Ok(served) = tokio::time::timeout(DRAIN_TIMEOUT, rest).await else { return };
                served
            }
        };
        if served.is_err() {
            return;
        }
        let parts = connection.into_parts();
        let mut link = parts.io.into_inner().into_inner();
        let Some(upgrade) = arrival.take_upgrade() else { return linger(link).await };
        link.upgrade(parts.read_buf);
        if stop.is_cancelled() {
            // The shutdown, which closes all upgraded links, may have looked before this was one.
            link.handle().close(CloseReason::Draining);
        }
        match upgrade {
            // Fails for requests that did not pass the upgrade check.
            Upgrade::SocketIo(request) => drop(self.socket_io.call((link, request))),
            Upgrade::PeerRelay(peer, seat) => peer.accept(link, seat),
        }
    }

    /// Reads the PROXY header of a connection that has one, and notes the client's address. Returns
    /// what was read behind it; `None` if the connection cannot be served.
    async fn read_proxy_header(&self, link: &mut Link) -> Option<BytesMut> {
        let ListenerSettings { proxy_protocol, trusted_proxies, .. } = &*self.settings;
        let handle = link.handle();
        if *proxy_protocol == ProxyProtocol::Off
            || !trusted_proxies.contains(handle.remote_addr().ip())
        {
            return Some(BytesMut::new());
        }
        let read = tokio::time::timeout(HEAD_TIMEOUT, read_header(link, *proxy_protocol)).await;
        let (client, read_ahead) = read.ok()?.ok()?;
        if let Some(client) = client {
            handle.set_remote_addr(client);
        }
        Some(read_ahead)
    }

    async fn respond(
        &self,
        arrival: Arrival,
        progress: Progress,
        is_pipelined: bool,
        mut request: Request<Incoming>,
    ) -> Result<Response, Infallible> {
        if is_pipelined {
            // A client that sends many requests at once must not hold up all others.
            tokio::task::yield_now().await;
        }
        let remote_addr = arrival.link().remote_addr();
        let client = client_addr(request.headers(), remote_addr, &self.settings.trusted_proxies);
        request.extensions_mut().insert(ConnectInfo(client));
        request.extensions_mut().insert(arrival);
        let response = self.app.clone().call(request.map(Body::new)).await?;
        Ok(progress.end_with(response))
    }
}

/// Closes a link after its last answer. What the client still sends is read and thrown away for a
/// moment: unread bytes would reset the connection, and the answer might be lost with it.
async fn linger(mut link: Link) {
    link.handle().close(CloseReason::Transport);
    let _ = link.read(&mut [0; 256]).await;
}
