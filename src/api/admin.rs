//! The page for operators at `/admin/`, which is served from the binary and uses nothing but the API.
//!
//! The page itself needs no token and shows nothing without one: it asks for a token and keeps it as
//! long as its tab is open.

use axum::Router;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::header::{self, HeaderValue};

/// Scripts and styles come from here alone, and the page is in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

macro_rules! file {
    ($kind:literal, $name:literal) => {
        get(async || serve($kind, include_str!(concat!("admin/", $name))))
    };
}

/// Builds the routes of the page.
pub(super) fn routes() -> Router {
    Router::new()
        .route("/admin", get(async || Redirect::permanent("/admin/")))
        .route("/admin/", file!("text/html; charset=utf-8", "index.html"))
        .route("/admin/style.css", file!("text/css; charset=utf-8", "style.css"))
        .route("/admin/page.js", file!("text/javascript; charset=utf-8", "page.js"))
        .route("/admin/api.js", file!("text/javascript; charset=utf-8", "api.js"))
        .route("/admin/metrics.js", file!("text/javascript; charset=utf-8", "metrics.js"))
        .route("/admin/plots.js", file!("text/javascript; charset=utf-8", "plots.js"))
        .route("/admin/tables.js", file!("text/javascript; charset=utf-8", "tables.js"))
}

fn serve(content_type: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
