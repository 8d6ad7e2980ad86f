//! Returns memory of closed connections to the system.
//!
//! glibc keeps freed memory for later allocations: after ten thousand nodes have left, the process
//! would keep their 160 MB for ever. It returns nearly all of it on request, which is made when
//! many nodes have left.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use crolang_broker::Server;

/// The time between two looks at the number of connections.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The fewest that have to leave. They take about 4 MB.
const FEWEST: usize = 256;

/// Gives back what closed connections of `server` have left behind. Never ends.
pub(super) async fn give_back(server: &Server) -> Infallible {
    let mut mark = HighWaterMark { high: 0 };
    let mut checks = tokio::time::interval(CHECK_INTERVAL);
    loop {
        checks.tick().await;
        if mark.is_left(server.take_peak_connections(), server.connections()) {
            let began = Instant::now();
            // It takes milliseconds, and as many more as there is to give.
            if tokio::task::spawn_blocking(malloc_trim::trim).await.is_ok_and(|given| given) {
                tracing::debug!(elapsed = ?began.elapsed(), "memory returned to the system");
            }
        }
    }
}

/// The most connections since memory was last returned.
struct HighWaterMark {
    high: usize,
}

impl HighWaterMark {
    /// Whether enough connections have ended to make it worth the effort: a quarter, and not just a
    /// few.
    fn is_left(&mut self, peak: usize, connections: usize) -> bool {
        self.high = self.high.max(peak).max(connections);
        let left = self.high - connections;
        let is_left = left >= FEWEST && left >= self.high / 4;
        if is_left {
            self.high = connections;
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_many_have_left() {
        let mut mark = HighWaterMark { high: 0 };
        let connections = [0, 300, 100, 44, 43, 0, 10_000, 8_000, 7_500, 7_400, 5_700, 5_625, 0, 0];
        let left: Vec<_> =
            connections.into_iter().filter(|open| mark.is_left(*open, *open)).collect();
        assert_eq!(left, [44, 7_500, 5_625, 0]);
        // They were open only between two looks.
        assert!(mark.is_left(256, 0));
        assert!(!mark.is_left(255, 0));
    }
}
