//! The part of the configuration that is about connections before they are WebSockets.

use super::Source;
use super::reader::Reader;
use crate::gateway::{ListenerSettings, ProxyProtocol};

pub(super) fn read(reader: &mut Reader<impl Source>) -> ListenerSettings {
    let settings = ListenerSettings {
        trusted_proxies: reader
            .optional("TRUSTED_PROXIES", |text| text.parse().ok())
            .unwrap_or_default(),
        proxy_protocol: reader.parsed("PROXY_PROTOCOL"),
        http_idle_timeout: reader.milliseconds("HTTP_IDLE_TIMEOUT_MS", 1),
    };
    if settings.proxy_protocol != ProxyProtocol::Off && settings.trusted_proxies.is_empty() {
        reader.conflict("PROXY_PROTOCOL", "TRUSTED_PROXIES names nobody who may speak it");
    }
    settings
}
