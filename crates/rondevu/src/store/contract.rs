//! What every backend must do. The tests of a backend call [`contract!`] with a way to open an
//! empty store with [`LIMITS`], together with what has to live as long as the store.

use std::collections::HashSet;

use super::*;

mod secrets;

pub(super) use secrets::*;

/// Small, so that they are reached.
pub(super) const LIMITS: StoreLimits =
    StoreLimits { max_sessions: 400, max_sessions_per_origin: 300, max_bytes: 10 << 20 };

/// The size of each offer in a list that becomes too long.
const LIST_PIECE_BYTES: usize = 512 << 10;

const CREATED: Timestamp = Timestamp(1_000);
const EXPIRES: Timestamp = Timestamp(2_000);

/// Opens an empty store in memory.
pub(super) async fn in_memory() -> ((), Store) {
    ((), open(&Storage::Memory).await)
}

/// Opens an empty store in a file, and returns the file's folder too.
#[cfg(feature = "sqlite")]
pub(super) async fn in_a_file() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&Storage::Sqlite(folder.path().join("data.db"))).await;
    (folder, store)
}

pub(super) async fn open(storage: &Storage) -> Store {
    Store::open(storage, LIMITS, Duration::from_secs(1), &Metrics::default()).await.unwrap()
}

pub(super) fn text(text: &str) -> JsonText {
    JsonText::from_json(serde_json::to_string(text).unwrap()).unwrap()
}

pub(super) fn origin(name: &str) -> Origin {
    Origin::parse(Some(name.as_bytes())).unwrap()
}

pub(super) fn session(
    of: &str,
    topic: &str,
    created_at: Timestamp,
    expires_at: Timestamp,
) -> NewSession {
    NewSession {
        code: Code::random(),
        origin: origin(of),
        topic: Topic::stored(topic.into()),
        info: text("info"),
        offer: text("offer"),
        secret: None,
        created_at,
        expires_at,
    }
}

/// Creates a session that lives from 1000 to 2000.
async fn create(store: &Store, of: &str, topic: &str) -> Code {
    let session = session(of, topic, CREATED, EXPIRES);
    let code = session.code;
    store.create(session).await.unwrap();
    code
}

async fn topics(store: &Store, of: &str, number: u64, limit: u64) -> (Vec<(String, u64)>, u64) {
    let page = Page { number, limit };
    let found = store.topics(&origin(of), page, CREATED).await.unwrap();
    let topics = found.topics.iter().map(|it| (it.topic.as_str().to_owned(), it.count));
    (topics.collect(), found.total)
}

async fn codes(store: &Store, of: &str, topic: &str, now: Timestamp) -> Vec<Code> {
    let topic = Topic::stored(topic.into());
    let sessions = store.sessions(&origin(of), &topic, now).await.unwrap();
    sessions.iter().map(|session| session.code).collect()
}

pub(super) async fn a_stored_session_is_returned_unchanged(store: Store) {
    let mut new = session("a", "t/ü\0\"", CREATED, EXPIRES);
    new.offer = JsonText::from_json(r#""\ud800 \u0041\/""#.into()).unwrap();
    store.create(new.clone()).await.unwrap();
    let listed = store.sessions(&new.origin, &new.topic, CREATED).await.unwrap();
    assert_eq!(listed, [new.as_session()]);
    let a = origin("a");
    for (side, candidate) in [(Side::Offerer, "o1"), (Side::Answerer, "a1"), (Side::Offerer, "o2")]
    {
        store.add_candidate(new.code, &a, side, text(candidate), CREATED).await.unwrap();
    }
    store.add_answer(new.code, &a, text("first").into(), CREATED).await.unwrap();
    store.add_answer(new.code, &a, text("second").into(), CREATED).await.unwrap();
    let found = store.get(new.code, &a, CREATED).await.unwrap();
    let expected = Session {
        answer: Some(text("second").into()),
        answers: 2,
        offer_candidates: vec![text("o1"), text("o2")],
        answer_candidates: vec![text("a1")],
        ..new.as_session()
    };
    assert_eq!(found, expected);
}

pub(super) async fn a_code_belongs_to_one_session_at_a_time(store: Store) {
    let first = session("a", "t", CREATED, EXPIRES);
    store.create(first.clone()).await.unwrap();
    let mut second = session("b", "u", Timestamp(1_001), Timestamp(3_000));
    second.code = first.code;
    assert_eq!(store.create(second.clone()).await, Err(StoreError::CodeTaken));
    assert_eq!(store.get(first.code, &first.origin, CREATED).await, Ok(first.as_session()));
    assert_eq!(codes(&store, "b", "u", CREATED).await, []);
    // Of many at the same time one gets it.
    let mut created = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut new = session("c", "t", CREATED, EXPIRES);
        new.code = Code::parse("chosen").unwrap();
        new.info = text(&new.offer.as_json().len().to_string());
        new.offer = text(&Code::random().to_string());
        let store = store.clone();
        created.spawn(async move { store.create(new).await });
    }
    let created = created.join_all().await;
    assert_eq!(created.iter().filter(|created| created.is_ok()).count(), 1, "{created:?}");
    assert_eq!(codes(&store, "c", "t", CREATED).await.len(), 1);
    // It is free again when its session has expired.
    (second.created_at, second.expires_at) = (EXPIRES, Timestamp(3_000));
    store.create(second.clone()).await.unwrap();
    assert_eq!(store.get(second.code, &second.origin, EXPIRES).await, Ok(second.as_session()));
}

