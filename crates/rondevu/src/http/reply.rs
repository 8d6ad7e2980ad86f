//! Responses that can be long. Their bytes are held until the client has read them: each piece of
//! a body holds its own, and the transport drops a piece when it has been written.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header;
use serde::Serialize;
use tokio::time::Instant;

use super::byte_budget::HeldBytes;
use super::client_address::ClientAddress;
use super::error::ApiError;
use super::responses::ListedSession;
use crate::metrics::Metrics;

/// How long a piece of a list is at least, but for the last. One session more may be in it.
const PIECE_BYTES: usize = 16 * 1024;

/// How fast a list has to be read, in bytes a second, once the response timeout is over.
const MIN_BYTES_PER_SECOND: usize = 64 * 1024;

/// The JSON of a list without sessions, in two parts.
const LIST_START: &[u8] = br#"{"sessions":["#;
const LIST_END: &[u8] = b"]}";

/// The outcome of a stream or list whose client reads too slowly.
pub(super) const READER_TOO_SLOW: &str = "reader_too_slow";

/// A part of a body, with the bytes that it holds.
struct Piece(Vec<u8>, #[expect(dead_code, reason = "released on drop")] HeldBytes);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Returns a part of a body that holds its bytes for as long as it exists.
pub(super) fn piece(bytes: Vec<u8>, held: HeldBytes) -> Bytes {
    Bytes::from_owner(Piece(bytes, held))
}

fn json_response(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Writes a value as one piece.
///
/// # Errors
/// See [`ClientAddress::respond`].
pub(super) fn whole(value: &impl Serialize, address: &ClientAddress) -> Result<Response, ApiError> {
    let json = serde_json::to_vec(value).map_err(|_| ApiError::Internal)?;
    let held = address.respond(json.len())?;
    Ok(json_response(Body::from(piece(json, held))))
}

/// Writes a list of sessions, a few at a time as the client reads them, and ends the connection of
/// one that reads it too slowly.
///
/// # Errors
/// See [`ClientAddress::respond`].
pub(super) fn sessions(
    sessions: Vec<ListedSession>,
    address: &ClientAddress,
    timeout: Duration,
    metrics: Metrics,
) -> Result<Response, ApiError> {
    let bytes = list_bytes(&sessions);
    let held = address.respond(bytes)?;
    Ok(list_response(sessions, bytes, held, timeout, metrics))
}

fn list_response(
    sessions: Vec<ListedSession>,
    bytes: usize,
    held: HeldBytes,
    timeout: Duration,
    metrics: Metrics,
) -> Response {
    let timeout = timeout + Duration::from_secs((bytes / MIN_BYTES_PER_SECOND) as u64);
    let deadline = Instant::now() + timeout;
    let list = ListPieces { rest: sessions.into_iter(), held, next: Part::Start };
    let pieces = list.map(move |piece| {
        if Instant::now() < deadline {
            return Ok(piece);
        }
        metrics.request("sessions", READER_TOO_SLOW);
        Err("the client reads too slowly")
    });
    let mut response = json_response(Body::from_stream(stream::iter(pieces)));
    response.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
    response
}

/// Returns the length of a list.
fn list_bytes(sessions: &[ListedSession]) -> usize {
    let mut counter = Counter(LIST_START.len() + LIST_END.len());
    for session in sessions {
        // Never fails: texts and numbers are JSON.
        let _ = serde_json::to_writer(&mut counter, session);
    }
    counter.0 + sessions.len().saturating_sub(1)
}

/// Counts bytes instead of writing them.
struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The JSON of [`SessionsReply`](super::responses::SessionsReply), in pieces.
struct ListPieces {
    rest: std::vec::IntoIter<ListedSession>,
    /// What the pieces to come hold.
    held: HeldBytes,
    next: Part,
}

/// What is written next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Start,
    Sessions,
    Nothing,
}

impl Iterator for ListPieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut json = Vec::new();
        let mut separator: &[u8] = match self.next {
            Part::Start => {
                json.extend_from_slice(LIST_START);
                b""
            }
            Part::Sessions => b",",
            Part::Nothing => return None,
        };
        self.next = Part::Sessions;
        while json.len() < PIECE_BYTES {
            let Some(session) = self.rest.next() else {
                json.extend_from_slice(LIST_END);
                self.next = Part::Nothing;
                break;
            };
            json.extend_from_slice(std::mem::replace(&mut separator, b","));
            let _ = serde_json::to_writer(&mut json, &session);
        }
        let held = self.held.split_off(json.len());
        Some(piece(json, held))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use prometheus_client::metrics::gauge::Gauge;

    use super::super::byte_budget::ByteBudget;
    use super::super::responses::SessionsReply;
    use super::*;
    use crate::model::{Clock, Code, JsonText, Session, Timestamp};

    fn text(length: usize) -> JsonText {
        JsonText::from_json(format!("\"{}\"", "x".repeat(length))).unwrap()
    }

    fn session(number: usize) -> ListedSession {
        let session = Session {
            code: Code::random(),
            info: text(1 + number % 7),
            offer: text(1 + number * 997 % 20_000),
            secret: None,
            answer: None,
            answers: 0,
            offer_candidates: vec![text(100); number % 5],
            answer_candidates: Vec::new(),
            created_at: Timestamp(1_000_000_000_000),
            expires_at: Timestamp(u64::MAX),
        };
        ListedSession::new(session, Clock::System)
    }

    #[test]
    fn pieces_are_the_whole_and_each_holds_its_bytes() {
        for count in [0, 1, 2, 30, 1000] {
            let reply = SessionsReply { sessions: (0..count).map(session).collect() };
            let expected = serde_json::to_vec(&reply).unwrap();
            let bytes = list_bytes(&reply.sessions);
            assert_eq!(bytes, expected.len());
            let gauge = Gauge::default();
            let held = ByteBudget::new(bytes, gauge.clone()).share(bytes).hold(bytes).unwrap();
            let rest = reply.sessions.into_iter();
            let pieces: Vec<_> = ListPieces { rest, held, next: Part::Start }.collect();
            assert_eq!(pieces.concat(), expected);
            assert!(pieces.iter().all(|piece| piece.len() < PIECE_BYTES + 21_000));
            assert_eq!(gauge.get(), bytes as i64);
            drop(pieces);
            assert_eq!(gauge.get(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_read_too_slowly_ends_with_an_error() {
        const TIMEOUT: Duration = Duration::from_secs(10);
        let gauge = Gauge::default();
        let held = |bytes| ByteBudget::new(bytes, gauge.clone()).share(bytes).hold(bytes).unwrap();
        let listed: Vec<_> = (0..20).map(session).collect();
        let bytes = list_bytes(&listed);
        let more = Duration::from_secs((bytes / MIN_BYTES_PER_SECOND) as u64);
        assert!(more > Duration::ZERO);
        let list = list_response(listed, bytes, held(bytes), TIMEOUT, Metrics::default());
        let mut pieces = list.into_body().into_data_stream();
        assert!(pieces.next().await.unwrap().is_ok());
        tokio::time::advance(TIMEOUT + more - Duration::from_millis(1)).await;
        assert!(pieces.next().await.unwrap().is_ok());
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(pieces.next().await.unwrap().is_err());
        drop(pieces);
        assert_eq!(gauge.get(), 0);
    }
}
