//! One hook: limits the calls in flight, and skips calls while its circuit breaker is open.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{Notify, SetOnce};
use url::Url;

use super::client::Client;
use super::failure_log::FailureLog;
use super::fair_queue::{Caller, Callers};
use super::permits::{Permit, Permits};
use super::{CallError, Reply};
use crate::circuit_breaker::CircuitBreaker;
use crate::metrics::Metrics;
use metric_set::Histogram;

/// Failures in a row that open the circuit of a hook.
const FAILURES_TO_OPEN: u32 = 10;

/// How long an open circuit stays so before one call is tried.
const OPEN_FOR: Duration = Duration::from_secs(5);

/// How many calls of a hook may wait for a permit, for each one that may be in flight.
const WAITING_PER_CALL: usize = 64;

/// How long a notification waits for its response at least, whatever else is to be sent: so its
/// request is written, and a server that responds soon never sees its connection closed.
const MIN_RESPONSE_TIME: Duration = Duration::from_millis(50);

/// The weight of the newest call in the average duration is one in this many.
const AVERAGE_OVER: u32 = 8;

/// A server that is called about one thing.
pub(crate) struct Hook {
    client: Client,
    metrics: Metrics,
    name: &'static str,
    url: Url,
    /// Its own, so that one hook that hangs takes no permits from the others.
    permits: Arc<Permits>,
    call_seconds: Histogram,
    callers: Callers,
    health: HookHealth,
}

/// How the last calls of a hook went; a cheap handle.
#[derive(Clone)]
pub(super) struct HookHealth(Arc<Mutex<Health>>);

struct Health {
    breaker: CircuitBreaker,
    log: FailureLog,
    average_duration: Duration,
    /// When a call began or ended.
    last_change: Instant,
}

impl Hook {
    /// A hook at `url`, called `name` in logs and metrics.
    pub(super) fn new(client: Client, name: &'static str, url: Url, metrics: Metrics) -> Self {
        let max_in_flight = client.settings().max_in_flight;
        let permits = Arc::new(Permits::new(max_in_flight, max_waiting(max_in_flight)));
        let health = HookHealth(Arc::new(Mutex::new(Health {
            breaker: CircuitBreaker::new(FAILURES_TO_OPEN, OPEN_FOR),
            log: FailureLog::default(),
            average_duration: Duration::ZERO,
            last_change: Instant::now(),
        })));
        let circuit_open = metrics.webhook_circuit_open.with([name]);
        let waiting = metrics.webhook_calls_waiting.with([name]);
        let seen = (permits.clone(), health.clone());
        metrics.before_encoding(move || {
            waiting.set(i64::try_from(seen.0.waiting()).unwrap_or(i64::MAX));
            circuit_open.set(i64::from(!seen.1.is_called()));
        });
        Self {
            call_seconds: metrics.webhook_call_seconds.with([name]),
            permits,
            callers: Callers::default(),
            health,
            client,
            metrics,
            name,
            url,
        }
    }

