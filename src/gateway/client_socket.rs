//! A client's TCP connection, with or without TLS.
//!
//! The first read or write makes the handshake: so it is limited by the deadline of the request's
//! head, and ends with its link.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;

use super::tls::Tls;
use link::{Link, Socket};

/// The link of a client.
pub(crate) type ClientLink = Link<ClientSocket>;

/// What a client's link stands on.
pub(crate) enum ClientSocket {
    /// TCP alone.
    Plain(TcpStream),
    /// The TLS handshake is not complete.
    Handshaking(Box<Handshake>),
    /// TLS.
    Secure(Box<TlsStream<TcpStream>>),
    /// The TLS handshake has failed.
    Failed,
}

/// A handshake in progress. One that is dropped counts as unfinished.
pub(crate) struct Handshake {
    accept: Accept<TcpStream>,
    tls: Tls,
    outcome: &'static str,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.tls.handshake(self.outcome);
    }
}

impl ClientSocket {
    /// Begins TLS on a connection of which `read_ahead` was read before.
    pub(super) fn secure(&mut self, tls: &Tls, read_ahead: &[u8]) {
        if let Self::Plain(stream) = std::mem::replace(self, Self::Failed) {
            let accept = tls.accept(stream, read_ahead);
            let handshake = Handshake { accept, tls: tls.clone(), outcome: "unfinished" };
            *self = Self::Handshaking(Box::new(handshake));
        }
    }

    /// Writes what the kernel takes at once, to a client that gets no TLS.
    pub(super) fn try_write(&self, bytes: &[u8]) {
        if let Self::Plain(stream) = self {
            let _ = stream.try_write(bytes);
        }
    }

    /// Makes progress with the handshake, if there is one. Ready when it is complete.
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Handshaking(handshake) = self else { return Poll::Ready(Ok(())) };
        let made = ready!(Pin::new(&mut handshake.accept).poll(cx));
        handshake.outcome = made.as_ref().map_or_else(failure, |_| "ok");
        let (socket, result) = match made {
            Ok(stream) => (Self::Secure(Box::new(stream)), Ok(())),
            Err(error) => (Self::Failed, Err(error)),
        };
        *self = socket;
        Poll::Ready(result)
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Handshaking(handshake) => handshake.accept.get_ref(),
            Self::Secure(stream) => Some(stream.get_ref().0),
            Self::Failed => None,
        }
    }
}

/// Returns the cause of a failed handshake, for the metric.
fn failure(error: &io::Error) -> &'static str {
    use rustls::Error;
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) => "not_tls",
        Some(Error::PeerIncompatible(_)) => "incompatible",
        Some(Error::NoApplicationProtocol) => "no_common_protocol",
        Some(Error::NoCertificatesPresented) => "client_certificate_missing",
        Some(Error::InvalidCertificate(_)) => "client_certificate_invalid",
        Some(Error::AlertReceived(_)) => "refused_by_client",
        Some(_) => "invalid",
        None => "unfinished",
    }
}

impl Socket for ClientSocket {
    fn reset_on_drop(&self) {
        if let Some(stream) = self.tcp() {
            stream.reset_on_drop();
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Self::Plain(stream) = this {
            return Pin::new(stream).poll_read(cx, buf);
        }
        ready!(this.poll_handshake(cx))?;
        let Self::Secure(stream) = this else { return Poll::Ready(Err(failed())) };
        match ready!(Pin::new(&mut **stream).poll_read(cx, buf)) {
            // Many clients end without TLS's own end. HTTP and WebSocket notice what is cut off.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Self::Plain(stream) = this {
            return Pin::new(stream).poll_write(cx, bytes);
        }
        let stream = ready!(this.poll_writable(cx))?;
        stream.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Self::Plain(stream) = this {
            return Pin::new(stream).poll_write_vectored(cx, slices);
        }
        let stream = ready!(this.poll_writable(cx))?;
        stream.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Secure(stream) => Pin::new(&mut **stream).poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Handshaking(_) | Self::Failed => Poll::Ready(Ok(())),
        }
    }
}

impl ClientSocket {
    /// Waits until the handshake is complete and what was encrypted before has left: the link counts
    /// as written what the stream takes, so that must not be more than a record ahead of the client.
    fn poll_writable(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Pin<&mut TlsStream<TcpStream>>>> {
        ready!(self.poll_handshake(cx))?;
        let Self::Secure(stream) = self else { return Poll::Ready(Err(failed())) };
        let mut stream = Pin::new(&mut **stream);
        ready!(stream.as_mut().poll_flush(cx))?;
        Poll::Ready(Ok(stream))
    }
}

fn failed() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
