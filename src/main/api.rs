//! `crolang-broker nodes`, `kick`, `ban` and others: a thin client of the server API.

#[path = "api/client.rs"]
mod client;
#[path = "api/table.rs"]
mod table;

use clap::{Arg, ArgAction, ArgMatches, Command};
use crolang_broker::Config;
use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use client::{Client, ClientError};
use table::Table;

/// The most nodes or bans of one page.
const PAGE: &str = "1000";

/// How a command ended that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Completely,
    /// A replica did not reply, or a node did not get its message.
    Partly,
}

/// The commands, each with the arguments that all of them have.
pub(super) fn commands() -> [Command; 9] {
    let reason = || Arg::new("reason").long("reason").value_name("TEXT").help("Why, for the log");
    let json = || {
        let help = "Print the replies of the API, one a line";
        Arg::new("json").long("json").action(ArgAction::SetTrue).help(help)
    };
    let commands = [
        Command::new("nodes")
            .about("List the connected nodes of all replicas, or show one")
            .arg(Arg::new("id").value_name("ID").help("The only node to show"))
            .arg(Arg::new("search").long("search").value_name("TEXT").help("A part of the ID"))
            .arg(Arg::new("replica").long("replica").value_name("ID").help("The only replica")),
        Command::new("kick").about("Disconnect a node").arg(required("id", "ID")).arg(reason()),
        Command::new("ban")
            .about("Ban a node or an address, and disconnect whom that concerns")
            .arg(required("target", "TARGET").help("node:<ID> or address:<IP address or network>"))
            .arg(
                Arg::new("for")
                    .long("for")
                    .value_name("TIME")
                    .required(true)
                    .value_parser(seconds)
                    .help("How long, such as 90s, 15m, 12h or 7d"),
            )
            .arg(reason()),
        Command::new("unban")
            .about("Lift a ban")
            .arg(required("target", "NAME").help("The ban's name, as `bans` shows it"))
            .arg(reason()),
        Command::new("bans").about("List the bans"),
        Command::new("send")
            .about("Send a message to nodes, in the name of API_SENDER_ID")
            .arg(required("to", "ID").num_args(1..).help("The receivers, or * for all nodes"))
            .arg(Arg::new("channel").long("channel").required(true).help("The channel"))
            .arg(Arg::new("content").long("content").required(true).help("What it says")),
        Command::new("status").about("Show all replicas and the state of their parts"),
        Command::new("config").about("Show the configuration of a running broker"),
        Command::new("drain").about("End a running broker in order, as SIGTERM does").arg(reason()),
    ];
    let url = || {
        let help =
            "Where the API is; by default at API_ADDR, or HOST and PORT, of this configuration";
        Arg::new("url").long("url").value_name("URL").value_parser(parse_url).help(help)
    };
    let token_file = || {
        let help = "A file with the token; by default the first of API_TOKEN or API_READ_TOKEN";
        Arg::new("token-file").long("token-file").value_name("FILE").help(help)
    };
    commands.map(|command| {
        let after = "Exits with 0 if all was done, 1 if not, 2 for wrong arguments or variables.";
        command.arg(url()).arg(token_file()).arg(json()).after_help(after)
    })
}

fn required(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).value_name(value).required(true)
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| "not an http or https URL".into())
}

/// Reads a time like `15m`, in seconds.
fn seconds(text: &str) -> Result<u32, String> {
    let unit = |c: char| match c {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(86_400),
        _ => None,
    };
    let last = text.chars().next_back();
    let read = last.and_then(unit).and_then(|unit: u32| {
        let number: u32 = text.get(..text.len() - 1)?.parse().ok()?;
        number.checked_mul(unit).filter(|seconds| *seconds > 0)
    });
    read.ok_or_else(|| "not a time like 90s, 15m, 12h or 7d".into())
}

