//! Reads the configuration of connections before the upgrade.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Source;
use super::reader::Reader;
use crate::gateway::{AddressLimits, ListenerSettings, ProxyProtocol, TlsFiles};

pub(super) fn read(reader: &mut Reader<impl Source>) -> ListenerSettings {
    let count = |text: &str| text.parse().ok().filter(|count: &u32| *count > 0);
    let max = |reader: &mut Reader<_>, name| reader.optional(name, count).map(|max| max as usize);
    let settings = ListenerSettings {
        trusted_proxies: reader
            .optional("TRUSTED_PROXIES", |text| text.parse().ok())
            .unwrap_or_default(),
        proxy_protocol: reader.choice(
            "PROXY_PROTOCOL",
            &[
                ("off", ProxyProtocol::Off),
                ("optional", ProxyProtocol::Optional),
                ("required", ProxyProtocol::Required),
            ],
        ),
        tls: tls(reader),
        http_idle_timeout: reader.milliseconds("HTTP_IDLE_TIMEOUT_MS", 1),
        banned: reader.optional("BANNED_ADDRESSES", |text| text.parse().ok()).unwrap_or_default(),
        allowed_origins: reader.parsed("ALLOWED_ORIGINS"),
        limits: AddressLimits {
            max_connections: max(reader, "MAX_CONNECTIONS_PER_ADDRESS"),
            max_connects_per_second: reader.rate("MAX_CONNECTS_PER_SECOND_PER_ADDRESS"),
            max_unfinished_heads: reader.number("MAX_UNFINISHED_HEADS_PER_ADDRESS", 1),
            max_admissions: reader.number("MAX_ADMISSIONS_PER_ADDRESS", 1),
            max_channels: max(reader, "PEER_RELAY_MAX_CHANNELS_PER_ADDRESS"),
            failure_ttl: reader.milliseconds("AUTHENTICATION_FAILURE_CACHE_TTL_MS", 0),
        },
    };
    if settings.proxy_protocol != ProxyProtocol::Off && settings.trusted_proxies.is_empty() {
        reader.conflict("PROXY_PROTOCOL", "TRUSTED_PROXIES names nobody who may speak it");
    }
    settings
}

/// Reads which files TLS needs, and whether they can be used.
fn tls(reader: &mut Reader<impl Source>) -> Option<TlsFiles> {
    const NAMES: [&str; 3] = ["TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE"];
    let paths = NAMES.map(|name| reader.optional(name, |text| Some(PathBuf::from(text))));
    let set = NAMES.into_iter().zip(&paths).find(|(_, path)| path.is_some())?.0;
    let [Some(certificate), Some(key), client_authorities] = paths else {
        reader.conflict(set, "TLS needs both a certificate and its key");
        return None;
    };
    let files = TlsFiles { certificate, key, client_authorities };
    if let Err(error) = files.load() {
        let name = match &error.path {
            path if *path == files.certificate => NAMES[0],
            path if *path == files.key => NAMES[1],
            _ => NAMES[2],
        };
        reader.conflict(name, &error.to_string());
    }
    Some(files)
}

/// Reads the address of a listener for operators.
pub(super) fn address(reader: &mut Reader<impl Source>, name: &'static str) -> Option<SocketAddr> {
    reader.optional(name, |text| text.parse().ok())
}
