//! Maintains the leases: extends them, restores them after an outage, gives up lost ones.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::Value;
use redis_session::{COMMAND_TIMEOUT, MAX_BACKOFF, RedisFailure, RedisState};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::{EXTEND, RedisDirectory, Release, replicas};
use crate::node::{ConnectionId, NodeId, Owner};

/// The longest time between two extensions of the replica's own key.
const MAX_REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// How often a lease, and a replica's own key, is extended within its time to live.
const EXTENSIONS_PER_TTL: u32 = 3;

/// How many leases are extended in one go. Messages between replicas wait behind them.
const CHUNK: usize = 256;

/// How long no IDs are acquired after Redis has lost data: the other replicas reconnect within that
/// time, and must be able to assert their leases first.
const SETTLING_TIME: Duration =
    Duration::from_millis((COMMAND_TIMEOUT.as_millis() + 2 * MAX_BACKOFF.as_millis()) as u64);

/// Keeps a directory true for as long as it is run.
pub(crate) struct Maintenance {
    directory: RedisDirectory,
    releases: mpsc::Receiver<Release>,
    session: u64,
    extended: Instant,
    ready_at: Instant,
}

impl Maintenance {
    pub(super) fn new(directory: RedisDirectory, releases: mpsc::Receiver<Release>) -> Self {
        let now = Instant::now();
        Self { directory, releases, session: 0, extended: now, ready_at: now }
    }

    pub(crate) async fn run(self) {
        let directory = self.directory.clone();
        // Side by side: giving up must not wait for a command to fail.
        tokio::join!(self.keep(), give_up(directory));
    }

