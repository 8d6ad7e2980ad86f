//! Peers that mean harm: they hurt themselves only.

use std::net::SocketAddr;
use std::time::Duration;

use crolang_broker::Server;
use futures_util::SinkExt;
use peer_relay::{DialPolicy, PeerId};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    PEERS, RawPeer, SOON, buffer, connect_from, eventually, frame, id, metric, start_with,
    start_with_variables,
};

async fn broker() -> Server {
    start_with(|config| config.peer_relay.path = Some(PEERS.into())).await
}

fn user(data: Value) -> Value {
    json!({"type": "user", "data": data})
}

/// Two peers that shall not notice anything.
struct Bystanders(RawPeer, RawPeer);

impl Bystanders {
    async fn connect(address: SocketAddr) -> Self {
        Self(RawPeer::connect(address, id(1)).await, RawPeer::connect(address, id(2)).await)
    }

    async fn talk(&mut self) {
        let Self(alice, bob) = self;
        alice.send_to(bob.id, user(json!("hello"))).await;
        assert_eq!(bob.own_message().await["data"], user(json!("hello")));
        bob.send_to(alice.id, user(json!("you too"))).await;
        assert_eq!(alice.own_message().await["data"], user(json!("you too")));
    }

    /// The same while a flood may come by them too. What they do not read in time is dropped, as
    /// for anybody: then they say it again.
    async fn talk_in_a_flood(&mut self) {
        let Self(alice, bob) = self;
        let (alice_id, bob_id) = (alice.id, bob.id);
        for _ in 0..10 {
            let asks = async {
                alice.send_to(bob_id, user(json!("hello"))).await;
                assert_eq!(alice.own_message().await["data"], user(json!("you too")));
            };
            let answers = async {
                loop {
                    assert_eq!(bob.own_message().await["data"], user(json!("hello")));
                    bob.send_to(alice_id, user(json!("you too"))).await;
                }
            };
            let timeout = tokio::time::sleep(SOON / 10);
            tokio::select! {
                () = asks => return,
                () = answers => {}
                () = timeout => {}
            }
        }
        panic!("they do not hear each other");
    }
}

#[tokio::test]
async fn odd_frames_end_their_own_channel_only() {
    let server = broker().await;
    let mut bystanders = Bystanders::connect(server.address()).await;
    let good =
        json!({"to": id(1), "from": id(9), "path": [id(9)], "nonce": "1", "data": user(json!(1))});
    let changed = |key: &str, value: Value| {
        let mut frame = good.clone();
        frame[key] = value;
        frame.to_string()
    };
    let mut frames: Vec<String> =
        ["", "null", "7", "[]", "{}", "{\"to\"", "\"x\"", "no JSON"].map(str::to_owned).into();
    frames.push(buffer(id(9)).to_string());
    frames.push("[".repeat(60_000));
    frames.push(changed("data", json!(null)));
    frames.push(changed("nonce", json!(5)));
    frames.push(changed("to", json!("ab".repeat(19))));
    frames.push(changed("from", json!({"type": "Buffer", "data": [1]})));
    frames.push(changed("path", json!([buffer(id(9))])));
    frames.push(changed("path", json!("x")));
    frames.push(changed("data", user(json!("x".repeat(1_000_001)))));
    frames.push(
        good.to_string()
            .replace("\"data\":1", &format!("\"data\":{}1{}", "[".repeat(500), "]".repeat(500))),
    );
    for (count, frame) in frames.into_iter().enumerate() {
        let mut peer = RawPeer::connect(server.address(), id(9)).await;
        let _ = peer.socket.send(Message::text(frame)).await;
        peer.closed().await;
        eventually("it is out", || server.peer().unwrap().neighbours().len() == 2).await;
        assert!(server.connections() <= 3, "after frame {count}");
    }
    // Bytes that are no text, and no WebSocket.
    for bytes in
        [frame(0x81, b"\xff\xfe"), frame(0x82, b"{}"), frame(0x83, b""), vec![0x81, 2, b'{', b'}']]
    {
        let mut peer = RawPeer::connect(server.address(), id(9)).await;
        peer.socket.get_mut().write_all(&bytes).await.unwrap();
        peer.closed().await;
    }
    bystanders.talk().await;
}

