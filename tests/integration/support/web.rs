//! A client of plain HTTP/1.1 on one connection that is kept.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::SOON;

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Answer {
    fn parse(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Self { status, headers: headers.collect(), text: String::new() }
    }

    /// The values of a header, separated by commas.
    pub fn header(&self, name: &str) -> String {
        let values = self.headers.iter().filter(|(header, _)| header == name);
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// One connection.
pub struct Web {
    stream: TcpStream,
    read: Vec<u8>,
    /// What every request has.
    headers: String,
}

impl Web {
    /// A client without an origin.
    pub async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// A client without an origin, on a connection that is there.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new(), headers: String::new() }
    }

    /// A client whose requests are of an origin.
    pub async fn of(address: SocketAddr, origin: &str) -> Self {
        Self { headers: format!("Origin: {origin}\r\n"), ..Self::open(address).await }
    }

    pub async fn get(&mut self, target: &str) -> Answer {
        self.ask("GET", target, "", "").await
    }

    pub async fn post(&mut self, target: &str, body: &Value) -> Answer {
        self.ask("POST", target, "", &body.to_string()).await
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, method: &str, target: &str, more: &str, body: &str) -> Answer {
        self.send(method, target, more, body).await;
        self.answer().await.expect("an answer")
    }

    /// Sends a request only; `more` are header lines.
    pub async fn send(&mut self, method: &str, target: &str, more: &str, body: &str) {
        let headers = &self.headers;
        let length = if method == "POST" && !more.contains("Content-Length") {
            format!("Content-Length: {}\r\n", body.len())
        } else {
            String::new()
        };
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: broker\r\n{headers}{more}{length}\r\n{body}"
        );
        self.write(request.as_bytes()).await;
    }

    /// Sends a request on a connection that may have ended.
    pub async fn try_send(&mut self, method: &str, target: &str, body: &str) -> io::Result<()> {
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: broker\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next answer with a `Content-Length`; none if the connection ends before it.
    pub async fn answer(&mut self) -> Option<Answer> {
        let mut answer = self.head().await?;
        let length = answer.header("content-length").parse().unwrap_or(0);
        while self.read.len() < length {
            self.more().await.then_some(())?;
        }
        answer.text = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        Some(answer)
    }

    /// The head of the next answer.
    pub async fn head(&mut self) -> Option<Answer> {
        loop {
            let end = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<_> = self.read.drain(..end + 4).collect();
                return Some(Answer::parse(std::str::from_utf8(&head).unwrap().trim_end()));
            }
            self.more().await.then_some(())?;
        }
    }

    /// Reads until `text` has come, and gives everything up to its end.
    pub async fn until(&mut self, text: &str) -> String {
        loop {
            let found = String::from_utf8_lossy(&self.read).find(text);
            if let Some(start) = found {
                let read = self.read.drain(..start + text.len()).collect();
                return String::from_utf8(read).unwrap();
            }
            assert!(self.more().await, "the connection ended before {text:?}");
        }
    }

    /// Reads to the end of the connection.
    pub async fn end(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// Reads something more; false at the end.
    async fn more(&mut self) -> bool {
        let limit = 8 * SOON;
        let read = tokio::time::timeout(limit, self.stream.read_buf(&mut self.read)).await;
        read.expect("something is read").is_ok_and(|length| length > 0)
    }
}
