//! One channel to another peer: a WebSocket, whichever side opened it.
//!
//! Both sides send their ID at once; every later frame is a message. Below it is a [`Link`], for
//! accepted and dialed channels alike, so that all have the same deadlines, limits and end. What
//! waits to be written holds a permit of the link; a message that gets none is dropped, never
//! waited for: one slow peer must not slow down the others.
//!
//! [`Link`]: link::Link

mod end;
mod read_ahead;

pub(super) use end::End;
pub(super) use read_ahead::ReadAhead;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Utf8Bytes};

use super::fate::Fate;
use super::id::PeerId;
use super::message::{self, MAX_FRAME_BYTES, Message};
use super::peer::Inner;
use link::{CloseReason, LinkHandle, SendError, SendPermit};

/// How long the other side may take to send its ID.
const ID_TIMEOUT: Duration = Duration::from_secs(10);

/// The time between two questions for a sign of life, and how long an answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The same where another channel says that it is to the same peer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the other side may take to close one of two channels.
const SPARE_PATIENCE: Duration = Duration::from_secs(6);

/// How long a farewell may take.
pub(super) const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Places for messages that wait to be written; the link limits their bytes.
const QUEUE_PLACES: usize = 4096;

/// How many messages are written in one go.
const BATCH: usize = 64;

/// The pause of a sender whose message found a queue half full: enough for a receiver that
/// reads to catch up, and little for those who share the sender's channel.
pub(super) const CROWDED_PAUSE: Duration = Duration::from_millis(1);

type Socket<S> = WebSocketStream<S>;

/// What the rest of the peer holds of a channel.
#[derive(Clone, Debug)]
pub(super) struct Channel(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: PeerId,
    link: LinkHandle,
    queue: mpsc::Sender<Out>,
    probe: Notify,
    /// Told when a ping has been written.
    pinged: Notify,
}

/// What waits to be written.
#[derive(Debug)]
pub(super) enum Out {
    /// The permit is dropped when the frame has been written.
    Frame(Utf8Bytes, SendPermit),
    Ping,
}

/// A channel that has its place.
pub(super) struct Open {
    pub(super) channel: Channel,
    /// What is queued on it.
    pub(super) waiting: mpsc::Receiver<Out>,
    /// Whether it is the second one to its peer.
    pub(super) is_spare: bool,
}

impl PartialEq for Channel {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Channel {
    /// The peer at the other side.
    pub(super) fn id(&self) -> PeerId {
        self.0.id
    }

    /// Queues a frame.
    pub(super) fn send(&self, frame: Utf8Bytes) -> Fate {
        let permit = match self.0.link.reserve(frame.len()) {
            Ok(permit) => permit,
            Err(SendError::QueueFull) => return Fate::QueueFull,
            Err(SendError::Closed) => return Fate::Closing,
        };
        match self.0.queue.try_send(Out::Frame(frame, permit)) {
            Ok(()) => Fate::Relayed,
            Err(mpsc::error::TrySendError::Full(_)) => Fate::QueueFull,
            Err(mpsc::error::TrySendError::Closed(_)) => Fate::Closing,
        }
    }

    /// Whether its queue is half full.
    pub(super) fn is_crowded(&self) -> bool {
        self.0.queue.capacity() < QUEUE_PLACES / 2 || self.0.link.is_half_full()
    }

    /// Asks the other side for a sign of life, soon.
    pub(super) fn probe(&self) {
        self.0.probe.notify_one();
    }

    /// Closes the channel after what is queued.
    pub(super) fn close(&self, reason: CloseReason) {
        self.0.link.close(reason);
    }
}

/// The settings of every WebSocket here.
pub(super) fn socket_config() -> WebSocketConfig {
    // Small buffers: most channels are idle, and what is below reads ahead.
    WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(16 * 1024)
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES))
}

/// Runs a channel to its end. Gives the ID of the other side, if it sent one, and the reason.
pub(super) async fn run<S>(
    peer: &Arc<Inner>,
    mut socket: Socket<S>,
    link: LinkHandle,
    expected: Option<PeerId>,
) -> (Option<PeerId>, End)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let greeted = tokio::select! {
        greeted = timeout(ID_TIMEOUT, greet(&mut socket, peer.own())) => greeted,
        () = peer.left() => return (None, End::Stopped),
    };
    let id = match greeted.unwrap_or(Err(End::NoId)) {
        Ok(id) => id,
        Err(end) => return (None, leave(peer, socket, &link, None, end).await),
    };
    let end = if id == peer.own() {
        End::OwnId
    } else if expected.is_some_and(|expected| expected != id) {
        End::WrongId
    } else {
        serve(peer, &mut socket, &link, id).await
    };
    (Some(id), leave(peer, socket, &link, Some(id), end).await)
}

/// Both sides send their ID at once, without waiting for the other's.
async fn greet<S>(socket: &mut Socket<S>, own: PeerId) -> Result<PeerId, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket.send(tungstenite::Message::text(message::id_frame(&own))).await?;
    while let Some(frame) = socket.next().await {
        match frame? {
            tungstenite::Message::Text(text) => {
                return message::parse_id_frame(&text).map_err(|_| End::NoId);
            }
            tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_) => {}
            _ => return Err(End::NoId),
        }
    }
    Err(End::Link)
}

