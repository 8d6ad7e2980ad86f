//! What has to be true of the replicas, as far as that does not depend on who is faster: the
//! reference that the real ones are compared with.
//!
//! It knows who holds an ID as long as the order of events decides that. Where they overlap, it
//! knows only that it does not know ([`Holder::Unknown`]), until all connections with the ID have
//! ended.

use std::time::Duration;

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use super::{NODES, REPLICAS, Transition};

/// The link between a replica and Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Good,
    Cut,
    Frozen,
    WithoutAnswers,
}

/// Who has an ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// Nobody, and Redis has no key.
    Nobody,
    /// Nobody any more; Redis may not know it yet.
    Left,
    /// This replica, and nobody can get it.
    Replica(usize),
    /// This replica, but it is or was without contact: somebody else may have got it if he tried.
    Doubtful(usize),
    /// One replica; a race has decided which.
    Somebody,
    /// At most a process that has ended.
    Dead,
    /// One replica or none, or several of which one has contact.
    Unknown,
}

/// What newcomers for an ID have to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// One of them gets it.
    Won,
    /// None gets it.
    Lost,
    /// Perhaps one of them gets it.
    Either,
}

/// The state of all that matters.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) links: [Link; REPLICAS],
    pub(super) are_paused: [bool; REPLICAS],
    pub(super) holders: [Holder; NODES],
    /// What the newcomers of the last transition have to be told.
    pub(super) expected: Expected,
    /// Whether everybody with contact knows what has happened so far.
    is_settled: bool,
    /// Whether Redis has lost what it had since all was settled.
    is_flushed: bool,
    /// Whether there may be keys of processes that have ended.
    has_dead_keys: bool,
}

impl Model {
    pub(super) fn has_contact(&self, replica: usize) -> bool {
        self.links[replica] == Link::Good && !self.are_paused[replica]
    }

    fn all_have_contact(&self) -> bool {
        (0..REPLICAS).all(|replica| self.has_contact(replica))
    }

    /// Newcomers on these replicas want the ID.
    fn contend(&mut self, newcomers: &[usize], node: usize, winner: Holder) {
        let heard = newcomers.iter().filter(|replica| self.has_contact(**replica)).count();
        let holder = self.holders[node];
        self.expected = match holder {
            _ if heard == 0 => Expected::Lost,
            Holder::Replica(_) | Holder::Somebody => Expected::Lost,
            Holder::Nobody | Holder::Left if self.is_settled && heard == newcomers.len() => {
                Expected::Won
            }
            _ => Expected::Either,
        };
        self.holders[node] = match (self.expected, holder) {
            (Expected::Won, _) => winner,
            (_, Holder::Replica(_) | Holder::Somebody) => holder,
            // Also where nobody gets it: what he has asked for may have been done.
            _ => Holder::Unknown,
        };
    }

    /// From now on, what this replica has is not certain.
    fn disturb(&mut self, replica: usize) {
        self.is_settled = false;
        for holder in &mut self.holders {
            *holder = match *holder {
                Holder::Replica(owner) if owner == replica => Holder::Doubtful(owner),
                Holder::Left | Holder::Somebody => Holder::Unknown,
                other => other,
            };
        }
    }

    fn crash(&mut self, replica: usize) {
        (self.links[replica], self.are_paused[replica]) = (Link::Good, false);
        self.has_dead_keys = true;
        for holder in &mut self.holders {
            *holder = match *holder {
                Holder::Replica(owner) | Holder::Doubtful(owner) if owner == replica => {
                    Holder::Dead
                }
                // It did not get round to giving it back.
                Holder::Left => Holder::Dead,
                Holder::Somebody => Holder::Unknown,
                // The new one does not know that Redis has lost anything, and may be faster than
                // those who are about to make their leases again.
                Holder::Replica(owner) if self.is_flushed => Holder::Doubtful(owner),
                other => other,
            };
        }
    }

    fn release(&mut self, replica: usize, node: usize) {
        self.holders[node] = match self.holders[node] {
            Holder::Replica(owner) if owner == replica => Holder::Left,
            Holder::Doubtful(owner) if owner == replica => Holder::Unknown,
            Holder::Somebody => Holder::Unknown,
            other => other,
        };
    }

    fn release_all(&mut self, node: usize) {
        let is_certain = self.is_settled && self.all_have_contact() && !self.has_dead_keys;
        self.holders[node] = match self.holders[node] {
            Holder::Nobody => Holder::Nobody,
            Holder::Dead => Holder::Dead,
            Holder::Left | Holder::Replica(_) | Holder::Somebody if self.all_have_contact() => {
                Holder::Left
            }
            _ if is_certain => Holder::Left,
            _ => Holder::Unknown,
        };
    }

