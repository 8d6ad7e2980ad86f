//! A bounded queue that is shared fairly: a caller with many requests delays its own, not those of
//! others.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;

/// The cause of a webhook call: an address, or a sending node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Caller(u64);

/// Makes [`Caller`]s out of what identifies them, with a random key.
#[derive(Debug, Default)]
pub(super) struct Callers(RandomState);

impl Callers {
    pub(super) fn caller(&self, identity: impl Hash) -> Caller {
        Caller(self.0.hash_one(identity))
    }
}

/// Returns what calls that come from an address are shared by: IPv4 addresses, and the networks
/// that a site has of IPv6, in which it may have any address (RFC 4291, 2.5.4).
pub(super) fn network(address: IpAddr) -> impl Hash {
    match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// Items that wait for a slot, by caller. The next is that of the caller with the fewest items in
/// work, and among those of the one that was served longest ago.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    callers: HashMap<Caller, Account<T>>,
    /// The callers with queued items, in the order in which they are served.
    ready: BTreeSet<Rank>,
    queued: usize,
    capacity: usize,
    /// Grows by one with each item that is taken.
    turn: u64,
}

/// What one caller has in work and in the queue.
#[derive(Debug)]
struct Account<T> {
    in_work: usize,
    last_served: u64,
    items: VecDeque<T>,
}

type Rank = (usize, u64, Caller);

impl<T> Account<T> {
    fn rank(&self, caller: Caller) -> Rank {
        (self.in_work, self.last_served, caller)
    }
}

