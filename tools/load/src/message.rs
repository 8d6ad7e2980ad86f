//! What senders send: frames that are built once, of which only the numbers change.
//!
//! A message carries a *stamp*, the sender's place and the message's number, so that anyone who gets
//! it can say whose it is and which; and everything else in it can be compared byte for byte.

use serde_json::{Value, json};

use crate::frame::{self, Opcode};
use crate::packet::number;

/// Digits of a sender's place.
pub const SENDER_DIGITS: usize = 6;

/// Digits of a message's number.
pub const NUMBER_DIGITS: usize = 12;

/// The length of a stamp.
pub const STAMP_BYTES: usize = SENDER_DIGITS + NUMBER_DIGITS;

/// Acknowledgement IDs begin here, so that all have the same length.
pub const FIRST_ACK: u64 = 1_000_000_000;

const ACK_DIGITS: usize = 10;

/// A message of one sender, ready to be sent again and again.
#[derive(Debug)]
pub struct Message {
    frame: Vec<u8>,
    ack_at: Option<usize>,
    /// Where the number stands: in the stamp, and before that in the nonce if there is one.
    numbers_at: Vec<usize>,
    array_at: usize,
}

/// One node sending to another.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// The sender's ID.
    pub from: &'a str,
    /// The receiver's ID.
    pub to: &'a str,
    /// The sender's place among the senders.
    pub sender: usize,
}

/// One peer of the peer-relay network sending to another.
#[derive(Debug, Clone, Copy)]
pub struct PeerRoute<'a> {
    /// The sender's ID.
    pub from: &'a str,
    /// The receiver's ID.
    pub to: &'a str,
    /// What all nonces of the run begin with.
    pub salt: u64,
    /// The sender's place among the senders.
    pub sender: usize,
}

