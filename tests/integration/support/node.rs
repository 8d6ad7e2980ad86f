//! A client that knows nothing but frames.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::SOON;

/// A WebSocket connection to the broker, over TCP or what else there is.
pub struct Node<S = TcpStream> {
    pub stream: S,
    buffer: Vec<u8>,
}

/// What came in one frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Ping,
    Pong,
    Close,
    /// The connection ended without a word.
    End,
}

/// The request that a client upgrades its connection with.
pub fn upgrade_request(query: &str) -> String {
    format!(
        "GET /socket.io/?EIO=4&transport=websocket{query} HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// The query of an ordinary node.
fn query(id: &str) -> String {
    format!("&id={id}&version=1.0.0&runtime=TEST")
}

/// A masked frame, as a client sends it.
pub fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut bytes = vec![first_byte];
    match payload.len() {
        n @ 0..=125 => bytes.push(0x80 | n as u8),
        n @ 126..=65535 => {
            bytes.push(0x80 | 126);
            bytes.extend((n as u16).to_be_bytes());
        }
        n => {
            bytes.push(0x80 | 127);
            bytes.extend((n as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

impl Node {
    /// Upgrades and reads the Engine.IO greeting; no Socket.IO yet.
    pub async fn open(address: SocketAddr, query: &str) -> Self {
        match Self::try_open(address, query).await {
            Ok(node) => node,
            Err(answer) => panic!("no upgrade: {answer}"),
        }
    }

    /// As [`Node::open`], or the answer that was no upgrade.
    pub async fn try_open(address: SocketAddr, query: &str) -> Result<Self, String> {
        Self::request(address, upgrade_request(query).as_bytes()).await
    }

    /// As [`Node::try_open`], with the request's bytes as given.
    pub async fn request(address: SocketAddr, request: &[u8]) -> Result<Self, String> {
        Self::over(TcpStream::connect(address).await.unwrap(), request).await
    }

    /// As [`Node::request`], on a connection that is there.
    pub async fn over(stream: TcpStream, request: &[u8]) -> Result<Self, String> {
        stream.set_nodelay(true).unwrap();
        Self::upgraded(stream, request).await
    }

    /// A connected node: admitted, told so, routable.
    pub async fn connect(address: SocketAddr, id: &str) -> Self {
        let mut node = Self::open(address, &query(id)).await;
        node.send("40").await;
        node.authenticated().await;
        node
    }

    /// A connected node of which the broker has read every byte, so that from now on only what it
    /// sends is a heartbeat: the ack comes back behind the reply to the first heartbeat.
    pub async fn connect_settled(address: SocketAddr, id: &str) -> Self {
        let mut node = Self::connect(address, id).await;
        assert_eq!(node.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]");
        node
    }

    /// As [`Node::connect`], or the answer that kept it out: HTTP or `connect_error`.
    pub async fn try_connect(address: SocketAddr, id: &str) -> Result<Self, String> {
        let mut node = Self::try_open(address, &query(id)).await?;
        node.send("40").await;
        match node.text().await {
            refusal if refusal.starts_with("44") => Err(refusal),
            connected => {
                assert!(connected.starts_with("40{"), "{connected}");
                assert!(node.text().await.starts_with("42[\"AUTHENTICATED\","));
                Ok(node)
            }
        }
    }

    /// The same connection once more, to write while this one reads.
    pub fn second_stream(&self) -> TcpStream {
        let socket = socket2::SockRef::from(&self.stream).try_clone().unwrap();
        TcpStream::from_std(socket.into()).unwrap()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Node<S> {
    /// As [`Node::request`], on a stream of any kind.
    pub async fn upgraded(mut stream: S, request: &[u8]) -> Result<Self, String> {
        stream.write_all(request).await.unwrap();
        let mut node = Self { stream, buffer: Vec::new() };
        let head = node.read_head().await;
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(head);
        }
        let greeting = node.text().await;
        assert!(greeting.starts_with("0{\"sid\":\""), "{greeting}");
        Ok(node)
    }

    /// Reads the answer to CONNECT and the event behind it.
    pub async fn authenticated(&mut self) {
        let connected = self.text().await;
        assert!(connected.starts_with("40{\"sid\":\""), "{connected}");
        let authenticated = self.text().await;
        assert!(authenticated.starts_with("42[\"AUTHENTICATED\",\"{"), "{authenticated}");
    }

    /// Sends one text frame.
    pub async fn send(&mut self, text: &str) {
        self.send_bytes(&frame(0x81, text.as_bytes())).await;
    }

    /// Sends several text frames in one write.
    pub async fn send_all<T: AsRef<str>>(&mut self, texts: &[T]) {
        let frames: Vec<u8> =
            texts.iter().flat_map(|text| frame(0x81, text.as_ref().as_bytes())).collect();
        self.send_bytes(&frames).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends an event with an ack and returns the ack's text behind the ID.
    pub async fn ask(&mut self, event: &str, payload: &str) -> String {
        let argument = serde_json::to_string(payload).unwrap();
        self.ask_raw(&format!("[\"{event}\",{argument}]")).await
    }

    /// As [`Node::ask`], with the array as given.
    pub async fn ask_raw(&mut self, array: &str) -> String {
        self.send(&format!("427{array}")).await;
        let answer = self.text().await;
        answer.strip_prefix("437").unwrap_or_else(|| panic!("no ack: {answer}")).to_owned()
    }

    /// The next text frame; pings of either kind are answered on the way.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Frame::Text(text) => text,
            other => panic!("no text but {other:?}"),
        }
    }

    /// The next frame but heartbeats, which are answered.
    pub async fn next(&mut self) -> Frame {
        loop {
            match self.next_raw().await {
                Frame::Ping => self.send_bytes(&frame(0x8a, b"")).await,
                Frame::Text(text) if text == "2" => self.send("3").await,
                frame => return frame,
            }
        }
    }

    /// The next frame but heartbeats, which are passed over; nothing is answered.
    pub async fn next_unanswered(&mut self) -> Frame {
        loop {
            match self.next_raw().await {
                Frame::Text(text) if text == "2" => {}
                frame => return frame,
            }
        }
    }

    /// The next frame, whatever it is.
    async fn next_raw(&mut self) -> Frame {
        loop {
            if let Some((frame, length)) = parse(&self.buffer) {
                self.buffer.drain(..length);
                return frame;
            }
            if !self.fill().await {
                return Frame::End;
            }
        }
    }

    /// Waits until the connection has ended; what comes before is passed over.
    pub async fn end(&mut self) {
        while !matches!(self.next_raw().await, Frame::End) {}
    }

    /// Answers heartbeats and probes until it is dropped or the connection ends; the number of
    /// other texts that came is its result.
    pub fn live(mut self) -> Live {
        Live(Some(tokio::spawn(async move {
            let mut texts = 0;
            loop {
                let next = tokio::time::timeout(Duration::from_secs(60), self.next());
                match next.await.expect("the test ends within a minute") {
                    Frame::Text(_) => texts += 1,
                    Frame::End | Frame::Close => return texts,
                    Frame::Ping | Frame::Pong => {}
                }
            }
        })))
    }

    /// Gives back the memory of what has been read; nothing may be left unread.
    pub fn forget_buffer(&mut self) {
        assert!(self.buffer.is_empty());
        self.buffer = Default::default();
    }

    async fn read_head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.fill().await, "closed: {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// Reads more; `false` at the end.
    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(2 * SOON, self.stream.read_buf(&mut self.buffer));
        matches!(read.await.expect("something comes"), Ok(n) if n > 0)
    }
}

/// A node that answers by itself; see [`Node::live`].
pub struct Live(Option<JoinHandle<usize>>);

impl Live {
    /// Waits for the connection's end; how many texts came until then.
    pub async fn ended(mut self) -> usize {
        let task = self.0.take().unwrap();
        tokio::time::timeout(SOON, task).await.expect("the connection ends").unwrap()
    }

    pub fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// The first frame in `bytes` and its length, if it is complete.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (header, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(header..header + length)?;
    let frame = match bytes[0] {
        0x81 => Frame::Text(String::from_utf8(payload.to_vec()).expect("UTF-8")),
        0x88 => Frame::Close,
        0x89 => Frame::Ping,
        0x8a => Frame::Pong,
        first => panic!("an unexpected frame: {first:#x}"),
    };
    Some((frame, header + length))
}
