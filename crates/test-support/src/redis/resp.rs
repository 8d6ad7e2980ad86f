//! As much of Redis's protocol (RESP2) as a test needs: one command, one answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::SOON;

/// What comes back for a command.
#[derive(Debug)]
pub(super) enum Answer {
    /// Also numbers, and nothing at all for `nil`.
    Text(String),
    Error(String),
    List(Vec<Answer>),
}

impl Answer {
    /// As text; the parts of a list are lines.
    pub(super) fn text(self) -> String {
        match self {
            Answer::Text(text) | Answer::Error(text) => text,
            list @ Answer::List(_) => list.parts().join("\n"),
        }
    }

    /// The parts of a list.
    pub(super) fn parts(self) -> Vec<String> {
        match self {
            Answer::List(parts) => parts.into_iter().map(Answer::text).collect(),
            other => panic!("no list but {other:?}"),
        }
    }
}

/// Connects as the tests' own user, sends a command and reads the answer.
pub(super) fn ask(address: SocketAddr, words: &[&str]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    let commands = [encode(&["AUTH", "tests", "-"]), encode(words)].concat();
    stream.write_all(commands.as_bytes())?;
    let mut reader = BufReader::new(stream);
    match read(&mut reader)? {
        Answer::Error(error) => Err(io::Error::other(error)),
        _ => read(&mut reader),
    }
}

fn encode(words: &[&str]) -> String {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    command
}

fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
    let length = || rest.parse::<i64>().map_err(io::Error::other);
    match kind {
        "+" | ":" => Ok(Answer::Text(rest.into())),
        "-" => Ok(Answer::Error(rest.into())),
        "$" => {
            // -1 stands for `nil`, and nothing follows.
            let Ok(length) = usize::try_from(length()?) else {
                return Ok(Answer::Text(String::new()));
            };
            let mut text = vec![0; length + 2];
            reader.read_exact(&mut text)?;
            text.truncate(length);
            Ok(Answer::Text(String::from_utf8_lossy(&text).into_owned()))
        }
        "*" => (0..length()?).map(|_| read(reader)).collect::<io::Result<_>>().map(Answer::List),
        _ => Err(io::Error::other(format!("not RESP2: {line:?}"))),
    }
}
