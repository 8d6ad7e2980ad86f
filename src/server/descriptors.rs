//! How many connections the process can have: each takes a file descriptor, as webhooks, Redis and
//! files do.

use crate::config::Config;

/// What the process itself takes: its log, the runtime, listeners, signals, and connections that
/// are rejected.
const OWN: usize = 100;

/// What the connections to Redis take, also while they are replaced.
const REDIS: usize = 16;

/// What discovery's files take.
const FILES: usize = 16;

/// The least that is kept free, and the largest share of all descriptors, as a divisor.
const LEAST: usize = 24;
const LARGEST_SHARE: usize = 4;

/// The most rejected connections that get a response at a time, and the largest share of the
/// reserve that they take, as a divisor.
const MAX_REFUSALS: usize = 64;
const REFUSALS_SHARE: usize = 4;

/// The most connections at a time.
pub(super) struct Places {
    /// Of clients: the configured number, or fewer where the process may not open as many files.
    pub(super) connections: usize,
    /// The most rejected connections that get a response at a time.
    pub(super) refusals: usize,
}

impl Places {
    pub(super) fn of(config: &Config) -> Self {
        match rlimit::getrlimit(rlimit::Resource::NOFILE) {
            Ok((limit, _)) => Self::within(config, usize::try_from(limit).unwrap_or(usize::MAX)),
            // Unknown: what the operator says holds.
            Err(_) => Self { connections: config.max_connections, refusals: MAX_REFUSALS },
        }
    }

    fn within(config: &Config, descriptors: usize) -> Self {
        let reserve = reserve(config, descriptors);
        let connections = config.max_connections.min(descriptors.saturating_sub(reserve)).max(1);
        Self { connections, refusals: (reserve / REFUSALS_SHARE).min(MAX_REFUSALS) }
    }
}

/// Returns how many of the descriptors are not for connections.
fn reserve(config: &Config, descriptors: usize) -> usize {
    let webhooks = config.webhooks.names().len() * config.webhooks.calls.max_in_flight;
    let redis = if config.cluster.is_some() { REDIS } else { 0 };
    let files = if config.discovery.is_some() { FILES } else { 0 };
    let wanted = OWN + webhooks + redis + files;
    wanted.min((descriptors / LARGEST_SHARE).max(LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_are_shared_and_many_are_for_connections() {
        let mut config = Config::default();
        let places = |config: &Config, descriptors| {
            let Places { connections, refusals } = Places::within(config, descriptors);
            (connections, refusals)
        };
        assert_eq!(places(&config, 10), (1, 6));
        assert_eq!(places(&config, 64), (40, 6));
        assert_eq!(places(&config, 256), (192, 16));
        assert_eq!(places(&config, 1024), (1024 - OWN, OWN / 4));
        assert_eq!(places(&config, 1 << 20).0, 100_000);
        config.webhooks.authorization = Some("http://h/".parse::<url::Url>().unwrap().into());
        assert_eq!(places(&config, 4096).0, 4096 - OWN - 256);
        config.max_connections = 3;
        assert_eq!(places(&config, 4096).0, 3);
    }
}
