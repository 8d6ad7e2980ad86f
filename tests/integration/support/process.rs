//! The broker's program as a process beside the tests: what it logs, and what it holds on to.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::Daemon;

use super::{SOON, eventually, get};

/// The broker's program with these variables and no others.
pub fn program(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crolang-broker"));
    command.env_clear().envs(variables.iter().copied()).current_dir(std::env::temp_dir());
    command
}

/// How much a broker process holds on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    /// Open files, sockets among them.
    pub files: usize,
    /// Tasks that have not ended, with that of the asking one.
    pub tasks: u64,
    /// Nodes that hold their ID.
    pub nodes: u64,
}

/// What every broker is started with.
const ON_A_FREE_PORT: [(&str, &str); 3] =
    [("HOST", "127.0.0.1"), ("PORT", "0"), ("LOG_FORMAT", "json")];

/// A broker process that listens.
pub struct Process {
    daemon: Daemon,
    pub address: SocketAddr,
}

impl Process {
    /// On a free port of the loopback address, unless the variables say something else.
    pub async fn start(variables: &[(&str, &str)]) -> Self {
        Self::spawn(program(&[&ON_A_FREE_PORT, variables].concat())).await
    }

    /// As [`Process::start`], with so many file descriptors at most.
    pub async fn start_with_descriptors(descriptors: u32, variables: &[(&str, &str)]) -> Self {
        let program = program(&[&ON_A_FREE_PORT, variables].concat());
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -n {descriptors}; exec \"$0\""));
        command.arg(program.get_program()).env_clear().current_dir(std::env::temp_dir());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::spawn(command).await
    }

    async fn spawn(command: Command) -> Self {
        let mut daemon = Daemon::spawn(command);
        let mut listening = None;
        eventually("the broker listens", || {
            daemon.assert_alive();
            listening = logged(&daemon.log(), "listening");
            listening.is_some()
        })
        .await;
        let address = listening.unwrap()["address"].as_str().unwrap().parse().unwrap();
        Self { daemon, address }
    }

    /// The fields of the first line of the log with this message.
    pub fn logged(&self, message: &str) -> Option<Value> {
        logged(&self.log(), message)
    }

    /// Whether a line of the log with this message has this text anywhere.
    pub fn has_logged(&self, message: &str, text: &str) -> bool {
        self.log().lines().any(|line| line.contains(message) && line.contains(text))
    }

    /// All lines of the log so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Sends a signal, as in `TERM`.
    pub fn signal(&self, name: &str) {
        self.daemon.signal(name);
    }

    /// Takes it off the processor until [`Process::resume`].
    pub fn pause(&self) {
        self.daemon.pause();
    }

    pub fn resume(&self) {
        self.daemon.resume();
    }

    /// Kills it without a warning.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// What it holds on to.
    pub async fn holdings(&self) -> Holdings {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count();
        let answer = get(self.address, "/metrics").await;
        let value = |name: &str| {
            let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in {answer}")).trim().parse().unwrap()
        };
        Holdings { files, tasks: value("crolang_tasks"), nodes: value("crolang_nodes") }
    }

    /// What it holds on to while nobody wants anything of it.
    pub async fn holdings_at_rest(&self) -> Holdings {
        // The connections by which it was asked end a little later.
        let mut least = self.holdings().await;
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = self.holdings().await;
            least = Holdings {
                files: least.files.min(now.files),
                tasks: least.tasks.min(now.tasks),
                nodes: least.nodes.min(now.nodes),
            };
        }
        least
    }

    /// Waits until it holds no more than this. A client that upgrades and does not send CONNECT leaves a
    /// task of the library that waits for it for 10 s, and ends only then.
    pub async fn until_it_holds(&self, wanted: Holdings) {
        let began = Instant::now();
        loop {
            let now = self.holdings().await;
            let is_more = now.files > wanted.files || now.tasks > wanted.tasks;
            if !is_more && now.nodes <= wanted.nodes {
                return;
            }
            assert!(began.elapsed() < 4 * SOON, "{now:?} is more than {wanted:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it ends by itself: the exit code.
    #[allow(dead_code, reason = "tests/scenarios uses it")]
    pub async fn exit_code(&mut self) -> Option<i32> {
        self.daemon.exit_code().await
    }

    /// Waits until it ends by itself: the exit code and the whole log.
    pub async fn end(self) -> (Option<i32>, String) {
        self.daemon.end().await
    }
}

fn logged(log: &str, message: &str) -> Option<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut fields = lines.map(|mut line| line["fields"].take());
    fields.find(|fields| fields["message"] == message)
}
