//! One client's TCP connection as the broker sees it.
//!
//! Socket.IO's transport knows how to move packets, but not how to notice a peer that stopped
//! reading, how to ask whether a silent one is alive, or how to end a connection for certain.
//! That is done here, below HTTP and WebSocket: a [`Link`] is the stream that they read and
//! write, and a [`LinkHandle`] is what the rest of the broker holds of it.
//!
//! - [`LinkHandle::kill`] and [`LinkHandle::close`] end it at once or after what is queued.
//! - [`LinkHandle::on_close`] hangs something on it (the node's lease) that must end with it.
//! - [`LinkHandle::probe`] asks the peer for a sign of life.
//! - A write that makes no progress for [`LinkLimits::write_timeout`] ends it.
//! - [`LinkHandle::reserve`] bounds what may wait to be written; the stream gives the room back
//!   when the bytes have left.
//! - Long messages do not pass through the transport as a whole, whose buffers would keep their
//!   size: incoming ones come to it in pieces, outgoing ones go past it, with
//!   [`LinkHandle::send_parcel`].
//! - Bytes behind a node's CONNECT packet are held back until [`LinkHandle::admit`], because the
//!   transport would take them for a protocol error while it is still connecting the node.

mod close_reason;
mod closing;
mod frames;
mod incoming;
mod parcels;
mod pieces;
mod room;
mod set;
mod stream;

pub use close_reason::CloseReason;
pub use parcels::{PARCEL_BYTES, STAND_IN_EVENT};
pub use pieces::MAX_MESSAGE_BYTES;
pub use room::{NoRoom, PACKET_OVERHEAD_BYTES};
pub use set::{BareLink, LinkSet};
pub use stream::Link;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use parcels::Parcels;

/// The limits of every link.
#[derive(Debug, Clone, Copy)]
pub struct LinkLimits {
    /// The longest time that a write may wait for the peer to read.
    pub write_timeout: Duration,
    /// The most that may wait to be written, in bytes; one more packet is taken below it.
    pub max_queued_bytes: usize,
}

/// A cheap handle on a link; it does not keep the connection open.
#[derive(Clone)]
pub struct LinkHandle(Arc<Shared>);

/// What the stream and the handles share.
struct Shared {
    peer: SocketAddr,
    limits: LinkLimits,
    phase: AtomicU8,
    gate: AtomicU8,
    upgraded: AtomicBool,
    ping_due: AtomicBool,
    probing: AtomicU32,
    heard: Notify,
    reader: AtomicWaker,
    writer: AtomicWaker,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    queued_bytes: AtomicUsize,
    queued_acks: AtomicUsize,
    waiting_events: AtomicUsize,
    parcels: Parcels,
    end: Mutex<End>,
}

#[derive(Default)]
struct End {
    reason: Option<CloseReason>,
    on_close: Option<OnClose>,
}

type OnClose = Box<dyn FnOnce(CloseReason) + Send>;

/// How far a link is on its way to its end. Only ever grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open = 0,
    /// Nothing is read any more; what is queued is written, then the reader sees the end.
    Closing = 1,
    /// Every read and write fails.
    Dead = 2,
}

/// What happens to the bytes behind a node's CONNECT packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Hold = 0,
    Open = 1,
    /// They are thrown away: the node was refused.
    Discard = 2,
}

