//! Accepts channels where the peer listens by itself, without the broker's HTTP server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::addresses::AddressPermit;
use super::{ChannelPermit, Inner};
use crate::channel;

/// How long a client may take to upgrade its connection.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after a failed accept, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The response to a client that is not served.
const UNAVAILABLE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// What a connection holds.
type Permits = (AddressPermit, ChannelPermit);

/// Accepts connections until the peer leaves.
pub(crate) async fn run(inner: Arc<Inner>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = inner.leaving.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => match inner.permits(address.ip()) {
                Ok(permits) => drop(inner.tasks.spawn(serve(inner.clone(), stream, permits))),
                Err(cause) => {
                    inner.metrics.channel_ended(cause);
                    // Nobody waits for a client that is not served.
                    let _ = stream.try_write(UNAVAILABLE);
                }
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Inner {
    /// Returns what a connection of this address has to hold, or why there is none.
    fn permits(&self, address: IpAddr) -> Result<Permits, &'static str> {
        let of_address = self.addresses.connect(address, self.max_channels_per_address);
        let of_address = of_address.ok_or("max_channels_per_address")?;
        Ok((of_address, self.reserve().ok_or("max_channels")?))
    }
}

async fn serve(inner: Arc<Inner>, stream: TcpStream, _permits: Permits) {
    // An option only: a connection that is gone already shows itself at the first read.
    let _ = stream.set_nodelay(true);
    let Ok(address) = stream.peer_addr() else { return };
    let Ok(link) = inner.links.open(stream, address) else { return };
    let handle = link.handle();
    let config = Some(channel::config(inner.max_message_bytes));
    let upgraded = tokio_tungstenite::accept_async_with_config(link, config);
    let upgraded = tokio::select! {
        upgraded = timeout(UPGRADE_TIMEOUT, upgraded) => upgraded,
        () = inner.stop.cancelled() => return,
    };
    if let Ok(Ok(mut socket)) = upgraded {
        // From here on the link knows messages: it limits their time, and reads a burst at once.
        // Nothing has come behind the request: the handshake fails if a client does not wait.
        socket.get_mut().upgrade_without_connect(Bytes::new());
        handle.admit();
        inner.run(socket, handle, None).await;
    }
}
