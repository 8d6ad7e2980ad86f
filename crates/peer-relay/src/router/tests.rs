//! One router's decisions, and networks of many routers without sockets.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::id::tests::ids;
use crate::message::{MAX_DATA_BYTES, user};

fn id(byte: u8) -> PeerId {
    PeerId::from_bytes([byte; 20])
}

/// The router of the peer with ID 0, whose channels are named by the peers they lead to.
fn router(neighbours: impl IntoIterator<Item = u8>) -> Router<PeerId> {
    let mut router = Router::new(id(0), MAX_DATA_BYTES, Instant::now(), [7; 32]);
    neighbours.into_iter().for_each(|peer| drop(router.add(id(peer), id(peer))));
    router
}

fn message(to: u8, from: u8, path: &[u8], nonce: u32) -> Message {
    Message {
        to: id(to),
        from: id(from),
        path: path.iter().map(|peer| id(*peer)).collect(),
        nonce: nonce.to_string().into(),
        data: user(RawValue::NULL),
    }
}

/// Where a message goes, and the path that it has then.
fn on(route: Route<PeerId>) -> (Vec<PeerId>, Vec<PeerId>) {
    match route {
        Route::On(channels, message) => (channels, message.path),
        other => panic!("{other:?}"),
    }
}

fn outcome(route: Route<PeerId>) -> Outcome {
    match route {
        Route::Ends(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_two_closest_that_are_not_in_the_path_come_next() {
    let mut router = router([1, 2, 4, 8, 16]);
    let now = Instant::now();
    let route = router.receive(now, id(1), message(3, 9, &[9, 1], 1));
    assert_eq!(on(route), (vec![id(2), id(4)], vec![id(9), id(1), id(0)]));
    // A neighbour gets it alone.
    let route = router.receive(now, id(1), message(8, 9, &[9, 1], 2));
    assert_eq!(on(route).0, [id(8)]);
    assert_eq!(on(router.send(now, id(3), user(RawValue::NULL))).0, [id(2), id(1)]);
}

#[test]
fn the_way_that_a_peer_was_heard_by_comes_first() {
    let mut router = router([1, 2, 4, 64]);
    let now = Instant::now();
    // Peer 3 is known by 64 now, which is the farthest from it.
    router.receive(now, id(64), message(0, 3, &[3, 64], 1));
    let route = router.send(now, id(3), user(RawValue::NULL));
    assert_eq!(on(route), (vec![id(64), id(2), id(1)], vec![id(0)]));
    // Not back to where it came from.
    let route = router.receive(now, id(64), message(3, 9, &[9, 64], 2));
    assert_eq!(on(route).0, [id(2), id(1)]);
    // If it left, the closest to it is asked.
    router.remove(&id(64));
    router.add(id(65), id(65));
    let route = router.send(now, id(3), user(RawValue::NULL));
    assert_eq!(on(route).0, [id(65), id(2), id(1)]);
    // Forgotten in the end.
    let route = router.send(now + ROUTE_TTL * 2, id(3), user(RawValue::NULL));
    assert_eq!(on(route).0, [id(2), id(1)]);
}

#[test]
fn a_neighbours_name_is_taken_only_from_its_own_channel() {
    let mut router = router([1, 2]);
    let now = Instant::now();
    let forged = || message(0, 2, &[2, 1], 1);
    assert_eq!(outcome(router.receive(now, id(1), forged())), Outcome::ForeignChannel);
    // The true one has the same nonce, and is taken all the same.
    assert!(matches!(router.receive(now, id(2), message(0, 2, &[2], 1)), Route::Here(_)));
    // Once it is no neighbour, it may come by anybody.
    router.remove(&id(2));
    assert!(matches!(router.receive(now, id(1), message(0, 2, &[2, 1], 2)), Route::Here(_)));
}

#[test]
fn a_message_is_taken_once_and_while_its_path_is_short() {
    let mut router = router([1, 2]);
    let now = Instant::now();
    let path: Vec<u8> = (100..100 + MAX_HOPS as u8).collect();
    let short = message(9, 100, &path[..MAX_HOPS - 1], 1);
    assert_eq!(on(router.receive(now, id(1), short.clone())).1.len(), MAX_HOPS);
    assert_eq!(outcome(router.receive(now, id(2), short)), Outcome::Replayed);
    assert_eq!(outcome(router.receive(now, id(1), message(9, 100, &path, 2))), Outcome::HopLimit);
    // For this peer itself it may have come from anywhere.
    let path = [&path[..], &path, &path].concat();
    assert!(matches!(router.receive(now, id(1), message(0, 100, &path, 3)), Route::Here(_)));
    // One's own nonce is known, and so is a peer that pretends to be this peer.
    let Route::On(_, own) = router.send(now, id(9), user(RawValue::NULL)) else { panic!() };
    assert_eq!(outcome(router.receive(now, id(1), own)), Outcome::Replayed);
    assert_eq!(outcome(router.receive(now, id(1), message(9, 0, &[0], 4))), Outcome::OwnMessage);
    // There must be somebody to pass it on to.
    assert_eq!(outcome(router.receive(now, id(1), message(9, 2, &[2, 1], 5))), Outcome::DeadEnd);
    let mut long = message(9, 2, &[1], 6);
    long.data =
        RawValue::from_string(format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_DATA_BYTES))).unwrap();
    assert_eq!(outcome(router.receive(now, id(1), long)), Outcome::TooLong);
}

#[test]
fn what_is_sent_too_early_waits_for_the_first_neighbour() {
    let mut router = router([]);
    let now = Instant::now();
    for _ in 0..MAX_WAITING {
        assert!(matches!(router.send(now, id(9), user(RawValue::NULL)), Route::Waits));
    }
    assert_eq!(outcome(router.send(now, id(9), user(RawValue::NULL))), Outcome::QueueFull);
    let waited = router.add(id(1), id(1));
    assert_eq!(waited.len(), MAX_WAITING);
    for message in waited {
        assert_eq!(on(router.forward(now, message)), (vec![id(1)], vec![id(0)]));
    }
    assert!(router.add(id(2), id(2)).is_empty());
}

#[test]
fn floods_do_not_fill_the_memory() {
    let mut router = router([1, 2]);
    let now = Instant::now();
    let mut random = StdRng::seed_from_u64(1);
    for nonce in 0..300_000 {
        let mut message = message(9, 0, &[1], nonce);
        message.from = PeerId::random(&mut random);
        router.receive(now, id(1), message);
    }
    let (nonces, routes, waiting) = router.remembered();
    assert!(nonces <= 2 * MAX_NONCES && routes <= 2 * MAX_ROUTES && waiting == 0);
    assert_eq!(
        outcome(router.receive(now, id(1), message(9, 7, &[1], 299_999))),
        Outcome::Replayed
    );
}

proptest! {
    #[test]
    fn no_message_goes_back_nor_to_more_than_three(
        own in ids(), neighbours in vec(ids(), 1..40), messages in vec((ids(), ids(), vec(ids(), 0..25)), 1..20),
    ) {
        let now = Instant::now();
        let mut router = Router::new(own, MAX_DATA_BYTES, now, [7; 32]);
        for peer in &neighbours {
            if *peer != own {
                router.add(*peer, *peer);
            }
        }
        for (at, (to, from, path)) in messages.into_iter().enumerate() {
            let path = [&neighbours[..at % neighbours.len()], &path].concat();
            let data = user(RawValue::NULL);
            let message = Message { to, from, path: path.clone(), nonce: at.to_string().into(), data };
            match router.receive(now, neighbours[0], message) {
                Route::On(channels, sent) => {
                    prop_assert!((1..=3).contains(&channels.len()));
                    prop_assert!(channels.iter().all(|next| !path.contains(next)));
                    prop_assert!(channels.iter().collect::<HashSet<_>>().len() == channels.len());
                    prop_assert_eq!(&sent.path, &[&path[..], &[own]].concat());
                    prop_assert!(sent.path.len() <= MAX_HOPS);
                    prop_assert!(to != own && from != own);
                }
                Route::Here(_) => prop_assert_eq!(to, own),
                Route::Ends(_) => {}
                Route::Waits => prop_assert!(false, "a stranger's message waits"),
            }
        }
    }
}

/// A network of routers, as peers build it that come one after the other and connect to those
/// closest to themselves. Channels are numbers of peers.
struct Network {
    peers: Vec<Router<usize>>,
    now: Instant,
    random: StdRng,
}

/// How one message fared.
struct Journey {
    hops: Option<usize>,
    copies: usize,
}

impl Network {
    fn new(size: usize, links: usize) -> Self {
        let now = Instant::now();
        let mut random = StdRng::seed_from_u64(size as u64);
        let mut here: Buckets<usize> = Buckets::new(PeerId::random(&mut random));
        let mut peers: Vec<Router<usize>> = Vec::with_capacity(size);
        for number in 0..size {
            let own = PeerId::random(&mut random);
            let mut peer = Router::new(own, MAX_DATA_BYTES, now, random.random());
            let mut chosen: Vec<_> = here.closest(own).take(links).map(|(_, at)| *at).collect();
            let deepest = chosen.first().map_or(0, |at| peers[*at].own().common_bits(&own));
            for bucket in 0..deepest {
                let target = own.random_in_bucket(bucket, &mut random);
                let other = here.closest(target).next().map(|(_, at)| *at);
                let is_filled =
                    chosen.iter().any(|at| peers[*at].own().common_bits(&own) == bucket);
                chosen.extend(other.filter(|_| !is_filled));
            }
            for at in chosen {
                peer.add(*peers[at].own(), at);
                peers[at].add(own, number);
            }
            here.insert(own, number);
            peers.push(peer);
        }
        Self { peers, now, random }
    }

    /// Sends a message from one peer to another, every hop taking equally long.
    fn send(&mut self, from: usize, to: usize) -> Journey {
        let target = *self.peers[to].own();
        let route = self.peers[from].send(self.now, target, user(RawValue::NULL));
        let mut ways = vec![(from, route)];
        let mut journey = Journey { hops: None, copies: 0 };
        for hop in 0.. {
            let mut next = Vec::new();
            for (by, route) in ways {
                match route {
                    Route::On(channels, message) => {
                        journey.copies += channels.len();
                        let by = *self.peers[by].own();
                        for peer in channels {
                            let route = self.peers[peer].receive(self.now, by, message.clone());
                            next.push((peer, route));
                        }
                    }
                    Route::Here(_) => journey.hops = journey.hops.or(Some(hop)),
                    Route::Ends(_) | Route::Waits => {}
                }
            }
            if next.is_empty() {
                break;
            }
            ways = next;
        }
        journey
    }

    /// Hops of messages between random pairs, and the mean number of copies.
    fn sample(&mut self, pairs: usize) -> (Vec<usize>, f64) {
        let (mut hops, mut copies) = (Vec::new(), 0);
        while hops.len() < pairs {
            let from = self.random.random_range(0..self.peers.len());
            let to = self.random.random_range(0..self.peers.len());
            if from != to {
                let journey = self.send(from, to);
                hops.push(journey.hops.unwrap_or(usize::MAX));
                copies += journey.copies;
            }
        }
        hops.sort_unstable();
        (hops, copies as f64 / pairs as f64)
    }
}

/// The table in doc/explanation/overlay.md: `cargo test --lib hops_grow -- --nocapture`.
///
/// The peers choose their neighbours as `Membership::populate` does, once all have found what
/// they look for.
#[test]
fn hops_grow_like_the_logarithm_of_the_number_of_peers() {
    let mut means = Vec::new();
    for size in [100usize, 1_000, 10_000] {
        let mut network = Network::new(size, 15);
        let links: usize = network.peers.iter().map(|peer| peer.neighbours().len()).sum();
        let (hops, copies) = network.sample(300);
        let mean = hops.iter().sum::<usize>() as f64 / hops.len() as f64;
        let (half, most) = (hops[hops.len() / 2], hops[hops.len() - 1]);
        let links = links as f64 / size as f64;
        println!("| {size} | {links:.0} | {mean:.1} | {half} | {most} | {copies:.0} |");
        assert!(most <= size.ilog2() as usize, "{most} hops among {size} peers, or never arrived");
        means.push(mean);
    }
    // Ten times the peers: about one hop more, not ten times the hops.
    assert!(means.windows(2).all(|mean| mean[1] - mean[0] < 2.0), "{means:?}");
    assert!(means.windows(2).all(|mean| mean[1] > mean[0]), "{means:?}");
}
