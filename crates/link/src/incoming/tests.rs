//! What comes out is, for the WebSocket layer itself, what went in.
//!
//! - `limits`: how much comes out in a turn and in a second.

mod limits;

use std::io::{self, Read, Write};
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use super::*;
use crate::LinkLimits;
use crate::fragments::MAX_FRAGMENT_BYTES;
use crate::frame::FINAL;

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x47, 0xa5, first];
    let mut bytes = FrameHeader::new(first, payload.len(), Some(mask)).as_bytes().to_vec();
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A stream that has these bytes and takes everything.
struct Recorded<'a>(&'a [u8]);

impl Read for Recorded<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.0.read(space)
    }
}

impl Write for Recorded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The messages in `bytes` as the WebSocket layer reads them, and why it stopped.
fn messages(bytes: &[u8]) -> (Vec<Message>, String) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(50_000))
        .max_frame_size(Some(50_000))
        .read_buffer_size(1024);
    let mut socket = WebSocket::from_raw_socket(Recorded(bytes), Role::Server, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => messages.push(message),
            Err(error) => return (messages, error.to_string()),
        }
    }
}

/// The incoming bytes of a node that has not sent its CONNECT.
fn unconnected() -> Incoming {
    limited(0, 0)
}

/// The same with so many messages and bytes in a second; 0 for no limit.
fn limited(messages: u32, bytes: u32) -> Incoming {
    let limits = LinkLimits {
        write_timeout: Duration::MAX,
        message_timeout: Duration::MAX,
        max_queued_bytes: usize::MAX,
        max_messages_per_second: NonZeroU32::new(messages),
        max_bytes_per_second: NonZeroU32::new(bytes),
    };
    Incoming::new(Throttle::new(&limits), true)
}

/// The incoming bytes of a node that has sent its CONNECT.
fn connected() -> Incoming {
    let mut incoming = unconnected();
    incoming.position.connect_seen = true;
    incoming
}

/// As if the socket had had these bytes.
fn receive(incoming: &mut Incoming, read: &[u8]) -> Received {
    incoming.receive(Bytes::copy_from_slice(read).into());
    incoming.observe()
}

/// Passes on, in portions of `space` bytes, all that may be passed on.
fn passed_on(incoming: &mut Incoming, space: usize, is_admitted: bool) -> Vec<u8> {
    let mut space = vec![0; space];
    let mut all = Vec::new();
    loop {
        let mut buf = ReadBuf::new(&mut space);
        incoming.throttle.begin_turn();
        incoming.pass_on(&mut buf, is_admitted);
        if buf.filled().is_empty() {
            return all;
        }
        all.extend_from_slice(buf.filled());
    }
}

/// Receives `read` and passes it on, in portions of `space` bytes.
fn through(incoming: &mut Incoming, read: &[u8], space: usize) -> Vec<u8> {
    incoming.receive(Bytes::copy_from_slice(read).into());
    passed_on(incoming, space, true)
}

#[test]
fn bytes_behind_connect_wait_for_the_release() {
    let (ping, connect) = (frame(0x89, b"ping"), frame(0x81, b"40{}"));
    let (event, more) = (frame(0x81, b"42[\"E\"]"), frame(0x81, b"42[\"F\"]"));
    let mut incoming = unconnected();
    receive(&mut incoming, &ping);
    receive(&mut incoming, &[&connect[..], &event].concat());
    receive(&mut incoming, &more);
    assert_eq!(passed_on(&mut incoming, 4, false), [ping, connect].concat());
    assert!(!incoming.is_empty() && incoming.is_held_back());
    assert_eq!(passed_on(&mut incoming, 4, true), [event, more].concat());
    assert!(incoming.is_empty());
    assert_eq!(incoming.buffer.capacity(), 0, "no buffer is kept");
}

#[test]
fn the_buffer_is_bounded() {
    let mut incoming = unconnected();
    receive(&mut incoming, &frame(0x82, &[0; MAX_BUFFERED_BYTES / 2]));
    assert!(incoming.capacity() < MAX_BUFFERED_BYTES / 2);
    receive(&mut incoming, &frame(0x82, &[0; MAX_BUFFERED_BYTES / 2]));
    assert_eq!(incoming.capacity(), 0);
}

