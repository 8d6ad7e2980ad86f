//! The bans of a cluster, in Redis: one text, changed by comparing and setting it.
//!
//! No other commands are needed than for leases. A text that is missing has ended with its last ban, or
//! Redis has lost it: then the bans that a replica knows, and that still hold, are stored again.

use redis::Value;
use redis_session::{Redis, RedisFailure, RedisState};
use tokio::sync::watch;

use super::BanError;
use super::table::{Ban, Table};

const COMPARE_AND_SET: &str = include_str!("compare_and_set.lua");

/// How often a change is tried while other replicas change the bans too.
const MAX_ROUNDS: usize = 8;

/// Why bans cannot be read or stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("Redis is unavailable")]
    Unavailable,
    #[error("other replicas change the bans all the time")]
    Contended,
}

impl From<RedisFailure> for StoreError {
    fn from(_: RedisFailure) -> Self {
        Self::Unavailable
    }
}

/// Where the bans are stored.
pub(super) struct Store(Redis);

impl Store {
    pub(super) fn new(redis: Redis) -> Self {
        Self(redis)
    }

    pub(super) fn state(&self) -> watch::Receiver<RedisState> {
        self.0.state()
    }

    /// Loads all bans. `known` are those that the replica has.
    pub(super) async fn load(
        &self,
        known: Table,
        now: impl Fn() -> u64,
    ) -> Result<Table, StoreError> {
        let text = self.text().await?;
        if !text.is_empty() {
            return Ok(parse(&text, now()));
        }
        if known.len() > 0 && !self.compare_and_set("", &known, now()).await? {
            // Another replica was faster.
            return Ok(parse(&self.text().await?, now()));
        }
        Ok(known)
    }

    /// Changes the bans. Returns all of them.
    pub(super) async fn change(
        &self,
        now: impl Fn() -> u64,
        change: impl Fn(&mut Table) -> Result<(), BanError>,
    ) -> Result<Table, BanError> {
        for _ in 0..MAX_ROUNDS {
            let text = self.text().await?;
            let mut table = parse(&text, now());
            change(&mut table)?;
            if self.compare_and_set(&text, &table, now()).await? {
                return Ok(table);
            }
        }
        Err(StoreError::Contended.into())
    }

    async fn text(&self) -> Result<String, StoreError> {
        let mut get = redis::cmd("GET");
        get.arg(self.key());
        match self.0.run(get).await? {
            Value::BulkString(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            _ => Ok(String::new()),
        }
    }

    /// Stores the bans if the text is still the same. Returns whether it was.
    async fn compare_and_set(
        &self,
        text: &str,
        table: &Table,
        now: u64,
    ) -> Result<bool, StoreError> {
        let list = serde_json::to_string(&table.list()).map_err(|_| StoreError::Unavailable)?;
        // Without bans, an empty list says for a while that nothing was lost.
        let lasts = table.end().map_or(LAST_LIST_MS, |end| end.saturating_sub(now).max(1));
        let mut command = redis::cmd("EVAL");
        command.arg(COMPARE_AND_SET).arg(1).arg(self.key()).arg(text).arg(list).arg(lasts);
        match self.0.run(command).await? {
            Value::Int(1) => Ok(true),
            Value::Int(0) => Ok(false),
            _ => Err(StoreError::Unavailable),
        }
    }

    fn key(&self) -> String {
        self.0.key("bans", "all")
    }
}

/// How long the list without bans is kept, in milliseconds: longer than replicas take to look.
const LAST_LIST_MS: u64 = 60_000;

fn parse(text: &str, now: u64) -> Table {
    let list: Vec<Ban> = serde_json::from_str(text).unwrap_or_default();
    Table::from_list(list, now)
}
