//! Opens listening sockets.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that wait to be accepted; all nodes may reconnect at the same time.
const BACKLOG: i32 = 4096;

/// Opens a listening socket. The unspecified IPv4 address stands for IPv6 too, where there is
/// any.
///
/// # Errors
/// Whatever the operating system says, most often that the port is taken.
pub(crate) fn bind(host: IpAddr, port: u16) -> io::Result<TcpListener> {
    if host.is_unspecified() && host.is_ipv4() {
        match bind_to((Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    bind_to((host, port).into())
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
