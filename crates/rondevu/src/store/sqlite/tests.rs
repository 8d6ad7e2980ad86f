//! The contract, and what is particular to a file.

use tempfile::TempDir;

use super::super::MAX_CANDIDATES;
use super::super::contract::{self, LIMITS, contract, origin, text};
use super::*;
use crate::model::{Answer, Page, Secret, Session, Topic};

contract!(contract::in_a_file());

/// A file, and a store that is opened on it again and again.
struct File(TempDir);

impl File {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data.db")
    }

    async fn open(&self) -> Result<SqliteStore, OpenError> {
        SqliteStore::open(&self.path(), LIMITS, notifications(), Timestamp(1)).await
    }

    fn shell(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

fn notifications() -> Notifications {
    Notifications::new(1, Duration::from_secs(1))
}

/// A session of origin `a` and topic `t` that lives from 1 to 9.
fn session() -> NewSession {
    contract::session("a", "t", Timestamp(1), Timestamp(9))
}

fn listed(store: &SqliteStore) -> Vec<Session> {
    store.memory().sessions(&origin("a"), &Topic::stored("t".into()), Timestamp(1))
}

fn rows(shell: &Connection, table: &str) -> i64 {
    shell.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_reopened_store_has_its_sessions_and_quota() {
    let file = File::new();
    let store = file.open().await.unwrap();
    let (last, a) = (session(), origin("a"));
    for _ in 1..LIMITS.max_sessions_per_origin {
        store.create(&session()).await.unwrap();
    }
    store.create(&last).await.unwrap();
    store.add_answer(last.code, &a, text("x").into(), Timestamp(2)).await.unwrap();
    store.close().await;
    assert_eq!(store.clean_up(Timestamp(9)).await, Err(StoreError::Unavailable));
    assert!(!file.path().with_extension("db-wal").exists(), "everything is in the file itself");

    let again = file.open().await.unwrap();
    assert_eq!(again.create(&session()).await, Err(StoreError::TooManyOfOrigin));
    assert_eq!(again.clean_up(Timestamp(9)).await, Ok(0));
    let shell = file.shell();
    assert_eq!(["sessions", "answers", "candidates"].map(|table| rows(&shell, table)), [0; 3]);
}

#[tokio::test]
async fn a_restart_is_invisible() {
    let file = File::new();
    let store = file.open().await.unwrap();
    let (a, now) = (origin("a"), Timestamp(2));
    let sessions: Vec<_> = (0..50)
        .map(|n| {
            contract::session("a", ["t", "u"][n % 2], Timestamp(1 + n as u64 % 3), Timestamp(9))
        })
        .collect();
    for (n, session) in sessions.iter().enumerate() {
        store.create(session).await.unwrap();
        for m in 0..n % 5 {
            let side = if m % 2 == 0 { Side::Offerer } else { Side::Answerer };
            let candidate = text(&format!("{n}/{m}"));
            store.add_candidate(session.code, &a, side, candidate, now).await.unwrap();
        }
        for m in 0..(n % 7).saturating_sub(3) {
            let answer = text(&format!("{m}"));
            store.add_answer(session.code, &a, answer.into(), now).await.unwrap();
        }
    }
    let seen = |store: &SqliteStore| {
        let memory = store.memory();
        let each: Vec<_> = sessions.iter().map(|it| memory.get(it.code, &a, now)).collect();
        let lists = ["t", "u"].map(|it| memory.sessions(&a, &Topic::stored(it.into()), now));
        (each, lists, memory.topics(&a, Page { number: 1, limit: 9 }, now))
    };
    let before = seen(&store);
    assert!(before.0.iter().all(Result::is_ok));
    store.close().await;
    let store = file.open().await.unwrap();
    assert_eq!(seen(&store), before);
    // A new session is listed before those of the same millisecond from before the restart.
    let last = contract::session("a", "t", Timestamp(3), Timestamp(9));
    store.create(&last).await.unwrap();
    assert_eq!(listed(&store)[0].code, last.code);
}

#[tokio::test]
async fn expired_sessions_are_deleted_at_the_start() {
    let file = File::new();
    let store = file.open().await.unwrap();
    let (expired, live) = (session(), contract::session("a", "t", Timestamp(1), Timestamp(10)));
    for session in [&expired, &live] {
        store.create(session).await.unwrap();
        let (code, a) = (session.code, origin("a"));
        store.add_candidate(code, &a, Side::Offerer, text("c"), Timestamp(1)).await.unwrap();
        store.add_answer(code, &a, text("x").into(), Timestamp(1)).await.unwrap();
    }
    store.close().await;
    let store =
        SqliteStore::open(&file.path(), LIMITS, notifications(), Timestamp(9)).await.unwrap();
    let get = |code| store.memory().get(code, &origin("a"), Timestamp(1)).map(|it| it.code);
    assert_eq!((get(expired.code), get(live.code)), (Err(StoreError::NotFound), Ok(live.code)));
    let shell = file.shell();
    assert_eq!(["sessions", "answers", "candidates"].map(|table| rows(&shell, table)), [1; 3]);
}

#[tokio::test]
async fn lower_limits_leave_the_oldest_in_the_file() {
    let file = File::new();
    let store = file.open().await.unwrap();
    let short_lived = contract::session("a", "t", Timestamp(1), Timestamp(5));
    let sessions = [session(), session(), short_lived];
    for session in &sessions {
        store.create(session).await.unwrap();
    }
    store.close().await;
    let codes =
        |store: &SqliteStore| -> Vec<_> { listed(store).iter().map(|it| it.code).collect() };
    let [first, second, third] = sessions.map(|session| session.code);
    let fewer = StoreLimits { max_sessions: 2, ..LIMITS };
    let store =
        SqliteStore::open(&file.path(), fewer, notifications(), Timestamp(1)).await.unwrap();
    assert_eq!(codes(&store), [third, second]);
    assert_eq!(store.clean_up(Timestamp(5)).await, Ok(1));
    let fourth = session();
    store.create(&fourth).await.unwrap();
    store.close().await;
    let store = file.open().await.unwrap();
    assert_eq!(codes(&store), [fourth.code, second, first]);
}

#[tokio::test]
async fn a_file_of_the_original_is_imported() {
    let file = File::new();
    let code = Code::random();
    let shell = file.shell();
    shell
        .execute_batch(
            "CREATE TABLE sessions (
                 code TEXT PRIMARY KEY, origin TEXT NOT NULL, topic TEXT NOT NULL,
                 info TEXT NOT NULL CHECK(length(info) <= 1024), offer TEXT NOT NULL, answer TEXT,
                 offer_candidates TEXT NOT NULL DEFAULT '[]',
                 answer_candidates TEXT NOT NULL DEFAULT '[]',
                 created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL);
             CREATE INDEX idx_expires_at ON sessions(expires_at);",
        )
        .unwrap();
    shell
        .execute(
            r#"INSERT INTO sessions VALUES (?1, 'a', 't', 'say "hi"', 'offer', NULL,
                   '["c1",{"no":"text"},"c2"]', '[]', 1, 9),
                   ('other', 'a', 't', 'i', 'o', 'answered', '[]', 'broken', 1, 2)"#,
            [code.to_string()],
        )
        .unwrap();
    drop(shell);
    for _ in 0..2 {
        let store = file.open().await.unwrap();
        let listed = listed(&store);
        let [session] = &listed[..] else { panic!() };
        assert_eq!((session.code, &session.info), (code, &text("say \"hi\"")));
        assert_eq!(session.offer_candidates, [text("c1"), text("c2")]);
        store.close().await;
    }
    assert_eq!(tables(&file.shell()), ["answers", "candidates", "owner", "sessions"]);
}

