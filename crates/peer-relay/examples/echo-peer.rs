//! A peer of a peer-relay network that answers: a start for programs of one's own.
//!
//! ```sh
//! cargo run -p crolang-peer-relay --example echo-peer -- 8001
//! cargo run -p crolang-peer-relay --example echo-peer -- 8002 ws://127.0.0.1:8001
//! ```
//!
//! `{"echo": x}` comes back as `{"echoed": x}`, a datagram as it is. `{"pass": [id, x]}` makes
//! this peer ask that one for an echo, and comes back as `{"passed": x}` once it has answered.

use peer_relay::{
    DialPolicy, MAX_DATAGRAM_BYTES, Peer, PeerEvent, PeerId, PeerSettings, PeerSocket, SendError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What peers of this kind say to each other.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Speech {
    Echo(Value),
    Echoed(Value),
    Pass(PeerId, Value),
    Passed(Value),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    let port = arguments.next_if(|argument| argument.parse::<u16>().is_ok());
    let listen = port.map(|port| format!("127.0.0.1:{port}").parse()).transpose()?;
    let settings = PeerSettings {
        listen,
        // A peer that listens tells others where, so that they can connect to it directly.
        public_url: listen.map(|_| "ws://127.0.0.1:0".parse()).transpose()?,
        bootstrap: arguments.map(|url| url.parse()).collect::<Result<_, _>>()?,
        // On one machine nothing is behind a firewall that strangers must not reach.
        dial: DialPolicy::Any,
        ..PeerSettings::default()
    };
    let peer = Peer::start(settings).await?;
    let mut events = peer.events();
    tokio::spawn(echo_datagrams(PeerSocket::over(peer.clone(), 7)));
    println!("ID {}", peer.id());
    if let Some(address) = peer.local_addr() {
        println!("LISTENING {address}");
    }
    while let Some(event) = events.next().await {
        let PeerEvent::Message { from, data } = event else { continue };
        let Ok(speech) = serde_json::from_str(data.get()) else { continue };
        if let Err(error) = answer(&peer, from, speech) {
            eprintln!("{from} gets no answer: {error}");
        }
    }
    Ok(())
}

fn answer(peer: &Peer, from: PeerId, speech: Speech) -> Result<(), SendError> {
    match speech {
        Speech::Echo(content) => peer.send(from, &Speech::Echoed(content)),
        // The content says who wants to know, so that nothing has to be remembered.
        Speech::Pass(to, content) => {
            peer.send(to, &Speech::Echo(serde_json::json!({ "for": from, "content": content })))
        }
        Speech::Echoed(content) => match content["for"].as_str().map(PeerId::parse) {
            Some(Ok(id)) => peer.send(id, &Speech::Passed(content["content"].clone())),
            _ => Ok(()),
        },
        Speech::Passed(_) => Ok(()),
    }
}

async fn echo_datagrams(socket: PeerSocket) -> std::io::Result<()> {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let (length, sender) = socket.recv_from(&mut buffer).await?;
        socket.send_to(&buffer[..length], sender.port, sender.id).await?;
    }
}
