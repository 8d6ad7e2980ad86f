//! Hands a message to the connection that owns its receiver's ID.
//!
//! - `local`: the connections of this replica.
//! - `remote`: the way to those of other replicas.

mod local;
mod remote;

pub use local::{LocalConnections, Receiver};
pub use remote::{Contest, Remote, RemoteMessage, ReplyTo, Verdict};

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// The receiver's connection has it.
    Yes,
    /// No connection has the receiver's ID there.
    NotConnected,
    /// The receiver's connection is on its way in or out. The message must not be sent elsewhere:
    /// the next one may have been handed over here by then.
    Passing,
    /// The receiver's connection reads too slowly: it has too much queued already.
    QueueFull,
    /// It is longer than the way to its receiver takes.
    TooLong,
    /// The receiver's replica does not listen: it is gone, or about to be back.
    Unreachable,
    /// Nobody knows, or it could not be sent to the receiver's replica.
    Unknown,
}

impl Delivered {
    /// Whether the receiver may be somewhere else: nothing was delivered where it was thought to
    /// be.
    pub fn may_be_elsewhere(self) -> bool {
        matches!(self, Self::NotConnected | Self::Unreachable)
    }
}
