//! The program: log, configuration, server, and a signal to stop it.

#[path = "main/api.rs"]
mod api;
#[path = "main/health.rs"]
mod health;
#[path = "main/memory.rs"]
mod memory;
#[cfg(feature = "overlay")]
#[path = "main/peer.rs"]
mod peer;

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Display;
use std::future::poll_fn;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use api::Done;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use crolang_broker::{Config, Server, Settings, StartError, VARIABLES, init_logging};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code for a configuration that cannot be used.
const BAD_CONFIGURATION: u8 = 2;

/// The command that prints completions.
const COMPLETIONS: &str = "completions";

/// After how many polls of tasks a worker looks for what has come on sockets, if it always has some to
/// poll. By tokio's default of 61 nodes would wait for as many turns of others that flood.
const EVENT_INTERVAL: u32 = 8;

/// How long a line beside the log may take to be written.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = command().get_matches();
    if let Some(arguments) = arguments.subcommand_matches(COMPLETIONS) {
        return complete(arguments);
    }
    let config = match Config::load() {
        Ok(config) => config,
        Err(errors) => return fail(BAD_CONFIGURATION, &errors),
    };
    let settings = Settings::load();
    if arguments.get_flag("check-config") {
        for misspelled in settings.misspelled() {
            say(io::stderr(), format!("crolang-broker: {misspelled}"));
        }
        say(io::stdout(), "the configuration is valid");
        return ExitCode::SUCCESS;
    }
    if arguments.get_flag("print-config") {
        let lines: Vec<_> = settings.all().iter().map(ToString::to_string).collect();
        say(io::stdout(), lines.join("\n"));
        return ExitCode::SUCCESS;
    }
    if let Some(arguments) = arguments.subcommand_matches(health::NAME) {
        return match health::check(&config, arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, &error),
        };
    }
    if let Some((name, arguments)) = arguments.subcommand()
        && api::commands().iter().any(|command| command.get_name() == name)
    {
        return use_api(&config, name, arguments);
    }
    let _log = match init_logging(config.log_level, config.log_format) {
        Ok(log) => log,
        Err(error) => return fail(1, &error),
    };
    for misspelled in settings.misspelled() {
        tracing::warn!("{misspelled}");
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.worker_threads {
        runtime.worker_threads(threads.get());
    }
    let runtime = match runtime.event_interval(EVENT_INTERVAL).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error),
    };
    let ran = runtime.block_on(async {
        #[cfg(feature = "overlay")]
        if let Some(arguments) = arguments.subcommand_matches(peer::NAME) {
            return peer::run(&config, arguments).await;
        }
        run(&config).await
    });
    // A lookup of a name cannot be cancelled; one that hangs delays no exit.
    runtime.shutdown_background();
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let is_misconfigured =
                matches!(error.downcast_ref(), Some(StartError::Webhooks(_) | StartError::Tls(_)));
            fail(if is_misconfigured { BAD_CONFIGURATION } else { 1 }, &*error)
        }
    }
}

/// Runs a command of the API's client.
fn use_api(config: &Config, name: &str, arguments: &ArgMatches) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error),
    };
    match runtime.block_on(api::run(config, name, arguments)) {
        Ok(Done::Completely) => ExitCode::SUCCESS,
        Ok(Done::Partly) => ExitCode::FAILURE,
        Err(error) => fail(if error.is_usage() { BAD_CONFIGURATION } else { 1 }, &error),
    }
}

