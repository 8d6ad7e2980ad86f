//! The contract, and what is special about a file.

use tempfile::TempDir;

use super::super::Storage;
use super::super::contract::{self, LIMITS, contract, origin, text};
use super::*;

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
        SqliteStore::open(&self.path(), LIMITS).await
    }

    fn shell(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

#[tokio::test]
async fn a_closed_store_is_found_again_with_its_room_taken() {
    let file = File::new();
    let store = file.open().await.unwrap();
    let session = contract::session("a", "t", Timestamp(1), Timestamp(9));
    let (code, a) = (session.code, origin("a"));
    for _ in 1..LIMITS.max_sessions_per_origin {
        store.create(contract::session("a", "t", Timestamp(1), Timestamp(9))).await.unwrap();
    }
    store.create(session).await.unwrap();
    store.add_answer(code, a.clone(), text("x"), Timestamp(2)).await.unwrap();
    let before = store.get(code, a.clone(), Timestamp(2)).await.unwrap();
    store.close().await;
    assert_eq!(store.delete(code).await, Err(StoreError::Unavailable));
    assert_eq!(store.get(code, a.clone(), Timestamp(2)).await, Err(StoreError::Unavailable));
    assert!(!file.path().with_extension("db-wal").exists(), "everything is in the file itself");

    let again = file.open().await.unwrap();
    assert_eq!(again.get(code, a, Timestamp(2)).await.unwrap(), before);
    let refused = again.create(contract::session("a", "t", Timestamp(2), Timestamp(9))).await;
    assert_eq!(refused, Err(StoreError::TooManyOfOrigin));
    assert_eq!(again.clean_up(Timestamp(9)).await, Ok(0));
    let left: i64 =
        file.shell().query_row("SELECT count(*) FROM candidates", (), |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_file_of_the_original_is_taken_over() {
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
        let listed = store.sessions(origin("a"), Topic::stored("t".into()), Timestamp(1)).await;
        let [session] = &listed.unwrap()[..] else { panic!() };
        assert_eq!((session.code, &session.info), (code, &text("say \"hi\"")));
        assert_eq!(session.offer_candidates, [text("c1"), text("c2")]);
        store.close().await;
    }
    let tables: Vec<String> = file
        .shell()
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap()
        .query_map((), |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(tables, ["candidates", "sessions"]);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_and_left_as_they_are() {
    let file = File::new();
    file.shell().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(file.open().await, Err(OpenError::Newer { .. })));

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

    let nowhere = SqliteStore::open(Path::new("/nowhere/at/all.db"), LIMITS).await;
    assert!(matches!(nowhere, Err(OpenError::Sqlite { .. })));
}

#[tokio::test]
async fn one_change_that_fails_costs_no_other() {
    let file = File::new();
    let store = file.open().await.unwrap();
    // A code twice cannot be stored, and is not expected: the whole transaction fails with it.
    let session = contract::session("a", "t", Timestamp(1), Timestamp(9));
    store.create(session.clone()).await.unwrap();
    let others: Vec<_> =
        (0..5).map(|_| contract::session("a", "t", Timestamp(1), Timestamp(9))).collect();
    let (twice, others) = futures_util::join!(
        store.create(session.clone()),
        futures_util::future::join_all(others.iter().cloned().map(|it| store.create(it))),
    );
    assert_eq!(twice, Err(StoreError::Broken));
    assert_eq!(others, [Ok(()); 5]);
    assert_eq!(store.clean_up(Timestamp(1)).await, Ok(6));
}

#[tokio::test]
async fn a_file_that_somebody_holds_is_not_available_and_then_is() {
    let file = File::new();
    let store = contract::open(&Storage::Sqlite(file.path())).await;
    let shell = file.shell();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let session = contract::session("a", "t", Timestamp(1), Timestamp(9));
    assert_eq!(store.create(session.clone()).await, Err(StoreError::Unavailable));
    // Readers do not care.
    assert!(store.get(session.code, &origin("a"), Timestamp(1)).await.is_err());
    shell.execute_batch("COMMIT").unwrap();
    drop(shell);
    store.create(session.clone()).await.unwrap();
    assert!(store.get(session.code, &origin("a"), Timestamp(1)).await.is_ok());
}
