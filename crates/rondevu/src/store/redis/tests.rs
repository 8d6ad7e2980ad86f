//! The contract on real Redis servers, and what is particular to them.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use futures_util::FutureExt;
use redis_session::{Certificates, RedisMode, SentinelSettings};
use tempfile::TempDir;
use url::Url;

use super::super::contract::{self, contract};
use super::super::{Storage, Store};
use super::*;
use crate::model::Secret;

/// The timeout of everything that should happen immediately.
const SOON: Duration = Duration::from_secs(10);

/// A Redis server that listens in a folder of its own and persists nothing; ends when dropped.
pub(in crate::store) struct Server {
    process: Child,
    folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(program);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"]);
        command.arg(folder.path()).arg("--unixsocket").arg(folder.path().join("socket"));
        let process = command.stdout(Stdio::null()).spawn().expect("redis-server is installed");
        Self { process, folder }
    }

    fn settings(&self) -> RedisSettings {
        let socket = self.folder.path().join("socket");
        let url = Url::parse(&format!("redis+unix://{}", socket.to_str().unwrap())).unwrap();
        let sentinel = SentinelSettings { primary: "m".into(), username: None, password: None };
        let prefix = "p".to_owned();
        RedisSettings::new(&[url], RedisMode::Single, sentinel, prefix, Certificates::default())
            .unwrap()
    }

    /// Opens the store of one replica.
    async fn store(&self) -> Store {
        let store = contract::open(&Storage::Redis(self.settings())).await;
        let began = Instant::now();
        while store.clean_up(Timestamp(0)).await.is_err() {
            assert!(began.elapsed() < SOON, "Redis does not start");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        store
    }

    /// Returns all keys.
    async fn keys(&self) -> Vec<String> {
        let mut connection = self.connection().await;
        redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap()
    }

    async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let socket = self.folder.path().join("socket");
        let client = redis::Client::open(format!("redis+unix://{}", socket.to_str().unwrap()));
        client.unwrap().get_multiplexed_async_connection().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Opens an empty store in a server of its own.
pub(in crate::store) async fn in_redis() -> (Server, Store) {
    let server = Server::start();
    let store = server.store().await;
    (server, store)
}

contract!(in_redis());

fn new(topic: &str) -> NewSession {
    contract::session("a", topic, Timestamp(1_000), Timestamp(2_000))
}

#[tokio::test]
async fn expired_sessions_leave_nothing_and_every_key_expires() {
    let (server, store) = in_redis().await;
    let session = new("t");
    let (code, origin) = (session.code, session.origin.clone());
    store.create(session).await.unwrap();
    let (text, now) = (contract::text("x"), Timestamp(1_500));
    store.add_candidate(code, &origin, Side::Offerer, text.clone(), now).await.unwrap();
    store.create(new("other")).await.unwrap();
    let keys = server.keys().await;
    assert!(keys.len() > 8 && keys.iter().all(|key| key.starts_with("p:{discovery}:")), "{keys:?}");
    let mut connection = server.connection().await;
    for key in keys {
        let left: u64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
        assert!((1..=61_000).contains(&left), "{key}: {left}");
    }
    store.add_answer(code, &origin, text.clone().into(), now).await.unwrap();
    store.add_answer(code, &origin, text.into(), now).await.unwrap();
    assert_eq!(store.clean_up(Timestamp(2_000)).await, Ok(0));
    assert_eq!(server.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn sessions_whose_key_has_expired_release_their_quota() {
    let (server, store) = in_redis().await;
    let sessions = [new("t"), new("t")];
    for session in &sessions {
        store.create(session.clone()).await.unwrap();
    }
    // As if nobody had cleaned up for a long time.
    let mut connection = server.connection().await;
    let key = format!("p:{{discovery}}:session:{}", sessions[0].code);
    let deleted: u64 = redis::cmd("DEL").arg(key).query_async(&mut connection).await.unwrap();
    assert_eq!(deleted, 1);
    let listed = store.sessions(&sessions[1].origin, &sessions[1].topic, Timestamp(1_000)).await;
    assert_eq!(listed.unwrap(), [sessions[1].as_session()]);
    assert_eq!(store.clean_up(Timestamp(2_000)).await, Ok(0));
    assert_eq!(server.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn changes_of_one_replica_are_notified_by_another() {
    let (server, here) = in_redis().await;
    let there = server.store().await;
    let session = contract::session("a", "t", Timestamp::now(), Timestamp(u64::MAX >> 12));
    let (code, origin) = (session.code, session.origin.clone());
    let mut stream = there.notifications().stream(origin.clone(), session.topic.clone());
    let mut own = here.notifications().stream(origin.clone(), session.topic.clone());
    let watch = there.notifications().watch(code);
    here.create(contract::session("b", "t", Timestamp::now(), session.expires_at)).await.unwrap();
    here.create(session).await.unwrap();
    let created = tokio::time::timeout(SOON, stream.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(created.code, code);
    assert_eq!(own.next().await.unwrap().unwrap(), created);
    let now = Timestamp::now();
    let changes = [
        here.add_answer(code, &origin, contract::text("x").into(), now).boxed(),
        here.add_candidate(code, &origin, Side::Answerer, contract::text("x"), now).boxed(),
    ];
    for change in changes {
        let changed = watch.changed();
        change.await.unwrap();
        tokio::time::timeout(SOON, changed).await.expect("it is notified");
    }
    // Each is notified once, also where it was made.
    here.create(contract::session("a", "t", now, Timestamp(u64::MAX >> 12))).await.unwrap();
    let (first, second) = (stream.next().await.unwrap(), own.next().await.unwrap());
    assert!(first == second && first.is_some());
}

#[tokio::test]
async fn a_replica_of_a_version_before_secrets_verifies_no_answer() {
    let (server, store) = in_redis().await;
    let secret = Secret::random().hash();
    let new = NewSession { secret: Some(secret), ..new("t") };
    let (code, now) = (new.code, Timestamp(1_500));
    store.create(new.clone()).await.unwrap();
    let answer = Answer { text: contract::text("mine"), secret: Some(secret) };
    store.add_answer(code, &new.origin, answer, now).await.unwrap();
    let verified = async || {
        let session = store.get(code, &new.origin, now).await.unwrap();
        session.is_answer_verified()
    };
    assert_eq!(verified().await, Some(true));
    // As such a replica replaces an answer.
    let mut connection = server.connection().await;
    let key = format!("p:{{discovery}}:session:{code}");
    let mut set = redis::cmd("HSET");
    set.arg(&key).arg("answer").arg(r#""other""#);
    let _: u64 = set.query_async(&mut connection).await.unwrap();
    let mut count = redis::cmd("HINCRBY");
    let _: u64 = count.arg(&key).arg("answers").arg(1).query_async(&mut connection).await.unwrap();
    assert_eq!(verified().await, Some(false));
}

#[tokio::test]
async fn values_of_other_programs_are_corrupt() {
    let (server, store) = in_redis().await;
    let session = new("t");
    store.create(session.clone()).await.unwrap();
    let mut connection = server.connection().await;
    let key = format!("p:{{discovery}}:session:{}", session.code);
    let mut set = redis::cmd("HSET");
    set.arg(&key).arg("offer").arg("no JSON");
    let _: u64 = set.query_async(&mut connection).await.unwrap();
    let found = store.get(session.code, &session.origin, Timestamp(1_000)).await;
    assert_eq!(found, Err(StoreError::Corrupt));
    let mut set = redis::cmd("SET");
    set.arg(&key).arg("x");
    let _: String = set.query_async(&mut connection).await.unwrap();
    let found = store.get(session.code, &session.origin, Timestamp(1_000)).await;
    assert_eq!(found, Err(StoreError::Corrupt));
    assert_eq!(store.clean_up(Timestamp(2_000)).await, Ok(0));
    assert_eq!(server.keys().await, Vec::<String>::new());
}
