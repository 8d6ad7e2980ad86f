//! Frames as they are, and as they must not be.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::id::tests::ids;

fn id(byte: u8) -> PeerId {
    PeerId::from_bytes([byte; 20])
}

fn reachable(url: Option<&str>) -> Reachable {
    Reachable { ws: url.map(str::to_owned), wrtc: false }
}

fn buffer(byte: u8) -> serde_json::Value {
    json!({"type": "Buffer", "data": vec![byte; 20]})
}

fn frame() -> serde_json::Value {
    json!({
        "to": id(1), "from": id(2), "path": [id(2), id(3)], "nonce": "123",
        "data": {"type": "user", "data": [1]},
    })
}

#[test]
fn a_first_hop_and_a_relayed_one_say_the_same() {
    let mut relayed = frame();
    relayed["to"] = buffer(1);
    relayed["from"] = buffer(2);
    for frame in [frame(), relayed] {
        let message = Message::parse(&frame.to_string()).unwrap();
        assert_eq!((message.to, message.from), (id(1), id(2)));
        assert_eq!((&*message.path, &*message.nonce), (&[id(2), id(3)][..], "123"));
        let again: serde_json::Value = serde_json::from_str(&message.to_frame()).unwrap();
        assert_eq!(again, self::frame());
    }
}

#[test]
fn odd_frames_are_malformed() {
    let changed = |key: &str, value: serde_json::Value| {
        let mut frame = frame();
        frame[key] = value;
        frame.to_string()
    };
    let without = |key: &str| {
        let mut frame = frame();
        frame.as_object_mut().unwrap().remove(key);
        frame.to_string()
    };
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let mut odd: Vec<String> =
        ["", "null", "7", "\"x\"", "[]", "{}", "{", "nonsense", "\u{feff}{}"]
            .map(str::to_owned)
            .into();
    odd.extend(["to", "from", "path", "nonce", "data"].map(without));
    odd.extend(["to", "from", "path", "nonce", "data"].map(|key| changed(key, json!(null))));
    odd.extend(["to", "from", "path", "nonce", "data"].map(|key| changed(key, json!(1))));
    odd.extend(["to", "from", "path", "nonce", "data"].map(|key| changed(key, json!("x y"))));
    odd.extend([
        changed("to", json!("ab".repeat(21))),
        changed("path", json!([buffer(1)])),
        changed("path", json!(["ab"])),
        changed("path", json!({})),
        changed("path", json!([[]])),
        changed("nonce", json!("")),
        changed("nonce", json!("1".repeat(65))),
        changed("nonce", json!("\"")),
        changed("data", json!([])),
        frame().to_string().replace("{\"type\"", "{\"x\":[1,,2],\"type\""),
        frame().to_string().replacen('{', "{\"nonce\":\"1\",", 1),
        frame().to_string() + "{}",
        frame().to_string().replace("[1]", &deep),
        frame().to_string().replace("[1]", &"[".repeat(60_000)),
        id_frame(&id(1)),
    ]);
    for frame in odd {
        assert!(Message::parse(&frame).is_err(), "{frame}");
    }
}

#[test]
fn what_is_not_known_is_left_out_however_deep_it_is() {
    let deep = format!("{{\"more\":{}{},", "[".repeat(30_000), "]".repeat(30_000));
    let message = Message::parse(&frame().to_string().replacen('{', &deep, 1)).unwrap();
    assert!(!message.to_frame().contains("more"));
}

#[test]
fn the_deepest_and_one_deeper() {
    // Around it is the object that is the content; more that are not deep change nothing.
    for (arrays, is_taken) in [(MAX_DEPTH - 1, true), (MAX_DEPTH, false)] {
        let deep = format!("{}{}", "[".repeat(arrays), "]".repeat(arrays));
        for content in [deep.clone(), format!("{deep},\"more\":[[],{{}},[],{{}}]")] {
            let frame = frame().to_string().replace("[1]", &content);
            assert_eq!(Message::parse(&frame).is_ok(), is_taken, "{frame}");
        }
    }
}

#[test]
fn brackets_in_strings_are_not_deep() {
    let text = r#"\"[{"#.repeat(200);
    let frame = frame().to_string().replace("[1]", &format!("\"{text}\""));
    assert!(Message::parse(&frame).is_ok());
}

