//! Gives memory back that connections have left behind.
//!
//! glibc keeps what is freed for whoever asks next: after ten thousand nodes have left, the 160 MB
//! that they took would stay with the process for ever. It gives nearly all of it back when it is
//! asked to, and is asked when many have left.

use std::time::{Duration, Instant};

use link::LinkSet;

/// How often it is looked at how many are there.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// How many have to leave at least. They take about 4 MB.
const FEWEST: usize = 256;

/// Gives back what those have left who are not among `links` any more, again and again.
pub(super) async fn give_back(links: LinkSet) {
    let mut tide = Tide { high: 0 };
    let mut checks = tokio::time::interval(CHECK_INTERVAL);
    loop {
        checks.tick().await;
        if tide.is_out(links.take_peak(), links.len()) {
            let began = Instant::now();
            // It takes milliseconds, and as many more as there is to give.
            if tokio::task::spawn_blocking(malloc_trim::trim).await.is_ok_and(|given| given) {
                tracing::debug!(elapsed = ?began.elapsed(), "memory was given back");
            }
        }
    }
}

/// How many connections there were at most since the last time that memory was given back.
struct Tide {
    high: usize,
}

impl Tide {
    /// Whether so many have left that it is worth the effort: a quarter, and not just a few.
    fn is_out(&mut self, peak: usize, links: usize) -> bool {
        self.high = self.high.max(peak).max(links);
        let left = self.high - links;
        let is_out = left >= FEWEST && left >= self.high / 4;
        if is_out {
            self.high = links;
        }
        is_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_many_have_left() {
        let mut tide = Tide { high: 0 };
        let links = [0, 300, 100, 44, 43, 0, 10_000, 8_000, 7_500, 7_400, 5_700, 5_625, 0, 0];
        let out: Vec<_> = links.into_iter().filter(|links| tide.is_out(*links, *links)).collect();
        assert_eq!(out, [44, 7_500, 5_625, 0]);
        // They came and left between two looks.
        assert!(tide.is_out(256, 0));
        assert!(!tide.is_out(255, 0));
    }
}