#[tokio::test]
async fn versions_before_secrets_share_the_file() {
    let file = File::new();
    let shell = file.shell();
    shell.execute_batch(schema::TABLES).unwrap();
    shell.pragma_update(None, "user_version", 2).unwrap();
    let insert = "INSERT INTO sessions
                      (number, code, origin, topic, info, offer, created_at, expires_at)
                  VALUES (7, ?1, 'a', 't', '\"i\"', '\"o\"', 1, 9)";
    let old = Code::random();
    shell.execute(insert, [old.to_string()]).unwrap();
    let store = file.open().await.unwrap();
    let (a, now, secret) = (origin("a"), Timestamp(2), Secret::random().hash());
    let verified =
        |store: &SqliteStore, code| store.memory().get(code, &a, now).unwrap().is_answer_verified();
    assert_eq!(verified(&store, old), None);
    let new = NewSession { secret: Some(secret), ..session() };
    store.create(&new).await.unwrap();
    let answer = Answer { text: text("mine"), secret: Some(secret) };
    store.add_answer(new.code, &a, answer, now).await.unwrap();
    store.close().await;
    let store = file.open().await.unwrap();
    assert_eq!(verified(&store, new.code), Some(true));
    store.close().await;
    // The version before replaces the answer, and knows no secret.
    let replace = "UPDATE answers SET answers = answers + 1, answer = '\"other\"'";
    assert_eq!(file.shell().execute(replace, ()).unwrap(), 1);
    let store = file.open().await.unwrap();
    assert_eq!(verified(&store, new.code), Some(false));
}

