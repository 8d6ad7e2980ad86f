//! One run: whom it measures, with what, and by which mode.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;

use futures_util::{StreamExt, stream};

use crate::arguments::{Mode, Times};
use crate::clock::Clock;
use crate::door::{Door, NotIn};
use crate::meter::{Meter, Reading};
use crate::report::{Measured, Report};
use crate::stage::Stage;
use crate::{churn, discovery, exchange, flood, idle, storm};

/// How many nodes connect at a time where they need not come all at once.
const SIDE_BY_SIDE: usize = 64;

/// Files that are open besides the connections.
const OTHER_FILES: u64 = 32;

/// What every mode needs.
pub struct Run {
    /// The way to the brokers.
    pub door: Door,
    /// Watches what it costs.
    pub meter: Meter,
    /// Shows how far it is.
    pub stage: Stage,
    /// Times everything.
    pub clock: Clock,
    /// What all IDs of nodes begin with.
    pub prefix: String,
    settings: Mode,
}

/// Where the measured time begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The warm-up is over.
    Begin,
    /// Nothing counts any more.
    End,
}

/// Why there is nothing to tell.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Addresses, processes or timers are not there.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The system allows fewer connections.
    #[error("{needed} connections need as many open files, and only {allowed} are allowed")]
    Files {
        /// Connections that the mode wants.
        needed: u64,
        /// Files that may be open.
        allowed: u64,
    },
    /// A node without which there is nothing to measure is not in.
    #[error("{id} is not in: {why}")]
    NotIn {
        /// The node's ID.
        id: String,
        /// Why.
        why: NotIn,
    },
    /// Discovery does not give what there has to be before anything can be asked.
    #[error("nothing to measure: {0}")]
    NotPrepared(String),
    /// Ctrl-C came too early.
    #[error("ended before anything was measured")]
    Stopped,
}

/// Measures.
///
/// # Errors
/// See [`Trouble`].
pub async fn run(settings: Mode) -> Result<Report, Trouble> {
    let target = settings.target();
    let needed = settings.connections();
    let allowed = rlimit::increase_nofile_limit(u64::MAX)?;
    if needed + OTHER_FILES > allowed {
        return Err(Trouble::Files { needed, allowed });
    }
    let run = Run {
        door: Door::find(&target.addr).await?,
        meter: Meter::watch(&target.pid)?,
        stage: Stage::open(),
        clock: Clock::start(),
        prefix: target.prefix.clone().unwrap_or_else(random_prefix),
        settings: settings.clone(),
    };
    match &settings {
        Mode::Relay(messages) => exchange::relay(&run, messages, messages.pace.pairs).await,
        Mode::FanIn(messages) => exchange::relay(&run, messages, 1).await,
        Mode::Presence(questions) => exchange::presence(&run, questions).await,
        Mode::Churn(churn) => churn::run(&run, churn).await,
        Mode::Idle(idle) => idle::run(&run, idle).await,
        Mode::Storm(storm) => storm::run(&run, storm).await,
        Mode::Flood(flood) => flood::run(&run, flood).await,
        Mode::Discovery(discovery) => discovery::run(&run, discovery).await,
        Mode::Overlay(peers) => exchange::overlay(&run, peers).await,
    }
}

impl Run {
    /// The ID of a node: its role and its place in it.
    pub fn id(&self, role: &str, place: usize) -> String {
        format!("{}-{role}{place}", self.prefix)
    }

    /// Lets many nodes in, some at a time, and gives what `enter` makes of each place.
    ///
    /// # Errors
    /// [`Trouble::Stopped`].
    pub async fn enter_all<T>(
        &self,
        count: u64,
        enter: impl AsyncFn(usize) -> T,
    ) -> Result<Vec<T>, Trouble> {
        let entered = Cell::new(0u64);
        let (enter, counter) = (&enter, &entered);
        let all = stream::iter(0..count as usize)
            .map(|place| async move {
                let made = enter(place).await;
                counter.set(counter.get() + 1);
                made
            })
            .buffered(SIDE_BY_SIDE)
            .collect();
        let progress = || (entered.get() as f64 / count as f64, entered.get());
        self.stage.show("connecting", progress, all).await.ok_or(Trouble::Stopped)
    }

    /// Warms up and measures, and says by `mark` when which begins; gives what the readings were
    /// then. What is left of either time is dropped when there is nobody left to measure.
    pub async fn measure<Nobody: Future<Output = ()>>(
        &self,
        times: Times,
        so_far: impl Fn() -> u64,
        nobody_left: impl Fn() -> Nobody,
        mut mark: impl FnMut(Moment),
    ) -> (Reading, Reading) {
        let (so_far, nobody_left) = (&so_far, &nobody_left);
        let last = async |label, time| {
            tokio::select! {
                () = self.stage.last(label, time, so_far) => {}
                () = nobody_left() => {}
            }
        };
        last("warming up", times.warmup.0).await;
        let begin = self.meter.read();
        mark(Moment::Begin);
        last("measuring", times.seconds.0).await;
        mark(Moment::End);
        (begin, self.meter.read())
    }

    /// The report of what was measured between two readings.
    pub fn report(&self, measured: Measured, begin: &Reading, end: &Reading) -> Report {
        let ended_early = self.stage.is_stopped();
        Report::new(self.settings.clone(), measured, &self.meter, (begin, end), ended_early)
    }
}

/// Different in each run, so that no ID is held by what an earlier run has left behind.
fn random_prefix() -> String {
    format!("load-{:08x}", RandomState::new().build_hasher().finish() as u32)
}
