//! Which of the connected nodes may not stay? Called periodically.
//!
//! Policy: fail open. If the call fails, all nodes stay until the next round.

use std::collections::HashSet;

use serde::Serialize;

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
    /// [`CallError`] if there is no such list of strings; then all nodes stay.
    pub(crate) async fn ask<'a>(
        &self,
        nodes: impl Iterator<Item = &'a NodeId>,
    ) -> Result<HashSet<String>, CallError> {
        let request = Request { connected_nodes_ids: nodes.map(NodeId::as_str).collect() };
        self.hook.call((), &request, |reply| invalid(reply.field("invalidNodesIds")?)).await
    }
}

fn invalid(ids: Option<&str>) -> Result<HashSet<String>, CallError> {
    let ids = ids.and_then(|ids| serde_json::from_str(ids).ok());
    ids.ok_or(CallError::Malformed("a list of IDs under invalidNodesIds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_texts_or_nothing() {
        assert_eq!(invalid(Some("[]")), Ok(HashSet::new()));
        assert_eq!(invalid(Some(r#"["a","b","a"]"#)), Ok(["a".into(), "b".into()].into()));
        for ids in [None, Some("null"), Some(r#""a""#), Some(r#"{"a":1}"#), Some(r#"["a",1]"#)] {
            assert!(invalid(ids).is_err(), "{ids:?}");
        }
    }
}
