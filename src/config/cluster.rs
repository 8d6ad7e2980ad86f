//! Reads the configuration of Redis, which connects the replicas.

use url::Url;

use super::Source;
use super::reader::Reader;
use crate::cluster::ClusterSettings;
use crate::directory::LeaseSettings;
use redis_session::{Certificates, RedisMode, RedisSettings, SentinelSettings};

/// Reads what `REDIS_URL` switches on; `None` if it is not set. The other variables are checked
/// all the same, so that an error does not wait until it matters.
pub(super) fn read(reader: &mut Reader<impl Source>) -> Option<ClusterSettings> {
    let redis = redis(reader);
    let leases = LeaseSettings {
        ttl: reader.milliseconds("REDIS_LOCK_TTL_MS", 1_000),
        outage_grace: reader.milliseconds("REDIS_OUTAGE_GRACE_MS", 0),
    };
    let required_at_start = reader.switch("REDIS_REQUIRED_AT_START");
    Some(ClusterSettings { redis: redis?, leases, required_at_start })
}

fn redis(reader: &mut Reader<impl Source>) -> Option<RedisSettings> {
    let urls: Option<Vec<Url>> = reader.secret("REDIS_URL", |text| {
        text.split(',').map(|url| Url::parse(url.trim()).ok().filter(is_redis)).collect()
    });
    let mode = reader.choice(
        "REDIS_MODE",
        &[
            ("single", RedisMode::Single),
            ("sentinel", RedisMode::Sentinel),
            ("cluster", RedisMode::Cluster),
        ],
    );
    let sentinel = SentinelSettings {
        primary: reader.parsed("REDIS_SENTINEL_NAME"),
        username: reader.secret("REDIS_SENTINEL_USERNAME", |text| Some(text.to_owned())),
        password: reader.secret("REDIS_SENTINEL_PASSWORD", |text| Some(text.to_owned())),
    };
    let key_prefix = reader.parsed("REDIS_KEY_PREFIX");
    let roots = reader.file("REDIS_CA_FILE", |pem| is_pem(&pem).then_some(pem));
    let certificate = reader.file("REDIS_CERT_FILE", |pem| is_pem(&pem).then_some(pem));
    let key = reader.file("REDIS_KEY_FILE", |pem| is_key(&pem).then_some(pem));
    if certificate.is_some() != key.is_some() {
        reader.conflict("REDIS_CERT_FILE", "a certificate needs a key, and a key a certificate");
    }
    let certificates = Certificates { roots, client: certificate.zip(key) };
    let settings = RedisSettings::new(&urls?, mode, sentinel, key_prefix, certificates);
    settings.map_err(|error| reader.conflict("REDIS_URL", &error.to_string())).ok()
}

fn is_redis(url: &Url) -> bool {
    match url.scheme() {
        "redis" | "rediss" => url.host_str().is_some_and(|host| !host.is_empty()),
        "unix" | "redis+unix" => url.path().len() > 1,
        _ => false,
    }
}

fn is_key(content: &[u8]) -> bool {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    PrivateKeyDer::from_pem_slice(content).is_ok()
}

fn is_pem(content: &[u8]) -> bool {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut certificates = CertificateDer::pem_slice_iter(content).peekable();
    certificates.peek().is_some() && certificates.all(|certificate| certificate.is_ok())
}
