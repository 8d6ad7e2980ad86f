//! Channels that are WebRTC data channels, negotiated as the npm package `simple-peer` does it:
//! both sides send their description in `signal` messages through the network.
//!
//! This side is what ICE (RFC 8445, 2.5) calls a lite agent: it has one address, which it tells,
//! and answers whoever comes there with the right password. It asks no address that another peer
//! names, be it in a private network, and needs to resolve none of the mDNS names that browsers
//! tell instead of theirs. Of a description only what [`description`] lets through is used.
//!
//! - `description`: what one side says of itself.
//! - `connection`: the protocols, without I/O.
//! - `socket`: one connection's UDP socket, and which datagrams pass.
//! - `channel`: from the first signal to the end of the channel.

mod channel;
mod connection;
mod description;
mod socket;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::id::PeerId;
use super::message::{self, Signal};
use super::peer::{Inner, Seat};
use connection::Identity;
use description::Description;
use link::LinkLimits;

/// How many channels may be negotiated at a time.
const MAX_NEGOTIATIONS: usize = 64;

/// What the WebRTC channels of one peer share.
pub(super) struct WebRtc {
    address: IpAddr,
    identity: Identity,
    write_timeout: Duration,
    negotiations: Arc<Semaphore>,
    /// Those that wait for the other side's answer.
    awaited: Mutex<HashMap<PeerId, oneshot::Sender<Description>>>,
}

/// What a negotiation holds until it is over.
struct Negotiation {
    id: PeerId,
    seat: Seat,
    permit: OwnedSemaphorePermit,
}

impl WebRtc {
    /// # Errors
    /// If there is no certificate to be had.
    pub(super) fn new(address: IpAddr, limits: LinkLimits) -> io::Result<Self> {
        Ok(Self {
            address,
            identity: Identity::generate().map_err(io::Error::other)?,
            write_timeout: limits.write_timeout,
            negotiations: Arc::new(Semaphore::new(MAX_NEGOTIATIONS)),
            awaited: Mutex::default(),
        })
    }

    fn begin(&self, inner: &Inner, id: PeerId) -> Option<Negotiation> {
        let permit = self.negotiations.clone().try_acquire_owned().ok()?;
        Some(Negotiation { id, seat: inner.seat()?, permit })
    }

    fn awaited(&self) -> std::sync::MutexGuard<'_, HashMap<PeerId, oneshot::Sender<Description>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Begins to negotiate a channel.
    pub(super) fn call(self: &Arc<Self>, id: PeerId) {
        self.negotiate(id, None);
    }

    /// Goes on negotiating a channel.
    pub(super) fn take_signal(self: &Arc<Self>, id: PeerId, signal: Signal) {
        let Some(webrtc) = self.webrtc() else { return };
        match signal {
            Signal::Offer(sdp) => match Description::parse(&sdp) {
                Ok(offer) => self.negotiate(id, Some(offer)),
                Err(_) => self.membership().unreachable(Instant::now(), id),
            },
            Signal::Answer(sdp) => {
                let awaited = webrtc.awaited().remove(&id);
                // What cannot be read ends the wait too.
                if let (Some(awaited), Ok(answer)) = (awaited, Description::parse(&sdp)) {
                    // Fails if the wait is over.
                    let _ = awaited.send(answer);
                }
            }
            Signal::Other => {}
        }
    }

    fn negotiate(self: &Arc<Self>, id: PeerId, offer: Option<Description>) {
        let Some(negotiation) = self.webrtc().and_then(|webrtc| webrtc.begin(self, id)) else {
            return self.membership().unreachable(Instant::now(), id);
        };
        let inner = self.clone();
        // Boxed by the spawn: it is large, and lives as long as the channel.
        self.spawn(async move { channel::run(&inner, negotiation, offer).await });
    }

    fn send_signal(self: &Arc<Self>, to: PeerId, kind: &'static str, sdp: &str) {
        let data = message::signal(kind, sdp);
        let actions = self.membership().send_signal(Instant::now(), to, data);
        self.perform(actions);
    }
}
