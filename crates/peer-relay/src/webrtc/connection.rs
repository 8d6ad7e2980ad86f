//! One WebRTC connection with one data channel: ICE, DTLS and SCTP, without I/O. The library
//! `rtc` is known here alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::crypto::{self, RTCCryptoProvider, SignatureScheme};
use rtc::data_channel::RTCDataChannelId;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::certificate::{CertificateParams, RTCCertificate};
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::setting_engine::{
    SctpMaxMessageSize, SettingEngineBuilder,
};
use rtc::peer_connection::event::{RTCDataChannelEvent, RTCPeerConnectionEvent};
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{
    CandidateConfig, CandidateHostConfig, RTCDtlsRole, RTCIceCandidate,
};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use super::MAX_WEBRTC_MESSAGE_BYTES;
use super::description::Description;
use crate::id::PeerId;

/// The silence after which a connection counts as ended, in two parts. The other side asks for
/// consent every few seconds (RFC 7675).
const SILENCE: Duration = Duration::from_secs(15);

/// What may wait in the library for the messages of this side to be read.
const RECEIVE_BUFFER_BYTES: u32 = 256 * 1024;

/// The certificate of all connections of a peer; it says nothing about whom it belongs to.
pub(crate) struct Identity {
    certificate: RTCCertificate,
    provider: Arc<dyn RTCCryptoProvider>,
}

/// A connection, and what it is to be told.
pub(crate) struct Connection {
    /// Boxed: it is large.
    library: Box<RTCPeerConnection>,
    local: SocketAddr,
    channel: Option<RTCDataChannelId>,
}

/// What came of a connection.
#[derive(Debug)]
pub(crate) enum Event {
    /// The channel is open.
    Open,
    /// The other side sent this on it.
    Message(BytesMut),
    /// The channel, or what is below it, has ended.
    Over,
    /// The other side did what no peer does.
    Odd,
}

impl Identity {
    /// # Errors
    /// If the library's cryptography fails.
    pub(crate) fn generate() -> Result<Self, Error> {
        let provider =
            crypto::default_provider().map_err(|error| Error::Other(error.to_string()))?;
        let params =
            CertificateParams::new(Vec::new()).map_err(|error| Error::Other(error.to_string()))?;
        let scheme = SignatureScheme::EcdsaP256Sha256;
        let certificate = RTCCertificate::generate(provider.crypto(), scheme, params)?;
        Ok(Self { certificate, provider })
    }
}

impl Connection {
    /// One that the other side has offered, and the SDP that answers it.
    ///
    /// # Errors
    /// If the library does not take the offer.
    pub(crate) fn answer(
        now: Instant,
        identity: &Identity,
        local: SocketAddr,
        offer: &Description,
    ) -> Result<(Self, String), Error> {
        let mut connection = Self::new(now, identity, local)?;
        let offer = RTCSessionDescription::offer(offer.to_sdp())?;
        connection.library.set_remote_description(now, offer)?;
        connection.tell_address()?;
        let answer = connection.library.create_answer(None)?;
        connection.library.set_local_description(now, answer)?;
        let sdp = connection.description()?;
        Ok((connection, sdp))
    }

    /// One that this side offers, and the SDP to do it.
    ///
    /// # Errors
    /// If the library fails.
    pub(crate) fn offer(
        now: Instant,
        identity: &Identity,
        local: SocketAddr,
    ) -> Result<(Self, String), Error> {
        let mut connection = Self::new(now, identity, local)?;
        // The original's channels have random names too; nobody reads them.
        let name = PeerId::random(&mut rand::rng()).to_string();
        connection.channel = Some(connection.library.create_data_channel(&name, None)?.id());
        connection.tell_address()?;
        let offer = connection.library.create_offer(None)?;
        connection.library.set_local_description(now, offer)?;
        let sdp = connection.description()?;
        Ok((connection, sdp))
    }

    /// The other side answers what this one has offered.
    ///
    /// # Errors
    /// If the library does not take the answer.
    pub(crate) fn take_answer(&mut self, now: Instant, answer: &Description) -> Result<(), Error> {
        let answer = RTCSessionDescription::answer(answer.to_sdp())?;
        self.library.set_remote_description(now, answer)
    }

