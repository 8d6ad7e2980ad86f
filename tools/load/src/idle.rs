//! Nodes that connect and do nothing: the memory of a connection, and whether it is returned.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use crate::arguments::Idle;
use crate::connection::{self, Connection, Deaf};
use crate::door::NotIn;
use crate::outbox::Outbox;
use crate::process::percent;
use crate::report::{Measured, Outcomes, Report};
use crate::run::{Run, Trouble};
use crate::wrong::{Wrong, Wrongs};

/// How long the nodes wait for the broker to close when they leave.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(10);

/// A node that is in, and does nothing but to answer heartbeats.
struct Node {
    outbox: Rc<Outbox>,
    task: JoinHandle<()>,
}

/// What is counted.
#[derive(Default)]
struct Tally {
    is_leaving: Cell<bool>,
    outcomes: RefCell<Outcomes>,
    wrong: RefCell<Wrongs>,
}

/// Measures the memory of brokers without nodes, with them, and after them.
///
/// # Errors
/// See [`Trouble`].
pub async fn run(run: &Run, idle: &Idle) -> Result<Report, Trouble> {
    let tally = Rc::<Tally>::default();
    let begin = run.meter.read();
    let entered = run.enter_all(idle.nodes, async |place| {
        match run.door.enter(place, &run.id("i", place)).await {
            Ok(connection) => Some(Node::hold(connection, tally.clone())),
            Err(why) => {
                tally.missed(&why);
                None
            }
        }
    });
    let nodes: Vec<_> = entered.await?.into_iter().flatten().collect();
    let all_in = run.meter.read();

    run.stage.last("idle", idle.seconds.0, || nodes.len() as u64).await;
    let with = run.meter.read();

    tally.is_leaving.set(true);
    let count = nodes.len() as u64;
    for node in &nodes {
        node.leave();
    }
    let left = join_all(nodes.into_iter().map(|node| node.task));
    if tokio::time::timeout(LEAVING_TIMEOUT, left).await.is_err() {
        tally.outcomes.borrow_mut().add("not all closed by the broker", 1);
    }
    run.stage.last("afterwards", idle.seconds.0, || 0).await;
    let after = run.meter.read();

    let mut figures = Vec::new();
    let memory = run.meter.resident_kb_before().zip(with.resident_kb()).zip(after.resident_kb());
    if let Some(((kb_before, kb_with), kb_after)) = memory {
        let each = |kb: u64| (kb as f64 - kb_before as f64) / count.max(1) as f64;
        figures.push(("resident_kb_before", kb_before as f64));
        figures.push(("resident_kb_with", kb_with as f64));
        figures.push(("resident_kb_after", kb_after as f64));
        figures.push(("kb_per_connection", each(kb_with)));
        figures.push(("kb_kept_per_connection", each(kb_after)));
        let costs = run.meter.costs(&all_in, &with, 0);
        let cpu = costs.servers.iter().map(|server| Duration::from_secs_f64(server.cpu_s)).sum();
        figures.push(("idle_cpu_percent", percent(cpu, with.since(&all_in))));
    }
    let measured = Measured {
        unit: "connections",
        count,
        latency: Vec::new(),
        outcomes: tally.outcomes.take(),
        figures,
        wrong: tally.wrong.take(),
    };
    Ok(run.report(measured, &begin, &all_in))
}

impl Node {
    /// Takes care of a connection until it ends.
    fn hold(mut connection: Connection, tally: Rc<Tally>) -> Self {
        let outbox = connection.outbox();
        let task = tokio::task::spawn_local(async move {
            let end = connection.run(&mut Deaf).await;
            if !tally.is_leaving.get() {
                tally.outcomes.borrow_mut().add(&end.to_string(), 1);
                tally.wrong.borrow_mut().add(Wrong::Disconnected, 1);
            }
        });
        Self { outbox, task }
    }

    /// Sends a close.
    fn leave(&self) {
        connection::send_close(&self.outbox);
    }
}

impl Tally {
    /// A node is not in.
    fn missed(&self, why: &NotIn) {
        self.outcomes.borrow_mut().add(&why.to_string(), 1);
        self.wrong.borrow_mut().add(why.wrong(), 1);
    }
}
