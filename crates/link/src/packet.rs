//! What Socket.IO packets look like inside WebSocket text messages.
//!
//! The only place that knows (Engine.IO protocol 4, Socket.IO protocol 5). A text message begins
//! with an Engine.IO type; `4` is a Socket.IO packet, whose type comes next:
//!
//! ```text
//! 1                         Engine.IO closes the connection
//! 2                         Engine.IO's heartbeat
//! 3                         the reply to it
//! 40                        CONNECT, and its reply 40{"sid":...}
//! 41                        DISCONNECT
//! 42["<event>",<argument>]  EVENT
//! 43<id>[<argument>]        ACK
//! 44{"message":...}         CONNECT_ERROR
//! ```
//!
//! Behind the type, a packet for another namespace than the main one names it: `40/admin,`.

/// The bytes of a message that identify the packet.
pub(crate) const PREFIX_BYTES: usize = 3;

/// What a WebSocket message is to Socket.IO, as far as the link must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet {
    /// CONNECT for the main namespace, or the reply that accepts it.
    Connect,
    /// CONNECT for another namespace, or the reply to it.
    ConnectElsewhere,
    /// The reply that refuses a CONNECT.
    ConnectError,
    /// The sender leaves: DISCONNECT of the main namespace, or the end of Engine.IO's session.
    Leave,
    /// A heartbeat.
    Ping,
    /// The reply to a heartbeat.
    Pong,
    /// Anything else.
    Other,
}

impl Packet {
    /// Recognizes a text message of `length` bytes by its first [`PREFIX_BYTES`].
    pub(crate) fn of(prefix: [u8; PREFIX_BYTES], length: u64) -> Self {
        let is_main_namespace = length == 2 || prefix[2] != b'/';
        match prefix {
            [b'1', ..] if length == 1 => Self::Leave,
            [b'2', ..] if length == 1 => Self::Ping,
            [b'3', ..] if length == 1 => Self::Pong,
            [b'4', ..] if length < 2 => Self::Other,
            [b'4', b'0', _] if is_main_namespace => Self::Connect,
            [b'4', b'0', _] => Self::ConnectElsewhere,
            [b'4', b'1', _] if is_main_namespace => Self::Leave,
            [b'4', b'4', _] if is_main_namespace => Self::ConnectError,
            _ => Self::Other,
        }
    }
}

/// A packet to send, as the pieces of its text.
pub(crate) enum OutgoingPacket<'a> {
    /// An event with one argument.
    Event {
        /// The event's name; needs no escapes in JSON.
        event: &'a str,
        /// The argument as JSON.
        argument: &'a str,
    },
    /// The acknowledgement of an event.
    Ack {
        /// The ID in decimal digits.
        id: &'a str,
        /// The argument as JSON.
        argument: &'a str,
    },
    /// Tells the client not to reconnect.
    Disconnect,
}

impl OutgoingPacket<'_> {
    /// The text of the packet, in pieces.
    pub(crate) fn pieces(&self) -> [&str; 5] {
        match self {
            Self::Event { event, argument } => ["42[\"", event, "\",", argument, "]"],
            Self::Ack { id, argument } => ["43", id, "[", argument, "]"],
            Self::Disconnect => ["41", "", "", "", ""],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_apart() {
        let packet = |text: &[u8]| {
            let mut prefix = [0; PREFIX_BYTES];
            let known = text.len().min(PREFIX_BYTES);
            prefix[..known].copy_from_slice(&text[..known]);
            Packet::of(prefix, text.len() as u64)
        };
        for text in [&b"40"[..], b"40{\"token\":1}", b"40{\"sid\":\"x\"}"] {
            assert_eq!(packet(text), Packet::Connect);
        }
        for text in [&b"1"[..], b"41", b"41,"] {
            assert_eq!(packet(text), Packet::Leave);
        }
        assert_eq!(packet(b"44{\"message\":\"no\"}"), Packet::ConnectError);
        assert_eq!(packet(b"40/admin,"), Packet::ConnectElsewhere);
        assert_eq!((packet(b"2"), packet(b"3")), (Packet::Ping, Packet::Pong));
        for text in [&b""[..], b"4", b"2probe", b"3x", b"1x", b"41/admin,", b"44/admin,", b"42[]"] {
            assert_eq!(packet(text), Packet::Other, "{text:?}");
        }
    }
}