    async fn keep(mut self) {
        let mut state = self.directory.0.redis.state();
        let mut ticks = interval(period(&self.directory));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Ok(()) = state.changed() => {}
                Some(release) = self.releases.recv() => {
                    self.finish(release).await;
                    continue;
                }
            }
            if self.directory.0.is_closed.load(Ordering::Acquire) {
                continue;
            }
            let state = *state.borrow_and_update();
            match state {
                RedisState::Unavailable => self.set_ready(false),
                RedisState::Connected(session) => {
                    // A failure shows as an outage soon; the next session tries again.
                    let _ = self.keep_in(session).await;
                }
            }
        }
    }

    /// Does what is due in the session of this number.
    async fn keep_in(&mut self, session: u64) -> Result<(), RedisFailure> {
        let is_new = session != self.session;
        if is_new {
            self.set_ready(false);
        }
        // In a cluster only the server of this one key may be gone: the leases on the others are
        // extended all the same.
        let shown = self.show_life().await;
        let has_lost_all = shown == Ok(true);
        if has_lost_all {
            tracing::warn!("Redis has lost its data, or was unavailable for long");
            self.set_ready(false);
            self.ready_at = Instant::now() + SETTLING_TIME;
        }
        self.release_remembered().await;
        let interval = self.directory.0.settings.ttl / EXTENSIONS_PER_TTL;
        // At the tick that is nearest: the next one may be as far away as the one before.
        let is_due = self.extended.elapsed() + period(&self.directory) / 2 >= interval;
        if is_new || has_lost_all || is_due {
            self.extended = Instant::now();
            self.extend_all().await?;
            self.directory.join().await;
        }
        shown?;
        self.session = session;
        if Instant::now() >= self.ready_at {
            self.set_ready(true);
        }
        Ok(())
    }

    fn set_ready(&self, is_ready: bool) {
        self.directory.0.is_ready.store(is_ready, Ordering::Release);
    }

    /// Extends the replica's own key, and looks at those of the others. Returns whether the key
    /// is missing although it was there.
    async fn show_life(&self) -> Result<bool, RedisFailure> {
        let directory = &self.directory.0;
        let sent = Instant::now();
        let key = replicas::key(&directory.redis, directory.replica);
        let ttl_ms = self.directory.replica_ttl().as_millis() as u64;
        // Not SET at once: Redis refuses that when its memory is full.
        let mut extend = redis::cmd("PEXPIRE");
        extend.arg(&key).arg(ttl_ms);
        let is_there = directory.redis.run(extend).await? == Value::Int(1);
        if !is_there {
            // Before the key is there again, which would say that nothing was lost.
            self.set_ready(false);
            let mut set = redis::cmd("SET");
            set.arg(&key).arg(env!("CARGO_PKG_VERSION")).arg("PX").arg(ttl_ms);
            directory.redis.run(set).await?;
        }
        directory.replicas.ask(&directory.redis, &directory.replicas.all()).await?;
        let mut shown = directory.shown_alive.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(shown.replace(sent).is_some() && !is_there)
    }

    /// Extends every lease, or makes it again; gives up those that others have.
    async fn extend_all(&self) -> Result<(), RedisFailure> {
        let mut extended = Ok(());
        for chunk in self.directory.0.claims.confirmed().chunks(CHUNK) {
            let sent = Instant::now();
            let asked: Vec<_> = chunk
                .iter()
                // Sent while the claim cannot end, so that its release follows.
                .filter_map(|(node, connection)| {
                    let send = || self.send_extension(node, *connection);
                    let answered = self.directory.0.claims.with(node.as_str(), *connection, send)?;
                    Some((node, *connection, answered))
                })
                .collect();
            for (node, connection, answered) in asked {
                match self.directory.answer(answered).await {
                    Ok(Value::Int(0)) => self.directory.lose(node.clone(), connection),
                    Ok(Value::Int(kept)) => {
                        if kept == 2 {
                            self.directory.0.metrics.lease_events.inc(["asserted"]);
                        }
                        self.directory.0.claims.confirm(node, connection, sent);
                    }
                    // The memory is full, or the key has another type: retried until the lease has
                    // expired.
                    Ok(_) | Err(RedisFailure::Refused(_)) => {
                        self.directory.0.metrics.lease_events.inc(["not_extended"]);
                    }
                    // The others may be on other servers of a cluster.
                    Err(failure) => extended = Err(failure),
                }
            }
        }
        extended
    }

    fn send_extension(&self, node: &NodeId, connection: ConnectionId) -> Sent {
        let owner = Owner { replica: self.directory.0.replica, connection };
        let mut command = self.directory.script(EXTEND, node.as_str());
        command.arg(owner.to_string()).arg(self.directory.ttl_ms());
        self.directory.0.redis.enqueue(command)
    }

    /// Looks whether a release was done; else it is kept for later.
    async fn finish(&self, Release { node, owner, answered }: Release) {
        match self.directory.answer(answered).await {
            Ok(_) => {}
            // Redis knows the key as something else: there is nothing of ours to release.
            Err(RedisFailure::Refused(code)) if code == "WRONGTYPE" => {}
            // Also what is refused for now: by a primary that was demoted, one that is loading.
            Err(_) => self.directory.remember(node, owner),
        }
    }

    /// Does what could not be done while Redis was away.
    async fn release_remembered(&mut self) {
        // Releases that failed a moment ago may not have been remembered yet.
        while let Ok(release) = self.releases.try_recv() {
            self.finish(release).await;
        }
        let remembered = {
            let unreleased = &self.directory.0.unreleased;
            std::mem::take(&mut *unreleased.lock().unwrap_or_else(PoisonError::into_inner))
        };
        for (node, owner) in remembered {
            self.directory.send_release(node, owner);
        }
    }
}

type Sent = Result<super::Answered, RedisFailure>;

/// The time between two ticks of the maintenance.
fn period(directory: &RedisDirectory) -> Duration {
    MAX_REFRESH_INTERVAL.min(directory.replica_ttl() / EXTENSIONS_PER_TTL)
}

/// Gives up the leases that must have expired longer ago than the operator allows. Never ends.
async fn give_up(directory: RedisDirectory) {
    let period = period(&directory);
    loop {
        // Other replicas may have the permission that this one lacks, and take over expired IDs:
        // never keep a lease longer.
        let grace = match directory.lacks_permission() {
            true => Duration::ZERO,
            false => directory.0.settings.outage_grace,
        };
        // One period early: other replicas take the IDs over as soon as the key has expired.
        let limit = directory.replica_ttl() - period + grace;
        let left = directory.shown_alive().and_then(|shown| limit.checked_sub(shown.elapsed()));
        // To the moment: one period later it would be too late.
        let pause = left.map_or(period, |left| period.min(left + Duration::from_millis(1)));
        tokio::time::sleep(pause).await;
        let overdue = match directory.shown_alive() {
            Some(shown) if shown.elapsed() > limit => directory.0.claims.confirmed(),
            _ if grace.is_zero() => {
                directory.0.claims.older_than(directory.0.settings.ttl - period)
            }
            _ => directory.0.claims.older_than(directory.0.settings.ttl + grace),
        };
        for (node, connection) in overdue {
            directory.lose(node, connection);
        }
    }
}
