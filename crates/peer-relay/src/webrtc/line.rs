//! The connection of one WebRTC channel: first negotiated, then carrying messages.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::WebRtc;
use super::connection::{Connection, Event};
use super::description::Description;
use super::socket::Socket;
use crate::channel::{CLOSE_TIMEOUT, End, Outgoing};
use crate::message::Message;
use link::{CloseReason, LinkHandle};

/// The most bytes in flight that the other side has not acknowledged; the rest waits in the
/// channel's queue.
const MAX_UNACKNOWLEDGED_BYTES: usize = 256 * 1024;

/// A WebRTC connection and its UDP socket.
pub(crate) struct Line {
    socket: Socket,
    connection: Connection,
    write_timeout: Duration,
    unacknowledged: usize,
    acknowledged_at: Instant,
    closing_until: Option<Instant>,
}

impl Line {
    /// Offers a connection. Returns the description for the other side too.
    pub(crate) async fn offer(webrtc: &WebRtc) -> Option<(Self, String)> {
        let socket = Socket::bind(webrtc.address).await.ok()?;
        let offered = Connection::offer(Instant::now(), &webrtc.identity, socket.local());
        Self::new(webrtc, socket, offered)
    }

    /// Answers an offer. Returns the description for the other side too.
    pub(crate) async fn answer(webrtc: &WebRtc, offer: &Description) -> Option<(Self, String)> {
        let socket = Socket::bind(webrtc.address).await.ok()?;
        let answered = Connection::answer(Instant::now(), &webrtc.identity, socket.local(), offer);
        Self::new(webrtc, socket, answered)
    }

    fn new(
        webrtc: &WebRtc,
        socket: Socket,
        made: Result<(Connection, String), impl std::fmt::Display>,
    ) -> Option<(Self, String)> {
        let (connection, sdp) = made.inspect_err(log).ok()?;
        let line = Self {
            socket,
            connection,
            write_timeout: webrtc.write_timeout,
            unacknowledged: 0,
            acknowledged_at: Instant::now(),
            closing_until: None,
        };
        Some((line, sdp))
    }

    /// Takes the other side's answer to an offer.
    pub(crate) fn take_answer(&mut self, answer: &Description) -> Option<()> {
        self.connection.take_answer(Instant::now(), answer).inspect_err(log).ok()
    }

    /// Waits until the channel is open. Returns the other side's address.
    pub(crate) async fn open(&mut self) -> Option<SocketAddr> {
        loop {
            self.socket.write(&mut self.connection, None);
            match self.connection.event() {
                Some(Event::Open) => return self.socket.other(),
                Some(_) => return None,
                None => drop(self.step().await?),
            }
        }
    }

    /// Waits for a datagram, or for the connection's deadline. Returns the bytes received.
    async fn step(&mut self) -> Option<usize> {
        let Some(deadline) = self.connection.deadline() else {
            return self.socket.read(&mut self.connection).await.ok();
        };
        tokio::select! {
            read = self.socket.read(&mut self.connection) => return read.ok(),
            () = sleep_until(deadline.into()) => {}
        }
        self.connection.time_passed(Instant::now()).ok()?;
        Some(0)
    }

    /// Writes what is queued until a message comes. Returns it, or why there is none.
    pub(crate) async fn next_message(
        &mut self,
        queued: &mut mpsc::Receiver<Outgoing>,
        link: &LinkHandle,
    ) -> Result<Message, End> {
        loop {
            self.socket.write(&mut self.connection, None);
            match self.connection.event() {
                Some(Event::Message(message)) => {
                    let text = std::str::from_utf8(&message).map_err(|_| End::Malformed)?;
                    return Ok(Message::parse(text)?);
                }
                Some(Event::Over) => return Err(End::Link),
                Some(Event::Odd) => return Err(End::Malformed),
                Some(Event::Open) => {}
                None => self.exchange(queued, link).await?,
            }
        }
    }

    /// Waits for something to read or to write, and for the deadlines of both.
    async fn exchange(
        &mut self,
        queued: &mut mpsc::Receiver<Outgoing>,
        link: &LinkHandle,
    ) -> Result<(), End> {
        let now = Instant::now();
        let before = std::mem::replace(&mut self.unacknowledged, self.connection.unconfirmed());
        if self.unacknowledged == 0 || self.unacknowledged < before {
            self.acknowledged_at = now;
        }
        if self.unacknowledged > 0 && now >= self.acknowledged_at + self.write_timeout {
            link.kill(CloseReason::WriteTimeout);
            return Err(End::Link);
        }
        if self.closing_until.is_none() && link.is_closed() {
            self.closing_until = Some(now + CLOSE_TIMEOUT);
        }
        let is_written = self.unacknowledged == 0 && queued.is_empty();
        if self.closing_until.is_some_and(|until| is_written || now >= until) {
            return Err(End::Link);
        }
        let deadline = self.closing_until.unwrap_or(self.acknowledged_at + self.write_timeout);
        let has_deadline = self.closing_until.is_some() || self.unacknowledged > 0;
        let may_write = self.unacknowledged < MAX_UNACKNOWLEDGED_BYTES;
        let is_open = self.closing_until.is_none();
        tokio::select! {
            outgoing = queued.recv(), if may_write => {
                // The channel itself keeps a sender: there is always one. Pings are for
                // WebSockets; here ICE checks that the other side is alive.
                if let Some(Outgoing::Frame(frame, permit)) = outgoing {
                    let sent = self.connection.send(Instant::now(), &frame);
                    drop(permit);
                    sent.map_err(|_| End::Link)?;
                }
            }
            read = self.step() => link.record_received(read.ok_or(End::Link)?),
            () = link.closed(), if is_open => {}
            () = sleep_until(deadline.into()), if has_deadline => {}
        }
        Ok(())
    }

    /// Ends the connection.
    pub(crate) fn close(&mut self) {
        self.connection.close();
        self.socket.write(&mut self.connection, None);
    }
}

fn log(error: &impl std::fmt::Display) {
    tracing::debug!(%error, "a WebRTC connection could not be made");
}
