//! `crolang-broker health`: asks a running broker, or peer, whether it lives. Images without a shell
//! have nothing else for a health check.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command};
use crolang_broker::{Config, Host};
use url::Url;

#[path = "health/process.rs"]
mod process;
#[path = "health/tls.rs"]
mod tls;

/// The command's name.
pub(super) const NAME: &str = "health";

/// How long connecting and the response may take together.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The start of a response is enough: its status line.
const MAX_STATUS_BYTES: usize = 64;

/// How a connection ends that a peer closes.
const CLOSED: [io::ErrorKind; 2] = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];

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
             answers, or closes the connection. With TLS any certificate will do: nothing is sent \
             that others may not read. A broker that wants a certificate of its client is healthy \
             if it says so.",
        )
        .arg(
            Arg::new("url")
                .value_name("URL")
                .help("What to ask, such as http://127.0.0.1:8080/readyz")
                .value_parser(parse),
        )
}

fn parse(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| "neither an http nor an https URL".into())
}

/// Asks once.
pub(super) fn check(config: &Config, arguments: &ArgMatches) -> Result<(), HealthError> {
    if let Some(url) = arguments.get_one::<Url>("url") {
        return expect_ok(&Target::of_url(url)?, url.path());
    }
    let has_tls = |port| {
        let plain = [config.internal_addr, config.metrics_addr, config.api_addr];
        let mut plain = plain.into_iter().flatten();
        config.listener.tls.is_some() && !plain.any(|plain| plain.port() == port)
    };
    let listening_at = |address: SocketAddr| Target {
        has_tls: has_tls(address.port()),
        ..Target::listening_at(address)
    };
    match process::first() {
        Some(process) if process.is_peer => process.addresses.iter().try_for_each(|address| {
            let target = Target::listening_at(*address);
            match target.status("/") {
                // What is no WebSocket is closed without a response, by a process that lives.
                Err(error) if !CLOSED.contains(&error.kind()) => Err(target.unreachable(error)),
                _ => Ok(()),
            }
        }),
        Some(process) if !process.addresses.is_empty() => process
            .addresses
            .iter()
            .try_for_each(|address| expect_ok(&listening_at(*address), "/health")),
        _ if config.port == 0 => Err(HealthError::NoAddress),
        _ => {
            let named = match &config.host {
                Host::Address(ip) => Ok(listening_at(SocketAddr::new(*ip, config.port))),
                Host::Name(name) => {
                    Target::named(format!("{name}:{}", config.port), has_tls(config.port))
                }
            };
            // A name without addresses means all of this machine's.
            let all = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), config.port);
            expect_ok(&named.unwrap_or_else(|_| listening_at(all)), "/health")
        }
    }
}

fn expect_ok(target: &Target, path: &str) -> Result<(), HealthError> {
    match target.status(path) {
        Err(error) if tls::wants_certificate(&error) => Ok(()),
        Ok(status) if status.split(' ').nth(1) == Some("200") => Ok(()),
        Ok(status) => Err(HealthError::Unhealthy { address: target.name.clone(), status }),
        Err(source) => Err(target.unreachable(source)),
    }
}

/// A server to ask.
struct Target {
    /// Its host and port.
    name: String,
    /// Where it may be reached, in the order to try.
    addresses: Vec<SocketAddr>,
    /// Whether it speaks TLS.
    has_tls: bool,
}

impl Target {
    fn of_url(url: &Url) -> Result<Self, HealthError> {
        let host = url.host_str().ok_or_else(|| HealthError::NoHost(url.clone()))?;
        let name = format!("{host}:{}", url.port_or_known_default().unwrap_or(80));
        Self::named(name, url.scheme() == "https")
    }

    fn named(name: String, has_tls: bool) -> Result<Self, HealthError> {
        match name.to_socket_addrs() {
            Ok(addresses) => Ok(Self { addresses: addresses.collect(), name, has_tls }),
            Err(source) => Err(HealthError::Unreachable { address: name, source }),
        }
    }

    /// A server on this machine. One that listens on all addresses of IPv6 has those of IPv4 too, and
    /// may have only those: containers often have no IPv6 address at all.
    fn listening_at(address: SocketAddr) -> Self {
        let port = address.port();
        let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        let hosts = match address.ip() {
            ip if !ip.is_unspecified() => vec![ip],
            IpAddr::V4(_) => vec![v4],
            IpAddr::V6(_) => vec![v4, v6],
        };
        let addresses = hosts.into_iter().map(|host| SocketAddr::new(host, port)).collect();
        Self { name: address.to_string(), addresses, has_tls: false }
    }

    fn unreachable(&self, source: io::Error) -> HealthError {
        HealthError::Unreachable { address: self.name.clone(), source }
    }

    /// The status line of the response to a request.
    fn status(&self, path: &str) -> io::Result<String> {
        let deadline = Instant::now() + TIMEOUT;
        let stream = Deadlined { stream: self.connect(deadline)?, deadline };
        if self.has_tls {
            return self.status_over(tls::client(stream)?, path);
        }
        self.status_over(stream, path)
    }

    fn status_over(&self, mut stream: impl Read + Write, path: &str) -> io::Result<String> {
        let host = &self.name;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        let mut buffer = [0; MAX_STATUS_BYTES];
        while head.len() < MAX_STATUS_BYTES && !head.contains(&b'\n') {
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

    fn connect(&self, deadline: Instant) -> io::Result<TcpStream> {
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in &self.addresses {
            match TcpStream::connect_timeout(address, remaining(deadline)?) {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// A connection on which everything together takes no longer than the deadline.
struct Deadlined {
    stream: TcpStream,
    deadline: Instant,
}

impl Read for Deadlined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(remaining(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Deadlined {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(remaining(self.deadline)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(remaining) }
}
