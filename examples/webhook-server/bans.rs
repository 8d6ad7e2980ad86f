//! Banned nodes. The list can be changed while the server runs, and is lost when it ends.
//!
//! `/ban` and `/unban` are for you, not for the broker. They share the hooks' port only because
//! this is an example: a real server should have them on another port, behind a login.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::settings::parts;

/// Whom to ban, or to let in again.
#[derive(Deserialize)]
pub(crate) struct Target {
    id: String,
}

/// Who is banned now.
#[derive(Serialize)]
pub(crate) struct Banned {
    banned: BTreeSet<String>,
}

/// `POST /ban`: the node may not connect any more, and the next validity check throws it out.
pub(crate) async fn ban(State(bans): State<Bans>, Json(target): Json<Target>) -> Json<Banned> {
    let mut banned = bans.lock();
    banned.insert(target.id);
    Json(Banned { banned: banned.clone() })
}

/// `POST /unban`
pub(crate) async fn unban(State(bans): State<Bans>, Json(target): Json<Target>) -> Json<Banned> {
    let mut banned = bans.lock();
    banned.remove(&target.id);
    Json(Banned { banned: banned.clone() })
}

/// The IDs that are banned; a cheap handle to one list.
#[derive(Clone, Default)]
pub(crate) struct Bans(Arc<Mutex<BTreeSet<String>>>);

impl Bans {
    /// Reads `mallory,trudy`.
    pub(crate) fn parse(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Arc::new(Mutex::new(parts(text).map(str::to_owned).collect()))))
    }

    /// Whether this node is banned.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.lock().contains(id)
    }

    /// Those of `ids` that are banned.
    pub(crate) fn among(&self, mut ids: Vec<String>) -> Vec<String> {
        let banned = self.lock();
        ids.retain(|id| banned.contains(id));
        ids
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
