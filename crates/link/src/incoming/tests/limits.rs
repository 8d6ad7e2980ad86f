//! How much is passed on in one turn and in a second, and who answers heartbeats meanwhile.

use tokio::time::Instant;

use super::*;
use crate::RateLimit;
use crate::frame::{HEARTBEAT_REPLY, PING, TEXT};
use crate::throttle::{TURN_BYTES, TURN_MESSAGES};

/// So many text messages of `length` bytes.
fn messages(count: usize, length: usize) -> Vec<u8> {
    let mut message = FrameHeader::new(TEXT, length, Some([0; 4])).as_bytes().to_vec();
    message.resize(message.len() + length, b'x');
    message.repeat(count)
}

/// Receives `bytes` and nothing else.
fn receive(incoming: &mut Incoming, bytes: &[u8]) {
    incoming.buffer = Bytes::copy_from_slice(bytes).into();
}

/// Passes on what may be passed on now. Returns how many of the received bytes that are.
fn pass(incoming: &mut Incoming) -> usize {
    let before = incoming.buffer.len();
    let mut space = vec![0; before * 2 + 100];
    incoming.pass_on(&mut ReadBuf::new(&mut space), true);
    before - incoming.buffer.len()
}

#[tokio::test(start_paused = true)]
async fn a_turn_ends_after_so_many_messages_or_bytes() {
    let mut incoming = limited(0, 0);
    let many = messages(100, 10);
    receive(&mut incoming, &many);
    assert_eq!(pass(&mut incoming), many.len() / 100 * TURN_MESSAGES as usize);
    assert_eq!(pass(&mut incoming), 0);
    incoming.throttle.begin_turn();
    let long = messages(TURN_BYTES / 5_000, 10_000);
    receive(&mut incoming, &long);
    let passed = pass(&mut incoming);
    assert!((TURN_BYTES..TURN_BYTES + 10_010).contains(&passed), "{passed}");
    incoming.throttle.begin_turn();
    assert_eq!(pass(&mut incoming), long.len() - passed);
    incoming.throttle.begin_turn();
    receive(&mut incoming, &PING.repeat(1000));
    assert_eq!(pass(&mut incoming), PING.len() * TURN_MESSAGES as usize, "pings are work too");
    incoming.throttle.begin_turn();
    incoming.throttle.charge(TURN_MESSAGES);
    assert!(incoming.throttle.is_turn_over());
    assert_eq!(incoming.throttle.refill(), None);
}

/// How many bytes of these are passed on within `time`.
async fn passed_within(incoming: &mut Incoming, bytes: &[u8], time: Duration) -> usize {
    receive(incoming, bytes);
    let began = Instant::now();
    loop {
        incoming.throttle.begin_turn();
        pass(incoming);
        match incoming.throttle.refill() {
            _ if incoming.is_empty() => return bytes.len(),
            None => {}
            Some((_, wait)) if began.elapsed() + wait > time => {
                return bytes.len() - incoming.buffer.len();
            }
            Some((_, wait)) => tokio::time::sleep(wait).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_has_its_number_of_messages_and_a_burst_too() {
    for rate in [1, 5, 100, 10_000] {
        let mut incoming = limited(rate, 0);
        let many = messages(40 * rate as usize, 1);
        let each = many.len() / (40 * rate as usize);
        // What was not used up is not saved up.
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let at_once = passed_within(&mut incoming, &many, Duration::ZERO).await / each;
        assert!((1..=rate as usize + 1).contains(&at_once), "{rate}: {at_once} at once");
        let later = passed_within(&mut incoming, &many, Duration::from_secs(20)).await / each;
        let expected = 20 * rate as usize;
        assert!(
            later.abs_diff(expected) <= expected / 20 + 1,
            "{rate}: {later} in 20 s instead of {expected}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_longer_than_a_second_s_bytes_passes_and_is_paid_for() {
    let mut incoming = limited(0, 1000);
    let long = messages(2, 10_000);
    let passed = passed_within(&mut incoming, &long, Duration::from_secs(5)).await;
    assert_eq!(passed, long.len() / 2);
    let (limit, wait) = incoming.throttle.refill().unwrap();
    assert_eq!(limit, RateLimit::Bytes);
    assert!(wait > Duration::from_secs(9) && wait < Duration::from_secs(10), "{wait:?}");
    incoming.throttle.lift();
    incoming.throttle.begin_turn();
    assert_eq!(pass(&mut incoming), passed);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_answered_once_and_only_for_a_peer_that_was_heard() {
    let mut incoming = limited(0, 0);
    assert!(!incoming.throttle.take_heartbeat(true), "there was none");
    incoming.throttle.heartbeat_sent();
    assert!(!incoming.throttle.take_heartbeat(false));
    incoming.throttle.record_received();
    let message = messages(1, 1);
    let (header, payload) = message.split_at(message.len() - 1);
    receive(&mut incoming, header);
    assert_eq!(pass(&mut incoming), header.len());
    assert!(!incoming.is_between_messages(), "in the middle of a message");
    receive(&mut incoming, payload);
    assert_eq!(pass(&mut incoming), payload.len());
    assert!(incoming.is_between_messages());
    assert!(incoming.throttle.take_heartbeat(false) && !incoming.throttle.take_heartbeat(true));
    incoming.throttle.heartbeat_sent();
    assert!(incoming.throttle.take_heartbeat(true));
    incoming.throttle.heartbeat_sent();
    incoming.throttle.record_received();
    receive(&mut incoming, &HEARTBEAT_REPLY);
    pass(&mut incoming);
    assert!(!incoming.throttle.take_heartbeat(true), "the peer has replied itself");
}
