//! Which of the connected nodes may not stay? Asked from time to time.
//!
//! Policy: open. Without an answer everybody stays, until the next round.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::Value;

use super::{CallError, Hook};
use crate::node::NodeId;

pub(crate) struct Validity {
    hook: Hook,
    batch_size: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    connected_nodes_ids: Vec<&'a str>,
}

impl Validity {
    /// Asks `hook` about at most `batch_size` nodes at once.
    pub(super) fn new(hook: Hook, batch_size: usize) -> Self {
        Self { hook, batch_size }
    }

    pub(crate) fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The IDs of those who may not stay: `{"invalidNodesIds":[...]}`.
    ///
    /// # Errors
    /// [`CallError`] if there is no such list of texts; then nobody is known not to be valid.
    pub(crate) async fn ask<'a>(
        &self,
        nodes: impl Iterator<Item = &'a NodeId>,
    ) -> Result<HashSet<String>, CallError> {
        let request = Request { connected_nodes_ids: nodes.map(NodeId::as_str).collect() };
        let malformed = CallError::Malformed("a list of IDs under invalidNodesIds");
        self.hook
            .call(&request, |mut answer| invalid(answer.remove("invalidNodesIds")).ok_or(malformed))
            .await
    }
}

fn invalid(ids: Option<Value>) -> Option<HashSet<String>> {
    let Some(Value::Array(ids)) = ids else { return None };
    let text = |id| if let Value::String(id) = id { Some(id) } else { None };
    ids.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_of_texts_or_nothing() {
        assert_eq!(invalid(Some(json!([]))), Some(HashSet::new()));
        assert_eq!(invalid(Some(json!(["a", "b", "a"]))), Some(["a".into(), "b".into()].into()));
        for ids in [
            None,
            Some(json!(null)),
            Some(json!("a")),
            Some(json!({"a": 1})),
            Some(json!(["a", 1])),
        ] {
            assert_eq!(invalid(ids), None);
        }
    }
}
