//! A server of its own: discovery in memory on a port of the loopback address.
//!
//! `cargo run --example serve` and, in another shell,
//! `curl http://127.0.0.1:3000/chess/offer -d '{"info":"Alice","offer":"v=0"}'`.

use std::net::SocketAddr;

use rondevu::{Discovery, Metrics, Settings};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stop = CancellationToken::new();
    let discovery = Discovery::open(&Settings::default(), Metrics::default(), stop.clone()).await?;
    let app = discovery.router().into_make_service_with_connect_info::<SocketAddr>();

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            // Without a signal handler the server runs until the process is killed.
            let _ = tokio::signal::ctrl_c().await;
            stop.cancel();
        })
        .await?;
    discovery.close().await;
    Ok(())
}
