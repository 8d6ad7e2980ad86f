//! How much of what a peer sends is passed on: in one turn, so that others have theirs, and in a
//! second, as the limits say.
//!
//! Only the end of a message uses anything up, so that no message waits half passed on. A bucket looks
//! at the clock when it is empty and at no other time: a peer within its limits costs none.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use crate::LinkLimits;
use crate::frame::Message;
use crate::packet::Packet;

/// What is passed on in one turn, in messages and bytes: whichever is reached first ends it. Both take
/// about as long, a tenth of a millisecond. With 16 KB a relay of messages of 16 KB would cost twice
/// the CPU time: each would be written to its receiver alone. A read of 64 KB fits into a turn, with
/// the headers that the link adds.
pub(crate) const TURN_MESSAGES: u64 = 32;
pub(crate) const TURN_BYTES: usize = 72 * 1024;

/// The shortest pause, so that a link that sends too fast is not woken for every message.
const MIN_PAUSE: Duration = Duration::from_millis(20);

/// A limit of what one peer may send in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// [`LinkLimits::max_messages_per_second`].
    Messages,
    /// [`LinkLimits::max_bytes_per_second`].
    Bytes,
}

/// Counts what is passed on, and stops it where a turn or a second's worth ends.
#[derive(Debug)]
pub(crate) struct Throttle {
    turn_messages: u64,
    turn_bytes: usize,
    messages: Bucket,
    bytes: Bucket,
    heartbeat: Heartbeat,
}

/// How far the transport's last heartbeat is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heartbeat {
    /// The transport has a reply.
    Answered,
    Sent,
    /// Something has come since it was sent.
    Heard,
}

/// A token bucket. Holds half a second's worth: with what has come meanwhile it gives at most a
/// second's worth at once.
#[derive(Debug)]
struct Bucket {
    /// What is left; below zero after a long message.
    level: i64,
    per_second: Option<NonZeroU32>,
    filled_at: Instant,
}

impl Throttle {
    pub(crate) fn new(limits: &LinkLimits) -> Self {
        let now = Instant::now();
        Self {
            turn_messages: 0,
            turn_bytes: 0,
            messages: Bucket::new(limits.max_messages_per_second, now),
            bytes: Bucket::new(limits.max_bytes_per_second, now),
            heartbeat: Heartbeat::Answered,
        }
    }

    /// Whether nothing more is passed on for now.
    pub(crate) fn stops(&self) -> bool {
        self.is_turn_over() || self.exceeded().is_some()
    }

    /// Counts bytes that have been passed on.
    pub(crate) fn count_bytes(&mut self, bytes: usize) {
        self.turn_bytes += bytes;
    }

    /// Counts a message whose last byte has been passed on.
    pub(crate) fn count_message(&mut self, message: Message) {
        self.charge(1);
        self.bytes.level -= i64::try_from(message.bytes()).unwrap_or(i64::MAX);
        if message.packet() == Packet::Pong {
            self.heartbeat = Heartbeat::Answered;
        }
    }

    /// Counts so many messages more than have come.
    pub(crate) fn charge(&mut self, messages: u64) {
        self.turn_messages += messages;
        self.messages.level -= i64::try_from(messages).unwrap_or(i64::MAX);
    }

    /// Whether others have to have their turn before more is passed on.
    pub(crate) fn is_turn_over(&self) -> bool {
        self.turn_messages >= TURN_MESSAGES || self.turn_bytes >= TURN_BYTES
    }

    pub(crate) fn begin_turn(&mut self) {
        (self.turn_messages, self.turn_bytes) = (0, 0);
    }

    /// Refills what is empty. Returns the limit that is exceeded all the same, and how long that
    /// will last.
    pub(crate) fn refill(&mut self) -> Option<(RateLimit, Duration)> {
        self.exceeded()?;
        let now = Instant::now();
        self.messages.refill(now);
        self.bytes.refill(now);
        let limit = self.exceeded()?;
        let wait = self.messages.wait().max(self.bytes.wait());
        Some((limit, wait.max(MIN_PAUSE)))
    }

    /// Lifts the limits of a second: what is left of a peer that leaves is passed on at once.
    pub(crate) fn lift(&mut self) {
        let now = Instant::now();
        (self.messages, self.bytes) = (Bucket::new(None, now), Bucket::new(None, now));
    }

    /// The transport has sent a heartbeat.
    pub(crate) fn heartbeat_sent(&mut self) {
        self.heartbeat = Heartbeat::Sent;
    }

    /// Something has come from the peer.
    pub(crate) fn record_received(&mut self) {
        if self.heartbeat == Heartbeat::Sent {
            self.heartbeat = Heartbeat::Heard;
        }
    }

    /// Takes the heartbeat that can be answered for the peer: it has sent something since, or nobody
    /// knows. Returns whether there is one.
    pub(crate) fn take_heartbeat(&mut self, is_unknown: bool) -> bool {
        let is_due = match self.heartbeat {
            Heartbeat::Answered => false,
            Heartbeat::Sent => is_unknown,
            Heartbeat::Heard => true,
        };
        if is_due {
            self.heartbeat = Heartbeat::Answered;
        }
        is_due
    }

    fn exceeded(&self) -> Option<RateLimit> {
        if self.messages.level <= 0 {
            Some(RateLimit::Messages)
        } else if self.bytes.level <= 0 {
            Some(RateLimit::Bytes)
        } else {
            None
        }
    }
}

impl Bucket {
    fn new(per_second: Option<NonZeroU32>, now: Instant) -> Self {
        let mut bucket = Self { level: 0, per_second, filled_at: now };
        bucket.level = bucket.capacity();
        bucket
    }

    fn capacity(&self) -> i64 {
        // What has no limit is never used up.
        self.per_second.map_or(i64::MAX, |rate| rate.get().div_ceil(2).into())
    }

    fn refill(&mut self, now: Instant) {
        let Some(per_second) = self.per_second.filter(|_| self.level <= 0) else { return };
        let per_second = u128::from(per_second.get());
        let elapsed = now.duration_since(self.filled_at).as_nanos();
        let gained = elapsed * per_second / NANOS;
        let level = i128::from(self.level) + gained as i128;
        let capacity = self.capacity();
        if level >= i128::from(capacity) {
            (self.level, self.filled_at) = (capacity, now);
        } else {
            self.level = level as i64;
            // Parts of a unit are not lost.
            self.filled_at += Duration::from_nanos((gained * NANOS / per_second) as u64);
        }
    }

    /// How long the bucket stays empty.
    fn wait(&self) -> Duration {
        let Some(per_second) = self.per_second.filter(|_| self.level <= 0) else {
            return Duration::ZERO;
        };
        let missing = 1 + self.level.unsigned_abs();
        Duration::from_secs_f64(missing as f64 / f64::from(per_second.get()))
    }
}

const NANOS: u128 = 1_000_000_000;