fn tables(shell: &Connection) -> Vec<String> {
    let query = "SELECT name FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
    let mut query = shell.prepare(query).unwrap();
    query.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn unusable_files_are_rejected_and_left_unchanged() {
    let file = File::new();
    file.shell().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(file.open().await, Err(OpenError::UnknownLayout { layout: 99, .. })));

    let file = File::new();
    std::fs::write(file.path(), "something else, and rather more of it than a header").unwrap();
    assert!(matches!(file.open().await, Err(OpenError::Sqlite { .. })));
    assert!(std::fs::read(file.path()).unwrap().starts_with(b"something else"));

    let file = File::new();
    file.shell().execute_batch("CREATE TABLE sessions (other TEXT)").unwrap();
    assert!(matches!(file.open().await, Err(OpenError::Sqlite { .. })));
    let column: String = file
        .shell()
        .query_row("SELECT name FROM pragma_table_info('sessions')", (), |row| row.get(0))
        .unwrap();
    assert_eq!(column, "other");

    let nowhere =
        SqliteStore::open(Path::new("/nowhere/at/all.db"), LIMITS, notifications(), Timestamp(1))
            .await;
    assert!(matches!(nowhere, Err(OpenError::File { .. })));
}

#[tokio::test]
async fn a_failed_change_fails_no_other() {
    let file = File::new();
    let store = file.open().await.unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON sessions WHEN NEW.topic = 'refused'
                  BEGIN SELECT RAISE(ABORT, 'refused'); END";
    file.shell().execute_batch(refuse).unwrap();
    let refused = contract::session("b", "refused", Timestamp(1), Timestamp(9));
    let others: Vec<_> = (0..5).map(|_| session()).collect();
    let (first, others_first) = others.split_at(2);
    let (before, broken, after) = futures_util::join!(
        futures_util::future::join_all(first.iter().map(|it| store.create(it))),
        store.create(&refused),
        futures_util::future::join_all(others_first.iter().map(|it| store.create(it))),
    );
    assert_eq!(broken, Err(StoreError::Corrupt));
    assert_eq!([before, after].concat(), [Ok(()); 5]);
    assert_eq!(store.memory().count(), 5);
    assert_eq!(rows(&file.shell(), "sessions"), 5);
}

/// Makes a session with one candidate.
async fn filled(store: &SqliteStore) -> NewSession {
    let session = session();
    store.create(&session).await.unwrap();
    let (code, a) = (session.code, origin("a"));
    store.add_candidate(code, &a, Side::Offerer, text("c"), Timestamp(1)).await.unwrap();
    session
}

