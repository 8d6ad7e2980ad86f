//! The environment, read once. Every mistake is reported, and no secret is shown.
//!
//! | variable | example | |
//! |---|---|---|
//! | `HOST`, `PORT` | `127.0.0.1`, `9090` | where to listen; port 0 takes a free one |
//! | `TOKENS` | `alice=north,bob=south` | who may connect with which token; not set: everybody |
//! | `PAIRS` | `alice>bob,*>carol` | who may send to whom; not set: everybody to everybody |
//! | `BANNED` | `mallory,trudy` | who is kept out and disconnected |
//! | `STUN_URLS` | `stun:stun.example.org:3478` | separated by commas, as the next |
//! | `TURN_URLS` | `turn:turn.example.org:3478` | needs `TURN_SECRET` |
//! | `TURN_SECRET` | | coturn's `static-auth-secret` |
//! | `WEBHOOK_SECRET` | `whsec_...` | what the broker signs with; not set: nothing is checked |
//!
//! A variable that is blank counts as not set.

use std::env::VarError;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::authentication::Tokens;
use crate::authorization::Pairs;
use crate::bans::Bans;
use crate::rtc_configuration::{IceServers, Turn, urls};
use crate::signature::Secrets;

const DEFAULT_HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DEFAULT_PORT: u16 = 9090;

/// Everything that the environment decides.
pub(crate) struct Settings {
    /// Where to listen.
    pub(crate) address: SocketAddr,
    /// Who may connect.
    pub(crate) tokens: Tokens,
    /// The pairs of sender and receiver that are allowed.
    pub(crate) pairs: Pairs,
    /// The nodes that are banned at the start.
    pub(crate) bans: Bans,
    /// The STUN and TURN servers.
    pub(crate) ice_servers: IceServers,
    /// What the broker signs with.
    pub(crate) secrets: Option<Secrets>,
}

impl Settings {
    /// Reads the environment of the process. The error has a line for each mistake.
    pub(crate) fn from_env() -> Result<Self, String> {
        Self::read(|name| std::env::var(name))
    }

    /// Reads any source of variables.
    pub(crate) fn read(source: impl Fn(&str) -> Result<String, VarError>) -> Result<Self, String> {
        let mut reader = Reader { source, mistakes: Vec::new() };
        let host = reader.parsed("HOST", str::parse).unwrap_or(DEFAULT_HOST);
        let port = reader.parsed("PORT", str::parse).unwrap_or(DEFAULT_PORT);
        let settings = Self {
            address: SocketAddr::new(host, port),
            tokens: reader.parsed("TOKENS", Tokens::parse).unwrap_or_default(),
            pairs: reader.parsed("PAIRS", Pairs::parse).unwrap_or_default(),
            bans: reader.parsed("BANNED", Bans::parse).unwrap_or_default(),
            ice_servers: IceServers::new(
                reader.parsed("STUN_URLS", |text| urls(text, ["stun:", "stuns:"])),
                reader.turn(),
            ),
            secrets: reader.parsed("WEBHOOK_SECRET", Secrets::parse),
        };
        if reader.mistakes.is_empty() { Ok(settings) } else { Err(reader.mistakes.join("\n")) }
    }
}

/// The parts of a list that is separated by commas, without blanks around them. A comma too many
/// does no harm.
pub(crate) fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// One pass over the variables.
struct Reader<S> {
    source: S,
    mistakes: Vec<String>,
}

impl<S: Fn(&str) -> Result<String, VarError>> Reader<S> {
    /// The value if one is set and can be used.
    fn parsed<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => self.mistake(name, &error),
        }
    }

    /// One without the other is of no use, and would go unnoticed until nodes cannot connect.
    fn turn(&mut self) -> Option<Turn> {
        match (self.text("TURN_URLS"), self.text("TURN_SECRET")) {
            (Some(_), Some(secret)) => self.parsed("TURN_URLS", |text| Turn::parse(text, &secret)),
            (Some(_), None) => self.mistake("TURN_SECRET", &"is needed where TURN_URLS is set"),
            (None, Some(_)) => self.mistake("TURN_URLS", &"is needed where TURN_SECRET is set"),
            (None, None) => None,
        }
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match (self.source)(name) {
            Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) => self.mistake(name, &"is not UTF-8"),
        }
    }

    fn mistake<T>(&mut self, name: &str, problem: &dyn Display) -> Option<T> {
        self.mistakes.push(format!("{name}: {problem}"));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let find = |name: &str| variables.iter().find(|variable| variable.0 == name);
        Settings::read(|name| find(name).map(|v| v.1.to_owned()).ok_or(VarError::NotPresent))
    }

    #[test]
    fn nothing_has_to_be_set() {
        let settings = read(&[("TOKENS", " "), ("WEBHOOK_SECRET", "")]).unwrap();
        assert_eq!(settings.address.to_string(), "127.0.0.1:9090");
        assert!(settings.secrets.is_none());
    }

    #[test]
    fn everything_can_be_set() {
        let settings = read(&[
            ("HOST", "::1"),
            ("PORT", "0"),
            ("TOKENS", "alice=north"),
            ("PAIRS", "alice>bob"),
            ("BANNED", "mallory"),
            ("STUN_URLS", "stun:a:3478"),
            ("TURN_URLS", "turn:b:3478"),
            ("TURN_SECRET", "s"),
            ("WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.address.to_string(), "[::1]:0");
        assert!(settings.bans.contains("mallory"));
        assert!(settings.secrets.is_some());
    }

    #[test]
    fn a_mistake_names_its_variable_and_shows_no_secret() {
        for (name, value) in [
            ("HOST", "nowhere"),
            ("PORT", "65536"),
            ("TOKENS", "alice:hush"),
            ("TOKENS", "alice=hush,alice=other"),
            ("PAIRS", "alice"),
            ("PAIRS", "alice>bob>carol"),
            ("STUN_URLS", "stun.example.org"),
            ("WEBHOOK_SECRET", "hush"),
            ("WEBHOOK_SECRET", "whsec_hush"),
        ] {
            let mistake = read(&[(name, value)]).err().unwrap();
            assert!(mistake.starts_with(&format!("{name}: ")), "{mistake}");
            assert!(!mistake.contains("hush") && mistake.lines().count() == 1, "{mistake}");
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let mistakes = read(&[("PORT", "x"), ("PAIRS", ">"), ("TURN_URLS", "turn:b")]);
        let mistakes = mistakes.err().unwrap();
        let names: Vec<_> = mistakes.lines().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(names, ["PORT", "PAIRS", "TURN_SECRET"]);
    }

    #[test]
    fn turn_needs_both() {
        let turn = |urls, secret| read(&[("TURN_URLS", urls), ("TURN_SECRET", secret)]).err();
        assert_eq!(turn("turn:b", "s"), None);
        assert_eq!(turn("", ""), None);
        assert!(turn("turn:b", "").unwrap().starts_with("TURN_SECRET: "));
        assert!(turn("", "s").unwrap().starts_with("TURN_URLS: "));
        assert!(turn("stun:b", "s").unwrap().starts_with("TURN_URLS: "));
    }
}
