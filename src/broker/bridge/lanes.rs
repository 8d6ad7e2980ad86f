//! Messages of peers that wait for their turn: one of each peer is dealt with at a time, so that
//! they stay in order and a slow answer holds up nobody else's.

use std::collections::{HashMap, VecDeque};

use crate::overlay::PeerId;

/// The most messages of one peer, with the one that is dealt with.
const MAX_OF_ONE: usize = 64;

/// The most messages of all peers. Each is at most as long as a frame of theirs, 64 KB.
const MAX_OF_ALL: usize = 1024;

/// What waits, by its sender. A peer has a lane while one of its messages is dealt with.
pub(super) struct Lanes<T> {
    lanes: HashMap<PeerId, VecDeque<T>>,
    count: usize,
}

/// There is no place for one more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<T> Lanes<T> {
    /// Nothing waits.
    pub(super) fn new() -> Self {
        Self { lanes: HashMap::new(), count: 0 }
    }

    /// Gives a message back if it is to be dealt with now; otherwise it waits.
    ///
    /// # Errors
    /// [`Full`] if it cannot wait.
    pub(super) fn begin(&mut self, from: PeerId, message: T) -> Result<Option<T>, Full> {
        if self.count >= MAX_OF_ALL {
            return Err(Full);
        }
        let begun = match self.lanes.get_mut(&from) {
            Some(lane) if lane.len() + 1 >= MAX_OF_ONE => return Err(Full),
            Some(lane) => {
                lane.push_back(message);
                None
            }
            None => {
                self.lanes.insert(from, VecDeque::new());
                Some(message)
            }
        };
        self.count += 1;
        Ok(begun)
    }

    /// The message of this peer that was dealt with is done with. Gives the next one.
    pub(super) fn end(&mut self, from: &PeerId) -> Option<T> {
        let lane = self.lanes.get_mut(from)?;
        self.count -= 1;
        let next = lane.pop_front();
        if next.is_none() {
            self.lanes.remove(from);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: usize) -> PeerId {
        let mut id = [0; 20];
        id[..8].copy_from_slice(&number.to_be_bytes());
        PeerId::from_bytes(id)
    }

    #[test]
    fn each_peer_has_its_turns_in_order() {
        let mut lanes = Lanes::new();
        assert_eq!(lanes.begin(peer(1), 1), Ok(Some(1)));
        assert_eq!(lanes.begin(peer(1), 2), Ok(None));
        assert_eq!(lanes.begin(peer(1), 3), Ok(None));
        assert_eq!(lanes.begin(peer(2), 4), Ok(Some(4)));
        assert_eq!([lanes.end(&peer(1)), lanes.end(&peer(1))], [Some(2), Some(3)]);
        assert_eq!([lanes.end(&peer(1)), lanes.end(&peer(2))], [None, None]);
        assert_eq!((lanes.count, lanes.lanes.len()), (0, 0));
        assert_eq!(lanes.begin(peer(1), 5), Ok(Some(5)));
    }

    #[test]
    fn neither_one_nor_all_can_fill_the_memory() {
        let mut lanes = Lanes::new();
        for number in 0..MAX_OF_ONE {
            assert!(lanes.begin(peer(0), number).is_ok());
        }
        assert_eq!(lanes.begin(peer(0), 0), Err(Full));
        for number in MAX_OF_ONE..MAX_OF_ALL {
            assert_eq!(lanes.begin(peer(number), number), Ok(Some(number)));
        }
        assert_eq!(lanes.begin(peer(MAX_OF_ALL), 0), Err(Full));
        assert_eq!(lanes.end(&peer(0)), Some(1));
        assert_eq!(lanes.begin(peer(MAX_OF_ALL), 0), Ok(Some(0)));
    }
}
