//! The way in: TCP, the upgrade, CONNECT, until the broker says `AUTHENTICATED`.

mod peers;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::connection::{Connection, Scratch};
use crate::frame::{self, FrameError, Opcode};
use crate::packet::Packet;
use crate::wrong::Wrong;

/// How long the way in may take: what the official client waits.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// The longest answer that is read if it is no upgrade, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// The brokers to connect to.
#[derive(Clone)]
pub struct Door {
    brokers: Vec<Broker>,
    scratch: Scratch,
}

#[derive(Clone)]
struct Broker {
    name: String,
    address: SocketAddr,
}

/// Why a node is not in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotIn {
    /// 503: it should retry.
    #[error("503 {0}")]
    TurnedAway(String),
    /// Refused for good, with this message; or an answer that is neither an upgrade nor a 503.
    #[error("refused: {0}")]
    Refused(String),
    /// The connection did not come about, broke, or nothing came in time.
    #[error("{0}")]
    Broken(String),
}

impl NotIn {
    /// What it is where every node should be in at its first try.
    pub fn wrong(&self) -> Wrong {
        match self {
            Self::TurnedAway(_) => Wrong::NotIn,
            Self::Refused(_) => Wrong::Refused,
            Self::Broken(_) => Wrong::NotConnected,
        }
    }
}

