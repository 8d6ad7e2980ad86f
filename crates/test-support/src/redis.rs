//! Redis servers of the tests' own: one, one that sentinels watch over, a cluster.
//!
//! Commands are sent and answered while the caller waits, so that they can stand in a condition
//! that is waited for; the servers are processes, which need nothing from the test meanwhile.

mod cluster;
mod resp;
mod sentinels;

pub use cluster::RedisCluster;
pub use sentinels::Sentinels;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use self::resp::{Answer, ask};
use super::{Authority, Daemon, Port, SOON, eventually_within};

/// A Redis server that keeps nothing on disk; it ends when it is dropped.
pub struct RedisServer {
    process: Daemon,
    arguments: Vec<String>,
    folder: TempDir,
    /// Where it listens, in plain text.
    pub port: u16,
    address: SocketAddr,
    /// The port for TLS, or for the other nodes of a cluster.
    second_port: Option<Port>,
    _port: Port,
}

impl RedisServer {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With more arguments, as in `&["--requirepass", "secret"]`.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::launch(TempDir::new().unwrap(), None, arguments).await
    }

    /// With a port for TLS besides the one for plain text.
    pub async fn start_tls(authority: &Authority) -> Self {
        Self::start_tls_with(authority, false).await
    }

    /// The same; it asks its clients for a certificate of the authority.
    pub async fn start_mutual_tls(authority: &Authority) -> Self {
        Self::start_tls_with(authority, true).await
    }

    async fn start_tls_with(authority: &Authority, asks_clients: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (certificate, key, ca) = (path("certificate.pem"), path("key.pem"), path("ca.pem"));
        let (certificate_pem, key_pem) = authority.pem("127.0.0.1");
        std::fs::write(&certificate, certificate_pem).unwrap();
        std::fs::write(&key, key_pem).unwrap();
        std::fs::copy(authority.file().path(), &ca).unwrap();
        let port = Port::free();
        let number = port.number().to_string();
        let arguments = [
            ["--tls-port", &number],
            ["--tls-cert-file", &certificate],
            ["--tls-key-file", &key],
            // It must have one, even if it asks no client for a certificate.
            ["--tls-ca-cert-file", &ca],
            ["--tls-auth-clients", if asks_clients { "yes" } else { "no" }],
        ];
        Self::launch(folder, Some(port), &arguments.concat()).await
    }

    async fn launch(folder: TempDir, second_port: Option<Port>, arguments: &[&str]) -> Self {
        let port = Port::free();
        let number = port.number().to_string();
        let socket = folder.path().join("socket");
        let common = [
            ["--port", &number],
            ["--bind", "127.0.0.1"],
            ["--unixsocket", socket.to_str().unwrap()],
            ["--dir", folder.path().to_str().unwrap()],
            ["--save", ""],
            ["--appendonly", "no"],
            // Else it waits for more replicas before it serves the first.
            ["--repl-diskless-sync-delay", "0"],
        ]
        .concat();
        // A file with the configuration stands before all options.
        let file = arguments.first().is_some_and(|argument| !argument.starts_with("--"));
        let (file, arguments) = arguments.split_at(usize::from(file));
        // The tests' commands go through whatever happens to the password.
        let user = ["--user", "tests", "on", "nopass", "~*", "&*", "+@all"];
        let arguments = [file, &common, &user, arguments].concat();
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let mut server = Self {
            process: spawn(&arguments),
            arguments,
            folder,
            port: port.number(),
            address: port.address(),
            second_port,
            _port: port,
        };
        server.until_it_answers().await;
        server
    }

    async fn until_it_answers(&mut self) {
        eventually_within(2 * SOON, "redis-server answers", || {
            self.process.assert_alive();
            ask(self.address, &["PING"]).is_ok_and(|answer| answer.text() == "PONG")
        })
        .await;
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn url_with_password(&self, password: &str) -> String {
        format!("redis://:{password}@{}", self.address)
    }

    /// For a server that was started by [`RedisServer::start_tls`].
    pub fn tls_url(&self) -> String {
        format!("rediss://{}", self.second_port.as_ref().unwrap().address())
    }

    /// By its socket in the file system.
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.folder.path().join("socket").display())
    }

    /// Its folder, which is there until it is dropped.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it as an operator does: the connections are closed and the port is free.
    pub async fn stop(&mut self) {
        self.process.signal("TERM");
        let process = &mut self.process;
        eventually_within(2 * SOON, "redis-server ends", || process.has_ended()).await;
    }

    /// Kills it without a warning.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port, without its data; ends it before, if it is there.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.arguments);
        self.until_it_answers().await;
    }

    /// Takes it off the processor until [`RedisServer::resume`]: connections stay, nothing answers.
    pub fn pause(&self) {
        self.process.pause();
    }

    pub fn resume(&self) {
        self.process.resume();
    }

    /// The answer to a command; the parts of a list are lines.
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// As [`RedisServer::command`], or what the server has against it.
    pub fn try_command(&self, words: &[&str]) -> Result<String, String> {
        match self.ask(words) {
            Answer::Error(error) => Err(error),
            answer => Ok(answer.text()),
        }
    }

    fn ask(&self, words: &[&str]) -> Answer {
        ask(self.address, words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The names of all keys that match, in no order.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        self.ask(&["KEYS", pattern]).parts()
    }

    /// How often each command was called since the start, or since `CONFIG RESETSTAT`, by its name
    /// in lower case. What the tests themselves call counts too: each time one `auth` and the
    /// command.
    pub fn command_calls(&self) -> HashMap<String, u64> {
        let calls = |line: &str| {
            let (name, values) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), values.split_once(',')?.0.parse().ok()?))
        };
        self.command(&["INFO", "commandstats"]).lines().filter_map(calls).collect()
    }
}

fn spawn(arguments: &[String]) -> Daemon {
    // CONTRIBUTING.md tells what else it may be, and which tests that runs.
    let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
    let mut command = Command::new(program);
    command.args(arguments).stderr(Stdio::piped());
    Daemon::spawn(command)
}

/// The value of a field of an answer to `INFO` or `CLUSTER INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
