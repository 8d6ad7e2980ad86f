//! Nodes that connect and leave, as fast as they can.

use std::cell::RefCell;
use std::future::pending;
use std::time::Duration;

use futures_util::future::join_all;

use crate::arguments::Churn;
use crate::connection::{Connection, Deaf, send_close};
use crate::door::NotIn;
use crate::latency::Latencies;
use crate::report::{Measured, Outcomes, Report};
use crate::run::{Moment, Run, Trouble};
use crate::wrong::Wrongs;

/// How long a node that leaves waits for the broker to close.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a node that is not in waits before the next one comes: a connection can be refused so
/// fast that nothing else would get its turn.
const BREATH: Duration = Duration::from_millis(10);

/// What is counted.
#[derive(Default)]
struct Tally {
    is_measuring: bool,
    total: u64,
    count: u64,
    to_be_in: Latencies,
    to_be_out: Latencies,
    outcomes: Outcomes,
    wrong: Wrongs,
}

/// Measures how nodes come and leave.
///
/// # Errors
/// See [`Trouble`].
pub async fn run(run: &Run, churn: &Churn) -> Result<Report, Trouble> {
    let tally = RefCell::new(Tally::default());
    let lanes = join_all((0..churn.nodes as usize).map(|lane| come_and_go(run, lane, &tally)));
    let mark = |moment| tally.borrow_mut().is_measuring = moment == Moment::Begin;
    let phases = run.measure(churn.times, || tally.borrow().total, pending, mark);
    let (begin, end) = tokio::select! {
        readings = phases => readings,
        _ = lanes => return Err(Trouble::Stopped),
    };
    let tally = tally.take();
    let measured = Measured {
        unit: "connections",
        count: tally.count,
        latency: vec![("in", tally.to_be_in), ("out", tally.to_be_out)],
        outcomes: tally.outcomes,
        figures: Vec::new(),
        wrong: tally.wrong,
    };
    Ok(run.report(measured, &begin, &end))
}

/// One node after the other.
async fn come_and_go(run: &Run, lane: usize, tally: &RefCell<Tally>) {
    for round in 0u64.. {
        let began_ns = run.clock.now_ns();
        let entered = run.door.enter(lane, &run.id(&format!("c{lane}-"), round as usize)).await;
        let in_ns = run.clock.now_ns();
        let Some(mut connection) = tally.borrow_mut().entered(entered, began_ns, in_ns) else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        send_close(&connection.outbox());
        // The broker closes: so it is what waits for stray packets afterwards, and this side does
        // not run out of ports.
        let left = tokio::time::timeout(LEAVING_TIMEOUT, connection.run(&mut Deaf)).await;
        let mut tally = tally.borrow_mut();
        match left {
            Ok(_) if tally.is_measuring => tally.to_be_out.record(in_ns, run.clock.now_ns()),
            Ok(_) => {}
            Err(_) => tally.outcomes.add("not closed by the broker", 1),
        }
    }
}

impl Tally {
    /// A node has tried to come in; its connection if it is.
    fn entered(
        &mut self,
        entered: Result<Connection, NotIn>,
        began_ns: u64,
        in_ns: u64,
    ) -> Option<Connection> {
        match entered {
            Ok(connection) => {
                self.total += 1;
                if self.is_measuring {
                    self.count += 1;
                    self.to_be_in.record(began_ns, in_ns);
                }
                Some(connection)
            }
            Err(why) => {
                self.outcomes.add(&why.to_string(), 1);
                self.wrong.add(why.wrong(), 1);
                None
            }
        }
    }
}
