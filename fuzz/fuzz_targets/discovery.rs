//! Requests to discovery, with sessions in memory. A few follow each other, so that they find what others have left.
#![no_main]

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use rondevu::{Discovery, Metrics, Settings};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

const METHODS: [&str; 5] = ["GET", "POST", "DELETE", "OPTIONS", "PUT"];

libfuzzer_sys::fuzz_target!(|requests: Vec<(u8, String, String)>| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let settings = Settings::default();
        let Ok(discovery) = Discovery::open(&settings, Metrics::default(), stop.clone()).await else { return };
        for (method, path, body) in requests.into_iter().take(8) {
            let request = Request::builder().method(METHODS[usize::from(method) % METHODS.len()]);
            let request = request.uri(format!("/{path}")).header("content-type", "application/json");
            let Ok(request) = request.body(Body::from(body)) else { continue };
            let Ok(response) = discovery.router().call(request).await;
            assert_ne!(response.status(), 500);
            // Streams do not end by themselves.
            let body = axum::body::to_bytes(response.into_body(), 1 << 20);
            let _ = tokio::time::timeout(Duration::from_secs(1), body).await;
        }
        stop.cancel();
    });
});
