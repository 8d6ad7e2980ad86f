//! Nodes that come, talk and go. Each client of the crowd has a task of its own, and nothing that happens
//! to its connection is a failure: the history tells.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use socket2::SockRef;
use test_support::{SOON, eventually_within};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::events::EVENTS;
use crate::history::{Ack, Event, History, MessageNumber, VisitNumber};
use crate::{CLIENTS_PER_ID, IDS};

/// What a replica asks to hear whether a node is alive.
const HEARTBEAT: &str = "2";

/// How long the last acks may take.
const LAST_ACKS: Duration = Duration::from_secs(8);

/// How long everybody talks once nothing fails any more.
const SETTLED: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// All come and go, and several want the same ID.
    Roam,
    /// Each ID has one client, which stays.
    Stay,
    /// Nobody sends any more.
    Listen,
    Leave,
}

/// All clients.
pub struct Crowd {
    history: Arc<History>,
    mode: watch::Sender<Mode>,
    totals: Arc<Totals>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Totals {
    /// How many of the clients that stay to the end are connected.
    present: AtomicUsize,
    /// How many messages wait for their ack.
    unacked: AtomicUsize,
}

impl Crowd {
    /// Starts the clients of a cluster whose replicas listen on these addresses.
    pub fn start(addresses: Vec<SocketAddr>, random: &mut StdRng) -> Self {
        let history = Arc::new(History::begin());
        let mode = watch::Sender::new(Mode::Roam);
        let totals = Arc::<Totals>::default();
        let mut clients = JoinSet::new();
        for number in 0..IDS * CLIENTS_PER_ID {
            let client = Client {
                node: number % IDS,
                is_second: number >= IDS,
                addresses: addresses.clone(),
                history: history.clone(),
                mode: mode.subscribe(),
                totals: totals.clone(),
                random: StdRng::seed_from_u64(random.random()),
            };
            clients.spawn(client.run());
        }
        Self { history, mode, totals, clients }
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    /// Waits until each ID has its node, and lets them talk for a while.
    pub async fn settle(&self) {
        self.mode.send_replace(Mode::Stay);
        let are_in = || self.totals.present.load(Ordering::Relaxed) == IDS;
        eventually_within(2 * SOON, "every ID has its node", are_in).await;
        self.history.record(Event::Settled);
        sleep(SETTLED).await;
        self.mode.send_replace(Mode::Listen);
        let are_acked = || self.totals.unacked.load(Ordering::Relaxed) == 0;
        eventually_within(LAST_ACKS, "every message is acked", are_acked).await;
        assert!(are_in(), "somebody lost the connection when nothing failed");
    }

    /// Lets all leave; returns what they have seen.
    pub async fn leave(mut self) -> Vec<(Duration, Event)> {
        self.mode.send_replace(Mode::Leave);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        let history = Arc::into_inner(self.history).expect("all clients have ended");
        history.into_events()
    }
}

struct Client {
    node: usize,
    /// Whether it is not the first with its ID.
    is_second: bool,
    addresses: Vec<SocketAddr>,
    history: Arc<History>,
    mode: watch::Receiver<Mode>,
    totals: Arc<Totals>,
    random: StdRng,
}

/// A connection of an admitted node.
struct Visit {
    number: VisitNumber,
    socket: WebSocketStream<TcpStream>,
    /// What was sent and not acked, by the number of the ack.
    unacked: HashMap<u64, MessageNumber>,
    last_ack: u64,
}

/// The connection has ended.
struct Ended;

impl Client {
    async fn run(mut self) {
        loop {
            let mode = *self.mode.borrow_and_update();
            if mode == Mode::Leave || mode == Mode::Stay && self.is_second {
                return;
            }
            let replica = self.random.random_range(0..self.addresses.len());
            match timeout(SOON, self.enter(replica)).await {
                Ok(Ok(visit)) => self.visit(visit).await,
                _ => sleep(self.pause(50..400)).await,
            }
        }
    }

    /// Connects and waits for the greeting.
    async fn enter(&self, replica: usize) -> Result<Visit, Ended> {
        let address = self.addresses[replica];
        let stream = TcpStream::connect(address).await.map_err(|_| Ended)?;
        let query = format!("EIO=4&transport=websocket&id=node{}&version=1&runtime=r", self.node);
        let url = format!("ws://{address}/socket.io/?{query}");
        let (mut socket, _) =
            tokio_tungstenite::client_async(url, stream).await.map_err(|_| Ended)?;
        socket.send(Message::text("40")).await.map_err(|_| Ended)?;
        loop {
            match read(&mut socket).await? {
                Message::Text(text) if text.starts_with("44") => return Err(Ended),
                Message::Text(text) if text.starts_with("42[\"AUTHENTICATED\"") => break,
                Message::Text(text) if text == HEARTBEAT => reply(&mut socket).await?,
                _ => {}
            }
        }
        let number = self.history.entered(self.node, replica);
        Ok(Visit { number, socket, unacked: HashMap::new(), last_ack: 0 })
    }

