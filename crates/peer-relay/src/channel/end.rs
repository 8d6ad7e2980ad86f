//! Why channels end.

use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};

use crate::message::Malformed;

/// Why a channel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The connection ended, or the other side closed the channel.
    Link,
    /// The other side sent no ID, or none in time.
    NoId,
    /// The other side has this peer's own ID.
    OwnId,
    /// The other side is not the peer that was dialed.
    WrongId,
    /// There is a channel to that peer already.
    Duplicate,
    /// A frame was none that a peer may send.
    Malformed,
    /// A frame was too long.
    TooLong,
    /// The other side was unresponsive.
    Unresponsive,
    /// This peer ends.
    Stopped,
}

impl End {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            End::Link => "link",
            End::NoId => "no_id",
            End::OwnId => "own_id",
            End::WrongId => "wrong_id",
            End::Duplicate => "duplicate",
            End::Malformed => "malformed",
            End::TooLong => "too_long",
            End::Unresponsive => "unresponsive",
            End::Stopped => "stopped",
        }
    }
}

impl From<Malformed> for End {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        match error {
            Error::Capacity(_) => Self::TooLong,
            Error::Protocol(
                ProtocolError::ResetWithoutClosingHandshake
                | ProtocolError::SendAfterClosing
                | ProtocolError::ReceivedAfterClosing,
            ) => Self::Link,
            Error::Protocol(_) | Error::Utf8(_) => Self::Malformed,
            _ => Self::Link,
        }
    }
}
