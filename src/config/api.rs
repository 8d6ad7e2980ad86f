//! Reads the configuration of the server API.

use std::net::SocketAddr;

use super::Source;
use super::reader::Reader;
use crate::api::{ApiSettings, Token, Tokens, parse_id, split_tokens};

pub(super) fn read(reader: &mut Reader<impl Source>) -> ApiSettings {
    let write = reader.secret("API_TOKEN", split_tokens).unwrap_or_default();
    let read = reader.secret("API_READ_TOKEN", split_tokens).unwrap_or_default();
    ApiSettings {
        tokens: Tokens::new(&write, &read),
        token: write.into_iter().chain(read).next().map(Token::new),
        max_failures: reader.number("API_MAX_FAILURES_PER_MINUTE", 1),
        max_bans: reader.number("API_MAX_BANS", 1),
        max_streams: reader.number("API_MAX_STREAMS", 1),
        sender: reader.optional("API_SENDER_ID", parse_id),
    }
}

/// Reads the address of the API's own listener.
pub(super) fn addr(reader: &mut Reader<impl Source>) -> Option<SocketAddr> {
    reader.optional("API_ADDR", |text| text.parse().ok())
}