#[tokio::test]
async fn a_peer_that_sends_no_id_is_closed() {
    let server = broker().await;
    for first in ["null", "\"\"", "{}", "[1]", "no JSON", "\"zz\""] {
        let mut socket = RawPeer::open(server.address()).await.unwrap();
        socket.send(Message::text(first)).await.unwrap();
        let mut peer = RawPeer { socket, id: id(9), other: id(0), last_nonce: 0 };
        peer.closed().await;
    }
    // The broker's own ID.
    let own = server.peer().unwrap().id();
    RawPeer::greet(server.address(), own).await.closed().await;
    let counted = |reason| {
        metric(&server, &format!("crolang_peer_relay_channels_ended_total{{reason=\"{reason}\"}}"))
    };
    eventually("all are counted", || (counted("no_id"), counted("own_id")) == (6.0, 1.0)).await;
    assert!(server.peer().unwrap().neighbours().is_empty());
}

#[tokio::test]
async fn a_stranger_with_a_connected_peers_id_gets_nothing() {
    let server = broker().await;
    let own = server.peer().unwrap().id();
    let smaller = PeerId::from_bytes([0; 20]);
    let greater = PeerId::from_bytes([255; 20]);
    assert!(smaller < own && own < greater);
    let mut alice = RawPeer::connect(server.address(), id(1)).await;
    for holder in [smaller, greater] {
        let mut victim = RawPeer::connect(server.address(), holder).await;
        for _ in 0..3 {
            let mut thief = RawPeer::greet(server.address(), holder).await;
            alice.send_to(holder, user(json!("secret"))).await;
            assert_eq!(victim.message().await["data"], user(json!("secret")));
            if holder == greater {
                thief.closed().await;
            }
        }
        victim.is_silent().await;
    }
}

#[tokio::test]
async fn a_second_channel_takes_over_where_the_first_one_ends() {
    let server = broker().await;
    let smaller = PeerId::from_bytes([0; 20]);
    let mut alice = RawPeer::connect(server.address(), id(1)).await;
    let first = RawPeer::connect(server.address(), smaller).await;
    let mut second = RawPeer::greet(server.address(), smaller).await;
    // What it says is heard already, so the server knows it.
    second.send_to(alice.id, user(json!(1))).await;
    assert_eq!(alice.message().await["data"], user(json!(1)));
    drop(first);
    eventually("the first one is gone", || server.connections() == 2).await;
    alice.send_to(smaller, user(json!(2))).await;
    assert_eq!(second.message().await["data"], user(json!(2)));
    assert_eq!(server.peer().unwrap().neighbours().len(), 2);
}

