//! The one HTTP client behind all hooks: what it sends, how long it waits, what it accepts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Proxy, Response};
use serde::Serialize;
use tokio::sync::Semaphore;
use url::Url;
use uuid::Uuid;

use super::failure_log::FailureLog;
use super::{Answer, CallSettings};
use crate::circuit_breaker::CircuitBreaker;
use crate::metrics::Metrics;

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What UTF-8 may begin with, and JSON may not.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Failures in a row that open the circuit of a hook.
const FAILURES_TO_OPEN: u32 = 10;

/// How long an open circuit stays so before one call is tried.
const OPEN_FOR: Duration = Duration::from_secs(5);

/// How many calls of a hook may wait for their turn, for each one that may be under way: as many
/// as one connection may have waiting, so that hundreds of busy ones find room.
const WAITING_PER_CALL: usize = 64;

/// Who calls: firewalls turn away requests that do not say it.
const USER_AGENT: &str = concat!("crolang-broker/", env!("CARGO_PKG_VERSION"));

/// JSON first, where a server can answer in more than one form.
const ACCEPTED: HeaderValue = HeaderValue::from_static("application/json, */*");

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Certificates to trust beside the system's.
#[derive(Debug, Clone)]
pub struct ExtraRoots(Vec<Certificate>);

impl ExtraRoots {
    /// Reads certificates in PEM; `None` if there are none, or one that cannot be used.
    pub fn parse(pem: &[u8]) -> Option<Self> {
        install_crypto();
        let certificates =
            Certificate::from_pem_bundle(pem).ok().filter(|found| !found.is_empty())?;
        // Only a client looks into them.
        let client = reqwest::Client::builder().tls_certs_merge(certificates.clone());
        client.build().is_ok().then_some(Self(certificates))
    }
}

/// Chooses the cryptography of TLS for the whole process.
fn install_crypto() {
    // Fails where the process has some already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Makes hooks that share connections and settings; a cheap handle.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    settings: Arc<CallSettings>,
    metrics: Metrics,
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the webhook client cannot be set up: {0}")]
pub struct ClientError(#[from] reqwest::Error);

/// Why a hook gave no answer. None of these is a no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// It failed so often that it is not asked for a while.
    #[error("not asked, after too many failures in a row")]
    CircuitOpen,
    /// Too many calls wait already.
    #[error("too many calls are waiting")]
    Busy,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection failed, in the words of the HTTP client without the URL.
    #[error("no connection: {0}")]
    Connection(String),
    /// An answer that is not a success.
    #[error("status {0}")]
    Status(u16),
    /// An answer that is too long.
    #[error("an answer of more than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// An answer that is not what this hook must give.
    #[error("an answer that is not {0}")]
    Malformed(&'static str),
}

impl CallError {
    /// The name in metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            CallError::CircuitOpen => "circuit_open",
            CallError::Busy => "busy",
            CallError::Timeout => "timeout",
            CallError::Connection(_) => "connection",
            CallError::Status(_) => "status",
            CallError::TooLong => "too_long",
            CallError::Malformed(_) => "malformed",
        }
    }
}

impl From<reqwest::Error> for CallError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        // The URL may hold a secret; what lies behind an error says more than its own text.
        let error = error.without_url();
        let mut reason: &dyn std::error::Error = &error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        Self::Connection(reason.to_string())
    }
}

impl Client {
    /// A client with these settings.
    ///
    /// # Errors
    /// [`ClientError`] if a certificate or the proxy cannot be used.
    pub(super) fn new(settings: CallSettings, metrics: Metrics) -> Result<Self, ClientError> {
        install_crypto();
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(settings.timeout)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(settings.max_in_flight);
        if let Some(ExtraRoots(certificates)) = &settings.extra_roots {
            builder = builder.tls_certs_merge(certificates.clone());
        }
        if let Some(proxy) = &settings.proxy {
            builder = builder.proxy(Proxy::all(proxy.expose().clone())?);
        }
        Ok(Self { http: builder.build()?, settings: Arc::new(settings), metrics })
    }

    /// A hook at `url`, called `name` in logs and metrics.
    pub(super) fn hook(&self, name: &'static str, url: Url) -> Hook {
        Hook {
            client: self.clone(),
            name,
            url,
            // Its own, so that one hook that hangs takes no turns from the others.
            turns: Semaphore::new(self.settings.max_in_flight),
            waiting: AtomicUsize::new(0),
            health: Mutex::new(Health {
                breaker: CircuitBreaker::new(FAILURES_TO_OPEN, OPEN_FOR),
                log: FailureLog::default(),
            }),
        }
    }
}

