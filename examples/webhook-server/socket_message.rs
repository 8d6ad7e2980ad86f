//! A message was sent. The broker notifies this server without waiting for the response, and never
//! sends the contents.
//!
//! Notifications that cannot be sent in time are dropped, and they run concurrently: good for
//! statistics, not for billing.

use std::io::{self, Write};

use axum::Json;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::clock::since_1970;

/// The notification.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    sender_id: String,
    receiver_id: String,
    is_receiver_connected: bool,
}

/// A line of the trail. It is JSON, so that no ID can look like another field or another line.
#[derive(Serialize)]
struct Line<'a> {
    timestamp_ms: u128,
    sender: &'a str,
    receiver: &'a str,
    connected: bool,
}

/// `POST /socket-message`
pub(crate) async fn write_down(Json(message): Json<Message>) -> StatusCode {
    let line = line(&message, since_1970().as_millis());
    // One write for the whole line: those of two messages must not run into each other.
    match io::stdout().lock().write_all(line.as_bytes()) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn line(message: &Message, timestamp_ms: u128) -> String {
    let line = Line {
        timestamp_ms,
        sender: &message.sender_id,
        receiver: &message.receiver_id,
        connected: message.is_receiver_connected,
    };
    // Strings, a number and a truth value: writing them as JSON cannot fail.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let message = Message {
            sender_id: "a\",\"b\":\"c".to_owned(),
            receiver_id: "two\nlines".to_owned(),
            is_receiver_connected: true,
        };
        assert_eq!(
            line(&message, 5),
            "{\"timestamp_ms\":5,\"sender\":\"a\\\",\\\"b\\\":\\\"c\",\
             \"receiver\":\"two\\nlines\",\"connected\":true}\n"
        );
    }
}
