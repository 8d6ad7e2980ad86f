//! What happens to nodes, as one bounded log of events: who connected, who left, who was refused.
//!
//! - `event`: the events.
//! - `log`: the newest ones, numbered; the oldest give way to new ones.
//! - `held`: departures that wait for their node to reconnect.
//! - `cursor`: a reader's position in the log.
//!
//! Recording an event is a push into memory, under a short lock. Each reader has a cursor of its own
//! and reads at its own pace; one that is too slow finds a gap in the numbers, and no reader delays
//! nodes or another reader. Without readers there is no log, and recording does nothing.

mod cursor;
mod event;
mod held;
mod log;

pub(crate) use cursor::{Cursor, Unread};
pub(crate) use event::{Arrival, Departure, NodeEvent};

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};

use crate::metrics::Metrics;
use crate::node::{NodeId, ReplicaId};
use event::Change;
use log::Log;

/// What an operator decides about events of nodes.
#[derive(Debug, Clone, Copy)]
pub struct LifecycleSettings {
    /// The most events that are stored for readers.
    pub max_queued: usize,
    /// How long a departure waits for its node to reconnect; zero for not at all.
    pub debounce: Duration,
    /// The most refusals in a second that become events.
    pub max_refusals_per_second: usize,
}

/// Records events; a cheap handle.
#[derive(Clone, Default)]
pub(crate) struct Lifecycle(Option<Arc<Shared>>);

struct Shared {
    replica: ReplicaId,
    /// When the log began, in milliseconds since 1970.
    epoch: u64,
    log: Mutex<Log>,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
    /// There is a departure that waits, after a time without any.
    held: Notify,
    metrics: Metrics,
}

impl Lifecycle {
    /// An empty log of this replica.
    pub(crate) fn new(replica: ReplicaId, settings: LifecycleSettings, metrics: &Metrics) -> Self {
        Self(Some(Arc::new(Shared {
            replica,
            epoch: unix_time(),
            log: Mutex::new(Log::new(settings, metrics.clone())),
            newest: watch::Sender::new(0),
            held: Notify::new(),
            metrics: metrics.clone(),
        })))
    }

    /// Records that a node has connected. If a departure of the node is held, both become one event.
    pub(crate) fn connected(&self, arrival: impl FnOnce() -> Arrival) {
        self.record(|log| {
            let arrival = arrival();
            let change = match log.held.take(&arrival.node) {
                Some((previous, left_at)) => {
                    let away_ms = unix_time().saturating_sub(left_at);
                    Change::Reconnected { arrival, away_ms, previous }
                }
                None => Change::Connected(arrival),
            };
            log.append(unix_time(), change);
        });
    }

    /// Records that a node's connection has ended.
    pub(crate) fn disconnected(&self, departure: impl FnOnce() -> Departure) {
        self.record(|log| {
            let (departure, time) = (departure(), unix_time());
            if let Err(departure) = log.held.hold(departure, time, Instant::now()) {
                log.append(time, Change::Disconnected(departure));
            }
        });
        if let Some(shared) = &self.0 {
            shared.held.notify_one();
        }
    }

    /// Records that a connection was refused, for a node's ID if it named one.
    pub(crate) fn refused(&self, node: Option<&NodeId>, address: IpAddr, cause: &'static str) {
        self.record(|log| log.refuse(node, address, cause, unix_time(), Instant::now()));
    }

    /// Returns a reader of everything that is recorded from now on.
    pub(crate) fn follow(&self) -> Option<Cursor> {
        let shared = self.0.clone()?;
        let newest = *shared.newest.borrow();
        Some(Cursor::new(shared, newest))
    }

    /// Records departures that nobody has reconnected after in time. Never returns.
    pub(crate) async fn release_held(self) {
        let Some(shared) = &self.0 else { return std::future::pending().await };
        loop {
            let next = shared.log().held.next_end();
            match next {
                Some(end) => tokio::time::sleep_until(end.into()).await,
                None => shared.held.notified().await,
            }
            self.record(|log| log.release(|end| end <= Instant::now()));
        }
    }

    /// Records all departures that are held, and holds no others: their nodes reconnect elsewhere.
    pub(crate) fn stop_holding(&self) {
        self.record(|log| {
            log.held.stop();
            log.release(|_| true);
        });
    }

    fn record(&self, change: impl FnOnce(&mut Log)) {
        let Some(shared) = &self.0 else { return };
        let mut log = shared.log();
        change(&mut log);
        let newest = log.newest();
        // Under the lock, so that the number never decreases.
        shared.newest.send_if_modified(|known| std::mem::replace(known, newest) != newest);
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time in milliseconds since 1970.
fn unix_time() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
