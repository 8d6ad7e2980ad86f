//! Which route a message goes. Pure: time is handed in, randomness is seeded, nothing is sent here.
//!
//! A message goes to the two neighbours closest to its receiver that it has not come by, and
//! first to the one that the receiver's own messages came by, if any did. Every peer does that
//! once for a message, which it knows by its nonce.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::value::RawValue;

use super::bucket::Buckets;
use super::id::PeerId;
use super::message::Message;
use super::outcome::Outcome;
use super::rotating_map::RotatingMap;

/// How many peers a message may have come by; a further peer drops it.
pub(crate) const MAX_HOPS: usize = 20;

/// To how many neighbours a message is passed on, beside the one that its receiver is known by.
const FAN_OUT: usize = 2;

/// How long a nonce is remembered at least. A message is on its way for seconds at most.
const NONCE_TTL: Duration = Duration::from_secs(60);

/// Of how many messages the nonce is remembered at least.
const MAX_NONCES: usize = 65_536;

/// How long it is remembered at least by whom a peer is reached.
const ROUTE_TTL: Duration = Duration::from_secs(10 * 60);

/// Of how many peers it is remembered at least by whom they are reached.
const MAX_ROUTES: usize = 16_384;

/// How many messages of one's own may wait for the first neighbour, and their most bytes.
const MAX_WAITING: usize = 256;
const MAX_WAITING_BYTES: usize = 1024 * 1024;

/// Nonces are decimal numbers below this, as the original's are.
const NONCES: u64 = 1_000_000_000_000_000;

/// The neighbours of one peer, each with a channel `C` to it, and what it remembers of messages.
#[derive(Debug)]
pub(crate) struct Router<C> {
    neighbours: Buckets<C>,
    /// Keyed hashes stand for nonces: these are strangers' texts.
    seen: RotatingMap<u64, ()>,
    hasher: RandomState,
    routes: RotatingMap<PeerId, PeerId>,
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
    max_data_bytes: usize,
    random: StdRng,
}

/// What becomes of a message.
#[derive(Debug)]
pub(crate) enum Route<C> {
    /// It is for this peer.
    Here(Message),
    /// It is to be sent on these channels, in this order.
    On(Vec<C>, Message),
    /// It waits for the first neighbour.
    Waits,
    /// It ends here.
    Ends(Outcome),
}

impl<C: Clone> Router<C> {
    /// The router of a peer without neighbours, for messages whose `data` has at most so many bytes.
    pub(crate) fn new(own: PeerId, max_data_bytes: usize, now: Instant, seed: [u8; 32]) -> Self {
        Self {
            neighbours: Buckets::new(own),
            seen: RotatingMap::new(now, NONCE_TTL, MAX_NONCES),
            hasher: RandomState::new(),
            routes: RotatingMap::new(now, ROUTE_TTL, MAX_ROUTES),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            max_data_bytes,
            random: StdRng::from_seed(seed),
        }
    }

    /// The ID of this peer.
    pub(crate) fn own(&self) -> &PeerId {
        self.neighbours.own()
    }

    /// The peers that there is a channel to.
    pub(crate) fn neighbours(&self) -> &Buckets<C> {
        &self.neighbours
    }

