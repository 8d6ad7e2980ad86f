//! Log lines as JSON: one object a line, whose values are JSON too.
//!
//! The library's own format writes the `Debug` form of a value as a string, with Rust's quotes and
//! escapes in it. A filter for `"node":"alice"` should find alice.

use std::fmt;

use serde_json::{Map, Number, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes a line as `{"timestamp","level","fields","target"}`.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = json!({
            "timestamp": timestamp,
            "level": metadata.level().as_str(),
            "fields": fields.0,
            "target": metadata.target(),
        });
        writeln!(writer, "{line}")
    }
}

/// The fields of a line.
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        // The message is written as it is, so it may look like anything.
        let value = if field.name() == "message" { text.into() } else { value_of(text) };
        self.put(field, value);
    }
}

/// The value whose `Debug` or `Display` form this is: a string, a number, or else the form itself.
fn value_of(form: String) -> Value {
    if let Some(text) = unquoted(&form) {
        return text.into();
    }
    match serde_json::from_str::<Number>(&form) {
        Ok(number) => number.into(),
        Err(_) => form.into(),
    }
}

/// The string whose `Debug` form this is.
fn unquoted(form: &str) -> Option<String> {
    let content = form.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::with_capacity(content.len());
    let mut rest = content.chars();
    while let Some(next) = rest.next() {
        text.push(match next {
            '"' => return None,
            '\\' => match rest.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => {
                    let (digits, behind) = rest.as_str().strip_prefix('{')?.split_once('}')?;
                    rest = behind.chars();
                    char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
                }
                quoted @ ('"' | '\'' | '\\') => quoted,
                _ => return None,
            },
            other => other,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_become_values() {
        for (form, value) in [
            ("\"alice\"", json!("alice")),
            ("\"say \\\"hi\\\"\"", json!("say \"hi\"")),
            ("\"12\"", json!("12")),
            ("12", json!(12)),
            ("-1.5", json!(-1.5)),
            ("Delivered", json!("Delivered")),
            ("127.0.0.1:80", json!("127.0.0.1:80")),
            ("Some(\"x\")", json!("Some(\"x\")")),
            ("\"a\", \"b\"", json!("\"a\", \"b\"")),
            ("\"\\", json!("\"\\")),
            ("\"", json!("\"")),
            ("", json!("")),
        ] {
            assert_eq!(value_of(form.to_owned()), value, "{form}");
        }
    }

    proptest! {
        #[test]
        fn every_string_is_read_back_from_its_form(text in any::<String>()) {
            prop_assert_eq!(value_of(format!("{text:?}")), Value::from(text));
        }

        #[test]
        fn no_form_panics(form in "[\"\\\\u{}0-9a-f']{0,20}") {
            value_of(form);
        }
    }
}