    /// Talks until it is time to leave, or the connection ends.
    async fn visit(&mut self, mut visit: Visit) {
        let counted = usize::from(!self.is_second);
        self.totals.present.fetch_add(counted, Ordering::Relaxed);
        let ended = self.talk(&mut visit).await;
        self.totals.present.fetch_sub(counted, Ordering::Relaxed);
        self.totals.unacked.fetch_sub(visit.unacked.len(), Ordering::Relaxed);
        self.history.record(Event::Left { visit: visit.number });
        match (ended, self.random.random_range(0..3)) {
            (Ok(()), 0) => {
                let _ = timeout(SOON, visit.socket.send(Message::text("41"))).await;
                let _ = timeout(SOON, visit.socket.close(None)).await;
            }
            (Ok(()), 1) => {
                let _ = SockRef::from(visit.socket.get_ref()).set_linger(Some(Duration::ZERO));
            }
            // The kernel ends the connection.
            _ => {}
        }
    }

    async fn talk(&mut self, visit: &mut Visit) -> Result<(), Ended> {
        let until = Instant::now() + self.pause(1_000..12_000);
        let mut next_burst = Instant::now();
        loop {
            let mode = *self.mode.borrow_and_update();
            match mode {
                Mode::Roam if Instant::now() >= until => return Ok(()),
                Mode::Stay if self.is_second => return Ok(()),
                Mode::Leave => return Ok(()),
                _ => {}
            }
            tokio::select! {
                message = read(&mut visit.socket) => self.hear(visit, message?).await?,
                () = sleep_until(next_burst), if mode != Mode::Listen => {
                    self.burst(visit).await?;
                    next_burst = Instant::now() + self.pause(200..1_000);
                }
                _ = self.mode.changed() => {}
            }
        }
    }

    /// Sends a few messages at once to some nodes.
    async fn burst(&mut self, visit: &mut Visit) -> Result<(), Ended> {
        let receivers = self.random.random_range(1..3);
        for _ in 0..receivers {
            let to = (self.node + self.random.random_range(1..IDS)) % IDS;
            for _ in 0..self.random.random_range(1..5) {
                let event = EVENTS[self.random.random_range(0..EVENTS.len())];
                let number = self.history.sent(visit.number, to);
                let payload =
                    format!(r#"{{"from":"node{}","to":"node{to}","number":{number}}}"#, self.node);
                visit.last_ack += 1;
                visit.unacked.insert(visit.last_ack, number);
                self.totals.unacked.fetch_add(1, Ordering::Relaxed);
                let array = serde_json::json!([event, payload]);
                let packet = Message::text(format!("42{}{array}", visit.last_ack));
                timeout(SOON, visit.socket.feed(packet))
                    .await
                    .map_err(|_| Ended)?
                    .map_err(|_| Ended)?;
            }
        }
        timeout(SOON, visit.socket.flush()).await.map_err(|_| Ended)?.map_err(|_| Ended)
    }

    async fn hear(&self, visit: &mut Visit, message: Message) -> Result<(), Ended> {
        let Message::Text(text) = message else { return Ok(()) };
        if text == HEARTBEAT {
            return reply(&mut visit.socket).await;
        }
        if let Some(ack) = text.strip_prefix("43") {
            let (number, answer) = ack.split_at(ack.find('[').expect("an ack has arguments"));
            let number = number.parse().expect("an ack has a number");
            let message = visit.unacked.remove(&number).expect("an ack is of an event");
            self.history.record(Event::Acked { message, ack: ack_of(answer) });
            self.totals.unacked.fetch_sub(1, Ordering::Relaxed);
        } else if let Some(event) = text.strip_prefix("42") {
            let (_, payload): (String, String) = serde_json::from_str(event).unwrap();
            let payload: serde_json::Value = serde_json::from_str(&payload).unwrap();
            let from = payload["from"].as_str().unwrap().strip_prefix("node").unwrap();
            self.history.record(Event::Received {
                message: payload["number"].as_u64().unwrap(),
                visit: visit.number,
                from: from.parse().unwrap(),
            });
        }
        Ok(())
    }

    fn pause(&mut self, ms: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(ms))
    }
}

async fn read(socket: &mut WebSocketStream<TcpStream>) -> Result<Message, Ended> {
    match socket.next().await {
        Some(Ok(message)) => Ok(message),
        Some(Err(_)) | None => Err(Ended),
    }
}

/// Replies to a heartbeat.
async fn reply(socket: &mut WebSocketStream<TcpStream>) -> Result<(), Ended> {
    timeout(SOON, socket.send(Message::text("3"))).await.map_err(|_| Ended)?.map_err(|_| Ended)
}

fn ack_of(answer: &str) -> Ack {
    match answer {
        r#"["OK"]"# => Ack::Ok,
        r#"["NOT_CONNECTED"]"# => Ack::NotConnected,
        r#"["UNAUTHORIZED"]"# => Ack::Unauthorized,
        r#"["ERROR"]"# => Ack::Error,
        other => panic!("unknown ack: {other}"),
    }
}
