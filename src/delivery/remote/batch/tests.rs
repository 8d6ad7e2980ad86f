//! Batches there and back, from later versions, cut off, and garbage.

use proptest::prelude::*;

use super::*;

fn sample() -> (Header, Vec<u8>) {
    let header = Header { sender: ReplicaId::random(), sequence: 7 };
    let mut batch = Vec::new();
    write_header(&mut batch, header);
    assert_eq!(batch.len(), HEADER_BYTES);
    (header, batch)
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
    let (header, mut batch) = sample();
    let argument = JsonString::parse(r#""\ud800\/x""#).unwrap();
    let opener = Owner { replica: header.sender, connection: ConnectionId::from_number(9) };
    write_deliver(&mut batch, 1, &message(argument, Some(("alice", opener))));
    write_deliver(&mut batch, 2, &message(argument, None));
    let node = NodeId::parse("n").unwrap();
    let newcomer = Newcomer { replaces: true, is_connecting: false };
    write_probe(&mut batch, 3, &node, ConnectionId::from_number(4), newcomer);
    write_delivered(&mut batch, 4, Outcome::QueueFull);
    write_status(&mut batch, 5, HolderStatus::Unconnected);
    write_unknown(&mut batch, 6);
    let (read_header, entries) = read(&batch).unwrap();
    assert_eq!(read_header, header);
    let entries: Vec<_> = entries.map(Result::unwrap).collect();
    let [
        Entry::Deliver { id: 1, message: first },
        Entry::Deliver { id: 2, message: second },
        Entry::Probe { id: 3, node: probed, connection, newcomer: read_newcomer },
        Entry::Delivered { id: 4, outcome: Outcome::QueueFull },
        Entry::Status { id: 5, status: HolderStatus::Unconnected },
        Entry::Unknown { id: 6 },
    ] = entries.as_slice()
    else {
        panic!("{entries:?}")
    };
    assert_eq!((first.to, first.argument.as_str()), ("bob", r#""\ud800\/x""#));
    assert_eq!((first.opener, second.opener), (Some(("alice", opener)), None));
    assert_eq!((probed, *connection), (&node, ConnectionId::from_number(4)));
    assert_eq!(*read_newcomer, newcomer);
}

#[test]
fn a_probe_of_an_earlier_version_is_that_of_a_connecting_node() {
    let (_, mut batch) = sample();
    entry(&mut batch, PROBE, 1, |batch| {
        batch.extend([0; 9]);
        text(batch, "n");
    });
    let first = read(&batch).unwrap().1.next().unwrap();
    let expected = Newcomer { replaces: false, is_connecting: true };
    assert!(matches!(first, Ok(Entry::Probe { newcomer, .. }) if newcomer == expected));
}

#[test]
fn the_numbers_of_events_stay_what_they_are() {
    assert_eq!(Event::ALL.map(event_code), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_later_version_is_understood_as_far_as_it_can_be() {
    let (_, mut batch) = sample();
    entry(&mut batch, 99, 1, |batch| batch.extend(b"a new request"));
    entry(&mut batch, 200, 2, |batch| batch.extend(b"a new answer"));
    entry(&mut batch, DELIVERED, 3, |batch| batch.extend([0, 1, 2, 3]));
    let entries: Vec<_> = read(&batch).unwrap().1.map(Result::unwrap).collect();
    assert!(matches!(
        entries.as_slice(),
        [
            Entry::UnknownRequest { id: 1 },
            Entry::UnknownAnswer,
            Entry::Delivered { id: 3, outcome: Outcome::Delivered },
        ]
    ));
    batch[0] = VERSION + 1;
    assert_eq!(read(&batch).err(), Some(BatchError::Version));
}

#[test]
fn what_is_no_json_string_goes_no_further() {
    for argument in ["1", "\"a\" ", "\"a", "[]", "\"\\x\"", "\"a\"]"] {
        let (_, mut batch) = sample();
        entry(&mut batch, DELIVER, 1, |batch| {
            batch.extend([0; 9]);
            text(batch, "bob");
            text(batch, "");
            batch.extend([0; 8]);
            text(batch, argument);
        });
        let first = read(&batch).unwrap().1.next().unwrap();
        assert_eq!(first.err(), Some(BatchError::Malformed), "{argument}");
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
        let (_, mut batch) = sample();
        let argument = JsonString::parse("\"hello\"").unwrap();
        write_deliver(&mut batch, 1, &message(argument, None));
        let cut = cut % batch.len();
        let entries = read(&batch[..cut]).map(|(_, entries)| entries.collect::<Vec<_>>());
        if let Ok(entries) = entries {
            prop_assert!(entries.iter().all(Result::is_err));
        }
    }
}
