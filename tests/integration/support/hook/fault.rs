//! What can be wrong with an answer, down to the byte.
//!
//! Where there is an answer at all, what would have been the right one is in it: a client that overlooks
//! the fault takes it for a yes.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::connection::{Next, Stream, until_gone, write_answer};

/// The longest answer that is read.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Where redirects lead.
pub(super) const ELSEWHERE: &str = "/elsewhere";

/// The pause between two bytes that trickle.
const DROP: Duration = Duration::from_millis(100);

/// What a compressed answer of less than [`MAX_ANSWER_BYTES`] becomes, at least.
const BOMB_BYTES: usize = 1 << 20;

const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";

/// One thing that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listens on the port.
    Refused,
    /// The request is read, then the connection is reset.
    Reset,
    /// The request is read, then the connection is closed.
    Closed,
    /// The request is read, and that is all.
    Silent,
    /// One byte of the answer's head after the other, for ever.
    TrickledHead,
    /// One byte of the answer's body after the other, for ever.
    TrickledBody,
    /// The head of an answer and nothing behind it.
    HeadOnly,
    /// Header lines for ever.
    EndlessHead,
    /// A body without an end.
    Endless,
    /// One byte too many.
    TooLong,
    /// A small body that becomes a large one if it is unpacked.
    GzipBomb,
    /// Not HTTP.
    Garbage,
    /// A page for people.
    Html,
    /// These words instead of an object.
    Words(&'static str),
    /// The body's end is missing, and no length tells.
    Truncated,
    /// Something stands behind the object.
    Trailing,
    /// 204 without a body.
    NoContent,
    /// The right answer is at another place, says this status.
    Redirect(u16),
    /// The right answer under the wrong status.
    Status(u16),
    /// An object with this in the place of each value.
    Lie(&'static str),
}

impl Fault {
    /// All kinds.
    pub const ALL: &[Fault] = &[
        Fault::Refused,
        Fault::Reset,
        Fault::Closed,
        Fault::Silent,
        Fault::TrickledHead,
        Fault::TrickledBody,
        Fault::HeadOnly,
        Fault::EndlessHead,
        Fault::Endless,
        Fault::TooLong,
        Fault::GzipBomb,
        Fault::Garbage,
        Fault::Html,
        Fault::Words("null"),
        Fault::Words("true"),
        Fault::Words("[{}]"),
        Fault::Words(""),
        Fault::Truncated,
        Fault::Trailing,
        Fault::NoContent,
        Fault::Redirect(301),
        Fault::Redirect(307),
        Fault::Status(401),
        Fault::Status(413),
        Fault::Status(429),
        Fault::Status(500),
        Fault::Lie("\"true\""),
        Fault::Lie("1"),
        Fault::Lie("null"),
    ];

    /// Whether there is no answer that could be read, in contrast to one that is no yes.
    pub fn is_failure(self) -> bool {
        !matches!(self, Fault::Lie(_))
    }

    /// Answers a call with the fault, `good` being the right answer.
    pub(super) async fn commit(
        self,
        good: &str,
        stream: &mut dyn Stream,
        endless_bytes: &AtomicUsize,
    ) -> io::Result<Next> {
        let mut status = "200 OK".to_owned();
        let mut headers = "content-type: application/json\r\n".to_owned();
        // The right answer with room for more in it.
        let open = format!("{},\"pad\":\"", good.strip_suffix('}').unwrap());
        let body = match self {
            Fault::Refused => unreachable!("nobody listens"),
            Fault::Reset => return Ok(Next::Reset),
            Fault::Closed => return Ok(Next::Close),
            Fault::Silent => {
                until_gone(stream).await;
                return Ok(Next::Close);
            }
            Fault::TrickledHead => loop {
                for byte in b"HTTP/1.1 200 OK\r\nx: ".iter().chain(&[b'x'; 1_000_000]) {
                    stream.write_all(&[*byte]).await?;
                    tokio::time::sleep(DROP).await;
                }
            },
            Fault::TrickledBody => {
                stream.write_all(CHUNKED).await?;
                for byte in open.bytes().chain(std::iter::repeat(b'x')) {
                    stream.write_all(&chunk(&[byte])).await?;
                    tokio::time::sleep(DROP).await;
                }
                return Ok(Next::Close);
            }
            Fault::HeadOnly => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", good.len());
                stream.write_all(head.as_bytes()).await?;
                until_gone(stream).await;
                return Ok(Next::Close);
            }
            Fault::EndlessHead => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                return for_ever(stream, &b"x: y\r\n".repeat(1_000), endless_bytes).await;
            }
            Fault::Endless => {
                stream.write_all(CHUNKED).await?;
                stream.write_all(&chunk(open.as_bytes())).await?;
                return for_ever(stream, &chunk(&[b'x'; 16_384]), endless_bytes).await;
            }
            Fault::TooLong => padded(good, MAX_ANSWER_BYTES + 1).into_bytes(),
            Fault::GzipBomb => {
                headers += "content-encoding: gzip\r\n";
                gzip_bomb(&open, "\"}")
            }
            Fault::Garbage => {
                stream.write_all(b"\x15\x03\x01\0\x02\x02\x28 is no HTTP\r\n\r\n").await?;
                return Ok(Next::Close);
            }
            Fault::Html => {
                headers = "content-type: text/html\r\n".into();
                format!("<!doctype html><title>Sign in</title><pre>{good}</pre>").into()
            }
            Fault::Words(words) => words.into(),
            Fault::Truncated => {
                let half = &good[..good.len() - 1];
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
                stream.write_all(format!("{head}{half}").as_bytes()).await?;
                return Ok(Next::Close);
            }
            Fault::Trailing => format!("{good}{good}").into(),
            Fault::NoContent => {
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
                return Ok(Next::Keep);
            }
            Fault::Redirect(code) => {
                status = format!("{code} Elsewhere");
                headers += &format!("location: {ELSEWHERE}\r\n");
                good.into()
            }
            Fault::Status(code) => {
                status = format!("{code} Status");
                headers += "retry-after: 1\r\n";
                good.into()
            }
            Fault::Lie(value) => lie(good, value).into(),
        };
        write_answer(stream, &status, &headers, &body).await?;
        Ok(Next::Keep)
    }
}

