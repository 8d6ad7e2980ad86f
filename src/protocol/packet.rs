//! The JSON array of a Socket.IO event: its name and its one argument.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::envelope::{Envelope, InvalidEnvelope};
use super::json_string::JsonString;
use super::scan::{Addresses, scan};

/// An event as it was received: `["NAME","argument"]`.
#[derive(Debug)]
pub(crate) struct EventPacket<'a> {
    pub(crate) name: Cow<'a, str>,
    /// The argument, if there is exactly one and it is a string; every event of the contract
    /// takes just that.
    pub(crate) payload: Option<Payload<'a>>,
}

/// The argument of an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payload<'a> {
    json: JsonString<'a>,
    /// If they were seen on the way.
    pub(super) addresses: Option<Addresses<'a>>,
}

impl<'a> EventPacket<'a> {
    /// Reads the array behind a packet's type and acknowledgement ID.
    ///
    /// # Errors
    /// Fails if `text` is no array that begins with a string. Everything else that may be wrong
    /// leaves [`EventPacket::payload`] empty, because the name decides how it is answered.
    pub(crate) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        if let Some(scanned) = scan(text) {
            let payload = Payload { json: scanned.argument, addresses: Some(scanned.addresses) };
            return Ok(Self { name: Cow::Borrowed(scanned.name), payload: Some(payload) });
        }
        Self::parse_in_general(text)
    }

    pub(super) fn parse_in_general(text: &'a str) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let mut packet = Self::deserialize(&mut deserializer)?;
        // Bytes behind the array would make the receiver's parser close its connection.
        if deserializer.end().is_err() {
            packet.payload = None;
        }
        Ok(packet)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for EventPacket<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = EventPacket<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of an event's name and its argument")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let Some(Name(name)) = array.next_element()? else {
                    return Err(serde::de::Error::invalid_length(0, &self));
                };
                let argument: Option<&'de RawValue> = array.next_element()?;
                let mut payload =
                    argument.and_then(JsonString::of).map(|json| Payload { json, addresses: None });
                while array.next_element::<IgnoredAny>()?.is_some() {
                    payload = None;
                }
                Ok(EventPacket { name, payload })
            }
        }
        deserializer.deserialize_seq(Array)
    }
}

/// A string that is borrowed where it has no escapes; a bare `Cow` would always copy.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Payload<'a> {
    /// The argument as it was received.
    pub(crate) fn json(self) -> JsonString<'a> {
        self.json
    }

    /// The addresses on the message that the string's content is.
    pub(crate) fn envelope(self) -> Result<Envelope<'a>, InvalidEnvelope> {
        match self.addresses {
            Some(Addresses { to, from }) => {
                Envelope::new(Cow::Borrowed(to), from.map(Cow::Borrowed))
            }
            None => Envelope::parse(&self.json.content()).map(Envelope::into_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payload(text: &str) -> Option<String> {
        EventPacket::parse(text).unwrap().payload.map(|payload| payload.json().as_str().to_owned())
    }

    #[test]
    fn one_string_is_taken_as_it_came() {
        assert_eq!(payload(r#"["E","x"]"#).as_deref(), Some(r#""x""#));
        assert_eq!(
            payload(r#" [ "E" , "\/\ud800\u0041" ] "#).as_deref(),
            Some(r#""\/\ud800\u0041""#)
        );
    }

    #[test]
    fn anything_but_one_string_is_no_payload() {
        for text in [
            r#"["E"]"#,
            r#"["E","a","b"]"#,
            r#"["E",{}]"#,
            r#"["E",["a"]]"#,
            r#"["E",1]"#,
            r#"["E",null]"#,
            r#"["E",true]"#,
            r#"["E","x"]]"#,
            r#"["E","x"],"#,
            r#"["E",{"_placeholder":true,"num":0}]"#,
        ] {
            assert_eq!(payload(text), None, "{text}");
        }
    }

    #[test]
    fn without_a_name_there_is_no_event() {
        for text in
            ["", "{}", "[", "[]", "[null]", r#"[1,"x"]"#, r#"["E""#, r#"["E",]"#, r#"["E","x""#]
        {
            assert!(EventPacket::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_unescaped() {
        assert_eq!(EventPacket::parse(r#"["A\u0042"]"#).unwrap().name, "AB");
    }

    /// A string as JSON, with escapes where `escaped` says so.
    fn written(text: &str, escaped: &[bool]) -> String {
        let mut units = [0; 2];
        let characters = text.chars().zip(escaped.iter().cycle()).map(|(character, escaped)| {
            match *escaped || character < ' ' || "\"\\".contains(character) {
                true => character
                    .encode_utf16(&mut units)
                    .iter()
                    .fold(String::new(), |all, unit| format!("{all}\\u{unit:04x}")),
                false => character.to_string(),
            }
        });
        format!("\"{}\"", characters.collect::<String>())
    }

    proptest! {
        /// The oracle reads the array into a tree.
        #[test]
        fn every_form_of_a_packet_is_read_as_serde_json_reads_it(
            name in "(SOCKET_MSG_EXCHANGE|[a-z\"\\\\é😀]{0,6})",
            argument in "\\PC{0,12}",
            escaped in prop::collection::vec(any::<bool>(), 1..8),
            blanks in prop::collection::vec("[ \t\r\n]{0,2}", 5),
            more in prop::option::of("(null|1|\"x\"|\\{\\}|\\[\\])"),
        ) {
            let (name_json, argument_json) = (written(&name, &escaped), written(&argument, &escaped));
            let more = more.map_or(String::new(), |more| format!(",{more}"));
            let [a, b, c, d, e] = &blanks[..] else { unreachable!() };
            let text = format!("{a}[{b}{name_json}{c},{d}{argument_json}{more}{e}]");
            let tree: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            let packet = EventPacket::parse(&text).unwrap();
            prop_assert_eq!(&*packet.name, tree[0].as_str().unwrap());
            let expected = (tree.len() == 2).then_some(argument_json);
            prop_assert_eq!(packet.payload.map(|it| it.json().as_str().to_owned()), expected);
            if tree.len() == 2 {
                prop_assert_eq!(tree[1].as_str(), Some(&*argument));
            }
        }

        #[test]
        fn no_text_panics(text in r#"[\[\]"E,:{}0-9\\u\PC]{0,60}"#) {
            if let Ok(packet) = EventPacket::parse(&text) {
                let _ = packet.payload.map(|payload| payload.json().content());
            }
        }
    }
}
