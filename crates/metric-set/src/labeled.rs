//! A metric with labels: one series for each combination of their values.

use std::array;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::{MetricType, TypedMetric};

type Values<const N: usize> = [Cow<'static, str>; N];

/// A metric with `N` labels; a cheap handle. A series appears once it is asked for, and the series
/// are encoded in the order of their values.
#[derive(Debug)]
pub struct Labeled<M, const N: usize>(Arc<Inner<M, N>>);

#[derive(Debug)]
struct Inner<M, const N: usize> {
    labels: [&'static str; N],
    new: fn() -> M,
    series: RwLock<BTreeMap<Values<N>, M>>,
}

impl<M: Clone, const N: usize> Labeled<M, N> {
    /// A metric without series. `new` makes each of them.
    pub fn new(labels: [&'static str; N], new: fn() -> M) -> Self {
        Self(Arc::new(Inner { labels, new, series: RwLock::default() }))
    }

    /// Returns the series with these values, in the order of the labels. Keep it where it is
    /// counted often: this is a lookup under a lock.
    pub fn with(&self, values: [impl Into<Cow<'static, str>>; N]) -> M {
        let Inner { new, series, .. } = &*self.0;
        let values = values.map(Into::into);
        if let Some(known) = series.read().unwrap_or_else(PoisonError::into_inner).get(&values) {
            return known.clone();
        }
        let mut series = series.write().unwrap_or_else(PoisonError::into_inner);
        series.entry(values).or_insert_with(new).clone()
    }
}

impl<const N: usize> Labeled<Counter, N> {
    /// Adds one to the series with these values.
    pub fn inc(&self, values: [impl Into<Cow<'static, str>>; N]) {
        self.with(values).inc();
    }

    /// Adds `count` to the series with these values.
    pub fn inc_by(&self, values: [impl Into<Cow<'static, str>>; N], count: u64) {
        self.with(values).inc_by(count);
    }
}

impl<M, const N: usize> Clone for Labeled<M, N> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: EncodeMetric + TypedMetric, const N: usize> EncodeMetric for Labeled<M, N> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let Inner { labels, series, .. } = &*self.0;
        for (values, metric) in &*series.read().unwrap_or_else(PoisonError::into_inner) {
            let pairs: [_; N] = array::from_fn(|at| (labels[at], values[at].as_ref()));
            metric.encode(encoder.encode_family(&pairs)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.0.series.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::{Gauge, Histogram};

    crate::metrics! {
        /// One metric of each kind.
        struct Set {
            /// Bare gauge.
            bare: Gauge,
            /// Counter whose help text is longer
            /// than a line.
            counted: Counter["kind", "name"],
            /// Histogram with buckets.
            taken_seconds: Histogram["kind"] = Histogram::new([0.5, 2.0, 10.0]),
        }
    }

    fn encoded(set: &Set) -> String {
        let mut registry = Registry::with_prefix("test");
        set.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn series_are_encoded_in_order_whatever_order_they_came_in() {
        let set = Set::default();
        set.counted.inc(["b", "first"]);
        set.counted.inc_by(["a", "second"], 2);
        set.counted.inc([String::from("b"), String::from("first")]);
        set.taken_seconds.with(["slow"]).observe(3.0);
        set.taken_seconds.with(["fast"]).observe(1.0);
        let expected = "\
# HELP test_bare Bare gauge.
# TYPE test_bare gauge
test_bare 0
# HELP test_counted Counter whose help text is longer than a line.
# TYPE test_counted counter
test_counted_total{kind=\"a\",name=\"second\"} 2
test_counted_total{kind=\"b\",name=\"first\"} 2
# HELP test_taken_seconds Histogram with buckets.
# TYPE test_taken_seconds histogram
test_taken_seconds_sum{kind=\"fast\"} 1.0
test_taken_seconds_count{kind=\"fast\"} 1
test_taken_seconds_bucket{le=\"0.5\",kind=\"fast\"} 0
test_taken_seconds_bucket{le=\"2.0\",kind=\"fast\"} 1
test_taken_seconds_bucket{le=\"10.0\",kind=\"fast\"} 1
test_taken_seconds_bucket{le=\"+Inf\",kind=\"fast\"} 1
test_taken_seconds_sum{kind=\"slow\"} 3.0
test_taken_seconds_count{kind=\"slow\"} 1
test_taken_seconds_bucket{le=\"0.5\",kind=\"slow\"} 0
test_taken_seconds_bucket{le=\"2.0\",kind=\"slow\"} 0
test_taken_seconds_bucket{le=\"10.0\",kind=\"slow\"} 1
test_taken_seconds_bucket{le=\"+Inf\",kind=\"slow\"} 1
# EOF
";
        assert_eq!(encoded(&set), expected);
    }

    #[test]
    fn metrics_without_a_series_are_left_out_but_described() {
        let text = encoded(&Set::default());
        assert!(!text.contains("counted"), "{text}");
        let [_, counted, taken] = Set::DESCRIPTIONS else { panic!("three are declared") };
        assert_eq!((counted.name, counted.kind.as_str()), ("counted", "counter"));
        assert_eq!((counted.labels, taken.labels), (&["kind", "name"][..], &["kind"][..]));
        assert_eq!(counted.help, "Counter whose help text is longer than a line.");
    }
}
