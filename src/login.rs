//! Login by JWT: a token says who a node is, to whom it may send, and until when. Nobody has to be
//! asked.
//!
//! - `keys`: what tokens are signed with; a key has one algorithm, whatever a token says.
//! - `remote_keys`: keys that are read from a URL.
//! - `crypto`: the algorithms, by ring.
//! - `patterns`: lists of IDs with wildcards.

mod crypto;
mod keys;
mod patterns;
mod remote_keys;

pub use keys::{InvalidKey, LoginKeys};

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::node::NodeId;
use crate::secret_url::SecretUrl;
use crate::webhooks::{CallSettings, ClientError, Fetcher};
use keys::LoginKey;
use patterns::Patterns;
use remote_keys::{NoKeys, RemoteKeys};

/// The latest end of a login that is waited for.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Which tokens are accepted.
#[derive(Debug, Clone)]
pub struct LoginSettings {
    /// What tokens are signed with.
    pub keys: KeySource,
    /// The values of `aud`, one of which a token must have; `None` for tokens without `aud`.
    pub audience: Option<Vec<String>>,
    /// The values of `iss`, one of which a token must have; `None` for any, or none.
    pub issuer: Option<Vec<String>>,
    /// How much the clocks of those who sign may differ from this one. Counted in whole seconds.
    pub leeway: Duration,
}

/// Where the keys of tokens come from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// They are known.
    Given(LoginKeys),
    /// They are read from here.
    Url(SecretUrl),
}

/// Checks the tokens of nodes.
pub(crate) struct Login {
    settings: LoginSettings,
    keys: Keys,
}

enum Keys {
    Given(LoginKeys),
    Remote(Box<RemoteKeys>),
}

/// What a token permits its node.
#[derive(Debug)]
pub(crate) struct Grant {
    /// When the node has to log in again.
    pub(crate) expires: Instant,
    to: Option<Patterns>,
}

impl Grant {
    /// Whether the node may send to this one.
    pub(crate) fn may_send_to(&self, node: &str) -> bool {
        self.to.as_ref().is_none_or(|to| to.include(node))
    }
}

/// Why a node is not logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginError {
    NoToken,
    Malformed,
    /// The token's algorithm is not that of its key.
    Algorithm,
    UnknownKey,
    Signature,
    Expired,
    NotYetValid,
    Audience,
    Issuer,
    /// A claim is missing or of a wrong type.
    Claims,
    /// The token is for another node.
    Id,
    /// There are no keys to check it with: the only one that is not final.
    NoKeys,
}

impl LoginError {
    /// The name in metrics and in the log.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Audience => "audience",
            Self::Issuer => "issuer",
            Self::Claims => "claims",
            Self::Id => "id",
            Self::NoKeys => "no_keys",
        }
    }
}

/// What is read of a token. A claim that is there twice makes it malformed.
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    sub: Option<String>,
    nodes: Option<Patterns>,
    to: Option<Patterns>,
}

impl Login {
    /// Reads keys from a URL as webhooks are called.
    ///
    /// # Errors
    /// [`ClientError`] if that is not possible.
    pub(crate) fn new(
        settings: LoginSettings,
        calls: &CallSettings,
        metrics: &Metrics,
    ) -> Result<Self, ClientError> {
        crypto::install();
        let keys = match &settings.keys {
            KeySource::Given(keys) => Keys::Given(keys.clone()),
            KeySource::Url(url) => {
                let fetcher = Fetcher::new(calls, url.clone())?;
                Keys::Remote(RemoteKeys::new(fetcher, metrics.clone()).into())
            }
        };
        Ok(Self { settings, keys })
    }

    /// Logs a node in with the token in its `data`.
    ///
    /// # Errors
    /// [`LoginError`].
    pub(crate) async fn log_in(
        &self,
        node: &NodeId,
        data: Option<&str>,
    ) -> Result<Grant, LoginError> {
        let token = data.and_then(token).ok_or(LoginError::NoToken)?;
        let header = decode_header(&*token).map_err(|_| LoginError::Malformed)?;
        let key = self.key(header.kid.as_deref()).await?.ok_or(LoginError::UnknownKey)?;
        let claims = decode::<Claims>(&*token, &key.key, &self.validation(key.algorithm));
        let claims = claims.map_err(|error| LoginError::from(error.kind()))?.claims;
        let is_for_node = match &claims.nodes {
            Some(nodes) => nodes.include(node.as_str()),
            None => claims.sub.as_deref() == Some(node.as_str()),
        };
        if !is_for_node {
            return Err(LoginError::Id);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = Duration::try_from_secs_f64(claims.exp).unwrap_or(Duration::MAX);
        let left =
            expires.saturating_add(self.settings.leeway).saturating_sub(now).min(MAX_LIFETIME);
        Ok(Grant { expires: Instant::now() + left, to: claims.to })
    }

    async fn key(&self, id: Option<&str>) -> Result<Option<LoginKey>, LoginError> {
        match &self.keys {
            Keys::Given(keys) => Ok(keys.select(id).cloned()),
            Keys::Remote(keys) => keys.select(id).await.map_err(|NoKeys| LoginError::NoKeys),
        }
    }

    fn validation(&self, algorithm: jsonwebtoken::Algorithm) -> Validation {
        let LoginSettings { audience, issuer, leeway, .. } = &self.settings;
        let mut validation = Validation::new(algorithm);
        validation.leeway = leeway.as_secs();
        validation.validate_nbf = true;
        if let Some(audience) = audience {
            validation.set_audience(audience);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if let Some(issuer) = issuer {
            validation.set_issuer(issuer);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        validation
    }
}

impl From<&ErrorKind> for LoginError {
    fn from(error: &ErrorKind) -> Self {
        match error {
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Self::Algorithm,
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYetValid,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => Self::Claims,
            ErrorKind::Json(_) => Self::Claims,
            _ => Self::Malformed,
        }
    }
}

/// Returns the token in a node's `data`: all of it, or the field `token` of a JSON object.
fn token(data: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        token: Cow<'a, str>,
    }

    let data = data.trim();
    if data.starts_with('{') {
        return serde_json::from_str::<Data<'_>>(data).ok().map(|data| data.token);
    }
    (!data.is_empty()).then_some(Cow::Borrowed(data))
}

#[cfg(test)]
mod tests;
