//! The description of the API for programs (OpenAPI 3.1), from the types that handlers use.

use axum::response::IntoResponse;
use http::header;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{bans, events, messages, nodes, operations};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Crolang broker",
        description = "The server API, for operators and their programs. Every error is a problem document (RFC 9457).",
    ),
    servers((url = "/api/v1")),
    paths(
        nodes::list,
        nodes::look_up,
        nodes::disconnect,
        bans::list,
        bans::set,
        bans::lift,
        messages::send,
        events::follow,
        operations::status,
        operations::metrics,
        operations::config,
        operations::drain,
    ),
    security(("token" = [])),
    modifiers(&Token),
)]
struct Description;

/// Names the scheme of the tokens.
struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Responds with the description, which is the same for everybody.
pub(super) async fn describe() -> impl IntoResponse {
    let mut description = Description::openapi();
    description.info.version = env!("CARGO_PKG_VERSION").to_owned();
    // Never fails: all keys are texts.
    let text = description.to_json().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text)
}
