//! The contract with the nodes: events, acks, refusals and their texts.
//!
//! No I/O, no clock, no state. What a node sends is parsed here once ([`Handshake`],
//! [`EventPacket`], [`envelope::Envelope`], [`Question`]), and the exact wording of every reply is
//! here. `doc/reference/protocol.md` shows the same from a client's side.

mod envelope;
mod handshake;
mod ice_url;
mod json_string;
mod packet;
mod presence;
mod rtc_configuration;
mod scan;
mod supported_nodes;

pub(crate) use envelope::Envelope;
pub(crate) use handshake::{Handshake, RequiredKey};
pub(crate) use ice_url::{is_stun_url, is_turn_url};
pub(crate) use json_string::{JsonString, JsonStringBuf};
pub(crate) use packet::{EventPacket, Payload};
pub(crate) use presence::{InvalidQuestion, Question};
pub(crate) use rtc_configuration::IceServer;
pub use rtc_configuration::{InvalidRtcConfiguration, RtcConfiguration};
pub use supported_nodes::{NodeVersion, SupportedNodes};

use std::fmt;

/// The event by which a node learns that it is connected; its argument is the RTC configuration.
pub(crate) const AUTHENTICATED: &str = "AUTHENTICATED";

/// The question which of some nodes are connected.
pub(crate) const ARE_NODES_CONNECTED_TO_BROKER: &str = "ARE_NODES_CONNECTED_TO_BROKER";

/// The events that one node sends to another through the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// An offer: the initiator wants a direct connection.
    ConnectionAttempt,
    /// The answer to an offer.
    ConnectionAcceptance,
    /// The responder does not want this connection.
    ConnectionRefusal,
    /// The responder takes no connections at all.
    IncomingConnectionsNotAllowed,
    /// An ICE candidate of the initiator.
    IceCandidateToResponder,
    /// An ICE candidate of the responder.
    IceCandidateToInitiator,
    /// A message relayed by the broker itself.
    SocketMessage,
}

impl Event {
    /// All of them, in the order of [`Event::index`].
    pub(crate) const ALL: [Event; 7] = [
        Event::ConnectionAttempt,
        Event::ConnectionAcceptance,
        Event::ConnectionRefusal,
        Event::IncomingConnectionsNotAllowed,
        Event::IceCandidateToResponder,
        Event::IceCandidateToInitiator,
        Event::SocketMessage,
    ];

    /// The event of this name on the wire.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }

    /// The name on the wire.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Event::ConnectionAttempt => "CONNECTION_ATTEMPT",
            Event::ConnectionAcceptance => "CONNECTION_ACCEPTANCE",
            Event::ConnectionRefusal => "CONNECTION_REFUSAL",
            Event::IncomingConnectionsNotAllowed => "INCOMING_CONNECTIONS_NOT_ALLOWED",
            Event::IceCandidateToResponder => "ICE_CANDIDATES_EXCHANGE_INITIATOR_TO_RESPONDER",
            Event::IceCandidateToInitiator => "ICE_CANDIDATES_EXCHANGE_RESPONDER_TO_INITIATOR",
            Event::SocketMessage => "SOCKET_MSG_EXCHANGE",
        }
    }

    /// The position in [`Event::ALL`], for tables by event.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Whether the event belongs to the setup of a direct connection, as opposed to the relay.
    pub(crate) fn is_signaling(self) -> bool {
        self != Event::SocketMessage
    }

    /// Whether the event belongs to the setup that an attempt has begun.
    pub(crate) fn follows_attempt(self) -> bool {
        self.is_signaling() && self != Event::ConnectionAttempt
    }
}

/// The answer to an event that one node sent to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ack {
    /// Handed over to the receiver's connection.
    Ok,
    /// No connection has the receiver's ID.
    NotConnected,
    /// The authorization webhook said no.
    Unauthorized,
    /// The operator switched this kind of event off.
    Disabled,
    /// Something is wrong with the message, or the broker could not hand it over.
    Error,
}

