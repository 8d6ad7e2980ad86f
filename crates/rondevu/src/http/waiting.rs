//! Requests that wait for changes: long polls and event streams.
//!
//! Each takes one of a limited number of slots, and releases it when its client disconnects.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Context;
use super::client_address::{ClientAddress, Waiting};
use super::error::ApiError;
use super::requests::PollRequest;
use super::responses::ListedSession;
use crate::metrics::Metrics;
use crate::model::{Clock, Origin, Session, Topic};
use crate::store::{Lagged, TopicStream};

/// The time between two heartbeats on an idle stream. Proxies close a connection that is silent for
/// a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a client should wait before it opens its stream again.
const REOPEN_AFTER: Duration = Duration::from_secs(2);

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
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, ApiError> {
    let subscription = Subscription {
        slot: context.slots.take(address)?,
        sessions: context.store.notifications().stream(origin, topic),
        clock: context.store.clock(),
        metrics: context.metrics.clone(),
    };
    // Sent immediately: the client misses no session after it.
    let opening = Event::default().comment("open").retry(REOPEN_AFTER);
    let sessions = stream::unfold(subscription, Subscription::next);
    let events = stream::once(async { opening }).chain(sessions).map(Ok);
    let events = events.take_until(context.stop.clone().cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

struct Subscription {
    #[expect(dead_code, reason = "released on drop")]
    slot: Slot,
    sessions: TopicStream,
    clock: Clock,
    metrics: Metrics,
}

impl Subscription {
    /// Returns the next event; ends the stream of a client that is too slow, which then opens a new
    /// one and looks at the list.
    async fn next(mut self) -> Option<(Event, Self)> {
        match self.sessions.next().await {
            Ok(session) => {
                let session = ListedSession::new(Session::clone(&*session?), self.clock);
                let json = serde_json::to_string(&session).ok()?;
                Some((Event::default().event("session").data(json), self))
            }
            Err(Lagged) => {
                self.metrics.request("events", "reader_too_slow");
                None
            }
        }
    }
}