impl LinkHandle {
    fn new(peer: SocketAddr, limits: LinkLimits) -> Self {
        Self(Arc::new(Shared {
            peer,
            limits,
            phase: AtomicU8::new(Phase::Open as u8),
            gate: AtomicU8::new(Gate::Hold as u8),
            upgraded: AtomicBool::new(false),
            ping_due: AtomicBool::new(false),
            probing: AtomicU32::new(0),
            heard: Notify::new(),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            queued_bytes: AtomicUsize::new(0),
            queued_acks: AtomicUsize::new(0),
            waiting_events: AtomicUsize::new(0),
            parcels: Parcels::default(),
            end: Mutex::default(),
        }))
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Bytes read from and written to the peer so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.0.bytes_read.load(Ordering::Relaxed), self.0.bytes_written.load(Ordering::Relaxed))
    }

    /// Calls `end` as soon as the connection ends, whatever ends it; at once if it has ended.
    /// There is one such call: a second one replaces the first, which is dropped.
    pub fn on_close(&self, end: impl FnOnce(CloseReason) + Send + 'static) {
        let mut state = self.0.end.lock().unwrap_or_else(PoisonError::into_inner);
        match state.reason {
            None => {
                let replaced = state.on_close.replace(Box::new(end));
                drop(state);
                drop(replaced);
            }
            Some(reason) => {
                drop(state);
                end(reason);
            }
        }
    }

    /// Ends the connection for the rest of the broker now, and its transport as soon as what is
    /// queued has been written. The peer sees its connection close, and nothing more, so it
    /// comes back by itself.
    pub fn close(&self, reason: CloseReason) {
        self.0.finish(Phase::Closing, reason);
    }

    /// Ends the connection now; what is queued is lost.
    pub fn kill(&self, reason: CloseReason) {
        self.0.finish(Phase::Dead, reason);
    }

    /// Whether the link carries WebSocket frames, and HTTP no more.
    pub fn is_upgraded(&self) -> bool {
        self.0.upgraded.load(Ordering::SeqCst)
    }

    /// Whether the connection has ended or is about to.
    pub fn is_over(&self) -> bool {
        self.0.phase() > Phase::Open
    }

    /// Why the connection ended, once it has or is about to.
    pub fn reason(&self) -> Option<CloseReason> {
        self.0.end.lock().unwrap_or_else(PoisonError::into_inner).reason
    }

    /// Lets through what stands behind the node's CONNECT packet.
    pub fn admit(&self) {
        self.set_gate(Gate::Open);
    }

    /// Throws away what stands behind the node's CONNECT packet.
    pub fn refuse(&self) {
        self.set_gate(Gate::Discard);
    }

    fn set_gate(&self, gate: Gate) {
        self.0.gate.store(gate as u8, Ordering::Release);
        self.0.reader.wake();
    }

    /// Asks the peer for a sign of life: a WebSocket ping goes out between two frames, and any
    /// byte read afterwards is the answer (RFC 6455, 5.5.2: an endpoint must answer a ping).
    /// Returns whether it came within `patience`.
    pub async fn probe(&self, patience: Duration) -> bool {
        let shared = &*self.0;
        let before = shared.bytes_read.load(Ordering::Acquire);
        let _probing = Probing::begin(shared);
        shared.ping_due.store(true, Ordering::Release);
        shared.reader.wake();
        let answer = async {
            loop {
                let heard = shared.heard.notified();
                if self.is_over() {
                    return false;
                }
                if shared.bytes_read.load(Ordering::Acquire) != before {
                    return true;
                }
                heard.await;
            }
        };
        tokio::time::timeout(patience, answer).await.unwrap_or(false)
    }

    /// Counts bytes that came by other ways than a stream.
    pub fn came(&self, bytes: usize) {
        self.0.heard(bytes);
    }

    /// Resolves when the connection has ended or is about to.
    pub async fn over(&self) {
        loop {
            let changed = self.0.heard.notified();
            if self.is_over() {
                return;
            }
            changed.await;
        }
    }
}

impl fmt::Debug for LinkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkHandle")
            .field("peer", &self.0.peer)
            .field("over", &self.is_over())
            .finish()
    }
}

impl Shared {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Open,
            1 => Phase::Closing,
            _ => Phase::Dead,
        }
    }

    fn gate(&self) -> Gate {
        match self.gate.load(Ordering::Acquire) {
            0 => Gate::Hold,
            1 => Gate::Open,
            _ => Gate::Discard,
        }
    }

    /// Moves on to `phase` for `reason`; the first reason counts. What hangs on the link ends
    /// here and not when the transport notices, which may be much later.
    fn finish(&self, phase: Phase, reason: CloseReason) {
        let on_close = {
            let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
            self.phase.fetch_max(phase as u8, Ordering::SeqCst);
            let reason = *end.reason.get_or_insert(reason);
            end.on_close.take().map(|on_close| (on_close, reason))
        };
        // Outside of the lock: what hangs here takes locks of its own.
        if let Some((on_close, reason)) = on_close {
            on_close(reason);
        }
        self.reader.wake();
        self.writer.wake();
        self.heard.notify_waiters();
    }

    fn is_closed_by_peer(&self) -> bool {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.reason == Some(CloseReason::PeerClosed)
    }

    /// Whether the end was one after which nothing must linger in the kernel's buffers.
    fn is_abortive(&self) -> bool {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(
            end.reason,
            Some(
                CloseReason::WriteTimeout
                    | CloseReason::Replaced
                    | CloseReason::LeaseLost
                    | CloseReason::Overflow
            )
        )
    }

    /// A node that says goodbye has left, although the transport will know only later: with a full
    /// queue, much later.
    fn note_incoming(&self, is_goodbye: bool) {
        if is_goodbye {
            self.finish(Phase::Closing, CloseReason::NodeLeft);
        }
    }

    fn heard(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::AcqRel);
        if self.probing.load(Ordering::Acquire) > 0 {
            self.heard.notify_waiters();
        }
    }
}

/// Counts those who wait for a sign of life, also if they stop waiting.
struct Probing<'a>(&'a Shared);

impl<'a> Probing<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.probing.fetch_add(1, Ordering::AcqRel);
        Self(shared)
    }
}

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        self.0.probing.fetch_sub(1, Ordering::AcqRel);
    }
}
