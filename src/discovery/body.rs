//! Reads a request's body, within its limits.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use futures_util::StreamExt;
use http::header;

use super::address::{Address, UnfinishedBody};
use super::fault::Fault;

/// The largest body in bytes; [`Fault::BodyTooLarge`] names it.
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// How long a body may take. The largest one needs 26 KB a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// The body of a request that came from `address`.
pub(super) async fn read(request: Request, address: Arc<Address>) -> Result<Vec<u8>, Fault> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BYTES as u64) {
        return Err(Fault::BodyTooLarge);
    }
    let mut body = UnfinishedBody::new(address);
    let reading = async {
        let mut pieces = request.into_body().into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| Fault::BodyBroken)?;
            if body.len() + piece.len() > MAX_BYTES {
                return Err(Fault::BodyTooLarge);
            }
            body.push(&piece)?;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or(Err(Fault::BodyTooSlow))?;
    Ok(body.finish())
}
