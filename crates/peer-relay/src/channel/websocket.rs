//! A channel that is a WebSocket: its frames, its heartbeat and its close handshake.

use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};

use super::{CLOSE_TIMEOUT, Channel, End, Outgoing};
use crate::id::PeerId;
use crate::message::{self, Message};

/// The longest time that the other side may take to send its ID.
const ID_TIMEOUT: Duration = Duration::from_secs(10);

/// The time between two pings, and how long a reply may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a reply may take while another channel says that it is to the same peer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The most frames in one write.
const MAX_BATCH: usize = 64;

/// The settings of a WebSocket whose messages have at most so many bytes.
pub(crate) fn config(max_message_bytes: usize) -> WebSocketConfig {
    // Small buffers: most channels are idle, and the stream below reads ahead.
    WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(16 * 1024)
        .max_message_size(Some(max_message_bytes))
        .max_frame_size(Some(max_message_bytes))
}

/// Sends the own ID and returns that of the other side. Neither side waits for the other's.
pub(crate) async fn exchange_ids<S>(
    socket: &mut WebSocketStream<S>,
    own: PeerId,
) -> Result<PeerId, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let exchange = async {
        socket.send(Frame::text(message::id_frame(&own))).await?;
        while let Some(frame) = socket.next().await {
            match frame? {
                Frame::Text(text) => {
                    return message::parse_id_frame(&text).map_err(|_| End::NoId);
                }
                Frame::Binary(bytes) => {
                    let text = str::from_utf8(&bytes).map_err(|_| End::NoId)?;
                    return message::parse_id_frame(text).map_err(|_| End::NoId);
                }
                Frame::Ping(_) | Frame::Pong(_) => {}
                _ => return Err(End::NoId),
            }
        }
        Err(End::Link)
    };
    timeout(ID_TIMEOUT, exchange).await.unwrap_or(Err(End::NoId))
}

/// Returns the next message, or why there is none.
pub(crate) async fn next_message(
    stream: &mut (impl Stream<Item = Result<Frame, Error>> + Unpin),
) -> Result<Message, End> {
    while let Some(frame) = stream.next().await {
        match frame? {
            Frame::Text(text) => return Ok(Message::parse(&text)?),
            // The original reads JSON from them too.
            Frame::Binary(bytes) => {
                let text = str::from_utf8(&bytes).map_err(|_| End::Malformed)?;
                return Ok(Message::parse(text)?);
            }
            _ => {}
        }
    }
    Err(End::Link)
}

/// Writes what is queued until that fails.
pub(crate) async fn write(
    channel: &Channel,
    mut queued: mpsc::Receiver<Outgoing>,
    sink: &mut (impl Sink<Frame, Error = Error> + Unpin),
) -> End {
    let mut batch = Vec::new();
    loop {
        // The channel itself keeps a sender: there is always one.
        queued.recv_many(&mut batch, MAX_BATCH).await;
        let mut permits = Vec::with_capacity(batch.len());
        let mut has_ping = false;
        for outgoing in batch.drain(..) {
            let frame = match outgoing {
                Outgoing::Frame(text, permit) => {
                    permits.push(permit);
                    Frame::Text(text)
                }
                Outgoing::Ping => {
                    has_ping = true;
                    Frame::Ping(Default::default())
                }
            };
            if let Err(error) = sink.feed(frame).await {
                return error.into();
            }
        }
        let flushed = sink.flush().await;
        // Only now: a closing link waits for it.
        drop(permits);
        if let Err(error) = flushed {
            return error.into();
        }
        if has_ping {
            channel.0.pinged.notify_one();
        }
    }
}

/// Pings the other side while it is silent, and returns when it does not reply. Any byte counts as
/// a reply.
pub(crate) async fn keep_alive(channel: &Channel) -> End {
    let link = &channel.0.link;
    loop {
        let before = link.traffic().0;
        let reply_timeout = tokio::select! {
            () = sleep(PING_INTERVAL) => PING_TIMEOUT,
            () = channel.0.probe.notified() => PROBE_TIMEOUT,
        };
        // A peer that sent something since the last ping needs none.
        if reply_timeout == PING_TIMEOUT && link.traffic().0 != before {
            continue;
        }
        let before = link.traffic().0;
        if channel.0.queue.try_send(Outgoing::Ping).is_err() {
            // Full: the other side reads, or the write timeout ends the channel.
            continue;
        }
        // The ping is behind what is queued, which a slow but living peer may take a while to read.
        channel.0.pinged.notified().await;
        sleep(reply_timeout).await;
        if link.traffic().0 == before {
            return End::Unresponsive;
        }
    }
}

/// Tells the other side why its channel ends. It may not listen any more.
pub(crate) async fn close<S>(socket: &mut WebSocketStream<S>, end: End)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reason = Utf8Bytes::from_static(end.label());
    let frame = CloseFrame { code: CloseCode::Policy, reason };
    let _ = timeout(CLOSE_TIMEOUT, socket.close(Some(frame))).await;
}
