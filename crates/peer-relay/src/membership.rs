//! One peer's part in the network: its router, the peers that it knows, and what it does about
//! them. Pure: it is told what happens, and tells what to do.

mod handshakes;
mod limits;

pub(crate) use limits::DialCounts;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::bucket::closest_of_both;
use super::id::PeerId;
use super::known_peers::{KnownPeers, Step};
use super::message::{self, Content, Message, Reachable, Signal};
use super::outcome::Outcome;
use super::router::{Route, Router};
use limits::Limits;

/// How many IDs an answer to `findPeers` has at most.
const MAX_FOUND: usize = 20;

/// How many neighbours a peer looks for.
pub(crate) const ENOUGH_NEIGHBOURS: usize = 15;

/// The time between two searches for neighbours while some are missing.
const SEARCH_INTERVAL: Duration = Duration::from_secs(15);

/// The time from a change among the neighbours to a search.
const SEARCH_AFTER_CHANGE: Duration = Duration::from_secs(1);

/// One peer, with channels `C`.
#[derive(Debug)]
pub(crate) struct Membership<C> {
    router: Router<C>,
    known: KnownPeers,
    /// Second channels of neighbours that the other side has to close, or that take over.
    duplicates: HashMap<PeerId, C>,
    limits: Limits,
    rules: Rules,
    search_at: Instant,
}

/// What a peer says of itself and allows itself.
#[derive(Debug)]
pub(crate) struct Rules {
    /// How others can reach it.
    pub(crate) reachable: Reachable,
    /// Whether it dials URLs that other peers send.
    pub(crate) dials_unknown_peers: bool,
    /// The longest `data` of a message that it sends or passes on, in bytes.
    pub(crate) max_data_bytes: usize,
}

impl Default for Rules {
    fn default() -> Self {
        let max_data_bytes = message::MAX_DATA_BYTES;
        Self { reachable: Reachable::default(), dials_unknown_peers: false, max_data_bytes }
    }
}

/// What there is to do.
#[derive(Debug)]
pub(crate) enum Action<C> {
    /// Send a message on each of these channels, in this order.
    Send(Vec<C>, Message),
    /// Give what a peer sent to the application.
    Deliver(PeerId, Box<RawValue>),
    /// Open a channel to this peer.
    Dial(PeerId, String),
    /// Begin to negotiate a WebRTC channel with this peer.
    Call(PeerId),
    /// Go on negotiating one.
    #[cfg_attr(not(feature = "webrtc"), allow(dead_code, reason = "nobody signals such a peer"))]
    Signal(PeerId, Signal),
    /// Count what became of a message.
    Count(Outcome),
}

/// What becomes of a new channel.
#[derive(Debug)]
pub(crate) enum Opened<C> {
    /// The peer is a neighbour now.
    Neighbour(Vec<Action<C>>),
    /// The peer is a neighbour already; it has to close one of the two channels.
    Duplicate,
    /// The channel has to be closed.
    Refused,
}

/// What the end of a channel means.
#[derive(Debug)]
pub(crate) enum Closed<C> {
    /// The peer is no neighbour any more.
    Gone(Vec<Action<C>>),
    /// It changes nothing.
    Unchanged,
}

impl<C: Clone + PartialEq> Membership<C> {
    /// A peer without neighbours.
    pub(crate) fn new(own: PeerId, rules: Rules, now: Instant, seed: [u8; 32]) -> Self {
        Self {
            router: Router::new(own, rules.max_data_bytes, now, seed),
            known: KnownPeers::new(own, now),
            duplicates: HashMap::new(),
            limits: Limits::new(now),
            rules,
            search_at: now,
        }
    }

    /// The router, to look at.
    pub(crate) fn router(&self) -> &Router<C> {
        &self.router
    }

    /// A channel to `id` is open.
    pub(crate) fn open(&mut self, now: Instant, id: PeerId, channel: C) -> Opened<C> {
        let own = *self.router.own();
        if id == own {
            return Opened::Refused;
        }
        if self.router.neighbours().get(&id).is_some() {
            // Both sides know both channels; the one with the smaller ID decides.
            if id >= own || self.duplicates.contains_key(&id) {
                return Opened::Refused;
            }
            self.duplicates.insert(id, channel);
            return Opened::Duplicate;
        }
        self.known.remove(&id);
        self.search_soon(now);
        let waited = self.router.add(id, channel);
        let mut actions = Vec::new();
        self.send(now, id, message::find_peers(&own), &mut actions);
        for message in waited {
            let route = self.router.forward(now, message);
            self.follow(route, &mut actions);
        }
        Opened::Neighbour(actions)
    }

