//! The pipeline in a small world of receivers that move, against a naive model of what it may do.

use proptest::prelude::*;

use super::*;

const MAX_IN_FLIGHT: usize = 6;
const LANES: usize = 4;
/// Nothing about this lane is ever resolved.
const HANGING: usize = 0;
const REPLICAS: u32 = 3;

/// A connection of a receiver has a number of its own; the rest of it by [`REPLICAS`] is its
/// replica, of which 0 is the pipeline's own.
type Connection = Option<u32>;

#[derive(Debug, Clone)]
enum Step {
    Push {
        lane: usize,
        is_known: bool,
    },
    Connect(usize),
    Leave(usize),
    Resolve(usize),
    /// A replica deals with the next message that was sent to it.
    Receive(u32),
    Reply(usize),
    TimeOut(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..LANES, any::<bool>()).prop_map(|(lane, is_known)| Step::Push { lane, is_known }),
        2 => (0..LANES).prop_map(Step::Connect),
        1 => (0..LANES).prop_map(Step::Leave),
        4 => any::<usize>().prop_map(Step::Resolve),
        4 => (1..REPLICAS).prop_map(Step::Receive),
        4 => any::<usize>().prop_map(Step::Reply),
        1 => any::<usize>().prop_map(Step::TimeOut),
    ]
}

/// What the model knows of a message that is not finished.
#[derive(Debug, Clone, PartialEq)]
enum Known {
    Waiting,
    Resolving,
    Resolved(Connection),
    Sent(Connection),
}

#[derive(Default)]
struct World {
    /// Where each receiver is, and where it was when it was last resolved.
    current: [Connection; LANES],
    cached: [Connection; LANES],
    connections: u32,
    /// All messages by ticket, from 1 on: their lane, what is known of them, how often they were
    /// handed over.
    messages: Vec<(usize, Option<Known>, usize)>,
    resolving: Vec<(u64, Option<Connection>)>,
    channels: [VecDeque<(u64, u32)>; REPLICAS as usize],
    replies: Vec<(u64, Outcome)>,
    received: [Vec<u64>; LANES],
}

type Machine = Pipeline<usize, Connection, u64>;

impl World {
    fn message(&mut self, ticket: u64) -> &mut (usize, Option<Known>, usize) {
        &mut self.messages[ticket as usize - 1]
    }

    /// Takes a step. Returns whether there was anything to do.
    fn take(&mut self, machine: &mut Machine, step: &Step) -> bool {
        match *step {
            Step::Push { lane, is_known } => {
                let hanging = self.unfinished(HANGING).len();
                if lane == HANGING && (is_known || hanging == MAX_IN_FLIGHT - 1) {
                    return false;
                }
                let known = is_known.then_some(self.cached[lane]);
                self.messages.push((lane, Some(Known::Waiting), 0));
                machine.push(lane, self.messages.len() as u64, known).unwrap();
            }
            Step::Connect(lane) => {
                self.connections += 1;
                self.current[lane] = Some(self.connections);
            }
            Step::Leave(lane) => self.current[lane] = None,
            Step::Resolve(place) => {
                let Some(place) = place.checked_rem(self.resolving.len()) else { return false };
                let (ticket, tried) = self.resolving.remove(place);
                let lane = self.message(ticket).0;
                let connection = self.current[lane];
                self.cached[lane] = connection;
                let is_final = tried == Some(connection);
                self.message(ticket).1 = (!is_final).then_some(Known::Resolved(connection));
                machine.resolved((lane, ticket), connection);
            }
            Step::Receive(replica) => {
                let Some((ticket, connection)) = self.channels[replica as usize].pop_front() else {
                    return false;
                };
                let outcome = self.arrive(ticket, connection);
                self.replies.push((ticket, outcome));
            }
            Step::Reply(place) => {
                let Some(place) = place.checked_rem(self.replies.len()) else { return false };
                let (ticket, outcome) = self.replies.swap_remove(place);
                self.reply(machine, ticket, outcome);
            }
            Step::TimeOut(place) => {
                let sent = (1..=self.messages.len() as u64)
                    .filter(|ticket| {
                        matches!(self.messages[*ticket as usize - 1].1, Some(Known::Sent(_)))
                    })
                    .collect::<Vec<_>>();
                let Some(place) = place.checked_rem(sent.len()) else { return false };
                self.reply(machine, sent[place], Outcome::Unknown);
            }
        }
        self.act(machine);
        self.check(machine);
        true
    }

    fn reply(&mut self, machine: &mut Machine, ticket: u64, outcome: Outcome) {
        // One that has timed out is not waited for any more.
        if matches!(self.message(ticket).1, Some(Known::Sent(_))) {
            let is_retried = outcome.may_be_elsewhere() && self.message(ticket).2 == 1;
            self.message(ticket).1 = is_retried.then_some(Known::Resolving);
        }
        machine.replied((self.message(ticket).0, ticket), outcome);
    }

    /// A message arrives where its receiver is thought to be.
    fn arrive(&mut self, ticket: u64, connection: u32) -> Outcome {
        let lane = self.message(ticket).0;
        if self.current[lane] != Some(connection) {
            return Outcome::NotHere;
        }
        self.received[lane].push(ticket);
        Outcome::Delivered
    }

