//! Two nodes as blocking sockets, for anyone who times or counts what a broker does: their frames and
//! buffers are made beforehand, so that relaying allocates nothing on this side and waits for
//! nothing but the broker.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest that an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The most messages in one write.
pub const MOST_AT_ONCE: usize = 16;

/// The ID of the node that receives.
pub const RECEIVER: &str = "bob";

/// Two connected nodes, of which one sends to the other.
pub struct Pair {
    /// The one that sends.
    pub sender: TcpStream,
    receiver: TcpStream,
    /// What is sent in one write, and what comes of it: at the receiver's, and at the sender's.
    sent: Vec<u8>,
    arrivals: Vec<u8>,
    acks: Vec<u8>,
    room: Vec<u8>,
}

impl Pair {
    /// Connects both; each message has `content_bytes` of content besides its addresses.
    pub fn connect(broker: SocketAddr, content_bytes: usize) -> Self {
        let content = "x".repeat(content_bytes);
        let fields = format!(
            r#"{{"platformFrom":"TEST","versionFrom":"1.0.0","from":"alice","to":"{RECEIVER}","channel":"test","content":"{content}"}}"#
        );
        let array = serde_json::to_string(&("SOCKET_MSG_EXCHANGE", fields)).unwrap();
        let arrivals = from_server(&format!("42{array}")).repeat(MOST_AT_ONCE);
        Self {
            sender: connect(broker, "alice"),
            receiver: connect(broker, RECEIVER),
            sent: from_client(&format!("421000{array}")).repeat(MOST_AT_ONCE),
            room: vec![0; arrivals.len()],
            arrivals,
            acks: from_server("431000[\"OK\"]").repeat(MOST_AT_ONCE),
        }
    }

    /// Sends messages, `at_once` of them in one write, each write after all of the one before has
    /// come: the messages and the acks.
    pub fn relay(&mut self, messages: usize, at_once: usize) {
        assert!(at_once <= MOST_AT_ONCE && messages.is_multiple_of(at_once));
        let of = |all: &Vec<u8>| all.len() / MOST_AT_ONCE * at_once;
        let Self { sender, receiver, sent, arrivals, acks, room } = self;
        for _ in 0..messages / at_once {
            sender.write_all(&sent[..of(sent)]).unwrap();
            read(receiver, &arrivals[..of(arrivals)], room);
            read(sender, &acks[..of(acks)], room);
        }
    }
}

/// Reads what has to come, and nothing else.
pub fn read(stream: &mut TcpStream, expected: &[u8], room: &mut [u8]) {
    let came = &mut room[..expected.len()];
    stream.read_exact(came).unwrap();
    assert!(came == expected, "something else came: {}", String::from_utf8_lossy(came));
}

/// A node's connection, after its greeting and the first heartbeat: nothing else comes by itself
/// until the next one.
fn connect(broker: SocketAddr, id: &str) -> TcpStream {
    let target = format!("/socket.io/?EIO=4&transport=websocket&id={id}&version=1&runtime=TEST");
    let mut stream = upgrade(broker, &target);
    stream.write_all(&from_client("40")).unwrap();
    // The heartbeat comes at once, before the greeting or after it.
    let (mut is_greeted, mut has_heartbeat) = (false, false);
    while !(is_greeted && has_heartbeat) {
        let text = text(&mut stream);
        is_greeted |= text.starts_with("42[\"AUTHENTICATED\"");
        if text == "2" {
            has_heartbeat = true;
            stream.write_all(&from_client("3")).unwrap();
        }
    }
    stream
}

/// The text of the next frame.
fn text(stream: &mut TcpStream) -> String {
    let mut header = [0; 2];
    stream.read_exact(&mut header).unwrap();
    assert_eq!(header[0], 0x81, "a text frame");
    let length = match header[1] {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            usize::from(u16::from_be_bytes(length))
        }
        short => usize::from(short),
    };
    let mut text = vec![0; length];
    stream.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// A connection that has been upgraded to a WebSocket.
pub fn upgrade(server: SocketAddr, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

/// A text frame as a client sends it. The mask is zero, which the standard allows.
pub fn from_client(text: &str) -> Vec<u8> {
    frame(0x80, &[0; 4], text)
}

/// A text frame as a server sends it.
pub fn from_server(text: &str) -> Vec<u8> {
    frame(0, &[], text)
}

fn frame(mask_bit: u8, mask: &[u8], text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        length @ 0..126 => frame.push(mask_bit | length as u8),
        length @ 126..65536 => {
            frame.push(mask_bit | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(mask_bit | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(text.as_bytes());
    frame
}
