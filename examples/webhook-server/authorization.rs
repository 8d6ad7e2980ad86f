//! May this node send to that one? The broker asks for each direction on its own.
//!
//! The receiver need not be connected, or exist. The sender is told `UNAUTHORIZED` after a no, and
//! `ERROR` where there is no answer.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::settings::parts;

/// Stands for any node in a pair.
const ANYBODY: &str = "*";

/// What the broker asks.
#[derive(Deserialize)]
pub(crate) struct Question {
    from: String,
    to: String,
}

/// What it is answered.
#[derive(Serialize)]
pub(crate) struct Answer {
    authorized: bool,
}

/// `POST /authorization`
pub(crate) async fn answer(
    State(pairs): State<Pairs>,
    Json(question): Json<Question>,
) -> Json<Answer> {
    Json(Answer { authorized: pairs.allow(&question.from, &question.to) })
}

/// The pairs of sender and receiver that are allowed; without any, all are.
#[derive(Clone, Default)]
pub(crate) struct Pairs(Arc<[Pair]>);

struct Pair {
    from: String,
    to: String,
}

impl Pairs {
    /// Reads `alice>bob,bob>alice,*>carol`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        parts(text).map(Pair::parse).collect::<Result<_, _>>().map(Self)
    }

    fn allow(&self, from: &str, to: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pair| pair.allows(from, to))
    }
}

impl Pair {
    fn parse(text: &str) -> Result<Self, String> {
        let pair = text.split_once('>').map(|(from, to)| (from.trim(), to.trim()));
        let usable =
            |(from, to): &(&str, &str)| !from.is_empty() && !to.is_empty() && !to.contains('>');
        match pair.filter(usable) {
            Some((from, to)) => Ok(Self { from: from.to_owned(), to: to.to_owned() }),
            None => Err(format!("{text:?} is not of the form from>to")),
        }
    }

    fn allows(&self, from: &str, to: &str) -> bool {
        let matches = |pattern: &str, id| pattern == ANYBODY || pattern == id;
        matches(&self.from, from) && matches(&self.to, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_a_direction() {
        let pairs = Pairs::parse("alice>bob , carol > bob").unwrap();
        assert!(pairs.allow("alice", "bob") && pairs.allow("carol", "bob"));
        assert!(!pairs.allow("bob", "alice") && !pairs.allow("alice", "carol"));
    }

    #[test]
    fn a_star_is_anybody() {
        let pairs = Pairs::parse("*>carol,root>*").unwrap();
        assert!(pairs.allow("alice", "carol") && pairs.allow("root", "alice"));
        assert!(!pairs.allow("carol", "alice"));
    }

    #[test]
    fn without_pairs_everybody_may() {
        assert!(Pairs::default().allow("alice", "bob"));
    }

    #[test]
    fn what_is_no_list_of_pairs() {
        for text in ["alice", "alice>", ">bob", ">", "a>b>c", "a>b,c"] {
            assert!(Pairs::parse(text).is_err(), "{text}");
        }
    }
}
