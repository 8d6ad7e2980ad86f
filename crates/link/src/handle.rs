//! The state of a link that its stream and all handles share.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::CloseReason;
use crate::outbox::Outbox;

/// The shortest time between two pings of liveness probes. Unadmitted clients cause probes: a
/// request for an ID makes its holder prove that it is alive.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// The limits of every link.
#[derive(Debug, Clone, Copy)]
pub struct LinkLimits {
    /// The longest time that a byte may wait for the peer to read.
    pub write_timeout: Duration,
    /// The longest time from the first byte of an incoming message to its last.
    pub message_timeout: Duration,
    /// How many bytes may wait to be written before events are refused. The event that reaches the
    /// limit is still queued.
    pub max_queued_bytes: usize,
    /// How many messages are read of the peer in a second, on average; `None` for any number.
    pub max_messages_per_second: Option<NonZeroU32>,
    /// How many bytes of messages are read of the peer in a second, on average; `None` for any
    /// number.
    pub max_bytes_per_second: Option<NonZeroU32>,
}

/// A cheap handle to a link. It does not keep the connection open.
#[derive(Clone)]
pub struct LinkHandle(pub(crate) Arc<Shared>);

/// What the stream and the handles share.
pub(crate) struct Shared {
    remote_addr: Mutex<SocketAddr>,
    pub(crate) limits: Arc<LinkLimits>,
    phase: AtomicU8,
    gate: AtomicU8,
    pub(crate) is_upgraded: AtomicBool,
    pub(crate) outbox: Outbox,
    /// Bytes of frames that wait to be written.
    pub(crate) queued_bytes: AtomicUsize,
    /// Bytes of permits: others write them.
    pub(crate) reserved_bytes: AtomicUsize,
    pub(crate) queued_ack_bytes: AtomicUsize,
    pub(crate) pending_events: AtomicUsize,
    pub(crate) pending_event_bytes: AtomicUsize,
    /// Bytes that were read and wait for the rest of their message, or for being passed on.
    pub(crate) incoming_bytes: AtomicUsize,
    /// Too much memory is in use, and this link is one of those that hold most.
    is_paused_for_memory: AtomicBool,
    /// The peer has sent as much as it may in a second.
    pub(crate) is_rate_limited: AtomicBool,
    /// Messages to be counted in addition to those that come.
    pub(crate) charged_messages: AtomicU64,
    /// Wakes the task that reads.
    pub(crate) reader: AtomicWaker,
    /// Wakes the task whose write waits for the peer.
    pub(crate) writer: AtomicWaker,
    pub(crate) ping_due: AtomicBool,
    last_ping: Mutex<Option<LastPing>>,
    /// How many liveness probes wait for a reply.
    probes: AtomicU32,
    /// Notified when the phase changes, and while probes wait when bytes come.
    activity: Notify,
    bytes_read: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    end: Mutex<End>,
}

/// The last ping of a liveness probe.
#[derive(Clone, Copy)]
struct LastPing {
    at: Instant,
    /// What had been read of the peer by then, in bytes.
    bytes_read: u64,
}

#[derive(Default)]
struct End {
    reason: Option<CloseReason>,
    on_close: Option<OnClose>,
}

type OnClose = Box<dyn FnOnce(CloseReason) + Send>;

/// How far a link is on its way to its end. Only ever grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Open = 0,
    /// Nothing is read any more; what is queued is written, then the reader sees the end.
    Closing = 1,
    /// Every read and write fails.
    Dead = 2,
}

/// What happens to the bytes behind a node's CONNECT packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Hold = 0,
    Open = 1,
    /// They are discarded: the node was refused.
    Discard = 2,
}

