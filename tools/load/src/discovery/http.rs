//! One client's connection: HTTP/1.1, one request after the other.
//!
//! A general library would cost more than many an answer that is measured. What is sent is ready
//! beforehand, and an answer is read only as far as is needed to know where it ends.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The least room for one read, in bytes.
const READ_BYTES: usize = 8 * 1024;

/// The longest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The longest answer, in bytes: a list of 1000 of the longest offers.
const MAX_BODY_BYTES: usize = 512 * 1024 * 1024;

/// A connection that is kept.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    /// Whether the server closes the connection after it.
    pub(super) is_last: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoReply {
    /// The server closed.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// What came is no answer of HTTP/1.1, or none that this reads.
    #[error("the server sent {0}")]
    Invalid(&'static str),
}

impl Client {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Whether the server has closed since the last answer: servers do not keep connections for
    /// ever that nothing comes by.
    pub(super) fn is_closed(&self) -> bool {
        !matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and reads the answer.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<Reply<'_>, NoReply> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
            self.read().await?;
        };
        let body = loop {
            let rest = self.buffer.get_mut(head.bytes..).unwrap_or_default();
            if let Some(length) = head.body(rest)? {
                break head.bytes..head.bytes + length;
            }
            self.read().await?;
        };
        let body = self.buffer.get(body).unwrap_or_default();
        Ok(Reply { status: head.status, body, is_last: head.is_last })
    }

    async fn read(&mut self) -> Result<(), NoReply> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(NoReply::Closed),
            _ => Ok(()),
        }
    }
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Its length.
    bytes: usize,
    length: Length,
    is_last: bool,
}

/// How the end of an answer is told (RFC 9112, 6).
#[derive(Debug, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    Chunked,
}

impl Head {
    /// Reads a head; none if it is not complete yet.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, NoReply> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            let is_too_long = bytes.len() > MAX_HEAD_BYTES;
            return if is_too_long { Err(NoReply::Invalid("too long a head")) } else { Ok(None) };
        };
        let text = bytes.get(..end).and_then(|head| std::str::from_utf8(head).ok());
        let mut lines = text.ok_or(NoReply::Invalid("a head that is no text"))?.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or(NoReply::Invalid("something other than HTTP/1.1"))?;
        let mut length = matches!(status, 204 | 304).then_some(Length::Bytes(0));
        let mut is_last = false;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                let bytes = value.parse().ok().filter(|bytes| *bytes <= MAX_BODY_BYTES);
                length = Some(Length::Bytes(bytes.ok_or(NoReply::Invalid("an odd length"))?));
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                length = value.eq_ignore_ascii_case("chunked").then_some(Length::Chunked);
            } else if name.eq_ignore_ascii_case("connection") {
                is_last = value.eq_ignore_ascii_case("close");
            }
        }
        let length = length.ok_or(NoReply::Invalid("an answer without its length"))?;
        Ok(Some(Self { status, bytes: end + 4, length, is_last }))
    }

    /// The length of the body that `bytes` begins with; none if it is not complete yet. A body in
    /// chunks is put together there.
    fn body(&self, bytes: &mut [u8]) -> Result<Option<usize>, NoReply> {
        let (end, length) = match self.length {
            Length::Bytes(length) => (length, length),
            Length::Chunked => {
                let Some((chunks, end)) = chunks(bytes)? else { return Ok(None) };
                let mut length = 0;
                for chunk in chunks {
                    bytes.copy_within(chunk.clone(), length);
                    length += chunk.len();
                }
                (end, length)
            }
        };
        match bytes.len() {
            there if there < end => Ok(None),
            there if there == end => Ok(Some(length)),
            _ => Err(NoReply::Invalid("more than it was asked for")),
        }
    }
}

/// Where the chunks of a body are, and where it ends; none if it is not complete yet.
#[allow(clippy::type_complexity, reason = "it is named above")]
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<std::ops::Range<usize>>, usize)>, NoReply> {
    let mut chunks = Vec::new();
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(line) = rest.windows(2).position(|window| window == b"\r\n") else {
            return Ok(None);
        };
        let text = rest.get(..line).and_then(|line| std::str::from_utf8(line).ok());
        let digits = text.and_then(|text| text.split(';').next()).map(str::trim);
        let length = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let length = length.filter(|length| *length <= MAX_BODY_BYTES);
        let length = length.ok_or(NoReply::Invalid("a chunk without its length"))?;
        let begin = at + line + 2;
        at = begin + length + 2;
        match bytes.get(begin + length..at) {
            None => return Ok(None),
            Some(b"\r\n") if length == 0 => return Ok(Some((chunks, at))),
            Some(b"\r\n") => chunks.push(begin..begin + length),
            Some(_) => return Err(NoReply::Invalid("a chunk that is longer than it says")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an answer as it would be read if it came byte by byte.
    fn read(text: &str) -> Result<Option<(u16, String)>, NoReply> {
        for end in 0..=text.len() {
            let mut bytes = text.as_bytes()[..end].to_vec();
            let Some(head) = Head::parse(&bytes)? else { continue };
            let rest = &mut bytes[head.bytes..];
            if let Some(length) = head.body(rest)? {
                assert_eq!(end, text.len(), "too early");
                let body = String::from_utf8_lossy(&rest[..length]).into_owned();
                return Ok(Some((head.status, body)));
            }
        }
        Ok(None)
    }

    #[test]
    fn an_answer_ends_where_it_says() {
        let length = "HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nX: y\r\n\r\nhello";
        assert_eq!(read(length).unwrap(), Some((200, "hello".into())));
        let chunks = "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n, everyone\r\n0\r\n\r\n";
        assert_eq!(read(chunks).unwrap(), Some((404, "hello, everyone".into())));
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n").unwrap(), Some((204, String::new())));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello").unwrap(), None);
    }

    #[test]
    fn the_last_answer_says_so() {
        let head = |connection: &str| {
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{connection}\r\n");
            Head::parse(text.as_bytes()).unwrap().unwrap().is_last
        };
        assert!(head("connection: Close\r\n"));
        assert!(!head("Connection: keep-alive\r\n"));
        assert!(!head(""));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "HTTP/1.0 200 OK\r\n\r\n",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 20\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(Head::parse(&[b'x'; MAX_HEAD_BYTES + 1]).is_err());
        let head = Head::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").unwrap().unwrap();
        assert!(head.body(&mut b"abc".to_vec()).is_err());
    }
}
