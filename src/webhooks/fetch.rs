//! A document of the operator's that is read now and then: over the client of the hooks, and with its
//! limits.

use super::client::Client;
use super::{CallError, CallSettings, ClientError};
use crate::secret_url::SecretUrl;

/// Reads what is at one URL.
pub(crate) struct Fetcher {
    client: Client,
    url: SecretUrl,
}

impl Fetcher {
    /// Creates a client for this URL.
    ///
    /// # Errors
    /// [`ClientError`] if a certificate or the proxy cannot be used.
    pub(crate) fn new(settings: &CallSettings, url: SecretUrl) -> Result<Self, ClientError> {
        Ok(Self { client: Client::new(settings.clone())?, url })
    }

    /// Reads the document.
    ///
    /// # Errors
    /// [`CallError`] if there is none in time, or it is too long.
    pub(crate) async fn fetch(&self) -> Result<Vec<u8>, CallError> {
        let timeout = self.client.settings().timeout;
        let response = tokio::time::timeout(timeout, self.client.get(self.url.expose())).await;
        response.unwrap_or(Err(CallError::Timeout))
    }
}