pub(super) async fn a_list_has_unanswered_sessions_of_one_origin_newest_first(store: Store) {
    let first = create(&store, "a", "t").await;
    let second = create(&store, "a", "t").await;
    let mut later = session("a", "t", Timestamp(1_001), EXPIRES);
    later.info = text("later");
    store.create(later.clone()).await.unwrap();
    create(&store, "b", "t").await;
    create(&store, "a", "T").await;
    store.add_candidate(second, &origin("a"), Side::Offerer, text("c"), CREATED).await.unwrap();
    assert_eq!(codes(&store, "a", "t", CREATED).await, [later.code, second, first]);
    let topic = Topic::stored("t".into());
    let listed = store.sessions(&origin("a"), &topic, CREATED).await.unwrap();
    let candidates: Vec<_> = listed.iter().map(|it| it.offer_candidates.len()).collect();
    assert_eq!(candidates, [0, 1, 0]);
    store.add_answer(second, &origin("a"), text("x").into(), CREATED).await.unwrap();
    assert_eq!(codes(&store, "a", "t", CREATED).await, [later.code, first]);
    assert!(store.get(second, &origin("a"), CREATED).await.is_ok());
    assert_eq!(codes(&store, "c", "t", CREATED).await, []);
}

pub(super) async fn topics_are_paged_in_the_order_of_their_bytes(store: Store) {
    for topic in ["ä", "b", "a", "B", "b", "🙂", "\u{ffff}", "a b"] {
        create(&store, "a", topic).await;
    }
    create(&store, "b", "other").await;
    let all = ["B", "a", "a b", "b", "ä", "\u{ffff}", "🙂"];
    let counted: Vec<_> =
        all.map(|topic| (topic.to_owned(), if topic == "b" { 2 } else { 1 })).into();
    assert_eq!(topics(&store, "a", 1, 100).await, (counted.clone(), 7));
    assert_eq!(topics(&store, "a", 2, 3).await, (counted[3..6].to_vec(), 7));
    assert_eq!(topics(&store, "a", 3, 3).await, (counted[6..].to_vec(), 7));
    assert_eq!(topics(&store, "a", 4, 3).await, (vec![], 7));
    assert_eq!(topics(&store, "a", 1 << 53, 1000).await, (vec![], 7));
    assert_eq!(topics(&store, "nobody", 1, 100).await, (vec![], 0));
}

pub(super) async fn sessions_of_other_origins_are_not_found(store: Store) {
    let code = create(&store, "a", "t").await;
    let b = origin("b");
    let missing = Err(StoreError::NotFound);
    assert_eq!(store.get(code, &b, CREATED).await.map(drop), missing);
    assert_eq!(store.add_answer(code, &b, text("x").into(), CREATED).await, missing);
    assert_eq!(store.add_candidate(code, &b, Side::Offerer, text("x"), CREATED).await, missing);
    let a = origin("a");
    assert_eq!(store.get(Code::random(), &a, CREATED).await.map(drop), missing);
    assert_eq!(store.get(code, &a, CREATED).await.map(|it| it.revision(Side::Offerer)), Ok(0));
}

