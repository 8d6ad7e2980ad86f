//! The senders, what they have on their way, and when they send the next.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::answer::{Answer, Verdict};
use crate::arguments::Pace;
use crate::clock::{Alarm, Clock};
use crate::connection::End;
use crate::ledger::{Expected, Ledger};
use crate::message::{FIRST_ACK, Message, Stamp};
use crate::outbox::Outbox;
use crate::report::Measured;
use crate::schedule::Schedule;
use crate::sequence::{Arrival, Sequence};
use crate::tally::{Mark, Tally};
use crate::wrong::Wrong;

/// In the open loop, what may wait in a sender's outbox, in bytes. What is due beyond that is sent
/// later; its latency counts all the same.
const MAX_WAITING_BYTES: usize = 1024 * 1024;

/// The time between two looks whether all has come.
const SETTLE_TICK: Duration = Duration::from_millis(2);

/// Everything that is on its way.
pub(super) struct Traffic {
    clock: Clock,
    stamp: Stamp,
    promise: Promise,
    /// How many were overtaken where that is no fault.
    overtaken: Cell<u64>,
    /// How many copies came to others where that is no fault.
    elsewhere: Cell<u64>,
    pace: Loop,
    phase: Cell<Phase>,
    senders: Vec<RefCell<Sender>>,
    tally: RefCell<Tally>,
    /// How many senders have no connection any more.
    ended: Cell<usize>,
    deserted: Notify,
}

/// One node that sends.
pub(super) struct Sender {
    message: Message,
    answer: Answer,
    ledger: Ledger,
    sequence: Sequence,
    receiver: usize,
    /// How many messages have been due so far; for the open loop.
    due: u64,
    outbox: Option<Rc<Outbox>>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Sender,
    Receiver,
}

/// What is promised of each message besides its arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// A broker's: it arrives in order, and nowhere else.
    Broker,
    /// The peer-relay network's: nothing. It may overtake others, and copies go other ways too.
    Network,
}

enum Loop {
    Closed { window: usize },
    Open(Schedule),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Sending,
    /// Nothing more becomes due.
    Settling,
    /// Connections may end.
    Over,
}

impl Sender {
    pub(super) fn new(
        message: Message,
        answer: Answer,
        expected: Expected,
        receiver: usize,
    ) -> Self {
        Self {
            message,
            answer,
            ledger: Ledger::new(expected),
            sequence: Sequence::default(),
            receiver,
            due: 0,
            outbox: None,
        }
    }

    fn owed(&self) -> u64 {
        self.due.saturating_sub(self.ledger.sent())
    }

    fn send(&mut self, outbox: &Outbox, due_ns: u64) {
        let number = self.ledger.send(due_ns);
        outbox.put(|out| self.message.write(number, out));
    }
}

