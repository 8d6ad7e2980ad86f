//! Which of the connected nodes may not stay? The broker asks every
//! `NODES_STATUS_CHECK_INTERVAL_MS`, in batches.
//!
//! This example names nodes that were banned since they connected. They are disconnected. If the
//! call fails, all nodes stay until the next round.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::bans::Bans;

/// What the broker asks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Question {
    connected_nodes_ids: Vec<String>,
}

/// What it is answered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    invalid_nodes_ids: Vec<String>,
}

/// `POST /validity`
pub(crate) async fn answer(
    State(bans): State<Bans>,
    Json(question): Json<Question>,
) -> Json<Answer> {
    Json(Answer { invalid_nodes_ids: bans.among(question.connected_nodes_ids) })
}
