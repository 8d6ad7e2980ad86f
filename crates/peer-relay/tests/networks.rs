//! Networks of peers, from two to fifty, of several shapes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops there")]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::SinkExt;
use peer_relay::{DialPolicy, MAX_DATA_BYTES, Peer, PeerEvent, PeerId, PeerSettings, SendError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// How long a network may take to deliver a message, sent again and again while it forms.
const FORMED: Duration = Duration::from_secs(40);

/// How long a single step may take.
const SOON: Duration = Duration::from_secs(10);

async fn eventually(timeout: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn peer(dial: DialPolicy, bootstrap: &[&Peer]) -> Peer {
    let bootstrap = bootstrap.iter().map(|peer| url(peer)).collect();
    let settings = PeerSettings {
        listen: Some(([127, 0, 0, 1], 0).into()),
        public_url: Some("ws://127.0.0.1:0/".parse().unwrap()),
        bootstrap,
        dial,
        ..PeerSettings::default()
    };
    Peer::start(settings).await.unwrap()
}

fn url(peer: &Peer) -> url::Url {
    format!("ws://{}/", peer.local_addr().unwrap()).parse().unwrap()
}

/// Peers of which each knows those that `known` gives for its number.
async fn network(size: usize, dial: DialPolicy, known: impl Fn(usize) -> Vec<usize>) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for number in 0..size {
        let bootstrap: Vec<_> = known(number).into_iter().map(|other| &peers[other]).collect();
        let peer = peer(dial, &bootstrap).await;
        peers.push(peer);
    }
    peers
}

/// Every peer sends to every other; all of it arrives, and nothing twice.
async fn all_pairs_deliver(peers: &[Peer]) {
    let mut readers = JoinSet::new();
    for peer in peers {
        let (own, mut events) = (peer.id(), peer.events());
        let mut missing: HashSet<PeerId> = peers.iter().map(Peer::id).collect();
        readers.spawn(async move {
            missing.remove(&own);
            let mut seen = HashSet::new();
            while !missing.is_empty() {
                match events.next().await {
                    Some(PeerEvent::Message { from, data }) => {
                        assert!(data.get().starts_with(&format!("[\"{from}\",\"{own}\",")));
                        assert!(seen.insert(data.get().to_owned()), "twice: {data}");
                        missing.remove(&from);
                    }
                    Some(PeerEvent::Lost(lost)) => panic!("{lost} events were lost"),
                    Some(_) => {}
                    None => panic!("{missing:?} are missing"),
                }
            }
        });
    }
    // While a network forms, a message may end where nobody knows further. So it is sent again.
    let began = Instant::now();
    let mut round = 0;
    while !readers.is_empty() {
        assert!(began.elapsed() < FORMED, "{} do not have all", readers.len());
        for (from, to) in peers.iter().flat_map(|from| peers.iter().map(move |to| (from, to))) {
            if from.id() != to.id() {
                from.send(to.id(), &(from.id(), to.id(), round)).unwrap();
            }
        }
        round += 1;
        let pause = tokio::time::sleep(Duration::from_millis(500));
        tokio::pin!(pause);
        while let Some(Ok(())) = tokio::select! {
            read = readers.join_next() => read.map(|read| { read.unwrap(); Ok::<_, ()>(()) }),
            () = &mut pause => None,
        } {}
    }
}

async fn shut_down(peers: Vec<Peer>) {
    let mut ends: JoinSet<_> = peers.into_iter().map(Peer::shutdown).collect();
    while let Some(ended) = ends.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stars_chains_and_rings_deliver() {
    for size in [2, 3, 10] {
        let star = network(
            size,
            DialPolicy::Bootstrap,
            |number| if number == 0 { vec![] } else { vec![0] },
        )
        .await;
        all_pairs_deliver(&star).await;
        shut_down(star).await;
        let chain =
            network(size, DialPolicy::Bootstrap, |number| (0..number).rev().take(1).collect())
                .await;
        all_pairs_deliver(&chain).await;
        shut_down(chain).await;
        let ring = network(size, DialPolicy::Bootstrap, |number| {
            let mut known: Vec<_> = (0..number).rev().take(1).collect();
            known.extend((number + 1 == size && number > 1).then_some(0));
            known
        })
        .await;
        all_pairs_deliver(&ring).await;
        shut_down(ring).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_peers_find_each_other_and_survive_that_a_fifth_leaves() {
    // Each knows one of those before it, far from the first one.
    let mut peers = network(50, DialPolicy::Any, |number| {
        (0..number).nth(number * 7 % number.max(1)).into_iter().collect()
    })
    .await;
    all_pairs_deliver(&peers).await;
    // Of those that each knew at first, nobody has so many.
    let has_enough = |peer: &Peer| peer.neighbours().len() >= 5;
    eventually(FORMED, "all find neighbours", || peers.iter().all(has_enough)).await;
    let gone: Vec<_> = (0..10).map(|number| peers.remove(number * 4)).collect();
    // Half of them without a word.
    let (said, dropped): (Vec<_>, Vec<_>) =
        gone.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    drop(dropped);
    shut_down(said.into_iter().map(|(_, peer)| peer).collect()).await;
    for number in 0..5 {
        let newcomer = peer(DialPolicy::Any, &[&peers[number * 3]]).await;
        peers.push(newcomer);
    }
    all_pairs_deliver(&peers).await;
    shut_down(peers).await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_an_error() {
    let alone = peer(DialPolicy::Bootstrap, &[]).await;
    let other = PeerId::from_bytes([7; 20]);
    assert!(matches!(alone.send(other, &"x".repeat(MAX_DATA_BYTES)), Err(SendError::TooLong)));
    let sent = (0..1000).take_while(|number| alone.send(other, number).is_ok()).count();
    assert_eq!(sent, 256, "so many wait");
    assert!(matches!(alone.send(other, &0), Err(SendError::QueueFull)));
    assert!(!alone.disconnect(&other));
    assert!(alone.connect(other).is_err());
    // To oneself.
    let mut events = alone.events();
    alone.send(alone.id(), &"me").unwrap();
    let event = events.next().await;
    assert!(
        matches!(event, Some(PeerEvent::Message { from, data }) if from == alone.id() && data.get() == "\"me\"")
    );
    let twin = alone.clone();
    alone.shutdown().await;
    assert!(matches!(twin.send(other, &0), Err(SendError::Ended)));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn the_longest_content_passes() {
    let hub = peer(DialPolicy::Bootstrap, &[]).await;
    let (alice, bob) =
        (peer(DialPolicy::Bootstrap, &[&hub]).await, peer(DialPolicy::Bootstrap, &[&hub]).await);
    eventually(SOON, "both connect", || hub.neighbours().len() == 2).await;
    let mut events = bob.events();
    let longest = "x".repeat(MAX_DATA_BYTES - r#"{"type":"user","data":""}"#.len());
    alice.send(bob.id(), &longest).unwrap();
    loop {
        if let PeerEvent::Message { data, .. } = events.next().await.unwrap() {
            assert_eq!(data.get().len(), longest.len() + 2);
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_peer_that_leaves_while_it_gets_a_neighbour_is_not_held_up() {
    const LEAVES_AT_ONCE: Duration = Duration::from_secs(2);
    let hub = peer(DialPolicy::Bootstrap, &[]).await;
    let mut leaving = JoinSet::new();
    for number in 0..500 {
        let leaf = peer(DialPolicy::Bootstrap, &[&hub]).await;
        leaving.spawn(async move {
            // From before it dials until it has a neighbour.
            tokio::time::sleep(Duration::from_micros(number % 20 * 50)).await;
            let began = Instant::now();
            leaf.shutdown().await;
            began.elapsed()
        });
        if leaving.len() == 8 {
            let took = leaving.join_next().await.unwrap().unwrap();
            assert!(took < LEAVES_AT_ONCE, "{took:?}");
        }
    }
    for took in leaving.join_all().await {
        assert!(took < LEAVES_AT_ONCE, "{took:?}");
    }
}

#[tokio::test]
async fn a_message_that_is_not_finished_in_time_ends_its_channel() {
    let mut settings =
        PeerSettings { listen: Some(([127, 0, 0, 1], 0).into()), ..PeerSettings::default() };
    settings.limits.message_timeout = Duration::from_millis(500);
    let peer = Peer::start(settings).await.unwrap();
    let stream = TcpStream::connect(peer.local_addr().unwrap()).await.unwrap();
    let (mut channel, _) =
        tokio_tungstenite::client_async(url(&peer).as_str(), stream).await.unwrap();
    let id = serde_json::json!({ "type": "Buffer", "data": vec![7; 20] });
    channel.send(Message::text(id.to_string())).await.unwrap();
    eventually(SOON, "it is a neighbour", || peer.neighbours().len() == 1).await;
    // Longer than the timeout without a message in the middle.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(peer.neighbours().len(), 1);
    // A masked text of 125 bytes, of which one comes now and then.
    let stream = channel.get_mut();
    stream.write_all(&[0x81, 0x80 | 125, 0, 0, 0, 0]).await.unwrap();
    let began = Instant::now();
    while !peer.neighbours().is_empty() {
        assert!(began.elapsed() < SOON, "it goes on for ever");
        let _ = stream.write_all(b"x").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() > Duration::from_millis(400));
    peer.shutdown().await;
}
