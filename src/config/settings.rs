//! What is set and where, for `--print-config`, and which names are probably misspelled.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;

use super::env_file::read_env_file;
use super::{Source, VARIABLES};

/// Shown in place of a secret.
const MASK: &str = "***";

/// The most letters in which a misspelled name differs from the one that is meant.
const MAX_DISTANCE: usize = 2;

/// Shorter names too often belong to other programs.
const MIN_NAME_BYTES: usize = 6;

/// The origin of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is not set and has no default.
    NotSet,
    /// The default.
    Default,
    /// The environment of the process.
    Environment,
    /// The `.env` file in the working directory.
    EnvFile,
}

/// One variable with the value that is in force. Shown as a line that names its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The variable's name.
    pub name: &'static str,
    /// The value, or a mask if the variable may hold a secret.
    pub value: String,
    /// The origin of the value.
    pub origin: Origin,
}

/// A name that is set but unknown, and much like a known one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misspelled {
    /// The name that is set.
    pub name: String,
    /// The name that is probably meant.
    pub nearest: &'static str,
}

/// All names that are set for this process, with their values.
pub struct Settings {
    environment: HashMap<OsString, OsString>,
    file: HashMap<String, String>,
}

impl Settings {
    /// Reads the process's environment and the `.env` file in the working directory. What cannot be
    /// read there is left out: [`super::Config::load`] reports it.
    pub fn load() -> Self {
        let (file, _) = read_env_file(Path::new(".env"));
        Self { environment: std::env::vars_os().collect(), file }
    }

    /// Reads the known names from a source, which counts as the environment.
    pub(super) fn of(source: &impl Source) -> Self {
        let names = VARIABLES.iter().flat_map(|it| [Some(it.name), it.file()]).flatten();
        let set = names.filter_map(|name| Some((OsString::from(name), source(name)?)));
        Self { environment: set.collect(), file: HashMap::new() }
    }

    /// Returns every variable with the value that is in force.
    pub fn all(&self) -> Vec<Setting> {
        let names = VARIABLES.iter().flat_map(|variable| {
            let is_secret = variable.file().is_some();
            let own = (variable.name, variable.default, is_secret);
            // The file's name is worth a line only where it is used.
            let file = variable.file().filter(|file| self.get(file).is_some());
            [Some(own), file.map(|file| (file, "", false))].into_iter().flatten()
        });
        names.map(|(name, default, is_secret)| self.setting(name, default, is_secret)).collect()
    }

    fn setting(&self, name: &'static str, default: &str, is_secret: bool) -> Setting {
        let (value, origin) = match self.get(name) {
            Some((_, origin)) if is_secret => (MASK.to_owned(), origin),
            Some(found) => found,
            None if default.is_empty() => (String::new(), Origin::NotSet),
            None => (default.to_owned(), Origin::Default),
        };
        Setting { name, value, origin }
    }

    /// The value of a name that is set; blank counts as not set.
    fn get(&self, name: &str) -> Option<(String, Origin)> {
        // What the environment sets overrides the file, even if it is empty.
        let (value, origin) = match self.environment.get(OsStr::new(name)) {
            Some(value) => (value.to_string_lossy().into_owned(), Origin::Environment),
            None => (self.file.get(name)?.clone(), Origin::EnvFile),
        };
        let value = value.trim();
        (!value.is_empty()).then(|| (value.to_owned(), origin))
    }

    /// Returns the names that are set, unknown, and much like known ones.
    pub fn misspelled(&self) -> Vec<Misspelled> {
        let environment = self.environment.keys().filter_map(|name| name.to_str());
        let names = environment.chain(self.file.keys().map(String::as_str));
        let mut misspelled: Vec<_> = names
            .filter_map(|name| Some(Misspelled { name: name.to_owned(), nearest: nearest(name)? }))
            .collect();
        misspelled.sort_by(|a, b| a.name.cmp(&b.name));
        misspelled.dedup();
        misspelled
    }
}

/// Names of other programs and libraries that are much like ours: where OpenSSL, and with it most
/// programs, look for the certificates that they trust.
const FOREIGN_NAMES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The known name that an unknown one is much like.
fn nearest(name: &str) -> Option<&'static str> {
    let known = || VARIABLES.iter().flat_map(|it| [Some(it.name), it.file()]).flatten();
    if FOREIGN_NAMES.contains(&name) || known().any(|known| known == name) {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    let distance = |known: &&str| strsim::osa_distance(&upper, known);
    let nearest = known().min_by_key(distance)?;
    let is_near = match distance(&nearest) {
        0 => true,
        distance => distance <= MAX_DISTANCE && name.len() >= MIN_NAME_BYTES,
    };
    is_near.then_some(nearest)
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::NotSet => "not set",
            Origin::Default => "default",
            Origin::Environment => "environment",
            Origin::EnvFile => ".env",
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} # {}", self.name, self.value, self.origin)
    }
}

impl fmt::Display for Misspelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no variable of the broker; did you mean {}?", self.name, self.nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(environment: &[(&str, &str)], file: &[(&str, &str)]) -> Settings {
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        let file = file.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings { environment: environment.collect(), file: file.collect() }
    }

    #[test]
    fn each_value_is_shown_with_its_origin_and_no_secret() {
        let settings = settings(
            &[("PORT", "81"), ("REDIS_URL", "redis://:hunter2@h"), ("HOST", "")],
            &[("PORT", "82"), ("HOST", "::1"), ("LOG_LEVEL", "2"), ("TURN_SECRET_FILE", "/run/s")],
        );
        let lines: Vec<_> = settings.all().iter().map(Setting::to_string).collect();
        let has = |line: &str| assert!(lines.iter().any(|it| it == line), "{line}: {lines:#?}");
        has("PORT=81 # environment");
        has("REDIS_URL=*** # environment");
        has("HOST=0.0.0.0 # default");
        has("LOG_LEVEL=2 # .env");
        has("TURN_SECRET= # not set");
        has("TURN_SECRET_FILE=/run/s # .env");
        assert!(!lines.concat().contains("hunter2"));
        assert_eq!(lines.len(), VARIABLES.len() + 1, "the files of other secrets are not set");
    }

    #[test]
    fn names_that_are_nearly_right_are_found() {
        let settings = settings(
            &[
                ("REDIS_URLS", "x"),
                ("PATH", "/bin"),
                ("REDIS_PORT", "6379"),
                ("PORT", "1"),
                ("SSL_CERT_FILE", "/x"),
            ],
            &[("MAX_CONNECTION", "1"), ("port", "1"), ("TURN_SECRET_FILE", "x")],
        );
        let found: Vec<_> =
            settings.misspelled().into_iter().map(|it| (it.name, it.nearest)).collect();
        let expected =
            [("MAX_CONNECTION", "MAX_CONNECTIONS"), ("REDIS_URLS", "REDIS_URL"), ("port", "PORT")];
        assert_eq!(found, expected.map(|(name, nearest)| (name.to_owned(), nearest)));
    }
}
