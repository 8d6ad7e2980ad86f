//! The way into the peer-relay network: TCP, the upgrade, the IDs of both sides, until the peer has
//! shown that it knows of the newcomer.

use super::{Door, Entrance, NotIn, TIMEOUT};
use crate::connection::Connection;
use crate::frame::{self, Opcode};
use crate::peer::{PeerId, PeerMessage};

impl Door {
    /// Makes a channel to the peer with this place, which listens on this path; gives that peer's
    /// ID too.
    ///
    /// # Errors
    /// See [`NotIn`].
    pub async fn join(
        &self,
        place: usize,
        path: &str,
        own: &PeerId,
    ) -> Result<(Connection, PeerId), NotIn> {
        let joined = async {
            let target = if path.is_empty() { "/" } else { path };
            let mut entrance = self.upgrade(place, target).await?;
            let other = entrance.exchange_ids(own).await?;
            Ok((self.connection(entrance), other))
        };
        match tokio::time::timeout(TIMEOUT, joined).await {
            Ok(joined) => joined,
            Err(_) => Err(NotIn::Broken("not connected in time".into())),
        }
    }
}

impl Entrance {
    /// Sends the own ID and waits for the other one. That comes without waiting for the own, so
    /// what shows that messages can be sent to this side is the first message that was: every peer
    /// asks a new neighbour for the peers that it knows.
    async fn exchange_ids(&mut self, own: &PeerId) -> Result<PeerId, NotIn> {
        self.send(own.to_frame().as_bytes()).await?;
        let mut other = None;
        loop {
            let Some((frame, taken)) = frame::parse(&self.bytes)? else {
                self.read().await?;
                continue;
            };
            let mut is_in = false;
            match (frame.opcode, other) {
                (Opcode::Close, _) => {
                    return Err(NotIn::Broken("closed on the way in".into()));
                }
                (Opcode::Text, None) => {
                    let id = PeerId::parse(frame.payload);
                    other = Some(id.ok_or_else(|| NotIn::Refused("no peer-relay ID".into()))?);
                }
                (Opcode::Text, Some(_)) => {
                    let message = serde_json::from_slice::<PeerMessage<'_>>(frame.payload);
                    is_in = message.is_ok_and(|message| message.to == *own);
                }
                _ => {}
            }
            self.bytes.drain(..taken);
            if let (true, Some(other)) = (is_in, other) {
                return Ok(other);
            }
        }
    }
}
