//! The command line.

mod discovery;
mod flood;
mod values;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

pub use discovery::{Discovery, What};
pub use flood::{Filling, Flood};
pub use values::Seconds;
use values::{address, path, prefix, rate};

/// The most senders, so that their places fit into a stamp.
const MAX_PAIRS: u64 = 999_999;

/// The shortest content that has room for what tells it from others.
const STAMP_BYTES: u64 = crate::message::STAMP_BYTES as u64;

/// The longest that a stranger is there: on its way in, until its ack, and on its way out.
const STRANGERS_STAY: Duration = Duration::from_secs(40);

/// Load generator for brokers that speak as crolang-broker does, for discovery as Rondevu has it,
/// and for peers of the peer-relay network.
///
/// Exit code: 0 if all went as it should; 1 if anything was wrong, which is named on standard
/// error; 2 if there was nothing to measure.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// What to measure.
    #[command(subcommand)]
    pub mode: Mode,
}

/// What to measure.
#[derive(Debug, Clone, Subcommand, Serialize)]
#[serde(untagged)]
pub enum Mode {
    /// Pairs of nodes, one of which sends to the other
    Relay(Messages),
    /// All senders send to one receiver
    FanIn(Messages),
    /// Nodes ask which nodes are connected
    Presence(Questions),
    /// Nodes connect and leave, as fast as they can
    Churn(Churn),
    /// Nodes connect and do nothing: what a connection costs
    Idle(Idle),
    /// Nodes connect all at once and retry after a 503: a fleet that comes back
    Storm(Storm),
    /// Nodes send as fast as the broker reads; others are measured beside them
    Flood(Flood),
    /// Clients ask discovery, the HTTP interface of Rondevu
    Discovery(Discovery),
    /// Pairs of peers of the peer-relay network, one of which sends to the other through the peer
    /// that listens
    #[command(mut_arg("pairs", |pairs| pairs.default_value("1")))]
    Overlay(Peers),
}

/// Whom to measure, and how to tell of it.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Target {
    /// The servers, host:port, separated by commas: the nth sender or client uses the nth, and so
    /// on in turn; the nth receiver uses the one after, in overlay the same
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:8080", value_parser = address)]
    pub addr: Vec<String>,
    /// The IDs of the processes whose CPU time and memory are told, separated by commas: the
    /// servers, and Redis
    #[arg(long, value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// What all IDs of nodes and all topics begin with, and IDs of peers are made from; by default
    /// it is different in each run
    #[arg(long, value_parser = prefix)]
    pub prefix: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    #[serde(skip)]
    pub json: bool,
}

/// How long.
#[derive(Debug, Clone, Copy, Args, Serialize)]
pub struct Times {
    /// How long to measure
    #[arg(long, default_value = "5")]
    pub seconds: Seconds,
    /// How long to run before that
    #[arg(long, default_value = "1")]
    pub warmup: Seconds,
}

/// How many, how fast and for how long.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Pace {
    /// Senders; in relay each has a receiver of its own
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=MAX_PAIRS))]
    pub pairs: u64,
    /// Closed loop: how many messages each sender may have on their way
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1_000_000), conflicts_with = "rate")]
    pub window: u64,
    /// Open loop: how many messages each sender sends per second, whatever the broker does;
    /// latencies count from when each should have left
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub times: Times,
}

/// Relay and fan-in.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Messages {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub target: Target,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub pace: Pace,
    /// Bytes of each message's content; about 150 bytes of addresses come on top
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(0..=9_000_000))]
    pub size: u64,
    /// The event to send
    #[arg(long, default_value = "SOCKET_MSG_EXCHANGE")]
    pub event: String,
    /// Ask for no acks
    #[arg(long)]
    pub no_ack: bool,
    /// How many strangers come in a second besides, each of whom sends one message to nobody and
    /// leaves; nothing that becomes of them is wrong
    #[arg(long, value_parser = rate)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strangers: Option<f64>,
}

/// Presence.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Questions {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub target: Target,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub pace: Pace,
    /// IDs in each question; every other one is of no node
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub ids: u64,
}

/// Churn.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Churn {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub target: Target,
    /// How many nodes come and leave side by side
    #[arg(long, visible_alias = "pairs", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub nodes: u64,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub times: Times,
}

/// Idle.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Idle {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub target: Target,
    /// How many nodes
    #[arg(long, visible_alias = "pairs", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub nodes: u64,
    /// How long they stay once all are in, and how long to wait when they have left
    #[arg(long, default_value = "3")]
    pub seconds: Seconds,
}

/// Storm.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Storm {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub target: Target,
    /// How many nodes
    #[arg(long, visible_alias = "pairs", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub nodes: u64,
    /// How long a node waits after a 503 or a broken connection, in seconds; by default as long as
    /// the official client
    #[arg(long, default_value = "2")]
    pub retry: Seconds,
    /// The longest time to wait for all to be in
    #[arg(long, default_value = "60")]
    pub seconds: Seconds,
}

