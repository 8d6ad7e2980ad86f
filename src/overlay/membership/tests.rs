//! One peer's decisions, and networks that build themselves without sockets.

use std::collections::{HashSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::overlay::acquaintances::HANDSHAKE_PATIENCE;

fn id(byte: u8) -> PeerId {
    PeerId::from_bytes([byte; 20])
}

fn answer(url: Option<&str>) -> Box<RawValue> {
    message::handshake_answer(&Reachable { ws: url.map(str::to_owned), wrtc: false })
}

/// A peer with ID 50 that dials strangers or not.
fn peer(dials_strangers: bool) -> Membership<u32> {
    let reachable = Reachable { ws: Some("ws://here".into()), wrtc: false };
    let rules = Rules { reachable, dials_strangers };
    Membership::new(id(50), rules, Instant::now(), [7; 32])
}

fn from(sender: u8, nonce: u32, data: Box<RawValue>) -> Message {
    let path = vec![id(sender)];
    Message { to: id(50), from: id(sender), path, nonce: nonce.to_string().into(), data }
}

/// The messages that are sent, as receiver and content.
fn sent(actions: &[Action<u32>]) -> Vec<(PeerId, &str)> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Send(_, message) => Some((message.to, message.data.get())),
        _ => None,
    });
    sent.collect()
}

fn dialed(actions: &[Action<u32>]) -> Vec<(PeerId, &str)> {
    let dialed = actions.iter().filter_map(|action| match action {
        Action::Dial(id, url) => Some((*id, url.as_str())),
        _ => None,
    });
    dialed.collect()
}

fn counted(actions: &[Action<u32>], fate: Fate) -> bool {
    actions.iter().any(|action| matches!(action, Action::Count(counted) if *counted == fate))
}

#[test]
fn a_new_neighbour_is_asked_for_peers_and_asks() {
    let mut peer = peer(false);
    let now = Instant::now();
    let Opened::Neighbour(actions) = peer.open(now, id(1), 1) else { panic!() };
    assert_eq!(sent(&actions), [(id(1), message::find_peers(&id(50)).get())]);
    peer.open(now, id(2), 2);
    peer.receive(now, id(1), from(1, 1, message::found_peers(&[id(3), id(50), id(2)])));
    // The closest first, whoever asks included, oneself not.
    let actions = peer.receive(now, id(1), from(1, 2, message::find_peers(&id(2))));
    assert_eq!(sent(&actions), [(id(1), message::found_peers(&[id(2), id(3), id(1)]).get())]);
    // Who left is not named any more.
    assert!(matches!(peer.close(now, &id(2), &2), Closed::Gone(_)));
    let actions = peer.receive(now, id(1), from(1, 3, message::find_peers(&id(2))));
    assert_eq!(sent(&actions), [(id(1), message::found_peers(&[id(3), id(1)]).get())]);
}

#[test]
fn all_neighbours_are_known_however_many_there_are() {
    let mut peer = peer(false);
    let now = Instant::now();
    (128..=255).for_each(|other| drop(peer.open(now, id(other), other.into())));
    let actions = peer.receive(now, id(200), from(200, 1, message::find_peers(&id(200))));
    let mut closest: Vec<_> = (128..=255).map(id).collect();
    closest.sort_by_key(|other| other.distance(&id(200)));
    assert_eq!(sent(&actions), [(id(200), message::found_peers(&closest[..20]).get())]);
    for other in 128..=255 {
        let actions = peer.send_user(now, id(other), RawValue::NULL);
        assert!(matches!(&actions[..], [Action::Send(to, _)] if *to == [u32::from(other)]));
    }
}

