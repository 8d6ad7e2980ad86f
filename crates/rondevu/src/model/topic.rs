//! Topics, and pages of them.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// The longest topic in UTF-16 units, as JavaScript counts.
const MAX_TOPIC_UNITS: usize = 256;

/// What peers meet by: any text of 1 to 256 UTF-16 units. Topics are ordered by their bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// Why a text is no topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// It is empty.
    #[error("the topic is empty")]
    Empty,
    /// It is longer than 256 UTF-16 units.
    #[error("the topic is longer than {MAX_TOPIC_UNITS} UTF-16 units")]
    TooLong,
}

impl Topic {
    /// Parses a topic.
    ///
    /// # Errors
    /// [`InvalidTopic`] if it is empty or too long.
    pub fn parse(text: &str) -> Result<Self, InvalidTopic> {
        if text.is_empty() {
            return Err(InvalidTopic::Empty);
        }
        if text.encode_utf16().count() > MAX_TOPIC_UNITS {
            return Err(InvalidTopic::TooLong);
        }
        Ok(Self(text.into()))
    }

    /// Returns a topic that was stored, and so parsed before.
    #[cfg(any(feature = "sqlite", feature = "redis", test))]
    pub(crate) fn stored(text: String) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A topic and how many sessions are listed under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TopicCount {
    /// The topic.
    #[schema(value_type = String)]
    pub topic: Topic,
    /// The number of its listed sessions, at least one.
    #[schema(minimum = 1)]
    pub count: u64,
}

/// A page of an origin's topics, ordered by their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// The topics of this page.
    pub topics: Vec<TopicCount>,
    /// The number of topics on all pages.
    pub total: u64,
}

/// Which topics are requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The page's number, from 1 on.
    pub number: u64,
    /// The most topics on a page.
    pub limit: u64,
}

impl Page {
    /// Returns the number of topics on the pages before this one.
    pub fn offset(self) -> u64 {
        (self.number.saturating_sub(1)).saturating_mul(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_measured_as_javascript_does() {
        assert_eq!(Topic::parse(""), Err(InvalidTopic::Empty));
        assert!(Topic::parse(&"ä".repeat(256)).is_ok());
        assert!(Topic::parse(&"🙂".repeat(128)).is_ok());
        assert_eq!(Topic::parse(&"🙂".repeat(129)), Err(InvalidTopic::TooLong));
    }
}
