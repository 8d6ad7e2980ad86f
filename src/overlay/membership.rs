//! One peer's part in the network: its router, the peers that it knows, and what it does about
//! them. Pure: it is told what happens, and tells what to do.

mod handshakes;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::acquaintances::{Acquaintances, Step};
use super::bucket::closest_of_both;
use super::fate::Fate;
use super::id::PeerId;
use super::message::{self, Content, Message, Reachable, Signal};
use super::router::{Router, Way};

/// How many IDs an answer to `findPeers` has at most.
const MAX_FOUND: usize = 20;

/// How many neighbours a peer looks for.
pub(super) const ENOUGH_NEIGHBOURS: usize = 15;

/// The time between two searches for neighbours while some are missing.
const SEARCH_INTERVAL: Duration = Duration::from_secs(15);

/// The time from a change among the neighbours to a search.
const SEARCH_AFTER_CHANGE: Duration = Duration::from_secs(1);

/// One peer, with channels `C`.
#[derive(Debug)]
pub(super) struct Membership<C> {
    router: Router<C>,
    known: Acquaintances,
    /// Second channels of neighbours that the other side has to close, or that take over.
    spares: HashMap<PeerId, C>,
    rules: Rules,
    search_at: Instant,
}

/// What a peer says of itself and allows itself.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// How others can reach it.
    pub(super) reachable: Reachable,
    /// Whether it dials URLs that other peers send.
    pub(super) dials_strangers: bool,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Action<C> {
    /// Send a message on each of these channels, in this order.
    Send(Vec<C>, Message),
    /// Give what a peer sent to the application.
    Deliver(PeerId, Box<RawValue>),
    /// Open a channel to this peer.
    Dial(PeerId, String),
    /// Begin to negotiate a WebRTC channel with this peer.
    Call(PeerId),
    /// Go on negotiating one.
    Signal(PeerId, Signal),
    /// Count what became of a message.
    Count(Fate),
}

/// What becomes of a new channel.
#[derive(Debug)]
pub(super) enum Opened<C> {
    /// The peer is a neighbour now.
    Neighbour(Vec<Action<C>>),
    /// The peer is a neighbour already; it has to close one of the two channels.
    Spare,
    /// The channel has to be closed.
    Refused,
}

/// What the end of a channel means.
#[derive(Debug)]
pub(super) enum Closed<C> {
    /// The peer is no neighbour any more.
    Gone(Vec<Action<C>>),
    /// It changes nothing.
    Unchanged,
}

impl<C: Clone + PartialEq> Membership<C> {
    /// A peer without neighbours.
    pub(super) fn new(own: PeerId, rules: Rules, now: Instant, seed: [u8; 32]) -> Self {
        Self {
            router: Router::new(own, now, seed),
            known: Acquaintances::new(own, now),
            spares: HashMap::new(),
            rules,
            search_at: now,
        }
    }

    /// The router, to look at.
    pub(super) fn router(&self) -> &Router<C> {
        &self.router
    }

    /// A channel to `id` is open.
    pub(super) fn open(&mut self, now: Instant, id: PeerId, channel: C) -> Opened<C> {
        let own = *self.router.own();
        if id == own {
            return Opened::Refused;
        }
        if self.router.neighbours().get(&id).is_some() {
            // Both sides know both channels; the one with the smaller ID decides.
            if id >= own || self.spares.contains_key(&id) {
                return Opened::Refused;
            }
            self.spares.insert(id, channel);
            return Opened::Spare;
        }
        self.known.forget(&id);
        self.search_soon(now);
        let waited = self.router.add(id, channel);
        let mut actions = Vec::new();
        self.send(now, id, message::find_peers(&own), &mut actions);
        for message in waited {
            let way = self.router.forward(now, message);
            self.follow(now, way, &mut actions);
        }
        Opened::Neighbour(actions)
    }

    /// A channel to `id` has ended.
    pub(super) fn close(&mut self, now: Instant, id: &PeerId, channel: &C) -> Closed<C> {
        if self.spares.get(id) == Some(channel) {
            self.spares.remove(id);
            return Closed::Unchanged;
        }
        if self.router.neighbours().get(id) != Some(channel) {
            return Closed::Unchanged;
        }
        if let Some(spare) = self.spares.remove(id) {
            // Nothing can wait here: there was a neighbour.
            self.router.add(*id, spare);
            return Closed::Unchanged;
        }
        self.router.remove(id);
        self.known.forget(id);
        self.search_soon(now);
        let mut actions = Vec::new();
        self.populate(now, &mut actions);
        Closed::Gone(actions)
    }