#[test]
fn of_two_channels_the_first_stays_and_the_second_may_take_over() {
    let mut peer = peer(false);
    let now = Instant::now();
    assert!(matches!(peer.open(now, id(50), 1), Opened::Refused), "its own ID");
    // Of the other side, with the greater ID, the second one is closed here.
    peer.open(now, id(60), 1);
    assert!(matches!(peer.open(now, id(60), 2), Opened::Refused));
    // With the smaller ID, that side does it, so both are kept for a while.
    peer.open(now, id(40), 3);
    assert!(matches!(peer.open(now, id(40), 4), Opened::Spare));
    assert!(matches!(peer.open(now, id(40), 5), Opened::Refused));
    assert_eq!(peer.router().neighbours().get(&id(40)), Some(&3));
    assert!(matches!(peer.close(now, &id(40), &5), Closed::Unchanged));
    assert!(matches!(peer.close(now, &id(40), &3), Closed::Unchanged));
    assert_eq!(peer.router().neighbours().get(&id(40)), Some(&4));
    assert!(matches!(peer.close(now, &id(40), &4), Closed::Gone(_)));
    assert_eq!(peer.router().neighbours().get(&id(40)), None);
}

#[test]
fn offers_are_answered_and_answers_believed_only_where_asked() {
    let now = Instant::now();
    let mut peer = peer(true);
    peer.open(now, id(1), 1);
    let offer = |sender, nonce| from(sender, nonce, message::handshake_offer());
    let own_answer = answer(Some("ws://here"));
    let answer = |sender, nonce| from(sender, nonce, answer(Some("ws://there")));
    let actions = peer.receive(now, id(1), offer(60, 1));
    assert_eq!(sent(&actions), [(id(60), own_answer.get())]);
    // Once; the one with the greater ID has to wait.
    assert!(sent(&peer.receive(now, id(1), offer(60, 2))).is_empty());
    let later = now + HANDSHAKE_PATIENCE;
    peer.tick(later);
    assert_eq!(sent(&peer.receive(later, id(1), offer(60, 3))).len(), 1);
    // A neighbour needs none.
    assert!(sent(&peer.receive(now, id(1), offer(1, 4))).is_empty());
    // Nobody asked.
    for sender in [1, 60, 70] {
        let actions = peer.receive(now, id(1), answer(sender, 10 + u32::from(sender)));
        assert!(dialed(&actions).is_empty() && counted(&actions, Fate::Unsolicited));
    }
    // Asked: dialed once.
    assert_eq!(sent(&peer.connect(now, id(80))), [(id(80), message::handshake_offer().get())]);
    assert!(peer.connect(now, id(80)).is_empty());
    assert_eq!(dialed(&peer.receive(now, id(1), answer(80, 100))), [(id(80), "ws://there")]);
    assert!(dialed(&peer.receive(now, id(1), answer(80, 101))).is_empty());
    // An answer that comes too late is nobody's.
    peer.connect(now, id(90));
    peer.tick(later);
    assert!(dialed(&peer.receive(later, id(1), answer(90, 102))).is_empty());
}

#[test]
fn without_dialing_nobody_is_asked_and_no_url_is_dialed() {
    let now = Instant::now();
    let mut peer = peer(false);
    peer.open(now, id(1), 1);
    let actions = peer.receive(now, id(1), from(1, 1, message::found_peers(&[id(2), id(3)])));
    assert!(sent(&actions).is_empty());
    assert!(peer.tick(now + SEARCH_INTERVAL).is_empty());
    let answer = answer(Some("ws://there"));
    assert!(dialed(&peer.receive(now, id(1), from(2, 2, answer))).is_empty());
}

#[test]
fn a_peer_looks_for_the_closest_and_for_one_in_each_bucket() {
    let now = Instant::now();
    let mut peer = peer(true);
    peer.open(now, id(1), 1);
    let mut random = StdRng::seed_from_u64(3);
    let found: Vec<_> = (0..20).map(|_| PeerId::random(&mut random)).collect();
    let actions = peer.receive(now, id(1), from(1, 1, message::found_peers(&found)));
    let asked: HashSet<_> = sent(&actions).into_iter().map(|(to, _)| to).collect();
    let mut closest = found.clone();
    closest.sort_by_key(|other| other.distance(&id(50)));
    assert!(closest[..ENOUGH_NEIGHBOURS - 1].iter().all(|other| asked.contains(other)));
    let bucket = |other: &PeerId| id(50).common_bits(other);
    let asked: HashSet<_> = asked.iter().chain([&id(1)]).map(bucket).collect();
    assert!(found.iter().all(|other| asked.contains(&bucket(other))));
}

