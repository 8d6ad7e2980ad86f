//! A reader's position in the log.

use std::sync::Arc;

use tokio::sync::watch;

use super::Shared;
use super::event::NodeEvent;
use crate::node::ReplicaId;

/// Reads the log at its own pace.
pub(crate) struct Cursor {
    shared: Arc<Shared>,
    /// The number of the last event that was read.
    position: u64,
    /// The number up to which lost events are counted.
    counted: u64,
    newest: watch::Receiver<u64>,
}

/// Events that follow a position.
pub(crate) struct Unread {
    /// The number of events before them that the log has lost.
    pub(crate) lost: u64,
    pub(crate) events: Vec<Arc<NodeEvent>>,
}

impl Cursor {
    pub(super) fn new(shared: Arc<Shared>, position: u64) -> Self {
        let newest = shared.newest.subscribe();
        Self { shared, position, counted: position, newest }
    }

    /// The replica whose log it is.
    pub(crate) fn replica(&self) -> ReplicaId {
        self.shared.replica
    }

    /// When the log began, in milliseconds since 1970.
    pub(crate) fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// The number of events that are to be read.
    pub(crate) fn remaining(&self) -> u64 {
        self.newest.borrow().saturating_sub(self.position)
    }

    /// Returns up to `most` events behind the position, which stays where it is. Lost ones are
    /// counted under this cause.
    pub(crate) fn peek(&mut self, most: usize, cause: &'static str) -> Unread {
        let events = self.shared.log().after(self.position, most);
        let Some(first) = events.first() else { return Unread { lost: 0, events } };
        let (before, lost) = (first.sequence - 1, first.sequence - 1 - self.position);
        if before > self.counted {
            let dropped = self.shared.metrics.node_events_dropped.with([cause]);
            dropped.inc_by(before - self.counted);
            self.counted = before;
        }
        Unread { lost, events }
    }

    /// Moves the position back to the event with this number. Returns how many of those that follow
    /// it the log has lost already, which are passed over.
    pub(crate) fn resume(&mut self, sequence: u64) -> u64 {
        let newest = *self.newest.borrow();
        self.position = sequence.min(newest);
        let first = self.shared.log().after(self.position, 1).first().map(|it| it.sequence);
        let before = first.map_or(self.position, |first| first - 1);
        let lost = before - self.position;
        (self.position, self.counted) = (before, before);
        lost
    }

    /// Moves the position to behind the event with this number.
    pub(crate) fn advance(&mut self, sequence: u64) {
        self.position = self.position.max(sequence);
        self.counted = self.counted.max(sequence);
    }

    /// Returns when there are events to be read.
    pub(crate) async fn wait(&mut self) {
        let position = self.position;
        // Fails only without a sender, which the log has.
        let _ = self.newest.wait_for(|newest| *newest > position).await;
    }
}
