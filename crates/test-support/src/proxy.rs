//! A TCP proxy of the tests' own, whose faults are switched while it runs.
//!
//! A fault holds for all connections, old and new, until [`Proxy::pass`].

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::{Port, SOON};

/// The most that is read at once, and how often that much can be on its way in one direction.
/// Beyond this, the sender is no longer read.
const PIECE_BYTES: usize = 16 * 1024;
const PIECES: usize = 64;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToTarget,
    ToClient,
    Both,
}

/// What happens to bytes that go one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Pass,
    Hold,
    Discard,
}

#[derive(Debug, Clone, Copy)]
struct Faults {
    to_target: Flow,
    to_client: Flow,
    delay: Duration,
    /// The pause behind each byte, if they go one by one.
    trickle: Option<Duration>,
}

const NONE: Faults =
    Faults { to_target: Flow::Pass, to_client: Flow::Pass, delay: Duration::ZERO, trickle: None };

/// A running proxy; it ends when it is dropped, and its connections with it.
pub struct Proxy {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    port: Port,
    target: SocketAddr,
    faults: watch::Sender<Faults>,
    /// Told when all connections are to be reset.
    cuts: watch::Sender<()>,
    /// Whether it is to listen, and whether it does.
    wanted: watch::Sender<bool>,
    listening: watch::Sender<bool>,
    accepted: AtomicUsize,
    /// Each connection has a clone.
    connections: Arc<()>,
}

