//! The files generated from the lists of variables and metrics: `.env.example`,
//! `doc/reference/configuration.md` and `doc/reference/metrics.md`. To rewrite them after a change:
//! `WRITE_REFERENCE=1 cargo test --test integration reference`.

use std::fmt::Write;
use std::path::Path;

use crolang_broker::{MetricDescription, VARIABLES, Variable, described_metrics};

/// The longest line of a comment in `.env.example`.
const MAX_COLUMNS: usize = 100;

struct Group {
    /// The variable or metric that begins the group, which ends where the next one begins.
    first: &'static str,
    title: &'static str,
    /// Where to read more, for the page only.
    about: &'static str,
}

const VARIABLE_GROUPS: [Group; 11] = [
    Group {
        first: "PORT",
        title: "Server and log",
        about: "The log is described in [monitoring](../guides/monitoring.md#log).",
    },
    Group {
        first: "P2P_CONNECTION_ENABLED",
        title: "Nodes",
        about: "What a node sees is in the [protocol](protocol.md).",
    },
    Group {
        first: "MAX_CONNECTIONS",
        title: "Limits and timeouts",
        about: "They hold for each replica.",
    },
    Group {
        first: "TRUSTED_PROXIES",
        title: "Proxies and addresses",
        about: "See [proxies and TLS](../guides/tls.md). An IPv6 network of 64 bits counts as one address.",
    },
    Group {
        first: "REDIS_URL",
        title: "Replicas and Redis",
        about: "See [many replicas as one](../guides/replicas.md).",
    },
    Group { first: "JWT_SECRET", title: "Login by JWT", about: "See [login](../guides/login.md)." },
    Group {
        first: "NODES_AUTHENTICATION_WEBHOOK_URL",
        title: "Webhooks",
        about: "See [webhooks](../guides/webhooks.md) and their [requests and responses](webhooks.md).",
    },
    Group { first: "API_TOKEN", title: "Server API", about: "See the [server API](api.md)." },
    Group {
        first: "STUN_URLS",
        title: "STUN and TURN",
        about: "See [STUN and TURN servers](../guides/turn.md).",
    },
    Group {
        first: "STORAGE_TYPE",
        title: "Discovery",
        about: "See [discovery](../guides/discovery.md).",
    },
    Group {
        first: "PEER_RELAY_PATH",
        title: "Peer-relay network",
        about: "See [the peer-relay network](../explanation/overlay.md).",
    },
];

const METRIC_GROUPS: [Group; 9] = [
    Group {
        first: "nodes",
        title: "Nodes and connections",
        about: "Refused nodes do not reconnect; rejected connections (503, 429, or closed) may. Causes that begin with `address_` are limits of one address.",
    },
    Group {
        first: "messages",
        title: "Messages",
        about: "The acks are described in the [protocol](protocol.md).",
    },
    Group {
        first: "webhook_calls",
        title: "Webhooks",
        about: "See [webhooks](../guides/webhooks.md).",
    },
    Group { first: "bans", title: "Server API", about: "See the [server API](api.md)." },
    Group {
        first: "build_info",
        title: "Process",
        about: "See [sizing](../guides/sizing.md) and the [log](../guides/monitoring.md#log).",
    },
    Group {
        first: "lease_events",
        title: "Replicas and Redis",
        about: "The outcomes and events are explained in [replicas](../guides/replicas.md#metrics).",
    },
    Group {
        first: "discovery_requests",
        title: "Discovery",
        about: "See [discovery](../guides/discovery.md).",
    },
    Group {
        first: "peer_relay_messages",
        title: "Peer-relay network",
        about: "See [the peer-relay network](../explanation/overlay.md).",
    },
    Group {
        first: "process_cpu_seconds",
        title: "Process, as every program shows it",
        about: "Only on Linux.",
    },
];

const ENV_HEADER: &str = "\
# Every variable of the broker with its default. Copy to .env and change what you need.
# Environment variables override this file, even when empty.
# Quote values that contain a # after a blank. Docker and Compose parse such files differently:
# see doc/guides/env-files.md.
# A variable that ends in _FILE names a file that holds the secret of the variable above it.
# Generated from src/config/variables; see tests/integration/reference.rs.
";

const PAGE_HEADER: &str = "\
# Configuration

<!-- Generated from src/config/variables by tests/integration/reference.rs. -->

Set variables in the environment or in a file `.env` in the working directory; [.env.example](../../.env.example) lists them all.
Environment variables override `.env`, even when empty. A blank value counts as not set, and values are taken literally: `$` is a dollar sign.
Docker and Compose parse such files differently: [`.env` files](../guides/env-files.md).

