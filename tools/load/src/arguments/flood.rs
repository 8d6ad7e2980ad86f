//! The arguments of a flood.

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Target, Times};

/// Flood.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Flood {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub target: Target,
    /// How many nodes
    #[arg(long, visible_alias = "pairs", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    pub nodes: u64,
    /// What they send
    #[arg(long, value_enum, default_value = "messages")]
    pub what: Filling,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub times: Times,
}

/// What a flood is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Filling {
    /// Short messages, each to the next of the nodes
    Messages,
    /// The same, by nodes that read nothing
    Unread,
    /// Messages of 900 KB
    Long,
    /// Questions about 1,000 IDs
    Presence,
    /// Pings of WebSocket
    Pings,
}
