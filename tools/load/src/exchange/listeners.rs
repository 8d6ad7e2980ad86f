//! Who reads what comes to senders and receivers.

use std::rc::Rc;

use super::traffic::Traffic;
use crate::connection::Listener;
use crate::packet::Packet;

/// Reads the acks of one sender.
pub(super) struct Acks {
    traffic: Rc<Traffic>,
    place: usize,
    read_ns: Option<u64>,
}

impl Acks {
    pub(super) fn new(traffic: Rc<Traffic>, place: usize) -> Self {
        Self { traffic, place, read_ns: None }
    }
}

impl Listener for Acks {
    fn packet(&mut self, packet: Packet<'_>) {
        // One look at the clock for all that one read has brought.
        let now_ns = *self.read_ns.get_or_insert_with(|| self.traffic.now_ns());
        match packet {
            Packet::Ack(id, arguments) => self.traffic.acked(self.place, id, arguments, now_ns),
            Packet::Event(_) => self.traffic.unexpected(),
            _ => {}
        }
    }

    fn idle(&mut self) {
        self.read_ns = None;
        self.traffic.pump(self.place);
    }
}

/// Reads the messages that come to one receiver.
pub(super) struct Inbox {
    traffic: Rc<Traffic>,
    place: usize,
    read_ns: Option<u64>,
    /// The senders of what this read has brought.
    senders: Vec<usize>,
}

impl Inbox {
    pub(super) fn new(traffic: Rc<Traffic>, place: usize) -> Self {
        Self { traffic, place, read_ns: None, senders: Vec::new() }
    }
}

impl Listener for Inbox {
    fn packet(&mut self, packet: Packet<'_>) {
        let now_ns = *self.read_ns.get_or_insert_with(|| self.traffic.now_ns());
        if let Packet::Event(array) = packet {
            let sender = self.traffic.event(self.place, array, now_ns);
            // Mostly the same as before; another one twice in the list does no harm.
            if sender != self.senders.last().copied() {
                self.senders.extend(sender);
            }
        }
    }

    fn idle(&mut self) {
        self.read_ns = None;
        for sender in self.senders.drain(..) {
            self.traffic.pump(sender);
        }
    }
}