    fn settle(&mut self) {
        (self.is_settled, self.is_flushed) = (true, false);
        for node in 0..NODES {
            self.holders[node] = match self.holders[node] {
                // Nobody else has tried to get it.
                Holder::Doubtful(owner) if self.has_contact(owner) => Holder::Replica(owner),
                Holder::Left if self.all_have_contact() => Holder::Nobody,
                other => other,
            };
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self {
            links: [Link::Good; REPLICAS],
            are_paused: [false; REPLICAS],
            holders: [Holder::Nobody; NODES],
            expected: Expected::Either,
            is_settled: true,
            is_flushed: false,
            has_dead_keys: false,
        })
        .boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Transition> {
        let (replica, node) = (|| 0..REPLICAS, || 0..NODES);
        prop_oneof![
            10 => (replica(), node())
                .prop_map(|(replica, node)| Transition::Acquire { replica, node }),
            3 => node().prop_map(|node| Transition::Race { node }),
            3 => (replica(), node(), 0..2_000_u64).prop_map(|(replica, node, micros)| {
                Transition::Abandon { replica, node, after: Duration::from_micros(micros) }
            }),
            4 => (replica(), node())
                .prop_map(|(replica, node)| Transition::Release { replica, node }),
            2 => node().prop_map(|node| Transition::ReleaseAll { node }),
            1 => Just(Transition::Extend),
            1 => replica().prop_map(|replica| Transition::Crash { replica }),
            1 => Just(Transition::DeadRunOut),
            2 => replica().prop_map(|replica| Transition::Pause { replica }),
            3 => replica().prop_map(|replica| Transition::Resume { replica }),
            2 => replica().prop_map(|replica| Transition::Cut { replica }),
            2 => replica().prop_map(|replica| Transition::Freeze { replica }),
            2 => replica().prop_map(|replica| Transition::LoseAnswers { replica }),
            3 => replica().prop_map(|replica| Transition::RunOut { replica }),
            4 => (replica(), any::<bool>())
                .prop_map(|(replica, late)| Transition::Restore { replica, late }),
            1 => Just(Transition::Flush),
            1 => (0..400_u64)
                .prop_map(|ms| Transition::Wait { duration: Duration::from_millis(ms) }),
            3 => Just(Transition::Settle),
        ]
        .boxed()
    }

    fn preconditions(state: &Self, transition: &Transition) -> bool {
        let is_running = |replica: usize| !state.are_paused[replica];
        let is_good = |replica: usize| state.has_contact(replica);
        match *transition {
            Transition::Acquire { replica, .. }
            | Transition::Abandon { replica, .. }
            | Transition::Release { replica, .. }
            | Transition::Pause { replica } => is_running(replica),
            Transition::Resume { replica } => state.are_paused[replica],
            Transition::Cut { replica }
            | Transition::Freeze { replica }
            | Transition::LoseAnswers { replica } => is_good(replica),
            Transition::RunOut { replica } => !is_good(replica),
            Transition::Restore { replica, late } => {
                // Bytes cannot be missing in the middle of a connection that goes on.
                let can_be_late = state.links[replica] == Link::Frozen;
                is_running(replica) && !is_good(replica) && (can_be_late || !late)
            }
            Transition::DeadRunOut => state.has_dead_keys,
            Transition::Race { .. } => (0..REPLICAS).any(is_running),
            Transition::Settle => !state.is_settled,
            Transition::ReleaseAll { .. }
            | Transition::Extend
            | Transition::Crash { .. }
            | Transition::Flush
            | Transition::Wait { .. } => true,
        }
    }

    fn apply(mut state: Self, transition: &Transition) -> Self {
        match *transition {
            Transition::Acquire { replica, node } => {
                state.contend(&[replica], node, Holder::Replica(replica));
            }
            Transition::Race { node } => {
                let running: Vec<_> =
                    (0..REPLICAS).filter(|replica| !state.are_paused[*replica]).collect();
                state.contend(&running, node, Holder::Somebody);
            }
            Transition::Abandon { replica, node, .. } => {
                state.contend(&[replica], node, Holder::Left);
            }
            Transition::Release { replica, node } => state.release(replica, node),
            Transition::ReleaseAll { node } => state.release_all(node),
            Transition::Crash { replica } => state.crash(replica),
            Transition::DeadRunOut => {
                state.has_dead_keys = false;
                let dead = state.holders.iter_mut().filter(|holder| **holder == Holder::Dead);
                dead.for_each(|holder| *holder = Holder::Left);
            }
            Transition::Pause { replica } => {
                state.are_paused[replica] = true;
                state.disturb(replica);
            }
            Transition::Resume { replica } => {
                state.are_paused[replica] = false;
                state.is_settled = false;
            }
            Transition::Cut { replica } => {
                state.links[replica] = Link::Cut;
                state.disturb(replica);
            }
            Transition::Freeze { replica } => {
                state.links[replica] = Link::Frozen;
                state.disturb(replica);
            }
            Transition::LoseAnswers { replica } => {
                state.links[replica] = Link::WithoutAnswers;
                state.disturb(replica);
            }
            Transition::Restore { replica, .. } => {
                state.links[replica] = Link::Good;
                state.is_settled = false;
            }
            Transition::Flush => (state.is_settled, state.is_flushed) = (false, true),
            Transition::Settle => state.settle(),
            Transition::Extend | Transition::RunOut { .. } | Transition::Wait { .. } => {}
        }
        state
    }
}
