//! Logging: subjects, format, and limits.
//!
//! A line has one of three subjects, and the level says which are logged: the server itself (the
//! target is a module path, or [`AUDIT`]), [`CONNECTIONS`], and [`EVENTS`] with those of discovery. No line
//! contains a message, the `data` of a handshake, or a secret.

mod json_lines;
mod queue;

pub use queue::LogGuard;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use json_lines::JsonLines;
use queue::LogQueue;

/// The target of lines about nodes that connect and disconnect.
pub(crate) const CONNECTIONS: &str = "connections";

/// The target of lines on events between nodes.
pub(crate) const EVENTS: &str = "events";

/// The target of lines on changes by operators.
pub(crate) const AUDIT: &str = "audit";

/// The target of lines on channels to peers.
const PEER_CHANNELS: &str = "peer_relay::channels";

/// The target of lines on requests for discovery.
const DISCOVERY_REQUESTS: &str = "rondevu::requests";

/// The crates of this repository, whose lines are about the server itself unless their target says
/// otherwise.
const OWN_CRATES: [&str; 4] = ["crolang_broker", "peer_relay", "redis_session", "rondevu"];

/// The most lines in a second; the queue has a limit for their bytes. Strangers cause lines; they must not be able to fill a disk.
const MAX_LINES_PER_SECOND: u32 = 2_000;

/// Lines above these rates, since the process began.
static OVER_RATE: AtomicU64 = AtomicU64::new(0);

/// How much is logged (`LOG_LEVEL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Start, stop and errors.
    Minimal,
    /// Connections too.
    Connections,
    /// Relayed events too, without their contents.
    Events,
    /// Everything that helps debugging.
    Debug,
}

/// The form of a line (`LOG_FORMAT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The process has a log already.
    #[error(transparent)]
    AlreadyThere(#[from] TryInitError),
    /// The thread that writes cannot be started.
    #[error("the log cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// Sends the process's log, panics included, to the standard output. A task that logs never waits for
/// the output: see [`dropped_lines`].
///
/// # Errors
/// See [`LogError`].
pub fn init_logging(level: LogLevel, format: LogFormat) -> Result<LogGuard, LogError> {
    let queue = LogQueue::to_stdout()?;
    let registry = tracing_subscriber::registry()
        .with(filter(level))
        .with(LineLimit::new(MAX_LINES_PER_SECOND));
    registry.with(lines(format, queue.clone())).try_init()?;
    std::panic::set_hook(Box::new(|panic| {
        // Other messages than constant ones may hold contents.
        let message = panic.payload().downcast_ref::<&'static str>();
        let location = panic.location().map(ToString::to_string);
        tracing::error!(cause = message, location, "a task panicked");
    }));
    Ok(LogGuard(queue))
}

/// How many lines of the log were dropped since the process began, by cause.
pub(crate) fn dropped_lines() -> [(&'static str, u64); 3] {
    [
        ("rate", &OVER_RATE),
        ("queue_full", &queue::QUEUE_FULL),
        ("write_failed", &queue::WRITE_FAILED),
    ]
    .map(|(cause, lines)| (cause, lines.load(Ordering::Relaxed)))
}

fn lines<S: Subscriber + for<'a> LookupSpan<'a>>(
    format: LogFormat,
    queue: Arc<LogQueue>,
) -> Box<dyn Layer<S> + Send + Sync> {
    // Errors of its own would go to the standard error, which may block.
    let lines = tracing_subscriber::fmt::layer().with_writer(queue).log_internal_errors(false);
    match format {
        LogFormat::Text => {
            use io::IsTerminal;
            lines.with_ansi(io::stdout().is_terminal()).boxed()
        }
        LogFormat::Json => lines.event_format(JsonLines).boxed(),
    }
}

fn filter(level: LogLevel) -> Targets {
    let from = |least, filter| if level >= least { filter } else { LevelFilter::OFF };
    if level == LogLevel::Debug {
        return Targets::new()
            .with_default(LevelFilter::DEBUG)
            .with_targets(OWN_CRATES.map(|name| (name, LevelFilter::TRACE)));
    }
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_targets(OWN_CRATES.map(|name| (name, LevelFilter::INFO)))
        .with_target(AUDIT, LevelFilter::INFO)
        .with_target(CONNECTIONS, from(LogLevel::Connections, LevelFilter::INFO))
        .with_target(PEER_CHANNELS, from(LogLevel::Connections, LevelFilter::INFO))
        .with_target(EVENTS, from(LogLevel::Events, LevelFilter::INFO))
        .with_target(DISCOVERY_REQUESTS, from(LogLevel::Events, LevelFilter::INFO))
}

/// Leaves lines out above a rate, and says how many.
struct LineLimit {
    most: u32,
    second: Mutex<Second>,
}

struct Second {
    began: Instant,
    lines: u32,
    left_out: u64,
}

impl LineLimit {
    fn new(most: u32) -> Self {
        Self { most, second: Mutex::new(Second { began: Instant::now(), lines: 0, left_out: 0 }) }
    }

    /// Whether one more line goes out, and how many were left out in the second that just ended.
    fn take(&self, now: Instant) -> (bool, u64) {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left_out = 0;
        if now.duration_since(second.began) >= Duration::from_secs(1) {
            left_out = second.left_out;
            *second = Second { began: now, lines: 0, left_out: 0 };
        }
        let goes_out = second.lines < self.most;
        if goes_out {
            second.lines += 1;
        } else {
            second.left_out += 1;
            OVER_RATE.fetch_add(1, Ordering::Relaxed);
        }
        (goes_out, left_out)
    }
}

impl<S: Subscriber> Layer<S> for LineLimit {
    fn event_enabled(&self, _event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let (goes_out, left_out) = self.take(Instant::now());
        if left_out > 0 {
            tracing::warn!(lines = left_out, "log lines dropped: too many in a second");
        }
        goes_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_choose_the_subjects() {
        use tracing::Level;
        let subjects = |level| {
            let filter = filter(level);
            [
                filter.would_enable("crolang_broker::server", &Level::INFO),
                filter.would_enable(CONNECTIONS, &Level::INFO),
                filter.would_enable(EVENTS, &Level::INFO),
                filter.would_enable("crolang_broker::gateway", &Level::TRACE),
            ]
        };
        assert_eq!(subjects(LogLevel::Minimal), [true, false, false, false]);
        assert_eq!(subjects(LogLevel::Connections), [true, true, false, false]);
        assert_eq!(subjects(LogLevel::Events), [true, true, true, false]);
        assert_eq!(subjects(LogLevel::Debug), [true, true, true, true]);
    }

    #[test]
    fn lines_above_the_rate_are_left_out_and_counted() {
        let limit = LineLimit::new(2);
        let start = Instant::now();
        assert_eq!([(); 4].map(|()| limit.take(start).0), [true, true, false, false]);
        assert_eq!(limit.take(start + Duration::from_secs(1)), (true, 2));
        assert_eq!(limit.take(start + Duration::from_secs(2)), (true, 0));
    }
}
