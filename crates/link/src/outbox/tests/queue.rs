//! What is written is what was pushed, however the writes are cut.

use std::io::IoSlice;

use proptest::prelude::*;

use super::super::{Outbox, Pushed};
use crate::packet::OutgoingPacket;

/// Writes at most `most` bytes of `frames`, as a socket would. Returns them, and the bytes of acks
/// that are done with that.
fn write(frames: &mut super::super::Frames, most: usize) -> (Vec<u8>, usize) {
    let mut slices = [IoSlice::new(&[]); 4];
    let filled = frames.fill(&mut slices);
    let mut bytes = Vec::new();
    for slice in &slices[..filled] {
        bytes.extend_from_slice(&slice[..slice.len().min(most - bytes.len())]);
    }
    let ack_bytes = frames.advance(bytes.len());
    (bytes, ack_bytes)
}

fn event(argument: &str) -> OutgoingPacket<'_> {
    OutgoingPacket::Event { event: "E", argument }
}

#[test]
fn frames_are_finished_text_messages() {
    let outbox = Outbox::new();
    assert_eq!(outbox.push(&event(r#""x""#), |bytes| bytes == 13), Pushed::Queued);
    outbox.push(&OutgoingPacket::Ack { id: "17", argument: r#""OK""# }, |_| true);
    outbox.push(&OutgoingPacket::Disconnect, |_| true);
    let mut frames = outbox.take_or_sleep().unwrap();
    let (bytes, ack_bytes) = write(&mut frames, usize::MAX);
    assert_eq!(bytes, b"\x81\x0b42[\"E\",\"x\"]\x81\x0a4317[\"OK\"]\x81\x0241");
    assert_eq!(ack_bytes, 12);
    assert!(frames.is_empty());
}

#[test]
fn a_push_wakes_a_sleeping_stream_once() {
    let outbox = Outbox::new();
    assert!(outbox.take_or_sleep().is_none());
    assert_eq!(outbox.push(&event("1"), |_| true), Pushed::MustWake);
    assert_eq!(outbox.push(&event("2"), |_| true), Pushed::Queued);
    assert!(outbox.take_or_sleep().is_some());
    assert_eq!(outbox.push(&event("3"), |_| true), Pushed::Queued);
}

#[test]
fn nothing_is_queued_that_is_not_admitted() {
    let outbox = Outbox::new();
    assert_eq!(outbox.push(&event("1"), |_| false), Pushed::Refused);
    outbox.finish();
    assert_eq!(outbox.push(&event("1"), |_| true), Pushed::Refused);
    assert!(outbox.take_or_sleep().is_none());
}

#[test]
fn a_ping_goes_before_what_is_not_begun() {
    let outbox = Outbox::new();
    let large = "x".repeat(100_000);
    outbox.push(&event(&large), |_| true);
    outbox.push(&event("1"), |_| true);
    let mut frames = outbox.take_or_sleep().unwrap();
    frames.push_front(b"ping");
    assert_eq!(write(&mut frames, 4).0, b"ping");
    assert!(!frames.is_begun());
    write(&mut frames, 10);
    assert!(frames.is_begun());
}

proptest! {
    #[test]
    fn order_and_bytes_survive_any_cuts(
        lengths in prop::collection::vec(prop_oneof![0usize..200, 4_000usize..4_200, 0usize..40_000], 1..20),
        cuts in prop::collection::vec(prop_oneof![1usize..50, 1usize..20_000], 1..20),
        takes in prop::collection::vec(any::<bool>(), 1..10),
    ) {
        let outbox = Outbox::new();
        let (mut expected, mut written) = (Vec::new(), Vec::new());
        let (mut pushed_ack_bytes, mut written_ack_bytes) = (0, 0);
        let (mut cuts, mut takes) = (cuts.iter().cycle(), takes.iter().cycle());
        let mut drain = |written: &mut Vec<u8>, acks: &mut usize| {
            while let Some(mut frames) = outbox.take_or_sleep() {
                while !frames.is_empty() {
                    let (bytes, ack_bytes) = write(&mut frames, *cuts.next().unwrap());
                    written.extend(bytes);
                    *acks += ack_bytes;
                }
            }
        };
        for (number, length) in lengths.iter().enumerate() {
            let argument = "x".repeat(*length);
            let (id, is_ack) = (number.to_string(), number % 3 == 0);
            let packet = if is_ack { OutgoingPacket::Ack { id: &id, argument: &argument } } else { event(&argument) };
            let mut frame_bytes = 0;
            outbox.push(&packet, |bytes| { frame_bytes = bytes; true });
            let before = expected.len();
            let text = packet.pieces().concat();
            expected.extend(crate::frame::FrameHeader::new(0x81, text.len(), None).as_bytes());
            expected.extend(text.as_bytes());
            prop_assert_eq!(frame_bytes, expected.len() - before);
            pushed_ack_bytes += if is_ack { frame_bytes } else { 0 };
            if *takes.next().unwrap() {
                drain(&mut written, &mut written_ack_bytes);
            }
        }
        drain(&mut written, &mut written_ack_bytes);
        prop_assert!(written == expected);
        prop_assert_eq!(written_ack_bytes, pushed_ack_bytes);
    }
}
