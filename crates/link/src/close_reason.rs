//! Why connections end.

/// Why a connection ended; also the label by which ends are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer closed it.
    PeerClosed,
    /// The network or the peer broke it.
    Broken,
    /// A byte waited for the peer to read for the write timeout.
    WriteTimeout,
    /// The peer took longer than the message timeout for one message.
    MessageTimeout,
    /// The peer was unresponsive while another connection asked for its ID.
    Replaced,
    /// The node left its namespace.
    NodeLeft,
    /// The operator does not want the node here.
    Kicked,
    /// Too many of its events were pending.
    Overflow,
    /// The transport ended it: a missed heartbeat, an invalid packet, or no CONNECT in time.
    Transport,
    /// The peer sent what no client sends: CONNECT again, or far too much before it.
    ProtocolViolation,
    /// The token that the node logged in with has expired.
    LoginExpired,
    /// Another connection owns its ID, or its ownership was uncertain for too long.
    LeaseLost,
    /// The broker is shutting down.
    Draining,
}

impl CloseReason {
    /// All of them.
    pub const ALL: [CloseReason; 13] = [
        CloseReason::PeerClosed,
        CloseReason::Broken,
        CloseReason::WriteTimeout,
        CloseReason::MessageTimeout,
        CloseReason::Replaced,
        CloseReason::NodeLeft,
        CloseReason::Kicked,
        CloseReason::Overflow,
        CloseReason::Transport,
        CloseReason::ProtocolViolation,
        CloseReason::LoginExpired,
        CloseReason::LeaseLost,
        CloseReason::Draining,
    ];

    /// The name in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::Broken => "broken",
            CloseReason::WriteTimeout => "write_timeout",
            CloseReason::MessageTimeout => "message_timeout",
            CloseReason::Replaced => "replaced",
            CloseReason::NodeLeft => "node_left",
            CloseReason::Kicked => "kicked",
            CloseReason::Overflow => "overflow",
            CloseReason::Transport => "transport",
            CloseReason::ProtocolViolation => "protocol_violation",
            CloseReason::LoginExpired => "login_expired",
            CloseReason::LeaseLost => "lease_lost",
            CloseReason::Draining => "draining",
        }
    }
}
