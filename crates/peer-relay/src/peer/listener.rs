//! Accepts channels where the peer listens by itself, without the broker's HTTP server.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{ChannelPermit, Inner};
use crate::channel::{self, ReadAhead};

/// How long a client may take to upgrade its connection.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after a failed accept, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the peer leaves.
pub(crate) async fn run(inner: Arc<Inner>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = inner.leaving.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => match inner.reserve() {
                Some(permit) => drop(inner.tasks.spawn(serve(inner.clone(), stream, permit))),
                None => inner.metrics.channel_ended("max_channels"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(inner: Arc<Inner>, stream: TcpStream, _permit: ChannelPermit) {
    // An option only: a connection that is gone already shows itself at the first read.
    let _ = stream.set_nodelay(true);
    let Ok(address) = stream.peer_addr() else { return };
    let Ok(link) = inner.links.open(stream, address) else { return };
    let handle = link.handle();
    let config = Some(channel::config());
    let upgraded = tokio_tungstenite::accept_async_with_config(ReadAhead::new(link), config);
    let upgraded = tokio::select! {
        upgraded = timeout(UPGRADE_TIMEOUT, upgraded) => upgraded,
        () = inner.stop.cancelled() => return,
    };
    if let Ok(Ok(socket)) = upgraded {
        inner.run(socket, handle, None).await;
    }
}
