//! Networks that build themselves without sockets.

use std::collections::{HashSet, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// A network in which everything arrives, in order; a channel's number names the peer that it
/// leads to.
struct Network {
    peers: Vec<Membership<u32>>,
    ids: Vec<PeerId>,
    left: HashSet<usize>,
    now: Instant,
    in_progress: VecDeque<(usize, usize, Message)>,
    delivered: Vec<(usize, PeerId)>,
}

impl Network {
    fn new() -> Self {
        Self {
            peers: Vec::new(),
            ids: Vec::new(),
            left: HashSet::new(),
            now: Instant::now(),
            in_progress: VecDeque::new(),
            delivered: Vec::new(),
        }
    }

    fn join(&mut self, random: &mut StdRng) {
        let (own, number) = (PeerId::random(random), self.peers.len());
        let reachable = Reachable { ws: Some(number.to_string()), wrtc: false };
        let rules = Rules { reachable, dials_unknown_peers: true, ..Rules::default() };
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
                    .in_progress
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
        while let Some((by, to, message)) = self.in_progress.pop_front() {
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

    /// Sends between random pairs; how many arrived.
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