    /// A random one of these.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.random.random_range(0..from.len().max(1))).copied()
    }

    /// A random ID that has this many bits in common with the own one.
    pub(crate) fn random_in_bucket(&mut self, common: usize) -> PeerId {
        self.neighbours.own().random_in_bucket(common, &mut self.random)
    }

    /// Takes a peer for a neighbour, and gives the messages that waited for one.
    pub(crate) fn add(&mut self, id: PeerId, channel: C) -> Vec<Message> {
        self.neighbours.insert(id, channel);
        self.waiting_bytes = 0;
        self.waiting.drain(..).collect()
    }

    /// Takes a neighbour out.
    pub(crate) fn remove(&mut self, id: &PeerId) -> Option<C> {
        self.neighbours.remove(id)
    }

    /// The route of a message of this peer's own.
    pub(crate) fn send(&mut self, now: Instant, to: PeerId, data: Box<RawValue>) -> Route<C> {
        let nonce = self.random.random_range(0..NONCES).to_string();
        self.remember(now, &nonce);
        let from = *self.own();
        self.forward(now, Message { to, from, path: Vec::new(), nonce: nonce.into(), data })
    }

    /// The route of a message that came from the neighbour `by`.
    pub(crate) fn receive(&mut self, now: Instant, by: PeerId, message: Message) -> Route<C> {
        let is_of_neighbour = self.neighbours.get(&message.from).is_some();
        // Before its nonce is remembered: the copy on the neighbour's own channel may still come.
        if is_of_neighbour && message.to == *self.own() && message.from != by {
            return Route::Ends(Outcome::ForeignChannel);
        }
        if !self.remember(now, &message.nonce) {
            return Route::Ends(Outcome::Replayed);
        }
        if message.from == *self.own() {
            return Route::Ends(Outcome::OwnMessage);
        }
        let last = message.path.last().copied().unwrap_or(by);
        // A neighbour is reached directly; others cannot claim to know the way to it.
        if last != *self.own() && !is_of_neighbour {
            self.routes.insert(now, message.from, last);
        }
        if message.to == *self.own() {
            return Route::Here(message);
        }
        self.forward(now, message)
    }

    /// The route of a message that is for another peer.
    pub(crate) fn forward(&mut self, now: Instant, mut message: Message) -> Route<C> {
        if message.path.len() >= MAX_HOPS {
            return Route::Ends(Outcome::HopLimit);
        }
        if message.data.get().len() > self.max_data_bytes {
            return Route::Ends(Outcome::TooLong);
        }
        if self.neighbours.is_empty() {
            return self.wait(message);
        }
        message.path.push(*self.own());
        let channels = self.next_hops(now, &message);
        if channels.is_empty() {
            Route::Ends(Outcome::DeadEnd)
        } else {
            Route::On(channels, message)
        }
    }

    fn next_hops(&mut self, now: Instant, message: &Message) -> Vec<C> {
        let is_new = |id: &PeerId| !message.path.contains(id);
        // A neighbour needs no peer in between, which could only read along.
        if is_new(&message.to)
            && let Some(channel) = self.neighbours.get(&message.to)
        {
            return vec![channel.clone()];
        }
        let known_by = self.routes.get(now, &message.to);
        let preferred = known_by.and_then(|by| self.neighbours.closest(*by).next());
        let preferred = preferred.filter(|(id, _)| is_new(id));
        let closest = self.neighbours.closest(message.to).filter(|(id, _)| is_new(id));
        let closest: Vec<_> = closest.take(FAN_OUT).collect();
        let preferred = preferred.filter(|(id, _)| closest.iter().all(|(other, _)| other != id));
        preferred.into_iter().chain(closest).map(|(_, channel)| channel.clone()).collect()
    }

    fn wait(&mut self, message: Message) -> Route<C> {
        let bytes = message.data.get().len();
        if message.from != *self.own() {
            return Route::Ends(Outcome::DeadEnd);
        }
        if self.waiting.len() >= MAX_WAITING || self.waiting_bytes + bytes > MAX_WAITING_BYTES {
            return Route::Ends(Outcome::QueueFull);
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(message);
        Route::Waits
    }

    /// Returns whether the nonce is new.
    fn remember(&mut self, now: Instant, nonce: &str) -> bool {
        self.seen.insert(now, self.hasher.hash_one(nonce), ())
    }

    #[cfg(test)]
    fn remembered(&self) -> (usize, usize, usize) {
        (self.seen.len(), self.routes.len(), self.waiting.len())
    }
}

#[cfg(test)]
mod tests;
