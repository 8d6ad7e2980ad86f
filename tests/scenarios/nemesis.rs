//! Everything that fails in a run, and when.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use test_support::Way;
use tokio::time::sleep;

use crate::authorizer::Answers;
use crate::checker::Outage;
use crate::history::History;
use crate::world::{TTL, World};

/// A fault that lasts for so long outlives every lease that is not extended meanwhile.
const LONG: Duration = Duration::from_millis(8_500);

/// A fault that is over before a lease ends.
const SHORT: Duration = Duration::from_millis(2_500);

/// How long a replica that was cut off may take to notice what it has lost, once it is back.
const CONTACT: Duration = Duration::from_millis(3_000);

#[derive(Debug, Clone, Copy)]
enum Fault {
    ReplicaKilled,
    ReplicaStopped,
    ReplicaRestarted,
    LinkSilent,
    LinkHalfSilent,
    LinkReset,
    LinkSlow,
    NodesReset,
    RedisEmptied,
    RedisPaused,
    RedisKilled,
    WebhookFails,
    WebhookHangs,
}

/// How many faults there are.
pub const FAULTS: usize = 13;

const ALL: [Fault; FAULTS] = [
    Fault::ReplicaKilled,
    Fault::ReplicaStopped,
    Fault::ReplicaRestarted,
    Fault::LinkSilent,
    Fault::LinkHalfSilent,
    Fault::LinkReset,
    Fault::LinkSlow,
    Fault::NodesReset,
    Fault::RedisEmptied,
    Fault::RedisPaused,
    Fault::RedisKilled,
    Fault::WebhookFails,
    Fault::WebhookHangs,
];

/// What a fault does to the replica that it happens to.
enum Effect {
    None,
    CutOff,
    Stopped,
}

impl Fault {
    fn effect(self) -> Effect {
        match self {
            Self::ReplicaStopped => Effect::Stopped,
            Self::LinkSilent | Self::LinkHalfSilent | Self::LinkReset => Effect::CutOff,
            _ => Effect::None,
        }
    }

    /// Lets it happen, to one replica or to all; returns when it is over.
    async fn happen(self, victim: usize, world: &mut World, random: &mut StdRng) {
        let replica = &mut world.replicas[victim];
        match self {
            Self::ReplicaKilled => {
                replica.process.kill();
                replica.start_again().await;
            }
            Self::ReplicaStopped => {
                replica.process.pause();
                sleep(LONG).await;
                replica.process.resume();
            }
            Self::ReplicaRestarted => replica.restart().await,
            Self::LinkSilent => {
                replica.link.hold(Way::Both);
                sleep(LONG).await;
                replica.link.pass().await;
            }
            Self::LinkHalfSilent => {
                let way = if random.random() { Way::ToTarget } else { Way::ToClient };
                replica.link.hold(way);
                sleep(LONG).await;
                replica.link.pass().await;
            }
            Self::LinkReset => {
                replica.link.refuse().await;
                replica.link.cut();
                sleep(LONG).await;
                replica.link.pass().await;
            }
            Self::LinkSlow => {
                replica.link.delay(TTL / 40);
                sleep(SHORT).await;
                replica.link.pass().await;
            }
            Self::NodesReset => replica.front.cut(),
            Self::RedisEmptied => drop(world.redis.command(&["FLUSHALL"])),
            Self::RedisPaused => {
                let pause = LONG.as_millis().to_string();
                world.redis.command(&["CLIENT", "PAUSE", &pause, "ALL"]);
                sleep(LONG).await;
            }
            Self::RedisKilled => {
                world.redis.kill();
                sleep(SHORT).await;
                world.redis.restart().await;
            }
            Self::WebhookFails | Self::WebhookHangs => {
                let hangs = matches!(self, Self::WebhookHangs);
                world.authorizer.set(if hangs { Answers::Hangs } else { Answers::Fails });
                sleep(SHORT).await;
                world.authorizer.set(Answers::Yes);
            }
        }
    }
}

/// Lets this many of the faults happen, each once. Returns when each replica could not do what it
/// should.
pub async fn run(
    world: &mut World,
    history: &History,
    count: usize,
    random: &mut StdRng,
) -> Vec<Outage> {
    let mut faults = ALL;
    faults.shuffle(random);
    let mut outages = Vec::new();
    for fault in faults.into_iter().take(count) {
        sleep(Duration::from_millis(random.random_range(100..600))).await;
        let (replica, from) = (random.random_range(0..world.replicas.len()), history.now());
        println!("{from:?}: {fault:?}, replica {replica}");
        fault.happen(replica, world, random).await;
        world.until_ready().await;
        let is_stopped = match fault.effect() {
            Effect::None => None,
            Effect::CutOff => Some(false),
            Effect::Stopped => Some(true),
        };
        let to = history.now() + CONTACT;
        outages.extend(is_stopped.map(|is_stopped| Outage { replica, from, to, is_stopped }));
        // Time for what the fault has left behind to show.
        sleep(CONTACT).await;
    }
    // A circuit breaker that a fault has opened closes again.
    sleep(Duration::from_secs(5)).await;
    outages
}