/// Runs one of the commands.
///
/// # Errors
/// See [`ClientError`].
pub(super) async fn run(
    config: &Config,
    name: &str,
    arguments: &ArgMatches,
) -> Result<Done, ClientError> {
    let client = Client::new(config, arguments)?;
    // Not every command has each of them.
    let argument = |name: &str| arguments.try_get_one::<String>(name).ok().flatten();
    let text = |name: &str| argument(name).map_or("", String::as_str);
    let optional = |name: &'static str| match text(name) {
        "" => None,
        value => Some((name, value)),
    };
    let reason: Vec<_> = optional("reason").into_iter().collect();
    match name {
        "nodes" => match text("id") {
            "" => {
                let filter = ["search", "replica"].into_iter().filter_map(optional).collect();
                list(&client, "nodes", filter, Table::nodes()).await
            }
            id => {
                let node = client.send(Method::GET, &["nodes", id], &[], None).await?;
                client.show(&node, |node| Table::nodes().rows(&[node]));
                Ok(Done::Completely)
            }
        },
        "bans" => list(&client, "bans", Vec::new(), Table::bans()).await,
        "kick" => {
            client.send(Method::DELETE, &["nodes", text("id")], &reason, None).await?;
            Ok(Done::Completely)
        }
        "unban" => {
            client.send(Method::DELETE, &["bans", text("target")], &reason, None).await?;
            Ok(Done::Completely)
        }
        "ban" => {
            let seconds = arguments.get_one::<u32>("for").copied().unwrap_or_default();
            let mut ban = json!({"seconds": seconds, "reason": text("reason")});
            let (kind, value) = text("target").split_once(':').unwrap_or_default();
            if !["node", "address"].contains(&kind) {
                return Err(ClientError::Target);
            }
            ban[kind] = value.into();
            let reply = client.send(Method::POST, &["bans"], &[], Some(&ban)).await?;
            client.show(&reply, |reply| Table::bans().rows(&[&reply["ban"]]));
            Ok(completeness(&reply))
        }
        "send" => {
            let to: Vec<_> = arguments.get_many::<String>("to").into_iter().flatten().collect();
            let to = if to == ["*"] { json!("*") } else { json!(to) };
            let message = json!({"to": to, "channel": text("channel"), "content": text("content")});
            let reply = client.send(Method::POST, &["messages"], &[], Some(&message)).await?;
            client.show(&reply, table::acks);
            Ok(if is_ok(&reply) { completeness(&reply) } else { Done::Partly })
        }
        "status" => {
            let reply = client.send(Method::GET, &["status"], &[], None).await?;
            client.show(&reply, table::replicas);
            Ok(completeness(&reply))
        }
        "config" => {
            let reply = client.send(Method::GET, &["config"], &[], None).await?;
            client.show(&reply, table::settings);
            Ok(Done::Completely)
        }
        _ => {
            client.send(Method::POST, &["drain"], &reason, None).await?;
            Ok(Done::Completely)
        }
    }
}

/// Shows all pages of a list.
async fn list(
    client: &Client,
    name: &str,
    mut query: Vec<(&str, &str)>,
    mut table: Table,
) -> Result<Done, ClientError> {
    query.push(("limit", PAGE));
    let mut done = Done::Completely;
    let mut cursor = None::<String>;
    loop {
        let mut of_page = query.clone();
        of_page.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page = client.send(Method::GET, &[name], &of_page, None).await?;
        client.show(&page, |page| {
            table.rows(&page[name].as_array().into_iter().flatten().collect::<Vec<_>>())
        });
        if completeness(&page) == Done::Partly {
            done = Done::Partly;
        }
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(done),
        }
    }
}

/// Whether all replicas have replied; names those that have not.
fn completeness(reply: &Value) -> Done {
    let missing: Vec<_> = reply["incomplete"].as_array().into_iter().flatten().collect();
    if missing.is_empty() {
        return Done::Completely;
    }
    let names: Vec<_> = missing.iter().filter_map(|replica| replica.as_str()).collect();
    let line = format!("crolang-broker: no reply from {}", names.join(", "));
    super::say(std::io::stderr(), line);
    Done::Partly
}

/// Whether every node has got its message.
fn is_ok(reply: &Value) -> bool {
    let acks = reply["acks"].as_array().into_iter().flatten();
    let counts = &reply["counts"];
    acks.map(|ack| &ack["ack"]).all(|ack| ack == "OK")
        && ["NOT_CONNECTED", "ERROR"].iter().all(|ack| counts[ack].as_u64().unwrap_or(0) == 0)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_have_a_unit() {
        let times = [("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800)];
        for (text, expected) in times {
            assert_eq!(seconds(text), Ok(expected));
        }
        for text in ["", "90", "s", "0s", "-1s", "1.5h", "1w", "99999999d", "1 h", "1\u{fc}"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
