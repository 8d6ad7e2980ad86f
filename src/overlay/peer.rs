//! A peer that runs: it owns the tables, the channels and their tasks.
//!
//! What to do is decided in `membership`, under a lock that is held for as long as that takes and
//! no longer; it is done here.

mod bootstrap;
mod dial;
mod events;
mod listener;
mod send;
mod settings;
mod webrtc;

pub use events::{Events, PeerEvent};
pub use send::SendError;
pub use settings::{DialPolicy, PeerSettings};

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::channel::{self, Channel};
use super::counters::Counters;
use super::fate::Fate;
use super::id::PeerId;
use super::membership::{Action, Closed, Membership, Opened, Rules};
use super::message::{Message, Reachable};
#[cfg(feature = "webrtc")]
use super::webrtc::WebRtc;
use crate::metrics::Metrics;
use crate::telemetry;
use dial::Dialer;
use link::{CloseReason, Link, LinkHandle, LinkSet};

/// The time between two looks at what has expired.
const TICK: Duration = Duration::from_secs(1);

/// How long the channels may take to write what is queued when the peer ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Events that wait for a reader; the oldest are lost above that, which the reader is told.
const MAX_EVENTS: usize = 1024;

/// A peer in a peer-relay network; a cheap handle. It ends with the last handle, at once, or
/// with [`Peer::shutdown`], in good order.
///
/// ```
/// use crolang_broker::overlay::{Peer, PeerEvent, PeerSettings};
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
pub(super) struct Inner {
    own: PeerId,
    local: Option<SocketAddr>,
    policy: DialPolicy,
    membership: Mutex<Membership<Channel>>,
    links: LinkSet,
    seats: Arc<Semaphore>,
    counters: Counters,
    events: broadcast::Sender<PeerEvent>,
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
pub(super) struct Performed {
    /// Whether a channel took something.
    is_sent: bool,
    /// Whether a queue is getting full.
    is_crowded: bool,
}

/// A place for a channel, which is given up when dropped. Strangers take the places; bootstrap
/// peers need none.
pub(crate) struct Seat(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

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
        Self::start_among(settings, links, &Metrics::new()).await
    }

