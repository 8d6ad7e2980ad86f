//! Forms of an event that the transport cannot read, rewritten into one that it can.
//!
//! The library wants an event's list right behind its acknowledgement ID, and its name without
//! escapes; else it loses the ID, or ends the connection. Both are legal JSON, and some JSON writers
//! escape every letter that is not ASCII. The bytes are rewritten where they are and none is added,
//! so that frames keep their lengths:
//!
//! ```text
//! 421 ["E"]         421[ "E"]       the blank and the bracket change places
//! 421["\u0045"]     421["␡u0045"]   DEL stands for the backslash, see [`json_name`]
//! ```

/// Stands for the backslash of an escape in a name. JSON has it in strings without an escape.
pub const ESCAPE: char = '\u{7f}';
const ESCAPE_BYTE: u8 = 0x7f;

/// Stand behind [`ESCAPE`] for a quote and a backslash, which would end the name or escape again.
const QUOTE: u8 = b'Q';
const BACKSLASH: u8 = b'B';

/// Makes the text invalid where it was not valid before.
const INVALID: u8 = b'!';

/// The content of the JSON string that a name was before it was rewritten.
pub fn json_name(name: &str) -> String {
    let mut json = String::with_capacity(name.len());
    let mut rest = name.chars();
    while let Some(next) = rest.next() {
        if next != ESCAPE {
            json.push(next);
            continue;
        }
        json.push('\\');
        json.extend(rest.next().map(|escaped| match u8::try_from(escaped) {
            Ok(QUOTE) => '"',
            Ok(BACKSLASH) => '\\',
            _ => escaped,
        }));
    }
    json
}

/// Rewrites the events in the bytes that one client sends.
#[derive(Debug, Default)]
pub(crate) struct NameRewriter {
    header: [u8; 14],
    header_bytes: usize,
    /// How much of the frame's payload is to come.
    left: u64,
    mask: [u8; 4],
    mask_at: usize,
    is_control: bool,
    step: Step,
}

/// What comes next in the message.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The `4` of a message.
    #[default]
    Message,
    /// The `2` of an event.
    Event,
    /// The acknowledgement ID, of which there is a part or none.
    Id { is_begun: bool },
    /// The list's bracket, which a blank has given its place to.
    Bracket,
    /// The name's quote.
    Quote,
    /// The name.
    Name,
    /// What a backslash in the name escapes.
    Escaped,
    /// Nothing that matters.
    Done,
}

