//! Replies as plain tables: columns that are separated by blanks, as `column -t` makes them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// How many digits of a replica's ID are shown.
const REPLICA_DIGITS: usize = 8;

/// A column: its heading, and what it shows of an entry.
type Column = (&'static str, fn(&Value) -> String);

/// A table that is printed page by page, its headings once.
pub(super) struct Table {
    columns: Vec<Column>,
    has_headings: bool,
}

impl Table {
    pub(super) fn nodes() -> Self {
        Self::new(vec![
            ("ID", |node| text(&node["id"])),
            ("REPLICA", |node| text(&node["replica"]).chars().take(REPLICA_DIGITS).collect()),
            ("CONNECTED", |node| since(&node["since"])),
            ("ADDRESS", |node| text(&node["address"])),
            ("RUNTIME", |node| text(&node["runtime"])),
            ("VERSION", |node| text(&node["version"])),
            ("IN", |node| text(&node["messagesIn"])),
            ("OUT", |node| text(&node["messagesOut"])),
        ])
    }

    pub(super) fn bans() -> Self {
        Self::new(vec![
            ("NAME", |ban| text(&ban["name"])),
            ("REMAINING", |ban| until(&ban["until"])),
            ("REASON", |ban| text(&ban["reason"])),
        ])
    }

    fn new(columns: Vec<Column>) -> Self {
        Self { columns, has_headings: true }
    }

    /// Returns the lines of some entries.
    pub(super) fn rows(&mut self, entries: &[&Value]) -> String {
        let headings = self.columns.iter().map(|(heading, _)| (*heading).to_owned());
        let mut rows: Vec<Vec<String>> = Vec::new();
        if std::mem::take(&mut self.has_headings) {
            rows.push(headings.collect());
        }
        for entry in entries {
            rows.push(self.columns.iter().map(|(_, show)| show(entry)).collect());
        }
        let mut widths = vec![0; self.columns.len()];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
            cells.collect::<String>().trim_end().to_owned()
        };
        rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The acks of a message.
pub(super) fn acks(reply: &Value) -> String {
    let named = Table::new(vec![("ID", |ack| text(&ack["to"])), ("ACK", |ack| text(&ack["ack"]))]);
    match reply["acks"].as_array() {
        Some(acks) => rows(named, acks),
        None => rows(
            Table::new(vec![
                ("OK", |counts| text(&counts["OK"])),
                ("NOT_CONNECTED", |counts| text(&counts["NOT_CONNECTED"])),
                ("ERROR", |counts| text(&counts["ERROR"])),
            ]),
            std::slice::from_ref(&reply["counts"]),
        ),
    }
}

/// The replicas of a cluster.
pub(super) fn replicas(reply: &Value) -> String {
    let table = Table::new(vec![
        ("REPLICA", |replica| text(&replica["replica"])),
        ("VERSION", |replica| text(&replica["version"])),
        ("UP", |replica| since(&replica["started"])),
        ("NODES", |replica| text(&replica["nodes"])),
        ("STATUS", |replica| text(&replica["status"])),
        ("NOT READY", |replica| {
            let parts = replica["parts"].as_object().into_iter().flatten();
            let causes = parts
                .filter_map(|(name, part)| Some(format!("{name}: {}", text(part.get("cause")?))));
            causes.collect::<Vec<_>>().join(", ")
        }),
    ]);
    rows(table, reply["replicas"].as_array().map_or(&[], Vec::as_slice))
}

/// The configuration, as `--print-config` shows it.
pub(super) fn settings(reply: &Value) -> String {
    let settings = reply.as_array().into_iter().flatten().map(|setting| {
        let [name, value, origin] = ["name", "value", "origin"].map(|key| text(&setting[key]));
        format!("{name}={value} # {origin}")
    });
    settings.collect::<Vec<_>>().join("\n")
}

fn rows(mut table: Table, entries: &[Value]) -> String {
    table.rows(&entries.iter().collect::<Vec<_>>())
}

/// A value as text that cannot steer a terminal.
fn text(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(shown).collect()
}

fn since(milliseconds: &Value) -> String {
    period(now_ms().saturating_sub(milliseconds.as_u64().unwrap_or_default()) / 1000)
}

fn until(milliseconds: &Value) -> String {
    period(milliseconds.as_u64().unwrap_or_default().saturating_sub(now_ms()).div_ceil(1000))
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// A time with its two largest units.
fn period(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86_400 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them_and_headings_come_once() {
        let mut table =
            Table::new(vec![("ID", |it| text(&it["id"])), ("IN", |it| text(&it["in"]))]);
        let entries = [json!({"id": "alice", "in": 3}), json!({"id": "b\u{1b}", "in": 10})];
        let shown = table.rows(&entries.iter().collect::<Vec<_>>());
        assert_eq!(shown, "ID       IN\nalice    3\nb\\u{1b}  10");
        assert_eq!(table.rows(&[&entries[0]]), "alice  3");
    }

    #[test]
    fn periods_have_their_two_largest_units() {
        for (seconds, shown) in
            [(0, "0s"), (59, "59s"), (61, "1m1s"), (3_660, "1h1m"), (90_000, "1d1h")]
        {
            assert_eq!(period(seconds), shown);
        }
    }
}
