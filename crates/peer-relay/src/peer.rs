//! A peer that runs: it owns the tables, the channels and their tasks.
//!
//! What to do is decided in `membership`, under a lock that is held for as long as that takes and
//! no longer; it is done here.

mod addresses;
mod bootstrap;
mod channels;
mod dial;
mod events;
mod listener;
mod send;
mod settings;
#[cfg(feature = "webrtc")]
mod webrtc;

pub use events::{Events, PeerEvent};
pub use send::SendError;
pub use settings::{Admits, DialPolicy, PeerSettings};

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::channel::{self, Channel};
use super::id::PeerId;
use super::membership::{Action, Membership, Rules};
use super::message::{MAX_OVERHEAD_BYTES, Reachable};
use super::metrics::Metrics;
use super::outcome::Outcome;
#[cfg(feature = "webrtc")]
use super::webrtc::WebRtc;
use addresses::Addresses;
use dial::Dialer;
use events::EventSender;
use link::{CloseReason, Link, LinkSet, MAX_MESSAGE_BYTES, Socket};

/// The time between two looks at what has expired.
const TICK: Duration = Duration::from_secs(1);

/// How long the channels may take to write what is queued when the peer ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// A peer in a peer-relay network; a cheap handle. It ends with the last handle, at once, or
/// with [`Peer::shutdown`], in good order.
///
/// ```
/// use peer_relay::{Peer, PeerEvent, PeerSettings};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listening = PeerSettings { listen: Some(([127, 0, 0, 1], 0).into()), ..Default::default() };
/// let hub = Peer::start(listening).await?;
/// let url = format!("ws://{}", hub.local_addr().ok_or("it listens")?).parse()?;
/// let leaf = Peer::start(PeerSettings { bootstrap: vec![url], ..Default::default() }).await?;
///
/// let mut events = hub.events();
/// // Waits for the first neighbour by itself.
/// leaf.send(hub.id(), &"hello")?;
/// while let Some(event) = events.next().await {
///     if let PeerEvent::Message { from, data } = event {
///         assert_eq!((from, data.get()), (leaf.id(), "\"hello\""));
///         break;
///     }
/// }
/// leaf.shutdown().await;
/// hub.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Peer {
    inner: Arc<Inner>,
    _end: Arc<DropGuard>,
}

