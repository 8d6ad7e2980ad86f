//! Packets of Engine.IO 4 and Socket.IO 5, as far as a broker sends them to a node; and messages of
//! the peer-relay network, which are JSON objects with nothing around.

/// One packet, read from a text frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0{...}`: Engine.IO is open.
    Open,
    /// `1`, `41`: the server closes.
    Close,
    /// `2`: a heartbeat, answered with `3`.
    Ping,
    /// `40{...}`: Socket.IO is connected.
    Connected,
    /// `44{...}`: a final no; the JSON object with its `message`.
    Refused(&'a [u8]),
    /// `42[...]`: an event, with the JSON array of its name and arguments.
    Event(&'a [u8]),
    /// `43<ID>[...]`: an acknowledgement, with the JSON array of its arguments.
    Ack(u64, &'a [u8]),
    /// `{...}`: what a peer-relay peer sends, an ID or a message.
    Message(&'a [u8]),
    /// Anything else.
    Other,
}

impl<'a> Packet<'a> {
    /// Reads a packet; never fails, for what is unknown is [`Packet::Other`].
    pub fn parse(text: &'a [u8]) -> Self {
        match text {
            [b'4', b'3', rest @ ..] => Self::ack(rest),
            [b'4', b'2', rest @ ..] => Self::Event(rest),
            [b'2'] => Self::Ping,
            [b'0', ..] => Self::Open,
            [b'1'] | [b'4', b'1', ..] => Self::Close,
            [b'4', b'0', ..] => Self::Connected,
            [b'4', b'4', rest @ ..] => Self::Refused(rest),
            [b'{', ..] => Self::Message(text),
            _ => Self::Other,
        }
    }

    fn ack(rest: &'a [u8]) -> Self {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (id, arguments) = rest.split_at(digits);
        number(id).map_or(Self::Other, |id| Self::Ack(id, arguments))
    }
}

/// The number that these ASCII digits are; none if there are none, others, or too many.
pub fn number(digits: &[u8]) -> Option<u64> {
    let value = digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        value.checked_mul(10)?.checked_add(digit.into())
    });
    value.filter(|_| !digits.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_apart() {
        let cases: [(&str, Packet<'_>); 13] = [
            ("0{\"sid\":\"a\"}", Packet::Open),
            ("1", Packet::Close),
            ("41", Packet::Close),
            ("2", Packet::Ping),
            ("2probe", Packet::Other),
            ("40{\"sid\":\"a\"}", Packet::Connected),
            ("44{\"message\":\"no\"}", Packet::Refused(b"{\"message\":\"no\"}")),
            ("42[\"A\",\"b\"]", Packet::Event(b"[\"A\",\"b\"]")),
            ("4317[\"OK\"]", Packet::Ack(17, b"[\"OK\"]")),
            ("{\"to\":1}", Packet::Message(b"{\"to\":1}")),
            ("43[\"OK\"]", Packet::Other),
            ("4399999999999999999999[\"OK\"]", Packet::Other),
            ("", Packet::Other),
        ];
        for (text, packet) in cases {
            assert_eq!(Packet::parse(text.as_bytes()), packet, "{text}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(number(b"000120"), Some(120));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for text in ["", "1a", "-1", "18446744073709551616"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }
}
