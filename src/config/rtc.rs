//! Reads the configuration of STUN and TURN.

use super::Source;
use super::reader::Reader;
use crate::broker::{StaticRtc, TurnServers};
use crate::protocol::{IceServer, RtcConfiguration, is_stun_url, is_turn_url};

/// Reads what a node is given if there is no webhook to ask.
pub(super) fn read(reader: &mut Reader<impl Source>) -> StaticRtc {
    let stun_urls = reader.list("STUN_URLS", is_stun_url);
    let turn_urls = reader.list("TURN_URLS", is_turn_url);
    let credential_ttl = reader.milliseconds("TURN_CREDENTIAL_TTL_MS", 1000);
    let written = reader.file("RTC_CONFIGURATION_FILE", |bytes| {
        let configuration = serde_json::from_slice(&bytes).ok()?;
        RtcConfiguration::from_json(configuration).ok()
    });
    let secret = reader.secret("TURN_SECRET", |text| Some(text.to_owned()));
    if written.is_some() && !(stun_urls.is_empty() && turn_urls.is_empty()) {
        reader.conflict("RTC_CONFIGURATION_FILE", "STUN_URLS or TURN_URLS are set too");
    }
    match (written, secret) {
        (Some(written), _) => StaticRtc::Fixed(written),
        (None, Some(secret)) if !turn_urls.is_empty() => {
            StaticRtc::Turn(TurnServers { stun_urls, turn_urls, secret, credential_ttl })
        }
        (None, secret) => {
            if secret.is_some() || !turn_urls.is_empty() {
                reader.conflict("TURN_URLS", "TURN needs both TURN_URLS and a TURN_SECRET");
            }
            StaticRtc::Fixed(if stun_urls.is_empty() {
                RtcConfiguration::public_stun()
            } else {
                RtcConfiguration::with_servers(&[IceServer::stun(stun_urls)])
            })
        }
    }
}
