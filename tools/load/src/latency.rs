//! Latencies, in a histogram that keeps three digits of every one.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told apart; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(600);

const SIGNIFICANT_DIGITS: u8 = 3;

/// All latencies of one kind.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

/// What is told of them, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many there were.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// Half took at most as long.
    pub p50: f64,
    /// Nine of ten took at most as long.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Latencies {
    /// None yet.
    #[allow(clippy::expect_used, reason = "the bounds are constants, and a test uses them")]
    pub fn new() -> Self {
        let longest_ns = LONGEST.as_nanos() as u64;
        let histogram = Histogram::new_with_bounds(1, longest_ns, SIGNIFICANT_DIGITS);
        Self(histogram.expect("the bounds are valid"))
    }

    /// Adds what lies between two times, in nanoseconds.
    pub fn record(&mut self, from_ns: u64, to_ns: u64) {
        self.0.saturating_record(to_ns.saturating_sub(from_ns));
    }

    /// What is told of them; nothing if there are none.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let microseconds = |ns: u64| ns as f64 / 1000.0;
        let at = |quantile| microseconds(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Percentiles {
            count: self.0.len(),
            mean: self.0.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: microseconds(self.0.max()),
        })
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, wanted: f64) {
        assert!((value - wanted).abs() <= wanted / 500.0, "{value} is not {wanted}");
    }

    #[test]
    fn percentiles_of_a_known_distribution() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentiles(), None);
        for us in 1..=1000 {
            latencies.record(5_000, 5_000 + us * 1000);
        }
        let told = latencies.percentiles().unwrap();
        assert_eq!(told.count, 1000);
        near(told.mean, 500.5);
        near(told.p50, 500.0);
        near(told.p90, 900.0);
        near(told.p99, 990.0);
        near(told.p999, 999.0);
        near(told.max, 1000.0);
    }

    #[test]
    fn extremes_are_kept_within_the_bounds() {
        let mut latencies = Latencies::new();
        latencies.record(10, 5);
        latencies.record(0, u64::MAX);
        let told = latencies.percentiles().unwrap();
        assert_eq!(told.count, 2);
        near(told.max, LONGEST.as_micros() as f64);
    }
}
