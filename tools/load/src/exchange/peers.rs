//! What comes to a peer of the peer-relay network: is it what has been sent?
//!
//! A message is read as JSON, for every peer may write it in its own way. One peer always writes
//! in the same, so all later messages of a sender have to look like the first one that was right,
//! but for their numbers: comparing them costs much less than reading.

use std::rc::Rc;

use super::traffic::Traffic;
use crate::connection::Listener;
use crate::message::{Message, NUMBER_DIGITS, PeerRoute, SENDER_DIGITS, STAMP_BYTES, stamp};
use crate::packet::{Packet, number};
use crate::peer::{PeerId, PeerMessage};

/// What one sender sends.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) from: PeerId,
    pub(super) to: PeerId,
    /// What all nonces of the run begin with.
    pub(super) salt: u64,
    /// The sender's place among the senders.
    pub(super) sender: usize,
    /// Bytes of the content.
    pub(super) size: usize,
}

impl Sent {
    /// It, ready to be sent.
    pub(super) fn message(&self) -> Message {
        let (from, to) = (self.from.to_string(), self.to.to_string());
        let route = PeerRoute { from: &from, to: &to, salt: self.salt, sender: self.sender };
        Message::to_peer(route, self.size)
    }

    /// Whether a message with this stamp is what was sent, and came by `via` alone.
    fn is_same(&self, message: &PeerMessage<'_>, content: &str, via: PeerId) -> bool {
        let (stamp, rest) = content.split_at_checked(STAMP_BYTES).unwrap_or_default();
        message.to == self.to
            && message.from == self.from
            && message.path == [self.from, via]
            && message.nonce == format!("{}{stamp}", self.salt)
            && content.len() == self.size
            && rest.bytes().all(|byte| byte == b'x')
    }
}

/// Reads the messages that come to one peer.
pub(super) struct PeerInbox {
    traffic: Rc<Traffic>,
    place: usize,
    sent: Sent,
    via: PeerId,
    shape: Option<Shape>,
    read_ns: Option<u64>,
    /// Whether this read has brought something from its sender.
    has_news: bool,
}

impl PeerInbox {
    /// For the receiver of this place, to which comes what is sent so, by the peer `via`.
    pub(super) fn new(traffic: Rc<Traffic>, place: usize, sent: Sent, via: PeerId) -> Self {
        Self { traffic, place, sent, via, shape: None, read_ns: None, has_news: false }
    }

    /// Takes a message; gives its sender's place if it is one of this run's.
    fn take(&mut self, text: &[u8], now_ns: u64) -> Option<usize> {
        if let Some(number) = self.shape.as_ref().and_then(|shape| shape.number(text)) {
            let stamp = Some((self.sent.sender, number));
            return self.traffic.arrived(self.place, stamp, now_ns, |_| true);
        }
        let Ok(message) = serde_json::from_slice::<PeerMessage<'_>>(text) else {
            self.traffic.unexpected();
            return None;
        };
        // What else there is are the peer's own questions, which nobody has to answer.
        if message.data.kind != "user" {
            return None;
        }
        let content = message.data.data.as_str().unwrap_or_default();
        let stamp = stamp(content.as_bytes());
        let is_same = self.sent.is_same(&message, content, self.via);
        if is_same && self.shape.is_none() {
            self.shape = Shape::of(text, content);
        }
        self.traffic.arrived(self.place, stamp, now_ns, |_| is_same)
    }
}

impl Listener for PeerInbox {
    fn packet(&mut self, packet: Packet<'_>) {
        let now_ns = *self.read_ns.get_or_insert_with(|| self.traffic.now_ns());
        match packet {
            Packet::Message(text) => self.has_news |= self.take(text, now_ns).is_some(),
            _ => self.traffic.unexpected(),
        }
    }

    fn idle(&mut self) {
        self.read_ns = None;
        if std::mem::take(&mut self.has_news) {
            self.traffic.pump(self.sent.sender);
        }
    }
}

/// What messages of one sender look like: all the same but for their number, which is at the end
/// of the nonce and of the content's stamp.
#[derive(Debug)]
struct Shape {
    text: Vec<u8>,
    numbers_at: [usize; 2],
}

impl Shape {
    /// That of a message with this content; none if its stamp does not stand where it has to.
    fn of(text: &[u8], content: &str) -> Option<Self> {
        let stamp = content.as_bytes().get(..STAMP_BYTES)?;
        let windows = text.windows(STAMP_BYTES).enumerate();
        let mut found = windows.filter(|(_, window)| *window == stamp).map(|(at, _)| at);
        let (first, second) = (found.next()?, found.next()?);
        let is_clear = found.next().is_none() && first + STAMP_BYTES <= second;
        let numbers_at = [first + SENDER_DIGITS, second + SENDER_DIGITS];
        is_clear.then(|| Self { text: text.to_vec(), numbers_at })
    }

    /// The number of a message, if it has this shape.
    fn number(&self, text: &[u8]) -> Option<u64> {
        let [first, second] = self.numbers_at;
        let spans = [0..first, first + NUMBER_DIGITS..second, second + NUMBER_DIGITS..text.len()];
        let is_same = text.len() == self.text.len()
            && spans.into_iter().all(|span| text.get(span.clone()) == self.text.get(span));
        let digits = |at| text.get(at..at + NUMBER_DIGITS);
        let (nonce, stamp) = (digits(first)?, digits(second)?);
        if is_same && nonce == stamp { number(nonce) } else { None }
    }
}
