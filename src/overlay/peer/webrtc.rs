//! What WebRTC channels need of their peer, in builds that have them; and that nothing comes of
//! them in others.

#[cfg(not(feature = "webrtc"))]
use std::time::Instant;

use super::Inner;
#[cfg(not(feature = "webrtc"))]
use crate::overlay::id::PeerId;
#[cfg(not(feature = "webrtc"))]
use crate::overlay::message::Signal;
#[cfg(feature = "webrtc")]
use crate::overlay::webrtc::WebRtc;
#[cfg(feature = "webrtc")]
use link::LinkSet;

#[cfg(feature = "webrtc")]
impl Inner {
    pub(in crate::overlay) fn webrtc(&self) -> Option<&WebRtc> {
        self.webrtc.as_ref()
    }

    pub(in crate::overlay) fn dial_failed(&self) {
        self.counters.dial_failed();
    }

    pub(in crate::overlay) fn links(&self) -> &LinkSet {
        &self.links
    }

    /// Runs something that this peer awaits when it ends.
    pub(in crate::overlay) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }
}

/// Nobody is told that this peer has WebRTC, so nobody gets as far as here.
#[cfg(not(feature = "webrtc"))]
impl Inner {
    pub(super) fn call(&self, id: PeerId) {
        self.membership().unreachable(Instant::now(), id);
    }

    pub(super) fn take_signal(&self, id: PeerId, _signal: Signal) {
        self.call(id);
    }
}
