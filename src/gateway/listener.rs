//! Accepts connections and serves HTTP/1.1 on them until they end or become WebSockets.
//!
//! `axum::serve` is not used: it has no deadline for the head of a request, and keeps the buffer of
//! the head for as long as the WebSocket lives.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use super::addresses::{Addresses, Holding, Permit};
use super::client_socket::{ClientLink, ClientSocket};
use super::forwarded::client_addr;
use super::http_stream::{HttpStream, Progress};
use super::namespace::SocketIoService;
use super::proxy_protocol::{ProxyProtocol, read_header};
use super::rejection::Rejection;
use super::settings::ListenerSettings;
use super::tls::Tls;
use super::upgrade::{Arrival, Upgrade};
use crate::metrics::Metrics;
use link::{CloseReason, LinkSet};

/// How long a request in progress may take when the drain begins.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a client may take to send the head of a request, or a proxy its header.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The most bytes of a request's head. A handshake's `data` travels in it.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What the kernel may hold of unsent bytes for one connection: enough to keep it busy, and no
/// megabytes for a peer that does not read.
const MAX_UNSENT_BYTES: u32 = 128 * 1024;

/// The pause after a failed accept, which mostly means that there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a rejected client may take to send the head of its request: few of them are served at a
/// time.
const REFUSED_HEAD_TIMEOUT: Duration = Duration::from_secs(1);

/// The time between two log lines on failed accepts.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What is served to everybody: a watchdog that restarts processes that do not answer must not
/// restart one that is merely full.
const HEALTH: &str = "/health";

/// Everything that a connection needs on its way.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) links: LinkSet,
    /// Rejected connections, which get a response.
    pub(crate) refusals: LinkSet,
    /// What connections are secured with, unless a proxy does that.
    pub(crate) tls: Option<Tls>,
    /// What answers requests.
    pub(crate) app: Router,
    /// What takes over a connection that was upgraded.
    pub(crate) socket_io: SocketIoService,
    /// Counts rejections.
    pub(crate) metrics: Metrics,
    /// Owns the task of every connection that speaks HTTP.
    pub(crate) tasks: TaskTracker,
}

/// What a connection holds: until its end, and until its first request is complete.
type Permits = (Permit, Permit);

/// A connection that is rejected, with the permit for its response if it has one.
struct Refused(Rejection, Option<Permit>);

/// How a connection is let in.
enum Entry {
    /// With what it holds of its address's limits. A proxy holds nothing.
    Permitted(Option<Permits>),
    /// It is rejected, with the permit for its response.
    Refused(Rejection, Permit),
}

