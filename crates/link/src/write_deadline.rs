//! The age of what waits to be written.
//!
//! Progress is no excuse: a peer that reads a little now and then would keep all that waits for it
//! for ever. So the oldest byte has a deadline. Bytes have no times of their own; while a write
//! waits for the peer, the end of what is queued is marked with the time now and then.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How many marks there are in a timeout; bytes may wait longer than that by one part.
const MARKS: u32 = 16;

/// The deadline of a link whose peer has to read first.
pub(crate) struct WriteDeadline {
    timeout: Duration,
    marks: VecDeque<Mark>,
    timer: Pin<Box<Sleep>>,
}

/// A position in the stream of bytes up to which all waited at a time.
struct Mark {
    at: Instant,
    end: u64,
}

impl WriteDeadline {
    pub(crate) fn new(timeout: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(timeout));
        Self { timeout, marks: VecDeque::new(), timer }
    }

    /// All bytes before `position` have left. Returns whether no marked byte waits any more.
    pub(crate) fn is_over(&mut self, position: u64) -> bool {
        while self.marks.front().is_some_and(|mark| mark.end <= position) {
            self.marks.pop_front();
        }
        self.marks.is_empty()
    }

    /// Ready when the oldest byte has waited for too long; bytes before `end` wait.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, end: u64) -> Poll<()> {
        loop {
            let now = Instant::now();
            let is_due = self.marks.back().is_none_or(|last| {
                last.end < end && now.duration_since(last.at) >= self.timeout / MARKS
            });
            if is_due {
                self.marks.push_back(Mark { at: now, end });
            }
            let deadline = self.marks.front().map_or(now, |oldest| oldest.at) + self.timeout;
            if now >= deadline {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline.min(now + self.timeout / MARKS));
            ready!(self.timer.as_mut().poll(cx));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(1600);

    /// Whether the deadline passes within `time`, while bytes before `end` wait.
    async fn passes(deadline: &mut WriteDeadline, time: u64, end: u64) -> bool {
        let poll = poll_fn(|cx| deadline.poll(cx, end));
        tokio::time::timeout(Duration::from_millis(time), poll).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_byte_counts_and_progress_does_not() {
        let mut deadline = WriteDeadline::new(TIMEOUT);
        assert!(!passes(&mut deadline, 1000, 100).await);
        assert!(!deadline.is_over(99), "one byte is left");
        assert!(!passes(&mut deadline, 599, 200).await);
        assert!(passes(&mut deadline, 2, 200).await);
    }

    #[tokio::test(start_paused = true)]
    async fn younger_bytes_have_their_own_time() {
        let mut deadline = WriteDeadline::new(TIMEOUT);
        assert!(!passes(&mut deadline, 800, 100).await);
        assert!(!passes(&mut deadline, 700, 200).await);
        assert!(!deadline.is_over(100));
        // Seen 800 ms after the first ones.
        assert!(!passes(&mut deadline, 890, 200).await);
        assert!(passes(&mut deadline, 120, 200).await);
        assert!(deadline.is_over(200));
    }
}