pub(crate) struct Hook {
    client: Client,
    name: &'static str,
    url: Url,
    turns: Semaphore,
    waiting: AtomicUsize,
    health: Mutex<Health>,
}

/// How the last calls of a hook went.
struct Health {
    breaker: CircuitBreaker,
    log: FailureLog,
}

impl Hook {
    /// Posts `body` as JSON and gives what `read` makes of the answer, which must be an object.
    ///
    /// # Errors
    /// [`CallError`] if there is no answer that `read` can use.
    pub(crate) async fn call<T>(
        &self,
        body: &impl Serialize,
        read: impl FnOnce(Answer) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let asked = self.attempt(body, |answer| {
            // Some frameworks begin every text with a byte order mark.
            let answer = answer.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&answer);
            read(
                serde_json::from_slice(answer)
                    .map_err(|_| CallError::Malformed("a JSON object"))?,
            )
        });
        self.finish(asked.await, |_| true)
    }

    /// Posts `body` as JSON. Only a server that cannot be reached is left alone for a while: one
    /// that answers badly, or not at all, was told all the same.
    ///
    /// # Errors
    /// [`CallError`] if there is no answer of success.
    pub(crate) async fn tell(&self, body: &impl Serialize) -> Result<(), CallError> {
        let told = self.attempt(body, |_| Ok(())).await;
        self.finish(told, |error| matches!(error, CallError::Connection(_)))
    }

    pub(crate) fn max_in_flight(&self) -> usize {
        self.client.settings.max_in_flight
    }

    async fn attempt<T>(
        &self,
        body: &impl Serialize,
        read: impl FnOnce(Vec<u8>) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        if !self.health().breaker.allows(Instant::now()) {
            return Err(CallError::CircuitOpen);
        }
        let timeout = self.client.settings.timeout;
        let answered = tokio::time::timeout(timeout, self.exchange(body)).await;
        answered.unwrap_or(Err(CallError::Timeout)).and_then(read)
    }

    /// Counts how a call ended.
    fn finish<T>(
        &self,
        ended: Result<T, CallError>,
        speaks_against_server: impl Fn(&CallError) -> bool,
    ) -> Result<T, CallError> {
        let label = ended.as_ref().err().map_or("ok", CallError::label);
        self.client.metrics.webhook_call(self.name, label);
        let Err(error) = &ended else {
            self.health().breaker.succeeded();
            return ended;
        };
        // These say something of the broker and nothing of the server.
        if matches!(error, CallError::CircuitOpen | CallError::Busy) {
            return ended;
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
            tracing::warn!(hook = self.name, %error, failures, "a webhook gave no answer");
        }
        ended
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(&self, body: &impl Serialize) -> Result<Vec<u8>, CallError> {
        let _turn = self.turn().await?;
        let body = serde_json::to_vec(body).map_err(|_| CallError::Malformed("a request"))?;
        let request =
            self.client.http.post(self.url.clone()).headers(self.headers(&body)).body(body);
        let response = request.send().await?;
        if !response.status().is_success() {
            return Err(CallError::Status(response.status().as_u16()));
        }
        read_limited(response).await
    }

    async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, CallError> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        let most = self.client.settings.max_in_flight * WAITING_PER_CALL;
        let _place = Place::take(&self.waiting, most).ok_or(CallError::Busy)?;
        self.turns.acquire().await.map_err(|_| CallError::Busy)
    }

    fn headers(&self, body: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, ACCEPTED);
        let Some(signer) = &self.client.settings.signer else { return headers };
        let id = format!("msg_{}", Uuid::new_v4().as_simple());
        let timestamp =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let values = [
            (WEBHOOK_SIGNATURE, signer.sign(&id, timestamp, body)),
            (WEBHOOK_TIMESTAMP, timestamp.to_string()),
            (WEBHOOK_ID, id),
        ];
        headers.extend(
            values
                .into_iter()
                .filter_map(|(name, text)| Some((name, HeaderValue::from_str(&text).ok()?))),
        );
        headers
    }
}

/// Reads an answer chunk by chunk, so that an endless one is noticed.
async fn read_limited(mut response: Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(CallError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A place among those who wait; given up when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::AcqRel) < most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