    /// Does what the machine says, as far as the model lets it.
    fn act(&mut self, machine: &mut Machine) {
        while let Some(action) = machine.next_action() {
            match action {
                Action::Resolve { ticket: (_, ticket), tried } => {
                    let known = &mut self.message(ticket).1;
                    assert!(matches!(known, Some(Known::Waiting | Known::Resolving)), "{known:?}");
                    *known = Some(Known::Resolving);
                    if self.message(ticket).0 != HANGING {
                        self.resolving.push((ticket, tried));
                    }
                }
                Action::HandOver { ticket: (lane, ticket), route } => {
                    let before = self.unfinished(lane);
                    let mut before = before.iter().take_while(|(other, _)| *other < ticket);
                    assert!(before.all(|(_, known)| *known == Known::Sent(route)), "overtakes");
                    let known = self.message(ticket).1.take();
                    assert!(
                        matches!(known, Some(Known::Waiting))
                            || known == Some(Known::Resolved(route))
                    );
                    self.message(ticket).2 += 1;
                    let outcome = match route {
                        None => Some(Outcome::NotConnected),
                        Some(here) if here % REPLICAS == 0 => Some(self.arrive(ticket, here)),
                        Some(there) => {
                            self.channels[(there % REPLICAS) as usize].push_back((ticket, there));
                            None
                        }
                    };
                    self.message(ticket).1 = match outcome {
                        None => Some(Known::Sent(route)),
                        Some(Outcome::NotHere) if self.message(ticket).2 == 1 => {
                            Some(Known::Resolving)
                        }
                        Some(_) => None,
                    };
                    machine.handed_over((lane, ticket), route, outcome);
                }
                Action::Finish { message: ticket, .. } => {
                    let (_, known, tries) = self.message(ticket);
                    assert_eq!(*known, None, "{ticket} is not done with");
                    assert!(*tries <= 2, "{ticket} was handed over {tries} times");
                    // A second one would not find it so.
                    *tries = usize::MAX;
                }
            }
        }
    }

    /// The messages of a lane that are not finished, in order.
    fn unfinished(&self, lane: usize) -> Vec<(u64, Known)> {
        let messages = (1..).zip(&self.messages).filter(|(_, message)| message.0 == lane);
        messages.filter_map(|(ticket, message)| Some((ticket, message.1.clone()?))).collect()
    }

    /// Checks that the bounds hold and that nothing waits that need not.
    fn check(&self, machine: &Machine) {
        let all: Vec<_> = (0..LANES).map(|lane| self.unfinished(lane)).collect();
        let count =
            |is: fn(&Known) -> bool| all.iter().flatten().filter(|(_, known)| is(known)).count();
        // A route that was known at once is first seen when the message is handed over.
        assert!(count(|known| *known != Known::Waiting) <= machine.in_flight);
        assert!(machine.in_flight <= MAX_IN_FLIGHT);
        assert!(machine.waiting.is_empty() || machine.in_flight == MAX_IN_FLIGHT);
        for lane in all {
            let Some(next) = lane.iter().find(|(_, known)| !matches!(known, Known::Sent(_))) else {
                continue;
            };
            let Known::Resolved(route) = next.1 else { continue };
            let sent = lane.iter().take_while(|(ticket, _)| *ticket < next.0);
            assert!(
                !sent.into_iter().all(|(_, known)| *known == Known::Sent(route)),
                "{next:?} is held up"
            );
        }
    }
}

proptest! {
    #[test]
    fn pairs_keep_their_order_whatever_happens_to_others(steps in prop::collection::vec(step(), 0..120)) {
        let (mut world, mut machine) = (World::default(), Machine::new(MAX_IN_FLIGHT));
        for step in &steps {
            world.take(&mut machine, step);
        }
        // Whatever can come to its end does, although one receiver hangs for ever.
        let all = [Step::Resolve(0), Step::Receive(1), Step::Receive(2), Step::Reply(0)];
        while all.iter().filter(|step| world.take(&mut machine, step)).count() > 0 {}
        for (lane, received) in world.received.iter().enumerate() {
            prop_assert!(received.is_sorted_by(|one, next| one < next), "{received:?}");
            prop_assert!(lane == HANGING || world.unfinished(lane).is_empty());
        }
        let left = world.unfinished(HANGING).len();
        prop_assert_eq!((machine.in_flight, machine.lanes.values().map(VecDeque::len).sum::<usize>()), (left, left));
        prop_assert_eq!(machine.lanes.len(), usize::from(left > 0));
        let finished = world.messages.iter().filter(|message| message.2 == usize::MAX).count();
        prop_assert_eq!(finished, world.messages.len() - left);
    }
}

#[test]
fn there_is_an_end_to_what_may_wait() {
    let mut machine = Machine::new(1);
    for n in 0..=MAX_WAITING as u64 {
        assert_eq!(machine.push(1, n, None), Ok(()));
    }
    assert_eq!(machine.push(2, 0, None), Err(Full));
    assert_eq!(machine.next_action(), Some(Action::Resolve { ticket: (1, 1), tried: None }));
    machine.resolved((1, 1), None);
    let hand_over = machine.next_action();
    assert_eq!(hand_over, Some(Action::HandOver { ticket: (1, 1), route: None }));
    machine.handed_over((1, 1), None, Some(Outcome::NotConnected));
    assert_eq!(machine.push(2, 0, None), Ok(()));
}
