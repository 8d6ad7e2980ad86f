//! The broker as a peer: what the peer-relay contract says, on the wire.

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    PEERS, Port, RawPeer, SOON, back_at_the_start, buffer, eventually, exchange, get, id, metric,
    start, start_on, start_with, start_with_variables,
};
use crolang_broker::Server;
use peer_relay::{Peer, PeerEvent, PeerId, PeerSettings};

async fn broker() -> Server {
    start_with(|config| config.peer_relay.path = Some(PEERS.into())).await
}

fn user(data: Value) -> Value {
    json!({"type": "user", "data": data})
}

#[tokio::test]
async fn the_endpoint_is_there_only_if_it_is_set() {
    let off = start().await;
    assert!(get(off.address(), PEERS).await.starts_with("HTTP/1.1 404"));
    assert!(off.peer().is_none());
    let on = broker().await;
    assert!(get(on.address(), PEERS).await.starts_with("HTTP/1.1 426"));
    let post = format!(
        "POST {PEERS} HTTP/1.1\r\nHost: b\r\nUpgrade: websocket\r\nConnection: close, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    assert!(exchange(on.address(), post.as_bytes()).await.starts_with("HTTP/1.1 426"));
}

#[tokio::test]
async fn both_sides_send_their_id_at_once_in_any_form() {
    let server = broker().await;
    let own = server.peer().unwrap().id();
    for (byte, form) in [(1, buffer(id(1))), (2, json!(id(2))), (3, json!(vec![3; 20]))] {
        let mut peer = RawPeer {
            socket: RawPeer::open(server.address()).await.unwrap(),
            id: id(byte),
            other: own,
            last_nonce: 0,
        };
        // Its ID comes without waiting for ours.
        assert_eq!(peer.message().await, buffer(own));
        peer.send(&form).await;
        assert_eq!(peer.message().await["to"], json!(id(byte)));
        peer.is_silent().await;
    }
}

#[tokio::test]
async fn messages_are_passed_on_in_hex_with_a_longer_path() {
    let server = broker().await;
    let mut alice = RawPeer::connect(server.address(), id(1)).await;
    let mut bob = RawPeer::connect(server.address(), id(2)).await;
    let content =
        json!({"type": "user", "data": {"a": [1, null, "\u{2028}\\"], "b": 1e300}, "more": true});
    let mut frame = alice.frame(bob.id, content.clone());
    for form in ["hex", "buffer"] {
        frame["nonce"] = json!(if form == "hex" { "007" } else { "7" });
        if form == "buffer" {
            (frame["to"], frame["from"]) = (buffer(bob.id), buffer(alice.id));
        }
        alice.send(&frame).await;
        assert_eq!(
            bob.message().await,
            json!({"to": bob.id, "from": alice.id, "path": [alice.id, server.peer().unwrap().id()], "nonce": frame["nonce"], "data": content})
        );
    }
    // Once.
    alice.send(&frame).await;
    bob.send(&frame).await;
    bob.is_silent().await;
    alice.is_silent().await;
    assert_eq!(metric(&server, "crolang_peer_relay_messages_total{outcome=\"replayed\"}"), 2.0);
    assert_eq!(metric(&server, "crolang_peer_relay_neighbours"), 2.0);
}

#[tokio::test]
async fn the_closest_two_get_what_is_for_an_unknown_peer() {
    let server = broker().await;
    let mut alice = RawPeer::connect(server.address(), id(128)).await;
    let mut others = Vec::new();
    for byte in [1, 2, 4, 64] {
        others.push(RawPeer::connect(server.address(), id(byte)).await);
    }
    alice.send_to(id(3), user(json!(1))).await;
    for other in &mut others[..2] {
        assert_eq!(other.message().await["to"], json!(id(3)));
    }
    for other in &mut others[2..] {
        other.is_silent().await;
    }
    // Once a message of that peer came by another one, that one gets it too.
    let from_afar = json!({"to": alice.id, "from": id(3), "path": [id(3), id(64)], "nonce": "1", "data": user(json!(2))});
    others[3].send(&from_afar).await;
    assert_eq!(alice.message().await["from"], json!(id(3)));
    alice.send_to(id(3), user(json!(4))).await;
    for at in [0, 1, 3] {
        assert_eq!(others[at].message().await["data"]["data"], json!(4));
    }
    others[2].is_silent().await;
}

#[tokio::test]
async fn long_paths_end_except_at_their_receiver() {
    let server = broker().await;
    let mut alice = RawPeer::connect(server.address(), id(1)).await;
    let mut bob = RawPeer::connect(server.address(), id(2)).await;
    let path = |length: u8| (100..100 + length).map(id).collect::<Vec<_>>();
    let mut frame = alice.frame(bob.id, user(json!(1)));
    frame["path"] = json!(path(20));
    alice.send(&frame).await;
    let mut frame = alice.frame(bob.id, user(json!(2)));
    frame["path"] = json!(path(19));
    alice.send(&frame).await;
    assert_eq!(bob.message().await["data"]["data"], json!(2));
    let mut question = alice.frame(alice.other, json!({"type": "findPeers", "data": id(2)}));
    question["path"] = json!([path(100), path(100), vec![alice.id, alice.id]].concat());
    alice.send(&question).await;
    assert_eq!(alice.message().await["data"]["data"], json!([id(2), id(1)]));
    assert_eq!(metric(&server, "crolang_peer_relay_messages_total{outcome=\"hop_limit\"}"), 1.0);
}

#[tokio::test]
async fn sixty_peers_are_all_reached_and_the_closest_are_found() {
    let server = broker().await;
    let mut peers = Vec::new();
    for byte in 100..160 {
        peers.push(RawPeer::connect(server.address(), id(byte)).await);
    }
    for at in 0..peers.len() {
        let to = peers[(at * 7 + 1) % peers.len()].id;
        peers[at].send_to(to, user(json!(at))).await;
        let receiver = peers.iter().position(|peer| peer.id == to).unwrap();
        assert_eq!(peers[receiver].message().await["data"]["data"], json!(at));
    }
    let mut ids: Vec<PeerId> = peers.iter().map(|peer| peer.id).collect();
    let target = id(115);
    ids.sort_by_key(|id| id.distance(&target));
    let answer = peers[0].ask(json!({"type": "findPeers", "data": target})).await;
    assert_eq!(answer, json!({"type": "foundPeers", "data": ids[..20]}));
    // Those who left are not named any more.
    drop(peers.remove(15));
    eventually("one left", || server.peer().unwrap().neighbours().len() == 59).await;
    let answer = peers[0].ask(json!({"type": "findPeers", "data": target})).await;
    assert_eq!(answer, json!({"type": "foundPeers", "data": ids[1..21]}));
}

#[tokio::test]
async fn offers_are_answered_with_the_public_url() {
    let url = "wss://broker.test/peers";
    for (public_url, expected) in [(None, json!(null)), (Some(url), json!(url))] {
        let server = start_with(|config| {
            config.peer_relay = crate::support::configuration(&[
                ("PEER_RELAY_PATH", PEERS),
                ("PEER_RELAY_PUBLIC_URL", public_url.unwrap_or_default()),
            ])
            .unwrap()
            .peer_relay;
        })
        .await;
        let mut alice = RawPeer::connect(server.address(), id(1)).await;
        // From a peer farther away, of which this is the first sign.
        let offer = json!({"to": alice.other, "from": id(9), "path": [id(9), id(1)], "nonce": "1", "data": {"type": "handshake-offer"}});
        alice.send(&offer).await;
        let answer = alice.message().await;
        assert_eq!(answer["to"], json!(id(9)));
        assert_eq!(
            answer["data"],
            json!({"type": "handshake-answer", "data": {"ws": expected, "wrtc": false}})
        );
        // A neighbour needs none.
        alice.send_to(alice.other, json!({"type": "handshake-offer"})).await;
        alice.is_silent().await;
    }
}

#[tokio::test]
async fn there_are_places_for_so_many() {
    let server = start_with(|config| {
        config.peer_relay.path = Some(PEERS.into());
        config.peer_relay.peer.max_channels = 2;
    })
    .await;
    let first = RawPeer::connect(server.address(), id(1)).await;
    let _second = RawPeer::connect(server.address(), id(2)).await;
    assert_eq!(RawPeer::refusal(server.address()).await, 503);
    assert_eq!(metric(&server, "crolang_rejections_total{cause=\"peer_relay_max_channels\"}"), 1.0);
    drop(first);
    eventually("a place", || server.connections() == 1).await;
    RawPeer::connect(server.address(), id(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_closes_channels_after_what_is_queued() {
    let server = broker().await;
    let mut alice = RawPeer::connect(server.address(), id(1)).await;
    let mut bob = RawPeer::connect(server.address(), id(2)).await;
    for number in 0..500 {
        alice.send_to(bob.id, user(json!(number))).await;
    }
    alice.is_silent().await;
    let address = server.address();
    let reader = tokio::spawn(async move {
        for number in 0..500 {
            assert_eq!(bob.message().await["data"]["data"], json!(number));
        }
        bob.closed().await;
    });
    server.shutdown().await;
    reader.await.unwrap();
    alice.closed().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_closes_channels_that_the_broker_opened_too() {
    let first = broker().await;
    let url = format!("ws://{}{PEERS}", first.address());
    let second =
        start_with_variables(&[("PEER_RELAY_PATH", PEERS), ("PEER_RELAY_BOOTSTRAP", &url)]).await;
    let known = [second.peer().unwrap().id()];
    eventually("they are neighbours", || first.peer().unwrap().neighbours() == known).await;
    // It does not have to wait until it may cut them off.
    let shut_down = tokio::time::timeout(SOON, second.shutdown());
    shut_down.await.expect("nothing holds it up");
    eventually("it has left", || first.peer().unwrap().neighbours().is_empty()).await;
    let ended = |reason| {
        metric(&first, &format!("crolang_peer_relay_channels_ended_total{{reason=\"{reason}\"}}"))
    };
    eventually("it closed", || ended("peer_closed") == 1.0).await;
}

#[tokio::test]
async fn nodes_and_peers_share_the_house() {
    let server = broker().await;
    let _node = crate::support::Node::connect(server.address(), "alice").await;
    let peer = RawPeer::connect(server.address(), id(1)).await;
    assert_eq!((server.connections(), metric(&server, "crolang_nodes")), (2, 1.0));
    drop((_node, peer));
    back_at_the_start(&server).await;
    eventually("no peer", || metric(&server, "crolang_peer_relay_neighbours") == 0.0).await;
}

#[tokio::test]
async fn json_in_a_binary_frame_is_understood() {
    let server = broker().await;
    let (mut alice, mut bob) = (
        RawPeer::connect(server.address(), id(1)).await,
        RawPeer::connect(server.address(), id(2)).await,
    );
    let message =
        json!({"to": id(2), "from": id(1), "path": [id(1)], "nonce": "7", "data": user(json!(7))});
    alice.socket.send(Message::Binary(message.to_string().into())).await.unwrap();
    assert_eq!(bob.message().await["data"], user(json!(7)));
    let mut socket = RawPeer::open(server.address()).await.unwrap();
    socket.send(Message::Binary(vec![0xff, 0xfe].into())).await.unwrap();
    let ended = "crolang_peer_relay_channels_ended_total{reason=\"no_id\"}";
    eventually("what is no text is no ID", || metric(&server, ended) == 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_reconnects_to_its_bootstrap_peer() {
    let port = Port::free();
    let start = || start_on(&port, |config| config.peer_relay.path = Some(PEERS.into()));
    let server = start().await;
    let address = server.address();
    let settings = PeerSettings {
        bootstrap: vec![format!("ws://{address}{PEERS}").parse().unwrap()],
        ..PeerSettings::default()
    };
    let peer = Peer::start(settings).await.unwrap();
    let mut events = peer.events();
    eventually("it connects", || peer.neighbours() == [server.peer().unwrap().id()]).await;
    server.shutdown().await;
    eventually("it notices", || peer.neighbours().is_empty()).await;
    let again = start().await;
    let id = again.peer().unwrap().id();
    let reconnected = async {
        while !matches!(events.next().await, Some(PeerEvent::Connected(other)) if other == id) {}
    };
    tokio::time::timeout(2 * SOON, reconnected).await.expect("it reconnects");
    assert!(peer.disconnect(&id));
    eventually("it reconnects once more", || peer.neighbours() == [id]).await;
    peer.shutdown().await;
}
