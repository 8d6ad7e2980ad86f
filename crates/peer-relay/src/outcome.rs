//! What becomes of messages, by the names under which they are counted.

/// The outcome of one message, or of one of its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was given to the application.
    Delivered,
    /// It was for the network itself, and was dealt with.
    Handled,
    /// A copy was queued on a channel.
    Relayed,
    /// It was seen before.
    Replayed,
    /// It says that it is from this peer, which did not just send it.
    OwnMessage,
    /// It is for this peer and names a neighbour as its sender, but came by another's channel.
    ForeignChannel,
    /// It has come by too many peers.
    HopLimit,
    /// There is no neighbour that it has not come by.
    DeadEnd,
    /// Its content is too long to be passed on.
    TooLong,
    /// A queue had no room for it.
    QueueFull,
    /// The channel for it was closing.
    Closing,
    /// It was for the network itself, and of no known type.
    Unknown,
    /// It was for the network itself, and its content does not fit its type.
    Malformed,
    /// It answers what was not asked, or asks what is not answered now.
    Unsolicited,
    /// It would be sent because of a neighbour's messages, which have caused too many already.
    ReplyLimit,
    /// It would make this peer open a channel, and its neighbour's messages have done that too often.
    DialLimit,
}

impl Outcome {
    /// All of them.
    pub(crate) const ALL: [Outcome; 16] = [
        Outcome::Delivered,
        Outcome::Handled,
        Outcome::Relayed,
        Outcome::Replayed,
        Outcome::OwnMessage,
        Outcome::ForeignChannel,
        Outcome::HopLimit,
        Outcome::DeadEnd,
        Outcome::TooLong,
        Outcome::QueueFull,
        Outcome::Closing,
        Outcome::Unknown,
        Outcome::Malformed,
        Outcome::Unsolicited,
        Outcome::ReplyLimit,
        Outcome::DialLimit,
    ];

    /// The name in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::Handled => "handled",
            Outcome::Relayed => "relayed",
            Outcome::Replayed => "replayed",
            Outcome::OwnMessage => "own_message",
            Outcome::ForeignChannel => "foreign_channel",
            Outcome::HopLimit => "hop_limit",
            Outcome::DeadEnd => "dead_end",
            Outcome::TooLong => "too_long",
            Outcome::QueueFull => "queue_full",
            Outcome::Closing => "closing",
            Outcome::Unknown => "unknown",
            Outcome::Malformed => "malformed",
            Outcome::Unsolicited => "unsolicited",
            Outcome::ReplyLimit => "reply_limit",
            Outcome::DialLimit => "dial_limit",
        }
    }
}