    /// A channel to `id` has ended.
    pub(crate) fn close(&mut self, now: Instant, id: &PeerId, channel: &C) -> Closed<C> {
        if self.duplicates.get(id) == Some(channel) {
            self.duplicates.remove(id);
            return Closed::Unchanged;
        }
        if self.router.neighbours().get(id) != Some(channel) {
            return Closed::Unchanged;
        }
        if let Some(duplicate) = self.duplicates.remove(id) {
            // Nothing can wait here: there was a neighbour.
            self.router.add(*id, duplicate);
            return Closed::Unchanged;
        }
        self.router.remove(id);
        self.limits.remove(id);
        self.known.remove(id);
        self.search_soon(now);
        let mut actions = Vec::new();
        self.populate(now, &mut actions);
        Closed::Gone(actions)
    }

    /// A frame came from the neighbour `by`.
    pub(crate) fn receive(&mut self, now: Instant, by: PeerId, message: Message) -> Vec<Action<C>> {
        let mut actions = Vec::new();
        let bytes = message.frame_bytes();
        match self.router.receive(now, by, message) {
            Route::Here(message) => {
                if self.router.neighbours().get(&by).is_some() {
                    self.limits.record(by, bytes);
                }
                self.handle(now, by, message, &mut actions);
                actions.iter_mut().for_each(|action| self.limit_reply(&by, action));
            }
            route => self.follow(route, &mut actions),
        }
        actions
    }

    /// Drops a message that a neighbour's message would make this peer send, if those are too many:
    /// nobody else shall be flooded in this way.
    fn limit_reply(&mut self, neighbour: &PeerId, action: &mut Action<C>) {
        if let Action::Send(channels, message) = action
            && !self.limits.may_send(neighbour, channels.len() * message.frame_bytes())
        {
            *action = Action::Count(Outcome::ReplyLimit);
        }
    }

    /// The application sends something. What it sends to this peer itself comes back at once.
    pub(crate) fn send_user(
        &mut self,
        now: Instant,
        to: PeerId,
        data: &RawValue,
    ) -> Vec<Action<C>> {
        if to == *self.router.own() {
            return vec![Action::Deliver(to, data.to_owned()), Action::Count(Outcome::Delivered)];
        }
        let mut actions = Vec::new();
        self.send(now, to, message::user(data), &mut actions);
        actions
    }

    /// The application wants a channel to `id`.
    pub(crate) fn connect(&mut self, now: Instant, id: PeerId) -> Vec<Action<C>> {
        let mut actions = Vec::new();
        let is_in_progress = matches!(self.known.step(&id), Some(Step::Offered | Step::Dialing));
        let is_known = id == *self.router.own() || self.router.neighbours().get(&id).is_some();
        if !is_in_progress && !is_known {
            self.offer(now, id, &mut actions);
        }
        actions
    }

