//! One client connection, below HTTP and WebSocket.
//!
//! A WebSocket library moves messages. It does not notice a peer that stopped reading, cannot ask
//! whether a silent peer is alive, and cannot end a connection for certain. That is done here: a
//! [`Link`] is the stream that HTTP and WebSocket read and write, and a [`LinkHandle`] is what the
//! rest of the program holds of it.
//!
//! - [`LinkHandle::send_event`] and [`LinkHandle::send_ack`] queue finished frames in the link's
//!   outbox. The stream writes them between two frames of the transport.
//! - [`LinkHandle::kill`] and [`LinkHandle::close`] end the connection, at once or after what is
//!   queued. [`LinkHandle::on_close`] attaches what must end with it.
//! - [`LinkHandle::probe`] checks that the peer is alive.
//! - A byte that waits for the peer to read for [`LinkLimits::write_timeout`] ends the connection,
//!   however much has left before it. So does a message that takes the peer longer than
//!   [`LinkLimits::message_timeout`].
//! - Reading pauses while too many acks are unwritten or too many events are pending, in number or in
//!   bytes: backpressure instead of a queue that grows.
//! - Reading pauses too while a peer sends more than [`LinkLimits`] allow in a second, and after every
//!   few messages other connections have their turn. Where a paused peer lives, its heartbeats are
//!   answered for it.
//! - Long incoming messages reach the transport in fragments: its read buffer would keep the size
//!   of the longest one for as long as the connection lives.
//! - Bytes behind a node's CONNECT packet are held back until [`LinkHandle::admit`]: the transport
//!   would take them for a protocol error while it is still connecting the node.
//!
//! # Reading order
//!
//! `packet`, `frame`: the formats. `handle`: the state that the stream and its handles share.
//! `outbox`, `send_queue`: what waits to be written, and what a push may cost. `read_buffer`,
//! `incoming`, `fragments`, `names`, `throttle`: what is read. `output`, `write_deadline`: what is
//! written, and by when. `stream`, `pacing`, `closing`: the life of a connection. `set`: all
//! connections.

mod close_reason;
mod closing;
mod fragments;
mod frame;
mod handle;
mod incoming;
mod names;
mod outbox;
mod output;
mod pacing;
mod packet;
mod read_buffer;
mod send_queue;
mod set;
mod stream;
mod throttle;
mod write_deadline;

pub use close_reason::CloseReason;
pub use fragments::MAX_MESSAGE_BYTES;
pub use handle::{LinkHandle, LinkLimits};
pub use names::{ESCAPE, json_name};
pub use send_queue::{PendingEvent, SendError, SendPermit};
pub use set::{BareLink, LinkSet};
pub use stream::{Link, Socket};
pub use throttle::RateLimit;
