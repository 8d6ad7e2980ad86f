//! Frames there and back, from later versions, cut off, and garbage.

use proptest::prelude::*;

use super::*;

fn sample() -> (Header, Vec<u8>) {
    let header = Header { sender: ReplicaId::random(), sequence: 7 };
    let mut frame = Vec::new();
    write_header(&mut frame, header);
    assert_eq!(frame.len(), HEADER_BYTES);
    (header, frame)
}

fn message<'a>(argument: JsonString<'a>, opener: Option<(&'a str, Owner)>) -> RemoteMessage<'a> {
    RemoteMessage {
        to: "bob",
        connection: ConnectionId::from_number(3),
        event: Event::ConnectionAttempt,
        argument,
        opener,
    }
}

#[test]
fn everything_comes_back_as_it_was() {
    let (header, mut frame) = sample();
    let argument = JsonString::parse(r#""\ud800\/x""#).unwrap();
    let opener = Owner { replica: header.sender, connection: ConnectionId::from_number(9) };
    write_deliver(&mut frame, 1, &message(argument, Some(("alice", opener))));
    write_deliver(&mut frame, 2, &message(argument, None));
    let node = NodeId::parse("n").unwrap();
    write_contest(&mut frame, 3, &node, ConnectionId::from_number(4), true);
    write_delivered(&mut frame, 4, Outcome::QueueFull);
    write_contested(&mut frame, 5, Verdict::Busy);
    write_unknown(&mut frame, 6);
    let (read_header, entries) = read(&frame).unwrap();
    assert_eq!(read_header, header);
    let entries: Vec<_> = entries.map(Result::unwrap).collect();
    let [
        Entry::Deliver { id: 1, message: first },
        Entry::Deliver { id: 2, message: second },
        Entry::Contest { id: 3, node: contested, connection, replaces: true },
        Entry::Delivered { id: 4, outcome: Outcome::QueueFull },
        Entry::Contested { id: 5, verdict: Verdict::Busy },
        Entry::Unknown { id: 6 },
    ] = entries.as_slice()
    else {
        panic!("{entries:?}")
    };
    assert_eq!((first.to, first.argument.as_str()), ("bob", r#""\ud800\/x""#));
    assert_eq!((first.opener, second.opener), (Some(("alice", opener)), None));
    assert_eq!((contested, *connection), (&node, ConnectionId::from_number(4)));
}

#[test]
fn a_later_version_is_understood_as_far_as_it_can_be() {
    let (_, mut frame) = sample();
    entry(&mut frame, 99, 1, |frame| frame.extend(b"a new request"));
    entry(&mut frame, 200, 2, |frame| frame.extend(b"a new answer"));
    entry(&mut frame, DELIVERED, 3, |frame| frame.extend([0, 1, 2, 3]));
    let entries: Vec<_> = read(&frame).unwrap().1.map(Result::unwrap).collect();
    assert!(matches!(
        entries.as_slice(),
        [
            Entry::UnknownRequest { id: 1 },
            Entry::UnknownAnswer,
            Entry::Delivered { id: 3, outcome: Outcome::Delivered },
        ]
    ));
    frame[0] = VERSION + 1;
    assert_eq!(read(&frame).err(), Some(FrameError::Version));
}

#[test]
fn what_is_no_json_string_goes_no_further() {
    for argument in ["1", "\"a\" ", "\"a", "[]", "\"\\x\"", "\"a\"]"] {
        let (_, mut frame) = sample();
        entry(&mut frame, DELIVER, 1, |frame| {
            frame.extend([0; 9]);
            text(frame, "bob");
            text(frame, "");
            frame.extend([0; 8]);
            text(frame, argument);
        });
        let first = read(&frame).unwrap().1.next().unwrap();
        assert_eq!(first.err(), Some(FrameError::Malformed), "{argument}");
    }
}

proptest! {
    #[test]
    fn garbage_is_read_without_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes).map(|(_, entries)| entries.count());
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        let _ = read(&bytes).map(|(_, entries)| entries.count());
    }

    #[test]
    fn a_frame_cut_off_anywhere_is_no_other_frame(cut in 0_usize..1000) {
        let (_, mut frame) = sample();
        let argument = JsonString::parse("\"hello\"").unwrap();
        write_deliver(&mut frame, 1, &message(argument, None));
        let cut = cut % frame.len();
        let entries = read(&frame[..cut]).map(|(_, entries)| entries.collect::<Vec<_>>());
        if let Ok(entries) = entries {
            prop_assert!(entries.iter().all(Result::is_err));
        }
    }
}
