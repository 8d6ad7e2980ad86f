//! Whether the scan agrees with the general parsers.

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use super::super::{EventPacket, Payload};
use super::*;

/// What the general parsers find: the name, the argument, and the addresses as they stand there.
fn in_general(text: &str) -> Option<(String, String, String, Option<String>)> {
    let packet = EventPacket::parse_in_general(text).ok()?;
    let payload = packet.payload?;
    let envelope = payload.envelope().ok()?;
    let from = envelope.from.map(Cow::into_owned);
    Some((
        packet.name.into_owned(),
        payload.json().as_str().to_owned(),
        envelope.to.into_owned(),
        from,
    ))
}

/// Whatever the scan reads, the general parsers read too, and alike. Returns whether it read it.
fn agrees(text: &str) -> bool {
    let Some(scanned) = scan(text) else { return false };
    let Addresses { to, from } = scanned.addresses;
    // Blank addresses are left to the envelope.
    if crate::node::trim(to).is_empty() {
        assert_eq!(in_general(text), None, "{text}");
        return true;
    }
    let trimmed = |text: &str| crate::node::trim(text).to_owned();
    let found = (
        scanned.name.to_owned(),
        scanned.argument.as_str().to_owned(),
        trimmed(to),
        from.map(trimmed),
    );
    assert_eq!(in_general(text), Some(found), "{text}");
    true
}

fn packet(content: &str) -> String {
    serde_json::to_string(&("SOCKET_MSG_EXCHANGE", content)).unwrap()
}

