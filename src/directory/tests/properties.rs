//! The lease protocol as a state machine: whatever happens to replicas, to their links and to
//! Redis, in whatever order, an ID has one owner, and a node that leaves frees it.
//!
//! Three replicas run the real directory, each on a runtime of its own that can be stopped, against
//! a real Redis server, each through a proxy of its own that loses and holds up. A reference model
//! (`model`) says which transitions are possible and what a newcomer may be told; the replicas
//! (`replica`) and what everybody believes (`world`) are compared with it behind each of them.
//!
//! What runs out is deleted, instead of being waited for: nothing runs out by itself while a case
//! takes its time on a busy machine, so whatever is lost without a reason is a fault. Most of a
//! case is waiting, for outages to be noticed and leases to be extended, so many are played side
//! by side. The transitions are the same for the same `PROPTEST_RNG_SEED`, which is printed; when
//! exactly each of them meets the maintenance is not. `PROPTEST_CASES` is how many cases each player
//! plays.

mod model;
mod replica;
mod world;

use std::time::Duration;

use proptest::test_runner::{Config, RngSeed, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use tokio::runtime::{Builder, Runtime};

use model::Model;
use world::World;

const REPLICAS: usize = 3;
const NODES: usize = 3;

/// How many cases are played side by side, how many each plays one after the other, and how many
/// transitions a case has.
const PLAYERS: u64 = 8;
const CASES: u32 = 3;
const TRANSITIONS: std::ops::RangeInclusive<usize> = 1..=30;

/// How long a case that fails is made shorter.
const MAX_SHRINK_TIME: Duration = Duration::from_secs(120);

/// What may happen.
#[derive(Debug, Clone, Copy)]
enum Transition {
    /// A newcomer wants the ID, and judges its holder as the broker does.
    Acquire { replica: usize, node: usize },
    /// Newcomers want it on all replicas at once.
    Race { node: usize },
    /// A newcomer wants it and is gone so soon.
    Abandon { replica: usize, node: usize, after: Duration },
    /// The connection that has the ID on this replica ends.
    Release { replica: usize, node: usize },
    /// All connections that have the ID end, wherever they are.
    ReleaseAll { node: usize },
    /// All that have contact extend their leases once.
    Extend,
    /// The process ends without a word; another takes its place.
    Crash { replica: usize },
    /// All keys of the processes that ended run out.
    DeadRunOut,
    /// The process is taken off the processor: it answers nothing and extends nothing.
    Pause { replica: usize },
    /// It goes on, and knows nothing of the time in between.
    Resume { replica: usize },
    /// The link is reset, and cannot be opened again.
    Cut { replica: usize },
    /// Nothing passes the link; all of it may do so later.
    Freeze { replica: usize },
    /// Redis is asked and does what it is told, and no answer comes back.
    LoseAnswers { replica: usize },
    /// All keys of a replica without contact run out.
    RunOut { replica: usize },
    /// There is contact again; what was held up comes late, or not at all.
    Restore { replica: usize, late: bool },
    /// Redis loses all that it has.
    Flush,
    /// Nothing happens for a while.
    Wait { duration: Duration },
    /// Nothing happens until all that have contact agree.
    Settle,
}

/// The replicas under test, and the runtime of all that is around them.
struct LeaseProtocol {
    // The replicas end before what they talk to.
    world: World,
    runtime: Runtime,
}

impl StateMachineTest for LeaseProtocol {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(_: &Model) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let world = runtime.block_on(World::start());
        Self { world, runtime }
    }

    fn apply(mut test: Self, model: &Model, transition: Transition) -> Self {
        let taken = test.runtime.block_on(test.world.take(transition, model));
        taken.unwrap_or_else(|error| panic!("{transition:?}: {error}"));
        test
    }

    fn check_invariants(test: &Self, model: &Model) {
        test.world.check(model).unwrap_or_else(|error| panic!("{error}"));
    }

    fn teardown(Self { world, runtime }: Self, _: Model) {
        let ended = runtime.block_on(world.end());
        ended.unwrap_or_else(|error| panic!("at the end: {error}"));
    }
}

/// The players' configurations: each has a seed of its own, which follows from the one that is
/// given.
fn configurations() -> Vec<Config> {
    let given = Config::default();
    let seed = match given.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => rand::random::<u32>().into(),
    };
    println!("PROPTEST_RNG_SEED={seed}");
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { given.cases } else { CASES };
    let config = |player| Config {
        cases,
        failure_persistence: None,
        max_shrink_time: MAX_SHRINK_TIME.as_millis() as u32,
        rng_seed: RngSeed::Fixed(seed.wrapping_mul(PLAYERS).wrapping_add(player)),
        ..given.clone()
    };
    (0..PLAYERS).map(config).collect()
}

#[test]
fn an_id_has_one_owner_whatever_happens() {
    std::thread::scope(|scope| {
        for config in configurations() {
            scope.spawn(move || {
                let cases = Model::sequential_strategy(TRANSITIONS);
                let played = TestRunner::new(config.clone()).run(&cases, |(model, steps, seen)| {
                    LeaseProtocol::test_sequential(config.clone(), model, steps, seen);
                    Ok(())
                });
                if let Err(failure) = played {
                    panic!("{failure}");
                }
            });
        }
    });
}
