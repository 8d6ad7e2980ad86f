//! Relay, fan-in, presence and overlay: senders that send in a closed or an open loop.
//!
//! *Closed loop*: each sender keeps a number of messages on their way and sends the next when one
//! is over. That shows how much a broker can do; its latencies are those of a broker that is never
//! asked for more than it does.
//!
//! *Open loop*: each message has a time when it is due, whatever became of those before. Latencies
//! count from there, so a broker that stalls pays for every message that was due meanwhile, sent or
//! not. All that were due in the measured time count, also those that come after it.

mod listeners;
mod peers;
mod strangers;
mod traffic;

use std::rc::Rc;
use std::time::Duration;

use crate::answer::Answer;
use crate::arguments::{Messages, Pace, Peers, Questions};
use crate::clock::Alarm;
use crate::connection::{Connection, Listener};
use crate::ledger::Expected;
use crate::message::{Message, Route};
use crate::peer::PeerId;
use crate::report::{Measured, Report};
use crate::run::{Moment, Run, Trouble};
use listeners::{Acks, Inbox};
use peers::{PeerInbox, Sent};
use traffic::{Promise, Role, Sender, Traffic};

/// How long is waited, at the end, for what has not come.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long is waited after all has come for what should not come.
const LINGER: Duration = Duration::from_millis(100);

