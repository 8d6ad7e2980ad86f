//! A connection while it speaks HTTP: what is read of it, and for how long.
//!
//! A request's head must come within a few seconds of its first byte. Between two requests a
//! connection may be idle for longer: proxies keep theirs for a minute or so, and a request that they
//! send just as the connection is closed is lost. hyper knows one deadline for both.
//!
//! An idle connection takes a place that others may need. While most places are taken, it has no more
//! time than a request's head.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use hyper::body::{Frame, SizeHint};
use link::LinkSet;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The stream that hyper reads and writes.
pub(super) struct HttpStream<S> {
    stream: S,
    /// Bytes that were read before hyper took over.
    read_ahead: BytesMut,
    progress: Progress,
    head_timeout: Duration,
    idle_timeout: Duration,
    /// All connections, which have a limited number of places.
    links: LinkSet,
    /// The state that the deadline was set for.
    timed: State,
    /// When an idle connection ends at the latest.
    idle_until: Instant,
    deadline: Pin<Box<Sleep>>,
}

/// How far a connection is with its current request. Shared by its stream and its service.
#[derive(Clone)]
pub(super) struct Progress(Arc<Shared>);

struct Shared {
    state: AtomicU8,
    /// Wakes the task that reads. hyper goes on to the next request only when something wakes it.
    reader: AtomicWaker,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The head of a request is awaited or being read.
    Head = 0,
    /// A request is being answered. Its handler limits how long that may take.
    Answering = 1,
    /// All requests have been answered.
    Idle = 2,
}

impl Progress {
    pub(super) fn new() -> Self {
        let state = AtomicU8::new(State::Head as u8);
        Self(Arc::new(Shared { state, reader: AtomicWaker::new() }))
    }

    /// A request's head has been read. Returns whether the request is pipelined: whether it was read
    /// together with the one before.
    pub(super) fn begin(&self) -> bool {
        self.set(State::Answering) == State::Idle
    }

    /// Ends the request as soon as the last of its response has been taken over by hyper.
    pub(super) fn end_with(&self, response: Response) -> Response {
        let answering = Answering(self.clone());
        response.map(|body| Body::new(AnswerBody { body, _answering: answering }))
    }

    fn get(&self) -> State {
        match self.0.state.load(Ordering::Relaxed) {
            0 => State::Head,
            1 => State::Answering,
            _ => State::Idle,
        }
    }

    fn set(&self, state: State) -> State {
        let before = self.get();
        self.0.state.store(state as u8, Ordering::Relaxed);
        before
    }
}

/// A request that is being answered, until it is dropped.
struct Answering(Progress);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.set(State::Idle);
        self.0.0.reader.wake();
    }
}

/// A response's body, which is dropped when it has been written or cannot be.
struct AnswerBody {
    body: Body,
    _answering: Answering,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<S> HttpStream<S> {
    /// `read_ahead` was read of the stream already. The timeouts are those of a request's head, and
    /// between two requests.
    pub(super) fn new(
        stream: S,
        read_ahead: BytesMut,
        progress: Progress,
        (head_timeout, idle_timeout): (Duration, Duration),
        links: LinkSet,
    ) -> Self {
        let idle_until = Instant::now() + head_timeout;
        Self {
            stream,
            read_ahead,
            progress,
            head_timeout,
            idle_timeout,
            links,
            timed: State::Head,
            idle_until,
            deadline: Box::pin(sleep_until(idle_until)),
        }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// Sets the deadline if the state has changed since the last time.
    fn set_deadline(&mut self, state: State) {
        if std::mem::replace(&mut self.timed, state) == state {
            return;
        }
        let now = Instant::now();
        match state {
            State::Head => self.deadline.as_mut().reset(now + self.head_timeout),
            State::Idle => {
                self.idle_until = now + self.idle_timeout;
                self.deadline.as_mut().reset(self.idle_until.min(now + self.head_timeout));
            }
            State::Answering => {}
        }
    }

    /// Waits until the connection has been idle for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.deadline.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.idle_until || self.links.is_crowded() {
                return Poll::Ready(());
            }
            self.deadline.as_mut().reset(self.idle_until.min(now + self.head_timeout));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HttpStream<S> {
    /// After the deadline this is the stream's end.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.read_ahead.is_empty() {
            let length = this.read_ahead.len().min(buf.remaining());
            buf.put_slice(&this.read_ahead[..length]);
            this.read_ahead.advance(length);
            return Poll::Ready(Ok(()));
        }
        this.progress.0.reader.register(cx.waker());
        let state = this.progress.get();
        this.set_deadline(state);
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        match (state, &polled) {
            (State::Idle, Poll::Ready(Ok(()))) if buf.filled().len() > before => {
                this.progress.set(State::Head);
                this.set_deadline(State::Head);
            }
            (State::Head, Poll::Pending) => return this.deadline.as_mut().poll(cx).map(Ok),
            (State::Idle, Poll::Pending) => return this.poll_idle(cx).map(Ok),
            _ => {}
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HttpStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    /// hyper then writes a response's pieces as they are. Otherwise it copies them into a buffer that
    /// stays as large as the largest for as long as the connection lives, and answers pipelined
    /// requests whose client does not read.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