impl From<io::Error> for NotIn {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<FrameError> for NotIn {
    fn from(error: FrameError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl Door {
    /// The door of these brokers, each `host:port`.
    ///
    /// # Errors
    /// An address that cannot be resolved.
    pub async fn find(addresses: &[String]) -> io::Result<Self> {
        let mut brokers = Vec::new();
        for name in addresses {
            let wrong = |text: &str| io::Error::other(format!("{name}: {text}"));
            let mut found =
                tokio::net::lookup_host(name).await.map_err(|error| wrong(&error.to_string()))?;
            let address = found.next().ok_or_else(|| wrong("has no address"))?;
            brokers.push(Broker { name: name.clone(), address });
        }
        Ok(Self { brokers, scratch: Scratch::default() })
    }

    /// Lets the node with this ID in, at the broker with this place; places go round.
    ///
    /// # Errors
    /// See [`NotIn`].
    pub async fn enter(&self, place: usize, id: &str) -> Result<Connection, NotIn> {
        match tokio::time::timeout(TIMEOUT, self.try_enter(place, id)).await {
            Ok(entered) => entered,
            Err(_) => Err(NotIn::Broken("not connected in time".into())),
        }
    }

    async fn try_enter(&self, place: usize, id: &str) -> Result<Connection, NotIn> {
        let query = format!("EIO=4&transport=websocket&id={id}&version=1.0.0&runtime=LOAD");
        let mut entrance = self.upgrade(place, &format!("/socket.io/?{query}")).await?;
        entrance.authenticate().await?;
        Ok(self.connection(entrance))
    }

    /// Connects to the server with this place; places go round.
    ///
    /// # Errors
    /// [`NotIn::Broken`].
    pub async fn connect(&self, place: usize) -> Result<TcpStream, NotIn> {
        let stream = tokio::time::timeout(TIMEOUT, TcpStream::connect(self.at(place)?.address));
        let stream = stream.await.map_err(|_| NotIn::Broken("not connected in time".into()))??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// What the server with this place is called.
    pub fn name(&self, place: usize) -> &str {
        self.at(place).map_or("", |broker| &broker.name)
    }

    fn at(&self, place: usize) -> Result<&Broker, NotIn> {
        let broker = self.brokers.get(place % self.brokers.len().max(1));
        broker.ok_or_else(|| NotIn::Broken("no broker is named".into()))
    }

    /// Connects, and makes a WebSocket of it.
    async fn upgrade(&self, place: usize, target: &str) -> Result<Entrance, NotIn> {
        let (read, mut write) = self.connect(place).await?.into_split();
        // The key is the standard's own example: what it guards against, a cache that takes this
        // for an ordinary request, has no place in a measurement.
        let request = format!(
            "GET {target} HTTP/1.1\r\n\
             Host: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            self.name(place)
        );
        write.write_all(request.as_bytes()).await?;
        let mut entrance = Entrance { read, write, bytes: Vec::new() };
        entrance.upgrade().await?;
        Ok(entrance)
    }

    /// The connection of a node that is in.
    fn connection(&self, entrance: Entrance) -> Connection {
        let Entrance { read, write, bytes } = entrance;
        Connection::new(read, write, bytes, self.scratch.clone())
    }
}

/// A connection on its way in.
struct Entrance {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    /// What has been read and not been dealt with.
    bytes: Vec<u8>,
}

impl Entrance {
    /// Reads more; an end is an error, for nobody is in yet.
    async fn read(&mut self) -> Result<(), NotIn> {
        match self.read.read_buf(&mut self.bytes).await? {
            0 => Err(NotIn::Broken("closed on the way in".into())),
            _ => Ok(()),
        }
    }

    /// Reads the answer to the upgrade request.
    async fn upgrade(&mut self) -> Result<(), NotIn> {
        let end = loop {
            if let Some(place) = self.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break place + 4;
            }
            if self.bytes.len() > MAX_ANSWER_BYTES {
                return Err(NotIn::Refused("no answer in HTTP".into()));
            }
            self.read().await?;
        };
        let head = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        if status == "101" {
            self.bytes.drain(..end);
            return Ok(());
        }
        let length = content_length(&head).min(MAX_ANSWER_BYTES);
        while self.bytes.len() < end + length && self.read().await.is_ok() {}
        let body = String::from_utf8_lossy(&self.bytes[end..]).trim().to_owned();
        match status.as_str() {
            "503" => Err(NotIn::TurnedAway(body)),
            _ => Err(NotIn::Refused(format!("{status} {body}"))),
        }
    }

    /// Sends CONNECT and waits for the event that says that the node can be reached.
    async fn authenticate(&mut self) -> Result<(), NotIn> {
        loop {
            let Some((frame, taken)) = frame::parse(&self.bytes)? else {
                self.read().await?;
                continue;
            };
            let answer: Option<&[u8]> = match (frame.opcode, Packet::parse(frame.payload)) {
                (Opcode::Text, Packet::Open) => Some(b"40"),
                (Opcode::Text, Packet::Ping) => Some(b"3"),
                (Opcode::Text, Packet::Refused(reason)) => {
                    return Err(NotIn::Refused(message(reason)));
                }
                (Opcode::Text, Packet::Event(array))
                    if array.starts_with(b"[\"AUTHENTICATED\"") =>
                {
                    self.bytes.drain(..taken);
                    return Ok(());
                }
                (Opcode::Text, Packet::Close) | (Opcode::Close, _) => {
                    return Err(NotIn::Broken("closed on the way in".into()));
                }
                _ => None,
            };
            self.bytes.drain(..taken);
            if let Some(text) = answer {
                self.send(text).await?;
            }
        }
    }

    /// Sends a text frame.
    async fn send(&mut self, text: &[u8]) -> Result<(), NotIn> {
        let mut out = Vec::new();
        frame::write(Opcode::Text, text, &mut out);
        Ok(self.write.write_all(&out).await?)
    }
}

fn content_length(head: &str) -> usize {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

/// The `message` of a refusal.
fn message(reason: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(reason).ok();
    let message = value.as_ref().and_then(|value| value.get("message")?.as_str());
    message.map_or_else(|| String::from_utf8_lossy(reason).into_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_an_answer() {
        assert_eq!(content_length("HTTP/1.1 503 x\r\ncontent-LENGTH: 17\r\n\r\n"), 17);
        assert_eq!(content_length("HTTP/1.1 503 x\r\nContent-Length: many\r\n\r\n"), 0);
        assert_eq!(content_length("HTTP/1.1 503 x\r\n\r\n"), 0);
    }

    #[test]
    fn the_message_of_a_refusal() {
        assert_eq!(
            message(br#"{"message":"client already connected"}"#),
            "client already connected"
        );
        assert_eq!(message(b"{}"), "{}");
    }
}
