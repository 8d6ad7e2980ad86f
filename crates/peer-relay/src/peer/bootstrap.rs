//! The route into the network: channels that are opened again for as long as the peer lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use url::Url;

use super::Inner;

/// The pause after the first failure; it doubles with each one that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A channel that lived this long was no failure.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// Keeps a channel to the peer at `url` open until the peer leaves.
pub(crate) async fn keep_connected(inner: Arc<Inner>, url: Url) {
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    loop {
        let is_connected = last.is_some_and(|id| inner.is_neighbour(&id));
        let began = Instant::now();
        if !is_connected {
            let dialed = tokio::select! {
                dialed = inner.dial(&url, None) => dialed,
                () = inner.stop.cancelled() => return,
            };
            match dialed {
                Ok((id, _)) => last = id.or(last),
                Err(error) => {
                    inner.metrics.channel_ended("dial_failed");
                    // Neither path nor query: they may hold a secret.
                    let host = url.host_str().unwrap_or_default();
                    tracing::warn!(host, port = url.port(), %error, "a bootstrap peer could not be reached");
                }
            }
        }
        pause = next_pause(pause, began.elapsed(), is_connected);
        // Random, so that peers that lost the same one do not all come back at once.
        let pause = pause.mul_f64(rand::random_range(0.5..1.0));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = inner.leaving.cancelled() => return,
        }
    }
}

fn next_pause(pause: Duration, lived: Duration, is_connected: bool) -> Duration {
    if is_connected || lived >= STABLE_AFTER { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_a_channel_lived() {
        let failed = |pause| next_pause(pause, Duration::from_millis(3), false);
        assert_eq!(failed(FIRST_PAUSE), FIRST_PAUSE * 2);
        assert_eq!((0..20).fold(FIRST_PAUSE, |pause, _| failed(pause)), LONGEST_PAUSE);
        assert_eq!(next_pause(LONGEST_PAUSE, STABLE_AFTER, false), FIRST_PAUSE);
        assert_eq!(next_pause(LONGEST_PAUSE, Duration::ZERO, true), FIRST_PAUSE);
    }
}
