//! `crolang-broker health`: asks a running broker, or peer, whether it lives. Images without a shell
//! have nothing else for a health check.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command};
use crolang_broker::Config;
use url::Url;

#[path = "health/process.rs"]
mod process;

/// The command's name.
pub(super) const NAME: &str = "health";

/// How long connecting and the response may take together.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The start of a response is enough: its status line.
const MAX_STATUS_BYTES: usize = 64;

/// Why the broker does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub(super) enum HealthError {
    #[error("the configuration has PORT=0, and process 1 is no broker that listens: name a URL")]
    NoAddress,
    #[error("{0} names no host")]
    NoHost(Url),
    #[error("{address}: {source}")]
    Unreachable { address: String, source: io::Error },
    #[error("{address}: the response is {status:?}")]
    Unhealthy { address: String, status: String },
}

/// The command.
pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Ask a running broker for its health and exit: 0 if it is healthy, 1 if not")
        .after_help(
            "Without a URL it asks process 1 where that is this program, as in a container, and \
             otherwise the broker at HOST and PORT of this configuration. A peer is healthy if it \
             answers at all.",
        )
        .arg(
            Arg::new("url")
                .value_name("URL")
                .help("What to ask, such as http://127.0.0.1:8080/readyz")
                .value_parser(parse),
        )
}

fn parse(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "http");
    url.ok_or_else(|| "not an http URL".into())
}

/// Asks once.
pub(super) fn check(config: &Config, arguments: &ArgMatches) -> Result<(), HealthError> {
    if let Some(url) = arguments.get_one::<Url>("url") {
        let host = url.host_str().ok_or_else(|| HealthError::NoHost(url.clone()))?;
        let address = format!("{host}:{}", url.port_or_known_default().unwrap_or(80));
        return expect_ok(&address, url.path());
    }
    match process::first() {
        Some(process) if process.is_peer => process.addresses.iter().try_for_each(|address| {
            let address = reachable(*address).to_string();
            status(&address, "/")
                .map(drop)
                .map_err(|source| HealthError::Unreachable { address, source })
        }),
        Some(process) if !process.addresses.is_empty() => process
            .addresses
            .iter()
            .try_for_each(|address| expect_ok(&reachable(*address).to_string(), "/health")),
        _ if config.port == 0 => Err(HealthError::NoAddress),
        _ => {
            let address = reachable(SocketAddr::new(config.host, config.port));
            expect_ok(&address.to_string(), "/health")
        }
    }
}

/// The address at which a server on this machine that listens there is reached.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn expect_ok(address: &str, path: &str) -> Result<(), HealthError> {
    let address = address.to_owned();
    match status(&address, path) {
        Ok(status) if status.split(' ').nth(1) == Some("200") => Ok(()),
        Ok(status) => Err(HealthError::Unhealthy { address, status }),
        Err(source) => Err(HealthError::Unreachable { address, source }),
    }
}

/// The status line of the response to a request.
fn status(address: &str, path: &str) -> io::Result<String> {
    let deadline = Instant::now() + TIMEOUT;
    let mut stream = connect(address, deadline)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let mut buffer = [0; MAX_STATUS_BYTES];
    while head.len() < MAX_STATUS_BYTES && !head.contains(&b'\n') {
        stream.set_read_timeout(Some(remaining(deadline)?))?;
        match stream.read(&mut buffer)? {
            0 => break,
            count => head.extend(buffer.iter().take(count)),
        }
    }
    if head.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let head = String::from_utf8_lossy(&head);
    Ok(head.lines().next().unwrap_or_default().to_owned())
}

fn connect(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, remaining(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(remaining) }
}
