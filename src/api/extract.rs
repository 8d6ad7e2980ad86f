//! How requests are read: the path, the query and the body, each as a whole or not at all.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::Api;
use super::problem::Problem;
use crate::bans::{InvalidTarget, Target};
use crate::broker::{MAX_PAGE, NodeError};
use crate::node::NodeId;

/// The number of entries on a page by default.
const PAGE: usize = 100;

/// The longest reason that an operator may give, in bytes.
pub(super) const MAX_REASON_BYTES: usize = 256;

/// How long the body of a request may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A body that is JSON, and what is expected of it and nothing else.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Problem> {
        let body = Json::<T>::from_request(request, api);
        match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(Json(body))) => Ok(Self(body)),
            Ok(Err(rejection)) => Err(body_problem(&rejection)),
            Err(_) => {
                let detail = "the body was not received in time".to_owned();
                Err(Problem::body(StatusCode::REQUEST_TIMEOUT, detail))
            }
        }
    }
}

fn body_problem(rejection: &JsonRejection) -> Problem {
    Problem::body(rejection.status(), rejection.body_text())
}

/// The ID of a node, from the path.
pub(super) struct NodePath(pub(super) NodeId);

impl FromRequestParts<Arc<Api>> for NodePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let id = text_of_path(parts, api).await?;
        // What is no ID is not connected.
        NodeId::parse(&id).map(Self).map_err(|_| NodeError::NotConnected.into())
    }
}

/// What a ban is of, from the path.
pub(super) struct BanPath(pub(super) Target);

impl FromRequestParts<Arc<Api>> for BanPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let target = text_of_path(parts, api).await?.parse();
        target.map(Self).map_err(|error: InvalidTarget| Problem::bad_request(error.to_string()))
    }
}

/// Reads the last part of the path, decoded.
async fn text_of_path(parts: &mut Parts, api: &Arc<Api>) -> Result<String, Problem> {
    let text = Path::<String>::from_request_parts(parts, api).await;
    text.map(|Path(text)| text).map_err(|error| Problem::bad_request(error.body_text()))
}

/// The parameters of a query. Each must be asked for, once.
pub(super) struct Params(Vec<(String, String)>);

impl FromRequestParts<Arc<Api>> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

impl Params {
    /// Takes a parameter.
    ///
    /// # Errors
    /// It is there more than once.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let (mut found, rest) =
            std::mem::take(&mut self.0).into_iter().partition(|it| it.0 == name);
        self.0 = rest;
        let found: &mut Vec<(String, String)> = &mut found;
        match found.pop() {
            Some(_) if !found.is_empty() => {
                Err(Problem::bad_request(format!("the parameter {name} is there twice")))
            }
            found => Ok(found.map(|(_, value)| value)),
        }
    }

    /// Takes the parameters of a page: `cursor`, the position after which it begins, and `limit`.
    ///
    /// # Errors
    /// One of them is not valid.
    pub(super) fn take_page(&mut self) -> Result<(String, usize), Problem> {
        let after = match self.take("cursor")? {
            Some(cursor) => {
                let decoded = URL_SAFE_NO_PAD.decode(cursor).ok();
                let after = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
                after
                    .ok_or_else(|| Problem::bad_request("the cursor is not one of a page before"))?
            }
            None => String::new(),
        };
        let limit = match self.take("limit")? {
            Some(limit) => limit.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit)),
            None => Some(PAGE),
        };
        let detail = || Problem::bad_request(format!("limit is not a number from 1 to {MAX_PAGE}"));
        Ok((after, limit.ok_or_else(detail)?))
    }

    /// Takes the reason of a change, which may be left out.
    ///
    /// # Errors
    /// It is too long.
    pub(super) fn take_reason(&mut self) -> Result<String, Problem> {
        let reason = self.take("reason")?.unwrap_or_default();
        check_reason(&reason)?;
        Ok(reason)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// There is a parameter that nobody has taken.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            Some((name, _)) => Err(Problem::bad_request(format!("there is no parameter {name:?}"))),
            None => Ok(()),
        }
    }
}

/// Checks the reason of a change.
pub(super) fn check_reason(reason: &str) -> Result<(), Problem> {
    if reason.len() <= MAX_REASON_BYTES {
        return Ok(());
    }
    Err(Problem::bad_request(format!("the reason is longer than {MAX_REASON_BYTES} bytes")))
}

/// Returns the cursor of the page after this entry.
pub(super) fn cursor_after(entry: &str) -> String {
    URL_SAFE_NO_PAD.encode(entry)
}