/// Overlay.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Peers {
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub target: Target,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub pace: Pace,
    /// Bytes of each message's content; some 250 bytes of addresses come on top
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(STAMP_BYTES..=62_000))]
    pub size: u64,
    /// The path that the peer listens on
    #[arg(long, default_value = "/", value_parser = path)]
    pub path: String,
}

impl Mode {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Relay(_) => "relay",
            Self::FanIn(_) => "fan-in",
            Self::Presence(_) => "presence",
            Self::Churn(_) => "churn",
            Self::Idle(_) => "idle",
            Self::Storm(_) => "storm",
            Self::Flood(_) => "flood",
            Self::Discovery(_) => "discovery",
            Self::Overlay(_) => "overlay",
        }
    }

    /// Whom to measure.
    pub fn target(&self) -> &Target {
        match self {
            Self::Relay(messages) | Self::FanIn(messages) => &messages.target,
            Self::Presence(questions) => &questions.target,
            Self::Churn(churn) => &churn.target,
            Self::Idle(idle) => &idle.target,
            Self::Storm(storm) => &storm.target,
            Self::Flood(flood) => &flood.target,
            Self::Discovery(discovery) => &discovery.target,
            Self::Overlay(peers) => &peers.target,
        }
    }

    /// How many connections there are at the most at a time.
    pub fn connections(&self) -> u64 {
        match self {
            Self::Relay(messages) => messages.pace.pairs * 2 + messages.most_strangers(),
            Self::FanIn(messages) => messages.pace.pairs + 1 + messages.most_strangers(),
            Self::Presence(questions) => questions.pace.pairs,
            Self::Churn(Churn { nodes, .. })
            | Self::Idle(Idle { nodes, .. })
            | Self::Storm(Storm { nodes, .. })
            | Self::Flood(Flood { nodes, .. }) => *nodes,
            Self::Discovery(discovery) => discovery.connections,
            Self::Overlay(peers) => peers.pace.pairs * 2,
        }
    }
}

impl Messages {
    /// How many strangers there are at the most at a time.
    fn most_strangers(&self) -> u64 {
        (self.strangers.unwrap_or_default() * STRANGERS_STAY.as_secs_f64()).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Mode, clap::Error> {
        let words = ["load"].into_iter().chain(line.split(' '));
        Arguments::try_parse_from(words).map(|arguments| arguments.mode)
    }

    #[test]
    fn every_mode_has_its_arguments() {
        let replicas = "relay --addr a:1,http://b:2/ --pid 7,8 --window 16 --json";
        let Mode::Relay(relay) = parse(replicas).unwrap() else { panic!("another mode") };
        assert_eq!(relay.target.addr, ["a:1", "b:2"]);
        assert_eq!(relay.target.pid, [7, 8]);
        assert_eq!((relay.pace.window, relay.pace.rate, relay.target.json), (16, None, true));
        assert_eq!(parse("relay --pairs 10").unwrap().connections(), 20);
        assert_eq!(parse("relay --pairs 10 --strangers 2.5").unwrap().connections(), 120);
        assert_eq!(parse("fan-in --pairs 10 --rate 2.5").unwrap().connections(), 11);
        assert_eq!(parse("presence --pairs 10 --ids 5").unwrap().connections(), 10);
        assert_eq!(parse("overlay").unwrap().connections(), 2);
        assert_eq!(parse("overlay --pairs 3 --window 8").unwrap().connections(), 6);
        assert_eq!(parse("discovery --connections 7").unwrap().connections(), 7);
        for what in ["offers", "answers", "candidates", "polls", "lists", "topics"] {
            let Mode::Discovery(discovery) = parse(&format!("discovery --what {what}")).unwrap()
            else {
                panic!("another mode")
            };
            assert_eq!(serde_json::to_value(discovery.what).unwrap(), what);
        }
        for mode in ["churn", "idle", "storm", "flood"] {
            assert_eq!(parse(&format!("{mode} --pairs 10")).unwrap().connections(), 10);
            assert_eq!(parse(&format!("{mode} --nodes 10")).unwrap().connections(), 10);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for line in [
            "relay --window 0",
            "relay --window 4 --rate 5",
            "relay --rate 0",
            "relay --strangers 0",
            "relay --pairs 1000000",
            "relay --seconds -1",
            "relay --seconds NaN",
            "relay --addr localhost",
            "relay --addr https://localhost:443",
            "relay --prefix a&b",
            "idle --nodes 0",
            "churn --window 3",
            "discovery --what nothing",
            "discovery --window 4",
            "discovery --size 0",
            "discovery --path offers",
            "overlay --size 17",
            "overlay --path /a?b",
            "waltz",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_settings_are_told_flat() {
        let told = serde_json::to_value(parse("presence --ids 7").unwrap()).unwrap();
        assert_eq!(told["ids"], 7);
        assert_eq!(told["pairs"], 100);
        assert_eq!(told["seconds"], 5.0);
    }
}