    /// A frame came from the neighbour `by`.
    pub(super) fn receive(&mut self, now: Instant, by: PeerId, message: Message) -> Vec<Action<C>> {
        let mut actions = Vec::new();
        let way = self.router.receive(now, by, message);
        self.follow(now, way, &mut actions);
        actions
    }

    /// The application sends something. What it sends to this peer itself comes back at once.
    pub(super) fn send_user(
        &mut self,
        now: Instant,
        to: PeerId,
        data: &RawValue,
    ) -> Vec<Action<C>> {
        if to == *self.router.own() {
            return vec![Action::Deliver(to, data.to_owned()), Action::Count(Fate::Delivered)];
        }
        let mut actions = Vec::new();
        self.send(now, to, message::user(data), &mut actions);
        actions
    }

    /// The application wants a channel to `id`.
    pub(super) fn connect(&mut self, now: Instant, id: PeerId) -> Vec<Action<C>> {
        let mut actions = Vec::new();
        let is_under_way = matches!(self.known.step(&id), Some(Step::Offered | Step::Dialing));
        let is_known = id == *self.router.own() || self.router.neighbours().get(&id).is_some();
        if !is_under_way && !is_known {
            self.offer(now, id, &mut actions);
        }
        actions
    }

    /// A peer whose URL was dialed could not be reached at it.
    pub(super) fn unreachable(&mut self, now: Instant, id: PeerId) {
        if self.known.step(&id) == Some(Step::Dialing) {
            self.known.give_up(now, id);
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Action<C>> {
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
        if !self.rules.dials_strangers {
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
        let way = self.router.send(now, to, data);
        self.follow(now, way, actions);
    }

    fn follow(&mut self, now: Instant, way: Way<C>, actions: &mut Vec<Action<C>>) {
        match way {
            Way::On(channels, message) => actions.push(Action::Send(channels, message)),
            Way::Here(message) => self.handle(now, message, actions),
            Way::Ends(fate) => actions.push(Action::Count(fate)),
            Way::Waits => {}
        }
    }

    /// Deals with a message for this peer.
    fn handle(&mut self, now: Instant, message: Message, actions: &mut Vec<Action<C>>) {
        let from = message.from;
        let fate = match Content::parse(&message.data) {
            Err(_) => Fate::Malformed,
            Ok(Content::Unknown) => Fate::Unknown,
            Ok(Content::User(data)) => {
                actions.push(Action::Deliver(from, data));
                Fate::Delivered
            }
            Ok(Content::FindPeers(target)) => {
                let known = closest_of_both(target, self.router.neighbours(), self.known.heard());
                let found: Vec<_> = known.take(MAX_FOUND).collect();
                self.send(now, from, message::found_peers(&found), actions);
                Fate::Handled
            }
            Ok(Content::FoundPeers(found)) => {
                for id in found.into_iter().take(MAX_FOUND) {
                    if self.router.neighbours().get(&id).is_none() {
                        self.known.hear(now, id);
                    }
                }
                self.populate(now, actions);
                Fate::Handled
            }
            Ok(Content::HandshakeOffer) => self.take_offer(now, from, actions),
            Ok(Content::HandshakeAnswer(answer)) => self.take_answer(now, from, answer, actions),
            Ok(Content::Signal(signal)) => self.take_signal(now, from, signal, actions),
        };
        actions.push(Action::Count(fate));
    }

    /// Looks for neighbours among those heard of: for the closest, while there are too few, and
    /// for one in every bucket. With one in every bucket each hop comes a bit closer at least, and
    /// so no message needs more hops than the logarithm of the number of peers.
    fn populate(&mut self, now: Instant, actions: &mut Vec<Action<C>>) {
        // Without dialing, an offer could lead to nothing.
        if !self.rules.dials_strangers {
            return;
        }
        let own = *self.router.own();
        let count = self.router.neighbours().len() + self.known.under_way();
        let is_new = |id: &PeerId| self.known.step(id).is_none();
        let strangers = self.known.heard().closest(own).map(|(id, _)| *id).filter(is_new);
        let closest: Vec<_> = strangers.take(ENOUGH_NEIGHBOURS.saturating_sub(count)).collect();
        for id in closest {
            self.offer(now, id, actions);
        }
        let strangers: Vec<_> = self.known.heard().iter().map(|(id, _)| *id).collect();
        for id in strangers {
            if self.router.neighbours().bucket_of(&id).is_empty()
                && self.known.step(&id).is_none()
                && !self.known.is_under_way_near(&id)
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
