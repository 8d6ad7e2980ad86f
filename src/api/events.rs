//! What happens to the nodes of this replica, as server-sent events (HTML standard, 9.2).
//!
//! A stream reads the log that the webhook reads, at its own pace. One that falls so far behind that
//! events are lost ends, as its client would not notice otherwise.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderMap, header};
use metric_set::Gauge;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::caller::Reader;
use super::extract::Params;
use super::problem::{Problem, ProblemDocument};
use crate::lifecycle::{Cursor, Unread};

/// The time between two heartbeats on an idle stream. Proxies close a connection that is silent for
/// a minute.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// A comment, which clients ignore.
const HEARTBEAT: &[u8] = b":\n\n";

/// How long a stream goes on during a drain after the last event: the nodes that leave are told.
const DRAIN_QUIET: Duration = Duration::from_millis(250);

/// The most events that are written at once.
const MAX_WRITTEN: usize = 64;

/// A stream that is open; it takes a slot.
struct EventStream {
    cursor: Cursor,
    /// The first event, until it is sent.
    start: Option<Bytes>,
    stop: CancellationToken,
    open: Gauge,
    _slot: OwnedSemaphorePermit,
}

/// Streams what happens to the nodes of the replica that answers.
#[utoipa::path(
    get,
    path = "/events",
    params(
        ("Last-Event-ID" = Option<String>, Header, description = "the ID of the last event that was received: the stream goes on behind it"),
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = "4XX", content_type = "application/problem+json", body = ProblemDocument),
        (status = "5XX", content_type = "application/problem+json", body = ProblemDocument),
    ),
)]
pub(super) async fn follow(
    _: Reader,
    State(api): Context,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Problem> {
    params.finish()?;
    let slot = api.streams.clone().try_acquire_owned();
    let slot = slot.map_err(|_| Problem::too_many_streams())?;
    let cursor = api.broker.follow_events().ok_or_else(Problem::too_many_streams)?;
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    let stream = EventStream::open(cursor, last, slot, api.stop.clone(), api.open_streams.clone());
    let events = stream::unfold(stream, EventStream::next);
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(events)).into_response())
}

impl EventStream {
    /// Goes on behind the event with the ID `last`, if the log has it, and says what is missing.
    fn open(
        mut cursor: Cursor,
        last: Option<&str>,
        slot: OwnedSemaphorePermit,
        stop: CancellationToken,
        open: Gauge,
    ) -> Self {
        let replica = cursor.replica().to_string();
        let sequence = last.and_then(|last| {
            let (of, sequence) = last.rsplit_once('-')?;
            sequence.parse().ok().filter(|_| of == replica)
        });
        // Unknown where the client has followed another replica, or this one before its restart.
        let lost = match (last, sequence) {
            (None, _) => Some(0),
            (Some(_), sequence) => sequence.map(|sequence| cursor.resume(sequence)),
        };
        let start = json!({"replica": replica, "epoch": cursor.epoch(), "lost": lost});
        let start = format!(": open\nretry: 2000\n\nevent: start\ndata: {start}\n\n");
        open.inc();
        Self { cursor, start: Some(start.into()), stop, open, _slot: slot }
    }

    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if let Some(start) = self.start.take() {
            return Some((Ok(start), self));
        }
        loop {
            let Unread { lost, events } = self.cursor.peek(MAX_WRITTEN, "stream_too_slow");
            if lost > 0 {
                return None;
            }
            if let Some(last) = events.last() {
                self.cursor.advance(last.sequence);
                let replica = self.cursor.replica();
                let mut text = String::new();
                for event in &events {
                    // Never fails: all keys are texts.
                    let json = serde_json::to_string(&**event).unwrap_or_default();
                    let (sequence, name) = (event.sequence, event.label());
                    text += &format!("id: {replica}-{sequence}\nevent: {name}\ndata: {json}\n\n");
                }
                return Some((Ok(text.into()), self));
            }
            tokio::select! {
                biased;
                () = self.cursor.wait() => {}
                () = tokio::time::sleep(DRAIN_QUIET), if self.stop.is_cancelled() => return None,
                () = tokio::time::sleep(HEARTBEAT_INTERVAL) => {
                    return Some((Ok(Bytes::from_static(HEARTBEAT)), self));
                }
                () = self.stop.cancelled(), if !self.stop.is_cancelled() => {}
            }
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.open.dec();
    }
}