    /// Starts a peer whose channels are among these links, and are counted in these metrics.
    ///
    /// # Errors
    /// If the address cannot be listened on, or WebRTC is asked for and not to be had.
    pub(crate) async fn start_among(
        settings: PeerSettings,
        links: LinkSet,
        metrics: &Metrics,
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
        let rules = Rules {
            reachable: Reachable {
                ws: settings.public_url(local),
                wrtc: settings.webrtc.is_some(),
            },
            dials_strangers: settings.dial == DialPolicy::Any,
        };
        let membership = Membership::new(own, rules, Instant::now(), rand::random());
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            own,
            local,
            policy: settings.dial,
            membership: Mutex::new(membership),
            dialer: Dialer::new(links.clone()),
            #[cfg(feature = "webrtc")]
            webrtc: settings
                .webrtc
                .map(|address| WebRtc::new(address, settings.limits))
                .transpose()?,
            links,
            seats: Arc::new(Semaphore::new(settings.max_channels.min(Semaphore::MAX_PERMITS))),
            counters: Counters::new(metrics),
            events: broadcast::Sender::new(MAX_EVENTS),
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

    /// A place for one more channel, if there is one.
    pub(crate) fn seat(&self) -> Option<Seat> {
        if self.inner.leaving.is_cancelled() { None } else { self.inner.seat() }
    }

    /// Takes over a link that was upgraded to a WebSocket.
    pub(crate) fn accept(&self, link: Link, seat: Seat) {
        let inner = self.inner.clone();
        self.inner.tasks.spawn(async move {
            let _seat = seat;
            let handle = link.handle();
            handle.admit();
            let config = Some(channel::socket_config());
            let socket = WebSocketStream::from_raw_socket(link, Role::Server, config).await;
            channel::run(&inner, socket, handle, None).await
        });
    }

    /// Lets nobody in any more, dials nobody, and closes all channels after what is queued.
    pub(crate) fn leave(&self) {
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
    pub(super) fn own(&self) -> PeerId {
        self.own
    }

    fn is_neighbour(&self, id: &PeerId) -> bool {
        self.membership().router().neighbours().get(id).is_some()
    }

    /// Resolves when this peer begins to leave.
    pub(super) async fn left(&self) {
        self.leaving.cancelled().await;
    }

    /// Resolves when every channel has to end at once.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    pub(super) fn seat(&self) -> Option<Seat> {
        self.seats.clone().try_acquire_owned().ok().map(Seat)
    }

    pub(super) fn membership(&self) -> MutexGuard<'_, Membership<Channel>> {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel's other side is known. Tells whether it is a second one, or `None` if it has to
    /// be closed.
    pub(super) fn open(self: &Arc<Self>, channel: &Channel) -> Option<bool> {
        let mut membership = self.membership();
        let holder = membership.router().neighbours().get(&channel.id()).cloned();
        let opened = membership.open(Instant::now(), channel.id(), channel.clone());
        drop(membership);
        // Does the first one live? If not, its end makes room for whoever comes again.
        if let Some(holder) = holder {
            holder.probe();
        }
        match opened {
            Opened::Neighbour(actions) => {
                self.counters.channel_opened();
                tracing::info!(target: telemetry::CONNECTIONS, peer = %channel.id(), "a peer connected");
                let _ = self.events.send(PeerEvent::Connected(channel.id()));
                self.perform(actions);
                Some(false)
            }
            Opened::Spare => Some(true),
            Opened::Refused => None,
        }
    }

    /// A channel has ended.
    pub(super) fn close(self: &Arc<Self>, channel: &Channel) {
        let closed = self.membership().close(Instant::now(), &channel.id(), channel);
        if let Closed::Gone(actions) = closed {
            self.counters.channel_gone();
            let _ = self.events.send(PeerEvent::Gone(channel.id()));
            self.perform(actions);
        }
    }

    /// The task of a channel, or of what never became one, has ended.
    pub(super) fn ended(&self, link: &LinkHandle, id: Option<PeerId>, reason: &'static str) {
        self.counters.channel_ended(reason);
        let id = id.map(tracing::field::display);
        tracing::info!(target: telemetry::CONNECTIONS, peer = id, address = %link.remote_addr(), reason, "a channel ended");
    }

    /// Whether this is the channel by which messages go to its peer.
    pub(super) fn is_in_table(&self, channel: &Channel) -> bool {
        self.membership().router().neighbours().get(&channel.id()) == Some(channel)
    }

    /// A message came. Returns whether its sender should pause.
    pub(super) fn receive(self: &Arc<Self>, channel: &Channel, message: Message) -> bool {
        let actions = self.membership().receive(Instant::now(), channel.id(), message);
        self.perform(actions).is_crowded
    }

    /// Does what was decided.
    pub(super) fn perform(self: &Arc<Self>, actions: Vec<Action<Channel>>) -> Performed {
        let mut performed = Performed::default();
        for action in actions {
            match action {
                Action::Send(channels, message) => {
                    let frame = Utf8Bytes::from(message.to_frame());
                    for channel in channels {
                        let fate = channel.send(frame.clone());
                        self.counters.message(fate);
                        performed.is_sent |= fate == Fate::Relayed;
                        performed.is_crowded |= channel.is_crowded();
                    }
                }
                Action::Deliver(from, data) => {
                    let data = data.into();
                    // Fails if nobody listens.
                    let _ = self.events.send(PeerEvent::Message { from, data });
                }
                Action::Dial(id, url) => self.dial_stranger(id, &url),
                Action::Call(id) => self.call(id),
                Action::Signal(id, signal) => self.take_signal(id, signal),
                Action::Count(fate) => self.counters.message(fate),
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
