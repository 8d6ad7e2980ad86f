//! The HTTP client of all hooks: what it sends, which connections it uses, what it accepts.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Body, Certificate, Proxy, Response};
use tokio::sync::SetOnce;
use url::Url;
use uuid::Uuid;

use super::CallSettings;
use super::resolver::Resolver;
use crate::protocol::InvalidRtcConfiguration;

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How long a connection may be idle before it is closed. Servers close theirs after one second
/// (the least that `Keep-Alive: timeout` can name), two (gunicorn) or five (Node, uvicorn).
const IDLE_TIMEOUT: Duration = Duration::from_millis(900);

/// The name of the client: firewalls reject requests without one.
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

/// Posts to webhook servers; a cheap handle.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    /// The same with a new connection for each request.
    unpooled: reqwest::Client,
    settings: Arc<CallSettings>,
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the webhook client cannot be set up: {0}")]
pub struct ClientError(#[from] reqwest::Error);

/// Why a hook gave no answer. None of these is a no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The circuit is open after too many failures.
    #[error("circuit open after too many failures in a row")]
    CircuitOpen,
    /// Too many calls wait already, or this one has waited too long for its permit.
    #[error("too many calls are waiting")]
    Busy,
    /// The request was sent, and its connection is needed for another one.
    #[error("no response before its connection was needed")]
    Displaced,
    /// No answer in time.
    #[error("no response in time")]
    Timeout,
    /// The connection failed, in the words of the HTTP client without the URL.
    #[error("no connection: {0}")]
    Connection(String),
    /// An answer that is not a success.
    #[error("status {0}")]
    Status(u16),
    /// An answer that is too long.
    #[error("a response of more than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// An answer that is not what this hook must give.
    #[error("a response that is not {0}")]
    Malformed(&'static str),
    /// An RTC configuration that no node could use.
    #[error("an unusable RTC configuration: {0}")]
    RtcConfiguration(#[from] InvalidRtcConfiguration),
}

impl CallError {
    /// The name in metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            CallError::CircuitOpen => "circuit_open",
            CallError::Busy => "busy",
            CallError::Displaced => "displaced",
            CallError::Timeout => "timeout",
            CallError::Connection(_) => "connection",
            CallError::Status(_) => "status",
            CallError::TooLong => "too_long",
            CallError::Malformed(_) | CallError::RtcConfiguration(_) => "malformed",
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
    pub(super) fn new(settings: CallSettings) -> Result<Self, ClientError> {
        install_crypto();
        let resolver = Arc::new(Resolver::default());
        Ok(Self {
            http: http_client(&settings, settings.max_in_flight, resolver.clone())?,
            unpooled: http_client(&settings, 0, resolver)?,
            settings: Arc::new(settings),
        })
    }

    pub(super) fn settings(&self) -> &CallSettings {
        &self.settings
    }

    /// Posts JSON and returns the body of the response. `sent` is set once the request is on its
    /// way. A request whose connection broke before the response is sent once more, on a new
    /// connection: most likely the server closed an idle one just then. So is one that got stuck
    /// before it was on its way.
    ///
    /// # Errors
    /// [`CallError`] if there is no successful response.
    pub(super) async fn post(
        &self,
        url: &Url,
        json: Bytes,
        sent: &Arc<SetOnce<()>>,
    ) -> Result<Vec<u8>, CallError> {
        let headers = self.headers(&json);
        let request = |http: &reqwest::Client| {
            let body = RequestBody { json: Some(json.clone()), sent: sent.clone() };
            http.post(url.clone()).headers(headers.clone()).body(Body::wrap(body)).send()
        };
        let response = tokio::select! {
            biased;
            response = request(&self.http) => Some(response),
            () = self.is_stuck(sent) => None,
        };
        let response = match response {
            None => request(&self.unpooled).await?,
            Some(Err(error)) if is_broken_connection(&error) => request(&self.unpooled).await?,
            Some(response) => response?,
        };
        if !response.status().is_success() {
            return Err(CallError::Status(response.status().as_u16()));
        }
        read_limited(response).await
    }

    /// Returns what is at `url`. A request whose connection broke is sent once more, as by
    /// [`Self::post`].
    ///
    /// # Errors
    /// [`CallError`] if there is no successful response.
    pub(super) async fn get(&self, url: &Url) -> Result<Vec<u8>, CallError> {
        let request =
            |http: &reqwest::Client| http.get(url.clone()).header(ACCEPT, ACCEPTED).send();
        let response = match request(&self.http).await {
            Err(error) if is_broken_connection(&error) => request(&self.unpooled).await?,
            response => response?,
        };
        if !response.status().is_success() {
            return Err(CallError::Status(response.status().as_u16()));
        }
        read_limited(response).await
    }

    /// Returns if a request is not on its way after a quarter of the time that a call has.
    ///
    /// The HTTP client hands a request to the task of its connection through a channel of tokio. If
    /// that task ends while a thread that was interrupted is sending, the request stays in the
    /// channel, and neither a response nor an error ever comes.
    async fn is_stuck(&self, sent: &SetOnce<()>) {
        tokio::time::sleep(self.settings.timeout / 4).await;
        if sent.initialized() {
            std::future::pending().await
        }
    }

    fn headers(&self, body: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, ACCEPTED);
        let Some(signer) = &self.settings.signer else { return headers };
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

fn http_client(
    settings: &CallSettings,
    max_idle_connections: usize,
    resolver: Arc<Resolver>,
) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .no_proxy()
        .dns_resolver(resolver)
        .connect_timeout(settings.timeout)
        .tcp_nodelay(true)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(max_idle_connections);
    if let Some(ExtraRoots(certificates)) = &settings.extra_roots {
        builder = builder.tls_certs_merge(certificates.clone());
    }
    if let Some(proxy) = &settings.proxy {
        builder = builder.proxy(Proxy::all(proxy.expose().clone())?);
    }
    Ok(builder.build()?)
}

/// Returns whether a connection that had been made ended before the head of a response was there.
fn is_broken_connection(error: &reqwest::Error) -> bool {
    if error.is_connect() {
        return false;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_canceled() || error.is_closed())
        {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            );
        }
        cause = error.source();
    }
    false
}

/// A request's body that says when it is taken to be written.
struct RequestBody {
    json: Option<Bytes>,
    sent: Arc<SetOnce<()>>,
}

impl hyper::body::Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let json = self.json.take();
        if json.is_some() {
            // Fails for a request that is repeated.
            let _ = self.sent.set(());
        }
        Poll::Ready(json.map(|json| Ok(Frame::data(json))))
    }

    fn is_end_stream(&self) -> bool {
        self.json.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.json.as_ref().map_or(0, |json| json.len() as u64))
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