/// Prints the completions of a shell.
fn complete(arguments: &ArgMatches) -> ExitCode {
    let mut script = Vec::new();
    if let Some(shell) = arguments.get_one::<Shell>("shell") {
        clap_complete::generate(*shell, &mut command(), "crolang-broker", &mut script);
    }
    say(io::stdout(), String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}

/// Serves until a signal arrives, then shuts down in order; a second signal ends at once.
async fn run(config: &Config) -> Result<(), Box<dyn Error>> {
    let has_tls = config.listener.tls.is_some();
    let mut signals = if has_tls { Signals::listen_without_hangup()? } else { Signals::listen()? };
    // With TLS this one asks for the new certificate, as programs that renew it expect.
    let hangups = has_tls.then(|| signal(SignalKind::hangup())).transpose()?;
    raise_open_files_limit();
    let server = Server::bind(config).await?;
    announce(config, &server);
    let received = tokio::select! {
        received = signals.next() => received,
        () = server.drain_requested() => "drain request",
        never = memory::give_back(&server) => match never {},
        never = reload_at(hangups, &server) => match never {},
    };
    tracing::info!(signal = received, "stopping");
    tokio::select! {
        () = server.shutdown() => tracing::info!("stopped"),
        _ = signals.next() => tracing::warn!("stopped at once by a second signal"),
    }
    Ok(())
}

/// Reloads the certificate at each of these signals. Never ends.
async fn reload_at(hangups: Option<Signal>, server: &Server) -> Infallible {
    if let Some(mut hangups) = hangups {
        while hangups.recv().await.is_some() {
            server.reload_certificates();
        }
    }
    std::future::pending().await
}

fn announce(config: &Config, server: &Server) {
    let switch = |on| if on { "on" } else { "off" };
    let webhooks = config.webhooks.names();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        signaling = switch(config.broker.signaling_enabled),
        relay = switch(config.broker.relay_enabled),
        webhooks = if webhooks.is_empty() { "off".to_owned() } else { webhooks.join(", ") },
        discovery = config.discovery.as_ref().map_or("off", |it| it.storage.name()),
        peer_relay = switch(config.peer_relay.path.is_some()),
        redis = switch(config.cluster.is_some()),
        tls = switch(config.listener.tls.is_some()),
        "modules"
    );
    #[cfg(feature = "overlay")]
    if let (Some(peer), Some(path)) = (server.peer(), &config.peer_relay.path) {
        tracing::info!(id = %peer.id(), path, "a peer of the peer-relay network");
    }
    tracing::info!(
        connections = server.places(),
        max_connections = config.max_connections,
        "connections possible"
    );
    if let Some(address) = server.internal_address() {
        tracing::info!(%address, "listening for operators");
    }
    if let Some(address) = server.api_address() {
        tracing::info!(%address, "listening for the server API");
    }
    if let Some(address) = server.metrics_address() {
        tracing::info!(%address, "listening for metrics");
    }
    tracing::info!(address = %server.address(), "listening");
}

/// The signals that ask for an end in good order: also those of a terminal that is closed, and of
/// Ctrl-\.
struct Signals(Vec<(&'static str, Signal)>);

impl Signals {
    fn listen() -> Result<Self, String> {
        let mut signals = Self::listen_without_hangup()?;
        signals.0.push(Self::listen_to("SIGHUP", SignalKind::hangup())?);
        Ok(signals)
    }

    fn listen_without_hangup() -> Result<Self, String> {
        Ok(Self(vec![
            Self::listen_to("SIGTERM", SignalKind::terminate())?,
            Self::listen_to("SIGINT", SignalKind::interrupt())?,
            Self::listen_to("SIGQUIT", SignalKind::quit())?,
        ]))
    }

    fn listen_to(name: &'static str, kind: SignalKind) -> Result<(&'static str, Signal), String> {
        match signal(kind) {
            Ok(signal) => Ok((name, signal)),
            Err(error) => Err(format!("cannot listen to {name}: {error}")),
        }
    }

    async fn next(&mut self) -> &'static str {
        poll_fn(|cx| {
            let mut signals = self.0.iter_mut();
            let received =
                signals.find_map(|(name, signal)| signal.poll_recv(cx).is_ready().then_some(*name));
            received.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Lets the process open as many files as it is allowed to; every connection is one, and the
/// usual limit of 1024 is only the soft one.
fn raise_open_files_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

fn command() -> Command {
    let variables: String = VARIABLES
        .iter()
        .map(|variable| {
            let default = if variable.default.is_empty() { "not set" } else { variable.default };
            let file = variable.file().map_or(String::new(), |it| format!(", or in a file: {it}"));
            format!(
                "  {} ({default}){file}\n      {} Allowed: {}.\n",
                variable.name, variable.about, variable.allowed
            )
        })
        .collect();
    let command = Command::new("crolang-broker")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Rendezvous server for peer-to-peer programs")
        .subcommand(health::command())
        .subcommands(api::commands())
        .subcommand(
            Command::new(COMPLETIONS)
                .about("Print the completions of a shell")
                .arg(Arg::new("shell").required(true).value_parser(value_parser!(Shell))),
        );
    #[cfg(feature = "overlay")]
    let command = command.subcommand(peer::command());
    command
        .after_help(format!(
            "Variables, from the environment or from a file .env in the working directory:\n\n{variables}"
        ))
        .arg(
            Arg::new("check-config")
                .long("check-config")
                .action(ArgAction::SetTrue)
                .help("Check the configuration and exit: 0 if it is valid, 2 if not"),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print every variable with its value and its origin, without secrets, and exit"),
        )
}

fn fail(code: u8, error: &dyn Error) -> ExitCode {
    say(io::stderr(), format!("crolang-broker: {error}"));
    ExitCode::from(code)
}

/// Writes a line; an output that fails or blocks delays nothing.
fn say(mut out: impl Write + Send + 'static, line: impl Display) {
    let line = format!("{line}\n");
    let (done, written) = mpsc::channel();
    let write = move || {
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        let _ = done.send(());
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = written.recv_timeout(OUTPUT_TIMEOUT);
    }
}
