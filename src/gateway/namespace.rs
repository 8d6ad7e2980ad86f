//! The Socket.IO namespace: connects an admitted node, or returns its refusal.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::{ConnectHandler, DisconnectHandler};
use socketioxide::service::SocketIoService as Service;
use socketioxide::socket::{DisconnectReason, Socket};
use socketioxide::{ParserConfig, SocketIo, TransportType};
use socketioxide_core::Value;
use tower_layer::Layer;

use super::events::Events;
use super::upgrade::Decision;
use crate::broker::{AdmissionError, Session};
use link::{CloseReason, MAX_MESSAGE_BYTES};

/// What takes over an upgraded connection.
pub(crate) type SocketIoService = Service<()>;

/// How long a client may take from the upgrade to its CONNECT packet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What one connection's read buffer holds between messages. The link reads more than that at once
/// and hands it on in portions, so a small buffer costs no system calls.
const READ_BUFFER_BYTES: usize = 512;

/// How many packets of the transport may wait to be written to one connection: heartbeats and
/// replies to CONNECT. All others go through the outbox of the link.
const MAX_QUEUED_PACKETS: usize = 64;

/// What an operator decides about the transport.
#[derive(Debug, Clone, Copy)]
pub struct TransportSettings {
    /// The time between two heartbeats.
    pub ping_interval: Duration,
    /// How long a heartbeat's answer may take.
    pub ping_timeout: Duration,
}

/// The service for upgraded connections, with the main namespace on it.
pub(crate) fn socket_io(settings: TransportSettings) -> SocketIoService {
    let (layer, io) = SocketIo::builder()
        .transports([TransportType::Websocket])
        .ping_interval(settings.ping_interval)
        .ping_timeout(settings.ping_timeout)
        .connect_timeout(CONNECT_TIMEOUT)
        .max_payload(MAX_MESSAGE_BYTES as u64)
        .ws_max_message_size(MAX_MESSAGE_BYTES)
        .ws_max_frame_size(MAX_MESSAGE_BYTES)
        .ws_read_buffer_size(READ_BUFFER_BYTES)
        .max_buffer_size(MAX_QUEUED_PACKETS)
        .with_parser(
            ParserConfig::common()
                .max_incoming_binary_buf_size(MAX_MESSAGE_BYTES)
                .max_incoming_binaries(1),
        )
        .build_layer();
    io.ns("/", Namespace);
    layer.layer(())
}

/// Handlers of the main namespace.
#[derive(Clone)]
struct Namespace;

type Refused = Box<dyn Display + Send>;

impl ConnectHandler<LocalAdapter, Namespace> for Namespace {
    /// Runs before the CONNECT packet is answered: an error becomes the `connect_error`.
    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket>,
        _auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refused>> + Send + 'a>> {
        Box::pin(prepare(socket))
    }

    /// Runs after the CONNECT packet has been answered.
    fn call(&self, socket: Arc<Socket>, _auth: Option<Value>) {
        if let Some(Decision::Admitted(session)) = socket.req_parts().extensions.get() {
            session.connect();
        }
    }
}

/// Registers the handlers of an admitted node; an event may be there already.
async fn prepare(socket: Arc<Socket>) -> Result<(), Refused> {
    match socket.req_parts().extensions.get() {
        Some(Decision::Admitted(session)) => {
            // Where it has no ID for now, its connection is closing: the node reconnects when that
            // closes, and a refusal would be final.
            if let Err(AdmissionError::Refused(refusal)) = session.claim().await {
                session.connection().link().refuse();
                return Err(Box::new(refusal));
            }
            socket.on_fallback(Events(session.clone()));
            socket.on_disconnect(Departure(session.clone()));
            Ok(())
        }
        Some(Decision::Refused(refusal, link)) => {
            link.refuse();
            Err(Box::new(*refusal))
        }
        None => Err(Box::new("the connection did not come through the gate")),
    }
}

/// Closes the connection of a node that left the namespace: it has nothing else to do there.
struct Departure(Arc<Session>);

impl DisconnectHandler<LocalAdapter, Departure> for Departure {
    fn call_with_defer(
        &self,
        socket: Arc<Socket>,
        reason: DisconnectReason,
        then: fn(Arc<Socket>),
    ) {
        let reason = match reason {
            DisconnectReason::ClientNSDisconnect => CloseReason::NodeLeft,
            _ => CloseReason::Transport,
        };
        self.0.connection().link().close(reason);
        then(socket);
    }
}
