//! What a run costs: the processes that are watched, and the load generator itself.

use std::io;
use std::ops::Add;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::process::{Cost, Process, Usage, own_usage, percent};

/// From here on the load generator counts as the limit: so much of the time, in percent, it was
/// on a core or waited for one.
const LIMIT_PERCENT: f64 = 90.0;

/// Watches processes.
#[derive(Debug)]
pub struct Meter {
    processes: Vec<(Process, Usage)>,
}

/// Everything that has been used until one moment.
#[derive(Debug)]
pub struct Reading {
    at: Instant,
    usages: Vec<Option<Usage>>,
    own: Option<(Duration, Duration)>,
}

/// What was used between two moments.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Costs {
    /// The processes that are watched and have not ended.
    pub servers: Vec<Cost>,
    /// Their CPU time together for each message, question or connection, in microseconds.
    pub servers_cpu_us_per_unit: Option<f64>,
    /// The load generator itself; none where the system does not tell.
    pub load: Option<OwnCost>,
}

/// What the load generator used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OwnCost {
    /// CPU time, in seconds.
    pub cpu_s: f64,
    /// Of one core, in percent. It runs on one.
    pub cpu_percent: f64,
    /// How much of the time it waited for a core that others used, in percent.
    pub waited_percent: f64,
    /// Whether the figures say more of the load generator than of the brokers.
    pub was_the_limit: bool,
}

impl Meter {
    /// Watches the processes with these IDs from now on.
    ///
    /// # Errors
    /// One of them does not exist.
    pub fn watch(ids: &[u32]) -> io::Result<Self> {
        let find = |id: &u32| {
            let missing = |error: &dyn std::fmt::Display| {
                io::Error::other(format!("process {id} cannot be watched: {error}"))
            };
            let process = Process::find(*id).map_err(|error| missing(&error))?;
            let usage = process.usage().ok_or_else(|| missing(&"it has ended"))?;
            Ok((process, usage))
        };
        Ok(Self { processes: ids.iter().map(find).collect::<io::Result<_>>()? })
    }

    /// What has been used until now.
    pub fn read(&self) -> Reading {
        Reading {
            at: Instant::now(),
            usages: self.processes.iter().map(|(process, _)| process.usage()).collect(),
            own: own_usage(),
        }
    }

    /// What was used from `begin` to `end`, in which `units` were dealt with.
    pub fn costs(&self, begin: &Reading, end: &Reading, units: u64) -> Costs {
        let elapsed = end.since(begin);
        let usages = begin.usages.iter().zip(&end.usages);
        let servers = self.processes.iter().zip(usages).filter_map(|((process, before), usage)| {
            let (begin, end) = (usage.0.as_ref()?, usage.1.as_ref()?);
            Some(process.cost(*before, *begin, *end, elapsed, units))
        });
        let servers: Vec<_> = servers.collect();
        let own = begin.own.zip(end.own);
        Costs {
            servers_cpu_us_per_unit: servers
                .iter()
                .filter_map(|it| it.cpu_us_per_unit)
                .reduce(f64::add),
            servers,
            load: own.map(|(begin, end)| {
                let ran = end.0.saturating_sub(begin.0);
                OwnCost::new(ran, end.1.saturating_sub(begin.1), elapsed)
            }),
        }
    }

    /// How many of the processes had ended by then.
    pub fn ended(&self, reading: &Reading) -> u64 {
        reading.usages.iter().filter(|usage| usage.is_none()).count() as u64
    }

    /// The memory of all processes before the first connection, in KiB; none if none is watched.
    pub fn resident_kb_before(&self) -> Option<u64> {
        sum(self.processes.iter().map(|(_, before)| *before))
    }
}

impl Reading {
    /// How long after another it was taken.
    pub fn since(&self, begin: &Self) -> Duration {
        self.at.saturating_duration_since(begin.at)
    }

    /// The memory of all processes, in KiB; none if none is watched.
    pub fn resident_kb(&self) -> Option<u64> {
        sum(self.usages.iter().flatten().copied())
    }
}

fn sum(usages: impl Iterator<Item = Usage>) -> Option<u64> {
    usages.map(|usage| usage.resident_kb).reduce(|sum, kb| sum + kb)
}

impl OwnCost {
    fn new(ran: Duration, waited: Duration, elapsed: Duration) -> Self {
        Self {
            cpu_s: ran.as_secs_f64(),
            cpu_percent: percent(ran, elapsed),
            waited_percent: percent(waited, elapsed),
            was_the_limit: percent(ran + waited, elapsed) >= LIMIT_PERCENT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_generator_is_the_limit_when_it_has_no_core_to_spare() {
        let ms = Duration::from_millis;
        let own = |ran, waited| OwnCost::new(ms(ran), ms(waited), ms(1000));
        assert!(!own(500, 100).was_the_limit);
        assert!(own(950, 0).was_the_limit);
        assert!(own(500, 450).was_the_limit);
        assert_eq!(own(500, 100).cpu_percent, 50.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_this_process_uses() {
        let meter = Meter::watch(&[std::process::id()]).unwrap();
        let begin = meter.read();
        let end = meter.read();
        let costs = meter.costs(&begin, &end, 10);
        assert_eq!(costs.servers[0].pid, std::process::id());
        assert_eq!(costs.servers_cpu_us_per_unit, costs.servers[0].cpu_us_per_unit);
        assert!(end.resident_kb() > Some(100) && meter.resident_kb_before() > Some(100));
        assert_eq!(meter.ended(&end), 0);
        assert!(Meter::watch(&[u32::MAX]).is_err());
        assert_eq!(Meter::watch(&[]).unwrap().read().resident_kb(), None);
    }
}