impl Message {
    /// A message of `size` bytes of content, its stamp included, as a peer sends it to its
    /// neighbours.
    pub fn to_peer(route: PeerRoute<'_>, size: usize) -> Self {
        let PeerRoute { from, to, salt, sender } = route;
        let stamp = format!("{sender:0SENDER_DIGITS$}{:0NUMBER_DIGITS$}", 0);
        let opening = format!(
            r#"{{"to":"{to}","from":"{from}","path":["{from}"],"nonce":"{salt}{stamp}","data":{{"type":"user","data":"{stamp}"#
        );
        let text = format!(r#"{opening}{}"}}}}"#, "x".repeat(size.saturating_sub(STAMP_BYTES)));
        let mut frame = Vec::new();
        frame::write(Opcode::Text, text.as_bytes(), &mut frame);
        let text_at = frame.len() - text.len();
        let stamp_at = text_at + opening.len() - NUMBER_DIGITS;
        let behind_nonce = r#"","data":{"type":"user","data":""#.len() + STAMP_BYTES;
        let numbers_at = vec![stamp_at - behind_nonce, stamp_at];
        Self { frame, ack_at: None, numbers_at, array_at: text_at }
    }

    /// A message of `size` bytes of content, in the form of the official nodes' messages.
    pub fn relay(event: &str, route: Route<'_>, size: usize, wants_ack: bool) -> Self {
        let Route { from, to, sender } = route;
        let stamp = format!("{sender:0SENDER_DIGITS$}{:0NUMBER_DIGITS$}", 0);
        let content = "x".repeat(size);
        // Not by `json!`: the stamp has to come first, where a receiver finds it at once.
        let fields: [(&str, &str); 7] = [
            ("stamp", &stamp),
            ("platformFrom", "LOAD"),
            ("versionFrom", "1.0.0"),
            ("from", from),
            ("to", to),
            ("channel", "load"),
            ("content", &content),
        ];
        let fields = fields.map(|(key, value)| format!("\"{key}\":{}", Value::from(value)));
        let argument = format!("{{{}}}", fields.join(","));
        let mut message = Self::new(event, &argument, wants_ack);
        let stamp_at = message.array_at + Stamp::new(event).opening.len();
        message.numbers_at.push(stamp_at + SENDER_DIGITS);
        message
    }

    /// A question which of `ids` are connected.
    pub fn question(ids: &[String]) -> Self {
        Self::new("ARE_NODES_CONNECTED_TO_BROKER", &json!({ "ids": ids }).to_string(), true)
    }

    fn new(event: &str, argument: &str, wants_ack: bool) -> Self {
        let ack = if wants_ack { FIRST_ACK.to_string() } else { String::new() };
        let array = json!([event, argument]).to_string();
        let mut bytes = Vec::new();
        frame::write(Opcode::Text, format!("42{ack}{array}").as_bytes(), &mut bytes);
        let array_at = bytes.len() - array.len();
        let ack_at = wants_ack.then(|| array_at - ACK_DIGITS);
        Self { frame: bytes, ack_at, numbers_at: Vec::new(), array_at }
    }

    /// Appends the frame of the message with this number to `out`.
    pub fn write(&mut self, number: u64, out: &mut Vec<u8>) {
        if let Some(digits) = self.ack_at.and_then(|at| self.frame.get_mut(at..at + ACK_DIGITS)) {
            write_digits(FIRST_ACK + number, digits);
        }
        for at in &self.numbers_at {
            if let Some(digits) = self.frame.get_mut(*at..*at + NUMBER_DIGITS) {
                write_digits(number, digits);
            }
        }
        out.extend_from_slice(&self.frame);
    }

    /// Whether the array of an event is what was sent, whatever its number.
    pub fn is_same(&self, array: &[u8]) -> bool {
        let Some(sent) = self.frame.get(self.array_at..) else { return false };
        let number_at = self.numbers_at.last().map_or(sent.len(), |at| at - self.array_at);
        let behind = (number_at + NUMBER_DIGITS).min(sent.len());
        sent.len() == array.len()
            && sent.get(..number_at) == array.get(..number_at)
            && sent.get(behind..) == array.get(behind..)
    }
}

/// Fills `digits` with the last decimal digits of `number`.
fn write_digits(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Reads the stamps on messages of one event.
#[derive(Debug)]
pub struct Stamp {
    opening: Vec<u8>,
}

impl Stamp {
    /// For messages that are sent as this event.
    pub fn new(event: &str) -> Self {
        Self { opening: format!("[{},\"{{\\\"stamp\\\":\\\"", Value::from(event)).into_bytes() }
    }

    /// The sender's place and the message's number, if the event's array has a stamp.
    pub fn read(&self, array: &[u8]) -> Option<(usize, u64)> {
        stamp(array.strip_prefix(self.opening.as_slice())?)
    }
}

/// The sender's place and the message's number, if `text` begins with a stamp.
pub fn stamp(text: &[u8]) -> Option<(usize, u64)> {
    let (sender, rest) = text.split_at_checked(SENDER_DIGITS)?;
    let sender = usize::try_from(number(sender)?).ok()?;
    Some((sender, number(rest.get(..NUMBER_DIGITS)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Packet;

    const ROUTE: Route<'_> = Route { from: "a", to: "b", sender: 42 };

    /// The text of a frame that is shorter than 64 KB.
    fn text(frame: &[u8]) -> &[u8] {
        &frame[if frame[1] & 0x7f == 126 { 8 } else { 6 }..]
    }

    fn sent(message: &mut Message, number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        message.write(number, &mut out);
        text(&out).to_vec()
    }

    #[test]
    fn a_message_is_what_official_nodes_send() {
        let mut message = Message::relay("SOCKET_MSG_EXCHANGE", ROUTE, 3, true);
        let text = sent(&mut message, 7);
        let array = text.strip_prefix(b"421000000007").unwrap();
        let [event, argument]: [String; 2] = serde_json::from_slice(array).unwrap();
        assert_eq!(event, "SOCKET_MSG_EXCHANGE");
        let argument: Value = serde_json::from_str(&argument).unwrap();
        assert_eq!(
            argument,
            json!({
                "stamp": "000042000000000007", "platformFrom": "LOAD", "versionFrom": "1.0.0",
                "from": "a", "to": "b", "channel": "load", "content": "xxx",
            })
        );
    }

    #[test]
    fn its_stamp_is_read_back() {
        let mut message = Message::relay("E", ROUTE, 200, false);
        let stamp = Stamp::new("E");
        for number in [0, 9, 123_456_789_012] {
            let text = sent(&mut message, number);
            let Packet::Event(array) = Packet::parse(&text) else { panic!("no event") };
            assert_eq!(stamp.read(array), Some((42, number)));
            assert!(message.is_same(array));
        }
        for array in ["[\"F\",\"{\\\"stamp\\\":\\\"", "[\"E\",\"{\\\"stamp\\\":\\\"00004200", "[]"]
        {
            assert_eq!(stamp.read(array.as_bytes()), None);
        }
    }

    #[test]
    fn any_other_byte_makes_it_another() {
        let mut message = Message::relay("E", ROUTE, 2, false);
        let text = sent(&mut message, 5);
        let array = &text[2..];
        let digits = array.windows(12).position(|window| window == b"000000000005").unwrap();
        for place in 0..array.len() {
            let mut other = array.to_vec();
            other[place] ^= 1;
            let is_number = (digits..digits + NUMBER_DIGITS).contains(&place);
            assert_eq!(message.is_same(&other), is_number, "{place}");
        }
        assert!(!message.is_same(&array[1..]));
        assert!(!message.is_same(&[array, b" "].concat()));
    }

    #[test]
    fn a_message_to_a_peer_is_what_peers_send() {
        let route = PeerRoute { from: "aa", to: "bb", salt: 123, sender: 42 };
        let mut message = Message::to_peer(route, 21);
        for number in [7, 123_456_789_012u64] {
            let text = sent(&mut message, number);
            let stamp = format!("000042{number:012}");
            let wanted = json!({
                "to": "bb", "from": "aa", "path": ["aa"], "nonce": format!("123{stamp}"),
                "data": {"type": "user", "data": format!("{stamp}xxx")},
            });
            assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), wanted);
        }
    }

    #[test]
    fn a_question_asks_for_its_ids() {
        let mut question = Message::question(&["a".into(), "b".into()]);
        let wanted = r#"421000000001["ARE_NODES_CONNECTED_TO_BROKER","{\"ids\":[\"a\",\"b\"]}"]"#;
        assert_eq!(String::from_utf8(sent(&mut question, 1)).unwrap(), wanted);
    }
}
