//! What leaves is what was queued, whatever the socket takes at a time.

use proptest::prelude::*;

use super::*;

/// What the transport writes for a packet that goes through it.
fn frame(text: &str) -> Vec<u8> {
    Parcel::new(&[text]).frame.to_vec()
}

#[test]
fn a_stand_in_is_the_frame_of_its_packet() {
    assert_eq!(frame(&format!("42[\"{STAND_IN_EVENT}\"]")), STAND_IN);
}

#[test]
fn a_frame_says_how_long_it_is() {
    let header = |length: usize| Parcel::new(&["x".repeat(length).as_str()]).frame[..10].to_vec();
    assert_eq!(header(125)[..3], [0x81, 125, b'x']);
    assert_eq!(header(4096)[..5], [0x81, 126, 0x10, 0, b'x']);
    assert_eq!(header(70_000), [0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    assert_eq!(Parcel::new(&["42[", "\"E\"]"]).packet_bytes, 7);
}

#[derive(Debug, Clone)]
enum Queued {
    Plain(String),
    Parcel(String),
    Pong,
}

fn queued() -> impl Strategy<Value = Queued> {
    prop_oneof![
        // Among them what looks like a stand-in.
        "(43\\[\"OK\"\\]|42\\[\"E\",[0-9]{0,9}\\]|42\\[\"\"\\] |2)".prop_map(Queued::Plain),
        "[a-z]{1,40}".prop_map(Queued::Parcel),
        Just(Queued::Plain("\u{1}\u{6}42[\"\"]".to_owned())),
        Just(Queued::Pong),
    ]
}

proptest! {
    #[test]
    fn parcels_leave_where_their_stand_ins_are(
        queued in prop::collection::vec(queued(), 1..40),
        takes in prop::collection::vec(1usize..60, 1..20),
        shows in prop::collection::vec(1usize..12, 1..5),
    ) {
        let (mut transport, mut expected, mut parcels) = (Vec::new(), Vec::new(), 0);
        let mut outgoing = Outgoing::default();
        for packet in &queued {
            match packet {
                Queued::Plain(text) => {
                    transport.push(frame(text));
                    expected.extend(frame(text));
                }
                Queued::Pong => {
                    let pong = b"\x8a\x08\x81\x0642[\"\"]";
                    transport.push(pong.to_vec());
                    expected.extend(pong);
                }
                Queued::Parcel(text) => {
                    transport.push(STAND_IN.to_vec());
                    expected.extend(frame(text));
                    outgoing.queue.push_back(Parcel::new(&[text]));
                    parcels += 1;
                }
            }
        }
        let (mut takes, mut shows) = (takes.iter().cycle(), shows.iter().cycle());
        let mut scanner = FrameScanner::default();
        let (mut left, mut left_parcels) = (Vec::new(), 0);
        // The transport shows whole frames, and goes on with what was not done of them.
        let (mut shown, mut frames) = (Vec::new(), transport.into_iter());
        loop {
            let more: Vec<Vec<u8>> = frames.by_ref().take(*shows.next().unwrap()).collect();
            shown.extend(more.concat());
            if shown.is_empty() {
                break;
            }
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut stretches = [Stretch::Plain(0); MAX_SLICES];
            let count = outgoing.gather(scanner.clone(), &shown, &mut slices, &mut stretches);
            let all: Vec<u8> = slices[..count].iter().flat_map(|it| it.to_vec()).collect();
            prop_assert!(!all.is_empty());
            let taken = all.len().min(*takes.next().unwrap());
            left.extend_from_slice(&all[..taken]);
            let done = outgoing.note(&stretches[..count], taken, |_| left_parcels += 1);
            let mut rest = &shown[..done];
            while let Some((taken, _)) = scanner.next_message(rest) {
                rest = &rest[taken..];
            }
            shown.drain(..done);
        }
        prop_assert_eq!(left, expected);
        prop_assert_eq!(left_parcels, parcels);
        prop_assert!(outgoing.is_empty() && !outgoing.is_under_way());
    }
}