pub(super) async fn a_session_expires_at_its_millisecond(store: Store) {
    let code = create(&store, "a", "t").await;
    let (a, last, expired) = (origin("a"), Timestamp(1_999), EXPIRES);
    assert!(store.get(code, &a, last).await.is_ok());
    assert_eq!(codes(&store, "a", "t", last).await, [code]);
    store.add_candidate(code, &a, Side::Offerer, text("x"), last).await.unwrap();
    let missing = Err(StoreError::NotFound);
    assert_eq!(store.get(code, &a, expired).await.map(drop), missing);
    assert_eq!(store.add_answer(code, &a, text("x").into(), expired).await, missing);
    assert_eq!(store.add_candidate(code, &a, Side::Offerer, text("x"), expired).await, missing);
    assert_eq!(codes(&store, "a", "t", expired).await, []);
    let page = Page { number: 1, limit: 9 };
    let topics = store.topics(&a, page, expired).await.unwrap();
    assert_eq!((topics.topics, topics.total), (vec![], 0));
}

pub(super) async fn clean_up_removes_only_expired_sessions(store: Store) {
    let expired = create(&store, "a", "t").await;
    let live = session("a", "t", CREATED, Timestamp(EXPIRES.0 + 1));
    store.create(live.clone()).await.unwrap();
    assert_eq!(store.clean_up(EXPIRES).await, Ok(1));
    // A time in the past shows what is really stored.
    assert!(store.get(expired, &origin("a"), CREATED).await.is_err());
    assert!(store.get(live.code, &origin("a"), CREATED).await.is_ok());
    for _ in 0..300 {
        let session = session("b", "t", CREATED, EXPIRES);
        store.create(session).await.unwrap();
    }
    assert_eq!(store.clean_up(EXPIRES).await, Ok(1));
}

pub(super) async fn limits_hold_and_expired_sessions_release_their_quota(store: Store) {
    // The first one expires before the others.
    let (first_expires, before) = (Timestamp(EXPIRES.0 - 1), Timestamp(EXPIRES.0 - 2));
    store.create(session("a", "t", CREATED, first_expires)).await.unwrap();
    for _ in 1..LIMITS.max_sessions_per_origin {
        create(&store, "a", "t").await;
    }
    let try_create =
        async |of: &str, at| store.create(session(of, "t", at, Timestamp(at.0 + 1_000))).await;
    assert_eq!(try_create("a", before).await, Err(StoreError::TooManyOfOrigin));
    while try_create("b", CREATED).await.is_ok() {}
    assert_eq!(try_create("c", before).await, Err(StoreError::TooManySessions));
    assert_eq!(store.clean_up(before).await, Ok(LIMITS.max_sessions));
    assert_eq!(store.clean_up(first_expires).await, Ok(LIMITS.max_sessions - 1));
    assert_eq!(try_create("a", first_expires).await, Ok(()));
    // Expired sessions release their quota even before they are cleaned up.
    assert_eq!(try_create("c", EXPIRES).await, Ok(()));
}

pub(super) async fn candidates_are_limited(store: Store) {
    let code = create(&store, "a", "t").await;
    let add = async |side| store.add_candidate(code, &origin("a"), side, text("c"), CREATED).await;
    for n in 0..MAX_CANDIDATES {
        let side = if n % 2 == 0 { Side::Offerer } else { Side::Answerer };
        assert_eq!(add(side).await, Ok(()));
    }
    assert_eq!(add(Side::Offerer).await, Err(StoreError::TooManyCandidates));
    assert_eq!(add(Side::Answerer).await, Err(StoreError::TooManyCandidates));
    assert_eq!(store.add_answer(code, &origin("a"), text("x").into(), CREATED).await, Ok(()));
}

pub(super) async fn bytes_are_limited_and_a_replaced_answer_releases_its_quota(store: Store) {
    let first = session("a", "t", CREATED, Timestamp(EXPIRES.0 - 1));
    let (code, a, half) = (first.code, origin("a"), text(&"x".repeat(MAX_SESSION_BYTES / 2)));
    store.create(first).await.unwrap();
    // Each replaces the one before it.
    for _ in 0..10 {
        assert_eq!(store.add_answer(code, &a, half.clone().into(), CREATED).await, Ok(()));
    }
    let add = || store.add_candidate(code, &a, Side::Offerer, half.clone(), CREATED);
    assert_eq!(add().await, Err(StoreError::SessionTooLarge));
    store.add_answer(code, &a, text("small").into(), CREATED).await.unwrap();
    assert_eq!(add().await, Ok(()));
    assert_eq!(add().await, Err(StoreError::SessionTooLarge));
    let fill = async || {
        let mut large = session("b", "t", CREATED, EXPIRES);
        large.offer = half.clone();
        store.create(large).await
    };
    let mut made = 1;
    while fill().await.is_ok() {
        made += 1;
    }
    assert_eq!(fill().await, Err(StoreError::TooManyBytes));
    assert_eq!(made, LIMITS.max_bytes / (MAX_SESSION_BYTES / 2) - 1);
    store.clean_up(Timestamp(EXPIRES.0 - 1)).await.unwrap();
    assert_eq!(fill().await, Ok(()));
}

