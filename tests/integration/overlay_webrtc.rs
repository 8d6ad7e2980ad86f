//! What strangers can do to a peer that has WebRTC. That channels work is shown with a real
//! browser, in `tests/interop`.

use std::net::SocketAddr;

use crolang_broker::Server;
use hmac::{Hmac, KeyInit, Mac};
use peer_relay::PeerId;
use serde_json::{Value, json};
use sha1::Sha1;
use tokio::net::UdpSocket;

use crate::support::{PEERS, RawPeer, SOON, id, metric, start_with_variables};

/// How many negotiations there may be at a time.
const MAX_NEGOTIATIONS: usize = 64;

async fn broker() -> Server {
    start_with_variables(&[("PEER_RELAY_PATH", PEERS), ("PEER_RELAY_WEBRTC", "127.0.0.1")]).await
}

/// An ID that nobody else has here.
fn far(number: usize) -> PeerId {
    let mut bytes = [200; 20];
    bytes[1] = number as u8;
    PeerId::from_bytes(bytes)
}

/// A message of a peer that is reached by this one.
async fn send_from(peer: &mut RawPeer, from: PeerId, data: Value) {
    let mut frame = peer.frame(peer.other, data);
    (frame["from"], frame["path"]) = (json!(from), json!([from, peer.id]));
    peer.send(&frame).await;
}

/// What a browser offers, with a candidate at this address.
fn offer(candidate: SocketAddr) -> Value {
    let fingerprint = ["AB"; 32].join(":");
    let sdp = format!(
        "v=0\r\no=- 5 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n\
         a=candidate:1 1 udp 2113937151 {} {} typ host\r\na=ice-ufrag:abcd\r\n\
         a=ice-pwd:0123456789abcdef012345\r\na=ice-options:trickle\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=mid:0\r\n\
         a=sctp-port:5000\r\na=max-message-size:262144\r\n",
        candidate.ip(),
        candidate.port(),
    );
    json!({"type": "signal", "data": {"type": "offer", "sdp": sdp}})
}

fn candidate(address: SocketAddr) -> Value {
    let (ip, port) = (address.ip(), address.port());
    let candidate = format!("candidate:2 1 udp 2113937151 {ip} {port} typ host");
    let candidate = json!({"candidate": candidate, "sdpMLineIndex": 0, "sdpMid": "0"});
    json!({"type": "signal", "data": {"candidate": candidate}})
}

fn handshake() -> Value {
    json!({"type": "handshake-offer"})
}

/// The broker's own SDP, in its answer to an offer.
async fn answer(peer: &mut RawPeer, from: PeerId, offer: Value) -> String {
    send_from(peer, from, handshake()).await;
    let reachable = peer.message().await;
    assert_eq!(reachable["to"], json!(from));
    let expected = json!({"type": "handshake-answer", "data": {"ws": null, "wrtc": true}});
    assert_eq!(reachable["data"], expected);
    send_from(peer, from, offer).await;
    let answer = peer.message().await;
    assert_eq!((&answer["to"], &answer["data"]["type"]), (&json!(from), &json!("signal")));
    assert_eq!(answer["data"]["data"]["type"], "answer");
    answer["data"]["data"]["sdp"].as_str().unwrap().to_owned()
}

/// The value of a line of an SDP.
fn value<'a>(sdp: &'a str, name: &str) -> &'a str {
    sdp.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {sdp}"))
}

/// A STUN binding request of a browser (RFC 8489, RFC 8445).
fn question(user: &str, password: &str) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend([7; 12]);
    let mut attribute = |kind: u16, value: &[u8]| {
        message.extend(kind.to_be_bytes());
        message.extend((value.len() as u16).to_be_bytes());
        message.extend(value);
        message.resize(message.len().next_multiple_of(4), 0);
    };
    attribute(0x0006, user.as_bytes());
    attribute(0x0024, &[0x6e, 0, 1, 0xff]);
    attribute(0x802a, &[1; 8]);
    // The length counts what is signed, and the signature.
    let length = message.len() as u16 - 20 + 24;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    let mut mac = Hmac::<Sha1>::new_from_slice(password.as_bytes()).unwrap();
    mac.update(&message);
    let signature = mac.finalize().into_bytes();
    message.extend([0, 0x08, 0, 20]);
    message.extend(signature);
    message
}

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

/// Shows that nothing has come but this socket's own datagram.
async fn is_empty(socket: &UdpSocket) {
    let own = socket.local_addr().unwrap();
    socket.send_to(b"own", own).await.unwrap();
    let mut buffer = [0; 2048];
    let (_, first) = socket.recv_from(&mut buffer).await.unwrap();
    assert_eq!(first, own, "somebody sent here");
}

