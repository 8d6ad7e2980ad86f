//! The bridge: nodes and peers of the peer-relay network send each other messages.

use crolang_broker::Server;
use peer_relay::{Peer, PeerEvent, PeerId, PeerSettings};
use serde_json::{Value, json};

use crate::support::{
    EVENTS, Hook, Node, PEERS, RELAYED_EVENT, RawPeer, RedisServer, SOON, eventually, id, metric,
    start_replica, start_with_variables,
};

const MESSAGE: &str = "SOCKET_MSG_EXCHANGE";
const BRIDGE: [(&str, &str); 2] = [("PEER_RELAY_PATH", PEERS), ("PEER_RELAY_BRIDGE", "true")];
const AUTHORIZATION: &str = "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL";
const TOLD: &str = "ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL";

async fn start(variables: &[(&str, &str)]) -> Server {
    start_with_variables(&[&BRIDGE[..], variables].concat()).await
}

/// The payload of a message to a peer.
fn to(receiver: PeerId) -> String {
    json!({"from": "alice", "to": receiver, "channel": "chat", "content": "hi"}).to_string()
}

/// What a peer sends for a node.
fn letter(to: &str, content: &Value) -> Value {
    let message = json!({"channel": "chat", "content": content}).to_string();
    json!({"type": "user", "data": {"to": to, "message": message}})
}

/// The object in the next message that a node gets.
async fn received(node: &mut Node) -> Value {
    let event: Value = serde_json::from_str(&node.text().await[2..]).unwrap();
    assert_eq!((&event[0], event.as_array().unwrap().len()), (&json!(MESSAGE), 2));
    serde_json::from_str(event[1].as_str().unwrap()).unwrap()
}

/// What a node gets from a peer.
fn from_peer(peer: PeerId, to: &str, content: &Value) -> Value {
    json!({
        "from": peer.to_string(), "to": to, "channel": "chat", "content": content,
        "platformFrom": "PEER_RELAY", "versionFrom": env!("CARGO_PKG_VERSION"),
    })
}