    /// Posts `body` as JSON and returns what `read` makes of the response. Waiting calls are shared
    /// fairly between callers; `caller` identifies the one of this call.
    ///
    /// # Errors
    /// [`CallError`] if there is no reply that `read` can use.
    pub(crate) async fn call<T>(
        &self,
        caller: impl Hash,
        body: &impl Serialize,
        read: impl FnOnce(Reply<'_>) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let sent = Arc::default();
        let reply = self.attempt(self.callers.caller(caller), body, &sent).await;
        self.finish(reply.and_then(|reply| read(Reply::new(&reply))), |_| true)
    }

    /// Posts `body` as JSON. Once it is sent, the response is awaited only until a notification
    /// is `displaced`. Only a server that cannot be reached is left alone for a while: one that
    /// responds badly, or not at all, was notified all the same.
    ///
    /// # Errors
    /// [`CallError`] if there is no successful response.
    pub(crate) async fn notify(
        &self,
        caller: Caller,
        body: &impl Serialize,
        displaced: &Notify,
    ) -> Result<(), CallError> {
        let sent: Arc<SetOnce<()>> = Arc::default();
        let is_displaced = async {
            sent.wait().await;
            tokio::time::sleep(MIN_RESPONSE_TIME).await;
            displaced.notified().await;
        };
        let response = tokio::select! {
            biased;
            response = self.attempt(caller, body, &sent) => response.map(drop),
            () = is_displaced => Err(CallError::Displaced),
        };
        self.finish(response, |error| matches!(error, CallError::Connection(_)))
    }

    pub(crate) fn max_in_flight(&self) -> usize {
        self.client.settings().max_in_flight
    }

    /// How many calls may wait if this many may be in flight.
    pub(crate) fn max_waiting(&self) -> usize {
        max_waiting(self.max_in_flight())
    }

    async fn attempt(
        &self,
        caller: Caller,
        body: &impl Serialize,
        sent: &Arc<SetOnce<()>>,
    ) -> Result<Vec<u8>, CallError> {
        let _permit = self.permit(caller).await?;
        if !self.health().breaker.allows(Instant::now()) {
            return Err(CallError::CircuitOpen);
        }
        let json = serde_json::to_vec(body).map_err(|_| CallError::Malformed("a request"))?;
        let began = Instant::now();
        self.health().last_change = began;
        let post = self.client.post(&self.url, json.into(), sent);
        let response = tokio::time::timeout(self.client.settings().timeout, post).await;
        let duration = began.elapsed();
        self.call_seconds.observe(duration.as_secs_f64());
        self.health().record_duration(duration);
        response.unwrap_or(Err(CallError::Timeout))
    }

    /// Waits for a permit, at most as long as a call may take. A wait that says nothing of the
    /// server is refused at once where it would take longer.
    async fn permit(&self, caller: Caller) -> Result<Permit<'_>, CallError> {
        let timeout = self.client.settings().timeout;
        let permit = self.permits.acquire(caller, |ahead| {
            let health = self.health();
            if health.breaker.is_open() {
                return Err(CallError::CircuitOpen);
            }
            let rounds = (ahead + 1) as f64 / self.max_in_flight() as f64;
            let wait_s = health.expected_duration().as_secs_f64() * rounds;
            if wait_s > timeout.as_secs_f64() { Err(CallError::Busy) } else { Ok(()) }
        });
        tokio::time::timeout(timeout, permit).await.unwrap_or(Err(CallError::Busy))
    }

    /// Counts how a call ended.
    fn finish<T>(
        &self,
        outcome: Result<T, CallError>,
        speaks_against_server: impl Fn(&CallError) -> bool,
    ) -> Result<T, CallError> {
        let label = outcome.as_ref().err().map_or("ok", CallError::label);
        self.metrics.webhook_calls.inc([self.name, label]);
        let Err(error) = &outcome else {
            self.health().breaker.succeeded();
            return outcome;
        };
        // These say something of the broker and nothing of the server.
        if matches!(error, CallError::CircuitOpen | CallError::Busy) {
            return outcome;
        }
        let now = Instant::now();
        let unlogged = {
            let mut health = self.health();
            if speaks_against_server(error) {
                health.breaker.failed(now);
            } else {
                health.breaker.succeeded();
            }
            health.log.failed(now)
        };
        if let Some(failures) = unlogged {
            tracing::warn!(hook = self.name, %error, failures, "a webhook call failed");
        }
        outcome
    }

    /// Returns a handle on how the calls go.
    pub(super) fn health_handle(&self) -> HookHealth {
        self.health.clone()
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock()
    }
}

impl HookHealth {
    /// Whether the server is called at present, and not left alone after many failures.
    pub(super) fn is_called(&self) -> bool {
        !self.lock().breaker.is_open()
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    fn record_duration(&mut self, duration: Duration) {
        let earlier = self.average_duration * (AVERAGE_OVER - 1);
        self.average_duration = (earlier + duration) / AVERAGE_OVER;
        self.last_change = Instant::now();
    }

    /// Returns how long a call is likely to take, while as many are in flight as may be: if nothing
    /// has changed for a while, all of them have been taking that long already.
    fn expected_duration(&self) -> Duration {
        self.average_duration.max(self.last_change.elapsed())
    }
}

fn max_waiting(max_in_flight: usize) -> usize {
    max_in_flight.saturating_mul(WAITING_PER_CALL)
}