Variables that may hold a secret can be set by a file instead: `REDIS_URL_FILE=/run/secrets/redis` is the path of a file that contains the value of
`REDIS_URL`. Leading and trailing blanks and line breaks are ignored. Setting both is an error.

Invalid values stop the start with exit code 2 and a message that lists all of them.
`crolang-broker --check-config` only checks the variables, and `crolang-broker --help` prints this list.
";

const METRICS_HEADER: &str = "\
# Metrics

<!-- Generated from src/metrics.rs and those of the crates by tests/integration/reference.rs. -->

`GET /metrics` returns these in the text format of [OpenMetrics 1.0](https://prometheus.io/docs/specs/om/open_metrics_spec/), sorted by name.
Most series with labels appear once they have counted something. Which of them to watch is in [monitoring](../guides/monitoring.md#metrics).
";

/// The units that end the name of a metric.
const UNITS: [&str; 3] = ["bytes", "ratio", "seconds"];

fn begun_by(name: &str, groups: &'static [Group]) -> Option<&'static Group> {
    groups.iter().find(|group| group.first == name)
}

fn env_example() -> String {
    let mut text = ENV_HEADER.to_owned();
    for variable in VARIABLES {
        if let Some(group) = begun_by(variable.name, &VARIABLE_GROUPS) {
            writeln!(text, "\n# ===== {} =====", group.title).unwrap();
        }
        text.push_str("\n#");
        let mut columns = 1;
        let about = format!("{} Allowed: {}.", variable.about, variable.allowed);
        for word in about.split(' ') {
            if columns + 1 + word.len() > MAX_COLUMNS {
                text.push_str("\n#");
                columns = 1;
            }
            write!(text, " {word}").unwrap();
            columns += 1 + word.len();
        }
        writeln!(text, "\n# {}={}", variable.name, variable.default).unwrap();
        if let Some(file) = variable.file() {
            writeln!(text, "# {file}=").unwrap();
        }
    }
    text
}

fn configuration_page() -> String {
    let mut text = PAGE_HEADER.to_owned();
    for variable in VARIABLES {
        let Variable { name, default, allowed, about } = variable;
        if let Some(group) = begun_by(variable.name, &VARIABLE_GROUPS) {
            write!(text, "\n## {}\n\n{}\n\n", group.title, group.about).unwrap();
            text.push_str("| variable | default | allowed | what it does |\n|---|---|---|---|\n");
        }
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let file = variable.file().map_or(String::new(), |file| format!("<br>`{file}`"));
        writeln!(text, "| `{name}`{file} | {default} | {allowed} | {about} |").unwrap();
    }
    text
}

fn metrics_page() -> String {
    let mut text = METRICS_HEADER.to_owned();
    let (prefix, metrics) = described_metrics();
    for MetricDescription { name, kind, labels, help } in metrics {
        if let Some(group) = begun_by(name, &METRIC_GROUPS) {
            write!(text, "\n## {}\n\n{}\n\n", group.title, group.about).unwrap();
            text.push_str("| metric | type | labels | unit | help |\n|---|---|---|---|---|\n");
        }
        let kind = kind.as_str();
        let total = if kind == "counter" { "_total" } else { "" };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = UNITS.into_iter().find(|unit| name.ends_with(&format!("_{unit}")));
        let (labels, unit) = (labels.join(", "), unit.unwrap_or_default());
        let prefix = if name.starts_with("process_") { "" } else { &format!("{prefix}_") };
        writeln!(text, "| `{prefix}{name}{total}` | {kind} | {labels} | {unit} | {help} |")
            .unwrap();
    }
    text
}

fn assert_groups_begin_with(groups: &[Group], names: &[&str]) {
    assert_eq!(names[0], groups[0].first);
    for Group { first, .. } in groups {
        assert!(names.contains(first), "there is no {first}");
    }
}

#[test]
fn every_group_begins_with_a_variable_or_a_metric() {
    assert_groups_begin_with(
        &VARIABLE_GROUPS,
        &VARIABLES.iter().map(|v| v.name).collect::<Vec<_>>(),
    );
    let (_, metrics) = described_metrics();
    assert_groups_begin_with(&METRIC_GROUPS, &metrics.iter().map(|m| m.name).collect::<Vec<_>>());
}

#[test]
fn generated_files_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, text) in [
        (".env.example", env_example()),
        ("doc/reference/configuration.md", configuration_page()),
        ("doc/reference/metrics.md", metrics_page()),
    ] {
        if std::env::var_os("WRITE_REFERENCE").is_some() {
            std::fs::write(root.join(file), &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(root.join(file)).is_ok_and(|written| written == text),
            "{file} is out of date: run WRITE_REFERENCE=1 cargo test --test integration reference"
        );
    }
}
