//! A datagram socket over a peer, with the calls of [`tokio::net::UdpSocket`].
//!
//! The messages are those of the npm package's `PeerRelay.Socket`: the content, and the sender's
//! port and ID to answer to. A datagram's own port is not part of them; every socket of the
//! receiving peer gets every datagram.

use std::io;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::id::PeerId;
use super::message::Buffer;
use super::peer::{Events, Peer, PeerEvent, PeerSettings, SendError};

/// The longest datagram, in bytes: each takes up to four characters in a message.
pub const MAX_DATAGRAM_BYTES: usize = 15_000;

/// Random ports are below this, as the original's are.
const RANDOM_PORTS: u16 = 9999;

/// Where a datagram comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerAddr {
    /// The peer.
    pub id: PeerId,
    /// The port of its socket.
    pub port: u16,
}

/// A datagram socket in a peer-relay network. Datagrams may be lost, repeated by nobody, and
/// overtake each other; whom they are from is what they say.
///
/// ```
/// use peer_relay::{PeerSettings, PeerSocket};
///
/// # #[tokio::main]
/// # async fn main() -> std::io::Result<()> {
/// let listening = PeerSettings { listen: Some(([127, 0, 0, 1], 0).into()), ..Default::default() };
/// let hub = PeerSocket::bind(listening, 7).await?;
/// let url = format!("ws://{}", hub.peer().local_addr().expect("it listens"));
/// let bootstrap = vec![url.parse().expect("a URL")];
/// let leaf = PeerSocket::bind(PeerSettings { bootstrap, ..Default::default() }, 0).await?;
///
/// leaf.send_to(b"ping", 7, hub.local_addr()?.id).await?;
/// let mut buffer = [0; 1500];
/// let (length, sender) = hub.recv_from(&mut buffer).await?;
/// assert_eq!((&buffer[..length], sender), (&b"ping"[..], leaf.local_addr()?));
/// hub.send_to(b"pong", sender.port, sender.id).await?;
/// let (length, _) = leaf.recv_from(&mut buffer).await?;
/// assert_eq!(&buffer[..length], b"pong");
/// # leaf.close().await;
/// # hub.close().await;
/// # Ok(())
/// # }
/// ```
pub struct PeerSocket {
    peer: Peer,
    port: u16,
    events: tokio::sync::Mutex<Events>,
    remote: Mutex<Option<PeerAddr>>,
}

/// A datagram as a message has it.
#[derive(Deserialize)]
struct Datagram {
    buffer: Bytes,
    port: u16,
}

impl PeerSocket {
    /// Starts a peer and binds a socket to it. Port 0 takes a random one.
    ///
    /// # Errors
    /// If the address in the settings cannot be listened on.
    pub async fn bind(settings: PeerSettings, port: u16) -> io::Result<Self> {
        Ok(Self::over(Peer::start(settings).await?, port))
    }

    /// Binds a socket to a peer that runs. Port 0 takes a random one.
    pub fn over(peer: Peer, port: u16) -> Self {
        let port = if port == 0 { rand::random_range(1..RANDOM_PORTS) } else { port };
        let events = tokio::sync::Mutex::new(peer.events());
        Self { peer, port, events, remote: Mutex::default() }
    }

    /// The peer below.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The address that others answer to.
    ///
    /// # Errors
    /// None; it is a result as in `UdpSocket`.
    pub fn local_addr(&self) -> io::Result<PeerAddr> {
        Ok(PeerAddr { id: self.peer.id(), port: self.port })
    }

    /// Sends a datagram. Nothing tells whether it arrives.
    ///
    /// # Errors
    /// `InvalidInput` if it is longer than [`MAX_DATAGRAM_BYTES`], `WouldBlock` if too many wait
    /// for the first neighbour, `NotConnected` if the peer has ended.
    pub async fn send_to(&self, buffer: &[u8], port: u16, id: PeerId) -> io::Result<usize> {
        // Not part of the message: see the module.
        let _ = port;
        #[derive(serde::Serialize)]
        struct Outgoing<'a> {
            buffer: Buffer<'a>,
            address: PeerId,
            port: u16,
        }
        if buffer.len() > MAX_DATAGRAM_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let outgoing =
            Outgoing { buffer: Buffer(buffer), address: self.peer.id(), port: self.port };
        match self.peer.send(id, &outgoing) {
            Ok(()) => Ok(buffer.len()),
            Err(error @ SendError::QueueFull) => {
                Err(io::Error::new(io::ErrorKind::WouldBlock, error))
            }
            Err(error @ SendError::Ended) => {
                Err(io::Error::new(io::ErrorKind::NotConnected, error))
            }
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        }
    }

    /// Receives a datagram; what does not fit the buffer is lost. After [`PeerSocket::connect`]
    /// only those of that peer.
    ///
    /// # Errors
    /// `NotConnected` once the peer has ended.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, PeerAddr)> {
        let mut events = self.events.lock().await;
        loop {
            let Some(event) = events.next().await else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            let PeerEvent::Message { from, data } = event else { continue };
            // Other messages than datagrams are somebody else's.
            let Ok(datagram) = serde_json::from_str::<Datagram>(data.get()) else { continue };
            let sender = PeerAddr { id: from, port: datagram.port };
            if self.remote().is_some_and(|remote| remote.id != sender.id) {
                continue;
            }
            let length = datagram.buffer.0.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram.buffer.0[..length]);
            return Ok((length, sender));
        }
    }

    /// Sets where [`PeerSocket::send`] sends to, and whose datagrams are received.
    ///
    /// # Errors
    /// None; it is a result as in `UdpSocket`.
    pub async fn connect(&self, port: u16, id: PeerId) -> io::Result<()> {
        *self.remote.lock().unwrap_or_else(PoisonError::into_inner) = Some(PeerAddr { id, port });
        Ok(())
    }

    /// Where this socket is connected to.
    ///
    /// # Errors
    /// `NotConnected` if it is not.
    pub fn peer_addr(&self) -> io::Result<PeerAddr> {
        self.remote().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Sends a datagram to where the socket is connected to.
    ///
    /// # Errors
    /// As [`PeerSocket::send_to`], and `NotConnected` if it is connected to nowhere.
    pub async fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        let remote = self.peer_addr()?;
        self.send_to(buffer, remote.port, remote.id).await
    }

    /// Receives a datagram from where the socket is connected to.
    ///
    /// # Errors
    /// As [`PeerSocket::recv_from`], and `NotConnected` if it is connected to nowhere.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.peer_addr()?;
        self.recv_from(buffer).await.map(|(length, _)| length)
    }

    /// Ends the socket and its peer in good order.
    pub async fn close(self) {
        self.peer.shutdown().await;
    }

    fn remote(&self) -> Option<PeerAddr> {
        *self.remote.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes in one of the forms that JavaScript makes a Buffer of: `{"type":"Buffer","data":[…]}`,
/// or an array.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyForm).map(Self)
    }
}

struct AnyForm;

impl<'de> Visitor<'de> for AnyForm {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<u8>, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(seq))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Vec<u8>, A::Error> {
        #[derive(Deserialize)]
        struct Fields {
            data: Vec<u8>,
        }
        Ok(Fields::deserialize(de::value::MapAccessDeserializer::new(map))?.data)
    }
}
