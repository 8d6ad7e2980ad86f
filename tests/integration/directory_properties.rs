//! Property tests of the lease protocol: whatever happens to the replicas and to their links, in
//! whatever order, an ID has one owner.
//!
//! Some replicas run the real directory against a real Redis server, each through a proxy of its
//! own. A schedule is some rounds of random steps; behind each round what has to hold is checked.
//! Time does not pass by waiting: the keys of a replica that is cut off are deleted, as if they
//! had run out. A schedule that fails is made shorter, and the seed is printed; `CHAOS_SEED` plays
//! it again.

mod world;

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::support::RedisServer;
use world::World;

const REPLICAS: usize = 3;
const NODES: usize = 3;

/// How many schedules are played side by side, and how many one after the other.
const PLAYERS: u8 = 8;
const SCHEDULES: u32 = 2;

/// What may happen.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A newcomer wants the ID, and judges its holder as the broker does.
    Acquire {
        replica: usize,
        node: usize,
    },
    /// Newcomers want it on all replicas at once.
    Race {
        node: usize,
    },
    /// A newcomer wants it and is gone so soon.
    Abandon {
        replica: usize,
        node: usize,
        after: Duration,
    },
    /// The connection that has the ID on this replica ends.
    Leave {
        replica: usize,
        node: usize,
    },
    /// The process ends without a word; another takes its place.
    Crash {
        replica: usize,
    },
    /// The link is cut, until it is restored.
    Cut {
        replica: usize,
    },
    /// Nothing passes the link, and all of it does later, unless it is cut before.
    Freeze {
        replica: usize,
    },
    /// Redis is asked and does what it is told, and no answer comes back.
    LoseAnswers {
        replica: usize,
    },
    /// If the link is disturbed: all keys of the replica run out.
    RunOut {
        replica: usize,
    },
    /// Ends what disturbs the link; what was held up comes late, or not at all.
    Restore {
        replica: usize,
        late: bool,
    },
    /// Redis loses all that it has.
    Flush,
    Pause {
        duration: Duration,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let replica = || 0..REPLICAS;
    let node = || 0..NODES;
    prop_oneof![
        8 => (replica(), node()).prop_map(|(replica, node)| Step::Acquire { replica, node }),
        3 => node().prop_map(|node| Step::Race { node }),
        3 => (replica(), node(), 0..2_000_u64).prop_map(|(replica, node, micros)| {
            Step::Abandon { replica, node, after: Duration::from_micros(micros) }
        }),
        5 => (replica(), node()).prop_map(|(replica, node)| Step::Leave { replica, node }),
        1 => replica().prop_map(|replica| Step::Crash { replica }),
        2 => replica().prop_map(|replica| Step::Cut { replica }),
        2 => replica().prop_map(|replica| Step::Freeze { replica }),
        2 => replica().prop_map(|replica| Step::LoseAnswers { replica }),
        3 => replica().prop_map(|replica| Step::RunOut { replica }),
        3 => (replica(), any::<bool>())
            .prop_map(|(replica, late)| Step::Restore { replica, late }),
        1 => Just(Step::Flush),
        2 => (0..400_u64).prop_map(|millis| Step::Pause { duration: Duration::from_millis(millis) }),
    ]
}

fn schedule() -> impl Strategy<Value = Vec<Vec<Step>>> {
    use proptest::collection::vec;
    vec(vec(step(), 1..10), 1..4)
}

async fn play(
    redis: &RedisServer,
    prefix: String,
    rounds: Vec<Vec<Step>>,
) -> Result<(), TestCaseError> {
    let mut world = World::start(redis, prefix).await;
    let played = async {
        for steps in rounds {
            for step in steps {
                world.take(step).await?;
            }
            world.settle().await?;
        }
        world.end().await
    };
    played.await.map_err(TestCaseError::fail)
}

/// The number by which this run can be repeated.
fn seed() -> u64 {
    let given = std::env::var("CHAOS_SEED").ok();
    given.map_or_else(rand::random, |text| text.parse().expect("CHAOS_SEED is a number"))
}

#[test]
fn an_id_has_one_owner_whatever_happens() {
    let seed = seed();
    println!("CHAOS_SEED={seed}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let redis = runtime.block_on(RedisServer::start());
    std::thread::scope(|scope| {
        for player in 0..PLAYERS {
            let (runtime, redis) = (runtime.handle(), &redis);
            scope.spawn(move || {
                let mut bytes = [player; 32];
                bytes[..8].copy_from_slice(&seed.to_le_bytes());
                let config = Config {
                    cases: SCHEDULES,
                    failure_persistence: None,
                    max_shrink_time: 60_000,
                    ..Config::default()
                };
                let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
                let mut runner = TestRunner::new_with_rng(config, random);
                let played = runner.run(&schedule(), |rounds| {
                    let prefix = format!("player-{player}");
                    runtime.block_on(play(redis, prefix, rounds))
                });
                if let Err(failure) = played {
                    panic!("with CHAOS_SEED={seed}, player {player}: {failure}");
                }
            });
        }
    });
}