/// Something that happens to a peer.
#[derive(Debug, Clone)]
enum Step {
    Open(u8),
    Close(u8),
    Receive { by: u8, from: u8, to: u8, kind: u8 },
    Connect(u8),
    Pass(u16),
}

fn steps() -> impl Strategy<Value = Step> {
    // IDs close to 50 and its own among them.
    let other = || 40u8..60;
    prop_oneof![
        other().prop_map(Step::Open),
        other().prop_map(Step::Close),
        (other(), other(), other(), 0u8..6).prop_map(|(by, from, to, kind)| Step::Receive {
            by,
            from,
            to,
            kind
        }),
        other().prop_map(Step::Connect),
        (0u16..100).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_sends_to_open_channels_and_dials_whom_it_asked(
        steps in vec(steps(), 1..200), dials in any::<bool>(),
    ) {
        let mut peer = peer(dials);
        let mut now = Instant::now();
        // A channel's number is a peer's, and a count of its channels.
        let (mut open, mut asked) = (Vec::<(u8, u32)>::new(), HashSet::new());
        for (at, step) in (0u32..).zip(steps) {
            let actions = match step {
                Step::Open(other) => {
                    let channel = at * 100 + u32::from(other);
                    let opened = peer.open(now, id(other), channel);
                    if !matches!(opened, Opened::Refused) {
                        open.push((other, channel));
                    }
                    if let Opened::Neighbour(actions) = opened { actions } else { Vec::new() }
                }
                Step::Close(other) => {
                    let found = open.iter().position(|(holder, _)| *holder == other);
                    let channel = found.map_or(0, |at| open.remove(at).1);
                    match peer.close(now, &id(other), &channel) {
                        Closed::Gone(actions) => actions,
                        Closed::Unchanged => Vec::new(),
                    }
                }
                Step::Receive { by, from: sender, to, kind } => {
                    // What comes, comes by a channel that is open.
                    let Some(&(by, _)) = open.get(usize::from(by) % open.len().max(1)) else {
                        continue;
                    };
                    let data = match kind {
                        0 => message::user(RawValue::NULL),
                        1 => message::find_peers(&id(to)),
                        2 => message::found_peers(&[id(to), id(sender), id(by)]),
                        3 => message::handshake_offer(),
                        4 => answer(Some("ws://there")),
                        _ => answer(None),
                    };
                    let mut message = from(sender, at, data);
                    if kind == 0 {
                        message.to = id(to);
                    }
                    peer.receive(now, id(by), message)
                }
                Step::Connect(other) => {
                    // Without a neighbour the question waits; it may be answered all the same.
                    asked.insert(id(other));
                    peer.connect(now, id(other))
                }
                Step::Pass(seconds) => {
                    now += Duration::from_secs(seconds.into());
                    peer.tick(now)
                }
            };
            for action in &actions {
                match action {
                    Action::Send(channels, message) => {
                        let is_open = |channel| open.iter().any(|(_, open)| open == channel);
                        prop_assert!(channels.iter().all(is_open));
                        if message.data.get() == message::handshake_offer().get() {
                            asked.insert(message.to);
                        }
                    }
                    Action::Dial(other, _) => {
                        prop_assert!(dials && asked.remove(other), "{other} was not asked");
                    }
                    Action::Call(_) | Action::Signal(..) => prop_assert!(false, "without WebRTC"),
                    Action::Deliver(..) | Action::Count(_) => {}
                }
            }
            let neighbours: HashSet<_> = open.iter().map(|(other, _)| id(*other)).collect();
            let known: HashSet<_> = peer.router().neighbours().iter().map(|(id, _)| *id).collect();
            prop_assert_eq!(known, neighbours);
            prop_assert!(!open.iter().any(|(other, _)| *other == 50));
        }
    }
}

/// A network in which everything arrives, in order; a channel's number names the peer that it
/// leads to.
struct Network {
    peers: Vec<Membership<u32>>,
    ids: Vec<PeerId>,
    left: HashSet<usize>,
    now: Instant,
    under_way: VecDeque<(usize, usize, Message)>,
    delivered: Vec<(usize, PeerId)>,
}

impl Network {
    fn new() -> Self {
        Self {
            peers: Vec::new(),
            ids: Vec::new(),
            left: HashSet::new(),
            now: Instant::now(),
            under_way: VecDeque::new(),
            delivered: Vec::new(),
        }
    }

    fn join(&mut self, random: &mut StdRng) {
        let (own, number) = (PeerId::random(random), self.peers.len());
        let reachable = Reachable { ws: Some(number.to_string()), wrtc: false };
        let rules = Rules { reachable, dials_strangers: true };
        self.peers.push(Membership::new(own, rules, self.now, random.random()));
        self.ids.push(own);
        let here: Vec<_> = (0..number).filter(|other| !self.left.contains(other)).collect();
        if !here.is_empty() {
            self.connect(number, here[random.random_range(0..here.len())]);
        }
        self.run();
    }

    fn leave(&mut self, number: usize) {
        self.left.insert(number);
        for other in (0..self.peers.len()).filter(|other| *other != number) {
            let closed = self.peers[other].close(self.now, &self.ids[number], &(number as u32));
            if let Closed::Gone(actions) = closed {
                self.perform(other, actions);
            }
        }
        self.run();
    }

    fn connect(&mut self, a: usize, b: usize) {
        for (here, there) in [(a, b), (b, a)] {
            let opened = self.peers[here].open(self.now, self.ids[there], there as u32);
            if let Opened::Neighbour(actions) = opened {
                self.perform(here, actions);
            }
        }
    }

    fn perform(&mut self, by: usize, actions: Vec<Action<u32>>) {
        for action in actions {
            match action {
                Action::Send(to, message) => self
                    .under_way
                    .extend(to.into_iter().map(|to| (by, to as usize, message.clone()))),
                Action::Dial(_, url) => {
                    let other = url.parse().unwrap();
                    if !self.left.contains(&other) {
                        self.connect(by, other);
                    }
                }
                Action::Deliver(from, _) => self.delivered.push((by, from)),
                Action::Call(_) | Action::Signal(..) | Action::Count(_) => {}
            }
        }
    }

    fn run(&mut self) {
        while let Some((by, to, message)) = self.under_way.pop_front() {
            if !self.left.contains(&to) {
                let actions = self.peers[to].receive(self.now, self.ids[by], message);
                self.perform(to, actions);
            }
        }
    }

    fn pass_time(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            for number in (0..self.peers.len())
                .filter(|number| !self.left.contains(number))
                .collect::<Vec<_>>()
            {
                let actions = self.peers[number].tick(self.now);
                self.perform(number, actions);
            }
            self.run();
        }
    }

    /// Sends between pairs by chance; how many arrived.
    fn sample(&mut self, pairs: usize, random: &mut StdRng) -> usize {
        let here: Vec<_> = (0..self.peers.len()).filter(|peer| !self.left.contains(peer)).collect();
        self.delivered.clear();
        for _ in 0..pairs {
            let from = here[random.random_range(0..here.len())];
            let to = here[random.random_range(0..here.len())];
            let actions = self.peers[from].send_user(self.now, self.ids[to], RawValue::NULL);
            self.perform(from, actions);
        }
        self.run();
        self.delivered.len()
    }
}

#[test]
fn a_network_builds_itself_and_survives_that_a_fifth_leaves() {
    let mut random = StdRng::seed_from_u64(5);
    let mut network = Network::new();
    (0..200).for_each(|_| network.join(&mut random));
    network.pass_time(30);
    assert_eq!(network.sample(300, &mut random), 300);
    let most = network.peers.iter().map(|peer| peer.router().neighbours().len()).max();
    println!("at most {most:?} neighbours");
    for number in (0..200).step_by(5) {
        network.leave(number);
    }
    (0..20).for_each(|_| network.join(&mut random));
    network.pass_time(30);
    assert_eq!(network.sample(300, &mut random), 300);
}
