//! The part of the configuration that is about Redis.

use std::time::Duration;

use redis_session::{RedisMode, RedisSettings, SentinelSettings};
use url::Url;

use super::Source;
use super::reader::Reader;

/// Redis and the leases in it.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// Where Redis is, by `REDIS_URL`, `REDIS_MODE` and others; `None` for a replica alone.
    pub settings: Option<RedisSettings>,
    /// How long a lease lives without being extended.
    pub lock_ttl: Duration,
    /// How long nodes are kept beyond that while Redis is away.
    pub outage_grace: Duration,
    /// Whether the start fails if Redis cannot be reached.
    pub required_at_start: bool,
}

/// From this time to live on, an ordinary hiccup of the network costs no lease.
const SAFE_TTL: Duration = Duration::from_secs(5);

impl RedisConfig {
    pub(super) fn read(reader: &mut Reader<impl Source>) -> Self {
        let urls = reader.secret("REDIS_URL", |text| {
            text.split(',').map(|url| Url::parse(url.trim()).ok().filter(is_redis)).collect()
        });
        let urls: Option<Vec<Url>> = urls;
        let mode: RedisMode = reader.parsed("REDIS_MODE");
        let sentinel = SentinelSettings {
            primary: reader.parsed("REDIS_SENTINEL_NAME"),
            username: reader.secret("REDIS_SENTINEL_USERNAME", |text| Some(text.to_owned())),
            password: reader.secret("REDIS_SENTINEL_PASSWORD", |text| Some(text.to_owned())),
        };
        let key_prefix = reader.parsed("REDIS_KEY_PREFIX");
        let roots = reader.file("REDIS_CA_FILE", |pem| is_pem(&pem).then_some(pem));
        let settings = urls.and_then(|urls| {
            let settings = RedisSettings::new(&urls, mode, sentinel, key_prefix, roots);
            settings.map_err(|error| reader.conflict("REDIS_URL", &error.to_string())).ok()
        });
        Self {
            settings,
            lock_ttl: reader.milliseconds("REDIS_LOCK_TTL_MS", 1_000),
            outage_grace: reader.milliseconds("REDIS_OUTAGE_GRACE_MS", 0),
            required_at_start: reader.switch("REDIS_REQUIRED_AT_START"),
        }
    }

    /// Whether leases may be lost to a short trouble of the network.
    pub fn is_ttl_short(&self) -> bool {
        self.settings.is_some() && self.lock_ttl < SAFE_TTL
    }
}

fn is_redis(url: &Url) -> bool {
    match url.scheme() {
        "redis" | "rediss" => url.host_str().is_some_and(|host| !host.is_empty()),
        "unix" | "redis+unix" => url.path().len() > 1,
        _ => false,
    }
}

fn is_pem(content: &[u8]) -> bool {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut certificates = CertificateDer::pem_slice_iter(content).peekable();
    certificates.peek().is_some() && certificates.all(|certificate| certificate.is_ok())
}