impl Traffic {
    pub(super) fn new(
        clock: Clock,
        pace: &Pace,
        (event, promise): (&str, Promise),
        senders: Vec<Sender>,
    ) -> Rc<Self> {
        let pace = match pace.rate {
            Some(rate) => Loop::Open(Schedule::new(senders.len() as u64, rate)),
            None => Loop::Closed { window: pace.window as usize },
        };
        Rc::new(Self {
            clock,
            stamp: Stamp::new(event),
            promise,
            overtaken: Cell::default(),
            elsewhere: Cell::default(),
            pace,
            phase: Cell::new(Phase::Connecting),
            senders: senders.into_iter().map(RefCell::new).collect(),
            tally: RefCell::default(),
            ended: Cell::default(),
            deserted: Notify::new(),
        })
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// How many messages are over.
    pub(super) fn so_far(&self) -> u64 {
        self.tally.borrow().total
    }

    pub(super) fn connect(&self, place: usize, outbox: Rc<Outbox>) {
        if let Some(sender) = self.senders.get(place) {
            sender.borrow_mut().outbox = Some(outbox);
        }
    }

    /// A connection has ended, which none should before the run is over.
    pub(super) fn ended(&self, role: Role, end: &End) {
        if self.phase.get() != Phase::Over {
            self.tally.borrow_mut().went_wrong(Wrong::Disconnected, &end.to_string());
        }
        if role == Role::Sender {
            self.ended.set(self.ended.get() + 1);
            if self.ended.get() == self.senders.len() {
                self.deserted.notify_one();
            }
        }
    }

    /// Waits until no sender has a connection any more.
    pub(super) async fn deserted(&self) {
        if self.ended.get() < self.senders.len() {
            self.deserted.notified().await;
        }
    }

    /// Starts to send.
    pub(super) fn start(&self) {
        self.phase.set(Phase::Sending);
        match &self.pace {
            Loop::Closed { .. } => (0..self.senders.len()).for_each(|place| self.pump(place)),
            Loop::Open(schedule) => schedule.start(self.now_ns()),
        }
    }

    /// In the open loop, lets each sender send when a message is due.
    pub(super) async fn pace(self: Rc<Self>, alarm: Alarm) -> io::Result<()> {
        let Loop::Open(schedule) = &self.pace else { return Ok(()) };
        let due = |places: &[usize]| {
            places.iter().for_each(|place| self.mark_due(*place));
            places.iter().for_each(|place| self.pump(*place));
        };
        schedule.run(self.clock, &alarm, due).await
    }

    /// One more message of this sender is due.
    fn mark_due(&self, place: usize) {
        if let Some(sender) = self.senders.get(place) {
            sender.borrow_mut().due += 1;
        }
    }

    /// Sends what this sender may or has to send now.
    pub(super) fn pump(&self, place: usize) {
        let Some(mut sender) = self.senders.get(place).map(RefCell::borrow_mut) else { return };
        let Some(outbox) = sender.outbox.clone() else { return };
        match (&self.pace, self.phase.get()) {
            (Loop::Closed { window }, Phase::Sending) => {
                let now_ns = self.now_ns();
                while sender.ledger.outstanding() < *window {
                    sender.send(&outbox, now_ns);
                }
            }
            (Loop::Open(schedule), Phase::Sending | Phase::Settling) => {
                while sender.owed() > 0 && outbox.len() < MAX_WAITING_BYTES {
                    let due_ns = schedule.due_ns(place, sender.ledger.sent());
                    sender.send(&outbox, due_ns);
                }
            }
            _ => {}
        }
        outbox.flush();
    }

    /// A sender has got an ack.
    pub(super) fn acked(&self, place: usize, id: u64, arguments: &[u8], now_ns: u64) {
        let Some(mut sender) = self.senders.get(place).map(RefCell::borrow_mut) else { return };
        let mut tally = self.tally.borrow_mut();
        let verdict = sender.answer.judge(arguments);
        let number = id.checked_sub(FIRST_ACK);
        let due_ns = number.and_then(|it| sender.ledger.acked(it, verdict == Verdict::Right));
        let Some(due_ns) = due_ns else {
            tally.wrong.add(Wrong::UnknownAck, 1);
            return;
        };
        tally.record(Mark::Ack, due_ns, now_ns);
        match verdict {
            Verdict::Right => tally.right(),
            Verdict::Wrong(name) => tally.went_wrong(Wrong::BadAck, &name),
        }
        if matches!(sender.answer, Answer::Results(_)) {
            tally.done(now_ns);
        }
    }

    /// A receiver has got an event. Gives the place of its sender.
    pub(super) fn event(&self, receiver: usize, array: &[u8], now_ns: u64) -> Option<usize> {
        let stamp = self.stamp.read(array);
        self.arrived(receiver, stamp, now_ns, |sender| sender.message.is_same(array))
    }

    /// A receiver has got what has this stamp, the sender's place and the message's number. Gives
    /// that place.
    pub(super) fn arrived(
        &self,
        receiver: usize,
        stamp: Option<(usize, u64)>,
        now_ns: u64,
        is_same: impl FnOnce(&Sender) -> bool,
    ) -> Option<usize> {
        let stamped =
            stamp.and_then(|(place, number)| Some((place, self.senders.get(place)?, number)));
        let Some((place, sender, number)) = stamped else {
            self.unexpected();
            return None;
        };
        let mut sender = sender.borrow_mut();
        let mut tally = self.tally.borrow_mut();
        if number >= sender.ledger.sent() {
            tally.wrong.add(Wrong::Unexpected, 1);
            return None;
        }
        if sender.receiver != receiver {
            match self.promise {
                Promise::Broker => tally.wrong.add(Wrong::Misdelivered, 1),
                Promise::Network => self.elsewhere.set(self.elsewhere.get() + 1),
            }
            return None;
        }
        if !is_same(&sender) {
            tally.wrong.add(Wrong::Altered, 1);
        }
        match (sender.sequence.arrived(number), self.promise) {
            (Arrival::InOrder, _) => {}
            (Arrival::OutOfOrder, Promise::Broker) => tally.wrong.add(Wrong::OutOfOrder, 1),
            (Arrival::OutOfOrder, Promise::Network) => {
                self.overtaken.set(self.overtaken.get() + 1);
            }
            (Arrival::Duplicate, _) => {
                tally.wrong.add(Wrong::Duplicate, 1);
                return None;
            }
        }
        if let Some(due_ns) = sender.ledger.arrived(number) {
            tally.record(Mark::Arrival, due_ns, now_ns);
        }
        tally.done(now_ns);
        Some(place)
    }

    /// An event that nobody here has sent.
    pub(super) fn unexpected(&self) {
        self.tally.borrow_mut().wrong.add(Wrong::Unexpected, 1);
    }

    /// Somebody else has come or left: it is told under this name.
    pub(super) fn met(&self, name: &str) {
        self.tally.borrow_mut().met(name);
    }

    pub(super) fn measure_from_now(&self) {
        self.tally.borrow_mut().measure_from(self.now_ns());
    }

    /// Ends the measured time: from now on nothing becomes due.
    pub(super) fn measure_until_now(&self) {
        let now_ns = self.now_ns();
        self.tally.borrow_mut().measure_until(now_ns);
        self.phase.set(Phase::Settling);
        if let Loop::Open(schedule) = &self.pace {
            schedule.all_before(now_ns).for_each(|place| self.mark_due(place));
        }
    }

    /// Waits until everything that was due has been sent and has come.
    pub(super) async fn settle(&self) {
        loop {
            let mut is_settled = true;
            for (place, sender) in self.senders.iter().enumerate() {
                if sender.borrow().owed() > 0 {
                    self.pump(place);
                }
                let sender = sender.borrow();
                is_settled &= sender.owed() == 0 && sender.ledger.outstanding() == 0;
            }
            if is_settled {
                return;
            }
            tokio::time::sleep(SETTLE_TICK).await;
        }
    }

    /// From now on connections may end.
    pub(super) fn finish(&self) {
        self.phase.set(Phase::Over);
    }

    /// Puts all counts into what was measured.
    pub(super) fn tell(&self, measured: &mut Measured) {
        let mut tally = self.tally.take();
        let mut all_unsent = 0;
        for sender in &self.senders {
            let sender = sender.borrow();
            let (unanswered, lost) = sender.ledger.missing();
            tally.wrong.add(Wrong::Unanswered, unanswered);
            tally.wrong.add(Wrong::Lost, lost);
            all_unsent += sender.owed();
        }
        if let Loop::Open(_) = self.pace {
            measured.figures.push(("unsent", all_unsent as f64));
        }
        if self.promise == Promise::Network {
            measured.figures.push(("overtaken", self.overtaken.get() as f64));
            measured.figures.push(("copies_elsewhere", self.elsewhere.get() as f64));
        }
        let right = self.senders.first().map_or("OK", |sender| sender.borrow().answer.name());
        tally.tell(right, measured);
    }
}