/// What the tasks of a peer share. They hold no [`Peer`], so that the last one can be dropped.
pub(crate) struct Inner {
    own: PeerId,
    local: Option<SocketAddr>,
    max_message_bytes: usize,
    max_channels_per_address: usize,
    addresses: Addresses,
    policy: DialPolicy,
    membership: Mutex<Membership<Channel>>,
    links: LinkSet,
    permits: Arc<Semaphore>,
    admits: Option<Admits>,
    metrics: Metrics,
    events: EventSender,
    dialer: Dialer,
    #[cfg(feature = "webrtc")]
    webrtc: Option<WebRtc>,
    /// Cancelled when nobody is let in or dialed any more.
    leaving: CancellationToken,
    /// Cancelled when every channel ends at once.
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What came of sending.
#[derive(Default)]
pub(crate) struct Performed {
    /// Whether a channel took something.
    is_sent: bool,
    /// Whether a queue is getting full.
    is_half_full: bool,
}

/// The permit for one channel; released by drop. Channels to bootstrap peers need none.
#[derive(Debug)]
pub struct ChannelPermit(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A peer was to be connected that must not be dialed.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the policy is to dial bootstrap peers only")]
pub struct DialingNotAllowed;

impl Peer {
    /// Starts a peer of its own.
    ///
    /// # Errors
    /// If the address cannot be listened on, or WebRTC is asked for and not to be had.
    pub async fn start(settings: PeerSettings) -> io::Result<Self> {
        let links = LinkSet::new(settings.limits, usize::MAX);
        Self::start_with(settings, links, Metrics::default()).await
    }

    /// Starts a peer whose channels are among these links, and are counted in these metrics.
    ///
    /// # Errors
    /// If the address cannot be listened on, or WebRTC is asked for and not to be had.
    pub async fn start_with(
        settings: PeerSettings,
        links: LinkSet,
        metrics: Metrics,
    ) -> io::Result<Self> {
        if settings.webrtc.is_some() && cfg!(not(feature = "webrtc")) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no WebRTC"));
        }
        let listener = match settings.listen {
            Some(address) => Some(tokio::net::TcpListener::bind(address).await?),
            None => None,
        };
        let local = listener.as_ref().map(|listener| listener.local_addr()).transpose()?;
        let own = settings.id.unwrap_or_else(|| PeerId::random(&mut rand::rng()));
        let max_message_bytes =
            settings.max_message_bytes.clamp(PeerSettings::MIN_MESSAGE_BYTES, MAX_MESSAGE_BYTES);
        let rules = Rules {
            reachable: Reachable {
                ws: settings.public_url(local),
                wrtc: settings.webrtc.is_some(),
            },
            dials_unknown_peers: settings.dial == DialPolicy::Any,
            max_data_bytes: max_message_bytes - MAX_OVERHEAD_BYTES,
        };
        let membership = Membership::new(own, rules, Instant::now(), rand::random());
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            own,
            local,
            max_message_bytes,
            max_channels_per_address: settings.max_channels_per_address(),
            addresses: Addresses::default(),
            policy: settings.dial,
            membership: Mutex::new(membership),
            dialer: Dialer::new(links.clone()),
            #[cfg(feature = "webrtc")]
            webrtc: settings
                .webrtc
                .map(|address| WebRtc::new(address, settings.limits))
                .transpose()?,
            links,
            permits: Arc::new(Semaphore::new(settings.max_channels.min(Semaphore::MAX_PERMITS))),
            admits: settings.admits,
            metrics,
            events: EventSender::default(),
            leaving: stop.child_token(),
            stop: stop.clone(),
            tasks: TaskTracker::new(),
        });
        inner.tasks.spawn(tick(inner.clone()));
        if let Some(listener) = listener {
            inner.tasks.spawn(listener::run(inner.clone(), listener));
        }
        for url in settings.bootstrap {
            inner.tasks.spawn(bootstrap::keep_connected(inner.clone(), url));
        }
        Ok(Self { inner, _end: Arc::new(stop.drop_guard()) })
    }

    /// The ID of this peer.
    pub fn id(&self) -> PeerId {
        self.inner.own
    }

    /// The address that the peer itself listens on, if it does.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local
    }

    /// The peers that there is a channel to, sorted.
    pub fn neighbours(&self) -> Vec<PeerId> {
        self.inner.membership().router().neighbours().iter().map(|(id, _)| *id).collect()
    }

    /// Looks for a direct channel to a peer: asks it, through the network, for its URL, and dials
    /// that. Nothing tells if that fails; [`PeerEvent::Connected`] tells that it succeeded.
    ///
    /// # Errors
    /// If the policy does not allow it.
    pub fn connect(&self, id: PeerId) -> Result<(), DialingNotAllowed> {
        if self.inner.policy == DialPolicy::Bootstrap {
            return Err(DialingNotAllowed);
        }
        let actions = self.inner.membership().connect(Instant::now(), id);
        self.inner.perform(actions);
        Ok(())
    }

    /// Closes the channel to a peer, after what is queued on it. Returns whether there was one. A
    /// bootstrap peer is dialed again later.
    pub fn disconnect(&self, id: &PeerId) -> bool {
        let channel = self.inner.membership().router().neighbours().get(id).cloned();
        channel.inspect(|channel| channel.close(CloseReason::Kicked)).is_some()
    }

    /// What happens from now on. Several readers get all of it each.
    pub fn events(&self) -> Events {
        Events::new(self.inner.events.subscribe(), self.inner.stop.clone())
    }

    /// Reserves one more channel, unless there are too many, there is no memory for it, or the peer is
    /// leaving.
    pub fn reserve(&self) -> Option<ChannelPermit> {
        if self.inner.leaving.is_cancelled() { None } else { self.inner.reserve() }
    }

    /// Takes over a connection that was upgraded to a WebSocket by the program's own HTTP server.
    pub fn accept<S: Socket + Send + 'static>(&self, link: Link<S>, permit: ChannelPermit) {
        let inner = self.inner.clone();
        self.inner.tasks.spawn(async move {
            let _permit = permit;
            let handle = link.handle();
            handle.admit();
            let config = Some(channel::config(inner.max_message_bytes));
            let socket = WebSocketStream::from_raw_socket(link, Role::Server, config).await;
            inner.run(socket, handle, None).await
        });
    }

    /// Accepts and dials nobody any more, and closes all channels after what is queued.
    pub fn leave(&self) {
        self.inner.leaving.cancel();
        let channels: Vec<_> =
            self.inner.membership().router().neighbours().iter().map(|(_, c)| c.clone()).collect();
        for channel in channels {
            channel.close(CloseReason::Draining);
        }
    }

    /// Ends the peer: what is queued is written, then the channels are closed.
    pub async fn shutdown(self) {
        self.leave();
        self.inner.tasks.close();
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.inner.tasks.wait()).await;
        self.inner.stop.cancel();
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.inner.tasks.wait()).await;
    }
}

impl Inner {
    fn is_neighbour(&self, id: &PeerId) -> bool {
        self.membership().router().neighbours().get(id).is_some()
    }

    fn reserve(&self) -> Option<ChannelPermit> {
        if self.admits.as_ref().is_some_and(|admits| !admits()) {
            return None;
        }
        self.permits.clone().try_acquire_owned().ok().map(ChannelPermit)
    }

    fn membership(&self) -> MutexGuard<'_, Membership<Channel>> {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what was decided.
    fn perform(self: &Arc<Self>, actions: Vec<Action<Channel>>) -> Performed {
        let mut performed = Performed::default();
        for action in actions {
            match action {
                Action::Send(channels, message) => {
                    let frame = Utf8Bytes::from(message.to_frame());
                    for channel in channels {
                        let outcome = channel.send(frame.clone());
                        self.metrics.message(outcome);
                        performed.is_sent |= outcome == Outcome::Relayed;
                        performed.is_half_full |= channel.is_half_full();
                    }
                }
                Action::Deliver(from, data) => {
                    let data = data.into();
                    self.events.send(PeerEvent::Message { from, data });
                }
                Action::Dial(id, url) => self.dial_unknown_peer(id, &url),
                #[cfg(feature = "webrtc")]
                Action::Call(id) => self.call(id),
                #[cfg(feature = "webrtc")]
                Action::Signal(id, signal) => self.take_signal(id, signal),
                // Does not happen: a peer without WebRTC says so to the others.
                #[cfg(not(feature = "webrtc"))]
                Action::Call(id) | Action::Signal(id, _) => {
                    self.membership().unreachable(Instant::now(), id);
                }
                Action::Count(outcome) => self.metrics.message(outcome),
            }
        }
        performed
    }
}

async fn tick(inner: Arc<Inner>) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = inner.leaving.cancelled() => return,
        }
        let actions = inner.membership().tick(Instant::now());
        inner.perform(actions);
    }
}
