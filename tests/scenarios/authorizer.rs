//! The webhook server of a run: it lets everybody talk to everybody, after a moment that differs from call to call.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    Yes = 0,
    /// 500.
    Fails = 1,
    /// Nothing, for as long as anybody waits.
    Hangs = 2,
}

/// A webhook server that runs until it is dropped.
pub struct Authorizer {
    address: SocketAddr,
    answers: Arc<AtomicU8>,
    _task: AbortOnDropHandle<()>,
}

impl Authorizer {
    pub async fn start() -> Self {
        let answers = Arc::new(AtomicU8::new(Answers::Yes as u8));
        let app = Router::new().route("/authorize", post(answer)).with_state(answers.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, answers, _task: AbortOnDropHandle::new(task) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/authorize", self.address)
    }

    pub fn set(&self, answers: Answers) {
        self.answers.store(answers as u8, Ordering::Relaxed);
    }
}

async fn answer(State(answers): State<Arc<AtomicU8>>) -> (StatusCode, Json<Value>) {
    let answers = answers.load(Ordering::Relaxed);
    if answers == Answers::Hangs as u8 {
        std::future::pending::<()>().await;
    }
    if answers == Answers::Fails as u8 {
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({})));
    }
    let pause = rand::rng().random_range(0..30);
    tokio::time::sleep(Duration::from_millis(pause)).await;
    (StatusCode::OK, Json(json!({"authorized": true})))
}
