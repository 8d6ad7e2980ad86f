//! The peer-relay network as the broker sees it: the crate `peer_relay` in builds with the feature
//! `overlay`, and types without values in others, so that nothing else depends on the feature.

#[cfg(not(feature = "overlay"))]
mod absent;

#[cfg(not(feature = "overlay"))]
pub(crate) use absent::{ChannelPermit, Events, Peer, PeerEvent, PeerId, SendError};
#[cfg(feature = "overlay")]
pub(crate) use peer_relay::{
    ChannelPermit, Events, IdFileError, Peer, PeerEvent, PeerId, PeerSettings, SendError,
};
