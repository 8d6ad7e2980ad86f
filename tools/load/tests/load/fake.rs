//! A little broker that misbehaves in one way, on purpose.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// What the broker does wrong, with every fiftieth message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It answers `ERROR` and relays all the same.
    Error,
    /// It answers twice.
    SecondAck,
    /// It never answers.
    NoAck,
    /// It answers `OK` and keeps the message.
    Keeps,
    /// It relays the message after the next of its sender.
    Swaps,
    /// It relays it twice.
    Repeats,
    /// It changes a byte.
    Alters,
    /// It relays it to another receiver too.
    Misdelivers,
    /// It closes the sender's connection.
    Closes,
    /// It does nothing for [`STALL`], once.
    Stalls,
    /// It says of nobody that he is connected.
    SeesNobody,
}

/// How often something goes wrong.
const EVERY: u64 = 50;

/// The most that waits for one node.
const QUEUE: usize = 10_000;

/// How long a broker stalls.
pub(crate) const STALL: Duration = Duration::from_millis(300);

type Nodes = Arc<Mutex<HashMap<String, mpsc::Sender<Message>>>>;

/// Starts such a broker; it ends with the test.
pub(crate) async fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let nodes = Nodes::default();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, nodes.clone(), fault));
        }
    });
    address
}

/// Serves one node until it leaves.
async fn serve(stream: TcpStream, nodes: Nodes, fault: Fault) {
    let mut id = String::new();
    // A library's handshake, so that it is judged by another than the one who wrote the client.
    #[allow(clippy::result_large_err, reason = "the library's type")]
    let read_id = |request: &Request, response: Response| {
        let query = request.uri().query().unwrap_or_default();
        let found = query.split('&').find_map(|pair| pair.strip_prefix("id="));
        id = found.unwrap_or_default().to_owned();
        Ok(response)
    };
    let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, read_id).await else { return };
    let (mut sink, mut stream) = socket.split();
    let (sender, mut queue) = mpsc::channel(QUEUE);
    sender.try_send(Message::text("0{\"sid\":\"x\"}")).unwrap();
    nodes.lock().unwrap().insert(id, sender.clone());
    let write = async {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
    };
    let mut node = Node { own: sender, nodes, fault, count: 0, held: None };
    let read = async {
        while let Some(Ok(message)) = stream.next().await {
            if !message.is_text() || !node.take(message.to_text().unwrap()) {
                return;
            }
            if node.fault == Fault::Stalls && node.count == EVERY {
                tokio::time::sleep(STALL).await;
            }
        }
    };
    tokio::select! { () = write => {} () = read => {} }
}

/// One node's side of the broker.
struct Node {
    own: mpsc::Sender<Message>,
    nodes: Nodes,
    fault: Fault,
    count: u64,
    held: Option<Message>,
}

impl Node {
    /// Deals with one packet; tells whether the connection goes on.
    fn take(&mut self, text: &str) -> bool {
        if text == "40" {
            self.answer("40{\"sid\":\"y\"}".into());
            self.answer("42[\"AUTHENTICATED\",\"{}\"]".into());
        }
        let Some(event) = text.strip_prefix("42").filter(|event| event.contains('[')) else {
            return true;
        };
        let (ack, array) = event.split_at(event.find('[').unwrap());
        let [name, argument]: [String; 2] = serde_json::from_str(array).unwrap();
        let argument: serde_json::Value = serde_json::from_str(&argument).unwrap();
        self.count += 1;
        let fault = if self.count.is_multiple_of(EVERY) { self.fault } else { Fault::None };
        if name == "ARE_NODES_CONNECTED_TO_BROKER" {
            self.tell_who_is_there(ack, &argument, fault);
            return true;
        }
        self.relay(array, argument["to"].as_str().unwrap(), fault);
        match fault {
            Fault::Closes => return false,
            Fault::Error => self.answer(format!("43{ack}[\"ERROR\"]")),
            Fault::NoAck => {}
            _ => self.answer(format!("43{ack}[\"OK\"]")),
        }
        if fault == Fault::SecondAck {
            self.answer(format!("43{ack}[\"OK\"]"));
        }
        true
    }

    fn relay(&mut self, array: &str, to: &str, fault: Fault) {
        let receiver = self.nodes.lock().unwrap().get(to).cloned().unwrap();
        let text = match fault {
            Fault::Alters => format!("42{}", array.replace("xx", "xy")),
            _ => format!("42{array}"),
        };
        let message = Message::text(text);
        match fault {
            Fault::Keeps => return,
            Fault::Swaps => {
                self.held = Some(message);
                return;
            }
            Fault::Repeats => receiver.try_send(message.clone()).unwrap(),
            Fault::Misdelivers => {
                let (rest, last) = to.split_at(to.len() - 1);
                let other = format!("{rest}{}", if last == "0" { "1" } else { "0" });
                let other = self.nodes.lock().unwrap().get(&other).cloned().unwrap();
                other.try_send(message.clone()).unwrap();
            }
            _ => {}
        }
        receiver.try_send(message).unwrap();
        if let Some(held) = self.held.take() {
            receiver.try_send(held).unwrap();
        }
    }

    fn tell_who_is_there(&self, ack: &str, question: &serde_json::Value, fault: Fault) {
        let nodes = self.nodes.lock().unwrap();
        let results: Vec<_> = question["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| {
                let is_there = nodes.contains_key(id.as_str().unwrap());
                serde_json::json!({"id": id, "connected": is_there && fault != Fault::SeesNobody})
            })
            .collect();
        let answer = serde_json::json!({ "results": results }).to_string();
        self.answer(format!("43{ack}{}", serde_json::json!([answer])));
    }

    fn answer(&self, text: String) {
        let _ = self.own.try_send(Message::text(text));
    }
}
