//! The floor: the least that a relay of these frames can cost with tokio on one thread.
//!
//! It understands what `load` sends and nothing else: no JSON, no limits, no admission, no
//! unmasking (`load` masks with zeros). A broker's cost can so be told as a ratio to something
//! that was measured in the same minute. The same for a peer of the peer-relay network. It listens on `PORT` of the loopback address (8080; 0
//! takes a free one), says on standard output where, and answers `/health`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::LazyLock;

use load::outbox::Outbox;
use load::peer::PeerId;
use memchr::{memchr, memmem};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

/// The longest head of a request that is read, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How much is read ahead of what has been dealt with before that is moved to the front, in bytes.
const MAX_DONE_BYTES: usize = 64 * 1024;

/// The accept value belongs to the one key that `load` sends, which is the standard's example.
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

const HEALTHY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

const OPEN: &[u8] = b"0{\"sid\":\"floor\",\"upgrades\":[],\"pingInterval\":25000,\
    \"pingTimeout\":20000,\"maxPayload\":1000000}";

/// The floor's own ID among peers, and its digits.
static OWN_PEER: LazyLock<PeerId> = LazyLock::new(|| PeerId::made_from("floor"));
static OWN_DIGITS: LazyLock<String> = LazyLock::new(|| OWN_PEER.to_string());

/// The nodes by their IDs, and the peers by the digits of theirs. Everything runs on one thread, so a
/// cell will do.
type Nodes = Rc<RefCell<HashMap<Vec<u8>, Rc<Outbox>>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match LocalSet::new().run_until(listen()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn listen() -> io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".into());
    let port: u16 = port.parse().map_err(|_| io::Error::other("PORT is no port"))?;
    rlimit::increase_nofile_limit(u64::MAX)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("listening on {}", listener.local_addr()?);
    let nodes = Nodes::default();
    loop {
        let (stream, _) = listener.accept().await?;
        spawn_local(serve(stream, nodes.clone()));
    }
}

/// Serves one connection until its end, however that comes.
async fn serve(stream: TcpStream, nodes: Nodes) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut read, write) = stream.into_split();
    let outbox = Outbox::new(write);
    let mut bytes = Vec::with_capacity(1024);
    let end = loop {
        if let Some(end) = memmem::find(&bytes, b"\r\n\r\n") {
            break end + 4;
        }
        if read.read_buf(&mut bytes).await? == 0 || bytes.len() > MAX_HEAD_BYTES {
            return Ok(());
        }
    };
    let id = id(&bytes[..end]);
    if id.is_none() && memmem::find(&bytes[..end], b"\r\nUpgrade:").is_none() {
        outbox.put(|out| out.extend_from_slice(HEALTHY));
        outbox.flush();
        return Ok(());
    }
    bytes.drain(..end);
    outbox.put(|out| out.extend_from_slice(UPGRADED));
    match &id {
        Some(id) => {
            put_text(&outbox, &[OPEN]);
            nodes.borrow_mut().insert(id.clone(), outbox.clone());
        }
        None => put_text(&outbox, &[OWN_PEER.to_frame().as_bytes()]),
    }
    outbox.flush();
    let ended = relay(&mut read, bytes, &outbox, &nodes).await;
    let mut nodes = nodes.borrow_mut();
    match id {
        Some(id) if nodes.get(&id).is_some_and(|current| Rc::ptr_eq(current, &outbox)) => {
            nodes.remove(&id);
        }
        Some(_) => {}
        None => nodes.retain(|_, current| !Rc::ptr_eq(current, &outbox)),
    }
    ended
}

/// The node's ID in the head of a request for an upgrade.
fn id(head: &[u8]) -> Option<Vec<u8>> {
    let (_, query) = head.split_at(memmem::find(head, b"&id=")? + "&id=".len());
    let end = query.iter().position(|byte| matches!(byte, b'&' | b' '))?;
    Some(query[..end].to_vec())
}

