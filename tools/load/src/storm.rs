//! Nodes that connect all at once and retry until they are in: a fleet that comes back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::arguments::Storm;
use crate::connection::{Connection, Deaf};
use crate::door::NotIn;
use crate::latency::Latencies;
use crate::report::{Measured, Outcomes, Report};
use crate::run::{Run, Trouble};
use crate::wrong::{Wrong, Wrongs};

/// What is counted.
#[derive(Default)]
struct Tally {
    attempts: u64,
    inside: u64,
    refused: u64,
    last_in_ns: u64,
    to_be_in: Latencies,
    outcomes: Outcomes,
    wrong: Wrongs,
}

/// Measures how long it takes until all nodes are in.
///
/// # Errors
/// See [`Trouble`].
pub async fn run(run: &Run, storm: &Storm) -> Result<Report, Trouble> {
    let tally = Rc::new(RefCell::new(Tally::default()));
    let began_ns = run.clock.now_ns();
    let begin = run.meter.read();
    let (mut coming, mut inside) = (JoinSet::new(), JoinSet::new());
    for place in 0..storm.nodes as usize {
        let (door, clock, retry) = (run.door.clone(), run.clock, storm.retry.0);
        let (id, tally) = (run.id("n", place), tally.clone());
        coming.spawn_local(async move {
            let connection = loop {
                tally.borrow_mut().attempts += 1;
                match door.enter(place, &id).await {
                    Ok(connection) => break connection,
                    Err(why) => tally.borrow_mut().missed(&why)?,
                }
                tokio::time::sleep(retry).await;
            };
            tally.borrow_mut().is_in(began_ns, clock.now_ns());
            Some(connection)
        });
    }
    let progress = || {
        let inside = tally.borrow().inside;
        (inside as f64 / storm.nodes as f64, inside)
    };
    let all_in = async {
        while let Some(came) = coming.join_next().await {
            if let Ok(Some(connection)) = came {
                inside.spawn_local(stay(connection, tally.clone()));
            }
        }
    };
    let limited = tokio::time::timeout(storm.seconds.0, all_in);
    run.stage.show("coming back", progress, limited).await;
    let end = run.meter.read();
    drop(coming);
    drop(inside);
    let measured = tally.take().measured(storm.nodes, began_ns);
    Ok(run.report(measured, &begin, &end))
}

/// A node that is in stays in.
async fn stay(mut connection: Connection, tally: Rc<RefCell<Tally>>) {
    let end = connection.run(&mut Deaf).await;
    let mut tally = tally.borrow_mut();
    tally.outcomes.add(&end.to_string(), 1);
    tally.wrong.add(Wrong::Disconnected, 1);
}

impl Tally {
    fn is_in(&mut self, began_ns: u64, now_ns: u64) {
        self.inside += 1;
        self.last_in_ns = now_ns;
        self.to_be_in.record(began_ns, now_ns);
    }

    /// A try has failed; nothing if there should be no other.
    fn missed(&mut self, why: &NotIn) -> Option<()> {
        self.outcomes.add(&why.to_string(), 1);
        match why {
            NotIn::TurnedAway(_) | NotIn::Broken(_) => Some(()),
            NotIn::Refused(_) => {
                self.refused += 1;
                self.wrong.add(Wrong::Refused, 1);
                None
            }
        }
    }

    fn measured(mut self, nodes: u64, began_ns: u64) -> Measured {
        let missing = nodes.saturating_sub(self.inside + self.refused);
        self.wrong.add(Wrong::NotIn, missing);
        let mut figures = vec![("attempts", self.attempts as f64)];
        if self.inside == nodes {
            let took = Duration::from_nanos(self.last_in_ns.saturating_sub(began_ns));
            figures.push(("all_in_after_s", took.as_secs_f64()));
        }
        Measured {
            unit: "connections",
            count: self.inside,
            latency: vec![("in", self.to_be_in)],
            outcomes: self.outcomes,
            figures,
            wrong: self.wrong,
        }
    }
}