/// `object` with one more field that makes it as long as wanted.
pub fn padded(object: &str, bytes: usize) -> String {
    let open = format!("{},\"pad\":\"", object.strip_suffix('}').unwrap());
    let pad = "x".repeat(bytes - open.len() - 2);
    format!("{open}{pad}\"}}")
}

/// `object` with another value in each field.
fn lie(object: &str, value: &str) -> String {
    let mut object: Value = serde_json::from_str(object).unwrap();
    for field in object.as_object_mut().unwrap().values_mut() {
        *field = serde_json::from_str(value).unwrap();
    }
    object.to_string()
}

/// A part of a body whose length nobody announced.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Sends the same until the client has had enough, and counts how much that was.
async fn for_ever(stream: &mut dyn Stream, bytes: &[u8], sent: &AtomicUsize) -> io::Result<Next> {
    loop {
        stream.write_all(bytes).await?;
        sent.fetch_add(bytes.len(), Ordering::SeqCst);
    }
}

/// `start`, a great many `x`, `end`; compressed (RFC 1951, RFC 1952). Written here bit by bit: it
/// is one block of fixed codes, in which 13 bits stand for the last byte 258 times more.
fn gzip_bomb(start: &str, end: &str) -> Vec<u8> {
    const TIMES: usize = 258;
    let repeats = BOMB_BYTES / TIMES;
    let text = [start, &"x".repeat(1 + repeats * TIMES), end].concat();
    let mut bits: Vec<bool> = vec![true, true, false];
    let mut code = |value: u32, length: u32| {
        bits.extend((0..length).rev().map(|bit| value >> bit & 1 == 1));
    };
    let literal = |byte: u8| 0x30 + u32::from(byte);
    start.bytes().chain([b'x']).for_each(|byte| code(literal(byte), 8));
    (0..repeats).for_each(|_| code(0b1100_0101 << 5, 13));
    end.bytes().for_each(|byte| code(literal(byte), 8));
    code(0, 7);

    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    packed.extend(bits.chunks(8).map(|byte| {
        byte.iter().enumerate().fold(0, |sum, (place, bit)| sum | u8::from(*bit) << place)
    }));
    packed.extend(crc32(text.as_bytes()).to_le_bytes());
    packed.extend((text.len() as u32).to_le_bytes());
    assert!(packed.len() < MAX_ANSWER_BYTES);
    packed
}

fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut entry = 0;
        while entry < table.len() * 8 {
            let sum: u32 = if entry % 8 == 0 { entry as u32 / 8 } else { table[entry / 8] };
            table[entry / 8] = sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 };
            entry += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum, byte| sum >> 8 ^ TABLE[usize::from(sum as u8 ^ byte)])
}
