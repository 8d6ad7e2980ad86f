//! A webhook server of the tests' own, on raw sockets, so that every fault is possible.
//!
//! It reads each request whole, keeps it, and answers as the test says at that moment: JSON, late,
//! not before it is told to, or with a [`Fault`]. It has a port of its own for as long as it lives,
//! also while nobody listens there.

mod connection;
mod fault;

pub use fault::{Fault, MAX_ANSWER_BYTES, padded};

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{SOON, eventually};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Call {
    pub at: Instant,
    pub method: String,
    /// The request's target as it was written: path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub text: String,
    /// The text as JSON; `null` if it is none.
    pub body: Value,
}

impl Call {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(header, _)| header == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }
}

/// What to do with a call.
pub enum Reply {
    /// 200 with this body; the connection is kept.
    Json(Value),
    /// The same, with the body's exact text.
    Text(String),
    /// The answer, so much later.
    After(Duration, Value),
    /// The answer; then the connection is closed, without having said so.
    Last(Value),
    /// The fault, committed on what would have been this answer.
    Fault(Fault, Value),
}

impl From<Value> for Reply {
    fn from(answer: Value) -> Self {
        Reply::Json(answer)
    }
}

type Behaviour = Arc<dyn Fn(&Call) -> Reply + Send + Sync>;

/// A running webhook server; it ends when it is dropped.
pub struct Hook {
    shared: Arc<Shared>,
    address: SocketAddr,
    scheme: &'static str,
    task: JoinHandle<()>,
    /// Bound and never listening: it keeps the port while nobody listens on it.
    _port: Socket,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    calls: Mutex<Vec<Call>>,
    listening: watch::Sender<bool>,
    held: watch::Sender<bool>,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    /// What was sent of answers that never end.
    endless_bytes: AtomicUsize,
    /// How long a connection may be idle after an answer before it is closed.
    idle_limit: Mutex<Duration>,
}

impl Hook {
    /// A server that answers as the closure says.
    pub async fn start<R: Into<Reply>>(
        behaviour: impl Fn(&Call) -> R + Send + Sync + 'static,
    ) -> Self {
        Self::serve(boxed(behaviour), None).await
    }

    /// The same behind TLS.
    pub async fn start_tls<R: Into<Reply>>(
        tls: TlsAcceptor,
        behaviour: impl Fn(&Call) -> R + Send + Sync + 'static,
    ) -> Self {
        Self::serve(boxed(behaviour), Some(tls)).await
    }

    async fn serve(behaviour: Behaviour, tls: Option<TlsAcceptor>) -> Self {
        let port = bind(([127, 0, 0, 1], 0).into());
        let address = port.local_addr().unwrap().as_socket().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            calls: Mutex::default(),
            listening: watch::Sender::new(true),
            held: watch::Sender::new(false),
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            endless_bytes: AtomicUsize::new(0),
            idle_limit: Mutex::new(Duration::from_secs(3600)),
        });
        let task = tokio::spawn(accept(shared.clone(), listen(address), address, tls));
        Self { shared, address, scheme, task, _port: port }
    }

    pub fn url(&self, target: &str) -> String {
        format!("{}://{}{target}", self.scheme, self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, answers as the closure says.
    pub fn answer<R: Into<Reply>>(&self, behaviour: impl Fn(&Call) -> R + Send + Sync + 'static) {
        *self.shared.behaviour.lock().unwrap() = boxed(behaviour);
    }

    /// From now on, every call meets the fault, on what would have been `answer`.
    pub async fn fault(&self, fault: Fault, answer: Value) {
        if fault == Fault::Refused {
            return self.refuse().await;
        }
        self.answer(move |_| Reply::Fault(fault, answer.clone()));
    }

    /// Closes the port and every connection.
    pub async fn refuse(&self) {
        self.shared.listening.send_replace(false);
        self.until_it_listens(false).await;
    }

    /// Opens the port again.
    pub async fn accept(&self) {
        self.shared.listening.send_replace(true);
        self.until_it_listens(true).await;
    }

    async fn until_it_listens(&self, wanted: bool) {
        let began = Instant::now();
        while TcpStream::connect(self.address).await.is_ok() != wanted {
            assert!(began.elapsed() < SOON, "the port does not change");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        eventually("the tries are over", || wanted || self.open_connections() == 0).await;
    }

    /// From now on, closes connections that are idle for so long after an answer.
    pub fn close_idle_after(&self, limit: Duration) {
        *self.shared.idle_limit.lock().unwrap() = limit;
    }

    /// Takes calls, but answers none until [`Hook::release`].
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// All calls so far, in the order in which they came.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Their bodies.
    pub fn bodies(&self) -> Vec<Value> {
        self.shared.calls.lock().unwrap().iter().map(|call| call.body.clone()).collect()
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.shared.calls.lock().unwrap().len()
    }

    /// Waits until there were this many.
    pub async fn called(&self, times: usize) {
        eventually(&format!("{times} calls"), || self.count() >= times).await;
    }

    pub fn open_connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many calls wait for their answers, as far as the hook knows: a client that has given up
    /// does not wait any more.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::SeqCst)
    }

    /// The most calls that waited for their answers at one time.
    pub fn most_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(Ordering::SeqCst)
    }

    /// How many bytes of endless answers could be sent.
    pub fn endless_bytes(&self) -> usize {
        self.shared.endless_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn boxed<R: Into<Reply>>(behaviour: impl Fn(&Call) -> R + Send + Sync + 'static) -> Behaviour {
    Arc::new(move |call| behaviour(call).into())
}

/// A socket that shares its port with others of the same process.
fn bind(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = bind(address);
    socket.listen(1024).unwrap();
    TcpListener::from_std(socket.into()).unwrap()
}

/// Accepts connections while the hook listens; ends them all when it no longer does.
async fn accept(
    shared: Arc<Shared>,
    first: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
) {
    let mut listening = shared.listening.subscribe();
    let mut listener = Some(first);
    loop {
        let mut connections = JoinSet::new();
        let listener = listener.take().unwrap_or_else(|| listen(address));
        loop {
            tokio::select! {
                _ = listening.wait_for(|listening| !listening) => break,
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    connections.spawn(connection::connection(shared.clone(), stream, tls.clone()));
                }
            }
        }
        drop((listener, connections));
        if listening.wait_for(|listening| *listening).await.is_err() {
            return;
        }
    }
}
