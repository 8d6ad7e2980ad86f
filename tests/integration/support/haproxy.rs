//! A real haproxy in front of several brokers.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{Daemon, Port, SOON, eventually};

/// What haproxy understands of what it passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Tcp,
    /// TCP with a PROXY header of this version in front of every connection.
    TcpWithHeader(u8),
    Http,
    /// HTTP with `X-Forwarded-For`.
    HttpForwarded,
}

/// A running haproxy that takes the servers in turn; it ends when it is dropped.
pub struct HaProxy {
    folder: TempDir,
    port: Port,
    _process: Daemon,
}

impl HaProxy {
    /// Passes connections on to any server that accepts one.
    pub async fn start(servers: &[SocketAddr]) -> Self {
        Self::start_with(Mode::Tcp, None, servers).await
    }

    /// Passes on in this mode, to the servers that answer 200 at the path `health` if there is one.
    /// Returns once every server was asked.
    pub async fn start_with(mode: Mode, health: Option<&str>, servers: &[SocketAddr]) -> Self {
        let folder = TempDir::new().unwrap();
        let port = Port::free();
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, configuration(&folder, &port, mode, health, servers)).unwrap();
        // Debian keeps it where not everybody's path leads.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let mut command = Command::new("haproxy");
        command.env("PATH", path).arg("-db").arg("-f").arg(file).stderr(Stdio::piped());
        let mut process = Daemon::spawn(command);
        eventually("haproxy has asked every server", || {
            process.assert_alive();
            // The file of its socket may be there before it listens.
            let asked = statuses(&folder).unwrap_or_default();
            asked.len() == servers.len() && asked.iter().all(|(_, check)| check != "INI")
        })
        .await;
        Self { folder, port, _process: process }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// How many servers it holds to be in good health.
    pub fn healthy(&self) -> usize {
        let statuses = statuses(&self.folder).unwrap();
        statuses.iter().filter(|(status, _)| status.starts_with("UP")).count()
    }
}

fn configuration(
    folder: &TempDir,
    port: &Port,
    mode: Mode,
    health: Option<&str>,
    servers: &[SocketAddr],
) -> String {
    let (socket, address) = (folder.path().join("socket"), port.address());
    let (mode, option, header) = match mode {
        Mode::Tcp => ("tcp", "", ""),
        Mode::TcpWithHeader(1) => ("tcp", "", "send-proxy check-send-proxy"),
        Mode::TcpWithHeader(_) => ("tcp", "", "send-proxy-v2 check-send-proxy"),
        Mode::Http => ("http", "", ""),
        Mode::HttpForwarded => ("http", "option forwardfor", ""),
    };
    let check = health.map_or(String::new(), |path| format!("option httpchk GET {path}"));
    // One thread, so that the turn does not depend on which of them accepts.
    let mut text = format!(
        "global
    nbthread 1
    maxconn 4000
    stats socket {} level operator
defaults
    mode {mode}
    timeout connect 1s
    timeout client 1m
    timeout server 1m
    timeout tunnel 1h
    timeout check 1s
    option redispatch 1
listen brokers
    bind {address}
    balance roundrobin
    {check}
    {option}
    default-server check inter 100ms fall 2 rise 1 {header}
",
        socket.display()
    );
    for (number, server) in servers.iter().enumerate() {
        writeln!(text, "    server broker{number} {server}").unwrap();
    }
    text
}

/// Of each server: its status, and that of its last check; `None` if haproxy does not answer.
/// HAProxy Management Guide, "Statistics and monitoring".
fn statuses(folder: &TempDir) -> Option<Vec<(String, String)>> {
    let mut stream = UnixStream::connect(folder.path().join("socket")).ok()?;
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"show stat\n").ok()?;
    let mut table = String::new();
    stream.read_to_string(&mut table).ok()?;
    let mut rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = rows.next()?;
    let column = |name| names.iter().position(|other| *other == name).expect("a column");
    let (server, status, check) = (column("svname"), column("status"), column("check_status"));
    let servers = rows.filter(|row| row.get(server).is_some_and(|it| it.starts_with("broker")));
    Some(servers.map(|row| (row[status].to_owned(), row[check].to_owned())).collect())
}
