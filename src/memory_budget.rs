//! The memory budget of the process.
//!
//! Every part has limits for each connection, but many connections together may still need more
//! memory than there is. So the resident memory is checked many times a second. Near the budget,
//! the broker pauses reading from the connections that hold most and rejects new ones; nearer
//! still, messages are acked `ERROR`. Connected nodes stay: what they hold is sent or reaches its
//! deadline.
//!
//! The hot path only loads a level that rarely changes.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use metric_set::Counter;

use crate::metrics::Metrics;
use link::LinkSet;

/// The time between two checks. At a gigabyte a second, 50 MB arrive between them.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The shortest time between two requests to the allocator to return free memory.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);

/// The budget; a cheap handle.
#[derive(Clone)]
pub(crate) struct MemoryBudget(Arc<Inner>);

struct Inner {
    limit: u64,
    level: AtomicU8,
    metrics: Metrics,
    refused_messages: Counter,
}

/// How near the limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Normal = 0,
    /// Above four fifths: reading pauses where most is held, newcomers are rejected.
    High = 1,
    /// Above nineteen twentieths: messages are refused too.
    Critical = 2,
}

impl Level {
    fn of(used: u64, limit: u64) -> Self {
        match used.saturating_mul(20) / limit.max(1) {
            0..16 => Self::Normal,
            16..19 => Self::High,
            _ => Self::Critical,
        }
    }
}

impl MemoryBudget {
    /// A budget of `limit` bytes, or of three quarters of what the container or the machine has.
    pub(crate) fn new(limit: Option<u64>, metrics: &Metrics) -> Self {
        let limit = limit.or_else(|| Some(available_bytes()? / 4 * 3)).unwrap_or(u64::MAX);
        let refused_messages = metrics.memory_limit.with(["refused_message"]);
        let (level, metrics) = (AtomicU8::new(Level::Normal as u8), metrics.clone());
        Self(Arc::new(Inner { limit, level, metrics, refused_messages }))
    }

    /// Whether there is memory for newcomers.
    pub(crate) fn admits_newcomers(&self) -> bool {
        self.0.level.load(Ordering::Relaxed) < Level::High as u8
    }

    /// Whether there is memory for a message. One for which there is none is counted.
    pub(crate) fn admits_message(&self) -> bool {
        let admits = self.0.level.load(Ordering::Relaxed) < Level::Critical as u8;
        if !admits {
            self.0.refused_messages.inc();
        }
        admits
    }

    /// Keeps the level up to date, and pauses the links of `links` that hold most while it is high.
    /// Ends only where the system does not say how much memory the process has.
    pub(crate) async fn keep(self, links: LinkSet) {
        let paused = self.0.metrics.memory_limit.with(["paused_reading"]);
        let connections = ["node", "other"].map(|kind| self.0.metrics.connections.with([kind]));
        let mut ticks = tokio::time::interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut last_trim) = (Level::Normal, None::<Instant>);
        loop {
            ticks.tick().await;
            let Some(mut used) = resident_bytes() else { return };
            let mut level = Level::of(used, self.0.limit);
            if level > Level::Normal && last_trim.is_none_or(|at| at.elapsed() > TRIM_INTERVAL) {
                last_trim = Some(Instant::now());
                // What was freed may still count. It takes milliseconds.
                let _ = tokio::task::spawn_blocking(malloc_trim::trim).await;
                used = resident_bytes().unwrap_or(used);
                level = Level::of(used, self.0.limit);
            }
            self.0.level.store(level as u8, Ordering::Relaxed);
            let nodes = self.0.metrics.nodes.get();
            let others = i64::try_from(links.len()).unwrap_or(i64::MAX) - nodes;
            connections[0].set(nodes);
            connections[1].set(others.max(0));
            self.0.metrics.memory_used_bytes.set(i64::try_from(used).unwrap_or(i64::MAX));
            if level > Level::Normal {
                let excess = used.saturating_sub(self.0.limit / 5 * 4);
                let newly = links.pause_largest(usize::try_from(excess).unwrap_or(usize::MAX));
                paused.inc_by(newly as u64);
            } else if before > Level::Normal {
                links.pause_largest(0);
            }
            if level != before {
                tracing::warn!(?level, used, limit = self.0.limit, "memory");
            }
            before = level;
        }
    }
}

/// More than the state of a process takes; it is read in one piece.
const STATUS_BYTES: usize = 4096;

/// How much memory the process has: proc(5), `/proc/self/status`. (`statm` counts in pages, whose size
/// differs between machines.)
fn resident_bytes() -> Option<u64> {
    // It is read all the time, so not into memory of its own.
    let mut status = [0; STATUS_BYTES];
    let length = File::open("/proc/self/status").ok()?.read(&mut status).ok()?;
    bytes_of(&String::from_utf8_lossy(&status[..length]), "VmRSS:")
}

/// Returns the value of a line like `VmRSS:     7184 kB`, in bytes.
fn bytes_of(lines: &str, name: &str) -> Option<u64> {
    let value = lines.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// How much memory the process may have: the least of the machine's and of its cgroups' limits.
fn available_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let total = bytes_of(&read("/proc/meminfo").unwrap_or_default(), "MemTotal:");
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().flat_map(limit_files).filter_map(|path| read(&path));
    let limits = limits.filter_map(|limit| limit.trim().parse::<u64>().ok());
    total.into_iter().chain(limits).min()
}

/// The files with the limits of a cgroup of version 2 or 1: cgroups(7), `/proc/[pid]/cgroup`.
/// Inside a container the group is mounted at the root.
fn limit_files(group: &str) -> Vec<String> {
    let mut fields = group.splitn(3, ':').skip(1);
    let (root, file) = match fields.next() {
        Some("") => ("/sys/fs/cgroup", "memory.max"),
        Some("memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let path = fields.next().unwrap_or_default().trim_end_matches('/');
    vec![format!("{root}{path}/{file}"), format!("{root}/{file}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_shares_of_the_limit() {
        let levels = [0, 799, 800, 949, 950, 2_000].map(|used| Level::of(used, 1_000));
        use Level::*;
        assert_eq!(levels, [Normal, Normal, High, High, Critical, Critical]);
        assert_eq!(Level::of(u64::MAX / 2, u64::MAX), Normal);
    }

    #[test]
    fn sizes_are_read_in_bytes_whatever_the_size_of_a_page() {
        let status = "VmPeak:\t  99 kB\nVmRSS:\t    7184 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(bytes_of(status, "VmRSS:"), Some(7184 * 1024));
        assert_eq!((bytes_of(status, "VmSwap:"), bytes_of("VmRSS: x kB", "VmRSS:")), (None, None));
    }

    #[test]
    fn limits_of_both_kinds_of_cgroups_are_found() {
        assert_eq!(
            limit_files("0::/a/b"),
            ["/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        let first = "/sys/fs/cgroup/memory/x/memory.limit_in_bytes";
        assert_eq!(limit_files("5:memory:/x")[0], first);
        assert!(limit_files("3:cpu:/x").is_empty() && limit_files("").is_empty());
    }

    #[test]
    fn the_process_has_memory_and_less_than_the_machine() {
        let (used, available) = (resident_bytes().unwrap(), available_bytes().unwrap());
        assert!(used > 0 && used < available, "{used} {available}");
    }
}
