//! One WebRTC channel, from the first signal to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, sleep_until, timeout};

use super::connection::{Connection, Event};
use super::description::Description;
use super::socket::Socket;
use super::{Negotiation, WebRtc};
use crate::overlay::channel::{self, Channel, End, Open, Out};
use crate::overlay::id::PeerId;
use crate::overlay::message::Message;
use crate::overlay::peer::{Inner, Seat};
use link::{BareLink, CloseReason};

/// How long it may take until the channel is open.
const PATIENCE: Duration = Duration::from_secs(20);

/// How much may be under way unconfirmed; the rest waits in the channel's queue.
const MAX_UNCONFIRMED_BYTES: usize = 256 * 1024;

/// Negotiates a channel, and runs it to its end.
pub(super) async fn run(inner: &Arc<Inner>, negotiation: Negotiation, offer: Option<Description>) {
    let Some(webrtc) = inner.webrtc() else { return };
    let id = negotiation.id;
    let negotiated = tokio::select! {
        negotiated = timeout(PATIENCE, negotiate(inner, webrtc, id, offer)) => negotiated.ok(),
        () = inner.left() => None,
    };
    webrtc.awaited().remove(&id);
    let Some((socket, connection)) = negotiated.flatten() else {
        tracing::debug!(peer = %id, "no WebRTC channel came of a negotiation");
        inner.dial_failed();
        return inner.membership().unreachable(Instant::now(), id);
    };
    let Negotiation { seat, permit, .. } = negotiation;
    drop(permit);
    serve(inner, webrtc.write_timeout, (socket, connection), id, seat).await;
}

/// Comes as far as an open channel.
async fn negotiate(
    inner: &Arc<Inner>,
    webrtc: &WebRtc,
    id: PeerId,
    offer: Option<Description>,
) -> Option<(Socket, Connection)> {
    let mut socket = Socket::bind(webrtc.address).await.ok()?;
    let (now, local) = (Instant::now(), socket.local());
    let mut connection = match offer {
        Some(offer) => {
            let answered = Connection::answer(now, &webrtc.identity, local, &offer);
            let (connection, sdp) = answered.inspect_err(|error| note(id, error)).ok()?;
            inner.send_signal(id, "answer", &sdp);
            connection
        }
        None => {
            let offered = Connection::offer(now, &webrtc.identity, local);
            let (mut connection, sdp) = offered.inspect_err(|error| note(id, error)).ok()?;
            let (sender, answer) = oneshot::channel();
            webrtc.awaited().insert(id, sender);
            inner.send_signal(id, "offer", &sdp);
            let answer = answer.await.ok()?;
            let taken = connection.take_answer(Instant::now(), &answer);
            taken.inspect_err(|error| note(id, error)).ok()?;
            connection
        }
    };
    let first = next(&mut socket, &mut connection).await?;
    matches!(first, Event::Open).then_some((socket, connection))
}

fn note(id: PeerId, error: &impl std::fmt::Display) {
    tracing::debug!(peer = %id, %error, "a WebRTC connection could not be made");
}

/// The next event of a connection; `None` if it cannot go on. Nothing is lost if it is dropped.
async fn next(socket: &mut Socket, connection: &mut Connection) -> Option<Event> {
    loop {
        socket.write(connection, None);
        if let Some(event) = connection.event() {
            return Some(event);
        }
        step(socket, connection).await?;
    }
}

/// Waits for a datagram, or for the time that the connection waits for.
async fn step(socket: &mut Socket, connection: &mut Connection) -> Option<usize> {
    let Some(deadline) = connection.deadline() else {
        return socket.read(connection).await.ok();
    };
    tokio::select! {
        read = socket.read(connection) => return read.ok(),
        () = sleep_until(deadline.into()) => {}
    }
    connection.time_passed(Instant::now()).ok()?;
    Some(0)
}

