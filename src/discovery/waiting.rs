//! Requests that wait for something to happen: long polls and streams of events.
//!
//! Each has one of a limited number of places, and gives it up when its client leaves.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Discovery;
use super::fault::Fault;
use super::news::{Lagged, TopicStream};
use super::requests::PollRequest;
use super::session::{Origin, Session, Timestamp, Topic};
use crate::metrics::Metrics;

/// The time between two signs of life on a stream on which nothing happens. Proxies close a
/// connection that is silent for a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a client should wait before it opens its stream again.
const REOPEN_AFTER: Duration = Duration::from_secs(2);

/// The places of those who wait; a cheap handle.
#[derive(Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    metrics: Metrics,
}

/// One of them; free again when dropped.
struct Place {
    metrics: Metrics,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(places: usize, metrics: Metrics) -> Self {
        let places = places.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(places)), metrics }
    }

    fn take(&self) -> Result<Place, Fault> {
        let permit = self.free.clone().try_acquire_owned().map_err(|_| Fault::TooManyWaiting)?;
        self.metrics.discovery_waiting(1);
        Ok(Place { metrics: self.metrics.clone(), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.discovery_waiting(-1);
    }
}

/// The session that is polled: at once if there is something that its side has not been shown,
/// else as soon as there is, or when the time is over.
pub(super) async fn poll(
    discovery: &Discovery,
    origin: &Origin,
    poll: &PollRequest,
) -> Result<Session, Fault> {
    let (code, side) = (poll.name.code()?, poll.name.side);
    let (store, news) = (&discovery.store, discovery.store.news());
    let session = store.get(code, origin, Timestamp::now()).await?;
    let first = session.revision(side);
    if poll.wait.is_zero() || news.is_new(code, side, first) {
        news.shown(code, side, first);
        return Ok(session);
    }
    let _place = discovery.places.take()?;
    let watch = news.watch(code);
    let deadline = Instant::now() + poll.wait;
    loop {
        // Before the look, so that no change after the look goes unnoticed.
        let changed = watch.changed();
        let is_over = Instant::now() >= deadline || discovery.stop.is_cancelled();
        let now = Timestamp::now();
        let session = store.get(code, origin, now).await?;
        let revision = session.revision(side);
        // Also if another poll of this side, perhaps one whose client is gone, was told first.
        if is_over || revision > first {
            news.shown(code, side, revision);
            return Ok(session);
        }
        let lifetime = session.expires_at.since(now).min(poll.wait);
        tokio::select! {
            () = changed => {}
            // It is gone at its own end, not at the next look.
            () = tokio::time::sleep_until(deadline.min(Instant::now() + lifetime)) => {}
            () = discovery.stop.cancelled() => {}
        }
    }
}

/// A stream of the sessions that are made in a topic from now on, as server-sent events (HTML
/// standard, 9.2), each with the JSON that lists have.
pub(super) fn events(
    discovery: &Discovery,
    origin: Origin,
    topic: Topic,
) -> Result<Response, Fault> {
    let place = discovery.places.take()?;
    let news = discovery.store.news().stream(origin, topic);
    let metrics = discovery.metrics.clone();
    // Sent at once, so that the client knows from when on it misses nothing.
    let opening = Event::default().comment("open").retry(REOPEN_AFTER);
    let sessions = stream::unfold((news, place, metrics), next_event);
    let stream = stream::once(async { opening }).chain(sessions).map(Ok::<_, Infallible>);
    let stream = stream.take_until(discovery.stop.clone().cancelled_owned());
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response())
}

/// Ends the stream of a client that is too slow: it opens another one, and looks at the list.
async fn next_event(
    (mut news, place, metrics): (TopicStream, Place, Metrics),
) -> Option<(Event, (TopicStream, Place, Metrics))> {
    match news.next().await {
        Ok(session) => {
            let event = Event::default().event("session").data(session?);
            Some((event, (news, place, metrics)))
        }
        Err(Lagged) => {
            metrics.discovery_request("events", "reader_too_slow");
            None
        }
    }
}