#[tokio::test]
async fn a_dead_holder_makes_room() {
    let server = broker().await;
    let smaller = PeerId::from_bytes([0; 20]);
    let mut alice = RawPeer::connect(server.address(), id(1)).await;
    // Nobody reads there any more, so nobody answers a ping.
    let _silent = RawPeer::connect(server.address(), smaller).await;
    let mut second = RawPeer::greet(server.address(), smaller).await;
    let silent = "crolang_peer_relay_channels_ended_total{reason=\"unresponsive\"}";
    let began = std::time::Instant::now();
    while metric(&server, silent) == 0.0 {
        assert!(began.elapsed() < 2 * SOON, "it is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    alice.send_to(smaller, user(json!(1))).await;
    assert_eq!(second.message().await["data"], user(json!(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_does_not_read_is_cut_and_a_flooder_hurts_nobody() {
    let server = start_with(|config| {
        config.peer_relay.path = Some(PEERS.into());
        config.link.write_timeout = Duration::from_secs(1);
        config.link.max_queued_bytes = 100_000;
    })
    .await;
    let mut bystanders = Bystanders::connect(server.address()).await;
    let _deaf = RawPeer::connect(server.address(), id(7)).await;
    let mut flooder = RawPeer::connect(server.address(), id(8)).await;
    let flood = tokio::spawn(async move {
        for _ in 0..2_000 {
            let frame = flooder.frame(id(7), user(json!("x".repeat(10_000))));
            let frame = Message::text(frame.to_string());
            if flooder.socket.feed(frame).await.is_err() {
                break;
            }
        }
        let _ = flooder.socket.flush().await;
        flooder
    });
    let is_deaf_there = || server.peer().unwrap().neighbours().contains(&id(7));
    let began = std::time::Instant::now();
    while is_deaf_there() {
        assert!(began.elapsed() < SOON, "it is still there");
        bystanders.talk_in_a_flood().await;
    }
    while !flood.is_finished() {
        assert!(began.elapsed() < 4 * SOON, "the flood goes on");
        bystanders.talk_in_a_flood().await;
    }
    bystanders.talk_in_a_flood().await;
    assert!(metric(&server, "crolang_peer_relay_messages_total{outcome=\"queue_full\"}") > 0.0);
    let cut = "crolang_peer_relay_channels_ended_total{reason=\"write_timeout\"}";
    assert_eq!(metric(&server, cut), 1.0);
}

/// A place that must not be dialed: it tells whether anybody came.
struct Trap(TcpListener);

impl Trap {
    async fn set() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.0.local_addr().unwrap())
    }

    /// Every peer that came did so before this connection of our own.
    async fn is_empty(&self) {
        let own = TcpStream::connect(self.0.local_addr().unwrap()).await.unwrap();
        let (_, first) = self.0.accept().await.unwrap();
        assert_eq!(first, own.local_addr().unwrap(), "somebody was dialed");
    }
}

#[tokio::test]
async fn urls_of_strangers_are_not_dialed() {
    let trap = Trap::set().await;
    let server = broker().await;
    let mut peer = RawPeer::connect(server.address(), id(9)).await;
    let answer = json!({"type": "handshake-answer", "data": {"ws": trap.url(), "wrtc": false}});
    // Whom it hears of it does not ask, and unasked answers it does not believe.
    peer.send_to(peer.other, json!({"type": "foundPeers", "data": [id(5), id(6)]})).await;
    for from in [9, 5, 6, 7] {
        let mut frame = peer.frame(peer.other, answer.clone());
        (frame["from"], frame["path"]) = (json!(id(from)), json!([id(from), id(9)]));
        peer.send(&frame).await;
    }
    peer.is_silent().await;
    assert!(server.peer().unwrap().connect(id(5)).is_err());
    trap.is_empty().await;
}

#[tokio::test]
async fn if_all_may_be_dialed_only_asked_answers_are_and_of_the_right_peer() {
    let unasked = Trap::set().await;
    let server = start_with(|config| {
        config.peer_relay.path = Some(PEERS.into());
        config.peer_relay.peer.dial = DialPolicy::Any;
    })
    .await;
    let mut peer = RawPeer::connect(server.address(), id(9)).await;
    peer.send_to(peer.other, json!({"type": "foundPeers", "data": [id(5), id(5), peer.other]}))
        .await;
    let offer = peer.answer().await;
    assert_eq!(
        (&offer["to"], &offer["data"]),
        (&json!(id(5)), &json!({"type": "handshake-offer"}))
    );
    // Somebody else's server: the peer that answers there has another ID.
    let elsewhere = broker().await;
    let url = format!("ws://{}{PEERS}", elsewhere.address());
    for (from, url) in [(9, unasked.url()), (6, unasked.url()), (5, url), (5, unasked.url())] {
        let answer = json!({"type": "handshake-answer", "data": {"ws": url, "wrtc": false}});
        let mut frame = peer.frame(peer.other, answer);
        (frame["from"], frame["path"]) = (json!(id(from)), json!([id(from), id(9)]));
        peer.send(&frame).await;
    }
    let wrong = "crolang_peer_relay_channels_ended_total{reason=\"wrong_id\"}";
    eventually("the wrong peer is left", || metric(&server, wrong) == 1.0).await;
    assert_eq!(server.peer().unwrap().neighbours(), [id(9)]);
    peer.is_silent().await;
    unasked.is_empty().await;
}

#[tokio::test]
async fn a_place_that_others_name_is_dialed_a_few_times_only() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", target.local_addr().unwrap());
    let dials = tokio::spawn(async move {
        let mut dials = 0;
        loop {
            let (_, from) = target.accept().await.unwrap();
            if from.ip() == std::net::Ipv4Addr::new(127, 0, 0, 9) {
                return dials;
            }
            dials += 1;
        }
    });
    let end_of_count = url["ws://".len()..url.len() - 1].parse().unwrap();
    let server = start_with(|config| {
        config.peer_relay.path = Some(PEERS.into());
        config.peer_relay.peer.dial = DialPolicy::Any;
    })
    .await;
    let mut peer = RawPeer::connect(server.address(), id(9)).await;
    let ended = |reason: &str| {
        metric(&server, &format!("crolang_peer_relay_channels_ended_total{{reason=\"{reason}\"}}"))
    };
    for number in 10..20u8 {
        peer.send_to(peer.other, json!({"type": "foundPeers", "data": [id(number)]})).await;
        let offer = peer.answer().await;
        assert_eq!(offer["to"], json!(id(number)));
        let answer = json!({"type": "handshake-answer", "data": {"ws": url, "wrtc": false}});
        let mut frame = peer.frame(peer.other, answer);
        (frame["from"], frame["path"]) = (json!(id(number)), json!([id(number), id(9)]));
        peer.send(&frame).await;
        let count = f64::from(number - 9);
        eventually("the dial ends", || ended("dial_failed") + ended("dial_limit") == count).await;
    }
    connect_from(9, end_of_count).await;
    assert_eq!((dials.await.unwrap(), ended("dial_limit")), (4, 6.0));
}

/// Sends a message of 300,000 bytes to another peer. Returns whether it arrives.
async fn passes_long_message(variables: &[(&str, &str)]) -> bool {
    let variables = [&[("PEER_RELAY_PATH", PEERS)], variables].concat();
    let server = start_with_variables(&variables).await;
    let Bystanders(mut alice, mut bob) = Bystanders::connect(server.address()).await;
    let long = user(json!("x".repeat(300_000)));
    let frame = alice.frame(bob.id, long.clone());
    let _ = alice.socket.send(Message::text(frame.to_string())).await;
    let too_long = "crolang_peer_relay_channels_ended_total{reason=\"too_long\"}";
    tokio::select! {
        message = bob.own_message() => assert_eq!(message["data"], long),
        () = alice.closed() => {
            eventually("it is counted", || metric(&server, too_long) == 1.0).await;
            return false;
        }
    }
    true
}

#[tokio::test]
async fn a_long_message_passes_unless_it_is_longer_than_allowed() {
    assert!(passes_long_message(&[]).await);
    assert!(passes_long_message(&[("PEER_RELAY_MAX_MESSAGE_BYTES", "310000")]).await);
    assert!(!passes_long_message(&[("PEER_RELAY_MAX_MESSAGE_BYTES", "290000")]).await);
}

#[tokio::test]
async fn memory_is_bounded_whatever_strangers_claim() {
    let server = broker().await;
    let mut peer = RawPeer::connect(server.address(), id(9)).await;
    // The pure parts show the bounds of nonces, routes and handshakes; here is that of candidates.
    for round in 0..30u8 {
        let ids: Vec<_> = (0..200u8)
            .map(|byte| {
                let mut bytes = [byte; 20];
                bytes[1] = round;
                PeerId::from_bytes(bytes)
            })
            .collect();
        peer.send_to(peer.other, json!({"type": "foundPeers", "data": ids})).await;
    }
    let answer = peer.ask(json!({"type": "findPeers", "data": id(9)})).await;
    assert_eq!(answer["data"].as_array().unwrap().len(), 20);
    assert_eq!(answer["data"][0], json!(id(9)), "the neighbour is the closest to itself");
}
