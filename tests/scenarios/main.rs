//! Whole clusters under faults: brokers as processes, a real Redis, a webhook server, and nodes that
//! come, talk and go while all of that fails. What they saw is written down, and checked afterwards
//! against what the broker promises.
//!
//! `CHAOS_SEED` repeats the decisions of a run; the times at which they meet differ from run to run.
#![allow(unreachable_pub, reason = "what the modules share is public to them")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops there")]

mod authorizer;
mod checker;
mod counts;
#[path = "../integration/support/events.rs"]
mod events;
mod history;
mod nemesis;
mod node;
#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "../integration/support/process.rs"]
mod process;
mod samples;
mod world;

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

pub(crate) use test_support::{SOON, eventually};
pub(crate) use world::get;

use counts::Counts;
use samples::Samples;
use world::World;

/// How many of the faults happen in a run that everybody waits for: others in each run.
const SOME: usize = 7;

/// How many IDs the nodes have.
const IDS: usize = 40;

/// How many clients there are for each ID. One of them has it, the others want it.
const CLIENTS_PER_ID: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_are_kept_whatever_fails() {
    let seed = std::env::var("CHAOS_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or_else(rand::random);
    println!("CHAOS_SEED={seed}");
    let mut world = World::start().await;
    let counts = round(&mut world, SOME, StdRng::seed_from_u64(seed)).await;
    assert!(counts.delivered > 500, "too little happened: {counts}");
}

/// Goes on for `SOAK_MINUTES`, and writes what the replicas hold to `SOAK_SAMPLES`. `scripts/soak` runs
/// it and draws the picture.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as it is told to: scripts/soak"]
async fn soak() {
    let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let minutes: u64 = variable("SOAK_MINUTES").parse().expect("a number");
    let seed: u64 = variable("CHAOS_SEED").parse().expect("a number");
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut samples = Samples::create(variable("SOAK_SAMPLES").as_ref());
    let mut world = World::start().await;
    let mut total = Counts::default();
    let mut number = 0;
    while Instant::now() < end {
        total += round(&mut world, nemesis::FAULTS, StdRng::seed_from_u64(seed + number)).await;
        number += 1;
        samples.take(&world).await;
        println!("round {number}: {total}");
    }
}

/// Lets some faults happen, in random order, while nodes talk. Returns what was seen if all of it was
/// as promised.
async fn round(world: &mut World, faults: usize, mut random: StdRng) -> Counts {
    let crowd = node::Crowd::start(world.addresses(), &mut random);
    let outages = nemesis::run(world, crowd.history(), faults, &mut random).await;
    crowd.settle().await;
    let history = crowd.leave().await;
    let violations = checker::violations(&history, &outages);
    for violation in violations.iter().take(20) {
        println!("{violation}");
    }
    assert!(violations.is_empty(), "{} promises broken", violations.len());
    world.is_back_at_the_start().await;
    Counts::of(&history)
}
