//! How much of what a peer sends is passed on: in one turn, so that others have theirs, and in a
//! second, as the limits say.
//!
//! Only the end of a message uses anything up, so that no message waits half passed on. A bucket looks
//! at the clock when it is empty and at no other time: a peer within its limits costs none.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use crate::LinkLimits;
use crate::frame::FrameScanner;
use crate::packet::Packet;

/// What is passed on in one turn, in messages and bytes: whichever is reached first ends it. Both take
/// about as long, a tenth of a millisecond. With 16 KB a relay of messages of 16 KB would cost twice
/// the CPU time: each would be written to its receiver alone. A read of 64 KB fits into a turn, with
/// the headers that the link adds.
const TURN_MESSAGES: u64 = 32;
const TURN_BYTES: usize = 72 * 1024;

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

/// Follows the bytes that are passed on, and stops them where a turn or a second's worth ends.
#[derive(Debug)]
pub(crate) struct Throttle {
    scanner: FrameScanner,
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
            scanner: FrameScanner::default(),
            turn_messages: 0,
            turn_bytes: 0,
            messages: Bucket::new(limits.max_messages_per_second, now),
            bytes: Bucket::new(limits.max_bytes_per_second, now),
            heartbeat: Heartbeat::Answered,
        }
    }

    /// Returns how many of these bytes are to be passed on now, and counts them.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while passed < bytes.len() && !self.is_turn_over() && self.exceeded().is_none() {
            let next = self.scanner.next_message(&bytes[passed..]);
            // Each costs as much as a message: the transport replies to pings.
            let control_frames = self.scanner.take_control_frames();
            self.charge(control_frames.into());
            let Some((taken, message)) = next else {
                self.turn_bytes += bytes.len() - passed;
                return bytes.len();
            };
            passed += taken;
            self.turn_bytes += taken;
            self.charge(1);
            self.bytes.level -= i64::try_from(message.bytes()).unwrap_or(i64::MAX);
            if message.packet() == Packet::Pong {
                self.heartbeat = Heartbeat::Answered;
            }
        }
        passed
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
    /// knows, and a message may be put in here. Returns whether there is one.
    pub(crate) fn take_heartbeat(&mut self, is_unknown: bool) -> bool {
        let is_due = match self.heartbeat {
            Heartbeat::Answered => false,
            Heartbeat::Sent => is_unknown,
            Heartbeat::Heard => true,
        };
        let is_taken = is_due && !self.scanner.is_within_message();
        if is_taken {
            self.heartbeat = Heartbeat::Answered;
        }
        is_taken
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameHeader, PING, TEXT};

    fn throttle(messages: u32, bytes: u32) -> Throttle {
        Throttle::new(&LinkLimits {
            write_timeout: Duration::MAX,
            message_timeout: Duration::MAX,
            max_queued_bytes: usize::MAX,
            max_messages_per_second: NonZeroU32::new(messages),
            max_bytes_per_second: NonZeroU32::new(bytes),
        })
    }

    /// So many text messages of `length` bytes.
    fn messages(count: usize, length: usize) -> Vec<u8> {
        let mut message = FrameHeader::new(TEXT, length, Some([0; 4])).as_bytes().to_vec();
        message.resize(message.len() + length, b'x');
        message.repeat(count)
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_after_so_many_messages_or_bytes() {
        let mut throttle = throttle(0, 0);
        let many = messages(100, 10);
        assert_eq!(throttle.pass(&many), many.len() / 100 * TURN_MESSAGES as usize);
        assert_eq!(throttle.pass(&many), 0);
        throttle.begin_turn();
        let long = messages(10, 10_000);
        let passed = throttle.pass(&long);
        assert!((TURN_BYTES..TURN_BYTES + 10_010).contains(&passed), "{passed}");
        throttle.begin_turn();
        assert_eq!(throttle.pass(&long[passed..]), long.len() - passed);
        throttle.begin_turn();
        let pings = PING.repeat(1000);
        assert_eq!(throttle.pass(&pings), pings.len());
        assert!(throttle.is_turn_over(), "pings are work too");
        throttle.begin_turn();
        throttle.charge(TURN_MESSAGES);
        assert!(throttle.is_turn_over());
        assert_eq!(throttle.refill(), None);
    }

    /// How many of these messages are passed on within `time`.
    async fn passed_within(throttle: &mut Throttle, mut bytes: &[u8], time: Duration) -> usize {
        let (length, began) = (bytes.len(), Instant::now());
        loop {
            throttle.begin_turn();
            let passed = throttle.pass(bytes);
            bytes = &bytes[passed..];
            match throttle.refill() {
                _ if bytes.is_empty() => return length,
                None => {}
                Some((_, wait)) if began.elapsed() + wait > time => return length - bytes.len(),
                Some((_, wait)) => tokio::time::sleep(wait).await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_has_its_number_of_messages_and_a_burst_too() {
        for rate in [1, 5, 100, 10_000] {
            let mut throttle = throttle(rate, 0);
            let many = messages(40 * rate as usize, 1);
            let each = many.len() / (40 * rate as usize);
            // What was not used up is not saved up.
            tokio::time::sleep(Duration::from_secs(3600)).await;
            let at_once = passed_within(&mut throttle, &many, Duration::ZERO).await / each;
            assert!((1..=rate as usize + 1).contains(&at_once), "{rate}: {at_once} at once");
            let later = passed_within(&mut throttle, &many, Duration::from_secs(20)).await / each;
            let expected = 20 * rate as usize;
            assert!(
                later.abs_diff(expected) <= expected / 20 + 1,
                "{rate}: {later} in 20 s instead of {expected}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_longer_than_a_second_s_bytes_passes_and_is_paid_for() {
        let mut throttle = throttle(0, 1000);
        let long = messages(2, 10_000);
        let passed = passed_within(&mut throttle, &long, Duration::from_secs(5)).await;
        assert_eq!(passed, long.len() / 2);
        let (limit, wait) = throttle.refill().unwrap();
        assert_eq!(limit, RateLimit::Bytes);
        assert!(wait > Duration::from_secs(9) && wait < Duration::from_secs(10), "{wait:?}");
        throttle.lift();
        throttle.begin_turn();
        assert_eq!(throttle.pass(&long[passed..]), passed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_is_answered_once_and_only_for_a_peer_that_was_heard() {
        let mut throttle = throttle(0, 0);
        assert!(!throttle.take_heartbeat(true), "there was none");
        throttle.heartbeat_sent();
        assert!(!throttle.take_heartbeat(false));
        throttle.record_received();
        let message = messages(1, 1);
        assert_eq!(throttle.pass(&message[..3]), 3);
        assert!(!throttle.take_heartbeat(false), "in the middle of a message");
        throttle.pass(&message[3..]);
        assert!(throttle.take_heartbeat(false) && !throttle.take_heartbeat(true));
        throttle.heartbeat_sent();
        assert!(throttle.take_heartbeat(true));
        throttle.heartbeat_sent();
        throttle.record_received();
        throttle.pass(&crate::frame::HEARTBEAT_REPLY);
        assert!(!throttle.take_heartbeat(true), "the peer has replied itself");
    }
}
