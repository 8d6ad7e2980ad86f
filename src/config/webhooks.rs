//! Reads the configuration of webhooks.

use super::Source;
use super::reader::Reader;
use crate::lifecycle::LifecycleSettings;
use crate::secret_url::SecretUrl;
use crate::webhooks::{CallSettings, DataFormat, ExtraRoots, Signer, WebhookSettings};

/// Reads which webhooks there are and how they are called.
pub(super) fn read(reader: &mut Reader<impl Source>) -> WebhookSettings {
    let mut url = |name| reader.url(name, &["http", "https"]).map(SecretUrl::from);
    WebhookSettings {
        authentication: url("NODES_AUTHENTICATION_WEBHOOK_URL"),
        authorization: url("AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL"),
        validity: url("NODES_VALIDITY_CHECK_WEBHOOK_URL"),
        rtc_configuration: url("RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL"),
        socket_message: url("ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL"),
        node_events: url("NODE_EVENTS_WEBHOOK_URL"),
        authentication_data_format: reader.choice(
            "AUTHENTICATION_DATA_FORMAT",
            &[("object", DataFormat::Object), ("string", DataFormat::String)],
        ),
        authorization_cache_ttl: reader.milliseconds("AUTHORIZATION_CACHE_TTL_MS", 0),
        validity_check_interval: reader.milliseconds("NODES_STATUS_CHECK_INTERVAL_MS", 1),
        validity_check_batch_size: reader.number("VALIDITY_CHECK_BATCH_SIZE", 1),
        node_events_batch_size: reader.number("NODE_EVENTS_BATCH_SIZE", 1),
        calls: CallSettings {
            timeout: reader.milliseconds("WEBHOOK_TIMEOUT_MS", 1),
            max_in_flight: reader.number("WEBHOOK_MAX_IN_FLIGHT", 1),
            extra_roots: reader.file("WEBHOOK_CA_FILE", |pem| ExtraRoots::parse(&pem)),
            proxy: reader.url("WEBHOOK_PROXY", &["http", "https"]).map(SecretUrl::from),
            signer: reader.secret("WEBHOOK_SECRET", |text| Signer::parse(text).ok()),
        },
    }
}

/// Reads which events of nodes there are.
pub(super) fn read_lifecycle(reader: &mut Reader<impl Source>) -> LifecycleSettings {
    LifecycleSettings {
        max_queued: reader.number("NODE_EVENTS_MAX_QUEUED", 1),
        debounce: reader.milliseconds("NODE_EVENTS_DEBOUNCE_MS", 0),
        max_refusals_per_second: reader.number("NODE_EVENTS_MAX_REFUSALS_PER_SECOND", 0),
    }
}
