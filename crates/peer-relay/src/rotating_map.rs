//! A memory that forgets: bounded by time and by number.
//!
//! Two maps, a newer and an older one. When the newer one is full or has its age, it becomes the
//! older one, and what that held is forgotten all at once. So there is nothing to keep per entry,
//! and a flood can only make the memory shorter, never larger.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Remembers values by key for at least `life` and at most twice that, as long as no more than
/// `most` new ones come in that time.
#[derive(Debug)]
pub(crate) struct RotatingMap<K, V> {
    newer: HashMap<K, V>,
    older: HashMap<K, V>,
    began: Instant,
    life: Duration,
    most: usize,
}

impl<K: Hash + Eq, V> RotatingMap<K, V> {
    /// An empty memory of two times `most` entries.
    pub(crate) fn new(now: Instant, life: Duration, most: usize) -> Self {
        Self { newer: HashMap::new(), older: HashMap::new(), began: now, life, most }
    }

    /// Remembers a value. Returns whether there was none for this key.
    pub(crate) fn insert(&mut self, now: Instant, key: K, value: V) -> bool {
        self.age(now);
        if self.newer.len() >= self.most && !self.newer.contains_key(&key) {
            self.turn(now);
        }
        let is_new = !self.older.contains_key(&key);
        self.newer.insert(key, value).is_none() && is_new
    }

    /// What is remembered for this key.
    pub(crate) fn get<Q>(&mut self, now: Instant, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.age(now);
        self.newer.get(key).or_else(|| self.older.get(key))
    }

    /// How many entries there are, a key in both rotating_map counted twice.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.newer.len() + self.older.len()
    }

    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        if age >= self.life {
            self.turn(now);
        }
        if age >= self.life * 2 {
            self.turn(now);
        }
    }

    fn turn(&mut self, now: Instant) {
        self.older = std::mem::take(&mut self.newer);
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    #[test]
    fn remembers_for_its_life_and_forgets_after_twice_that() {
        let start = Instant::now();
        let mut memory = RotatingMap::new(start, TTL, 100);
        assert!(memory.insert(start, "a", 1));
        let late = start + TTL * 9 / 10;
        assert!(memory.insert(late, "b", 2));
        assert!(!memory.insert(late, "b", 3));
        assert_eq!(memory.get(start + TTL, "a"), Some(&1));
        assert_eq!(memory.get(late + TTL, "b"), Some(&3));
        assert_eq!(memory.get(start + TTL * 2, "a"), None);
        assert!(memory.insert(start + TTL * 4, "b", 4));
        assert_eq!(memory.len(), 1);
    }

    proptest! {
        #[test]
        fn is_never_larger_than_two_maps_and_knows_the_last_one(
            keys in prop::collection::vec(0u16..500, 1..300), most in 1usize..50,
        ) {
            let start = Instant::now();
            let mut memory = RotatingMap::new(start, TTL, most);
            for (at, key) in keys.iter().enumerate() {
                memory.insert(start, *key, at);
                prop_assert!(memory.len() <= 2 * most);
                for (at, known) in keys[..=at].iter().enumerate().rev().take(most) {
                    let last = memory.get(start, known);
                    prop_assert!(last.is_some_and(|last| *last >= at), "{known} was forgotten");
                }
            }
        }
    }
}
