//! What processes cost, as `/proc` tells: CPU time and resident memory.

use std::io;
use std::time::Duration;

use serde::Serialize;

/// A process, by its ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    id: u32,
    name: String,
}

/// What a process had used at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time since its start, its own and the kernel's for it; in steps of usually 10 ms.
    pub cpu: Duration,
    /// Resident memory, in KiB.
    pub resident_kb: u64,
}

/// What a process used between two moments.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// The process's ID.
    pub pid: u32,
    /// The name of its program.
    pub name: String,
    /// CPU time, in seconds.
    pub cpu_s: f64,
    /// Of one core, in percent.
    pub cpu_percent: f64,
    /// CPU time for each message, question or connection, in microseconds; none if there were
    /// none.
    pub cpu_us_per_unit: Option<f64>,
    /// Resident memory before the first connection, in KiB.
    pub resident_kb_before: u64,
    /// Resident memory at the end of the measured time, in KiB.
    pub resident_kb: u64,
}

impl Process {
    /// The process with this ID.
    ///
    /// # Errors
    /// There is none, or there is no `/proc`.
    pub fn find(id: u32) -> io::Result<Self> {
        let name = std::fs::read_to_string(format!("/proc/{id}/comm"))?;
        Ok(Self { id, name: name.trim().to_owned() })
    }

    /// What it has used until now; none if it has ended.
    pub fn usage(&self) -> Option<Usage> {
        usage(&self.id.to_string())
    }

    /// What it used from `begin` to `end`, in which `elapsed` passed and `units` were dealt with.
    pub fn cost(
        &self,
        before: Usage,
        begin: Usage,
        end: Usage,
        elapsed: Duration,
        units: u64,
    ) -> Cost {
        let cpu = end.cpu.saturating_sub(begin.cpu);
        Cost {
            pid: self.id,
            name: self.name.clone(),
            cpu_s: cpu.as_secs_f64(),
            cpu_percent: percent(cpu, elapsed),
            cpu_us_per_unit: (units > 0).then(|| cpu.as_secs_f64() * 1e6 / units as f64),
            resident_kb_before: before.resident_kb,
            resident_kb: end.resident_kb,
        }
    }
}

/// `part` of `whole`, in percent.
pub fn percent(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() * 100.0 / whole.as_secs_f64() }
}

/// What this process has used until now, and how long it has waited for a core besides.
pub fn own_usage() -> Option<(Duration, Duration)> {
    // Of the main thread only, which is where everything runs; exact to the nanosecond.
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    parse_schedstat(&text).or_else(|| Some((usage("self")?.cpu, Duration::ZERO)))
}

fn usage(process: &str) -> Option<Usage> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).ok();
    let ticks = parse_stat(&read("stat")?)?;
    let cpu = Duration::from_secs_f64(ticks as f64 / ticks_per_second() as f64);
    Some(Usage { cpu, resident_kb: parse_status(&read("status")?)? })
}

#[cfg(target_os = "linux")]
fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

#[cfg(not(target_os = "linux"))]
fn ticks_per_second() -> u64 {
    100
}

/// User and system time in clock ticks: fields 14 and 15 of proc_pid_stat(5). The second field is
/// the program's name in brackets, which may contain anything.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    fields.next()?.ok()?.checked_add(fields.next()?.ok()?)
}

/// The resident memory in KiB. A process that has ended and was not waited for has none.
fn parse_status(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Time on a core and time waiting for one, both in nanoseconds.
fn parse_schedstat(schedstat: &str) -> Option<(Duration, Duration)> {
    let mut fields = schedstat.split_ascii_whitespace().map(|field| field.parse().ok());
    let (ran, waited) = (fields.next()??, fields.next()??);
    Some((Duration::from_nanos(ran), Duration::from_nanos(waited)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 123 45 16 17";
        for name in ["broker", "a b", "a) S 9 9 9 9 9 9 9 9 9 9 9 9 9 ("] {
            assert_eq!(parse_stat(&format!("17 ({name}) {fields}")), Some(168));
        }
        assert_eq!(parse_stat("17 (broker) S 1 2"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn resident_memory() {
        assert_eq!(parse_status("Name:\tx\nVmRSS:\t    8104 kB\nThreads: 1\n"), Some(8104));
        assert_eq!(parse_status("Name:\tx\n"), None);
    }

    #[test]
    fn time_on_a_core_and_waiting_for_one() {
        let told = parse_schedstat("1500 2000000 3\n");
        assert_eq!(told, Some((Duration::from_nanos(1500), Duration::from_millis(2))));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn costs_are_shared_among_units() {
        let usage = |ms, resident_kb| Usage { cpu: Duration::from_millis(ms), resident_kb };
        let process = Process { id: 7, name: "x".into() };
        let second = Duration::from_secs(1);
        let cost = process.cost(usage(0, 10), usage(100, 20), usage(600, 30), second, 1000);
        assert_eq!((cost.cpu_s, cost.cpu_percent, cost.cpu_us_per_unit), (0.5, 50.0, Some(500.0)));
        assert_eq!((cost.resident_kb_before, cost.resident_kb), (10, 30));
        let cost = process.cost(usage(0, 10), usage(0, 20), usage(600, 30), second, 0);
        assert_eq!(cost.cpu_us_per_unit, None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_found() {
        let this = Process::find(std::process::id()).unwrap();
        assert!(this.usage().unwrap().resident_kb > 100);
        assert!(own_usage().is_some());
        assert!(Process::find(u32::MAX).is_err());
    }
}
