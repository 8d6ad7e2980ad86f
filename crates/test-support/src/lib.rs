//! What tests of all crates need around them: Redis servers of their own, a proxy that fails on
//! request, certificates, processes that end with the test, and conditions that are waited for.
//!
//! A crate of its own, so that unit tests and integration tests share it. Everything stops the test
//! that finds something unexpected.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops there")]
#![allow(clippy::new_without_default, reason = "no test asks for a default")]
#![allow(missing_docs, reason = "names that say it all, for tests only")]

mod authority;
mod daemon;
mod port;
mod proxy;
mod redis;

pub use authority::Authority;
pub use daemon::Daemon;
pub use port::Port;
pub use proxy::{Proxy, Way};
pub use redis::{RedisCluster, RedisServer, Sentinels};

use std::time::{Duration, Instant};

/// The longest that anything may take that should happen at once.
pub const SOON: Duration = Duration::from_secs(5);

/// Waits until `condition` holds.
pub async fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(SOON, what, condition).await;
}

/// As [`eventually`], for what takes longer.
pub async fn eventually_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < limit, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