impl LinkHandle {
    pub(crate) fn new(remote_addr: SocketAddr, limits: Arc<LinkLimits>) -> Self {
        Self(Arc::new(Shared {
            remote_addr: Mutex::new(remote_addr),
            limits,
            phase: AtomicU8::new(Phase::Open as u8),
            gate: AtomicU8::new(Gate::Hold as u8),
            is_upgraded: AtomicBool::new(false),
            outbox: Outbox::new(),
            queued_bytes: AtomicUsize::new(0),
            reserved_bytes: AtomicUsize::new(0),
            queued_ack_bytes: AtomicUsize::new(0),
            pending_events: AtomicUsize::new(0),
            pending_event_bytes: AtomicUsize::new(0),
            incoming_bytes: AtomicUsize::new(0),
            is_paused_for_memory: AtomicBool::new(false),
            is_rate_limited: AtomicBool::new(false),
            charged_messages: AtomicU64::new(0),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            ping_due: AtomicBool::new(false),
            last_ping: Mutex::default(),
            probes: AtomicU32::new(0),
            activity: Notify::new(),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            end: Mutex::default(),
        }))
    }

    /// The address of the peer: that of its socket, unless something else is known.
    pub fn remote_addr(&self) -> SocketAddr {
        *self.0.remote_addr.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the address of the peer, if the socket's is that of a proxy.
    pub fn set_remote_addr(&self, remote_addr: SocketAddr) {
        *self.0.remote_addr.lock().unwrap_or_else(PoisonError::into_inner) = remote_addr;
    }

    /// Returns the bytes read from and written to the peer so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.0.bytes_read.load(Ordering::Relaxed), self.0.bytes_written.load(Ordering::Relaxed))
    }

    /// Calls `on_close` as soon as the connection ends, whatever ends it; at once if it has ended.
    /// There is one such call: a second one replaces the first, which is dropped.
    pub fn on_close(&self, on_close: impl FnOnce(CloseReason) + Send + 'static) {
        let mut end = self.0.end.lock().unwrap_or_else(PoisonError::into_inner);
        match end.reason {
            None => {
                let replaced = end.on_close.replace(Box::new(on_close));
                drop(end);
                drop(replaced);
            }
            Some(reason) => {
                drop(end);
                on_close(reason);
            }
        }
    }

    /// Returns how many bytes are held for the connection: unwritten, pending, unfinished.
    pub(crate) fn held_bytes(&self) -> usize {
        let shared = &*self.0;
        shared.waiting_bytes()
            + shared.pending_event_bytes.load(Ordering::Relaxed)
            + shared.incoming_bytes.load(Ordering::Relaxed)
    }

    /// Pauses or resumes reading to save memory. Returns whether that changed anything.
    pub(crate) fn pause_for_memory(&self, pauses: bool) -> bool {
        let is_changed = self.0.is_paused_for_memory.swap(pauses, Ordering::AcqRel) != pauses;
        if is_changed && !pauses {
            self.0.reader.wake();
        }
        is_changed
    }

    /// Ends the connection for the rest of the program now, and its transport as soon as what is
    /// queued has been written. The peer sees its connection close and nothing more, so it
    /// reconnects.
    pub fn close(&self, reason: CloseReason) {
        self.0.finish(Phase::Closing, reason);
    }

    /// Ends the connection now; what is queued is lost.
    pub fn kill(&self, reason: CloseReason) {
        self.0.finish(Phase::Dead, reason);
    }

    /// Whether the link carries WebSocket frames, and HTTP no more.
    pub fn is_upgraded(&self) -> bool {
        self.0.is_upgraded.load(Ordering::SeqCst)
    }

    /// Whether the connection has ended or is about to.
    pub fn is_closed(&self) -> bool {
        self.0.phase() > Phase::Open
    }

    /// Returns why the connection ended, once it has or is about to.
    pub fn reason(&self) -> Option<CloseReason> {
        self.0.end.lock().unwrap_or_else(PoisonError::into_inner).reason
    }

    /// Passes on what follows the node's CONNECT packet.
    pub fn admit(&self) {
        self.set_gate(Gate::Open);
    }

    /// Discards what follows the node's CONNECT packet.
    pub fn refuse(&self) {
        self.set_gate(Gate::Discard);
    }

    fn set_gate(&self, gate: Gate) {
        self.0.gate.store(gate as u8, Ordering::Release);
        self.0.reader.wake();
    }