impl<T> FairQueue<T> {
    /// An empty queue for at most `capacity` items.
    pub(super) fn new(capacity: usize) -> Self {
        Self { callers: HashMap::new(), ready: BTreeSet::new(), queued: 0, capacity, turn: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.queued
    }

    /// Returns how many items are served before the next one of this caller, if all take the same
    /// time.
    pub(super) fn ahead_of(&self, caller: Caller) -> usize {
        let own = self.callers.get(&caller).map_or(0, |account| account.items.len());
        // In each round one item of each caller is served.
        (own + 1).saturating_mul(self.ready.len().max(1)).min(self.queued)
    }

    /// Queues an item. If the queue is full, the newest item of a caller that has more than its
    /// share is returned, which may be this one.
    pub(super) fn push(&mut self, caller: Caller, item: T) -> Option<T> {
        let evicted = if self.queued < self.capacity {
            None
        } else {
            match self.over_share(caller) {
                Some(other) => self.pop_newest(other),
                None => return Some(item),
            }
        };
        let turn = self.turn;
        let account = self.account(caller, turn);
        account.items.push_back(item);
        let rank = account.rank(caller);
        self.ready.insert(rank);
        self.queued += 1;
        evicted
    }

    /// Takes the next item, and counts it as in work until [`FairQueue::finished`].
    pub(super) fn pop(&mut self) -> Option<(Caller, T)> {
        let rank = self.ready.pop_first()?;
        let (_, _, caller) = rank;
        self.turn += 1;
        let account = self.callers.get_mut(&caller)?;
        let item = account.items.pop_front()?;
        self.queued -= 1;
        account.in_work += 1;
        account.last_served = self.turn;
        if !account.items.is_empty() {
            self.ready.insert(account.rank(caller));
        }
        Some((caller, item))
    }

    /// Counts an item as in work that did not have to be queued.
    pub(super) fn began(&mut self, caller: Caller) {
        self.turn += 1;
        let turn = self.turn;
        self.change(caller, |account| {
            account.in_work += 1;
            account.last_served = turn;
        });
    }

    /// Counts an item as no longer in work.
    pub(super) fn finished(&mut self, caller: Caller) {
        self.change(caller, |account| account.in_work = account.in_work.saturating_sub(1));
    }

    /// Removes the first queued item of this caller that is the one.
    pub(super) fn remove(&mut self, caller: Caller, is_it: impl FnMut(&T) -> bool) {
        let Some(at) =
            self.callers.get(&caller).and_then(|account| account.items.iter().position(is_it))
        else {
            return;
        };
        self.queued -= 1;
        self.change(caller, |account| drop(account.items.remove(at)));
    }

    /// Returns a caller with more queued items than the one that wants to queue another, if that
    /// one has less than its share.
    fn over_share(&self, caller: Caller) -> Option<Caller> {
        let queued = |caller| self.callers.get(&caller).map_or(0, |it| it.items.len());
        let callers = self.ready.len() + usize::from(queued(caller) == 0);
        let share = self.queued / callers.max(1);
        if queued(caller) >= share {
            return None;
        }
        self.ready.iter().map(|(_, _, other)| *other).find(|other| queued(*other) > share)
    }

    fn pop_newest(&mut self, caller: Caller) -> Option<T> {
        let mut newest = None;
        self.change(caller, |account| newest = account.items.pop_back());
        self.queued -= usize::from(newest.is_some());
        newest
    }

    fn account(&mut self, caller: Caller, turn: u64) -> &mut Account<T> {
        self.callers.entry(caller).or_insert_with(|| Account {
            in_work: 0,
            last_served: turn,
            items: VecDeque::new(),
        })
    }

    /// Changes an account and what follows from it: the caller's rank, and whether it is known.
    fn change(&mut self, caller: Caller, change: impl FnOnce(&mut Account<T>)) {
        let turn = self.turn;
        let account = self.account(caller, turn);
        let before = account.rank(caller);
        change(account);
        let (after, is_ready) = (account.rank(caller), !account.items.is_empty());
        let is_unused = !is_ready && account.in_work == 0;
        self.ready.remove(&before);
        if is_ready {
            self.ready.insert(after);
        }
        if is_unused && let Entry::Occupied(account) = self.callers.entry(caller) {
            account.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOODER: Caller = Caller(1);

    fn order(queue: &mut FairQueue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop().map(|(_, item)| item)).collect()
    }

    #[test]
    fn a_cause_with_little_in_work_comes_first() {
        let mut queue = FairQueue::new(100);
        for item in 0..4 {
            queue.push(FLOODER, item);
        }
        queue.push(Caller(2), 10);
        queue.push(Caller(3), 20);
        queue.push(Caller(3), 21);
        assert_eq!(queue.ahead_of(FLOODER), 7);
        assert_eq!(queue.ahead_of(Caller(2)), 6);
        assert_eq!(queue.ahead_of(Caller(4)), 3);
        assert_eq!(order(&mut queue), [0, 10, 20, 1, 21, 2, 3]);
        // All are still in work.
        queue.push(FLOODER, 4);
        queue.push(Caller(3), 22);
        queue.push(Caller(2), 11);
        assert_eq!(order(&mut queue), [11, 22, 4]);
    }

    #[test]
    fn a_full_queue_takes_from_the_cause_with_most() {
        let mut queue = FairQueue::new(4);
        for item in 0..4 {
            assert_eq!(queue.push(FLOODER, item), None);
        }
        assert_eq!(queue.push(FLOODER, 4), Some(4));
        assert_eq!(queue.push(Caller(2), 10), Some(3));
        assert_eq!(queue.push(Caller(2), 11), Some(2));
        assert_eq!(queue.push(Caller(2), 12), Some(12), "it has its share");
        assert!(matches!(queue.push(Caller(3), 20), Some(1 | 11)));
        assert_eq!(queue.len(), 4);
    }

    #[test]
    fn nothing_is_left_of_callers_that_want_nothing() {
        let mut queue = FairQueue::new(4);
        queue.began(FLOODER);
        queue.push(FLOODER, 1);
        queue.push(FLOODER, 2);
        queue.remove(FLOODER, |item| *item == 1);
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.pop(), Some((FLOODER, 2)));
        queue.finished(FLOODER);
        queue.finished(FLOODER);
        queue.finished(Caller(7));
        assert!(queue.callers.is_empty() && queue.ready.is_empty() && queue.len() == 0);
    }
}
