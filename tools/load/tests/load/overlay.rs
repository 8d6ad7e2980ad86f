//! The peer-relay network: the real peer, with which all must be well; and one that misbehaves.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crolang_broker::peer_relay::{Peer, PeerSettings};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::broker::{assert_told, broker_of, number, well_with};
use crate::program::{Told, measure};

const SHORT: &str = "--seconds 0.5 --warmup 0.1";

async fn peer() -> Peer {
    let listen = Some(([127, 0, 0, 1], 0).into());
    Peer::start(PeerSettings { listen, ..PeerSettings::default() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_with_a_peer() {
    let peer = peer().await;
    let address = peer.local_addr().unwrap();
    // One after the other at the same peer, which remembers the nonces of them all.
    for arguments in ["--window 1", "--pairs 3 --window 16 --size 18", "--window 8 --size 16384"] {
        let json = well_with(address, &format!("overlay {arguments} {SHORT}")).await;
        assert_eq!((&json["mode"], &json["unit"]), (&"overlay".into(), &"messages".into()));
        assert_told(&json, "received");
        assert_eq!(json["latency_us"]["acked"], Value::Null);
        assert_eq!(json["figures"], json!({"overtaken": 0.0, "copies_elsewhere": 0.0}));
        assert_eq!(json["outcomes"], json!({}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_nonces_again_are_lost() {
    let peer = peer().await;
    let address = peer.local_addr().unwrap();
    let arguments = "overlay --prefix twin --rate 100 --seconds 0.2 --warmup 0";
    well_with(address, arguments).await;
    let told = measure(address, arguments).await;
    assert_eq!(told.code, Some(1));
    assert!(told.err.contains("FAILED: lost "), "{}", told.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_with_a_broker_in_an_open_loop() {
    let broker = broker_of(&[("PEER_RELAY_PATH", "/peers")]).await;
    let arguments = "overlay --path /peers --pairs 2 --rate 100 --seconds 1 --warmup 0.2";
    let json = well_with(broker.address(), arguments).await;
    let due = 2.0 * 100.0 * number(&json, "/measured_s");
    let told = number(&json, "/latency_us/received/count");
    assert!((told - due).abs() <= due / 20.0, "{told} of {due}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_peer_listens_there_is_nothing_to_measure() {
    let broker = broker_of(&[]).await;
    let told = measure(broker.address(), "overlay").await;
    assert_eq!((told.code, told.out.as_str()), (Some(2), ""));
    assert!(told.err.contains("is not in: refused: 404"), "{}", told.err);
}

/// What a peer does with every fiftieth message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It sends it on.
    None,
    /// It keeps it.
    Keeps,
    /// It sends it on twice.
    Repeats,
    /// It sends it on after the next.
    Swaps,
    /// It changes the content.
    Alters,
    /// It gives it another nonce.
    Renames,
    /// It leaves itself out of the path.
    Hides,
    /// It sends it to the receiver, and to the sender too.
    Copies,
    /// It sends it to the sender alone.
    SendsBack,
}

const EVERY: usize = 50;

/// The most that waits for one neighbour.
const QUEUE: usize = 10_000;

const OWN: [u8; 20] = [9; 20];

type Neighbours = Arc<Mutex<HashMap<String, mpsc::Sender<Message>>>>;

/// Starts such a peer, which writes as the npm package does; it ends with the test.
async fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let neighbours = Neighbours::default();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, neighbours.clone(), fault));
        }
    });
    address
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn buffer(hex: &Value) -> Value {
    let hex = hex.as_str().unwrap();
    let bytes = (0..20).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap());
    json!({"type": "Buffer", "data": bytes.collect::<Vec<_>>()})
}

async fn serve(stream: TcpStream, neighbours: Neighbours, fault: Fault) {
    let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let (mut sink, mut stream) = socket.split();
    sink.send(Message::text(json!({"type": "Buffer", "data": OWN}).to_string())).await.unwrap();
    let Some(Ok(id)) = stream.next().await else { return };
    let id: Value = serde_json::from_str(id.to_text().unwrap()).unwrap();
    let bytes: Vec<u8> = serde_json::from_value(id["data"].clone()).unwrap();
    let own = hex(&bytes);
    let (sender, mut queue) = mpsc::channel(QUEUE);
    let question = json!({
        "to": own, "from": hex(&OWN), "path": [hex(&OWN)], "nonce": "1",
        "data": {"type": "findPeers", "data": hex(&OWN)},
    });
    sender.try_send(Message::text(question.to_string())).unwrap();
    neighbours.lock().unwrap().insert(own.clone(), sender);
    tokio::spawn(async move {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut held = None;
    let mut count = 0;
    while let Some(Ok(message)) = stream.next().await {
        let Ok(text) = message.to_text() else { return };
        let Ok(mut message) = serde_json::from_str::<Value>(text) else { return };
        count += 1;
        let fault = if count % EVERY == 0 { fault } else { Fault::None };
        let to = message["to"].as_str().unwrap().to_owned();
        (message["to"], message["from"]) = (buffer(&message["to"]), buffer(&message["from"]));
        message["path"].as_array_mut().unwrap().push(hex(&OWN).into());
        let mut receiver = to;
        match fault {
            Fault::Keeps => continue,
            Fault::Swaps => {
                held = Some(Message::text(message.to_string()));
                continue;
            }
            Fault::Alters => {
                let content = message["data"]["data"].as_str().unwrap().replace("xx", "xy");
                message["data"]["data"] = content.into();
            }
            Fault::Renames => message["nonce"] = "17".into(),
            Fault::Hides => drop(message["path"].as_array_mut().unwrap().pop()),
            Fault::SendsBack => receiver = own.clone(),
            Fault::Copies => {
                let sender = neighbours.lock().unwrap().get(&own).cloned().unwrap();
                let _ = sender.try_send(Message::text(message.to_string()));
            }
            Fault::None | Fault::Repeats => {}
        }
        let text = message.to_string();
        let times = if fault == Fault::Repeats { 2 } else { 1 };
        let receiver = neighbours.lock().unwrap().get(&receiver).cloned().unwrap();
        for message in std::iter::repeat_n(Message::text(text), times).chain(held.take()) {
            let _ = receiver.try_send(message);
        }
    }
}

async fn relay(fault: Fault) -> Told {
    let address = start(fault).await;
    measure(address, "overlay --pairs 2 --rate 400 --seconds 0.5 --warmup 0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_network_does_not_promise_is_told_and_no_fault() {
    let told = relay(Fault::None).await;
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{}", told.out);
    assert_eq!(told.json()["figures"]["overtaken"], 0.0);
    let told = relay(Fault::Swaps).await;
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{}", told.out);
    assert!(number(&told.json(), "/figures/overtaken") >= 4.0, "{}", told.out);
    let told = relay(Fault::Copies).await;
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{}", told.out);
    assert!(number(&told.json(), "/figures/copies_elsewhere") >= 4.0, "{}", told.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_have_their_names() {
    for (fault, names) in [
        (Fault::Keeps, &["lost"][..]),
        (Fault::Repeats, &["duplicates"]),
        (Fault::Alters, &["altered"]),
        (Fault::Renames, &["altered"]),
        (Fault::Hides, &["altered"]),
        (Fault::SendsBack, &["lost"]),
    ] {
        let told = relay(fault).await;
        assert_eq!(told.code, Some(1), "{fault:?}");
        let json = told.json();
        let wrong = json["wrong"].as_object().unwrap().iter();
        let wrong: Vec<_> = wrong.filter(|(_, count)| **count != 0).map(|(name, _)| name).collect();
        assert_eq!(wrong, names, "{fault:?} {}", told.out);
        assert!(told.err.contains(&format!("FAILED: {} ", names[0])), "{}", told.err);
    }
}
