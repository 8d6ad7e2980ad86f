//! Whose turn it is among the messages of one connection.
//!
//! Messages are handed over in the order in which they came. Those for other replicas are
//! answered when the replica answers; the next ones need not wait for that, unless they are for
//! the same receiver and it has moved: what comes back has to be sent on first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socketioxide_core::Str;
use tokio::sync::mpsc;

use super::answers::{Answer, AnswerSender};
use super::waits::{SIDE_BY_SIDE, Step};
use crate::broker::{Admission, Broker, HandedOver, Location, Pending, Prepared};
use crate::delivery::{Delivered, ReplyTo};
use crate::node::Owner;
use crate::protocol::{Ack, JsonString};

/// The state of one connection. Its lock is held while a message is handed over, so that none
/// overtakes it, and never across an await.
pub(super) struct Turns {
    broker: Arc<Broker>,
    admission: Admission,
    reply_to: mpsc::Sender<(u64, Delivered)>,
    next_ticket: u64,
    /// How many wait for their turn: nothing is dealt with at once before them.
    waiting: usize,
    /// In the order of their tickets. Replies come nearly so.
    sent: VecDeque<Sent>,
}

/// A message that is to be handed over.
pub(super) struct Letter {
    pub(super) pending: Pending,
    pub(super) argument: Str,
    pub(super) sender: AnswerSender,
}

/// A message that was sent to another replica, and is to be answered.
struct Sent {
    ticket: u64,
    letter: Letter,
    owner: Owner,
    /// Whether it was sent for the first time: what is not found is looked for once more.
    is_first: bool,
}

pub(super) fn lock(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    pub(super) fn new(
        broker: Arc<Broker>,
        admission: Admission,
        reply_to: mpsc::Sender<(u64, Delivered)>,
    ) -> Self {
        Self { broker, admission, reply_to, next_ticket: 0, waiting: 0, sent: VecDeque::new() }
    }

    /// How many were sent and are not answered.
    pub(super) fn sent(&self) -> usize {
        self.sent.len()
    }

    /// Deals with an event at once, if it can be; else gives it back, to wait for its turn.
    pub(super) fn start(
        &mut self,
        step: Step,
        sender: AnswerSender,
    ) -> Option<(Step, AnswerSender)> {
        let waiting = if self.waiting > 0 || self.sent.len() >= SIDE_BY_SIDE {
            (step, sender)
        } else {
            match step {
                Step::Answer(answer) => {
                    self.finish(sender, &answer);
                    return None;
                }
                Step::Relay(pending, argument) => match self.broker.prepared(&pending) {
                    Some(prepared) => {
                        let letter = Letter { pending, argument, sender };
                        let (letter, _) = self.take(letter, prepared)?;
                        (Step::Relay(letter.pending, letter.argument), letter.sender)
                    }
                    None => (Step::Relay(pending, argument), sender),
                },
                Step::Find(question) => (Step::Find(question), sender),
            }
        };
        self.waiting += 1;
        Some(waiting)
    }

    /// Hands over a message that has waited, if it can be handed over now.
    pub(super) fn take_waiting(
        &mut self,
        letter: Letter,
        prepared: Prepared,
    ) -> Option<(Letter, Prepared)> {
        let held_up = self.take(letter, prepared);
        if held_up.is_none() {
            self.waiting -= 1;
        }
        held_up
    }

    /// Answers an event that has waited.
    pub(super) fn finish_waiting(&mut self, sender: AnswerSender, answer: &Answer) {
        self.waiting -= 1;
        self.finish(sender, answer);
    }

    /// Hands a message over, unless one for the same receiver is on its way to another place:
    /// that one may come back, and has to be handed over first.
    fn take(&mut self, letter: Letter, prepared: Prepared) -> Option<(Letter, Prepared)> {
        let prepared = self.broker.look_again(&letter.pending, prepared);
        let is_elsewhere = |sent: &Sent| {
            prepared.location != Location::At(sent.owner)
                && sent.letter.pending.to() == letter.pending.to()
        };
        if self.sent.iter().any(is_elsewhere) {
            return Some((letter, prepared));
        }
        self.hand_over(letter, prepared, true);
        None
    }

    fn hand_over(&mut self, letter: Letter, prepared: Prepared, is_first: bool) {
        // It was one when the event came.
        let Ok(argument) = JsonString::parse(&letter.argument) else {
            return self.finish(letter.sender, &Ack::Error.into());
        };
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let reply_to = || ReplyTo { sender: self.reply_to.clone(), ticket };
        let handed_over =
            self.broker.hand_over(&self.admission, &letter.pending, prepared, argument, reply_to);
        match handed_over {
            HandedOver::Answered(ack) => self.finish(letter.sender, &ack.into()),
            HandedOver::Sent(owner) => {
                self.sent.push_back(Sent { ticket, letter, owner, is_first });
            }
        }
    }

    fn settle(&self, sent: Sent, delivered: Delivered) {
        let Sent { letter: Letter { pending, sender, .. }, owner, .. } = sent;
        let ack = self.broker.settle(&self.admission, &pending, owner, delivered);
        self.finish(sender, &ack.into());
    }

    fn finish(&self, sender: AnswerSender, answer: &Answer) {
        sender.send(&self.admission.link, answer);
    }
}

/// Answers a message that was sent to another replica, or sends it to where its receiver is now.
/// Until then nothing else of its connection is handed over.
pub(super) async fn answer(
    turns: &Mutex<Turns>,
    broker: &Broker,
    admission: &Admission,
    ticket: u64,
    delivered: Delivered,
) {
    let sent = {
        let mut turns = lock(turns);
        let Some(place) = turns.sent.iter().position(|sent| sent.ticket == ticket) else { return };
        let Some(sent) = turns.sent.remove(place) else { return };
        if !(sent.is_first && delivered.may_be_elsewhere()) {
            return turns.settle(sent, delivered);
        }
        turns.waiting += 1;
        sent
    };
    let moved = broker.relocate(admission, &sent.letter.pending, sent.owner).await;
    let mut turns = lock(turns);
    turns.waiting -= 1;
    match moved {
        Some(prepared) => turns.hand_over(sent.letter, prepared, false),
        None => turns.settle(sent, delivered),
    }
}
