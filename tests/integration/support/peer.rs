//! A client of the peer-relay endpoint that knows nothing but frames.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use peer_relay::PeerId;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message, http};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::SOON;

/// The path of the endpoint in tests.
pub const PEERS: &str = "/peers";

/// A channel to a peer, from the outside.
pub struct RawPeer {
    pub socket: WebSocketStream<TcpStream>,
    pub id: PeerId,
    /// The ID that the other side sent.
    pub other: PeerId,
    pub last_nonce: u64,
}

/// An ID whose bytes are all the same.
pub fn id(byte: u8) -> PeerId {
    PeerId::from_bytes([byte; 20])
}

/// An ID in the form of a Node.js Buffer.
pub fn buffer(id: PeerId) -> Value {
    json!({"type": "Buffer", "data": id.as_bytes()})
}

impl RawPeer {
    /// Opens the WebSocket; no ID yet.
    pub async fn open(address: SocketAddr) -> Result<WebSocketStream<TcpStream>, Error> {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let url = format!("ws://{address}{PEERS}");
        client_async(url, stream).await.map(|(socket, _)| socket)
    }

    /// The status of the answer where there is no WebSocket to be had.
    pub async fn refusal(address: SocketAddr) -> http::StatusCode {
        match Self::open(address).await {
            Err(Error::Http(response)) => response.status(),
            other => panic!("{other:?}"),
        }
    }

    /// Connects with this ID, and reads the question that every new neighbour is asked.
    pub async fn connect(address: SocketAddr, id: PeerId) -> Self {
        let mut peer = Self::greet(address, id).await;
        let question = peer.message().await;
        let own = peer.other.to_string();
        assert_eq!(question["data"], json!({"type": "findPeers", "data": own}));
        assert_eq!((&question["from"], &question["path"]), (&json!(own), &json!([own])));
        peer
    }

    /// Sends an ID and reads one.
    pub async fn greet(address: SocketAddr, id: PeerId) -> Self {
        let mut socket = Self::open(address).await.unwrap();
        socket.send(Message::text(buffer(id).to_string())).await.unwrap();
        let first = next(&mut socket).await.expect("an ID");
        let other = serde_json::from_value(first.clone()).unwrap();
        assert_eq!(first, buffer(other), "the form of a Buffer");
        Self { socket, id, other, last_nonce: 0 }
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends a frame as it stands there.
    pub async fn send_text(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).await.unwrap();
    }

    /// A message of this peer's own, on its first hop.
    pub fn frame(&mut self, to: PeerId, data: Value) -> Value {
        self.last_nonce += 1;
        let nonce = format!("{}{:03}", self.last_nonce, self.id.as_bytes()[0]);
        json!({"to": to, "from": self.id, "path": [self.id], "nonce": nonce, "data": data})
    }

    /// Sends a message to another peer.
    pub async fn send_to(&mut self, to: PeerId, data: Value) {
        let frame = self.frame(to, data);
        self.send(&frame).await;
    }

    /// Asks the other side something, and gives the `data` of its answer.
    pub async fn ask(&mut self, data: Value) -> Value {
        self.send_to(self.other, data).await;
        let answer = self.answer().await;
        assert_eq!(answer["from"], json!(self.other));
        answer["data"].clone()
    }

    /// The text of the next message.
    pub async fn raw_message(&mut self) -> String {
        next_text(&mut self.socket).await.expect("a message")
    }

    /// The next message.
    pub async fn message(&mut self) -> Value {
        next(&mut self.socket).await.expect("a message")
    }

    /// The next message that is no question which peers are known; a peer that looks for others
    /// asks it from time to time.
    pub async fn answer(&mut self) -> Value {
        loop {
            let message = self.message().await;
            if message["data"]["type"] != "findPeers" {
                return message;
            }
        }
    }

    /// The next message that is for this peer itself.
    pub async fn own_message(&mut self) -> Value {
        loop {
            let message = self.message().await;
            if message["to"] == json!(self.id) {
                return message;
            }
        }
    }

    /// Shows that nothing else came before the answer to a question.
    pub async fn is_silent(&mut self) {
        let target = self.id;
        let answer = self.ask(json!({"type": "findPeers", "data": target})).await;
        assert_eq!(answer["type"], "foundPeers", "{answer}");
    }

    /// Reads until the other side closes.
    pub async fn closed(&mut self) {
        while next(&mut self.socket).await.is_some() {}
    }
}

/// The JSON of the next text, or `None` at the end.
async fn next(socket: &mut WebSocketStream<TcpStream>) -> Option<Value> {
    next_text(socket).await.map(|text| serde_json::from_str(&text).unwrap())
}

/// The next text, or `None` at the end.
async fn next_text(socket: &mut WebSocketStream<TcpStream>) -> Option<String> {
    loop {
        let frame = tokio::time::timeout(SOON, socket.next()).await.expect("a frame or the end");
        match frame {
            Some(Ok(Message::Text(text))) => return Some(text.to_string()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(_) | Err(_)) | None => return None,
        }
    }
}
