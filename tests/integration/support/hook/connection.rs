//! One connection to a webhook server: requests in, answers or faults out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::fault::{ELSEWHERE, Fault};
use super::{Call, Reply, Shared};

/// What may be waiting to be sent on one connection: little, so that it shows soon when a client
/// stops reading.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Counts something for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn one(count: &'a AtomicUsize) -> (Self, usize) {
        let now = count.fetch_add(1, Ordering::SeqCst) + 1;
        (Self(count), now)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Where requests come from and answers go to.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How a connection goes on after an answer.
pub(super) enum Next {
    Keep,
    Close,
    Reset,
}

pub(super) async fn connection(shared: Arc<Shared>, stream: TcpStream, tls: Option<TlsAcceptor>) {
    let (_connection, _) = Counted::one(&shared.connections);
    let socket = SockRef::from(&stream).try_clone().unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    socket.set_send_buffer_size(SEND_BUFFER_BYTES).unwrap();
    let mut stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        // A client that does not trust the certificate goes away here.
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => Box::new(stream),
            Err(_) => return,
        },
    };
    let mut buffer = Vec::new();
    // An error is a client that gave up.
    while let Ok(call) = read_call(&mut stream, &mut buffer).await {
        match handle(&shared, call, &mut *stream).await {
            Ok(Next::Keep) => {
                // As in real servers, the limit is for the time between two calls.
                let idle_limit = *shared.idle_limit.lock().unwrap();
                let next = tokio::time::timeout(idle_limit, fill(&mut stream, &mut buffer)).await;
                let Ok(Ok(())) = next else { break };
            }
            Ok(Next::Close) | Err(_) => break,
            Ok(Next::Reset) => {
                socket.set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
        }
    }
    let _ = stream.shutdown().await;
}

async fn handle(shared: &Shared, call: Call, stream: &mut dyn Stream) -> io::Result<Next> {
    let (_call, in_flight) = Counted::one(&shared.in_flight);
    shared.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
    shared.calls.lock().unwrap().push(call.clone());
    let mut held = shared.held.subscribe();
    let released = async { drop(held.wait_for(|held| !held).await) };
    unless_gone(stream, released).await?;
    let behaviour = shared.behaviour.lock().unwrap().clone();
    let mut next = Next::Keep;
    let text = match behaviour(&call) {
        Reply::Json(answer) => answer.to_string(),
        Reply::Last(answer) => {
            next = Next::Close;
            answer.to_string()
        }
        Reply::Text(text) => text,
        Reply::After(delay, answer) => {
            unless_gone(stream, tokio::time::sleep(delay)).await?;
            answer.to_string()
        }
        // A client that goes where a redirect leads finds the right answer there.
        Reply::Fault(Fault::Redirect(_), answer) if call.target == ELSEWHERE => answer.to_string(),
        Reply::Fault(fault, answer) => {
            return fault.commit(&answer.to_string(), stream, &shared.endless_bytes).await;
        }
    };
    write_answer(stream, "200 OK", "content-type: application/json\r\n", text.as_bytes()).await?;
    Ok(next)
}

/// Waits, and fails if the client gives up in the meantime.
async fn unless_gone(stream: &mut dyn Stream, wait: impl Future<Output = ()>) -> io::Result<()> {
    tokio::select! {
        biased;
        () = wait => Ok(()),
        () = until_gone(stream) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Waits until the client gives up.
pub(super) async fn until_gone(stream: &mut dyn Stream) {
    while stream.read_u8().await.is_ok() {}
}

/// Writes an answer that is complete.
pub(super) async fn write_answer(
    stream: &mut dyn Stream,
    status: &str,
    headers: &str,
    body: &[u8],
) -> io::Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    stream.flush().await
}

async fn read_call(stream: &mut Box<dyn Stream>, buffer: &mut Vec<u8>) -> io::Result<Call> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        fill(stream, buffer).await?;
    };
    let head = String::from_utf8(buffer.drain(..end + 4).collect()).expect("UTF-8");
    let mut lines = head.trim_end().split("\r\n");
    let mut request = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while buffer.len() < length {
        fill(stream, buffer).await?;
    }
    let text = String::from_utf8(buffer.drain(..length).collect()).expect("UTF-8");
    Ok(Call {
        at: Instant::now(),
        method: request.next().unwrap_or_default(),
        target: request.next().unwrap_or_default(),
        headers,
        body: serde_json::from_str(&text).unwrap_or_default(),
        text,
    })
}

async fn fill(stream: &mut Box<dyn Stream>, buffer: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
