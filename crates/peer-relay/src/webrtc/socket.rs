//! The UDP socket of one connection, and which datagrams pass it.
//!
//! Anyone who asks by STUN, and knows the password, is answered; that proves the address that the
//! question came from. Only to such addresses anything else is sent, and only from there it is
//! taken. So nobody can make this side send to an address at which nobody asked for it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use bytes::BytesMut;
use tokio::net::UdpSocket;

use super::connection::Connection;

/// The longest datagram. WebRTC's are shorter than what an Ethernet frame holds.
const MAX_DATAGRAM_BYTES: usize = 2048;

/// How many addresses of the other side are remembered: it may have several, and change them.
const MAX_PROVED: usize = 8;

/// A socket, and the addresses that have been proved.
pub(crate) struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    proved: Vec<SocketAddr>,
    buffer: Box<[u8; MAX_DATAGRAM_BYTES]>,
}

impl Socket {
    /// Binds a free port at this address; at all addresses where it is not one of this machine, as
    /// behind a translation of addresses.
    ///
    /// # Errors
    /// If there is no port to be had.
    pub(crate) async fn bind(address: IpAddr) -> io::Result<Self> {
        let socket = match UdpSocket::bind((address, 0)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                let all: IpAddr = match address {
                    IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                UdpSocket::bind((all, 0)).await?
            }
            bound => bound?,
        };
        let local = SocketAddr::new(address, socket.local_addr()?.port());
        Ok(Self { socket, local, proved: Vec::new(), buffer: Box::new([0; MAX_DATAGRAM_BYTES]) })
    }

    /// The address that others are told.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// The address that was proved last.
    pub(crate) fn other(&self) -> Option<SocketAddr> {
        self.proved.last().copied()
    }

    /// Hands the next datagram to the connection, and sends what that leads to. Gives its length.
    ///
    /// # Errors
    /// If the socket cannot be read.
    pub(crate) async fn read(&mut self, connection: &mut Connection) -> io::Result<usize> {
        loop {
            let (length, from) = match self.socket.recv_from(&mut self.buffer[..]).await {
                Ok(received) => received,
                // A datagram sent before met a closed port.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            };
            let datagram = &self.buffer[..length];
            if is_stun(datagram) || self.proved.contains(&from) {
                connection.datagram_in(Instant::now(), from, datagram);
                self.write(connection, Some(from));
                return Ok(length);
            }
        }
    }

    /// Sends what the connection has to send. What finds no room is lost, as datagrams are.
    pub(crate) fn write(&mut self, connection: &mut Connection, asker: Option<SocketAddr>) {
        while let Some((to, datagram)) = connection.datagram_out() {
            if asker == Some(to) && is_stun_success(&datagram) && !self.proved.contains(&to) {
                if self.proved.len() == MAX_PROVED {
                    self.proved.remove(0);
                }
                self.proved.push(to);
            }
            // Not even who asked without the password is told so.
            if self.proved.contains(&to) {
                // Lost datagrams are sent again by those who need it.
                let _ = self.socket.try_send_to(&datagram, to);
            } else {
                tracing::debug!(%to, "a datagram to an address that is not proved was dropped");
            }
        }
    }
}

/// Whether a datagram is one of STUN (RFC 7983).
fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first <= 3)
}

/// Whether it says that a question was a good one: a binding success response (RFC 8489).
fn is_stun_success(datagram: &BytesMut) -> bool {
    datagram.starts_with(&[0x01, 0x01])
}
