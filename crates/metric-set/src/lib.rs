//! Prometheus metrics as the fields of a struct.
//!
//! [`metrics!`] declares a set of metrics: the name of a field is the name of the metric, its doc
//! comment is the help text, and the names of the labels stand beside its type. The set registers
//! itself, and lists its metrics for a page of the documentation.
//!
//! ```
//! use metric_set::{Counter, Gauge, Histogram, exponential_buckets, metrics};
//! use prometheus_client::registry::Registry;
//!
//! metrics! {
//!     /// What a shop counts.
//!     pub struct Shop {
//!         /// Customers in the shop.
//!         customers: Gauge,
//!         /// Sold articles, by article and payment.
//!         sales: Counter["article", "payment"],
//!         /// Time that customers queue, by till.
//!         queue_seconds: Histogram["till"] = Histogram::new(exponential_buckets(1.0, 2.0, 8)),
//!     }
//! }
//!
//! let shop = Shop::default();
//! let mut registry = Registry::default();
//! shop.register(&mut registry);
//! shop.customers.inc();
//! shop.sales.inc(["bread", "cash"]);
//! shop.queue_seconds.with(["left"]).observe(12.0);
//! assert_eq!(Shop::DESCRIPTIONS[1].help, "Sold articles, by article and payment.");
//! ```

mod labeled;

pub use labeled::Labeled;
pub use prometheus_client;
pub use prometheus_client::metrics::MetricType;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// A metric of a set.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The name of the field. Registries add a prefix, and counters end in `_total`.
    pub name: &'static str,
    /// Whether it is a counter, a gauge or a histogram.
    pub kind: MetricType,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// The help text: a sentence.
    pub help: &'static str,
}

/// Declares a struct whose fields are metrics, as in the [example](crate).
///
/// A metric with labels is a [`Labeled`]. A type without a default needs an initial value, which
/// is made anew for each series. The struct is a cheap handle: its clones count together.
#[macro_export]
macro_rules! metrics {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $Set:ident {
            $(
                $(#[doc = $help:literal])+
                $field_visibility:vis $name:ident: $kind:ident $([$($label:literal),+])? $(= $new:expr)?,
            )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone)]
        $visibility struct $Set {
            $(
                $(#[doc = $help])+
                $field_visibility $name: $crate::metrics!(@type $kind $([$($label),+])?),
            )+
        }

        impl Default for $Set {
            fn default() -> Self {
                Self {
                    $($name: $crate::metrics!(@new [$($($label),+)?] [$($new)?]),)+
                }
            }
        }

        impl $Set {
            /// The metrics of the set, in the order of their declaration.
            $visibility const DESCRIPTIONS: &[$crate::Description] = &[
                $($crate::Description {
                    name: stringify!($name),
                    kind: <$kind as $crate::prometheus_client::metrics::TypedMetric>::TYPE,
                    labels: &[$($($label),+)?],
                    help: concat!($($help),+).trim_ascii(),
                },)+
            ];

            /// Adds the metrics to `registry`, which ends each help text with a full stop.
            $visibility fn register(
                &self,
                registry: &mut $crate::prometheus_client::registry::Registry,
            ) {
                $(
                    let help = concat!($($help),+).trim_ascii().trim_end_matches('.');
                    registry.register(stringify!($name), help, self.$name.clone());
                )+
            }
        }
    };

    (@type $kind:ident) => { $kind };
    (@type $kind:ident [$($label:literal),+]) => {
        $crate::Labeled<$kind, { <[&str]>::len(&[$($label),+]) }>
    };

    (@new [] []) => { Default::default() };
    (@new [] [$new:expr]) => { $new };
    (@new [$($label:literal),+] []) => { $crate::Labeled::new([$($label),+], Default::default) };
    (@new [$($label:literal),+] [$new:expr]) => { $crate::Labeled::new([$($label),+], || $new) };
}