impl Proxy {
    /// A proxy that passes everything on.
    pub async fn start(target: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            port: Port::free(),
            target,
            faults: watch::Sender::new(NONE),
            cuts: watch::Sender::new(()),
            wanted: watch::Sender::new(true),
            listening: watch::Sender::new(false),
            accepted: AtomicUsize::new(0),
            connections: Arc::default(),
        });
        let task = tokio::spawn(run(shared.clone()));
        let proxy = Self { shared, task };
        proxy.until_it_listens(true).await;
        proxy
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.port.address()
    }

    /// How many connections there are now, half-closed ones included.
    pub fn connections(&self) -> usize {
        Arc::strong_count(&self.shared.connections) - 1
    }

    /// How many connections there were so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Ends all faults: what is held goes on its way, and connections are accepted.
    pub async fn pass(&self) {
        self.shared.faults.send_replace(NONE);
        self.shared.wanted.send_replace(true);
        self.until_it_listens(true).await;
    }

    /// Resets the connections of this moment, at both ends.
    pub fn cut(&self) {
        self.shared.cuts.send_replace(());
    }

    /// Closes the port; the connections stay.
    pub async fn refuse(&self) {
        self.shared.wanted.send_replace(false);
        self.until_it_listens(false).await;
    }

    async fn until_it_listens(&self, wanted: bool) {
        let mut listening = self.shared.listening.subscribe();
        let changed = listening.wait_for(|listening| *listening == wanted);
        timeout(2 * SOON, changed).await.expect("the proxy is at work").unwrap();
    }

    /// Keeps bytes, ends and resets that go this way, and delivers them after [`Proxy::pass`].
    pub fn hold(&self, way: Way) {
        self.flow(way, Flow::Hold);
    }

    /// Loses bytes that go this way. They stay lost: after [`Proxy::pass`], the connections go on
    /// without them. Ends and resets are kept until then.
    pub fn discard(&self, way: Way) {
        self.flow(way, Flow::Discard);
    }

    fn flow(&self, way: Way, flow: Flow) {
        self.shared.faults.send_modify(|faults| {
            if way != Way::ToClient {
                faults.to_target = flow;
            }
            if way != Way::ToTarget {
                faults.to_client = flow;
            }
        });
    }

    /// Delivers everything so much later than it came, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.shared.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Delivers one byte at a time, with a pause behind each, in both directions.
    pub fn trickle(&self, pause: Duration) {
        self.shared.faults.send_modify(|faults| faults.trickle = Some(pause));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts connections while it is to listen; the parent of their tasks.
async fn run(shared: Arc<Shared>) {
    let mut wanted = shared.wanted.subscribe();
    wanted.mark_changed();
    let mut listener = None;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok(()) = wanted.changed() => {
                let wanted = *wanted.borrow_and_update();
                if wanted != listener.is_some() {
                    listener = if wanted { Some(shared.port.listen().await) } else { None };
                }
                shared.listening.send_replace(wanted);
            }
            Some(_) = connections.join_next() => {}
            accepted = accept(listener.as_ref()) => {
                let Ok((client, _)) = accepted else { continue };
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let guard = shared.connections.clone();
                let cuts = shared.cuts.subscribe();
                connections.spawn(connection(shared.clone(), client, cuts, guard));
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => pending().await,
    }
}

async fn connection(
    shared: Arc<Shared>,
    mut client: TcpStream,
    mut cuts: watch::Receiver<()>,
    _guard: Arc<()>,
) {
    let target = tokio::select! {
        target = TcpStream::connect(shared.target) => target,
        _ = cuts.changed() => Err(io::ErrorKind::ConnectionReset.into()),
    };
    let Ok(mut target) = target else { return reset(&client) };
    client.set_nodelay(true).unwrap();
    target.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.split();
    let (from_target, to_target) = target.split();
    let ended = tokio::select! {
        ended = async { tokio::try_join!(
            pump(from_client, to_target, shared.faults.subscribe(), |faults| faults.to_target),
            pump(from_target, to_client, shared.faults.subscribe(), |faults| faults.to_client),
        ) } => ended.is_ok(),
        _ = cuts.changed() => false,
    };
    if !ended {
        reset(&client);
        reset(&target);
    }
}

/// From now on, closing it resets it.
fn reset(stream: &TcpStream) {
    // It may be gone already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// What came from one end.
enum Piece {
    Bytes(Vec<u8>),
    End,
    Reset,
}

/// Passes on what comes, under the faults of the moment.
///
/// # Errors
/// One of the ends has reset the connection.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut faults: watch::Receiver<Faults>,
    flow: fn(&Faults) -> Flow,
) -> io::Result<()> {
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let read = async move {
        loop {
            let mut bytes = vec![0; PIECE_BYTES];
            let piece = match from.read(&mut bytes).await {
                Ok(0) => Piece::End,
                Ok(length) => Piece::Bytes(bytes[..length].into()),
                Err(_) => Piece::Reset,
            };
            let last = !matches!(piece, Piece::Bytes(_));
            if sender.send((Instant::now(), piece)).await.is_err() || last {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((came, piece)) = pieces.recv().await {
            match piece {
                Piece::Bytes(bytes) => deliver(&bytes, &mut to, &mut faults, flow, came).await?,
                last => {
                    while turn(&mut faults, flow, came).await == Flow::Discard {
                        let _ = faults.changed().await;
                    }
                    if matches!(last, Piece::Reset) {
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                    to.shutdown().await?;
                }
            }
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(|_| ())
}

async fn deliver(
    mut bytes: &[u8],
    to: &mut WriteHalf<'_>,
    faults: &mut watch::Receiver<Faults>,
    flow: fn(&Faults) -> Flow,
    came: Instant,
) -> io::Result<()> {
    while !bytes.is_empty() && turn(faults, flow, came).await == Flow::Pass {
        let trickle = faults.borrow_and_update().trickle;
        let (now, rest) = bytes.split_at(if trickle.is_some() { 1 } else { bytes.len() });
        to.write_all(now).await?;
        bytes = rest;
        if let Some(pause) = trickle {
            // A change of the faults ends the pause.
            let _ = timeout(pause, faults.changed()).await;
        }
    }
    Ok(())
}

/// Waits until what came at this time is to be passed on or discarded, and says which.
async fn turn(
    faults: &mut watch::Receiver<Faults>,
    flow: fn(&Faults) -> Flow,
    came: Instant,
) -> Flow {
    loop {
        let now = *faults.borrow_and_update();
        let due = came + now.delay;
        // The faults last as long as the connection, so waiting for their change cannot fail.
        match flow(&now) {
            Flow::Discard => return Flow::Discard,
            Flow::Pass if due <= Instant::now() => return Flow::Pass,
            Flow::Pass => drop(tokio::time::timeout_at(due, faults.changed()).await),
            Flow::Hold => drop(faults.changed().await),
        }
    }
}
