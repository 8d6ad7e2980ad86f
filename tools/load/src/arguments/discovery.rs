//! The arguments of discovery.

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::values::{path, rate};
use super::{MAX_PAIRS, Target, Times};

/// Discovery.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Discovery {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub target: Target,
    /// What to ask for, again and again
    #[arg(long, value_enum, default_value = "offers")]
    pub what: What,
    /// Clients, each on a connection of its own that it keeps; one request after the other
    #[arg(long, visible_alias = "pairs", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=MAX_PAIRS))]
    pub connections: u64,
    /// Open loop: how many requests each client sends per second; without it each sends the next
    /// when it has the answer
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
    /// Bytes of each offer and each answer
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u64).range(1..=250_000))]
    pub size: u64,
    /// Sessions that are listed: lists are of one topic, topics have one each
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub sessions: u64,
    /// Candidates that each session gets before the client makes the next
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub candidates: u64,
    /// Polls are of sessions that have an answer and a candidate
    #[arg(long)]
    pub answered: bool,
    /// The path that discovery's endpoints are below
    #[arg(long, default_value = "/", value_parser = path)]
    pub path: String,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub times: Times,
}

/// What clients ask discovery for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Make a session; each client in a topic of its own
    Offers,
    /// Answer a session, which replaces its answer
    Answers,
    /// Add candidates to sessions
    Candidates,
    /// Look what has been left for a session's offerer
    Polls,
    /// List the sessions of a topic
    Lists,
    /// List topics, the first 100
    Topics,
}
