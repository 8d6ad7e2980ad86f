//! Strangers: nodes that come at a steady rate while others exchange messages. Each sends one message
//! to nobody, waits for its ack and leaves. What becomes of them is told, and nothing of it is wrong:
//! they are there for what they cost the others, with webhooks that hang for instance.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::time::{interval, timeout};

use super::traffic::Traffic;
use crate::answer::{Answer, Verdict};
use crate::connection::{Connection, Deaf, Listener, send_close};
use crate::message::{Message, Route};
use crate::packet::Packet;
use crate::run::Run;

/// How long a stranger waits for its ack, and then for the broker to close.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a stranger's message.
const SIZE: usize = 200;

/// Lets so many come in a second, whatever becomes of those before, for ever.
pub(super) async fn come(run: &Run, rate: f64, traffic: &Traffic) -> Infallible {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
    let mut under_way = FuturesUnordered::new();
    let mut places = 0..;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                traffic.met("strangers");
                under_way.extend(places.next().map(|place| visit(run, place)));
            }
            Some(outcome) = under_way.next() => traffic.met(&format!("stranger: {outcome}")),
        }
    }
}

/// One stranger, and what became of it.
async fn visit(run: &Run, place: usize) -> String {
    let id = run.id("stranger", place);
    let mut connection = match run.door.enter(place, &id).await {
        Ok(connection) => connection,
        Err(why) => return why.to_string(),
    };
    let route = Route { from: &id, to: &run.id("nobody", 0), sender: 0 };
    let mut message = Message::relay("SOCKET_MSG_EXCHANGE", route, SIZE, true);
    let outbox = connection.outbox();
    outbox.put(|out| message.write(0, out));
    outbox.flush();
    let outcome = timeout(TIMEOUT, first_ack(&mut connection)).await;
    send_close(&outbox);
    // A broker that does not close it loses it all the same, when it is dropped.
    let _ = timeout(TIMEOUT, connection.run(&mut Deaf)).await;
    outcome.unwrap_or_else(|_| "no ack".into())
}

/// The name of the first ack that comes, or why none can.
async fn first_ack(connection: &mut Connection) -> String {
    let (sender, name) = oneshot::channel();
    let mut listener = FirstAck(Some(sender));
    tokio::select! {
        Ok(name) = name => name,
        end = connection.run(&mut listener) => end.to_string(),
    }
}

/// Takes the first ack, once.
struct FirstAck(Option<oneshot::Sender<String>>);

impl Listener for FirstAck {
    fn packet(&mut self, packet: Packet<'_>) {
        let Packet::Ack(_, arguments) = packet else { return };
        let name = match Answer::Ok.judge(arguments) {
            Verdict::Right => Answer::Ok.name().to_owned(),
            Verdict::Wrong(name) => name,
        };
        if let Some(sender) = self.0.take() {
            // Nobody waits for it any more if it comes too late.
            let _ = sender.send(name);
        }
    }
}
