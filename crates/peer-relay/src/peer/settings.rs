//! The settings of a peer.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::id::PeerId;
use link::LinkLimits;

/// Which URLs a peer dials (`PEER_RELAY_DIAL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DialPolicy {
    /// Those of its bootstrap peers only.
    #[default]
    Bootstrap,
    /// Also those that other peers send for themselves. Anyone who can reach this peer can then make
    /// it connect to any address that it can reach.
    Any,
}

impl FromStr for DialPolicy {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "bootstrap" => Self::Bootstrap,
            "any" => Self::Any,
            _ => return Err(()),
        })
    }
}

/// The settings of a peer. The default has a random ID, and neither listens nor knows any peer.
#[derive(Clone)]
pub struct PeerSettings {
    /// Its ID; `None` for a random one.
    pub id: Option<PeerId>,
    /// The address that it listens on itself, whatever path is asked for; a port of 0 takes a
    /// free one.
    pub listen: Option<SocketAddr>,
    /// The URLs of the peers that it enters the network by; it always comes back to them.
    pub bootstrap: Vec<Url>,
    /// The URL that others are told; a port of 0 in it stands for the one that is listened on.
    pub public_url: Option<Url>,
    /// The IP address that others reach it at by UDP, for WebRTC channels; each has a port of its
    /// own. None, and a build without the feature `webrtc`, is without such channels.
    pub webrtc: Option<IpAddr>,
    /// Which URLs it dials.
    pub dial: DialPolicy,
    /// The most channels at a time, those to bootstrap peers aside.
    pub max_channels: usize,
    /// The most connections of one address to `listen`; `None` for a quarter of `max_channels`, or
    /// for 100 if that is more.
    pub max_channels_per_address: Option<usize>,
    /// The longest message in bytes, as a frame of a WebSocket; from 4096 to [`MAX_MESSAGE_BYTES`].
    /// Messages over WebRTC have at most 64 KiB.
    ///
    /// [`MAX_MESSAGE_BYTES`]: link::MAX_MESSAGE_BYTES
    pub max_message_bytes: usize,
    /// The limits of every channel's connection.
    pub limits: LinkLimits,
    /// Whether the process has memory for one more channel; `None` if that is nobody's concern.
    pub admits: Option<Admits>,
}

/// Says whether there is memory for one more channel.
pub type Admits = Arc<dyn Fn() -> bool + Send + Sync>;

impl fmt::Debug for PeerSettings {
    /// Leaves the URLs out: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerSettings")
            .field("id", &self.id)
            .field("listen", &self.listen)
            .field("webrtc", &self.webrtc)
            .field("dial", &self.dial)
            .field("max_channels", &self.max_channels)
            .field("max_channels_per_address", &self.max_channels_per_address)
            .field("max_message_bytes", &self.max_message_bytes)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            id: None,
            listen: None,
            bootstrap: Vec::new(),
            public_url: None,
            webrtc: None,
            dial: DialPolicy::default(),
            max_channels: 10_000,
            max_channels_per_address: None,
            max_message_bytes: link::MAX_MESSAGE_BYTES,
            limits: LinkLimits {
                write_timeout: Duration::from_secs(10),
                message_timeout: Duration::from_secs(10),
                max_queued_bytes: 1024 * 1024,
                max_messages_per_second: None,
                max_bytes_per_second: None,
            },
            admits: None,
        }
    }
}

impl PeerSettings {
    /// The least that [`PeerSettings::max_message_bytes`] may be.
    pub const MIN_MESSAGE_BYTES: usize = 4096;

    pub(crate) fn max_channels_per_address(&self) -> usize {
        self.max_channels_per_address.unwrap_or((self.max_channels / 4).max(100))
    }

    /// The URL that others are told, with the real port.
    pub(crate) fn public_url(&self, local: Option<SocketAddr>) -> Option<String> {
        let mut url = self.public_url.clone()?;
        if let (Some(0), Some(local)) = (url.port(), local) {
            // Fails for URLs without a host only, which have no port either.
            let _ = url.set_port(Some(local.port()));
        }
        Some(url.into())
    }
}
