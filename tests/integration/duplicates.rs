//! Newcomers for an ID that is held: a live holder wins, a dead one does not.

use std::time::{Duration, Instant};

use crolang_broker::DuplicateIdPolicy;

use crate::support::{Frame, Node, eventually, frame, metric, start, start_with};

/// The query of a node "a".
const QUERY: &str = "&id=a&version=1&runtime=r";

const ALREADY_CONNECTED: &str = "44{\"message\":\"client already connected\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_holder_keeps_its_id() {
    let server = start().await;
    let holder = Node::connect(server.address(), "a").await.live();
    for _ in 0..20 {
        let began = Instant::now();
        let refusal = Node::try_connect(server.address(), "a").await.err().unwrap();
        assert_eq!(refusal, ALREADY_CONNECTED);
        assert!(began.elapsed() < Duration::from_secs(1), "a live holder answers at once");
    }
    assert!(!holder.is_over());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_holder_is_closed_and_replaced_within_three_seconds() {
    let server = start().await;
    let mut silent = Node::connect_settled(server.address(), "a").await;
    let began = Instant::now();
    let mut newcomer = Node::connect(server.address(), "a").await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(silent.next_unanswered().await, Frame::Ping);
    silent.end().await;
    assert_eq!(newcomer.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]");
    assert_eq!(metric(&server, "crolang_connections_closed_total{reason=\"replaced\"}"), 1.0);
    assert_eq!(metric(&server, "crolang_nodes"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_is_no_heartbeat() {
    let server = start().await;
    for close in [&frame(0x88, &[3, 232])[..], &frame(0x81, b"41"), &frame(0x81, b"1"), &[]] {
        let mut holder = Node::connect_settled(server.address(), "a").await;
        let newcomer = tokio::spawn(Node::try_connect(server.address(), "a"));
        assert_eq!(holder.next_unanswered().await, Frame::Ping);
        holder.send_bytes(close).await;
        if close.is_empty() {
            drop(holder);
        }
        let admitted = newcomer.await.unwrap();
        assert!(admitted.is_ok(), "{close:x?}: {:?}", admitted.err());
        drop(admitted);
        eventually("both are gone", || metric(&server, "crolang_nodes") == 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_byte_is_a_sign_of_life() {
    let server = start().await;
    let mut holder = Node::connect_settled(server.address(), "a").await;
    let newcomer = tokio::spawn(Node::try_connect(server.address(), "a"));
    assert_eq!(holder.next_unanswered().await, Frame::Ping);
    // Not the pong, but half a frame: a peer that writes it lives.
    holder.send_bytes(&[0x81]).await;
    assert_eq!(newcomer.await.unwrap().err().unwrap(), ALREADY_CONNECTED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_newcomers_for_a_dead_holders_id_one_gets_it() {
    let server = start().await;
    let _silent = Node::connect_settled(server.address(), "a").await;
    let newcomers: Vec<_> = (0..20)
        .map(|_| {
            let address = server.address();
            tokio::spawn(async move { Node::try_connect(address, "a").await.map(Node::live) })
        })
        .collect();
    let mut connected = Vec::new();
    for newcomer in newcomers {
        match newcomer.await.unwrap() {
            Ok(node) => connected.push(node),
            Err(answer) => assert!(
                answer == ALREADY_CONNECTED || answer.starts_with("HTTP/1.1 503"),
                "{answer}"
            ),
        }
    }
    // One after the other may have had it, but only while it answered nothing.
    assert_eq!(metric(&server, "crolang_nodes"), 1.0);
    assert_eq!(connected.iter().filter(|node| !node.is_over()).count(), 1);
}

#[tokio::test]
async fn a_holder_that_never_sent_connect_is_no_holder() {
    for policy in [DuplicateIdPolicy::Probe, DuplicateIdPolicy::Reject, DuplicateIdPolicy::Replace]
    {
        let server = start_with(|config| config.broker.duplicate_id_policy = policy).await;
        let mut squatter = Node::open(server.address(), QUERY).await;
        let began = Instant::now();
        let mut newcomer = Node::connect(server.address(), "a").await;
        assert!(began.elapsed() < Duration::from_secs(1), "nobody is asked");
        assert_eq!(newcomer.ask("SOCKET_MSG_EXCHANGE", "{}").await, "[\"ERROR\"]");
        assert_eq!(metric(&server, "crolang_nodes"), 1.0);
        let newcomer = newcomer.live();
        squatter.send("40").await;
        let answer = squatter.text().await;
        assert_eq!(answer == ALREADY_CONNECTED, policy != DuplicateIdPolicy::Replace, "{answer}");
        drop((squatter, newcomer));
        eventually("both left", || server.connections() == 0).await;
    }
}

#[tokio::test]
async fn of_those_who_have_upgraded_the_first_to_connect_gets_the_id() {
    let server = start().await;
    let mut upgraded = Vec::new();
    for _ in 0..4 {
        upgraded.push(Node::open(server.address(), QUERY).await);
    }
    let mut first = upgraded.remove(2);
    first.send("40").await;
    first.authenticated().await;
    let _first = first.live();
    for mut other in upgraded {
        other.send("40").await;
        assert_eq!(other.text().await, ALREADY_CONNECTED);
    }
    assert_eq!(metric(&server, "crolang_nodes"), 1.0);
    assert_eq!(metric(&server, "crolang_refusals_total{cause=\"already_connected\"}"), 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_have_a_holder_pinged_once_a_second() {
    let server = start().await;
    let mut holder = Node::connect_settled(server.address(), "a").await;
    let strangers = {
        let address = server.address();
        tokio::spawn(async move {
            let (began, mut refused) = (Instant::now(), 0);
            while began.elapsed() < Duration::from_millis(2_500) {
                let refusal = Node::try_connect(address, "a").await.err().unwrap();
                assert_eq!(refusal, ALREADY_CONNECTED);
                refused += 1;
            }
            refused
        })
    };
    let mut pings = 0;
    while !strangers.is_finished() {
        let next = tokio::time::timeout(Duration::from_millis(50), holder.next_unanswered());
        if let Ok(Frame::Ping) = next.await {
            pings += 1;
            holder.send_bytes(&frame(0x8a, b"")).await;
        }
    }
    let refused = strangers.await.unwrap();
    assert!((2..=3).contains(&pings) && refused > pings, "{pings} pings for {refused} strangers");
}

#[tokio::test]
async fn reject_never_asks_the_holder() {
    let server =
        start_with(|config| config.broker.duplicate_id_policy = DuplicateIdPolicy::Reject).await;
    let mut holder = Node::connect(server.address(), "a").await;
    let began = Instant::now();
    assert_eq!(Node::try_connect(server.address(), "a").await.err().unwrap(), ALREADY_CONNECTED);
    assert!(began.elapsed() < Duration::from_secs(1));
    holder.send(r#"421["SOCKET_MSG_EXCHANGE","{}"]"#).await;
    assert_eq!(holder.next_unanswered().await, Frame::Text("431[\"ERROR\"]".into()));
}

#[tokio::test]
async fn replace_always_replaces() {
    let server =
        start_with(|config| config.broker.duplicate_id_policy = DuplicateIdPolicy::Replace).await;
    let mut holder = Node::connect(server.address(), "a").await;
    let mut newcomer = Node::connect(server.address(), "a").await;
    assert_eq!(holder.text().await, "41", "it is told to stay away");
    holder.end().await;
    newcomer.send(r#"421["SOCKET_MSG_EXCHANGE","{\"to\":\"a\"}"]"#).await;
    assert!(newcomer.text().await.starts_with("42[\"SOCKET_MSG_EXCHANGE\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_replace_each_other_are_parted() {
    let server =
        start_with(|config| config.broker.duplicate_id_policy = DuplicateIdPolicy::Replace).await;
    let mut holder = Node::connect(server.address(), "a").await.live();
    for _ in 0..5 {
        let newcomer = Node::connect(server.address(), "a").await.live();
        holder.ended().await;
        holder = newcomer;
    }
    for _ in 0..20 {
        let refusal = Node::try_connect(server.address(), "a").await.err().unwrap();
        assert_eq!(refusal, ALREADY_CONNECTED);
    }
    assert!(!holder.is_over());
    let other = Node::connect(server.address(), "b").await.live();
    Node::connect(server.address(), "b").await;
    other.ended().await;
}
