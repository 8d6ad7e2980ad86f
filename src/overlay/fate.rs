//! What becomes of messages, by the names under which they are counted.

/// The fate of one message, or of one of its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
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
}

impl Fate {
    /// All of them.
    pub(super) const ALL: [Fate; 13] = [
        Fate::Delivered,
        Fate::Handled,
        Fate::Relayed,
        Fate::Replayed,
        Fate::OwnMessage,
        Fate::HopLimit,
        Fate::DeadEnd,
        Fate::TooLong,
        Fate::QueueFull,
        Fate::Closing,
        Fate::Unknown,
        Fate::Malformed,
        Fate::Unsolicited,
    ];

    /// The name in metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Fate::Delivered => "delivered",
            Fate::Handled => "handled",
            Fate::Relayed => "relayed",
            Fate::Replayed => "replayed",
            Fate::OwnMessage => "own_message",
            Fate::HopLimit => "hop_limit",
            Fate::DeadEnd => "dead_end",
            Fate::TooLong => "too_long",
            Fate::QueueFull => "queue_full",
            Fate::Closing => "closing",
            Fate::Unknown => "unknown",
            Fate::Malformed => "malformed",
            Fate::Unsolicited => "unsolicited",
        }
    }
}