/// Relays what comes on one connection.
async fn relay(
    read: &mut OwnedReadHalf,
    mut bytes: Vec<u8>,
    own: &Rc<Outbox>,
    nodes: &Nodes,
) -> io::Result<()> {
    let mut done = 0;
    // Whom something was put into the outbox of, so that many messages leave by one write.
    let mut receivers = Vec::new();
    loop {
        while let Some((opcode, payload, taken)) = frame(&bytes[done..]) {
            match opcode {
                1 => take(payload, own, nodes, &mut receivers),
                8 => return Ok(()),
                _ => {}
            }
            done += taken;
        }
        own.flush();
        receivers.drain(..).for_each(|receiver: Rc<Outbox>| receiver.flush());
        if done == bytes.len() {
            bytes.clear();
            done = 0;
        } else if done > MAX_DONE_BYTES {
            bytes.drain(..done);
            done = 0;
        }
        if read.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

/// The opcode and payload of the first frame in `bytes`, and its length with the header.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let [first, second, rest @ ..] = bytes else { return None };
    let (length, rest) = match second & 0x7f {
        126 => rest.split_first_chunk().map(|(it, rest)| (u16::from_be_bytes(*it).into(), rest))?,
        127 => rest.split_first_chunk().map(|(it, rest)| (u64::from_be_bytes(*it), rest))?,
        short => (short.into(), rest),
    };
    let (_mask, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..usize::try_from(length).ok()?)?;
    Some((first & 0x0f, payload, bytes.len() - rest.len() + payload.len()))
}

/// Deals with one packet.
fn take(text: &[u8], own: &Rc<Outbox>, nodes: &Nodes, receivers: &mut Vec<Rc<Outbox>>) {
    match text {
        b"40" => {
            put_text(own, &[b"40{\"sid\":\"floor\"}"]);
            put_text(own, &[b"42[\"AUTHENTICATED\",\"{}\"]"]);
        }
        [b'4', b'2', event @ ..] => {
            let Some((ack, array)) = memchr(b'[', event).map(|at| event.split_at(at)) else {
                return;
            };
            let receiver = receiver(array).and_then(|to| nodes.borrow().get(to).cloned());
            if !ack.is_empty() {
                let answer: &[u8] =
                    if receiver.is_some() { b"[\"OK\"]" } else { b"[\"NOT_CONNECTED\"]" };
                put_text(own, &[b"43", ack, answer]);
            }
            if let Some(receiver) = receiver {
                put_text(&receiver, &[b"42", array]);
                receivers.push(receiver);
            }
        }
        [b'{', b'"', b't', b'o', ..] => pass_on(text, nodes, receivers),
        [b'{', ..] => greet(text, own, nodes),
        _ => {}
    }
}

/// Takes note of a peer that says its ID, and asks it something: so it knows that it is known.
fn greet(text: &[u8], own: &Rc<Outbox>, nodes: &Nodes) {
    let Some(id) = PeerId::parse(text).map(|id| id.to_string()) else { return };
    let floor = &*OWN_DIGITS;
    let question = format!(
        r#"{{"to":"{id}","from":"{floor}","path":["{floor}"],"nonce":"1","data":{{"type":"findPeers","data":"{floor}"}}}}"#
    );
    nodes.borrow_mut().insert(id.into_bytes(), own.clone());
    put_text(own, &[question.as_bytes()]);
}

/// Passes a peer's message on, with the floor at the end of its path.
fn pass_on(text: &[u8], nodes: &Nodes, receivers: &mut Vec<Rc<Outbox>>) {
    const TO: &[u8] = br#"{"to":""#;
    let to = text.get(TO.len()..).and_then(|rest| Some(&rest[..memchr(b'"', rest)?]));
    let Some(receiver) = to.and_then(|to| nodes.borrow().get(to).cloned()) else { return };
    // The first bracket that closes: before the path there are only two IDs.
    let Some((before, behind)) = memchr(b']', text).map(|at| text.split_at(at)) else { return };
    put_text(&receiver, &[before, b",\"", OWN_DIGITS.as_bytes(), b"\"", behind]);
    receivers.push(receiver);
}

/// The ID behind `to` in the array of an event.
fn receiver(array: &[u8]) -> Option<&[u8]> {
    const TO: &[u8] = br#"\"to\":\""#;
    let (_, rest) = array.split_at(memmem::find(array, TO)? + TO.len());
    Some(&rest[..memchr(b'\\', rest)?])
}

/// Puts a text frame of these parts into an outbox.
fn put_text(outbox: &Outbox, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    outbox.put(|out| {
        out.push(0x81);
        match length {
            0..126 => out.push(length as u8),
            126..65536 => {
                out.push(126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                out.push(127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        parts.iter().for_each(|part| out.extend_from_slice(part));
    });
}
