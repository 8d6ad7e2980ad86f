//! What every program tells Prometheus of its process, under the names that all of them use.
//!
//! Read from proc(5); where that is missing, the values stay 0.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use metric_set::metrics;
use prometheus_client::metrics::{counter, gauge};

/// The kernel's clock ticks in a second, as it shows them to programs: 100 on all architectures that
/// Rust's standard library supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// The places of some values in `/proc/self/stat`, counted from the one behind the program's name.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const START_TICKS: usize = 19;
const VIRTUAL_BYTES: usize = 20;

type Counter = counter::Counter<f64, AtomicU64>;
type Gauge = gauge::Gauge;
type RealGauge = gauge::Gauge<f64, AtomicU64>;

metrics! {
    /// The metrics of the process.
    pub(super) struct Process {
        /// Time of the CPU that the process has used, by itself and in the kernel.
        process_cpu_seconds: Counter,
        /// Virtual memory of the process.
        process_virtual_memory_bytes: Gauge,
        /// Memory of the process that is resident.
        process_resident_memory_bytes: Gauge,
        /// Open file descriptors.
        process_open_fds: Gauge,
        /// File descriptors that the process may open.
        process_max_fds: Gauge,
        /// Start of the process, in seconds since 1970.
        process_start_time_seconds: RealGauge,
    }
}

impl Process {
    /// Reads all values.
    pub(super) fn refresh(&self) {
        if let Some(stat) = Stat::read() {
            let cpu = stat.seconds(USER_TICKS) + stat.seconds(SYSTEM_TICKS);
            // Two scrapes at a time may come here out of order; the next one mends that.
            self.process_cpu_seconds.inner().store(cpu.to_bits(), Ordering::Relaxed);
            self.process_virtual_memory_bytes.set(stat.number(VIRTUAL_BYTES));
            let boot = boot_time().unwrap_or_default();
            self.process_start_time_seconds.set(boot + stat.seconds(START_TICKS));
        }
        if let Some(bytes) = resident_bytes() {
            self.process_resident_memory_bytes.set(bytes);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // Without the one that reads them.
            let count = files.count().saturating_sub(1);
            self.process_open_fds.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        if let Ok((limit, _)) = rlimit::getrlimit(rlimit::Resource::NOFILE) {
            self.process_max_fds.set(i64::try_from(limit).unwrap_or(i64::MAX));
        }
    }
}

/// The numbers behind the program's name in `/proc/self/stat`.
struct Stat(Vec<i64>);

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The name may hold blanks and parentheses.
        let (_, numbers) = text.rsplit_once(')')?;
        let number = |word: &str| word.parse().unwrap_or_default();
        Some(Self(numbers.split_whitespace().map(number).collect()))
    }

    fn number(&self, place: usize) -> i64 {
        self.0.get(place).copied().unwrap_or_default()
    }

    fn seconds(&self, place: usize) -> f64 {
        self.number(place) as f64 / TICKS_PER_SECOND
    }
}

/// When the machine was started, in seconds since 1970.
fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn resident_bytes() -> Option<i64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_values_are_those_of_this_process() {
        let process = Process::default();
        // Enough work to be seen in hundredths of a second.
        let began = std::time::Instant::now();
        while began.elapsed().as_millis() < 100 {}
        process.refresh();
        let before = process.process_open_fds.get();
        let file = fs::File::open("/proc/self/stat").unwrap();
        process.refresh();
        assert!(process.process_open_fds.get() > 0 && before > 0);
        drop(file);
        let cpu = process.process_cpu_seconds.get();
        assert!((0.05..100_000.0).contains(&cpu), "{cpu}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - process.process_start_time_seconds.get();
        assert!((-2.0..3600.0).contains(&age), "{age}");
        let resident = process.process_resident_memory_bytes.get();
        assert!(resident > 1 << 20 && resident < process.process_virtual_memory_bytes.get());
        assert!(process.process_max_fds.get() >= process.process_open_fds.get());
    }
}
