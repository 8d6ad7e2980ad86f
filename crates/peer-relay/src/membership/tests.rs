//! One peer's decisions.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::known_peers::HANDSHAKE_TIMEOUT;

mod network;

fn id(byte: u8) -> PeerId {
    PeerId::from_bytes([byte; 20])
}

fn answer(url: Option<&str>) -> Box<RawValue> {
    message::handshake_answer(&Reachable { ws: url.map(str::to_owned), wrtc: false })
}

/// A peer with ID 50 that dials strangers or not.
fn peer(dials_unknown_peers: bool) -> Membership<u32> {
    let reachable = Reachable { ws: Some("ws://here".into()), wrtc: false };
    let rules = Rules { reachable, dials_unknown_peers, ..Rules::default() };
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

fn counted(actions: &[Action<u32>], outcome: Outcome) -> bool {
    actions.iter().any(|action| matches!(action, Action::Count(counted) if *counted == outcome))
}

#[test]
fn a_new_neighbour_is_asked_for_peers_and_asks() {
    let mut peer = peer(false);
    let now = Instant::now();
    let Opened::Neighbour(actions) = peer.open(now, id(1), 1) else { panic!() };
    assert_eq!(sent(&actions), [(id(1), message::find_peers(&id(50)).get())]);
    peer.open(now, id(2), 2);
    peer.receive(now, id(1), from(1, 1, message::found_peers(&[id(3), id(50), id(2)])));
    // The closest first, the asking peer included, oneself not.
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
    assert!(matches!(peer.open(now, id(40), 4), Opened::Duplicate));
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
    let later = now + HANDSHAKE_TIMEOUT;
    peer.tick(later);
    assert_eq!(sent(&peer.receive(later, id(1), offer(60, 3))).len(), 1);
    // A neighbour needs none.
    assert!(sent(&peer.receive(now, id(1), offer(1, 4))).is_empty());
    // Nobody asked.
    for sender in [1, 60, 70] {
        let actions = peer.receive(now, id(1), answer(sender, 10 + u32::from(sender)));
        assert!(dialed(&actions).is_empty() && counted(&actions, Outcome::Unsolicited));
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
fn what_a_neighbour_makes_it_send_is_limited_to_a_multiple() {
    let mut peer = peer(false);
    let now = Instant::now();
    (0..30).for_each(|other| drop(peer.open(now, id(other), other.into())));
    let (mut received, mut sent, mut is_limited) = (0, 0, false);
    for nonce in 0..3_000 {
        // In the name of one that is not here.
        let mut question = from(1, nonce, message::find_peers(&id(200)));
        question.from = id(200);
        received += question.frame_bytes();
        let actions = peer.receive(now, id(1), question);
        is_limited |= counted(&actions, Outcome::ReplyLimit);
        sent += actions.iter().map(sent_bytes).sum::<usize>();
    }
    assert!(is_limited && sent <= 12 * received + 64 * 1024, "{sent} bytes for {received}");
    assert!(sent > 10 * received, "answers are whole");
    // Others are not concerned.
    let actions = peer.receive(now, id(2), from(2, 9_999, message::find_peers(&id(200))));
    assert!(!counted(&actions, Outcome::ReplyLimit));
}

fn sent_bytes(action: &Action<u32>) -> usize {
    match action {
        Action::Send(channels, message) => channels.len() * message.frame_bytes(),
        _ => 0,
    }
}

#[test]
fn a_neighbour_can_cause_only_so_many_dials() {
    let mut peer = peer(true);
    let now = Instant::now();
    for neighbour in [1, 2] {
        peer.open(now, id(neighbour), neighbour.into());
    }
    let mut dials = |by: u8, other: u8| {
        peer.connect(now, id(other));
        let answer = from(other, other.into(), answer(Some("ws://there")));
        let actions = peer.receive(now, id(by), answer);
        let is_dialed = !dialed(&actions).is_empty();
        assert_eq!(counted(&actions, Outcome::DialLimit), !is_dialed);
        peer.unreachable(now, id(other));
        is_dialed
    };
    assert_eq!((60..160).filter(|other| dials(1, *other)).count(), 32);
    assert!(dials(2, 200), "another neighbour has its own");
}

#[test]
fn webrtc_is_negotiated_only_where_both_have_it_and_a_handshake_led_there() {
    let now = Instant::now();
    let with_webrtc = |dials_unknown_peers| {
        let rules = Rules {
            reachable: Reachable { ws: None, wrtc: true },
            dials_unknown_peers,
            ..Rules::default()
        };
        let mut peer = Membership::new(id(50), rules, now, [7; 32]);
        peer.open(now, id(1), 1);
        peer
    };
    let signal = |sender, nonce, kind: &str| {
        let data = serde_json::json!({"type": "signal", "data": {"type": kind, "sdp": kind}});
        from(sender, nonce, message::to_json(&data))
    };
    let reachable = |wrtc| {
        let ws = Some("ws://there".to_owned());
        message::handshake_answer(&Reachable { ws, wrtc })
    };
    let told = |actions: &[Action<u32>]| {
        let told = actions.iter().filter_map(|action| match action {
            Action::Call(id) => Some((*id, "call")),
            Action::Dial(id, _) => Some((*id, "dial")),
            Action::Signal(id, Signal::Offer(_)) => Some((*id, "offer")),
            Action::Signal(id, Signal::Answer(_)) => Some((*id, "answer")),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    // Who asked may offer, once; nobody else, whatever the policy.
    let mut peer = with_webrtc(false);
    assert!(told(&peer.receive(now, id(1), signal(60, 1, "offer"))).is_empty());
    let actions = peer.receive(now, id(1), from(60, 2, message::handshake_offer()));
    let own = message::handshake_answer(&Reachable { ws: None, wrtc: true });
    assert_eq!(sent(&actions), [(id(60), own.get())]);
    assert!(told(&peer.receive(now, id(1), signal(60, 3, "answer"))).is_empty());
    let actions = peer.receive(now, id(1), signal(60, 4, "offer"));
    assert_eq!(told(&actions), [(id(60), "offer")]);
    assert!(told(&peer.receive(now, id(1), signal(60, 5, "offer"))).is_empty());
    // Who was asked is called where both have WebRTC, and dialed where not.
    let mut peer = with_webrtc(true);
    peer.connect(now, id(60));
    peer.connect(now, id(70));
    let actions = peer.receive(now, id(1), from(60, 1, reachable(true)));
    assert_eq!(told(&actions), [(id(60), "call")]);
    let actions = peer.receive(now, id(1), from(70, 2, reachable(false)));
    assert_eq!(told(&actions), [(id(70), "dial")]);
    let actions = peer.receive(now, id(1), signal(60, 3, "answer"));
    assert_eq!(told(&actions), [(id(60), "answer")]);
    // Without WebRTC signals mean nothing.
    let mut peer = self::peer(true);
    peer.open(now, id(1), 1);
    peer.receive(now, id(1), from(40, 1, message::handshake_offer()));
    let actions = peer.receive(now, id(1), signal(40, 2, "offer"));
    assert!(told(&actions).is_empty() && counted(&actions, Outcome::Unknown));
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
