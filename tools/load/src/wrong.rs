//! What must not happen, by name. A run in which any of it happened has failed.

use std::fmt;

use serde::{Serialize, Serializer};

/// One kind of wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// An ack that is not the right one.
    BadAck,
    /// An ack for nothing that waits for one: a second one, or for a message never sent.
    UnknownAck,
    /// An answer of discovery with another status or content than the right one.
    BadAnswer,
    /// A message without an ack, or a request without an answer, though time enough.
    Unanswered,
    /// A message that was acked well, or not at all, and never arrived.
    Lost,
    /// A message that arrived after one of the same sender that was sent later.
    OutOfOrder,
    /// A message that arrived again.
    Duplicate,
    /// A message that is not byte for byte what was sent.
    Altered,
    /// A message that came to another node than that it was sent to.
    Misdelivered,
    /// An event that no sender of this run has sent.
    Unexpected,
    /// A connection that ended before its node left.
    Disconnected,
    /// A connection that did not come about for another reason than a 503.
    NotConnected,
    /// A node that was refused for good.
    Refused,
    /// A node that was not in: rejected where it would not retry, or not admitted in time.
    NotIn,
    /// A process that was to be watched and has ended.
    ProcessEnded,
}

impl Wrong {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::BadAck,
        Self::UnknownAck,
        Self::BadAnswer,
        Self::Unanswered,
        Self::Lost,
        Self::OutOfOrder,
        Self::Duplicate,
        Self::Altered,
        Self::Misdelivered,
        Self::Unexpected,
        Self::Disconnected,
        Self::NotConnected,
        Self::Refused,
        Self::NotIn,
        Self::ProcessEnded,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadAck => "bad_acks",
            Self::UnknownAck => "unknown_acks",
            Self::BadAnswer => "bad_answers",
            Self::Unanswered => "unanswered",
            Self::Lost => "lost",
            Self::OutOfOrder => "out_of_order",
            Self::Duplicate => "duplicates",
            Self::Altered => "altered",
            Self::Misdelivered => "misdelivered",
            Self::Unexpected => "unexpected",
            Self::Disconnected => "disconnected",
            Self::NotConnected => "not_connected",
            Self::Refused => "refused",
            Self::NotIn => "not_in",
            Self::ProcessEnded => "process_ended",
        }
    }
}

/// How often each has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wrongs([u64; Wrong::ALL.len()]);

impl Wrongs {
    /// Counts `times` more.
    pub fn add(&mut self, wrong: Wrong, times: u64) {
        if let Some(count) = self.0.get_mut(wrong as usize) {
            *count += times;
        }
    }

    /// All kinds with their counts.
    pub fn counts(&self) -> impl Iterator<Item = (Wrong, u64)> {
        Wrong::ALL.into_iter().zip(self.0)
    }

    /// Whether nothing has happened.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }
}

impl Serialize for Wrongs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.counts().map(|(wrong, count)| (wrong.name(), count)))
    }
}

/// Those that have happened, for people.
impl fmt::Display for Wrongs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (wrong, count) in self.counts().filter(|(_, count)| *count > 0) {
            write!(f, "{separator}{} {count}", wrong.name())?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_under_its_own_name() {
        for (place, wrong) in Wrong::ALL.into_iter().enumerate() {
            assert_eq!(wrong as usize, place);
            let mut wrongs = Wrongs::default();
            assert!(wrongs.is_empty());
            wrongs.add(wrong, 2);
            assert!(!wrongs.is_empty());
            assert_eq!(wrongs.to_string(), format!("{} 2", wrong.name()));
            let json = serde_json::to_value(&wrongs).unwrap();
            assert_eq!(json.as_object().unwrap().len(), Wrong::ALL.len());
            assert_eq!(json[wrong.name()], 2);
        }
    }
}