    /// Checks that the peer is alive: a WebSocket ping goes out between two frames, and any
    /// byte read afterwards is the reply (RFC 6455, 5.5.2: an endpoint must answer a ping).
    /// Returns whether it came within `timeout` of the ping. There is one ping in a
    /// second, however many ask: they share its reply.
    pub async fn probe(&self, timeout: Duration) -> bool {
        let shared = &*self.0;
        let _probe = Probe::begin(shared);
        let LastPing { at, bytes_read } = self.ping();
        let reply = async {
            loop {
                let activity = shared.activity.notified();
                if self.is_closed() {
                    return false;
                }
                if shared.bytes_read.load(Ordering::Acquire) != bytes_read {
                    return true;
                }
                activity.await;
            }
        };
        tokio::time::timeout_at(at + timeout, reply).await.unwrap_or(false)
    }

    /// Sends a ping unless there was one a moment ago. Returns the last one.
    fn ping(&self) -> LastPing {
        let shared = &*self.0;
        let mut last_ping = shared.last_ping.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(last) = last_ping.filter(|last| now.duration_since(last.at) < PING_INTERVAL) {
            return last;
        }
        let bytes_read = shared.bytes_read.load(Ordering::Acquire);
        let ping = *last_ping.insert(LastPing { at: now, bytes_read });
        drop(last_ping);
        shared.ping_due.store(true, Ordering::Release);
        shared.reader.wake();
        ping
    }

    /// Counts bytes that were received by other means than a stream.
    pub fn record_received(&self, bytes: usize) {
        self.0.record_received(bytes);
    }

    /// Resolves when the connection has ended or is about to.
    pub async fn closed(&self) {
        loop {
            let activity = self.0.activity.notified();
            if self.is_closed() {
                return;
            }
            activity.await;
        }
    }
}

impl fmt::Debug for LinkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkHandle")
            .field("remote_addr", &self.remote_addr())
            .field("is_closed", &self.is_closed())
            .finish()
    }
}

impl Shared {
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Open,
            1 => Phase::Closing,
            _ => Phase::Dead,
        }
    }

    pub(crate) fn gate(&self) -> Gate {
        match self.gate.load(Ordering::Acquire) {
            0 => Gate::Hold,
            1 => Gate::Open,
            _ => Gate::Discard,
        }
    }

    /// Moves on to `phase` for `reason`; the first reason counts. What is attached to the link ends
    /// here and not when the transport notices, which may be much later.
    pub(crate) fn finish(&self, phase: Phase, reason: CloseReason) {
        let on_close = {
            let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
            self.phase.fetch_max(phase as u8, Ordering::SeqCst);
            let reason = *end.reason.get_or_insert(reason);
            end.on_close.take().map(|on_close| (on_close, reason))
        };
        // Outside of the lock: what is attached takes locks of its own.
        if let Some((on_close, reason)) = on_close {
            on_close(reason);
        }
        self.reader.wake();
        self.writer.wake();
        self.activity.notify_waiters();
    }

    pub(crate) fn is_paused_for_memory(&self) -> bool {
        self.is_paused_for_memory.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closed_by_peer(&self) -> bool {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.reason == Some(CloseReason::PeerClosed)
    }

    /// Whether the end was one after which nothing must stay in the kernel's buffers.
    pub(crate) fn is_abortive(&self) -> bool {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(
            end.reason,
            Some(
                CloseReason::WriteTimeout
                    | CloseReason::MessageTimeout
                    | CloseReason::Replaced
                    | CloseReason::LeaseLost
                    | CloseReason::ProtocolViolation
                    | CloseReason::Overflow
            )
        )
    }

    pub(crate) fn record_received(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::AcqRel);
        if self.probes.load(Ordering::Acquire) > 0 {
            self.activity.notify_waiters();
        }
    }
}

/// Counts a liveness probe until it is dropped, even if its caller has gone.
struct Probe<'a>(&'a Shared);

impl<'a> Probe<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.probes.fetch_add(1, Ordering::AcqRel);
        Self(shared)
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.probes.fetch_sub(1, Ordering::AcqRel);
    }
}