impl Ack {
    /// All of them, in the order of [`Ack::index`].
    pub(crate) const ALL: [Ack; 5] =
        [Ack::Ok, Ack::NotConnected, Ack::Unauthorized, Ack::Disabled, Ack::Error];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Ack::Ok => "OK",
            Ack::NotConnected => "NOT_CONNECTED",
            Ack::Unauthorized => "UNAUTHORIZED",
            Ack::Disabled => "DISABLED",
            Ack::Error => "ERROR",
        }
    }

    /// The JSON string that a node gets as its acknowledgement.
    pub(crate) fn as_json(self) -> JsonString<'static> {
        JsonString::trusted(match self {
            Ack::Ok => "\"OK\"",
            Ack::NotConnected => "\"NOT_CONNECTED\"",
            Ack::Unauthorized => "\"UNAUTHORIZED\"",
            Ack::Disabled => "\"DISABLED\"",
            Ack::Error => "\"ERROR\"",
        })
    }

    /// The position in [`Ack::ALL`], for tables by ack.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// A final "no" to a node that wants to connect. The official nodes do not try again after one,
/// so nothing that may pass by itself is ever answered with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// A required key is missing, given twice or not valid.
    Missing(RequiredKey),
    /// The value of this key is too long.
    TooLong(&'static str),
    /// The operator does not support the node's platform or version.
    Unsupported,
    /// The authentication webhook said no.
    AuthenticationFailed,
    /// The operator has banned the node. Nodes are told that authentication failed.
    Banned,
    /// The ID is the operator's own. Nodes are told that authentication failed.
    Reserved,
    /// A live connection has the ID.
    AlreadyConnected,
}

impl Refusal {
    /// The name in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Refusal::Missing(_) => "missing_value",
            Refusal::TooLong(_) => "too_long_value",
            Refusal::Unsupported => "unsupported",
            Refusal::AuthenticationFailed => "authentication_failed",
            Refusal::Banned => "banned",
            Refusal::Reserved => "reserved_id",
            Refusal::AlreadyConnected => "already_connected",
        }
    }
}

impl fmt::Display for Refusal {
    /// The message of the `connect_error`, as the official nodes compare it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Missing(key) => {
                write!(
                    f,
                    "server side exception: Error: Missing required OnConnectionData value: {key}"
                )
            }
            Refusal::TooLong(key) => {
                write!(f, "server side exception: Error: Too long OnConnectionData value: {key}")
            }
            Refusal::Unsupported => f.write_str("unsupported architecture"),
            Refusal::AuthenticationFailed | Refusal::Banned | Refusal::Reserved => {
                f.write_str("authentication failed")
            }
            Refusal::AlreadyConnected => f.write_str("client already connected"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_acks_find_their_way_back() {
        for (index, event) in Event::ALL.into_iter().enumerate() {
            assert_eq!(event.index(), index);
            assert_eq!(Event::from_name(event.name()), Some(event));
        }
        for (index, ack) in Ack::ALL.into_iter().enumerate() {
            assert_eq!(ack.index(), index);
            assert_eq!(ack.as_json().content(), ack.as_str().as_bytes());
        }
        assert_eq!(Event::from_name("connection_attempt"), None);
    }

    #[test]
    fn refusals_have_the_exact_wording() {
        assert_eq!(
            Refusal::Missing(RequiredKey::Runtime).to_string(),
            "server side exception: Error: Missing required OnConnectionData value: runtime"
        );
        assert_eq!(
            Refusal::TooLong("data").to_string(),
            "server side exception: Error: Too long OnConnectionData value: data"
        );
        assert_eq!(Refusal::Unsupported.to_string(), "unsupported architecture");
        assert_eq!(Refusal::AuthenticationFailed.to_string(), "authentication failed");
        assert_eq!(Refusal::AlreadyConnected.to_string(), "client already connected");
    }
}
