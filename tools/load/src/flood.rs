//! Nodes that send as fast as the broker reads and wait for nothing: what do they cost the others? Those
//! are measured by another process beside this one, for example by `relay` with a rate.

use std::cell::Cell;
use std::rc::Rc;

use crate::arguments::{Filling, Flood};
use crate::connection::{Connection, Deaf};
use crate::frame::{self, Opcode};
use crate::message::{Message, Route};
use crate::outbox::Outbox;
use crate::report::{Measured, Outcomes, Report};
use crate::run::{Moment, Run, Trouble};

/// What is written at once, in bytes, unless a message is longer.
const WRITE_BYTES: usize = 16 * 1024;

/// IDs in a question.
const IDS: usize = 1000;

/// Bytes of a short and of a long message.
const SHORT: usize = 50;
const LONG: usize = 900_000;

/// Floods.
///
/// # Errors
/// See [`Trouble`].
pub async fn run(run: &Run, flood: &Flood) -> Result<Report, Trouble> {
    let nodes = flood.nodes as usize;
    let id = |place: usize| run.id("f", place % nodes);
    let sent = Rc::<Cell<u64>>::default();
    let connect = async |place: usize| {
        let (from, to) = (id(place), id(place + 1));
        let connection = run.door.enter(place, &from).await;
        let connection = connection.map_err(|why| Trouble::NotIn { id: from.clone(), why })?;
        Ok((connection, filling(flood.what, Route { from: &from, to: &to, sender: place })))
    };
    let entered = run.enter_all(flood.nodes, connect).await?;
    let entered = entered.into_iter().collect::<Result<Vec<_>, Trouble>>()?;
    // Kept to the end: a connection that is dropped is closed.
    let mut unread = Vec::new();
    for (connection, (text, count)) in entered {
        tokio::task::spawn_local(write(connection.outbox(), text, count, sent.clone()));
        match flood.what {
            Filling::Unread => unread.push(connection),
            _ => drop(tokio::task::spawn_local(read(connection))),
        }
    }
    let at_begin = Cell::new(0);
    let at_end = Cell::new(0);
    let mark = |moment| match moment {
        Moment::Begin => at_begin.set(sent.get()),
        Moment::End => at_end.set(sent.get()),
    };
    let (begin, end) =
        run.measure(flood.times, || sent.get(), std::future::pending::<()>, mark).await;
    let measured = Measured {
        unit: "frames",
        count: at_end.get() - at_begin.get(),
        outcomes: Outcomes::default(),
        ..Measured::default()
    };
    Ok(run.report(measured, &begin, &end))
}

/// What a node writes again and again, and how many frames that is.
fn filling(what: Filling, route: Route<'_>) -> (Vec<u8>, u64) {
    let relay = |size| Message::relay("SOCKET_MSG_EXCHANGE", route, size, true);
    let mut message = match what {
        Filling::Messages | Filling::Unread => relay(SHORT),
        Filling::Long => relay(LONG),
        Filling::Presence => {
            let ids: Vec<_> = (0..IDS).map(|number| format!("{}-{number}", route.to)).collect();
            Message::question(&ids)
        }
        Filling::Pings => {
            let mut ping = Vec::new();
            frame::write(Opcode::Ping, b"", &mut ping);
            let count = WRITE_BYTES / ping.len();
            return (ping.repeat(count), count as u64);
        }
    };
    let (mut text, mut count) = (Vec::new(), 0);
    while text.len() < WRITE_BYTES {
        message.write(count, &mut text);
        count += 1;
    }
    (text, count)
}

async fn write(outbox: Rc<Outbox>, text: Vec<u8>, count: u64, sent: Rc<Cell<u64>>) {
    loop {
        outbox.put(|out| out.extend_from_slice(&text));
        if outbox.drained().await.is_err() {
            return;
        }
        sent.set(sent.get() + count);
        // Writing that never waits would keep the others on this thread from their turn.
        tokio::task::yield_now().await;
    }
}

async fn read(mut connection: Connection) {
    connection.run(&mut Deaf).await;
}
