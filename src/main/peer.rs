//! `crolang-broker peer`: a peer-relay peer alone, as the command of the npm package is.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use clap::{Arg, ArgMatches, Command};
use crolang_broker::{Config, StartError};
use peer_relay::{Peer, PeerEvent, PeerId, PeerSettings};
use url::Url;

use super::{Signals, say};

/// The command's name.
pub(super) const NAME: &str = "peer";

/// The command.
pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Run a peer of a peer-relay network alone, without the broker")
        .after_help(
            "Prints its ID, where it listens, and PEER with the first digits of the ID of every \
             peer that connects. Of the variables, HOST, PEER_RELAY_* (without _PATH and _BRIDGE), \
             WRITE_TIMEOUT_MS, MAX_QUEUED_BYTES and LOG_* count.",
        )
        .arg(
            Arg::new("peers")
                .value_name("PORT or URL")
                .num_args(1..)
                .required(true)
                .help("First the port to listen on, if it is to listen; then the URLs of peers to connect to")
                .value_parser(parse),
        )
}

#[derive(Debug, Clone)]
enum Argument {
    Port(u16),
    Url(Url),
}

fn parse(text: &str) -> Result<Argument, String> {
    if let Ok(port) = text.parse() {
        return Ok(Argument::Port(port));
    }
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "ws" | "wss"));
    url.map(Argument::Url).ok_or_else(|| "neither a port nor a ws or wss URL".into())
}

/// Runs the peer until a signal arrives.
pub(super) async fn run(config: &Config, arguments: &ArgMatches) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::listen()?;
    let host = config.host.address().await;
    let mut listen = None;
    let mut bootstrap = Vec::new();
    for argument in arguments.get_many::<Argument>("peers").into_iter().flatten() {
        match argument {
            Argument::Port(port) => listen = Some(SocketAddr::new(host, *port)),
            Argument::Url(url) => bootstrap.push(url.clone()),
        }
    }
    let configured = config.peer_relay.peer.clone();
    bootstrap.extend(configured.bootstrap.iter().cloned());
    let kept = config.peer_relay.id_file.as_deref().map(PeerId::in_file).transpose();
    let settings = PeerSettings {
        id: kept.map_err(StartError::PeerId)?,
        listen,
        max_channels_per_address: config.listener.limits.max_channels,
        bootstrap,
        // What the package announces; right for networks on one machine.
        public_url: configured
            .public_url
            .clone()
            .or_else(|| Url::parse("ws://localhost:0").ok().filter(|_| listen.is_some())),
        ..configured
    };
    let address = listen.unwrap_or(SocketAddr::new(host, 0));
    let started = Peer::start(settings).await;
    let peer = started.map_err(|source| StartError::Bind { address, source })?;
    let mut events = peer.events();
    say(io::stdout(), format!("ID {}", peer.id()));
    if let Some(address) = peer.local_addr() {
        say(io::stdout(), format!("LISTENING {address}"));
    }
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(PeerEvent::Connected(id)) => {
                    say(io::stderr(), format!("PEER {:.4}", id.to_string()));
                }
                Some(_) => {}
                None => break,
            },
            _ = signals.next() => break,
        }
    }
    tokio::select! {
        () = peer.shutdown() => {}
        _ = signals.next() => {}
    }
    Ok(())
}
