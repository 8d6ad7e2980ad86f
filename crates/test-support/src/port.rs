//! Ports that stay with their owner, also while nobody listens there.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::SOON;

/// A port of the loopback address, for a server that may end and come back.
///
/// A bound socket that never listens keeps it: the system gives the port to nobody who asks for any
/// free one, nor to an outgoing connection, while a server that asks for this one gets it.
pub struct Port {
    socket: Socket,
}

impl Port {
    pub fn free() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self { socket }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap().as_socket().unwrap()
    }

    pub fn number(&self) -> u16 {
        self.address().port()
    }

    /// Listens there in this process.
    pub async fn listen(&self) -> TcpListener {
        let began = Instant::now();
        loop {
            match std::net::TcpListener::bind(self.address()) {
                Ok(listener) => {
                    listener.set_nonblocking(true).unwrap();
                    return TcpListener::from_std(listener).unwrap();
                }
                // A process that is just being started still has a copy of the listener before.
                Err(error) if error.kind() == ErrorKind::AddrInUse && began.elapsed() < SOON => {
                    sleep(Duration::from_millis(1)).await;
                }
                Err(error) => panic!("{}: {error}", self.address()),
            }
        }
    }
}
