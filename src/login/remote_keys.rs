//! Keys that are read from a URL: at the first login, then every few minutes, and when a token names a
//! key that is not known, which is how issuers replace theirs.
//!
//! If they cannot be read, the last ones stay in use.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::keys::{LoginKey, LoginKeys};
use crate::metrics::Metrics;
use crate::webhooks::Fetcher;

/// How old the keys may become while tokens of known keys are checked.
const MAX_AGE: Duration = Duration::from_secs(300);

/// The shortest time between two requests: anybody can name a key that is not known.
const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// Keys with their URL.
pub(super) struct RemoteKeys {
    fetcher: Fetcher,
    metrics: Metrics,
    known: RwLock<Known>,
    /// Held while the keys are being read.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: Option<LoginKeys>,
    /// When the keys were last asked for, whether they came or not.
    asked: Option<Instant>,
}

/// No keys have been read yet.
pub(super) struct NoKeys;

impl RemoteKeys {
    pub(super) fn new(fetcher: Fetcher, metrics: Metrics) -> Self {
        let (known, fetching) = (RwLock::default(), tokio::sync::Mutex::default());
        Self { fetcher, metrics, known, fetching }
    }

    /// Returns the key of a token with this `kid`, or `None` if there is none with that name.
    ///
    /// # Errors
    /// [`NoKeys`] if there are none at all.
    pub(super) async fn select(&self, id: Option<&str>) -> Result<Option<LoginKey>, NoKeys> {
        if let Ok(Some(key)) = self.known(id) {
            // Others need not wait for the one that reads the keys again.
            if self.is_due(MAX_AGE)
                && let Ok(_fetching) = self.fetching.try_lock()
            {
                self.fetch().await;
                return self.known(id);
            }
            return Ok(Some(key));
        }
        let _fetching = self.fetching.lock().await;
        if self.is_due(MIN_INTERVAL) {
            self.fetch().await;
        }
        self.known(id)
    }

    fn known(&self, id: Option<&str>) -> Result<Option<LoginKey>, NoKeys> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let keys = known.keys.as_ref().ok_or(NoKeys)?;
        Ok(keys.select(id).cloned())
    }

    fn is_due(&self, age: Duration) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.asked.is_none_or(|asked| asked.elapsed() >= age)
    }

    async fn fetch(&self) {
        let fetched = self.fetcher.fetch().await;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.asked = Some(Instant::now());
        let outcome = match fetched.as_deref().map(LoginKeys::set) {
            Ok(Ok(keys)) => {
                known.keys = Some(keys);
                "ok"
            }
            Ok(Err(_)) => "malformed",
            Err(error) => error.label(),
        };
        drop(known);
        if outcome != "ok" {
            tracing::warn!(cause = outcome, "the keys of tokens could not be read");
        }
        self.metrics.jwks_requests.inc([outcome]);
    }
}
