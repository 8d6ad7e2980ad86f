//! Reads typed values and collects the errors.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::secret_files::{ALLOWED, secret_file_of};
use super::{Config, ConfigError, ConfigErrors, Setting, Settings, Source, VARIABLES, Variable};

const LONGEST_MS: u64 = 24 * 60 * 60 * 1000;

/// One pass over a source of variables.
pub(super) struct Reader<S> {
    source: S,
    errors: Vec<ConfigError>,
}

impl<S: Source> Reader<S> {
    pub(super) fn new(source: S) -> Self {
        Self { source, errors: Vec::new() }
    }

    /// The configuration if every value could be used.
    pub(super) fn finish(self, config: Config) -> Result<Config, ConfigErrors> {
        if self.errors.is_empty() { Ok(config) } else { Err(ConfigErrors(self.errors)) }
    }

    pub(super) fn parsed<T: FromStr>(&mut self, name: &'static str) -> T {
        self.value(name, |text| text.parse().ok())
    }

    /// One of a few words, each with its value.
    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> T {
        self.value(name, |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
        })
    }

    /// `true` or `false`, in any case.
    pub(super) fn switch(&mut self, name: &'static str) -> bool {
        self.value(name, |text| text.to_ascii_lowercase().parse().ok())
    }

    pub(super) fn number(&mut self, name: &'static str, least: u32) -> usize {
        self.value(name, |text| text.parse().ok().filter(|n: &u32| *n >= least)) as usize
    }

    /// A number in a second; 0 for any number.
    pub(super) fn rate(&mut self, name: &'static str) -> Option<NonZeroU32> {
        NonZeroU32::new(self.parsed(name))
    }

    pub(super) fn milliseconds(&mut self, name: &'static str, least: u64) -> Duration {
        let range = least..=LONGEST_MS;
        Duration::from_millis(
            self.value(name, |text| text.parse().ok().filter(|ms| range.contains(ms))),
        )
    }

    /// A URL with one of these schemes. Errors never show its text, which may be a secret.
    pub(super) fn url(&mut self, name: &'static str, schemes: &[&str]) -> Option<Url> {
        let text = self.text(variable(name))?;
        let usable = |url: &Url| {
            schemes.contains(&url.scheme()) && url.host_str().is_some_and(|host| !host.is_empty())
        };
        match Url::parse(&text).ok().filter(usable) {
            Some(url) => Some(url),
            None => {
                self.hidden(name);
                None
            }
        }
    }

    /// A value that may be left out.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(variable(name))?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.error(variable(name), format!("{text:?} is not valid"));
        }
        parsed
    }

    /// A value whose text is never part of an error.
    pub(super) fn secret<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let parsed = parse(&self.text(variable(name))?);
        if parsed.is_none() {
            self.hidden(name);
        }
        parsed
    }

    /// What `parse` makes of the content of the file that is named.
    pub(super) fn file<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(Vec<u8>) -> Option<T>,
    ) -> Option<T> {
        let path = self.text(variable(name))?;
        let parsed = match std::fs::read(&path) {
            Ok(content) => parse(content).ok_or("its content is not valid".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        parsed.map_err(|problem| self.error(variable(name), format!("{path:?}: {problem}"))).ok()
    }

    /// A list separated by commas, of texts that are `valid`.
    pub(super) fn list(&mut self, name: &'static str, valid: impl Fn(&str) -> bool) -> Vec<String> {
        self.items(name, valid).unwrap_or_default()
    }

    /// As [`Reader::list`]; `None` if it is not set.
    pub(super) fn items(
        &mut self,
        name: &'static str,
        valid: impl Fn(&str) -> bool,
    ) -> Option<Vec<String>> {
        let text = self.text(variable(name))?;
        let items: Vec<_> = text.split(',').map(|item| item.trim().to_owned()).collect();
        if !items.iter().all(|item| valid(item)) {
            self.error(variable(name), format!("{text:?} is not valid"));
        }
        Some(items)
    }

    /// A variable that does not go together with another.
    pub(super) fn conflict(&mut self, name: &'static str, problem: &str) {
        self.error(variable(name), problem.into());
    }

    /// Returns every variable with the value that is in force, as far as a source tells its origin.
    pub(super) fn settings(&mut self) -> Vec<Setting> {
        Settings::of(&self.source).all()
    }

    fn hidden(&mut self, name: &'static str) {
        self.error(
            variable(name),
            "the value (not shown, it may hold a secret) is not valid".into(),
        );
    }

    /// The parsed value; the default if none is set, or if the one that is set is not valid.
    pub(super) fn value<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Option<T>) -> T {
        let variable = variable(name);
        if let Some(text) = self.text(variable) {
            if let Some(value) = parse(&text) {
                return value;
            }
            self.error(variable, format!("{text:?} is not valid"));
        }
        #[allow(clippy::expect_used, reason = "the defaults are constants, and a test reads them")]
        parse(variable.default).expect("the default is valid")
    }

    /// The text that is set, trimmed; a blank one counts as not set. A secret may be in a file
    /// instead.
    fn text(&mut self, variable: &'static Variable) -> Option<String> {
        let text = self.set(variable.name, variable.allowed);
        let Some(file) = secret_file_of(variable.name) else { return text };
        let Some(path) = self.set(file, ALLOWED) else { return text };
        if text.is_some() {
            self.push(file, format!("{} is set too", variable.name), ALLOWED);
            return text;
        }
        let content = std::fs::read(&path).map_err(|error| error.to_string());
        let content = content.and_then(|bytes| {
            let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())?;
            trimmed(&text).ok_or("the file is empty".to_owned())
        });
        content.map_err(|problem| self.push(file, format!("{path:?}: {problem}"), ALLOWED)).ok()
    }

    /// The text of one variable, whether it is listed or names a secret's file.
    fn set(&mut self, name: &'static str, allowed: &'static str) -> Option<String> {
        match (self.source)(name)?.into_string() {
            Ok(text) => trimmed(&text),
            Err(_) => {
                self.push(name, "the value is not UTF-8".into(), allowed);
                None
            }
        }
    }

    fn error(&mut self, variable: &'static Variable, problem: String) {
        self.push(variable.name, problem, variable.allowed);
    }

    fn push(&mut self, variable: &'static str, problem: String, allowed: &'static str) {
        self.errors.push(ConfigError { variable, problem, allowed });
    }
}

/// Without blanks at its ends; `None` if nothing else is there.
fn trimmed(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[allow(clippy::expect_used, reason = "the names are constants, and a test reads them all")]
fn variable(name: &str) -> &'static Variable {
    VARIABLES.iter().find(|variable| variable.name == name).expect("the variable is listed")
}
