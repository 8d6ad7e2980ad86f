//! What neighbours may make this peer do for them: messages that it sends, and channels that it
//! opens. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::id::PeerId;
use crate::rotating_map::RotatingMap;

/// How many bytes this peer sends at most for each byte of a neighbour's messages that it handles.
/// An answer to `findPeers` that goes three ways has eleven times the bytes of the question.
const AMPLIFICATION: usize = 12;

/// How many bytes it sends at most before that counts.
pub(crate) const REPLY_BURST_BYTES: usize = 64 * 1024;

/// How long a dial counts at least, and at most twice that.
pub(crate) const DIAL_PERIOD: Duration = Duration::from_secs(60);

/// How many dials the messages of one neighbour may cause in a period. A newcomer that knows one
/// peer needs some twenty.
pub(crate) const MAX_DIALS_PER_NEIGHBOUR: u32 = 32;

/// Of how many neighbours the dials are counted.
const MAX_COUNTED: usize = 16_384;

/// What is left of the limits of each neighbour.
#[derive(Debug)]
pub(crate) struct Limits {
    /// How many bytes may be sent because of a neighbour's messages.
    reply_bytes: HashMap<PeerId, usize>,
    dials: DialCounts<PeerId>,
}

impl Limits {
    pub(crate) fn new(now: Instant) -> Self {
        Self { reply_bytes: HashMap::new(), dials: DialCounts::new(now, MAX_DIALS_PER_NEIGHBOUR) }
    }

    /// A peer is a neighbour no more.
    pub(crate) fn remove(&mut self, neighbour: &PeerId) {
        self.reply_bytes.remove(neighbour);
    }

    /// Counts a message of a neighbour that is handled here.
    pub(crate) fn record(&mut self, neighbour: PeerId, bytes: usize) {
        let left = self.reply_bytes.entry(neighbour).or_insert(REPLY_BURST_BYTES);
        *left = (*left + AMPLIFICATION * bytes).min(REPLY_BURST_BYTES);
    }

    /// Whether so many bytes may be sent because of the neighbour's messages.
    pub(crate) fn may_send(&mut self, neighbour: &PeerId, bytes: usize) -> bool {
        let Some(left) = self.reply_bytes.get_mut(neighbour) else { return false };
        let rest = left.checked_sub(bytes);
        *left = rest.unwrap_or(*left);
        rest.is_some()
    }

    /// Whether a channel may be opened because of the neighbour's messages.
    pub(crate) fn may_dial(&mut self, now: Instant, neighbour: PeerId) -> bool {
        self.dials.count(now, neighbour)
    }
}

/// How many dials something has caused, or been the target of, in the last minute or two.
#[derive(Debug)]
pub(crate) struct DialCounts<K> {
    counts: RotatingMap<K, u32>,
    most: u32,
}

impl<K: std::hash::Hash + Eq> DialCounts<K> {
    /// Allows `most` dials of each in a period.
    pub(crate) fn new(now: Instant, most: u32) -> Self {
        Self { counts: RotatingMap::new(now, DIAL_PERIOD, MAX_COUNTED), most }
    }

    /// Counts a dial. Returns whether it is allowed.
    pub(crate) fn count(&mut self, now: Instant, key: K) -> bool {
        let count = self.counts.get(now, &key).copied().unwrap_or(0);
        let is_allowed = count < self.most;
        if is_allowed {
            self.counts.insert(now, key, count + 1);
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: PeerId = PeerId::from_bytes([1; 20]);
    const TWO: PeerId = PeerId::from_bytes([2; 20]);

    #[test]
    fn a_neighbour_earns_a_multiple_of_what_it_sends() {
        let mut limits = Limits::new(Instant::now());
        assert!(!limits.may_send(&ONE, 1), "nothing was handled");
        limits.record(ONE, 100);
        assert!(limits.may_send(&ONE, REPLY_BURST_BYTES) && !limits.may_send(&ONE, 1));
        limits.record(ONE, 100);
        assert!(!limits.may_send(&ONE, 100 * AMPLIFICATION + 1));
        assert!(limits.may_send(&ONE, 100 * AMPLIFICATION));
        limits.record(TWO, 1);
        assert!(limits.may_send(&TWO, REPLY_BURST_BYTES), "each has its own");
        limits.remove(&ONE);
        limits.remove(&TWO);
        assert!(limits.reply_bytes.is_empty());
    }

    #[test]
    fn dials_are_counted_for_a_period() {
        let start = Instant::now();
        let mut limits = Limits::new(start);
        assert!((0..MAX_DIALS_PER_NEIGHBOUR).all(|_| limits.may_dial(start, ONE)));
        assert!(!limits.may_dial(start, ONE) && limits.may_dial(start, TWO));
        assert!(!limits.may_dial(start + DIAL_PERIOD, ONE), "one period at least");
        assert!(limits.may_dial(start + DIAL_PERIOD * 2, ONE));
    }
}
