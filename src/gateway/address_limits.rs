//! What an operator decides about one address.

use std::num::NonZeroU32;
use std::time::Duration;

/// What one address may do. `None` stands for a quarter of the total, or all of a small one.
#[derive(Debug, Clone)]
pub struct AddressLimits {
    /// The most connections.
    pub max_connections: Option<usize>,
    /// The most connects in a second, on average; `None` for any number.
    pub max_connects_per_second: Option<NonZeroU32>,
    /// The most connections whose first request is incomplete.
    pub max_unfinished_heads: usize,
    /// The most nodes that are being authenticated.
    pub max_admissions: usize,
    /// The most channels to the peer-relay network.
    pub max_channels: Option<usize>,
    /// How long the failure of an authentication holds for another try with the same data.
    pub failure_ttl: Duration,
}

impl AddressLimits {
    /// No limits.
    pub fn none() -> Self {
        Self {
            max_connections: Some(usize::MAX),
            max_connects_per_second: None,
            max_unfinished_heads: usize::MAX,
            max_admissions: usize::MAX,
            max_channels: Some(usize::MAX),
            failure_ttl: Duration::ZERO,
        }
    }
}
