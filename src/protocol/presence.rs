//! Presence queries and their replies.

use serde::{Deserialize, Serialize};

use crate::node::trim;

/// A question about some IDs: `{"ids":["bob","carol"]}`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// The IDs in the order of the question, trimmed, none of them empty, duplicates kept.
    pub(crate) ids: Vec<String>,
}

/// Not such a question: not JSON, no `ids`, an ID that is blank or not a string, too many IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object with a list `ids` of strings")]
pub(crate) struct InvalidQuestion;

#[derive(Deserialize)]
struct Ids {
    ids: Vec<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    results: Vec<Presence<'a>>,
}

#[derive(Serialize)]
struct Presence<'a> {
    id: &'a str,
    connected: bool,
}

impl Question {
    /// Reads a question about at most `max_ids` IDs from an event's content.
    pub(crate) fn parse(content: &[u8], max_ids: usize) -> Result<Self, InvalidQuestion> {
        // A derived struct would also be read from an array.
        if content.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(InvalidQuestion);
        }
        let Ids { ids } = serde_json::from_slice(content).map_err(|_| InvalidQuestion)?;
        if ids.len() > max_ids {
            return Err(InvalidQuestion);
        }
        let ids: Vec<_> = ids.into_iter().map(trimmed).collect();
        if ids.iter().any(String::is_empty) { Err(InvalidQuestion) } else { Ok(Self { ids }) }
    }

    /// About what the question and its answer take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.ids.iter().map(|id| size_of::<String>() + 2 * id.len()).sum()
    }

    /// The reply as JSON text; `connected` has the state of each ID, in the order of the query.
    pub(crate) fn answer(&self, connected: impl Fn(&str) -> bool) -> String {
        let results = self.ids.iter().map(|id| Presence { id, connected: connected(id) }).collect();
        // Strings and booleans only: writing them as JSON cannot fail.
        serde_json::to_string(&Answer { results }).unwrap_or_default()
    }
}

fn trimmed(id: String) -> String {
    let text = trim(&id);
    if text.len() == id.len() { id } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_order_and_duplicates_and_are_trimmed() {
        let question =
            Question::parse(r#"{"ids":["bob"," carol\ufeff","bob"],"x":1}"#.as_bytes(), 3).unwrap();
        assert_eq!(
            question.answer(|id| id == "carol"),
            r#"{"results":[{"id":"bob","connected":false},{"id":"carol","connected":true},{"id":"bob","connected":false}]}"#
        );
        assert_eq!(
            Question::parse(br#"{"ids":[]}"#, 3).unwrap().answer(|_| true),
            r#"{"results":[]}"#
        );
    }

    #[test]
    fn invalid_questions() {
        for content in [
            "",
            "{}",
            "[]",
            r#"[["bob"]]"#,
            r#"{"ids":"bob"}"#,
            r#"{"ids":null}"#,
            r#"{"ids":[1]}"#,
            r#"{"ids":["a",""]}"#,
            r#"{"ids":[" "]}"#,
            r#"{"ids":["a","b","c","d"]}"#,
            r#"{"ids":[]} x"#,
            r#"{"ids":["\ud800"]}"#,
        ] {
            assert_eq!(Question::parse(content.as_bytes(), 3), Err(InvalidQuestion), "{content}");
        }
    }
}