#[test]
fn reads_what_nodes_send() {
    for content in [
        r#"{"to":"bob"}"#,
        r#"{"platformFrom":"JVM","versionFrom":"1.2.0","from":"alice","to":"bob","content":"hi"}"#,
        r#"{"to":"bob","content":"{\"a\":\"b\\\"c\",\"d\":[1,2]}","x":"\u00e9\ud800\n\/"}"#,
        r#"{"to":"bob","n":[-0,1.5e-3,0.1E+9,12],"l":[true,false,null],"o":{},"e":[ ],"d":{"a":{"to":1}}}"#,
        "{\n\t\"to\" : \"b\u{f6}b\" ,\r\n \"from\":\" alice \" } ",
    ] {
        assert!(agrees(&packet(content)), "{content}");
    }
    let scanned = scan(r#"["E","{\"from\":\"alice\",\"to\":\"bob\"}"]"#).unwrap();
    assert_eq!(scanned.name, "E");
    assert_eq!(scanned.argument.as_str(), r#""{\"from\":\"alice\",\"to\":\"bob\"}""#);
    assert_eq!(scanned.addresses, Addresses { to: "bob", from: Some("alice") });
}

#[test]
fn leaves_what_is_unusual_to_the_general_parsers() {
    let deep = format!(r#"{{"to":"b","x":{}{}}}"#, "[".repeat(17), "]".repeat(17));
    for content in [
        r#"{"to":"b\u006fb"}"#,
        r#"{"t\u006f":"bob"}"#,
        r#"{"to":"bob","a\u0062":1}"#,
        r#"{"to":"bob","to":"bob"}"#,
        r#"{"to":"bob","from":null}"#,
        &deep,
    ] {
        assert_eq!(scan(&packet(content)), None, "{content}");
    }
    for text in [
        r#" ["E","{\"to\":\"bob\"}"]"#,
        r#"["\u0045","{\"to\":\"bob\"}"]"#,
        r#"["E","{\"to\":\"b\u006fb\"}"]"#,
        r#"["E","\u007b\"to\":\"bob\"}"]"#,
        r#"["E","{\"to\":\"bob\"}"] "#,
    ] {
        assert_eq!(scan(text), None, "{text}");
        assert!(in_general(text).is_some(), "{text}");
    }
}

#[test]
fn what_is_wrong_is_not_read() {
    for content in [
        "",
        "{",
        "{}",
        "[]",
        "null",
        "{\"to\"}",
        "{\"to\":}",
        r#"{"to":"bob"} x"#,
        r#"{"to":"bob",}"#,
        r#"{,"to":"bob"}"#,
        r#"{"from":"a"}"#,
        r#"{"to":1}"#,
        r#"{"to":null}"#,
        r#"{"to":["bob"]}"#,
        r#"{"to":"bob","x":01}"#,
        r#"{"to":"bob","x":-}"#,
        r#"{"to":"bob","x":1.}"#,
        r#"{"to":"bob","x":1e}"#,
        r#"{"to":"bob","x":.5}"#,
        r#"{"to":"bob","x":+1}"#,
        r#"{"to":"bob","x":tru}"#,
        r#"{"to":"bob","x":nulll}"#,
        r#"{"to":"bob","x":[1,]}"#,
        r#"{"to":"bob","x":[1}"#,
        r#"{"to":"bob","x":{"a"}}"#,
        r#"{"to":"bob","x":"\x"}"#,
        r#"{"to":"bob","x":"\u12g4"}"#,
        "{\"to\":\"bob\",\"x\":\"\n\"}",
        "{\"to\":\"bob\",\"x\":\"\u{0}\"}",
        "{\"to\":\"bob\"\u{c}}",
        r#"{"to":"bob" "x":1}"#,
    ] {
        let text = packet(content);
        assert_eq!(scan(&text), None, "{content}");
        assert_eq!(in_general(&text), None, "{content}");
    }
    for text in [
        r#"["E","{\"to\":\"bob\"}""#,
        r#"["E","{\"to\":\"bob\"}"]]"#,
        r#"["E","{\"to\":\"bob\"}","x"]"#,
        r#"["E" "{\"to\":\"bob\"}"]"#,
        r#"["E",{"to":"bob"}]"#,
        "[\"E\",\"{\\\"to\\\":\\\"b\u{1}\\\"}\"]",
        r#"["E","{"to":"bob"}"]"#,
        r#"["E","{\"to\":\"bob\"}\"]"#,
        r#"["E","{\"to\":\"bob"}]"#,
    ] {
        assert_eq!(scan(text), None, "{text}");
        assert_eq!(in_general(text), None, "{text}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z\"\\\\/\n]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("to|from|[a-z\"é]{1,20}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn content() -> impl Strategy<Value = String> {
    let address = prop_oneof!["[a-z ]{0,6}".prop_map(Value::from), value()];
    let members = vec(("[a-z\"]{1,20}", value()), 0..5);
    (
        members,
        prop::option::weighted(0.9, address.clone()),
        prop::option::of(address),
        any::<bool>(),
    )
        .prop_map(|(members, to, from, is_pretty)| {
            let mut object: serde_json::Map<_, _> = members.into_iter().collect();
            object.extend(to.map(|to| ("to".to_owned(), to)));
            object.extend(from.map(|from| ("from".to_owned(), from)));
            let object = json!(object);
            let write =
                if is_pretty { serde_json::to_string_pretty } else { serde_json::to_string };
            write(&object).unwrap()
        })
}

proptest! {
    #[test]
    fn agrees_with_the_general_parsers(content in content()) {
        agrees(&packet(&content));
    }

    /// A few bytes of a good message are replaced by ones that mean something.
    #[test]
    fn agrees_after_changes(
        content in content(),
        changes in vec((any::<Index>(), 0_usize..3, select(&[
            "", "\"", "\\", "\\\"", "\\\\", "\\\\\"", "\\\\\\\"", "{", "}", "[", "]", ",", ":", " ", "0", "-", ".", "e",
            "\\n", "\\u", "\\u0041", "\\\\u0041", "\\\\u", "\\/", "\\\\/", "\n", "\u{1f}", "\u{7f}", "é", "t", "true", "null",
            "\\\"to\\\":\\\"bob\\\"", "\\\"from\\\":\\\"a\\\",",
        ])), 1..4),
    ) {
        let mut text: Vec<char> = packet(&content).chars().collect();
        for (at, length, new) in changes {
            let at = at.index(text.len());
            let end = text.len().min(at + length);
            text.splice(at..end, new.chars());
        }
        agrees(&String::from_iter(text));
    }

    #[test]
    fn agrees_on_any_text(text in r#"\[?"?E?"?,?"?[{}\[\]\\",:tofrmue0-9 .-]{0,40}"?\]?"#) {
        agrees(&text);
    }
}

#[test]
fn a_payload_has_the_same_addresses_either_way() {
    let text = packet(r#"{"from":" alice","to":"bob "}"#);
    let envelope = |packet: EventPacket<'_>| {
        let envelope = packet.payload.map(Payload::envelope).unwrap().unwrap();
        (envelope.to.into_owned(), envelope.from.map(Cow::into_owned))
    };
    let scanned = EventPacket::parse(&text).unwrap();
    assert!(scanned.payload.is_some_and(|payload| payload.addresses.is_some()));
    assert_eq!(envelope(scanned), envelope(EventPacket::parse_in_general(&text).unwrap()));
}
