//! Hands a message to the connection that owns its receiver's ID.
//!
//! - `connection`: one connection; `clients`: the programs that nodes run.
//! - `local`: the connections of this replica.
//! - `remote`: those of other replicas.

mod clients;
mod connection;
mod local;
mod remote;

pub(crate) use clients::Clients;
pub(crate) use connection::{Connection, Traffic};
pub(crate) use local::LocalConnections;
pub(crate) use remote::is_batch;
pub(crate) use remote::{
    Call, HolderStatus, Newcomer, OnReply, Remote, RemoteMessage, ReplyTo, TakeoverProbe, Ticket,
};

use crate::protocol::Ack;

/// The outcome of a message, for every kind of sender and receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The receiver's connection has it.
    Delivered,
    /// No connection has the receiver's ID.
    NotConnected,
    /// The receiver's connection is not, or no longer, where it was thought to be.
    NotHere,
    /// The receiver's connection is on its way in or out. The message must not be sent elsewhere:
    /// the next one may have been handed over here by then.
    InTransition,
    /// The receiver's connection reads too slowly: it has too much queued already.
    QueueFull,
    /// It is longer than the overlay takes.
    TooLong,
    /// The receiver's replica does not listen: it is gone, or reconnecting.
    Unreachable,
    /// It may have been delivered or not, or it could not be sent to the receiver's replica.
    Unknown,
    /// The directory cannot be asked where the receiver is.
    NotLocated,
    /// The operator switched this kind of event off.
    Disabled,
    /// It is not a message, or its `from` is not its sender.
    Invalid,
    /// The process has too little memory left.
    NoMemory,
    /// The authorization webhook said no.
    Unauthorized,
    /// The authorization webhook gave no answer.
    AuthorizationFailed,
    /// An overlay peer sent it under the ID of a node.
    NameOfANode,
}

impl Outcome {
    /// What a node that sent the message is answered.
    pub(crate) fn ack(self) -> Ack {
        match self {
            Self::Delivered => Ack::Ok,
            Self::NotConnected | Self::NotHere | Self::InTransition => Ack::NotConnected,
            Self::Disabled => Ack::Disabled,
            Self::Unauthorized => Ack::Unauthorized,
            _ => Ack::Error,
        }
    }

    /// Whether the receiver may be somewhere else: nothing was delivered where it was thought to
    /// be.
    pub(crate) fn may_be_elsewhere(self) -> bool {
        matches!(self, Self::NotHere | Self::Unreachable)
    }

    /// Whether the message passed all checks, even if its receiver was not connected.
    pub(crate) fn was_tried(self) -> bool {
        !matches!(
            self,
            Self::NotLocated
                | Self::Disabled
                | Self::Invalid
                | Self::NoMemory
                | Self::Unauthorized
                | Self::AuthorizationFailed
                | Self::NameOfANode
        )
    }
}