pub(super) async fn lists_are_limited_to_the_newest_sessions(store: Store) {
    let large = text(&"x".repeat(LIST_PIECE_BYTES));
    let mut made = Vec::new();
    for _ in 0..MAX_LISTED_BYTES / LIST_PIECE_BYTES {
        let mut session = session("a", "t", CREATED, EXPIRES);
        session.offer = large.clone();
        made.push(session.code);
        store.create(session).await.unwrap();
    }
    made.reverse();
    // All but the last fit: each is somewhat larger than its offer.
    assert_eq!(codes(&store, "a", "t", CREATED).await, made[..made.len() - 1]);
}

pub(super) async fn concurrent_additions_are_all_stored(store: Store) {
    let code = create(&store, "a", "t").await;
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..16 {
                    let side = if task % 2 == 0 { Side::Offerer } else { Side::Answerer };
                    let candidate = text(&format!("{task}/{n}"));
                    let a = origin("a");
                    store.add_candidate(code, &a, side, candidate, CREATED).await.unwrap();
                    if n == task {
                        store.add_answer(code, &a, text("answer").into(), CREATED).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let session = store.get(code, &origin("a"), CREATED).await.unwrap();
    assert_eq!(session.answers, 16);
    assert_eq!((session.offer_candidates.len(), session.answer_candidates.len()), (128, 128));
    let all = session.offer_candidates.iter().chain(&session.answer_candidates);
    let different: HashSet<_> = all.map(JsonText::as_json).collect();
    assert_eq!(different.len(), 256);
    // Those of one sender are in their order.
    let of_first = session.offer_candidates.iter().filter(|it| it.as_json().starts_with("\"0/"));
    let expected: Vec<_> = (0..16).map(|n| text(&format!("0/{n}"))).collect();
    assert_eq!(of_first.cloned().collect::<Vec<_>>(), expected);
}

pub(super) async fn concurrent_creators_keep_to_the_limits(store: Store) {
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut made = 0;
                for _ in 0..100 {
                    let of = if task % 2 == 0 { "a" } else { "b" };
                    made +=
                        usize::from(store.create(session(of, "t", CREATED, EXPIRES)).await.is_ok());
                }
                made
            })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        made += task.await.unwrap();
    }
    assert_eq!(made, LIMITS.max_sessions);
    assert_eq!(store.clean_up(CREATED).await, Ok(LIMITS.max_sessions));
    assert_eq!(store.clean_up(EXPIRES).await, Ok(0));
}

pub(super) async fn changes_are_notified(store: Store) {
    let code = create(&store, "a", "t").await;
    let watch = store.notifications().watch(code);
    let a = origin("a");
    let changed = watch.changed();
    store.add_answer(code, &a, text("x").into(), CREATED).await.unwrap();
    changed.await;
    let changed = watch.changed();
    store.add_candidate(code, &a, Side::Offerer, text("x"), CREATED).await.unwrap();
    changed.await;

    let mut stream = store.notifications().stream(a, Topic::stored("t".into()));
    create(&store, "b", "t").await;
    create(&store, "a", "other").await;
    let code = create(&store, "a", "t").await;
    assert_eq!(stream.next().await.unwrap().unwrap().code, code);
}

macro_rules! contract {
    ($empty:expr) => {
        $crate::store::contract::contract!($empty;
            a_stored_session_is_returned_unchanged,
            a_code_belongs_to_one_session_at_a_time,
            a_list_has_unanswered_sessions_of_one_origin_newest_first,
            topics_are_paged_in_the_order_of_their_bytes,
            sessions_of_other_origins_are_not_found,
            a_session_expires_at_its_millisecond,
            clean_up_removes_only_expired_sessions,
            limits_hold_and_expired_sessions_release_their_quota,
            candidates_are_limited,
            bytes_are_limited_and_a_replaced_answer_releases_its_quota,
            lists_are_limited_to_the_newest_sessions,
            concurrent_additions_are_all_stored,
            concurrent_creators_keep_to_the_limits,
            changes_are_notified,
            an_answer_is_verified_by_the_secret_that_came_with_it
        );
    };
    ($empty:expr; $($case:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (_alive, store) = $empty.await;
                $crate::store::contract::$case(store).await;
            }
        )+
    };
}
pub(super) use contract;
