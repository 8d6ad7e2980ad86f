//! What comes on a replica's channel: garbage, the words of later versions, and a peer written by
//! hand. It speaks `src/delivery/remote/frame.rs` from outside, so a change there shows here.

mod peer;

use std::time::{Duration, Instant};

use crolang_broker::Server;
use serde_json::json;
use tokio::time::timeout;

use self::peer::{
    CONTEST, CONTESTED, DELIVER, DELIVERED, Entry, Peer, UNKNOWN, answer, deliver, text,
};
use crate::support::{EVENTS, Hook, Node, RedisServer, eventually, metric, start_replica};

const MESSAGE: &str = "SOCKET_MSG_EXCHANGE";

/// The replica and the connection that own the node's ID.
fn owner(redis: &RedisServer, node: &str) -> (String, u64) {
    let owner = redis.command(&["GET", &format!("crolang:node:{node}")]);
    let (replica, connection) = owner.split_once(':').unwrap();
    (replica.to_owned(), connection.parse().unwrap())
}

fn outcome(server: &Server, outcome: &str) -> f64 {
    metric(server, &format!("crolang_replica_messages_total{{outcome=\"{outcome}\"}}"))
}

/// A replica with alice, who answers nothing by herself, and a peer beside it.
async fn start(redis: &RedisServer) -> (Server, Node, Peer) {
    let server = start_replica(&redis.url(), &[("PING_INTERVAL_MS", "60000")]).await;
    let alice = Node::connect(server.address(), "alice").await;
    (server, alice, Peer::start(redis).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_counted_and_reaches_nobody() {
    let redis = RedisServer::start().await;
    let (server, mut alice, mut peer) = start(&redis).await;
    let other = start_replica(&redis.url(), &[]).await;
    let mut bob = Node::connect(other.address(), "bob").await;
    let (replica, connection) = owner(&redis, "alice");
    let good = |n: u64| deliver(n, connection, 6, "alice", "\"good\"");
    let mut wrong: Vec<(Vec<u8>, &str)> = vec![(Vec::new(), "dropped_version")];
    // Every version but this one; 0 is that of the channel's own probes.
    for version in [2, 3, 100, 255] {
        let mut frame = peer.frame(&[good(1)]);
        frame[0] = version;
        wrong.push((frame, "dropped_version"));
    }
    let whole = peer.frame(&[good(1)]);
    for length in [1, 2, 16, 17, 24, 26, 30, 38, 39, whole.len() / 2, whole.len() - 1] {
        // A frame of its own each time: that it is repeated is not why it is dropped.
        wrong.push((peer.frame(&[good(1)])[..length].to_vec(), "dropped_malformed"));
    }
    for argument in ["", "1", "{}", "null", "\"a", "\"\\x\"", "\"a\"]", "\"a\",1", "\"a\nb\""] {
        let entry = deliver(2, connection, 6, "alice", argument);
        wrong.push((peer.frame(&[entry]), "dropped_malformed"));
    }
    for body in [&[0_u8; 3][..], &[255; 60], &[0; 9]] {
        let entry = Entry { kind: DELIVER, id: 3, body: body.to_vec() };
        wrong.push((peer.frame(&[entry]), "dropped_malformed"));
    }
    let unheard_of = deliver(4, connection, EVENTS.len() as u8, "alice", "\"x\"");
    wrong.push((peer.frame(&[unheard_of]), "dropped_malformed"));
    for (kind, body) in [(DELIVERED, &[9][..]), (DELIVERED, &[]), (CONTESTED, &[9]), (CONTEST, &[])]
    {
        wrong.push((peer.frame(&[answer(kind, 0, body)]), "dropped_malformed"));
    }
    for (n, (bytes, label)) in wrong.iter().enumerate() {
        let before = outcome(&server, label);
        peer.publish(&replica, bytes).await;
        let counted = || outcome(&server, label) == before + 1.0;
        eventually(&format!("frame {n} is counted as {label}"), counted).await;
    }
    // The same with any bytes at all, of which only the end of the counting can be waited for.
    let mut n = 1_u32;
    for length in 0..300 {
        let random = (0..length).map(|_| {
            n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (n >> 24) as u8
        });
        let bytes: Vec<_> = random.collect();
        peer.publish(&replica, &bytes).await;
        peer.publish(&replica, &[&whole[..1 + 16], &bytes].concat()).await;
    }
    // What was published before has been received by now, and nothing of it came to alice.
    let mut last = Peer::start(&redis).await;
    last.say(&replica, &[deliver(1, connection, 6, "alice", "\"good\"")]).await;
    assert_eq!(alice.text().await, format!("42[\"{MESSAGE}\",\"good\"]"));
    assert_eq!(last.hear_one().await, answer(DELIVERED, 1, &[0]));
    assert_eq!(bob.ask(MESSAGE, r#"{"to":"alice"}"#).await, "[\"OK\"]");
    assert!(alice.text().await.contains("alice"));
    assert_eq!(alice.ask(MESSAGE, r#"{"to":"bob"}"#).await, "[\"OK\"]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_comes_twice_or_too_late_is_dropped() {
    let redis = RedisServer::start().await;
    let (server, mut alice, mut peer) = start(&redis).await;
    let (replica, connection) = owner(&redis, "alice");
    let mut frames =
        (1..=3).map(|n| peer.frame(&[deliver(n, connection, 6, "alice", &format!("\"{n}\""))]));
    let frames: [Vec<u8>; 3] = std::array::from_fn(|_| frames.next().unwrap());
    for n in [0, 0, 2, 1, 2, 0] {
        peer.publish(&replica, &frames[n]).await;
    }
    eventually("they are dropped", || outcome(&server, "dropped_repeated") == 4.0).await;
    peer.say(&replica, &[deliver(4, connection, 6, "alice", "\"4\"")]).await;
    for n in [1, 3, 4] {
        assert_eq!(alice.text().await, format!("42[\"{MESSAGE}\",\"{n}\"]"));
    }
    let answers = [1, 3, 4].map(|n| answer(DELIVERED, n, &[0]));
    assert_eq!(peer.hear_many(3).await, answers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_version_does_not_know_harms_nothing() {
    let redis = RedisServer::start().await;
    let (server, mut alice, mut peer) = start(&redis).await;
    peer.suffix = b"grown";
    let (replica, connection) = owner(&redis, "alice");
    peer.say(
        &replica,
        &[
            Entry { kind: 4, id: 70, body: b"a request of later".to_vec() },
            deliver(71, connection, 0, "alice", r#""\ud800 byte for byte""#),
            Entry { kind: 127, id: 72, body: Vec::new() },
            Entry { kind: 132, id: 73, body: b"an answer of later".to_vec() },
            deliver(74, connection + 1, 6, "alice", "\"another connection\""),
            deliver(75, connection, 6, "nobody", "\"to nobody\""),
            deliver(76, connection, 6, "alice", "\"last\""),
        ],
    )
    .await;
    assert_eq!(alice.text().await, r#"42["CONNECTION_ATTEMPT","\ud800 byte for byte"]"#);
    assert_eq!(alice.text().await, format!("42[\"{MESSAGE}\",\"last\"]"));
    let answers = [
        answer(UNKNOWN, 70, &[]),
        answer(DELIVERED, 71, &[0]),
        answer(UNKNOWN, 72, &[]),
        answer(DELIVERED, 74, &[1]),
        answer(DELIVERED, 75, &[1]),
        answer(DELIVERED, 76, &[0]),
    ];
    assert_eq!(peer.hear_many(answers.len()).await, answers);
    assert_eq!(outcome(&server, "unknown_kind"), 3.0);
    assert_eq!(owner(&redis, "alice").1, connection, "the ID was not healed away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_gets_what_is_sent_to_its_nodes_and_decides_the_ack() {
    let redis = RedisServer::start().await;
    let (server, mut alice, mut peer) = start(&redis).await;
    peer.suffix = b"grown";
    let (replica, connection) = owner(&redis, "alice");
    peer.claim(&redis, "pete", 5);
    for (number, event) in (0..).zip(EVENTS) {
        let argument = format!(r#""{{\"to\":\"pete\",\"s\":\"\ud800\/{}\"}}""#, event);
        alice.send(&format!(r#"429["{}",{argument}]"#, event)).await;
        let request = peer.hear_one().await;
        let opens = event == "CONNECTION_ATTEMPT";
        let (opener, opener_connection) = if opens { ("alice", connection) } else { ("", 0) };
        let body = [
            &5_u64.to_be_bytes()[..],
            &[number],
            &text("pete"),
            &text(opener),
            &opener_connection.to_be_bytes(),
            &text(&argument),
        ];
        assert_eq!(request, Entry { kind: DELIVER, id: request.id, body: body.concat() });
        peer.say(&replica, &[answer(DELIVERED, request.id, &[0])]).await;
        assert_eq!(alice.text().await, "439[\"OK\"]");
        // Answers to nothing, and to what was answered before, change nothing.
        let strangers = [request.id, 1 << 63, u64::MAX]
            .map(|id| [answer(DELIVERED, id, &[1]), answer(UNKNOWN, id, &[])]);
        peer.say(&replica, strangers.as_flattened()).await;
    }
    for (kind, outcome, ack) in [
        (DELIVERED, &[1][..], "NOT_CONNECTED"),
        (DELIVERED, &[2], "ERROR"),
        (DELIVERED, &[3], "NOT_CONNECTED"),
        (UNKNOWN, &[], "ERROR"),
        (DELIVERED, &[0], "OK"),
    ] {
        alice.send(&format!(r#"428["{MESSAGE}","{{\"to\":\"pete\"}}"]"#)).await;
        let request = peer.hear_one().await;
        peer.say(&replica, &[answer(kind, request.id, outcome)]).await;
        assert_eq!(alice.text().await, format!("438[\"{ack}\"]"));
    }
    // Without an answer nobody knows; one that comes too late changes nothing.
    let began = Instant::now();
    assert_eq!(alice.ask(MESSAGE, r#"{"to":"pete"}"#).await, "[\"ERROR\"]");
    let elapsed = began.elapsed();
    assert!((500..1_500).contains(&elapsed.as_millis()), "{elapsed:?}");
    assert_eq!(outcome(&server, "unanswered"), 1.0);
    let request = peer.hear_one().await;
    peer.say(&replica, &[answer(DELIVERED, request.id, &[0])]).await;
    assert_eq!(alice.ask(MESSAGE, r#"{"to":"nobody"}"#).await, "[\"NOT_CONNECTED\"]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_asked_for_its_node_that_a_newcomer_wants() {
    let redis = RedisServer::start().await;
    let (server, _alice, mut peer) = start(&redis).await;
    peer.suffix = b"grown";
    let (replica, _) = owner(&redis, "alice");
    peer.claim(&redis, "pete", 5);
    let address = server.address();
    for (verdict, is_admitted) in [(0, false), (2, false), (1, true)] {
        let newcomer = tokio::spawn(Node::try_connect(address, "pete"));
        let request = peer.hear_one().await;
        // Neither does the newcomer replace a live holder, nor has it said CONNECT.
        let body = [&5_u64.to_be_bytes()[..], &[0], &text("pete"), &[0]].concat();
        assert_eq!(request, Entry { kind: CONTEST, id: request.id, body });
        peer.say(&replica, &[answer(CONTESTED, request.id, &[verdict])]).await;
        match newcomer.await.unwrap() {
            Ok(_) => assert!(is_admitted),
            Err(answer) if verdict == 0 => {
                assert_eq!(answer, r#"44{"message":"client already connected"}"#);
            }
            Err(answer) => assert!(answer.starts_with("HTTP/1.1 503") && verdict == 2, "{answer}"),
        }
    }
}

#[tokio::test]
async fn as_many_answers_as_may_come_at_once_find_their_place() {
    const MESSAGES: usize = 200;
    let redis = RedisServer::start().await;
    let (server, mut alice, mut peer) = start(&redis).await;
    let mut dave = Node::connect(server.address(), "dave").await;
    let (replica, _) = owner(&redis, "alice");
    let message = |n: usize| format!(r#"42{n}["{MESSAGE}","{{\"to\":\"pete\"}}"]"#);
    peer.claim(&redis, "pete", 1);
    alice.send(&message(0)).await;
    let first = peer.hear_one().await;
    // While that is on its way, pete moves, and the replica learns it by a message of dave's.
    peer.claim(&redis, "pete", 2);
    dave.send(&message(0)).await;
    let request = peer.hear_one().await;
    peer.say(&replica, &[answer(DELIVERED, request.id, &[1])]).await;
    let request = peer.hear_one().await;
    assert_eq!(request.body[..8], 2_u64.to_be_bytes());
    peer.say(&replica, &[answer(DELIVERED, request.id, &[0])]).await;
    assert_eq!(dave.text().await, "430[\"OK\"]");
    // As many as may wait do so behind the first, and one is held up by it.
    let all: Vec<_> = (1..MESSAGES).map(message).collect();
    alice.send_all(&all).await;
    assert_eq!(dave.ask(MESSAGE, r#"{"to":"alice"}"#).await, "[\"OK\"]");
    assert!(alice.text().await.starts_with("42["));
    peer.say(&replica, &[answer(DELIVERED, first.id, &[1])]).await;
    let mut answered = 0;
    while answered < MESSAGES {
        let mut requests = peer.hear().await;
        // The more are answered in one frame, the more come at once.
        while let Ok(more) = timeout(Duration::from_millis(100), peer.hear()).await {
            requests.extend(more);
        }
        answered += requests.len();
        let answers = requests.into_iter().map(|request| answer(DELIVERED, request.id, &[0]));
        peer.say(&replica, &answers.collect::<Vec<_>>()).await;
    }
    for n in 0..MESSAGES {
        assert_eq!(alice.text().await, format!("43{n}[\"OK\"]"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_too_early_is_not_sent_on_behind_what_came_in_time() {
    let redis = RedisServer::start().await;
    let (_server, mut alice, mut peer) = start(&redis).await;
    let (replica, _) = owner(&redis, "alice");
    peer.claim(&redis, "pete", 1);
    alice.send_all(&[1, 2].map(|n| format!(r#"42{n}["{MESSAGE}","{{\"to\":\"pete\"}}"]"#))).await;
    let [first, second] = peer.hear_many(2).await.try_into().unwrap();
    // Pete was greeted between the two, and has moved since.
    peer.claim(&redis, "pete", 2);
    let answers = [answer(DELIVERED, first.id, &[3]), answer(DELIVERED, second.id, &[0])];
    peer.say(&replica, &answers).await;
    assert_eq!(alice.text().await, "431[\"NOT_CONNECTED\"]");
    assert_eq!(alice.text().await, "432[\"OK\"]");

    // A replica says the same of a node that it has not greeted.
    let hook = Hook::start(|_| json!({"iceServers": []})).await;
    hook.hold();
    let url = hook.url("/");
    let variables = [("RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL", url.as_str())];
    let server = start_replica(&redis.url(), &variables).await;
    let mut bob = Node::open(server.address(), "&id=bob&version=1&runtime=r").await;
    bob.send("40").await;
    hook.called(1).await;
    let (replica, connection) = owner(&redis, "bob");
    peer.say(&replica, &[deliver(1, connection, 6, "bob", "\"early\"")]).await;
    assert_eq!(peer.hear_one().await, answer(DELIVERED, 1, &[3]));
    hook.release();
    bob.authenticated().await;
    peer.say(&replica, &[deliver(2, connection, 6, "bob", "\"in time\"")]).await;
    assert_eq!(peer.hear_one().await, answer(DELIVERED, 2, &[0]));
    assert!(bob.text().await.contains("in time"));
}
