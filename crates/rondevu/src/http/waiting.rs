//! Requests that wait for changes: long polls and event streams.
//!
//! Each takes one of a limited number of slots, and releases it when its client disconnects.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use http::header;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Context;
use super::client_address::{ClientAddress, Waiting};
use super::error::ApiError;
use super::reply::{self, READER_TOO_SLOW};
use super::requests::PollRequest;
use super::responses::ListedSession;
use crate::metrics::Metrics;
use crate::model::{Clock, Origin, Session, Topic};
use crate::store::{Lagged, TopicStream};

/// The time between two heartbeats on an idle stream. Proxies close a connection that is silent for
/// a minute.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// A comment, which clients ignore.
const HEARTBEAT: &[u8] = b":\n\n";

/// The start of a stream: a comment, and how many milliseconds a client should wait before it opens
/// its stream again.
const OPENING: &[u8] = b": open\nretry: 2000\n\n";

/// The slots of long polls and event streams.
pub(super) struct Slots {
    free: Arc<Semaphore>,
    taken: Gauge,
}

/// One slot; released on drop.
struct Slot {
    taken: Gauge,
    _permit: OwnedSemaphorePermit,
    _share: Waiting,
}

impl Slots {
    pub(super) fn new(slots: usize, taken: Gauge) -> Self {
        Self { free: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))), taken }
    }

    /// Takes a slot, and a part of the address's share of them.
    fn take(&self, address: Arc<ClientAddress>) -> Result<Slot, ApiError> {
        let share = address.wait()?;
        let permit = self.free.clone().try_acquire_owned();
        let permit = permit.map_err(|_| ApiError::TooManyWaiting)?;
        self.taken.inc();
        Ok(Slot { taken: self.taken.clone(), _permit: permit, _share: share })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.taken.dec();
    }
}

/// Returns the polled session: immediately if there is a change that its side has not been shown,
/// otherwise at the next change, or when the wait is over.
pub(super) async fn poll(
    context: &Context,
    origin: &Origin,
    address: Arc<ClientAddress>,
    request: &PollRequest,
) -> Result<Session, ApiError> {
    let PollRequest { code, side, wait } = *request;
    let (store, notifications) = (&context.store, context.store.notifications());
    let session = store.get(code, origin, store.clock().now()).await?;
    let first = session.revision(side);
    if wait.is_zero() || notifications.is_new(code, side, first) {
        notifications.set_shown(code, side, first);
        return Ok(session);
    }
    let _slot = context.slots.take(address)?;
    let watch = notifications.watch(code);
    let deadline = Instant::now() + wait;
    loop {
        // Before looking, so that no change after it is missed.
        let changed = watch.changed();
        let is_over = Instant::now() >= deadline || context.stop.is_cancelled();
        let now = store.clock().now();
        let session = store.get(code, origin, now).await?;
        let revision = session.revision(side);
        // Also if another poll of this side, whose client may have disconnected, was notified before.
        if is_over || revision > first {
            notifications.set_shown(code, side, revision);
            return Ok(session);
        }
        let lifetime = session.expires_at.since(now).min(wait);
        tokio::select! {
            () = changed => {}
            // An expired session is reported when it expires, not at the next look.
            () = tokio::time::sleep_until(deadline.min(Instant::now() + lifetime)) => {}
            () = context.stop.cancelled() => {}
        }
    }
}

/// Streams the sessions that are created in a topic from now on as server-sent events (HTML
/// standard, 9.2), each with the JSON of lists.
pub(super) fn events(
    context: &Context,
    origin: Origin,
    address: Arc<ClientAddress>,
    topic: Topic,
) -> Result<Response, ApiError> {
    let subscription = Subscription {
        slot: context.slots.take(address.clone())?,
        sessions: context.store.notifications().stream(origin, topic),
        address,
        clock: context.store.clock(),
        metrics: context.metrics.clone(),
    };
    // Sent immediately: the client misses no session after it.
    let opening = stream::once(async { Bytes::from_static(OPENING) });
    let events = opening.chain(stream::unfold(subscription, Subscription::next));
    let events = events.map(Ok::<_, Infallible>);
    let body = Body::from_stream(events.take_until(context.stop.clone().cancelled_owned()));
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, body).into_response())
}

struct Subscription {
    #[expect(dead_code, reason = "released on drop")]
    slot: Slot,
    sessions: TopicStream,
    address: Arc<ClientAddress>,
    clock: Clock,
    metrics: Metrics,
}

impl Subscription {
    /// Returns the next event, or a heartbeat; ends the stream of a client that is too slow, which
    /// then opens a new one and looks at the list.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        match tokio::time::timeout(HEARTBEAT_INTERVAL, self.sessions.next()).await {
            Err(_) => Some((Bytes::from_static(HEARTBEAT), self)),
            Ok(Ok(session)) => {
                let event = self.event(Session::clone(&*session?))?;
                Some((event, self))
            }
            Ok(Err(Lagged)) => {
                self.metrics.request("events", READER_TOO_SLOW);
                None
            }
        }
    }

    /// Writes a session as an event, if the client may have so many unread bytes.
    fn event(&self, session: Session) -> Option<Bytes> {
        let mut event = b"event: session\ndata: ".to_vec();
        serde_json::to_writer(&mut event, &ListedSession::new(session, self.clock)).ok()?;
        event.extend_from_slice(b"\n\n");
        match self.address.respond(event.len()) {
            Ok(held) => Some(reply::piece(event, held)),
            Err(error) => {
                self.metrics.request("events", error.label());
                None
            }
        }
    }
}
