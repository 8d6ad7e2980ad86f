//! The clients: when each asks, and what has come of it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use tokio::sync::Notify;

use super::http::{Client, NoReply};
use super::work::Work;
use crate::clock::{Alarm, Clock};
use crate::door::Door;
use crate::report::Measured;
use crate::schedule::Schedule;
use crate::tally::{Mark, Tally};
use crate::wrong::Wrong;

/// The name under which right answers are counted.
const RIGHT: &str = "right answers";

/// All clients.
pub(super) struct Crowd {
    clock: Clock,
    /// In the open loop.
    schedule: Option<Schedule>,
    /// Whether more becomes due.
    is_going_on: Cell<bool>,
    lanes: Vec<Lane>,
    tally: RefCell<Tally>,
    /// How many clients have come to their end.
    ended: Cell<usize>,
    deserted: Notify,
}

/// One client.
#[derive(Default)]
struct Lane {
    /// How many requests have been due so far; for the open loop.
    due: Cell<u64>,
    sent: Cell<u64>,
    /// Whether an answer is waited for.
    is_asking: Cell<bool>,
    woken: Notify,
}

impl Crowd {
    /// So many clients, each of which sends so many requests in a second, or as many as it can.
    pub(super) fn new(clock: Clock, clients: u64, rate: Option<f64>) -> Rc<Self> {
        Rc::new(Self {
            clock,
            schedule: rate.map(|rate| Schedule::new(clients, rate)),
            is_going_on: Cell::new(true),
            lanes: (0..clients).map(|_| Lane::default()).collect(),
            tally: RefCell::default(),
            ended: Cell::default(),
            deserted: Notify::new(),
        })
    }

    /// How many requests are over.
    pub(super) fn so_far(&self) -> u64 {
        self.tally.borrow().total
    }

    /// Waits until no client is left.
    pub(super) async fn deserted(&self) {
        if self.ended.get() < self.lanes.len() {
            self.deserted.notified().await;
        }
    }

    pub(super) fn measure_from_now(&self) {
        self.tally.borrow_mut().measure_from(self.clock.now_ns());
    }

    /// Ends the measured time: from now on nothing becomes due.
    pub(super) fn measure_until_now(&self) {
        let now_ns = self.clock.now_ns();
        self.tally.borrow_mut().measure_until(now_ns);
        self.is_going_on.set(false);
        if let Some(schedule) = &self.schedule {
            schedule.all_before(now_ns).for_each(|place| self.mark_due(place));
        }
        self.lanes.iter().for_each(|lane| lane.woken.notify_one());
    }

    /// In the open loop, lets each client ask when it is due to.
    pub(super) async fn pace(self: Rc<Self>, alarm: Alarm) -> io::Result<()> {
        let Some(schedule) = &self.schedule else { return Ok(()) };
        schedule.start(self.clock.now_ns());
        let due = |places: &[usize]| places.iter().for_each(|place| self.mark_due(*place));
        schedule.run(self.clock, &alarm, due).await
    }

    fn mark_due(&self, place: usize) {
        if let Some(lane) = self.lanes.get(place) {
            lane.due.set(lane.due.get() + 1);
            lane.woken.notify_one();
        }
    }

    /// Waits until this client has to ask, and gives when that was due; nothing at the end.
    async fn next_due_ns(&self, place: usize, lane: &Lane) -> Option<u64> {
        let Some(schedule) = &self.schedule else {
            return self.is_going_on.get().then(|| self.clock.now_ns());
        };
        while lane.sent.get() >= lane.due.get() {
            if !self.is_going_on.get() {
                return None;
            }
            lane.woken.notified().await;
        }
        Some(schedule.due_ns(place, lane.sent.get()))
    }

    /// One client, until the end.
    pub(super) async fn ask(self: Rc<Self>, door: Door, place: usize, client: Client, work: Work) {
        if let Some(lane) = self.lanes.get(place)
            && let Err((wrong, why)) = self.keep_asking(&door, place, lane, client, work).await
        {
            self.tally.borrow_mut().went_wrong(wrong, &why);
        }
        self.ended.set(self.ended.get() + 1);
        if self.ended.get() == self.lanes.len() {
            self.deserted.notify_one();
        }
    }

    async fn keep_asking(
        &self,
        door: &Door,
        place: usize,
        lane: &Lane,
        mut client: Client,
        mut work: Work,
    ) -> Result<(), (Wrong, String)> {
        let mut is_last = false;
        while let Some(due_ns) = self.next_due_ns(place, lane).await {
            // A look costs a call of the system, which is worth it only where there was a pause.
            let has_paused = self.schedule.is_some() || lane.sent.get() == 0;
            if is_last || (has_paused && client.is_closed()) {
                let stream = door.connect(place).await;
                client = Client::new(stream.map_err(|why| (why.wrong(), why.to_string()))?);
            }
            lane.sent.set(lane.sent.get() + 1);
            lane.is_asking.set(true);
            let asked = client.ask(work.request()).await;
            let now_ns = self.clock.now_ns();
            lane.is_asking.set(false);
            let reply = asked.map_err(|why: NoReply| (Wrong::Disconnected, why.to_string()))?;
            is_last = reply.is_last;
            let verdict = work.judge(&reply);
            let mut tally = self.tally.borrow_mut();
            match verdict {
                Ok(()) => tally.right(),
                Err(name) => tally.went_wrong(Wrong::BadAnswer, &name),
            }
            tally.record(Mark::Answer, due_ns, now_ns);
            tally.done(now_ns);
        }
        Ok(())
    }

    /// Puts all counts into what was measured.
    pub(super) fn tell(&self, measured: &mut Measured) {
        let mut tally = self.tally.take();
        let waiting = self.lanes.iter().filter(|lane| lane.is_asking.get()).count();
        tally.wrong.add(Wrong::Unanswered, waiting as u64);
        if self.schedule.is_some() {
            let unsent =
                self.lanes.iter().map(|lane| lane.due.get().saturating_sub(lane.sent.get()));
            measured.figures.push(("unsent", unsent.sum::<u64>() as f64));
        }
        tally.tell(RIGHT, measured);
    }
}
