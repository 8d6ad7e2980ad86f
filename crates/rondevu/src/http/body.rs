//! The extractor of a request's body, within limits of size, time, and bytes per address.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use futures_util::StreamExt;
use http::header;

use super::Context;
use super::byte_budget::HeldBytes;
use super::error::ApiError;
use super::extract::remote_address;

/// The largest body in bytes; [`ApiError::BodyTooLarge`] names it.
const MAX_BYTES: usize = 256 * 1024;

/// The timeout of a body. The largest one needs 26 KB a second.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A request that is parsed from its body, whatever its `Content-Type`.
pub(super) struct Body<T>(pub(super) T);

/// A type that is parsed from a body.
pub(super) trait FromBody: Sized {
    fn parse(body: &[u8]) -> Result<Self, ApiError>;
}

impl<T: FromBody> FromRequest<Context> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, context: &Context) -> Result<Self, ApiError> {
        let address = context.addresses.get(remote_address(request.extensions()));
        let body = read(request, address.receive()).await?;
        T::parse(&body).map(Self)
    }
}

/// Reads a body, which counts as incomplete until all of it has come.
async fn read(request: Request, mut held: HeldBytes) -> Result<Vec<u8>, ApiError> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BYTES as u64) {
        return Err(ApiError::BodyTooLarge);
    }
    let reading = async {
        let mut body = Vec::new();
        let mut chunks = request.into_body().into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| ApiError::BodyBroken)?;
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(ApiError::BodyTooLarge);
            }
            held.grow(chunk.len()).map_err(|_| ApiError::TooManyBodies)?;
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(ApiError::BodyTooSlow))
}