impl Listener {
    /// Accepts connections until `stop` is cancelled.
    pub(crate) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let (mut failures, mut last_logged) = (0_u64, None::<Instant>);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, remote_addr)) => self.admit(stream, remote_addr, &stop),
                Err(error) => {
                    self.metrics.rejections.inc(["accept_failed"]);
                    failures += 1;
                    if last_logged.is_none_or(|last| last.elapsed() >= ACCEPT_LOG_INTERVAL) {
                        last_logged = Some(Instant::now());
                        tracing::warn!(%error, failures, "connections could not be accepted");
                        failures = 0;
                    }
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
        let stream = ClientSocket::Plain(stream);
        let permits = match self.permits(remote_addr.ip()) {
            Ok(permits) => permits,
            // What holds for everybody is the better answer.
            Err(Rejection::AddressConnections) if self.links.is_full() => {
                return self.turn_away(stream, remote_addr, Rejection::Full, stop);
            }
            Err(rejection) => return self.turn_away(stream, remote_addr, rejection, stop),
        };
        match self.links.open(stream, remote_addr) {
            Ok(link) => {
                self.tasks.spawn(self.clone().serve(link, Entry::Permitted(permits), stop.clone()));
            }
            Err(stream) => self.turn_away(stream, remote_addr, Rejection::Full, stop),
        }
    }

    /// Returns what a connection from this address has to hold; nothing if it is a proxy's.
    fn permits(&self, address: IpAddr) -> Result<Option<Permits>, Rejection> {
        if self.addresses.settings.trusted_proxies.contains(address) {
            return Ok(None);
        }
        let connection = self.addresses.connect(address)?;
        Ok(Some((connection, self.addresses.hold(address, Holding::UnfinishedHead)?)))
    }

    /// Rejects a client with a response. That takes a permit; without one, the client may not be
    /// able to read the response.
    fn turn_away(
        &self,
        stream: ClientSocket,
        remote_addr: SocketAddr,
        rejection: Rejection,
        stop: &CancellationToken,
    ) {
        self.metrics.rejections.inc([rejection.cause()]);
        if rejection == Rejection::BannedAddress {
            return;
        }
        let Ok(permit) = self.addresses.hold(remote_addr.ip(), Holding::Refusal) else {
            return self.reply_unread(&stream, rejection);
        };
        match self.refusals.open(stream, remote_addr) {
            Ok(link) => {
                let entry = Entry::Refused(rejection, permit);
                self.tasks.spawn(self.clone().serve(link, entry, stop.clone()));
            }
            Err(stream) => self.reply_unread(&stream, rejection),
        }
    }

    /// Sends a response without reading the request. With TLS there is none before a handshake.
    fn reply_unread(&self, stream: &ClientSocket, rejection: Rejection) {
        if self.tls.is_none() {
            stream.try_write(&rejection.to_bytes());
        }
    }

    /// Serves HTTP; if that ends with an upgrade, hands the link on.
    async fn serve(self, mut link: ClientLink, entry: Entry, stop: CancellationToken) {
        let read_ahead = tokio::select! {
            read_ahead = self.read_proxy_header(&mut link) => read_ahead,
            () = stop.cancelled() => return,
        };
        let Some(mut read_ahead) = read_ahead else {
            self.metrics.rejections.inc(["proxy_protocol"]);
            return;
        };
        let (permits, rejection) = match self.enter(entry, &link) {
            Ok(permits) => (permits, None),
            Err(Refused(Rejection::BannedAddress, _)) => return,
            Err(Refused(rejection, permit)) => {
                permit.into_iter().for_each(|permit| link.attach(permit));
                (None, Some(rejection))
            }
        };
        if let Some(tls) = &self.tls {
            link.socket_mut().secure(tls, &read_ahead.split());
        }
        let is_proxied = permits.is_none();
        let (connection, head) = permits.unzip();
        connection.into_iter().for_each(|connection| link.attach(connection));
        let head = Mutex::new(head);
        let progress = Progress::new();
        let arrival = Arrival::new(link.handle(), self.addresses.clone(), is_proxied);
        let service = service_fn(|request| {
            let is_pipelined = progress.begin();
            drop(head.lock().unwrap_or_else(PoisonError::into_inner).take());
            Box::pin(self.respond(
                arrival.clone(),
                progress.clone(),
                is_pipelined,
                rejection,
                request,
            ))
        });
        let idle_timeout = self.addresses.settings.http_idle_timeout;
        let head_timeout = if rejection.is_none() { HEAD_TIMEOUT } else { REFUSED_HEAD_TIMEOUT };
        let timeouts = (head_timeout, idle_timeout);
        let stream =
            HttpStream::new(link, read_ahead, progress.clone(), timeouts, self.links.clone());
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
        let Some((upgrade, permits)) = arrival.take_upgrade() else { return linger(link).await };
        permits.into_iter().for_each(|permit| link.attach(permit));
        match &upgrade {
            Upgrade::SocketIo(_) => link.upgrade(parts.read_buf),
            Upgrade::PeerRelay(..) => link.upgrade_without_connect(parts.read_buf),
        }
        if stop.is_cancelled() {
            // The shutdown, which closes all upgraded links, may have looked before this was one.
            link.handle().close(CloseReason::Draining);
        }
        match upgrade {
            // Fails for requests that did not pass the upgrade check.
            Upgrade::SocketIo(request) => drop(self.socket_io.call((link, request))),
            Upgrade::PeerRelay(peer, permit) => peer.accept(link, permit),
        }
    }

    /// Reads the PROXY header of a connection that has one, and notes the client's address. Returns
    /// what was read behind it; `None` if the connection cannot be served.
    async fn read_proxy_header(&self, link: &mut ClientLink) -> Option<BytesMut> {
        let ListenerSettings { proxy_protocol, trusted_proxies, .. } = &self.addresses.settings;
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

    /// Returns what a connection holds of its address's limits, once its PROXY header has been
    /// read; or why it is rejected.
    fn enter(&self, entry: Entry, link: &ClientLink) -> Result<Option<Permits>, Refused> {
        match entry {
            Entry::Permitted(None) => {
                self.permits(link.handle().remote_addr().ip()).map_err(|rejection| {
                    self.metrics.rejections.inc([rejection.cause()]);
                    Refused(rejection, None)
                })
            }
            Entry::Permitted(permits) => Ok(permits),
            Entry::Refused(rejection, permit) => Err(Refused(rejection, Some(permit))),
        }
    }

    async fn respond(
        &self,
        arrival: Arrival,
        progress: Progress,
        is_pipelined: bool,
        mut rejection: Option<Rejection>,
        request: Request<Incoming>,
    ) -> Result<Response, Infallible> {
        if is_pipelined {
            // A client that sends many requests at once must not hold up all others.
            tokio::task::yield_now().await;
        }
        let remote_addr = arrival.link().remote_addr();
        let settings = &self.addresses.settings;
        let client = client_addr(request.headers(), remote_addr, &settings.trusted_proxies);
        if rejection.is_none() && self.addresses.are_banned(client.ip()) {
            self.metrics.rejections.inc([Rejection::BannedAddress.cause()]);
            rejection = Some(Rejection::BannedAddress);
        }
        let response = match rejection {
            Some(rejection) if request.uri().path() != HEALTH => {
                let mut response = rejection.into_response();
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                response
            }
            _ => self.route(client, arrival, request).await?,
        };
        Ok(progress.end_with(response))
    }

    async fn route(
        &self,
        client: SocketAddr,
        arrival: Arrival,
        mut request: Request<Incoming>,
    ) -> Result<Response, Infallible> {
        request.extensions_mut().insert(ConnectInfo(client));
        request.extensions_mut().insert(arrival);
        self.app.clone().call(request.map(Body::new)).await
    }
}

/// Closes a link after its last response. For a moment, further bytes of the client are read and
/// discarded: unread bytes would reset the connection, and the response might be lost.
async fn linger(mut link: ClientLink) {
    link.handle().close(CloseReason::Transport);
    let _ = link.read(&mut [0; 256]).await;
}