    /// A peer whose URL was dialed could not be reached at it.
    pub(crate) fn unreachable(&mut self, now: Instant, id: PeerId) {
        if self.known.step(&id) == Some(Step::Dialing) {
            self.known.mark_unreachable(now, id);
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Action<C>> {
        let mut actions = Vec::new();
        self.known.expire(now);
        if now >= self.search_at {
            self.search_at = now + SEARCH_INTERVAL;
            self.search(now, &mut actions);
        }
        actions
    }

    fn search_soon(&mut self, now: Instant) {
        self.search_at = self.search_at.min(now + SEARCH_AFTER_CHANGE);
    }

    /// Asks neighbours for others, since the network may have changed: one of them for peers close
    /// to this one, and one for peers of a bucket that is empty.
    fn search(&mut self, now: Instant, actions: &mut Vec<Action<C>>) {
        if !self.rules.dials_unknown_peers {
            return;
        }
        let own = *self.router.own();
        let neighbours: Vec<_> = self.router.neighbours().iter().map(|(id, _)| *id).collect();
        if neighbours.len() < ENOUGH_NEIGHBOURS
            && let Some(asked) = self.router.pick(&neighbours)
        {
            self.send(now, asked, message::find_peers(&own), actions);
        }
        let closest = self.router.neighbours().closest(own).next();
        let deepest = closest.map_or(0, |(id, _)| own.common_bits(id));
        let is_filled = |bucket| neighbours.iter().any(|id| own.common_bits(id) == bucket);
        let empty: Vec<_> = (0..deepest).filter(|bucket| !is_filled(*bucket)).collect();
        if let Some(bucket) = self.router.pick(&empty) {
            let target = self.router.random_in_bucket(bucket);
            let asked = self.router.neighbours().closest(target).next().map(|(id, _)| *id);
            if let Some(asked) = asked {
                self.send(now, asked, message::find_peers(&target), actions);
            }
        }
        self.populate(now, actions);
    }

    fn send(
        &mut self,
        now: Instant,
        to: PeerId,
        data: Box<RawValue>,
        actions: &mut Vec<Action<C>>,
    ) {
        let route = self.router.send(now, to, data);
        self.follow(route, actions);
    }

    fn follow(&mut self, route: Route<C>, actions: &mut Vec<Action<C>>) {
        match route {
            Route::On(channels, message) => actions.push(Action::Send(channels, message)),
            Route::Ends(outcome) => actions.push(Action::Count(outcome)),
            // Only what is received can be for this peer.
            Route::Here(_) | Route::Waits => {}
        }
    }

    /// Handles a message for this peer that came from the neighbour `by`.
    fn handle(&mut self, now: Instant, by: PeerId, message: Message, actions: &mut Vec<Action<C>>) {
        let from = message.from;
        let outcome = match Content::parse(&message.data) {
            Err(_) => Outcome::Malformed,
            Ok(Content::Unknown) => Outcome::Unknown,
            Ok(Content::User(data)) => {
                actions.push(Action::Deliver(from, data));
                Outcome::Delivered
            }
            Ok(Content::FindPeers(target)) => {
                let known =
                    closest_of_both(target, self.router.neighbours(), self.known.candidates());
                let found: Vec<_> = known.take(MAX_FOUND).collect();
                self.send(now, from, message::found_peers(&found), actions);
                Outcome::Handled
            }
            Ok(Content::FoundPeers(found)) => {
                for id in found.into_iter().take(MAX_FOUND) {
                    if self.router.neighbours().get(&id).is_none() {
                        self.known.add(now, id);
                    }
                }
                self.populate(now, actions);
                Outcome::Handled
            }
            Ok(Content::HandshakeOffer) => self.take_offer(now, from, actions),
            Ok(Content::HandshakeAnswer(answer)) => {
                self.take_answer(now, by, from, answer, actions)
            }
            Ok(Content::Signal(signal)) => self.take_signal(now, from, signal, actions),
        };
        actions.push(Action::Count(outcome));
    }

    /// Looks for neighbours among those heard of: for the closest, while there are too few, and
    /// for one in every bucket. With one in every bucket each hop comes a bit closer at least, and
    /// so no message needs more hops than the logarithm of the number of peers.
    fn populate(&mut self, now: Instant, actions: &mut Vec<Action<C>>) {
        // Without dialing, an offer could lead to nothing.
        if !self.rules.dials_unknown_peers {
            return;
        }
        let own = *self.router.own();
        let count = self.router.neighbours().len() + self.known.in_progress();
        let is_new = |id: &PeerId| self.known.step(id).is_none();
        let strangers = self.known.candidates().closest(own).map(|(id, _)| *id).filter(is_new);
        let closest: Vec<_> = strangers.take(ENOUGH_NEIGHBOURS.saturating_sub(count)).collect();
        for id in closest {
            self.offer(now, id, actions);
        }
        let strangers: Vec<_> = self.known.candidates().iter().map(|(id, _)| *id).collect();
        for id in strangers {
            if self.router.neighbours().bucket_of(&id).is_empty()
                && self.known.step(&id).is_none()
                && !self.known.is_in_progress_near(&id)
            {
                self.offer(now, id, actions);
            }
        }
    }

    fn offer(&mut self, now: Instant, id: PeerId, actions: &mut Vec<Action<C>>) {
        if self.known.set_step(now, id, Step::Offered) {
            self.send(now, id, message::handshake_offer(), actions);
        }
    }
}

#[cfg(test)]
mod tests;
