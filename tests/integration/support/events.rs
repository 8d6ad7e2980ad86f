//! The names of the events that one node sends to another (`doc/reference/protocol.md`).

/// All of them, in the order of the numbers that replicas have for them.
pub const EVENTS: [&str; 7] = [
    "CONNECTION_ATTEMPT",
    "CONNECTION_ACCEPTANCE",
    "CONNECTION_REFUSAL",
    "INCOMING_CONNECTIONS_NOT_ALLOWED",
    "ICE_CANDIDATES_EXCHANGE_INITIATOR_TO_RESPONDER",
    "ICE_CANDIDATES_EXCHANGE_RESPONDER_TO_INITIATOR",
    RELAYED_EVENT,
];

/// The one that is a message; the others set up a direct connection.
pub const RELAYED_EVENT: &str = "SOCKET_MSG_EXCHANGE";
