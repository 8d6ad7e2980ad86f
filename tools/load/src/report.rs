//! What a run tells: one form for all modes, as JSON and as a [table](crate::table).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::arguments::Mode;
use crate::latency::{Latencies, Percentiles};
use crate::meter::{Costs, Meter, Reading};
use crate::wrong::{Wrong, Wrongs};

/// The most different names of outcomes; more are counted together.
const MAX_OUTCOMES: usize = 32;

/// Everything that is told of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The mode's name.
    pub mode: &'static str,
    /// The arguments.
    pub settings: Mode,
    /// Whether Ctrl-C ended the run.
    pub ended_early: bool,
    /// How long was measured, in seconds.
    pub measured_s: f64,
    /// What is counted: messages, questions or connections.
    pub unit: &'static str,
    /// How many in the measured time.
    pub count: u64,
    /// How many per second.
    pub per_s: f64,
    /// Latencies in microseconds, by what ended them.
    pub latency_us: Named<Percentiles>,
    /// What became of how many, in the whole run: the names of acks, of refusals, of causes.
    pub outcomes: Outcomes,
    /// What only this mode tells.
    pub figures: Named<f64>,
    /// What must not happen, in the whole run.
    pub wrong: Wrongs,
    /// Whether nothing of that happened.
    pub ok: bool,
    /// CPU and memory.
    #[serde(flatten)]
    pub costs: Costs,
}

/// What a mode has measured.
#[derive(Debug, Default)]
pub struct Measured {
    /// What is counted, in the plural.
    pub unit: &'static str,
    /// How many in the measured time.
    pub count: u64,
    /// Latencies by what ended them.
    pub latency: Vec<(&'static str, Latencies)>,
    /// What became of how many.
    pub outcomes: Outcomes,
    /// What only this mode tells.
    pub figures: Vec<(&'static str, f64)>,
    /// What must not happen.
    pub wrong: Wrongs,
}

impl Report {
    /// Puts together what was measured between two readings.
    pub fn new(
        settings: Mode,
        measured: Measured,
        meter: &Meter,
        readings: (&Reading, &Reading),
        ended_early: bool,
    ) -> Self {
        let (begin, end) = readings;
        let elapsed = end.since(begin);
        let Measured { unit, count, latency, outcomes, figures, mut wrong } = measured;
        wrong.add(Wrong::ProcessEnded, meter.ended(end));
        let latency = latency.into_iter();
        let told = latency.filter_map(|(name, all)| Some((name, all.percentiles()?)));
        Self {
            mode: settings.name(),
            settings,
            ended_early,
            measured_s: elapsed.as_secs_f64(),
            unit,
            count,
            per_s: per_second(count, elapsed),
            latency_us: Named(told.collect()),
            outcomes,
            figures: Named(figures),
            ok: wrong.is_empty(),
            wrong,
            costs: meter.costs(begin, end, count),
        }
    }
}

fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

/// Values with names, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Named<T>(pub Vec<(&'static str, T)>);

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Counts by names that come from outside, and so are bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Outcomes(BTreeMap<String, u64>);

impl Outcomes {
    /// Counts `times` more under a name.
    pub fn add(&mut self, name: &str, times: u64) {
        if times == 0 {
            return;
        }
        if let Some(count) = self.0.get_mut(name) {
            *count += times;
        } else if self.0.len() < MAX_OUTCOMES {
            self.0.insert(name.to_owned(), times);
        } else {
            *self.0.entry("(others)".to_owned()).or_default() += times;
        }
    }

    /// All names with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_bounded() {
        let mut outcomes = Outcomes::default();
        outcomes.add("OK", 0);
        assert_eq!(outcomes.iter().count(), 0);
        for number in 0..100 {
            outcomes.add(&format!("{number:03}"), 1);
        }
        outcomes.add("000", 2);
        let counts: Vec<_> = outcomes.iter().collect();
        assert_eq!(counts.len(), MAX_OUTCOMES + 1);
        assert_eq!(counts[0], ("(others)", 100 - MAX_OUTCOMES as u64));
        assert_eq!(counts[1], ("000", 3));
    }

    #[test]
    fn named_values_keep_their_order() {
        let named = Named(vec![("z", 1.0), ("a", 2.5)]);
        assert_eq!(serde_json::to_string(&named).unwrap(), r#"{"z":1.0,"a":2.5}"#);
    }
}