impl NameRewriter {
    /// Rewrites what was read next.
    pub(crate) fn rewrite(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let (header, behind) = bytes.split_at_mut(1);
                header.iter().for_each(|byte| self.take_header(*byte));
                bytes = behind;
                continue;
            }
            let in_frame = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, behind) = bytes.split_at_mut(in_frame);
            if !self.is_control {
                for (byte, at) in payload.iter_mut().zip(self.mask_at..) {
                    if self.step == Step::Done {
                        break;
                    }
                    let mask = self.mask[at % 4];
                    *byte = self.take(*byte ^ mask) ^ mask;
                }
            }
            self.left -= in_frame as u64;
            self.mask_at = (self.mask_at + in_frame) % 4;
            bytes = behind;
        }
    }

    /// Takes a byte between two payloads.
    fn take_header(&mut self, byte: u8) {
        self.header[self.header_bytes] = byte;
        self.header_bytes += 1;
        if self.header_bytes < 2 {
            return;
        }
        let [first, second, ..] = self.header;
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
        if self.header_bytes < 2 + length_bytes + mask_bytes {
            return;
        }
        let (length, mask) = self.header[2..self.header_bytes].split_at(length_bytes);
        self.left = match length {
            [] => (second & 0x7f).into(),
            bytes => bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        self.mask = mask.try_into().unwrap_or_default();
        (self.header_bytes, self.mask_at) = (0, 0);
        self.is_control = first & 0x08 != 0;
        match first & 0x0f {
            1 => self.step = Step::Message,
            2 => self.step = Step::Done,
            _ => {}
        }
    }

    /// Takes a byte of a message, and returns what stands in its place.
    fn take(&mut self, byte: u8) -> u8 {
        let is_blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let (step, byte) = match (self.step, byte) {
            (Step::Message, b'4') => (Step::Event, byte),
            (Step::Event, b'2') => (Step::Id { is_begun: false }, byte),
            (Step::Id { .. }, b'0'..=b'9') => (Step::Id { is_begun: true }, byte),
            (Step::Id { .. }, b'[') => (Step::Quote, byte),
            (Step::Id { is_begun: true }, _) if is_blank => (Step::Bracket, b'['),
            (Step::Id { is_begun: false }, _) if is_blank => (self.step, byte),
            (Step::Bracket, b'[') => (Step::Quote, b' '),
            (Step::Bracket, _) if is_blank => (self.step, byte),
            (Step::Bracket, _) => (Step::Done, INVALID),
            (Step::Quote, b'"') => (Step::Name, byte),
            (Step::Quote, _) if is_blank => (self.step, byte),
            (Step::Name, b'\\') => (Step::Escaped, ESCAPE_BYTE),
            (Step::Name, b'"') => (Step::Done, byte),
            (Step::Name, _) => (self.step, byte),
            (Step::Escaped, b'"') => (Step::Name, QUOTE),
            (Step::Escaped, b'\\') => (Step::Name, BACKSLASH),
            (Step::Escaped, QUOTE | BACKSLASH) => (Step::Name, INVALID),
            (Step::Escaped, _) => (Step::Name, byte),
            _ => (Step::Done, byte),
        };
        self.step = step;
        byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    fn frame(first: u8, text: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match text.len() {
            length @ ..126 => bytes.push(0x80 | length as u8),
            length => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.extend(text.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// Every way to cut the bytes in two gives the same.
    fn rewritten(bytes: &[u8]) -> Vec<u8> {
        let mut whole = bytes.to_vec();
        NameRewriter::default().rewrite(&mut whole);
        for cut in 0..bytes.len().min(200) {
            let mut parts = bytes.to_vec();
            let (one, two) = parts.split_at_mut(cut);
            let mut rewriter = NameRewriter::default();
            rewriter.rewrite(one);
            rewriter.rewrite(two);
            assert_eq!(parts, whole, "cut at {cut}");
        }
        whole
    }

    #[test]
    fn forms_that_the_transport_cannot_read_are_rewritten() {
        for (sent, read) in [
            (r#"421 ["E","x"]"#, r#"421[ "E","x"]"#),
            ("4212\t\n [\"E\"]", "4212[\n  \"E\"]"),
            (r#"421["\u0045\n","\u0045"]"#, "421[\"\u{7f}u0045\u{7f}n\",\"\\u0045\"]"),
            (r#"42[ "a\"b\\","\\"]"#, "42[ \"a\u{7f}Qb\u{7f}B\",\"\\\\\"]"),
            (r#"42["\Q\B"]"#, "42[\"\u{7f}!\u{7f}!\"]"),
            (r#"421 "E"]"#, r#"421[!E"]"#),
        ] {
            for prefix in [&[][..], &frame(0x89, b"4"), &frame(0x81, br#"42["F\""]"#)] {
                let ping = [prefix, &frame(0x81, sent.as_bytes()), &frame(0x81, b"3")].concat();
                let result = rewritten(&ping);
                let tail = [frame(0x81, read.as_bytes()), frame(0x81, b"3")].concat();
                assert!(result.ends_with(&tail), "{sent}: {}", String::from_utf8_lossy(&result));
            }
        }
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let long = format!("421[\"E\",\"{}\"]", "\\n [".repeat(200));
        for text in [
            "",
            "2",
            "40",
            "42",
            r#"42 ["E","\\"]"#,
            r#"42["E","\"\\ [\""]"#,
            "42/a,1 [\"\\n\"]",
            "41 [",
            r#"431 ["\\"]"#,
            r#"451-1 ["\\"]"#,
            "4\\",
            &long,
        ] {
            let bytes = frame(0x81, text.as_bytes());
            assert_eq!(rewritten(&bytes), bytes, "{text}");
        }
        let binary = frame(0x82, br#"421 ["\n"]"#);
        assert_eq!(rewritten(&binary), binary);
    }

    #[test]
    fn a_message_in_fragments_with_a_ping_between_is_rewritten() {
        let fragments =
            [frame(0x01, br#"421 ["\"#), frame(0x89, b"\\ ["), frame(0x80, br#"u0045"]"#)];
        let expected =
            [frame(0x01, b"421[ \"\x7f"), frame(0x89, b"\\ ["), frame(0x80, br#"u0045"]"#)];
        assert_eq!(rewritten(&fragments.concat()), expected.concat());
    }

    #[test]
    fn names_are_read_back() {
        assert_eq!(json_name("\u{7f}u0045\u{7f}Q\u{7f}B\u{7f}!é"), r#"\u0045\"\\\!é"#);
        assert_eq!(json_name("a\u{7f}"), r"a\");
    }
}