#[test]
fn a_leaving_peer_is_noticed() {
    for leave in [frame(0x88, b""), frame(0x81, b"41"), frame(0x81, b"1")] {
        let read = [frame(0x81, b"42[]"), leave].concat();
        assert_eq!(receive(&mut unconnected(), &read), Received::Leave);
    }
    assert_eq!(receive(&mut unconnected(), &frame(0x81, b"42[]")), Received::Ordinary);
}

#[test]
fn what_costs_the_transport_more_than_the_peer_is_a_violation() {
    let receive = |parts: &[Vec<u8>]| {
        let (mut observed, mut passed) = (unconnected(), unconnected());
        let mut space = vec![0; 200_000];
        let received = parts.iter().map(|part| {
            let received = receive(&mut observed, part);
            passed.receive(Bytes::copy_from_slice(part).into());
            passed.throttle.begin_turn();
            assert_eq!(passed.pass_on(&mut ReadBuf::new(&mut space), true), received);
            received
        });
        received.max().unwrap()
    };
    let (connect, elsewhere) = (frame(0x81, b"40{}"), frame(0x81, b"40/admin,"));
    assert_eq!(receive(std::slice::from_ref(&connect)), Received::Ordinary);
    assert_eq!(receive(&[connect.clone(), connect.clone()]), Received::Violation);
    assert_eq!(receive(&vec![elsewhere.clone(); 8]), Received::Ordinary);
    assert_eq!(receive(&vec![elsewhere; 9]), Received::Violation);
    let long_name =
        |length: usize| frame(0x81, format!("40/{}", "x".repeat(length - 3)).as_bytes());
    assert_eq!(receive(&[long_name(256)]), Received::Ordinary);
    assert_eq!(receive(&[long_name(257)]), Received::Violation);
    let token = |length: usize| frame(0x81, format!("40{}", "x".repeat(length - 2)).as_bytes());
    assert_eq!(receive(&[token(65_536)]), Received::Ordinary);
    assert_eq!(receive(&[token(65_537)]), Received::Violation);
    // In one read a long message of a connected node is just that.
    let long = frame(0x81, &[b'x'; 100_000]);
    assert_eq!(receive(&[connect, long]), Received::Ordinary);
}

#[test]
fn no_frame_that_is_passed_on_is_long_unless_the_transport_refuses_it() {
    let long = frame(0x81, "abcdefgh".repeat(5_000).as_bytes());
    let passed = through(&mut unconnected(), &long, 1000);
    let (mut scanner, mut at, mut found) = (FrameScanner::default(), 0, Found::Nothing);
    while at < passed.len() {
        let taken;
        (taken, found) = scanner.next(&passed[at..]);
        at += taken;
        assert!(scanner.frame().is_none_or(|frame| frame.length <= MAX_FRAGMENT_BYTES));
    }
    assert!(matches!(found, Found::Message(_)), "the last byte ends the message");
    assert_eq!(messages(&passed), messages(&long));
    // Longer than any limit: the transport has to see that at once.
    let endless = [0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5];
    assert_eq!(through(&mut connected(), &endless, 1000), endless);
    // No control frame is that long, and these opcodes do not exist.
    for first in [0x89, 0x83] {
        let odd = frame(first, &[7; 5_000]);
        assert_eq!(through(&mut connected(), &odd, 1000), odd);
    }
}

#[derive(Debug, Clone)]
struct Sent {
    first: u8,
    payload: Vec<u8>,
}

