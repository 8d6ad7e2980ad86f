//! Reads the configuration of the peer-relay network.

#[cfg(feature = "overlay")]
use std::net::IpAddr;
use std::path::PathBuf;
#[cfg(feature = "overlay")]
use std::str::FromStr;

#[cfg(feature = "overlay")]
use peer_relay::PeerSettings;
#[cfg(feature = "overlay")]
use url::Url;

use super::Source;
use super::reader::Reader;
use link::LinkLimits;

/// The longest path, in bytes.
const MAX_PATH_BYTES: usize = 128;

/// The paths that are taken.
const OWN_PATHS: [&str; 4] = ["/socket.io", "/health", "/metrics", "/readyz"];

/// The peer-relay network.
#[derive(Debug, Clone)]
pub struct PeerRelayConfig {
    /// The path of the endpoint; the broker is a peer if it is set.
    pub path: Option<String>,
    /// The broker as a peer. It does not listen on a port of its own: it gets the connections to
    /// `path`.
    #[cfg(feature = "overlay")]
    pub peer: PeerSettings,
    /// The file that keeps the peer's ID.
    pub id_file: Option<PathBuf>,
    /// Whether nodes and peers can send to each other.
    pub bridge: bool,
}

impl PeerRelayConfig {
    pub(super) fn read(
        reader: &mut Reader<impl Source>,
        #[cfg_attr(not(feature = "overlay"), allow(unused))] limits: LinkLimits,
    ) -> Self {
        Self {
            path: path(reader),
            #[cfg(feature = "overlay")]
            peer: peer(reader, limits),
            id_file: reader.optional("PEER_RELAY_ID_FILE", |path| Some(path.into())),
            bridge: reader.switch("PEER_RELAY_BRIDGE"),
        }
    }

    /// Returns how many channels there may be; none in a build without the network.
    pub(crate) fn max_channels(&self) -> usize {
        #[cfg(feature = "overlay")]
        let channels = self.peer.max_channels;
        #[cfg(not(feature = "overlay"))]
        let channels = 0;
        channels
    }
}

/// A length of messages.
#[cfg(feature = "overlay")]
struct MessageBytes(usize);

#[cfg(feature = "overlay")]
impl FromStr for MessageBytes {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = text.parse().ok();
        let range = PeerSettings::MIN_MESSAGE_BYTES..=peer_relay::MAX_MESSAGE_BYTES;
        bytes.filter(|bytes| range.contains(bytes)).map(Self).ok_or(())
    }
}

#[cfg(feature = "overlay")]
fn peer(reader: &mut Reader<impl Source>, limits: LinkLimits) -> PeerSettings {
    PeerSettings {
        bootstrap: reader.secret("PEER_RELAY_BOOTSTRAP", urls).unwrap_or_default(),
        public_url: reader.url("PEER_RELAY_PUBLIC_URL", &["ws", "wss"]),
        webrtc: reader.optional("PEER_RELAY_WEBRTC", webrtc),
        dial: reader.parsed("PEER_RELAY_DIAL"),
        max_channels: reader.number("PEER_RELAY_MAX_CHANNELS", 1),
        max_message_bytes: reader.parsed::<MessageBytes>("PEER_RELAY_MAX_MESSAGE_BYTES").0,
        limits,
        ..PeerSettings::default()
    }
}

fn path(reader: &mut Reader<impl Source>) -> Option<String> {
    let path = reader.optional("PEER_RELAY_PATH", |text| is_path(text).then(|| text.into()));
    if path.is_some() && cfg!(not(feature = "overlay")) {
        let problem =
            "this program was built without the peer-relay network (the cargo feature overlay)";
        reader.conflict("PEER_RELAY_PATH", problem);
    }
    path
}

/// Whether a text is a path that nothing else is at.
fn is_path(text: &str) -> bool {
    let is_plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    let is_taken = OWN_PATHS.iter().any(|own| {
        text.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let segments = text.strip_prefix('/');
    text.len() <= MAX_PATH_BYTES
        && !is_taken
        && (text == "/" || segments.is_some_and(|segments| segments.split('/').all(is_plain)))
}

#[cfg(feature = "overlay")]
/// An address that others can send to, in a build that has WebRTC.
fn webrtc(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let is_usable =
        cfg!(feature = "webrtc") && !address.is_unspecified() && !address.is_multicast();
    is_usable.then_some(address)
}

#[cfg(feature = "overlay")]
/// URLs separated by commas; their text may be secret.
fn urls(text: &str) -> Option<Vec<Url>> {
    let url = |text: &str| {
        let url = Url::parse(text.trim()).ok();
        url.filter(|url| matches!(url.scheme(), "ws" | "wss"))
    };
    text.split(',').map(url).collect()
}