/// A channel that is open.
async fn serve(
    inner: &Arc<Inner>,
    write_timeout: Duration,
    (mut socket, mut connection): (Socket, Connection),
    id: PeerId,
    _seat: Seat,
) {
    let Some(address) = socket.other() else { return };
    let Some(link) = inner.links().open_bare(address) else { return };
    let opened = channel::open(inner, link.handle(), id);
    let end = match opened {
        None => End::Duplicate,
        Some(Open { channel, waiting, is_spare }) => {
            let mut line =
                Line { inner, socket: &mut socket, connection: &mut connection, link: &link };
            tokio::select! {
                end = line.exchange(&channel, waiting, write_timeout) => end,
                end = channel::wait_for_place(inner, &channel), if is_spare => end,
                () = inner.stopped() => End::Stopped,
            }
        }
    };
    connection.close();
    socket.write(&mut connection, None);
    let mut reason = end.label();
    if end == End::Link {
        link.handle().kill(CloseReason::PeerClosed);
        reason = link.handle().reason().map_or(reason, CloseReason::label);
    }
    inner.ended(link.handle(), Some(id), reason);
}

/// A channel's connection while it is open.
struct Line<'a> {
    inner: &'a Arc<Inner>,
    socket: &'a mut Socket,
    connection: &'a mut Connection,
    link: &'a BareLink,
}

impl Line<'_> {
    /// Reads and writes until the end.
    async fn exchange(
        &mut self,
        channel: &Channel,
        mut waiting: mpsc::Receiver<Out>,
        write_timeout: Duration,
    ) -> End {
        let handle = self.link.handle();
        let (mut unconfirmed, mut confirmed_at) = (0, Instant::now());
        let mut closing_until: Option<Instant> = None;
        loop {
            self.socket.write(self.connection, None);
            while let Some(event) = self.connection.event() {
                if let Err(end) = self.take(channel, event).await {
                    return end;
                }
            }
            let before = std::mem::replace(&mut unconfirmed, self.connection.unconfirmed());
            if unconfirmed == 0 || unconfirmed < before {
                confirmed_at = Instant::now();
            }
            if unconfirmed > 0 && confirmed_at.elapsed() >= write_timeout {
                handle.kill(CloseReason::WriteTimeout);
                return End::Link;
            }
            if closing_until.is_none() && handle.is_closed() {
                closing_until = Some(Instant::now() + channel::FAREWELL_TIMEOUT);
            }
            let is_written = unconfirmed == 0 && waiting.is_empty();
            if closing_until.is_some_and(|until| is_written || Instant::now() >= until) {
                return End::Link;
            }
            let look_again = closing_until.unwrap_or(confirmed_at + write_timeout);
            let has_limit = closing_until.is_some() || unconfirmed > 0;
            tokio::select! {
                out = waiting.recv(), if unconfirmed < MAX_UNCONFIRMED_BYTES => {
                    // The channel itself keeps a sender: there is always one. Pings are for
                    // WebSockets; here ICE asks for signs of life.
                    if let Some(Out::Frame(frame, permit)) = out {
                        let sent = self.connection.send(Instant::now(), &frame);
                        drop(permit);
                        if sent.is_err() {
                            return End::Link;
                        }
                    }
                }
                read = step(self.socket, self.connection) => match read {
                    Some(bytes) => handle.record_received(bytes),
                    None => return End::Link,
                },
                () = handle.closed(), if closing_until.is_none() => {}
                () = sleep_until(look_again.into()), if has_limit => {}
            }
        }
    }

    async fn take(&mut self, channel: &Channel, event: Event) -> Result<(), End> {
        let message = match event {
            Event::Open => return Ok(()),
            Event::Over => return Err(End::Link),
            Event::Odd => return Err(End::Malformed),
            Event::Message(message) => message,
        };
        let text = std::str::from_utf8(&message).map_err(|_| End::Malformed)?;
        let message = Message::parse(text)?;
        if self.inner.receive(channel, message) {
            sleep(channel::CROWDED_PAUSE).await;
        }
        Ok(())
    }
}