/// Shows that nothing else came for this node before the answer to a question.
async fn is_silent(node: &mut Node) {
    let answer = node.ask("ARE_NODES_CONNECTED_TO_BROKER", r#"{"ids":[]}"#).await;
    assert_eq!(answer, r#"["{\"results\":[]}"]"#);
}

fn outcome(server: &Server, outcome: &str) -> f64 {
    metric(server, &format!("crolang_bridge_messages_total{{outcome=\"{outcome}\"}}"))
}

async fn counted(server: &Server, name: &str, count: f64) {
    eventually(name, || outcome(server, name) == count).await;
}

#[tokio::test]
async fn a_node_and_a_peer_talk() {
    let server = start(&[]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut bob = RawPeer::connect(server.address(), id(1)).await;
    // The text passes as it came, also what no UTF-8 stands for.
    let argument =
        format!(r#""{{\"to\":\"{}\",\"x\":1.0,\"y\":\"\/\ud800\",\"z\":\"\\ud800\"}}""#, bob.id);
    assert_eq!(alice.ask_raw(&format!("[\"{MESSAGE}\",{argument}]")).await, "[\"OK\"]");
    let frame = bob.raw_message().await;
    let data =
        format!(r#""data":{{"type":"user","data":{{"from":"alice","message":{argument}}}}}"#);
    assert!(frame.contains(&data), "{frame}");
    assert_eq!(alice.ask(MESSAGE, &to(bob.id)).await, "[\"OK\"]");
    let message = bob.message().await;
    assert_eq!((&message["from"], &message["to"]), (&json!(bob.other), &json!(bob.id)));
    assert_eq!(message["data"]["data"], json!({"from": "alice", "message": to(bob.id)}));

    bob.send_to(bob.other, letter("alice", &json!("hello"))).await;
    assert_eq!(received(&mut alice).await, from_peer(bob.id, "alice", &json!("hello")));
    assert_eq!(outcome(&server, "delivered"), 1.0);
    // A peer is no node.
    let question = json!({"ids": [bob.id]}).to_string();
    let answer = alice.ask("ARE_NODES_CONNECTED_TO_BROKER", &question).await;
    assert!(answer.contains(r#"\"connected\":false"#));
}

#[tokio::test]
async fn without_the_variable_nothing_passes() {
    let server = start_with_variables(&BRIDGE[..1]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut bob = RawPeer::connect(server.address(), id(1)).await;
    assert_eq!(alice.ask(MESSAGE, &to(bob.id)).await, "[\"NOT_CONNECTED\"]");
    bob.send_to(bob.other, letter("alice", &json!(1))).await;
    bob.is_silent().await;
    is_silent(&mut alice).await;
    assert!(!server.metrics().contains("crolang_bridge_messages_total{"));
    // Without an endpoint there is no peer.
    let server = start_with_variables(&BRIDGE[1..]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    assert!(server.peer().is_none());
    assert_eq!(alice.ask(MESSAGE, &to(id(1))).await, "[\"NOT_CONNECTED\"]");
}

#[tokio::test]
async fn what_cannot_arrive_is_not_ok() {
    let server = start(&[]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    assert_eq!(alice.ask(MESSAGE, &to(id(1))).await, "[\"NOT_CONNECTED\"]");
    let mut bob = RawPeer::connect(server.address(), id(0xb0)).await;
    assert_eq!(alice.ask(MESSAGE, &to(bob.other)).await, "[\"NOT_CONNECTED\"]");
    let upper = to(bob.id).replace(&bob.id.to_string(), &bob.id.to_string().to_uppercase());
    assert_eq!(alice.ask(MESSAGE, &upper).await, "[\"NOT_CONNECTED\"]");
    for event in EVENTS.into_iter().filter(|event| *event != RELAYED_EVENT) {
        assert_eq!(alice.ask(event, &to(bob.id)).await, "[\"NOT_CONNECTED\"]");
    }
    let long = json!({"to": bob.id, "content": "x".repeat(998_000)}).to_string();
    assert_eq!(alice.ask(MESSAGE, &long).await, "[\"ERROR\"]");
    assert_eq!(alice.ask(MESSAGE, &to(bob.id).replace("alice", "eve")).await, "[\"ERROR\"]");
    bob.is_silent().await;
    // One that nobody knows is sent to the closest peers.
    assert_eq!(alice.ask(MESSAGE, &to(id(0xb1))).await, "[\"OK\"]");
    assert_eq!(bob.message().await["to"], json!(id(0xb1)));
}

#[tokio::test]
async fn what_is_no_letter_is_dropped_and_no_name_can_be_forged() {
    let server = start(&[]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut bob = RawPeer::connect(server.address(), id(1)).await;
    let forms = [
        json!(null),
        json!("alice"),
        json!(["alice", "{}"]),
        json!({"from": "alice", "message": "{}"}),
        json!({"to": "alice"}),
        json!({"to": "alice", "message": {}}),
        json!({"to": "alice", "message": "[]"}),
        json!({"to": 1, "message": "{}"}),
        json!({"to": "a\nb", "message": "{}"}),
    ];
    for form in &forms {
        bob.send_to(bob.other, json!({"type": "user", "data": form})).await;
    }
    let forged = r#"{"from":"carol","from":"carol","to":"dave","platformFrom":"JVM","versionFrom":"9","channel":"chat","content":7}"#;
    let data = json!({"from": "carol", "to": "alice", "message": forged});
    bob.send_to(bob.other, json!({"type": "user", "data": data})).await;
    assert_eq!(received(&mut alice).await, from_peer(bob.id, "alice", &json!(7)));
    assert_eq!(outcome(&server, "malformed"), forms.len() as f64);
    bob.send_to(bob.other, letter("nobody", &json!(1))).await;
    counted(&server, "not_connected", 1.0).await;
    is_silent(&mut alice).await;
}

#[tokio::test]
async fn nodes_go_first() {
    let server = start(&[]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut peer = RawPeer::connect(server.address(), id(7)).await;
    let mut node = Node::connect(server.address(), &id(7).to_string()).await;
    assert_eq!(alice.ask(MESSAGE, &to(id(7))).await, "[\"OK\"]");
    assert_eq!(received(&mut node).await["content"], json!("hi"));
    peer.is_silent().await;
    peer.send_to(peer.other, letter("alice", &json!(1))).await;
    counted(&server, "name_of_a_node", 1.0).await;
    is_silent(&mut alice).await;
    drop(node);
    eventually("the node has left", || metric(&server, "crolang_nodes") == 1.0).await;
    assert_eq!(alice.ask(MESSAGE, &to(id(7))).await, "[\"OK\"]");
    assert_eq!(peer.message().await["data"]["data"]["from"], json!("alice"));
}

#[tokio::test]
async fn a_node_goes_first_while_it_is_on_its_way_in() {
    let hook = Hook::start(|_| json!({"iceServers": [{"urls": ["stun:stun.test"]}]})).await;
    let server = start(&[("RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL", &hook.url("/"))]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut peer = RawPeer::connect(server.address(), id(7)).await;
    hook.hold();
    let query = format!("&id={}&version=1.2.0&runtime=JVM", id(7));
    let mut node = Node::open(server.address(), &query).await;
    node.send("40").await;
    hook.called(2).await;
    assert_eq!(alice.ask(MESSAGE, &to(id(7))).await, "[\"NOT_CONNECTED\"]");
    peer.is_silent().await;
    peer.send_to(peer.other, letter("alice", &json!(1))).await;
    counted(&server, "name_of_a_node", 1.0).await;
    hook.release();
    node.authenticated().await;
    assert_eq!(alice.ask(MESSAGE, &to(id(7))).await, "[\"OK\"]");
    assert_eq!(received(&mut node).await["content"], json!("hi"));
}

#[tokio::test]
async fn both_directions_are_authorized_and_told() {
    let peer = id(1).to_string();
    let allowed = json!(["alice", peer]);
    let hook = Hook::start({
        let allowed = allowed.clone();
        move |call| json!({"authorized": json!([call.body["from"], call.body["to"]]) == allowed})
    })
    .await;
    let told = Hook::start(|_| json!({})).await;
    let server = start(&[(AUTHORIZATION, &hook.url("/")), (TOLD, &told.url("/"))]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut eve = Node::connect(server.address(), "eve").await;
    let mut bob = RawPeer::connect(server.address(), id(1)).await;
    assert_eq!(alice.ask(MESSAGE, &to(bob.id)).await, "[\"OK\"]");
    assert_eq!(bob.message().await["data"]["data"]["from"], json!("alice"));
    let from_eve = to(bob.id).replace("alice", "eve");
    assert_eq!(eve.ask(MESSAGE, &from_eve).await, "[\"UNAUTHORIZED\"]");
    bob.is_silent().await;
    bob.send_to(bob.other, letter("alice", &json!(1))).await;
    counted(&server, "unauthorized", 1.0).await;
    is_silent(&mut alice).await;
    assert_eq!(hook.bodies()[2], json!({"from": peer, "to": "alice"}));
    hook.answer(|_| json!({"authorized": true}));
    bob.send_to(bob.other, letter("alice", &json!(2))).await;
    assert_eq!(received(&mut alice).await["content"], json!(2));
    told.called(2).await;
    let body = |from: &str, to: &str| json!({"senderId": from, "receiverId": to, "isReceiverConnected": true});
    let expected = [body("alice", &peer), body(&peer, "alice")];
    assert!(expected.iter().all(|body| told.bodies().contains(body)), "{:?}", told.bodies());
    assert_eq!(told.count(), 2);
    // A node of that name comes while the webhook is asked.
    hook.hold();
    let before = hook.count();
    bob.send_to(bob.other, letter("alice", &json!(3))).await;
    hook.called(before + 1).await;
    let _node = Node::connect(server.address(), &peer).await;
    hook.release();
    counted(&server, "name_of_a_node", 1.0).await;
    is_silent(&mut alice).await;
}

#[tokio::test]
async fn without_relay_nothing_passes_either() {
    let server = start(&[("WEBSOCKET_RELAY_ENABLED", "false")]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut bob = RawPeer::connect(server.address(), id(1)).await;
    assert_eq!(alice.ask(MESSAGE, &to(bob.id)).await, "[\"DISABLED\"]");
    bob.send_to(bob.other, letter("alice", &json!(1))).await;
    counted(&server, "disabled", 1.0).await;
    is_silent(&mut alice).await;
}

#[tokio::test]
async fn order_is_kept_while_a_webhook_answers_at_its_own_pace() {
    let hook = Hook::start(|_| json!({"authorized": true})).await;
    let server = start(&[(AUTHORIZATION, &hook.url("/"))]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let mut bob = RawPeer::connect(server.address(), id(1)).await;
    let mut carol = RawPeer::connect(server.address(), id(2)).await;
    for number in 0..50 {
        bob.send_to(bob.other, letter("alice", &json!(number))).await;
    }
    for number in 0..50 {
        assert_eq!(received(&mut alice).await["content"], json!(number));
    }
    let texts: Vec<_> = (0..50)
        .map(|number| {
            let payload = json!({"to": bob.id, "n": number}).to_string();
            format!("42{}", json!([MESSAGE, payload]))
        })
        .collect();
    alice.send_all(&texts).await;
    for number in 0..50 {
        let message = bob.message().await["data"]["data"]["message"].clone();
        assert_eq!(message, json!(json!({"to": bob.id, "n": number}).to_string()));
    }
    // More than may wait is dropped; who waits for the webhook holds up no other.
    hook.hold();
    let before = hook.count();
    for number in 0..100 {
        bob.send_to(bob.other, letter("alice", &json!(number))).await;
    }
    counted(&server, "too_many", 36.0).await;
    carol.send_to(carol.other, letter("alice", &json!("c"))).await;
    hook.called(before + 2).await;
    hook.release();
    let mut of_bob = Vec::new();
    for _ in 0..65 {
        let message = received(&mut alice).await;
        if message["from"] == json!(bob.id) {
            of_bob.push(message["content"].clone());
        }
    }
    assert_eq!(json!(of_bob), json!((0..64).collect::<Vec<_>>()));
    is_silent(&mut alice).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_for_a_node_that_does_not_read_is_bounded() {
    let server = start(&[("MAX_QUEUED_BYTES", "100000")]).await;
    let stuck = Node::connect(server.address(), "alice").await;
    let mut bob = RawPeer::connect(server.address(), id(1)).await;
    let content = json!("x".repeat(30_000));
    // Sockets hold a few megabytes before anything is queued.
    for _ in 0..2_000 {
        bob.send_to(bob.other, letter("alice", &content)).await;
        if outcome(&server, "queue_full") > 10.0 {
            break;
        }
    }
    eventually("a full queue", || outcome(&server, "queue_full") > 10.0).await;
    // Everybody else is served.
    let mut carol = Node::connect(server.address(), "carol").await;
    bob.send_to(bob.other, letter("carol", &json!(1))).await;
    assert_eq!(received(&mut carol).await["content"], json!(1));
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_for_a_peer_that_does_not_read_is_bounded() {
    let server = start(&[("MAX_QUEUED_BYTES", "100000")]).await;
    let mut alice = Node::connect(server.address(), "alice").await;
    let bob = RawPeer::connect(server.address(), id(1)).await;
    let payload = json!({"to": bob.id, "content": "x".repeat(30_000)}).to_string();
    let mut acks = Vec::new();
    while acks.len() < 2_000 && acks.last().is_none_or(|ack| ack == "[\"OK\"]") {
        acks.push(alice.ask(MESSAGE, &payload).await);
    }
    assert_eq!(acks.last().unwrap(), "[\"ERROR\"]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_far_away_in_the_network_is_reached_too() {
    let server = start(&[]).await;
    let url = |address| format!("ws://{address}").parse().unwrap();
    let near = Peer::start(PeerSettings {
        listen: Some(([127, 0, 0, 1], 0).into()),
        bootstrap: vec![format!("ws://{}{PEERS}", server.address()).parse().unwrap()],
        ..PeerSettings::default()
    });
    let near = near.await.unwrap();
    let bootstrap = vec![url(near.local_addr().unwrap())];
    let far = Peer::start(PeerSettings { bootstrap, ..PeerSettings::default() }).await.unwrap();
    let broker = server.peer().unwrap().id();
    eventually("a chain", || {
        near.neighbours().len() == 2 && server.peer().unwrap().neighbours() == [near.id()]
    })
    .await;
    let mut events = far.events();
    let mut alice = Node::connect(server.address(), "alice").await;
    assert_eq!(alice.ask(MESSAGE, &to(far.id())).await, "[\"OK\"]");
    let data = tokio::time::timeout(SOON, async {
        loop {
            if let Some(PeerEvent::Message { from, data }) = events.next().await {
                assert_eq!(from, broker);
                return serde_json::from_str::<Value>(data.get()).unwrap();
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(data["from"], json!("alice"));
    far.send(broker, &letter("alice", &json!("back"))["data"]).unwrap();
    assert_eq!(received(&mut alice).await, from_peer(far.id(), "alice", &json!("back")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_reaches_nodes_of_every_replica_and_nodes_go_first_on_all() {
    let redis = RedisServer::start().await;
    let a = start_replica(&redis.url(), &BRIDGE).await;
    let b = start_replica(&redis.url(), &BRIDGE).await;
    let mut peer = RawPeer::connect(a.address(), id(7)).await;
    let mut here = Node::connect(a.address(), "here").await;
    let mut there = Node::connect(b.address(), "there").await;
    for number in 0..20 {
        peer.send_to(peer.other, letter("there", &json!(number))).await;
    }
    for number in 0..20 {
        assert_eq!(received(&mut there).await, from_peer(id(7), "there", &json!(number)));
    }
    let message = json!({"to": id(7), "content": "hi"}).to_string();
    assert_eq!(here.ask(MESSAGE, &message).await, "[\"OK\"]");
    assert_eq!(peer.message().await["data"]["data"], json!({"from": "here", "message": message}));
    // The other replica has no channel to any peer.
    assert_eq!(there.ask(MESSAGE, &message).await, "[\"NOT_CONNECTED\"]");

    let mut node = Node::connect(b.address(), &id(7).to_string()).await;
    assert_eq!(here.ask(MESSAGE, &message).await, "[\"OK\"]");
    assert_eq!(received(&mut node).await["content"], json!("hi"));
    peer.is_silent().await;
    peer.send_to(peer.other, letter("here", &json!(1))).await;
    counted(&a, "name_of_a_node", 1.0).await;
    // A node that moves is found again.
    drop(there);
    let key = "crolang:node:there";
    eventually("the ID is free", || redis.command(&["EXISTS", key]) == "0").await;
    let mut there = Node::connect(a.address(), "there").await;
    let mut other = RawPeer::connect(a.address(), id(8)).await;
    other.send_to(other.other, letter("there", &json!("again"))).await;
    assert_eq!(received(&mut there).await, from_peer(id(8), "there", &json!("again")));
}
