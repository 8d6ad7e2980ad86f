//! The program, as a shell starts it; and what has nothing to do with any broker.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

/// The longest that a run of a second may take, with all its timeouts.
const LIMIT: Duration = Duration::from_secs(60);

/// What a run said.
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Told {
    /// The JSON object that it printed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}{}", self.out, self.err))
    }
}

/// The program with these arguments.
pub(crate) fn command(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_load"));
    command.args(arguments.split(' ')).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a run has said when it has ended.
pub(crate) fn told(output: Output) -> Told {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Told { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Another program of this package, which listens; it ends with its test.
pub(crate) struct Listening {
    process: Child,
    out: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
}

impl Listening {
    /// Starts it on a free port.
    pub(crate) fn start(command: &mut std::process::Command) -> Self {
        let mut process = command.env("PORT", "0").stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { process, out, address }
    }

    /// Ends it, and gives what it says then.
    pub(crate) fn stop(mut self) -> String {
        let pid = self.process.id().to_string();
        assert!(std::process::Command::new("kill").arg(pid).status().unwrap().success());
        let mut last = String::new();
        self.out.read_to_string(&mut last).unwrap();
        last
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the program to its end.
pub(crate) async fn run(arguments: &str) -> Told {
    let output = tokio::time::timeout(LIMIT, command(arguments).output());
    told(output.await.expect("it ends").unwrap())
}

/// Runs a mode against a broker, for JSON.
pub(crate) async fn measure(address: SocketAddr, arguments: &str) -> Told {
    run(&format!("{arguments} --addr {address} --json")).await
}

#[tokio::test]
async fn a_wrong_command_line_is_told() {
    for arguments in ["relay --window 0", "waltz", "relay --addr nowhere"] {
        let told = run(arguments).await;
        assert_eq!((told.code, told.out.as_str()), (Some(2), ""), "{arguments}");
        assert!(!told.err.is_empty());
    }
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn where_nobody_listens_there_is_nothing_to_measure() {
    let told = measure(nobody().await, "relay --pairs 1").await;
    assert_eq!((told.code, told.out.as_str()), (Some(2), ""));
    assert!(told.err.contains("is not in: "), "{}", told.err);
}

#[tokio::test]
async fn where_nobody_listens_nobody_comes_in() {
    let address = nobody().await;
    for (arguments, wrong) in [
        ("churn --nodes 3 --seconds 0.3 --warmup 0", "not_connected"),
        ("idle --nodes 3 --seconds 0", "not_connected"),
        ("storm --nodes 3 --seconds 0.3 --retry 0.1", "not_in"),
    ] {
        let told = measure(address, arguments).await;
        assert_eq!(told.code, Some(1), "{arguments}");
        let json = told.json();
        assert_eq!(json["count"], 0);
        assert!(json["wrong"][wrong].as_u64().unwrap() >= 3, "{json}");
    }
}

#[tokio::test]
async fn a_process_that_is_not_there_cannot_be_watched() {
    let told = run("idle --pid 4294967295").await;
    assert_eq!(told.code, Some(2));
    assert!(told.err.contains("process 4294967295 cannot be watched"), "{}", told.err);
}