/// Relay, or fan-in if there is one receiver.
///
/// # Errors
/// See [`Trouble`].
pub async fn relay(run: &Run, messages: &Messages, receivers: u64) -> Result<Report, Trouble> {
    let ids: Vec<_> = (0..receivers as usize).map(|place| run.id("r", place)).collect();
    let expected = Expected { ack: !messages.no_ack, arrival: true };
    let senders = (0..messages.pace.pairs as usize).map(|place| {
        let receiver = place % ids.len();
        let (from, to) = (run.id("s", place), ids.get(receiver).cloned().unwrap_or_default());
        let route = Route { from: &from, to: &to, sender: place };
        let size = messages.size as usize;
        let message = Message::relay(&messages.event, route, size, expected.ack);
        Sender::new(message, Answer::Ok, expected, receiver)
    });
    let kind = (messages.event.as_str(), Promise::Broker);
    let traffic = Traffic::new(run.clock, &messages.pace, kind, senders.collect());
    let entered = run.enter_all(receivers, async |place| {
        let id = ids.get(place).cloned().unwrap_or_default();
        // The one after its sender's: with several brokers, messages go from one to another.
        let connection = run.door.enter(place + 1, &id).await;
        let connection = connection.map_err(|why| Trouble::NotIn { id, why })?;
        attend(traffic.clone(), Role::Receiver, connection, Inbox::new(traffic.clone(), place));
        Ok(())
    });
    entered.await?.into_iter().collect::<Result<(), Trouble>>()?;
    enter_senders(run, &messages.pace, &traffic).await?;
    let strangers = async {
        match messages.strangers {
            Some(rate) => strangers::come(run, rate, &traffic).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        report = drive(run, &messages.pace, traffic.clone(), "messages") => report,
        never = strangers => match never {},
    }
}

/// Presence: every question is about nodes that are connected and others that are not.
///
/// # Errors
/// See [`Trouble`].
pub async fn presence(run: &Run, questions: &Questions) -> Result<Report, Trouble> {
    let askers = questions.pace.pairs as usize;
    let expected = Expected { ack: true, arrival: false };
    let senders = (0..askers).map(|place| {
        let nodes = (0..questions.ids as usize).map(|number| match number % 2 {
            0 => (run.id("s", (place + number / 2) % askers), true),
            _ => (run.id("nobody", number), false),
        });
        let nodes: Vec<_> = nodes.collect();
        let ids: Vec<_> = nodes.iter().map(|(id, _)| id.clone()).collect();
        Sender::new(Message::question(&ids), Answer::results(nodes), expected, 0)
    });
    let kind = ("", Promise::Broker);
    let traffic = Traffic::new(run.clock, &questions.pace, kind, senders.collect());
    enter_senders(run, &questions.pace, &traffic).await?;
    drive(run, &questions.pace, traffic, "questions").await
}

/// Overlay: the two of each pair are neighbours of the same peer, so every message reaches the
/// receiver through it.
///
/// # Errors
/// See [`Trouble`].
pub async fn overlay(run: &Run, peers: &Peers) -> Result<Report, Trouble> {
    let pairs = peers.pace.pairs as usize;
    let salt = PeerId::salt(&run.prefix);
    let sent: Vec<_> = (0..pairs)
        .map(|place| Sent {
            from: PeerId::made_from(&run.id("s", place)),
            to: PeerId::made_from(&run.id("r", place)),
            salt,
            sender: place,
            size: peers.size as usize,
        })
        .collect();
    let expected = Expected { ack: false, arrival: true };
    let senders =
        sent.iter().map(|sent| Sender::new(sent.message(), Answer::Ok, expected, sent.sender));
    let kind = ("", Promise::Network);
    let traffic = Traffic::new(run.clock, &peers.pace, kind, senders.collect());
    let roles = [Role::Receiver, Role::Sender];
    let entered = run.enter_all(roles.len() as u64 * peers.pace.pairs, async |number| {
        let (place, role) = (number / roles.len(), roles[number % roles.len()]);
        let Some(sent) = sent.get(place).cloned() else { return Ok(()) };
        // Nobody sends to a sender: its place is none of a receiver.
        let (id, inbox) = match role {
            Role::Receiver => (&sent.to, place),
            Role::Sender => (&sent.from, pairs),
        };
        let joined = run.door.join(place, &peers.path, id).await;
        let (connection, via) = joined.map_err(|why| Trouble::NotIn { id: id.to_string(), why })?;
        if role == Role::Sender {
            traffic.connect(place, connection.outbox());
        }
        attend(
            traffic.clone(),
            role,
            connection,
            PeerInbox::new(traffic.clone(), inbox, sent, via),
        );
        Ok(())
    });
    entered.await?.into_iter().collect::<Result<(), Trouble>>()?;
    drive(run, &peers.pace, traffic, "messages").await
}

/// Connects the senders.
async fn enter_senders(run: &Run, pace: &Pace, traffic: &Rc<Traffic>) -> Result<(), Trouble> {
    let entered = run.enter_all(pace.pairs, async |place| {
        let id = run.id("s", place);
        let connection = run.door.enter(place, &id).await;
        let connection = connection.map_err(|why| Trouble::NotIn { id, why })?;
        traffic.connect(place, connection.outbox());
        attend(traffic.clone(), Role::Sender, connection, Acks::new(traffic.clone(), place));
        Ok(())
    });
    entered.await?.into_iter().collect()
}

/// Lets the senders send.
async fn drive(
    run: &Run,
    pace: &Pace,
    traffic: Rc<Traffic>,
    unit: &'static str,
) -> Result<Report, Trouble> {
    let alarm = Alarm::new()?;
    traffic.start();
    let pacer = tokio::task::spawn_local(traffic.clone().pace(alarm));
    let mark = |moment| match moment {
        Moment::Begin => traffic.measure_from_now(),
        Moment::End => traffic.measure_until_now(),
    };
    let measured = run.measure(pace.times, || traffic.so_far(), || traffic.deserted(), mark);
    let (begin, end) = measured.await;
    pacer.abort();
    let settled = async {
        traffic.settle().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        () = settled => {}
        () = traffic.deserted() => {}
        () = tokio::time::sleep(TIMEOUT) => {}
    }
    traffic.finish();

    let mut measured = Measured { unit, ..Measured::default() };
    traffic.tell(&mut measured);
    Ok(run.report(measured, &begin, &end))
}

/// Reads a connection until it ends, in a task of its own.
fn attend(
    traffic: Rc<Traffic>,
    role: Role,
    mut connection: Connection,
    mut listener: impl Listener + 'static,
) {
    tokio::task::spawn_local(async move {
        let end = connection.run(&mut listener).await;
        traffic.ended(role, &end);
    });
}