#[tokio::test]
async fn only_who_knows_the_password_is_answered_and_nobody_else_is_sent_to() {
    let server = broker().await;
    let (trap, stranger, browser) = (socket().await, socket().await, socket().await);
    let trap_address = trap.local_addr().unwrap();
    let mut peer = RawPeer::connect(server.address(), id(9)).await;
    let sdp = answer(&mut peer, far(1), offer(trap_address)).await;
    send_from(&mut peer, far(1), candidate(trap_address)).await;
    peer.is_silent().await;

    assert!(sdp.contains("a=ice-lite\r\n") && sdp.contains("a=setup:passive\r\n"), "{sdp}");
    let told: Vec<_> = value(&sdp, "a=candidate:").split(' ').collect();
    assert_eq!((told[2], told[4], told[7]), ("udp", "127.0.0.1", "host"), "{sdp}");
    let address: SocketAddr = format!("127.0.0.1:{}", told[5]).parse().unwrap();
    let user = format!("{}:abcd", value(&sdp, "a=ice-ufrag:"));
    let password = value(&sdp, "a=ice-pwd:");

    let good = question(&user, password);
    let cut = good[..good.len() - 24].to_vec();
    let hello = [&[22, 254, 253][..], &[0; 100]].concat();
    let wrong = question(&user, "a wrong one");
    for datagram in [&wrong, &cut, &hello, &vec![0; 1500], &vec![0xff; 9_000], &vec![]] {
        stranger.send_to(datagram, address).await.unwrap();
    }
    // It goes on all the same, and answers who may ask; whatever came before has been dealt with.
    browser.send_to(&good, address).await.unwrap();
    let mut buffer = [0; 2048];
    let (length, from) =
        tokio::time::timeout(SOON, browser.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!((from, &buffer[..2]), (address, &[1, 1][..]), "{:?}", &buffer[..length]);
    is_empty(&stranger).await;
    is_empty(&trap).await;
    assert_eq!(server.peer().unwrap().neighbours(), [id(9)]);
}

#[tokio::test]
async fn signals_that_nobody_asked_for_or_that_are_odd_lead_to_nothing() {
    let server = broker().await;
    let mut peer = RawPeer::connect(server.address(), id(9)).await;
    let address = "127.0.0.1:9".parse().unwrap();
    // Without a handshake; from a neighbour; an answer to nothing; candidates.
    send_from(&mut peer, far(1), offer(address)).await;
    peer.send_to(peer.other, offer(address)).await;
    let mut reply = offer(address);
    reply["data"]["type"] = json!("answer");
    send_from(&mut peer, far(1), reply.clone()).await;
    send_from(&mut peer, far(1), candidate(address)).await;
    peer.is_silent().await;
    // After a handshake, but no offers that could be taken.
    for (number, odd) in [
        json!({"type": "offer", "sdp": "v=0\r\n"}),
        json!({"type": "offer", "sdp": "x".repeat(60_000)}),
        json!({"type": "offer", "sdp": 7}),
        json!({"type": "pranswer", "sdp": "v=0\r\n"}),
        json!([]),
        json!(null),
        reply["data"].clone(),
    ]
    .into_iter()
    .enumerate()
    {
        send_from(&mut peer, far(10 + number), handshake()).await;
        assert_eq!(peer.message().await["data"]["type"], "handshake-answer");
        send_from(&mut peer, far(10 + number), json!({"type": "signal", "data": odd})).await;
        peer.is_silent().await;
    }
    // One offer each.
    answer(&mut peer, far(2), offer(address)).await;
    send_from(&mut peer, far(2), offer(address)).await;
    peer.is_silent().await;
}

#[tokio::test]
async fn so_many_are_negotiated_at_a_time() {
    let server = broker().await;
    let mut peer = RawPeer::connect(server.address(), id(9)).await;
    let address = "127.0.0.1:9".parse().unwrap();
    for number in 0..MAX_NEGOTIATIONS {
        answer(&mut peer, far(number), offer(address)).await;
    }
    let one_more = far(MAX_NEGOTIATIONS);
    send_from(&mut peer, one_more, handshake()).await;
    assert_eq!(peer.message().await["data"]["type"], "handshake-answer");
    send_from(&mut peer, one_more, offer(address)).await;
    peer.is_silent().await;
    // None of them is a neighbour, and all of them end with the server.
    let neighbours = metric(&server, "crolang_peer_relay_neighbours");
    assert_eq!((neighbours, server.connections()), (1.0, 1));
    // It takes its whole timeout, 10 s, if a connection does not end.
    tokio::time::timeout(SOON, server.shutdown()).await.expect("nothing holds it up");
}