/// Makes a channel of a link whose other side is known; `None` if it has to be closed.
pub(super) fn open(peer: &Arc<Inner>, link: &LinkHandle, id: PeerId) -> Option<Open> {
    let (queue, waiting) = mpsc::channel(QUEUE_PLACES);
    let channel = Channel(Arc::new(Shared {
        id,
        link: link.clone(),
        queue,
        probe: Notify::new(),
        pinged: Notify::new(),
    }));
    // Whatever ends the link takes the peer out of the table at once.
    let entry = Entry { peer: peer.clone(), channel: channel.clone() };
    let is_spare = peer.open(&channel)?;
    link.on_close(move |_| drop(entry));
    Some(Open { channel, waiting, is_spare })
}

/// A channel whose other side is known.
async fn serve<S>(peer: &Arc<Inner>, socket: &mut Socket<S>, link: &LinkHandle, id: PeerId) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(Open { channel, waiting, is_spare }) = open(peer, link, id) else {
        return End::Duplicate;
    };
    let (mut sink, mut stream) = socket.split();
    tokio::select! {
        end = read(peer, &channel, &mut stream) => end,
        end = write(&channel, waiting, &mut sink) => end,
        end = keep_alive(&channel) => end,
        end = wait_for_place(peer, &channel), if is_spare => end,
        () = peer.stopped() => End::Stopped,
    }
}

/// A channel's entry in the table; given up when dropped.
struct Entry {
    peer: Arc<Inner>,
    channel: Channel,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.peer.close(&self.channel);
    }
}

async fn read(
    peer: &Arc<Inner>,
    channel: &Channel,
    stream: &mut (impl StreamExt<Item = Result<tungstenite::Message, Error>> + Unpin),
) -> End {
    while let Some(frame) = stream.next().await {
        let text = match frame {
            Ok(tungstenite::Message::Text(text)) => text,
            Ok(tungstenite::Message::Binary(_)) => return End::Malformed,
            Ok(_) => continue,
            Err(error) => return error.into(),
        };
        match Message::parse(&text) {
            Ok(message) => {
                if peer.receive(channel, message) {
                    sleep(CROWDED_PAUSE).await;
                }
            }
            Err(malformed) => return malformed.into(),
        }
    }
    End::Link
}

async fn write(
    channel: &Channel,
    mut waiting: mpsc::Receiver<Out>,
    sink: &mut (impl SinkExt<tungstenite::Message, Error = Error> + Unpin),
) -> End {
    let mut batch = Vec::new();
    loop {
        // The channel itself keeps a sender: there is always one.
        waiting.recv_many(&mut batch, BATCH).await;
        let mut permits = Vec::with_capacity(batch.len());
        let mut has_ping = false;
        for out in batch.drain(..) {
            let frame = match out {
                Out::Frame(text, permit) => {
                    permits.push(permit);
                    tungstenite::Message::Text(text)
                }
                Out::Ping => {
                    has_ping = true;
                    tungstenite::Message::Ping(Default::default())
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

/// Asks for signs of life; any byte is one.
async fn keep_alive(channel: &Channel) -> End {
    let link = &channel.0.link;
    loop {
        let before = link.traffic().0;
        let patience = tokio::select! {
            () = sleep(PING_INTERVAL) => PING_TIMEOUT,
            () = channel.0.probe.notified() => PROBE_TIMEOUT,
        };
        // A regular question is only for those who said nothing since the last one.
        if patience == PING_TIMEOUT && link.traffic().0 != before {
            continue;
        }
        let before = link.traffic().0;
        if channel.0.queue.try_send(Out::Ping).is_err() {
            // Full: the other side reads, or the write deadline ends the channel.
            continue;
        }
        // It stands behind what is queued, which a slow but living peer may take a while to read.
        channel.0.pinged.notified().await;
        sleep(patience).await;
        if link.traffic().0 == before {
            return End::Silent;
        }
    }
}

/// Waits until a second channel is the only one, but not for long.
pub(super) async fn wait_for_place(peer: &Arc<Inner>, channel: &Channel) -> End {
    tokio::select! {
        () = sleep(SPARE_PATIENCE) => {}
        () = peer.left() => {}
    }
    if !peer.is_in_table(channel) {
        return End::Duplicate;
    }
    std::future::pending().await
}

/// Ends a channel, and tells the other side if it was at fault.
async fn leave<S>(
    peer: &Inner,
    mut socket: Socket<S>,
    link: &LinkHandle,
    id: Option<PeerId>,
    end: End,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut reason = end.label();
    if end == End::Link {
        // Where the link knows a reason already, that one counts.
        link.kill(CloseReason::PeerClosed);
        reason = link.reason().map_or(reason, CloseReason::label);
    } else {
        let close = CloseFrame { code: CloseCode::Policy, reason: Utf8Bytes::from_static(reason) };
        // It may not listen any more.
        let _ = timeout(FAREWELL_TIMEOUT, socket.close(Some(close))).await;
        link.kill(CloseReason::Transport);
    }
    peer.ended(link, id, reason);
    end
}
