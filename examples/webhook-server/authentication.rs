//! May this node connect? The broker calls this once for each node, before it checks anything else.
//!
//! A no is final: the node gets `authentication failed` and does not reconnect. So say no only if
//! the credentials are wrong. If you cannot tell, for example because your database is unavailable,
//! respond with status 500 or above: then the node retries.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::bans::Bans;
use crate::settings::parts;

/// What the broker asks. It sends the ID as `nodeId` too.
#[derive(Deserialize)]
pub(crate) struct Newcomer {
    id: String,
    /// What the node put into its query: an object, or else a string; null where there was none.
    #[serde(default)]
    data: Value,
}

/// What it is answered.
#[derive(Serialize)]
pub(crate) struct Answer {
    authenticated: bool,
}

/// `POST /authentication`
pub(crate) async fn answer(
    State((tokens, bans)): State<(Tokens, Bans)>,
    Json(newcomer): Json<Newcomer>,
) -> Json<Answer> {
    let Newcomer { id, data } = newcomer;
    Json(Answer { authenticated: !bans.contains(&id) && tokens.accept(&id, &data) })
}

/// The token of each node that may connect; where there is none at all, everybody may.
#[derive(Clone, Default)]
pub(crate) struct Tokens(Arc<HashMap<String, String>>);

impl Tokens {
    /// Reads `id=token,id=token`. An ID cannot have a `=` here, a token may.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = HashMap::new();
        for (index, part) in parts(text).enumerate() {
            let entry = part.split_once('=').map(|(id, token)| (id.trim(), token.trim()));
            let Some((id, token)) = entry.filter(|(id, token)| !id.is_empty() && !token.is_empty())
            else {
                // The entry is not shown: it may hold a token.
                return Err(format!("entry {} is not of the form id=token", index + 1));
            };
            if tokens.insert(id.to_owned(), token.to_owned()).is_some() {
                return Err(format!("{id} has more than one token"));
            }
        }
        Ok(Self(Arc::new(tokens)))
    }

    fn accept(&self, id: &str, data: &Value) -> bool {
        if self.0.is_empty() {
            return true;
        }
        match (self.0.get(id), token(data)) {
            (Some(expected), Some(given)) => same(expected, &given),
            _ => false,
        }
    }
}

/// The token in `{"token":"..."}`, which may come as an object or as the text of one:
/// `AUTHENTICATION_DATA_FORMAT` decides.
fn token(data: &Value) -> Option<String> {
    #[derive(Deserialize)]
    struct Data {
        token: String,
    }
    let data: Result<Data, _> = match data {
        Value::String(text) => serde_json::from_str(text),
        other => Data::deserialize(other),
    };
    Some(data.ok()?.token)
}

/// Compares hashes, so that the time it takes reveals nothing about the token.
fn same(expected: &str, given: &str) -> bool {
    Sha256::digest(expected) == Sha256::digest(given)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_token_must_be_the_nodes_own() {
        let tokens = Tokens::parse("alice=north, bob=a=b==,").unwrap();
        assert!(tokens.accept("alice", &json!({"token": "north", "more": 1})));
        assert!(tokens.accept("bob", &json!({"token": "a=b=="})));
        assert!(!tokens.accept("bob", &json!({"token": "north"})));
        assert!(!tokens.accept("carol", &json!({"token": "north"})));
    }

    #[test]
    fn data_may_be_the_text_of_an_object() {
        let tokens = Tokens::parse("alice=north").unwrap();
        assert!(tokens.accept("alice", &json!(r#"{"token":"north"}"#)));
    }

    #[test]
    fn data_without_a_token_is_a_no() {
        let tokens = Tokens::parse("alice=north").unwrap();
        for data in
            [json!(null), json!("north"), json!("{"), json!({}), json!({"token": 1}), json!(1)]
        {
            assert!(!tokens.accept("alice", &data), "{data}");
        }
    }

    #[test]
    fn without_tokens_everybody_may() {
        assert!(Tokens::default().accept("alice", &Value::Null));
        assert!(Tokens::parse(" , ").unwrap().accept("alice", &Value::Null));
    }

    #[test]
    fn what_is_no_list_of_tokens() {
        for text in ["alice", "=north", "alice=", "alice=north,bob", "alice=a,alice=b"] {
            assert!(Tokens::parse(text).is_err(), "{text}");
        }
    }
}
