//! The webhooks of a broker, to start your own from: all five in one small server.
//!
//! Each hook has a file: [`authentication`], [`authorization`], [`validity`],
//! [`rtc_configuration`], [`socket_message`]; [`signature`] rejects requests that are not the
//! broker's. The rules come from the environment (see [`settings`]) and are in memory. In your own
//! server they come from your database, and the rest may stay.
//!
//! ```sh
//! TOKENS=alice=north,bob=south cargo run --example webhook-server
//! ```

mod authentication;
mod authorization;
mod bans;
mod clock;
mod rtc_configuration;
mod settings;
mod signature;
mod socket_message;
#[cfg(test)]
mod tests;
mod validity;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::post;
use settings::Settings;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The exit code for an environment that cannot be used.
const BAD_ENVIRONMENT: u8 = 2;

/// How long requests in progress may take after a signal.
const GRACE: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(mistakes) => return fail(BAD_ENVIRONMENT, &mistakes),
    };
    match serve(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error.to_string()),
    }
}

/// Serves the broker until a signal arrives.
async fn serve(settings: Settings) -> io::Result<()> {
    // Both listen before the first line is printed, so that a program that waits for it can stop
    // the server.
    let (stop, cut_off) = (stop_signal()?, stop_signal()?);
    let address = settings.address;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
    println!("listening on http://{}", listener.local_addr()?);

    let server = axum::serve(listener, routes(settings)).with_graceful_shutdown(stop);
    tokio::select! {
        ended = server => ended,
        // A client that never finishes its request must not keep the process.
        () = async { cut_off.await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}

/// Each route is given what it decides by, and nothing else.
fn routes(settings: Settings) -> Router {
    let Settings { tokens, pairs, bans, ice_servers, secrets, .. } = settings;
    let routes = Router::new()
        .route("/authentication", post(authentication::answer).with_state((tokens, bans.clone())))
        .route("/authorization", post(authorization::answer).with_state(pairs))
        .route("/validity", post(validity::answer).with_state(bans.clone()))
        .route("/rtc-configuration", post(rtc_configuration::answer).with_state(ice_servers))
        .route("/socket-message", post(socket_message::write_down))
        .route("/ban", post(bans::ban).with_state(bans.clone()))
        .route("/unban", post(bans::unban).with_state(bans));
    match secrets {
        Some(secrets) => routes.layer(from_fn_with_state(secrets, signature::require)),
        None => routes,
    }
}

/// Listens for SIGTERM and SIGINT from now on; the future ends when one comes.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn fail(code: u8, message: &str) -> ExitCode {
    for line in message.lines() {
        eprintln!("webhook-server: {line}");
    }
    ExitCode::from(code)
}