/// Frames of all kinds, most of them valid text messages, whole or in fragments.
fn sent() -> impl Strategy<Value = Sent> {
    let first = prop_oneof![
        12 => Just(0x81u8),
        3 => Just(0x01),
        2 => Just(0x00),
        3 => Just(FINAL),
        2 => Just(0x82),
        2 => Just(0x89),
        1 => any::<u8>(),
    ];
    let length = prop_oneof![0usize..130, 4_090usize..4_110, 8_188usize..8_200, 0usize..30_000];
    let payload = (length, prop::sample::select(vec!["a", "4", "\u{e9}", "\u{1f600}x"]))
        .prop_map(|(length, unit)| unit.repeat(length / unit.len()).into_bytes());
    let broken = prop::collection::vec(any::<u8>(), 0..6_000);
    (first, prop_oneof![9 => payload, 1 => broken])
        .prop_map(|(first, payload)| Sent { first, payload })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_websocket_layer_reads_the_same(
        frames in prop::collection::vec(sent(), 1..8),
        reads in prop::collection::vec(prop_oneof![1usize..20, 1usize..9_000], 1..20),
        spaces in prop::collection::vec(1usize..2_000, 1..5),
    ) {
        let bytes: Vec<u8> =
            frames.iter().flat_map(|sent| frame(sent.first, &sent.payload)).collect();
        let mut incoming = connected();
        let (mut passed, mut rest) = (Vec::new(), &*bytes);
        let (mut reads, mut spaces) = (reads.iter().cycle(), spaces.iter().cycle());
        while !rest.is_empty() {
            let (read, tail) = rest.split_at(rest.len().min(*reads.next().unwrap()));
            passed.extend(through(&mut incoming, read, *spaces.next().unwrap()));
            rest = tail;
        }
        let (whole, whole_end) = messages(&bytes);
        let (cut, cut_end) = messages(&passed);
        prop_assert_eq!(whole, cut);
        // Both stop for the same reason, but text that is not UTF-8 is found out sooner.
        let kind = |end: &str| end.split([':', '(']).next().unwrap().to_owned();
        if !whole_end.contains("UTF-8") {
            prop_assert_eq!(kind(&whole_end), kind(&cut_end));
        }
    }

    #[test]
    fn what_is_observed_ahead_is_what_is_passed_on(
        texts in prop::collection::vec((prop::sample::select(vec![0x81u8, 0x01, 0x80, 0x82, 0x89, 0x88]), packet()), 1..20),
        reads in prop::collection::vec(1usize..60, 1..20),
        spaces in prop::collection::vec(0usize..80, 1..20),
    ) {
        let bytes: Vec<u8> =
            texts.iter().flat_map(|(first, text)| frame(*first, text.as_bytes())).collect();
        let (mut plain, mut observed) = (unconnected(), unconnected());
        let mut passed = [Vec::new(), Vec::new()];
        let mut pass = |plain: &mut Incoming, observed: &mut Incoming, space: usize| {
            [plain, observed].iter_mut().zip(&mut passed).map(|(incoming, passed)| {
                let mut space = vec![0; space];
                let mut buf = ReadBuf::new(&mut space);
                incoming.throttle.begin_turn();
                let received = incoming.pass_on(&mut buf, true);
                passed.extend_from_slice(buf.filled());
                received
            }).collect::<Vec<_>>()
        };
        let (mut rest, mut ahead) = (&*bytes, Received::Ordinary);
        for (read, space) in reads.iter().cycle().zip(spaces.iter().cycle()) {
            if rest.is_empty() {
                break;
            }
            let (read, tail) = rest.split_at(rest.len().min(*read));
            rest = tail;
            plain.receive(Bytes::copy_from_slice(read).into());
            ahead = receive(&mut observed, read);
            if ahead != Received::Ordinary {
                break;
            }
            let received = pass(&mut plain, &mut observed, *space);
            prop_assert_eq!(received, [Received::Ordinary; 2]);
        }
        let received = pass(&mut plain, &mut observed, 2 * bytes.len() + 100);
        prop_assert_eq!(received, [ahead; 2]);
        prop_assert_eq!(&passed[0], &passed[1]);
    }
}

/// Texts that are packets, and some that are none.
fn packet() -> impl Strategy<Value = &'static str> {
    let texts = [
        "40",
        "40{}",
        "40/x,",
        "41",
        "1",
        "2",
        "3",
        "42[\"E\",\"x\"]",
        "421 [\"\\u0045\"]",
        "",
        "4",
    ];
    prop::sample::select(texts.to_vec())
}
