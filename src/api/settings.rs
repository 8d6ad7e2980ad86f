//! What an operator decides about the API.

use super::{Token, Tokens};
use crate::node::NodeId;

/// Who may use the API, and in whose name it sends messages.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// The tokens. Without any, there is no API.
    pub tokens: Tokens,
    /// The token by which the commands of this program use the API.
    pub token: Option<Token>,
    /// How many requests with a wrong token an address may make in a minute.
    pub max_failures: usize,
    /// How many bans there may be.
    pub max_bans: usize,
    /// The most streams of events at a time.
    pub max_streams: usize,
    /// The sender of messages.
    pub(crate) sender: Option<NodeId>,
}

/// Reads the ID of the sender; `None` if no node could have it.
pub(crate) fn parse_id(text: &str) -> Option<NodeId> {
    NodeId::parse(text).ok()
}
