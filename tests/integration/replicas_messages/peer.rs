//! A replica written by hand, which consists of its channel.

use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSub};
use tokio::time::timeout;

use crate::support::{RedisServer, SOON};

pub const DELIVER: u8 = 1;
pub const CONTEST: u8 = 2;
pub const UNKNOWN: u8 = 128;
pub const DELIVERED: u8 = 129;
pub const CONTESTED: u8 = 130;

/// A replica that consists of its channel.
pub struct Peer {
    id: uuid::Uuid,
    commands: MultiplexedConnection,
    channel: PubSub,
    sequence: u64,
    /// Bytes behind each body, as a later version may have.
    pub suffix: &'static [u8],
}

/// One entry of a frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: u8,
    pub id: u64,
    pub body: Vec<u8>,
}

impl Peer {
    pub async fn start(redis: &RedisServer) -> Self {
        let client = redis::Client::open(redis.url()).unwrap();
        let id = uuid::Uuid::new_v4();
        let mut channel = client.get_async_pubsub().await.unwrap();
        channel.subscribe(format!("crolang:channel:{}", id.simple())).await.unwrap();
        let commands = client.get_multiplexed_async_connection().await.unwrap();
        redis.command(&["SET", &format!("crolang:replica:{}", id.simple()), "9.9.9"]);
        Self { id, commands, channel, sequence: 0, suffix: b"" }
    }

    /// Makes a connection of this peer the owner of the node's ID.
    pub fn claim(&self, redis: &RedisServer, node: &str, connection: u64) {
        let owner = format!("{}:{connection}", self.id.simple());
        redis.command(&["SET", &format!("crolang:node:{node}"), &owner]);
    }

    /// The next frame, with these entries.
    pub fn frame(&mut self, entries: &[Entry]) -> Vec<u8> {
        self.sequence += 1;
        let mut frame = vec![1];
        frame.extend(self.id.as_bytes());
        frame.extend(self.sequence.to_be_bytes());
        for Entry { kind, id, body } in entries {
            frame.push(*kind);
            frame.extend(id.to_be_bytes());
            frame.extend(((body.len() + self.suffix.len()) as u32).to_be_bytes());
            frame.extend(body);
            frame.extend(self.suffix);
        }
        frame
    }

    /// Publishes bytes on a replica's channel; somebody has to listen there.
    pub async fn publish(&mut self, replica: &str, bytes: &[u8]) {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(format!("crolang:channel:{replica}")).arg(bytes);
        let listeners: u64 = publish.query_async(&mut self.commands).await.unwrap();
        assert_eq!(listeners, 1);
    }

    pub async fn say(&mut self, replica: &str, entries: &[Entry]) {
        let frame = self.frame(entries);
        self.publish(replica, &frame).await;
    }

    /// The entries of the next frame.
    pub async fn hear(&mut self) -> Vec<Entry> {
        let message = timeout(SOON, self.channel.on_message().next()).await.expect("a frame comes");
        let frame = message.unwrap().get_payload_bytes().to_vec();
        assert_eq!(frame[0], 1);
        let mut rest = &frame[1 + 16 + 8..];
        let mut entries = Vec::new();
        while let Some((&kind, behind)) = rest.split_first() {
            let (id, length) = (&behind[..8], &behind[8..12]);
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
            let (body, behind) = behind[12..].split_at(length);
            let id = u64::from_be_bytes(id.try_into().unwrap());
            entries.push(Entry { kind, id, body: body.to_vec() });
            rest = behind;
        }
        entries
    }

    /// So many entries, in any number of frames.
    pub async fn hear_many(&mut self, count: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        while entries.len() < count {
            entries.extend(self.hear().await);
        }
        assert_eq!(entries.len(), count, "{entries:?}");
        entries
    }

    /// The one entry that comes next.
    pub async fn hear_one(&mut self) -> Entry {
        self.hear_many(1).await.remove(0)
    }
}

pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

/// A request to deliver.
pub fn deliver(id: u64, connection: u64, event: u8, to: &str, argument: &str) -> Entry {
    let body = [
        &connection.to_be_bytes()[..],
        &[event],
        &text(to),
        &text(""),
        &0_u64.to_be_bytes(),
        &text(argument),
    ];
    Entry { kind: DELIVER, id, body: body.concat() }
}

pub fn answer(kind: u8, id: u64, body: &[u8]) -> Entry {
    Entry { kind, id, body: body.to_vec() }
}
