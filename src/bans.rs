//! Bans for a time, of nodes and of addresses, that operators set while the broker runs.
//!
//! Each replica has all of them in memory, so that a check costs no lookup elsewhere. In a cluster they
//! are stored in Redis (`store`): a replica that changes them tells the others, and all of them look
//! there every few seconds. While Redis is unavailable, the bans that are known remain.
//!
//! - `table`: the bans that hold, by target.
//! - `target`: what is banned.

mod store;
mod table;
mod target;

pub(crate) use store::StoreError;
pub(crate) use table::Ban;
pub(crate) use target::{InvalidTarget, Target};

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis_session::Redis;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::node::NodeId;
use store::Store;
use table::Table;

/// The time between two looks into Redis.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// All bans; a cheap handle.
#[derive(Clone)]
pub(crate) struct Bans(Arc<Shared>);

struct Shared {
    max_bans: usize,
    store: Option<Store>,
    table: RwLock<Table>,
    /// Whether nobody is banned, which most often is so.
    is_empty: AtomicBool,
    changed: watch::Sender<()>,
    metrics: Metrics,
}

/// Why a ban was not set or lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BanError {
    #[error("there are as many bans as there may be")]
    TooMany,
    #[error("there is no such ban")]
    NotFound,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Bans {
    /// No bans, in memory, or in Redis if it is there.
    pub(crate) fn new(redis: Option<Redis>, max_bans: usize, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            max_bans,
            store: redis.map(Store::new),
            table: RwLock::default(),
            is_empty: AtomicBool::new(true),
            changed: watch::channel(()).0,
            metrics,
        }))
    }

    /// Whether a node is banned.
    pub(crate) fn include_node(&self, node: &NodeId) -> bool {
        !self.0.is_empty.load(Ordering::Acquire)
            && self.read(|table| table.has_node(node, now_ms()))
    }

    /// Whether an address is banned.
    pub(crate) fn include_address(&self, address: IpAddr) -> bool {
        !self.0.is_empty.load(Ordering::Acquire)
            && self.read(|table| table.has_address(address, now_ms()))
    }

    /// Returns the first `limit` bans in the order of their names that come after `after`, and whether
    /// there are more.
    pub(crate) fn page(&self, after: &str, limit: usize) -> (Vec<Ban>, bool) {
        self.read(|table| table.page(after, limit, now_ms()))
    }

    /// Sets a ban that holds for some time from now, in place of one of the same target.
    ///
    /// # Errors
    /// See [`BanError`].
    pub(crate) async fn set(
        &self,
        target: Target,
        lasts: Duration,
        reason: String,
    ) -> Result<Ban, BanError> {
        let since = now_ms();
        let until = since.saturating_add(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
        let ban = Ban { name: target.to_string(), since, until, reason };
        let set = ban.clone();
        self.change(move |table| {
            table.remove(&target);
            if table.len() >= self.0.max_bans {
                return Err(BanError::TooMany);
            }
            table.insert(target.clone(), set.clone());
            Ok(())
        })
        .await?;
        Ok(ban)
    }

    /// Lifts a ban.
    ///
    /// # Errors
    /// See [`BanError`].
    pub(crate) async fn lift(&self, target: &Target) -> Result<(), BanError> {
        self.change(|table| if table.remove(target) { Ok(()) } else { Err(BanError::NotFound) })
            .await
    }

    async fn change(
        &self,
        change: impl Fn(&mut Table) -> Result<(), BanError>,
    ) -> Result<(), BanError> {
        let table = match &self.0.store {
            Some(store) => store.change(now_ms, change).await?,
            None => {
                let mut table = self.read(Table::clone);
                table.drop_expired(now_ms());
                change(&mut table)?;
                table
            }
        };
        self.replace(table);
        Ok(())
    }

    /// Drops the bans that have ended, and looks for changes in Redis.
    pub(crate) async fn reload(&self) {
        let mut known = self.read(Table::clone);
        known.drop_expired(now_ms());
        let Some(store) = &self.0.store else { return self.replace(known) };
        // Otherwise what is known remains until the next time.
        if let Ok(table) = store.load(known, now_ms).await {
            self.replace(table);
        }
    }

    /// Keeps the bans up to date. Never ends.
    pub(crate) async fn run(self) {
        let mut state = self.0.store.as_ref().map(Store::state);
        let mut ticks = tokio::time::interval(RELOAD_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            match &mut state {
                Some(state) => tokio::select! {
                    _ = ticks.tick() => {}
                    Ok(()) = state.changed() => {}
                },
                None => drop(ticks.tick().await),
            }
            self.reload().await;
        }
    }

    /// Returns what is notified of changes.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    fn replace(&self, table: Table) {
        let mut current = self.0.table.write().unwrap_or_else(PoisonError::into_inner);
        if *current == table {
            return;
        }
        self.0.metrics.bans.set(i64::try_from(table.len()).unwrap_or(i64::MAX));
        self.0.is_empty.store(table.len() == 0, Ordering::Release);
        *current = table;
        drop(current);
        self.0.changed.send_replace(());
    }

    fn read<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.0.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Returns the current time, in milliseconds since 1970.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