    fn new(now: Instant, identity: &Identity, local: SocketAddr) -> Result<Self, Error> {
        let settings = SettingEngineBuilder::new()
            .with_crypto_provider(identity.provider.clone())
            // Asks no address that another peer names.
            .with_lite(true)
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_include_loopback_candidate(true)
            // The other side speaks first, from the address that it has proved to be at.
            .with_answering_dtls_role(RTCDtlsRole::Server)
            .with_ice_timeouts(Some(SILENCE), Some(SILENCE), None)
            .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(MAX_WEBRTC_MESSAGE_BYTES as u32))
            .with_sctp_max_receive_buffer_size(RECEIVE_BUFFER_BYTES)
            .build();
        let configuration = RTCConfigurationBuilder::new()
            .with_certificates(vec![identity.certificate.clone()])
            .build();
        let library = RTCPeerConnectionBuilder::new()
            .with_configuration(configuration)
            .with_setting_engine(settings)
            .build(now)?;
        Ok(Self { library: Box::new(library), local, channel: None })
    }

    fn tell_address(&mut self) -> Result<(), Error> {
        let candidate = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: self.local.ip().to_string(),
                port: self.local.port(),
                component: 1,
                ..Default::default()
            },
            ..Default::default()
        };
        let candidate = RTCIceCandidate::from(&candidate.new_candidate_host()?).to_json()?;
        self.library.add_local_candidate(candidate)
    }

    fn description(&self) -> Result<String, Error> {
        let description = self.library.local_description();
        Ok(description.ok_or(Error::ErrPeerConnLocalDescriptionNil)?.sdp)
    }

    /// A datagram came. What the library cannot use is dropped.
    pub(crate) fn datagram_in(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let transport = TransportContext {
            local_addr: self.local,
            peer_addr: from,
            ecn: None,
            transport_protocol: TransportProtocol::UDP,
        };
        let message = TaggedBytesMut { now, transport, message: BytesMut::from(datagram) };
        if let Err(error) = self.library.handle_read(message) {
            tracing::debug!(%from, %error, "a datagram was of no use");
        }
    }

    /// The next datagram to send.
    pub(crate) fn datagram_out(&mut self) -> Option<(SocketAddr, BytesMut)> {
        let out = self.library.poll_write()?;
        Some((out.transport.peer_addr, out.message))
    }

    /// When [`Connection::time_passed`] is to be called.
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        self.library.poll_timeout()
    }

    /// Time has passed.
    ///
    /// # Errors
    /// If the connection cannot go on.
    pub(crate) fn time_passed(&mut self, now: Instant) -> Result<(), Error> {
        self.library.handle_timeout(now)
    }

    /// What has happened.
    pub(crate) fn event(&mut self) -> Option<Event> {
        while let Some(event) = self.library.poll_event() {
            match event {
                RTCPeerConnectionEvent::OnConnectionStateChangeEvent(
                    RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed,
                ) => return Some(Event::Over),
                RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnOpen(id)) => {
                    // There is one, no matter who made it.
                    let is_first = *self.channel.get_or_insert(id) == id;
                    return Some(if is_first { Event::Open } else { Event::Odd });
                }
                RTCPeerConnectionEvent::OnDataChannel(
                    RTCDataChannelEvent::OnClosing(id)
                    | RTCDataChannelEvent::OnClose(id)
                    | RTCDataChannelEvent::OnError(id),
                ) if self.channel == Some(id) => return Some(Event::Over),
                _ => {}
            }
        }
        while let Some(TaggedRTCMessage { message, .. }) = self.library.poll_read() {
            if let RTCMessage::DataChannelMessage(id, message) = message
                && self.channel == Some(id)
            {
                return Some(Event::Message(message.data));
            }
        }
        None
    }

    /// Sends a text on the channel.
    ///
    /// # Errors
    /// If the channel is not open.
    pub(crate) fn send(&mut self, now: Instant, text: &str) -> Result<(), Error> {
        let channel = self.channel.and_then(|id| self.library.data_channel(id));
        channel.ok_or(Error::ErrDataChannelClosed)?.send_text(now, text)
    }

    /// How many bytes the other side has not confirmed.
    pub(crate) fn unconfirmed(&mut self) -> usize {
        let channel = self.channel.and_then(|id| self.library.data_channel(id));
        channel.map_or(0, |channel| channel.outstanding_bytes())
    }

    /// Ends the connection; there may be datagrams to send.
    pub(crate) fn close(&mut self) {
        if let Err(error) = self.library.close() {
            tracing::debug!(%error, "a connection did not close well");
        }
    }
}
