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

use crate::frame::Frame;

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

/// Rewrites the events in the messages that one client sends.
#[derive(Debug, Default)]
pub(crate) struct NameRewriter(Step);

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
    /// A message begins.
    pub(crate) fn begin(&mut self, is_text: bool) {
        self.0 = if is_text { Step::Message } else { Step::Done };
    }

    /// Rewrites what comes next of the message, in the payload of `frame`.
    pub(crate) fn rewrite(&mut self, payload: &mut [u8], frame: &Frame) {
        if self.0 == Step::Done || frame.is_control() {
            return;
        }
        let mask = frame.mask.unwrap_or_default();
        for (byte, at) in payload.iter_mut().zip(frame.skipped as usize..) {
            let mask = mask[at % 4];
            let read = *byte ^ mask;
            // Most of the bytes of most events.
            if self.0 == Step::Name && !matches!(read, b'"' | b'\\') {
                continue;
            }
            *byte = self.take(read) ^ mask;
            if self.0 == Step::Done {
                return;
            }
        }
    }

    /// Takes a byte of a message, and returns what stands in its place.
    fn take(&mut self, byte: u8) -> u8 {
        let is_blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let (step, byte) = match (self.0, byte) {
            (Step::Message, b'4') => (Step::Event, byte),
            (Step::Event, b'2') => (Step::Id { is_begun: false }, byte),
            (Step::Id { .. }, b'0'..=b'9') => (Step::Id { is_begun: true }, byte),
            (Step::Id { .. }, b'[') => (Step::Quote, byte),
            (Step::Id { is_begun: true }, _) if is_blank => (Step::Bracket, b'['),
            (Step::Id { is_begun: false }, _) if is_blank => (self.0, byte),
            (Step::Bracket, b'[') => (Step::Quote, b' '),
            (Step::Bracket, _) if is_blank => (self.0, byte),
            (Step::Bracket, _) => (Step::Done, INVALID),
            (Step::Quote, b'"') => (Step::Name, byte),
            (Step::Quote, _) if is_blank => (self.0, byte),
            (Step::Name, b'\\') => (Step::Escaped, ESCAPE_BYTE),
            (Step::Name, b'"') => (Step::Done, byte),
            (Step::Name, _) => (self.0, byte),
            (Step::Escaped, b'"') => (Step::Name, QUOTE),
            (Step::Escaped, b'\\') => (Step::Name, BACKSLASH),
            (Step::Escaped, QUOTE | BACKSLASH) => (Step::Name, INVALID),
            (Step::Escaped, _) => (Step::Name, byte),
            _ => (Step::Done, byte),
        };
        self.0 = step;
        byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Found, FrameScanner};

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

    /// Rewrites the messages in `parts`, one part after the other.
    fn rewrite(parts: [&mut [u8]; 2]) {
        let (mut scanner, mut rewriter) = (FrameScanner::default(), NameRewriter::default());
        for mut bytes in parts {
            while !bytes.is_empty() {
                let length = scanner.frame().map_or(1, |frame| frame.remaining().min(bytes.len()));
                let (next, behind) = bytes.split_at_mut(length);
                if let Some(frame) = scanner.frame() {
                    rewriter.rewrite(next, frame);
                }
                if scanner.next(next).1 == Found::Header
                    && let Some(is_text) = scanner.frame().and_then(Frame::begins_text)
                {
                    rewriter.begin(is_text);
                }
                bytes = behind;
            }
        }
    }

    /// Every way to cut the bytes in two gives the same.
    fn rewritten(bytes: &[u8]) -> Vec<u8> {
        let mut whole = bytes.to_vec();
        rewrite([&mut whole, &mut []]);
        for cut in 0..bytes.len().min(200) {
            let mut parts = bytes.to_vec();
            let (one, two) = parts.split_at_mut(cut);
            rewrite([one, two]);
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
