//! Reads a message of the usual form in one pass.
//!
//! A message is a JSON object, encoded as a JSON string, in a JSON array:
//! `["NAME","{\"to\":\"bob\"}"]`. Reading it in general takes three parsers, one after the other.
//! This one reads both levels of JSON at the same time and finds the addresses without writing a
//! byte. It checks everything that the three check, so it accepts nothing that they reject. Unusual
//! messages are left to them: an address with an escape, deep nesting, a repeated address, a
//! needless escape, and every error.

use super::json_string::{JsonString, ordinary_bytes};

/// The parts of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scanned<'a> {
    pub(super) name: &'a str,
    pub(super) argument: JsonString<'a>,
    pub(super) addresses: Addresses<'a>,
}

/// What a message's object has at `to` and at `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses<'a> {
    pub(super) to: &'a str,
    pub(super) from: Option<&'a str>,
}

/// How deep objects and lists may be nested.
const MAX_DEPTH: u8 = 16;

/// Reads a message; `None` if it is for the general parsers.
pub(super) fn scan(text: &str) -> Option<Scanned<'_>> {
    let (name, rest) = text.strip_prefix("[\"")?.split_once('"')?;
    if name.bytes().any(|byte| byte < b' ' || byte == b'\\') {
        return None;
    }
    let argument = rest.strip_prefix(',')?.strip_suffix(']')?;
    let mut scanner = Scanner { text: argument.strip_prefix('"')?, at: 0 };
    let addresses = scanner.addresses()?;
    // Only the quote that ends the argument is left.
    (scanner.token()? == Token::End && scanner.at == scanner.text.len()).then_some(Scanned {
        name,
        argument: JsonString::trusted(argument),
        addresses,
    })
}

struct Scanner<'a> {
    /// The text between the argument's first quote and the end.
    text: &'a str,
    at: usize,
}

/// What the object's text has next, beside blanks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// A quote of the object's own: `\"`.
    Quote,
    /// The quote that ends the argument.
    End,
    Other(u8),
}

/// A string in the object, as encoded in the text.
struct Text<'a> {
    raw: &'a str,
    has_escapes: bool,
}

impl<'a> Scanner<'a> {
    /// Reads the object, up to its end.
    fn addresses(&mut self) -> Option<Addresses<'a>> {
        let (mut to, mut from) = (None, None);
        self.expect(Token::Other(b'{'))?;
        // Without any member there is no address either.
        loop {
            self.expect(Token::Quote)?;
            let key = self.plain_text()?;
            self.expect(Token::Other(b':'))?;
            let address = match key {
                "to" => Some(&mut to),
                "from" => Some(&mut from),
                _ => None,
            };
            match address {
                Some(address) => {
                    self.expect(Token::Quote)?;
                    if address.replace(self.plain_text()?).is_some() {
                        return None;
                    }
                }
                None => self.value(MAX_DEPTH)?,
            }
            match self.token()? {
                Token::Other(b',') => {}
                Token::Other(b'}') => return Some(Addresses { to: to?, from }),
                _ => return None,
            }
        }
    }

    /// Passes over a value.
    fn value(&mut self, depth: u8) -> Option<()> {
        match self.token()? {
            Token::Quote => self.text().map(drop),
            Token::Other(b'{') => self.list(depth, b'}', |scanner, depth| {
                scanner.expect(Token::Quote)?;
                scanner.text()?;
                scanner.expect(Token::Other(b':'))?;
                scanner.value(depth)
            }),
            Token::Other(b'[') => self.list(depth, b']', Self::value),
            Token::Other(b't') => self.word("rue"),
            Token::Other(b'f') => self.word("alse"),
            Token::Other(b'n') => self.word("ull"),
            Token::Other(first @ (b'-' | b'0'..=b'9')) => self.number(first),
            Token::Other(_) | Token::End => None,
        }
    }

    /// Skips what is between brackets, the first of which was read.
    fn list(&mut self, depth: u8, end: u8, element: fn(&mut Self, u8) -> Option<()>) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let start = self.at;
        if self.token()? == Token::Other(end) {
            return Some(());
        }
        self.at = start;
        loop {
            element(self, depth)?;
            match self.token()? {
                Token::Other(b',') => {}
                Token::Other(last) if last == end => return Some(()),
                _ => return None,
            }
        }
    }

    fn word(&mut self, rest: &str) -> Option<()> {
        self.text.get(self.at..)?.starts_with(rest).then(|| self.at += rest.len())
    }

    /// Passes over a number (RFC 8259, 6), whose first byte was read.
    fn number(&mut self, first: u8) -> Option<()> {
        let first = if first == b'-' { self.next()? } else { first };
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.peek()? == b'.' {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek()?, b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Some(())
    }

    fn some_digits(&mut self) -> Option<()> {
        self.next()?.is_ascii_digit().then(|| self.digits())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// A string without escapes, whose first quote was read.
    fn plain_text(&mut self) -> Option<&'a str> {
        self.text().filter(|text| !text.has_escapes).map(|text| text.raw)
    }

    /// A string, whose first quote was read.
    fn text(&mut self) -> Option<Text<'a>> {
        let start = self.at;
        let mut has_escapes = false;
        loop {
            self.at += ordinary_bytes(self.text.as_bytes().get(self.at..)?);
            // Nothing but a backslash is left that may stand in a string.
            if self.next()? != b'\\' {
                return None;
            }
            match self.next()? {
                b'"' => {
                    let raw = self.text.get(start..self.at - "\\\"".len())?;
                    return Some(Text { raw, has_escapes });
                }
                b'\\' => self.escape()?,
                b'/' => {}
                _ => return None,
            }
            has_escapes = true;
        }
    }

    /// An escape of the object's own, whose backslash (`\\` in the text) was read.
    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'/' => Some(()),
            b'\\' => matches!(self.next()?, b'"' | b'\\' | b'/').then_some(()),
            b'u' => (0..4)
                .all(|_| self.next().is_some_and(|digit| digit.is_ascii_hexdigit()))
                .then_some(()),
            _ => None,
        }
    }

    fn expect(&mut self, token: Token) -> Option<()> {
        (self.token()? == token).then_some(())
    }

    /// The next byte that is not a blank.
    fn token(&mut self) -> Option<Token> {
        loop {
            return Some(match self.next()? {
                b' ' => continue,
                b'"' => Token::End,
                b'\\' => match self.next()? {
                    b'n' | b'r' | b't' => continue,
                    b'"' => Token::Quote,
                    _ => return None,
                },
                byte => Token::Other(byte),
            });
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }
}

#[cfg(test)]
mod tests;