#[tokio::test]
async fn a_locked_file_is_unavailable_until_it_is_unlocked() {
    let file = File::new();
    let store = file.open().await.unwrap();
    let old = filled(&store).await;
    let (code, a, now) = (old.code, origin("a"), Timestamp(1));
    let before = listed(&store);
    let shell = file.shell();
    shell.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let new = session();
    let refused = futures_util::join!(
        store.create(&new),
        store.add_candidate(code, &a, Side::Offerer, text("d"), now),
        store.add_answer(code, &a, text("x").into(), now),
        store.clean_up(Timestamp(9)),
        async {
            // Reads are served, and do not see pending changes.
            assert_eq!(listed(&store), before);
        },
    );
    let unavailable = Err(StoreError::Unavailable);
    assert_eq!([refused.0, refused.1, refused.2, refused.3.map(drop)], [unavailable; 4]);
    assert_eq!(listed(&store), before);
    assert_eq!(store.memory().count(), 1);
    shell.execute_batch("COMMIT").unwrap();
    drop(shell);
    store.create(&new).await.unwrap();
    assert_eq!(listed(&store).len(), 2);
    // The rejected candidate has released its quota, so all others fit.
    for _ in 1..MAX_CANDIDATES {
        store.add_candidate(code, &a, Side::Answerer, text("d"), now).await.unwrap();
    }
    let more = store.add_candidate(code, &a, Side::Answerer, text("d"), now).await;
    assert_eq!(more, Err(StoreError::TooManyCandidates));
}

#[tokio::test]
async fn a_full_disk_leaves_no_trace() {
    let file = File::new();
    let connection = connect(&file.path()).unwrap();
    connection.pragma_update(None, "max_page_count", 64).unwrap();
    let store =
        SqliteStore::start(connection, file.path(), LIMITS, notifications(), Timestamp(1)).unwrap();
    let old = filled(&store).await;
    let mut large = session();
    large.offer = text(&"x".repeat(512 << 10));
    assert_eq!(store.create(&large).await, Err(StoreError::Unavailable));
    let answer = text(&"x".repeat(512 << 10));
    let refused = store.add_answer(old.code, &origin("a"), answer.into(), Timestamp(1)).await;
    assert_eq!(refused, Err(StoreError::Unavailable));
    assert_eq!(listed(&store).len(), 1);
    // All that fits goes on, and can be deleted again, with nothing left of it.
    store.create(&session()).await.unwrap();
    assert_eq!(listed(&store).len(), 2);
    assert_eq!(store.clean_up(Timestamp(9)).await, Ok(0));
    assert!(store.memory().is_empty());
    assert_eq!(rows(&file.shell(), "sessions"), 0);
}

#[tokio::test]
async fn nothing_is_added_to_a_removed_session() {
    let file = File::new();
    let store = file.open().await.unwrap();
    let old = filled(&store).await;
    let a = origin("a");
    let (remaining, refused) = futures_util::join!(
        store.clean_up(Timestamp(9)),
        store.add_candidate(old.code, &a, Side::Answerer, text("d"), Timestamp(1)),
    );
    assert_eq!((remaining, refused), (Ok(0), Err(StoreError::NotFound)));
    assert!(store.memory().is_empty());
    assert_eq!(rows(&file.shell(), "candidates"), 0);
}

#[tokio::test]
async fn the_last_process_to_open_the_file_owns_it() {
    let file = File::new();
    let first = file.open().await.unwrap();
    filled(&first).await;
    let second = file.open().await.unwrap();
    let new = session();
    assert_eq!(first.create(&new).await, Err(StoreError::Unavailable));
    assert_eq!(first.clean_up(Timestamp(9)).await, Err(StoreError::Unavailable));
    assert_eq!(listed(&first), listed(&second));
    second.create(&new).await.unwrap();
    assert_eq!(listed(&second).len(), 2);
    first.close().await;
    second.close().await;
    assert_eq!(rows(&file.shell(), "sessions"), 2);
}

#[tokio::test]
async fn an_abandoned_change_is_not_made() {
    let file = File::new();
    let store = file.open().await.unwrap();
    let new = session();
    let mut creating = Box::pin(store.create(&new));
    assert!(futures_util::poll!(&mut creating).is_pending());
    drop(creating);
    // Comes behind it.
    let other = filled(&store).await;
    assert_eq!(listed(&store).iter().map(|it| it.code).collect::<Vec<_>>(), [other.code]);
    assert_eq!((store.memory().count(), rows(&file.shell(), "sessions")), (1, 1));
}
