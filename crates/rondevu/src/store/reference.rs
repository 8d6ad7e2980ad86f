//! Every backend against a reference: a plain list. Steps are random, and after each of them both
//! must agree.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::contract::{LIMITS, in_memory, origin, session, text};
#[cfg(feature = "sqlite")]
use super::contract::{in_a_file, open};
#[cfg(feature = "redis")]
use super::redis::tests::in_redis;
use super::*;
use crate::model::{Answer, Secret, TopicCount};

#[derive(Debug, Clone)]
enum Step {
    Create {
        origin: u8,
        topic: u8,
        lifetime: u64,
    },
    Answer {
        nth: usize,
        origin: u8,
    },
    Candidate {
        nth: usize,
        origin: u8,
        side: Side,
    },
    Pass {
        time: u64,
    },
    CleanUp,
    /// For a backend whose sessions survive it.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let side = prop_oneof![Just(Side::Offerer), Just(Side::Answerer)];
    prop_oneof![
        4 => (0..2u8, 0..3u8, 1..20u64)
            .prop_map(|(origin, topic, lifetime)| Step::Create { origin, topic, lifetime }),
        2 => (0..9usize, 0..2u8).prop_map(|(nth, origin)| Step::Answer { nth, origin }),
        3 => (0..9usize, 0..2u8, side)
            .prop_map(|(nth, origin, side)| Step::Candidate { nth, origin, side }),
        2 => (1..8u64).prop_map(|time| Step::Pass { time }),
        1 => Just(Step::CleanUp),
        1 => Just(Step::Restart),
    ]
}

/// The list, in the order in which sessions were created.
#[derive(Default)]
struct Reference(Vec<(NewSession, Session)>);

impl Reference {
    fn find(
        &mut self,
        code: Code,
        of: &Origin,
        now: Timestamp,
    ) -> Result<&mut Session, StoreError> {
        let found = self
            .0
            .iter_mut()
            .find(|(new, _)| new.code == code && new.origin == *of && new.expires_at > now);
        found.map(|(_, session)| session).ok_or(StoreError::NotFound)
    }

    fn listed(&self, of: &Origin, now: Timestamp) -> impl Iterator<Item = &(NewSession, Session)> {
        self.0.iter().rev().filter(move |(new, session)| {
            new.origin == *of && new.expires_at > now && session.answer.is_none()
        })
    }
}

async fn walk(mut store: Store, restart: impl AsyncFn(Store) -> Store, steps: &[Step]) {
    // Later than the clock: a store that is opened by the clock then removes nothing too early.
    let start = Timestamp::now().after(Duration::from_secs(3600));
    let (mut reference, mut now, mut codes) = (Reference::default(), start, Vec::new());
    let secret = Secret::random().hash();
    for (number, step) in steps.iter().enumerate() {
        let code = |nth: usize| codes.get(nth % codes.len().max(1)).copied();
        let of = |number: &u8| origin(&format!("o{number}"));
        let added = text(&format!("{number}"));
        match step {
            Step::Create { origin, topic, lifetime } => {
                let (of, topic) = (format!("o{origin}"), format!("t{topic}"));
                let mut new = session(&of, &topic, now, Timestamp(now.0 + lifetime));
                new.secret = (number % 2 == 0).then_some(secret);
                codes.push(new.code);
                reference.0.push((new.clone(), new.as_session()));
                store.create(new).await.unwrap();
            }
            Step::Answer { nth, origin } => {
                let (Some(code), of) = (code(*nth), of(origin)) else { continue };
                let answer = Answer { text: added, secret: (number % 3 == 0).then_some(secret) };
                let expected = reference.find(code, &of, now).map(|session| {
                    session.answer = Some(answer.clone());
                    session.answers += 1;
                });
                assert_eq!(store.add_answer(code, &of, answer, now).await, expected);
            }
            Step::Candidate { nth, origin, side } => {
                let (Some(code), of) = (code(*nth), of(origin)) else { continue };
                let expected = reference.find(code, &of, now).map(|session| match side {
                    Side::Offerer => session.offer_candidates.push(added.clone()),
                    Side::Answerer => session.answer_candidates.push(added.clone()),
                });
                assert_eq!(store.add_candidate(code, &of, *side, added, now).await, expected);
            }
            Step::Pass { time } => now.0 += time,
            Step::CleanUp => {
                reference.0.retain(|(new, _)| new.expires_at > now);
                assert_eq!(store.clean_up(now).await, Ok(reference.0.len()));
            }
            Step::Restart => store = restart(store).await,
        }
        agree(&store, &mut reference, &codes, now).await;
    }
}

/// Compares everything that can be requested.
async fn agree(store: &Store, reference: &mut Reference, codes: &[Code], now: Timestamp) {
    for of in [origin("o0"), origin("o1")] {
        let mut topics = BTreeMap::<_, u64>::new();
        for (new, _) in reference.listed(&of, now) {
            *topics.entry(new.topic.clone()).or_default() += 1;
        }
        let found = store.topics(&of, Page { number: 1, limit: 2 }, now).await.unwrap();
        assert_eq!(found.total, topics.len() as u64);
        let expected = topics.into_iter().map(|(topic, count)| TopicCount { topic, count });
        assert_eq!(found.topics, expected.take(2).collect::<Vec<_>>());
        for topic in ["t0", "t1", "t2"] {
            let expected =
                reference.listed(&of, now).filter(|(new, _)| new.topic.as_str() == topic);
            // Lists do not have the secret, and what the answerer has left.
            let shown = |session: &Session| Session {
                secret: None,
                answer_candidates: vec![],
                ..session.clone()
            };
            let expected: Vec<_> = expected.map(|(_, session)| shown(session)).collect();
            let topic = Topic::stored(topic.into());
            let found = store.sessions(&of, &topic, now).await.unwrap();
            assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected);
        }
        for code in codes {
            let expected = reference.find(*code, &of, now).map(|session| session.clone());
            assert_eq!(store.get(*code, &of, now).await, expected);
        }
    }
}

async fn no_restart(store: Store) -> Store {
    store
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn memory_agrees(steps in proptest::collection::vec(step(), 1..60)) {
        runtime().block_on(async { walk(in_memory().await.1, no_restart, &steps).await });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[cfg(feature = "sqlite")]
    #[test]
    fn sqlite_agrees(steps in proptest::collection::vec(step(), 1..40)) {
        runtime().block_on(async {
            let (folder, store) = in_a_file().await;
            let restart = async |store: Store| {
                store.close().await;
                open(&Storage::Sqlite(folder.path().join("data.db"))).await
            };
            walk(store, restart, &steps).await;
        });
    }

    #[cfg(feature = "redis")]
    #[test]
    fn redis_agrees(steps in proptest::collection::vec(step(), 1..40)) {
        runtime().block_on(async {
            let (_server, store) = in_redis().await;
            walk(store, no_restart, &steps).await;
        });
    }
}

/// No walk reaches the limits, which the reference does not know.
const _: () = assert!(LIMITS.max_sessions_per_origin > 60 && MAX_CANDIDATES > 60);