#[test]
fn contents_are_read_by_their_type() {
    let content = |data: serde_json::Value| Content::parse(&to_json(&data));
    assert!(matches!(
        content(json!({"type": "user", "data": {"a": 1}})),
        Ok(Content::User(data)) if data.get() == r#"{"a":1}"#
    ));
    assert!(
        matches!(content(json!({"type": "user"})), Ok(Content::User(data)) if data.get() == "null")
    );
    assert!(
        matches!(Content::parse(&find_peers(&id(7))), Ok(Content::FindPeers(target)) if target == id(7))
    );
    let found = [id(1), id(2)];
    assert!(
        matches!(Content::parse(&found_peers(&found)), Ok(Content::FoundPeers(ids)) if ids == found)
    );
    assert!(matches!(Content::parse(&handshake_offer()), Ok(Content::HandshakeOffer)));
    let answer = handshake_answer(&reachable(Some("ws://a")));
    assert_eq!(answer.get(), r#"{"type":"handshake-answer","data":{"ws":"ws://a","wrtc":false}}"#);
    assert!(
        matches!(Content::parse(&answer), Ok(Content::HandshakeAnswer(told)) if told == reachable(Some("ws://a")))
    );
    for data in [json!(null), json!({"ws": null, "wrtc": false}), json!({})] {
        let answer = content(json!({"type": "handshake-answer", "data": data}));
        assert!(matches!(answer, Ok(Content::HandshakeAnswer(told)) if told == reachable(None)));
    }
    let answer = content(json!({"type": "handshake-answer", "data": {"wrtc": true}}));
    assert!(matches!(answer, Ok(Content::HandshakeAnswer(Reachable { ws: None, wrtc: true }))));
    for (data, signal) in [
        (json!({"type": "offer", "sdp": "a"}), Signal::Offer("a".into())),
        (json!({"type": "answer", "sdp": "b"}), Signal::Answer("b".into())),
        (json!({"type": "offer"}), Signal::Other),
        (json!({"type": "pranswer", "sdp": "c"}), Signal::Other),
        (json!({"candidate": {"candidate": "d"}}), Signal::Other),
        (json!({"type": 1, "sdp": "e"}), Signal::Other),
        (json!(null), Signal::Other),
    ] {
        let signals = content(json!({"type": "signal", "data": data}));
        assert!(matches!(signals, Ok(Content::Signal(it)) if it == signal), "{data}");
    }
    for data in [json!({}), json!({"type": 1}), json!({"type": "USER"})] {
        assert!(matches!(content(data), Ok(Content::Unknown)));
    }
    for (kind, data) in [
        ("findPeers", json!(null)),
        ("findPeers", json!("ab")),
        ("foundPeers", json!({})),
        ("foundPeers", json!(["x"])),
        ("handshake-answer", json!({"ws": 1})),
        ("handshake-answer", json!("ws://a")),
    ] {
        assert!(content(json!({"type": kind, "data": data})).is_err(), "{kind} {data}");
    }
}

#[test]
fn what_may_be_sent_fits_a_frame_after_the_longest_way() {
    let mut message = Message::parse(&frame().to_string()).unwrap();
    message.data =
        RawValue::from_string(format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_DATA_BYTES - 8))).unwrap();
    assert_eq!(message.data.get().len(), MAX_DATA_BYTES);
    message.path = vec![id(255); 20];
    message.nonce = "9".repeat(MAX_NONCE_BYTES).into();
    let longer_ids = 2 * (buffer(255).to_string().len() - 42);
    assert!(message.to_frame().len() + longer_ids <= link::MAX_MESSAGE_BYTES);
}

proptest! {
    #[test]
    fn a_message_survives_the_wire(
        to in ids(), from in ids(), path in prop::collection::vec(ids(), 0..30),
        nonce in "[0-9]{1,20}", text in ".*",
    ) {
        let data = to_json(&json!({"type": "user", "data": text}));
        let message = Message { to, from, path, nonce: nonce.into(), data };
        let read = Message::parse(&message.to_frame()).unwrap();
        prop_assert_eq!((read.to, read.from, &read.path), (to, from, &message.path));
        prop_assert_eq!((&read.nonce, read.data.get()), (&message.nonce, message.data.get()));
    }

    #[test]
    fn no_text_panics(text in ".*", at in any::<prop::sample::Index>(), cut in ".{0,3}") {
        let _ = Message::parse(&text);
        let _ = parse_id_frame(&text);
        let mut frame = frame().to_string();
        let at = at.index(frame.len());
        frame.replace_range(at..=at, &cut);
        if let Ok(message) = Message::parse(&frame) {
            let _ = Content::parse(&message.data);
        }
    }
}
