//! A replica under test: the real directory on a runtime of its own, which can be stopped.

use std::collections::HashMap;
use std::sync::mpsc;

use redis_session::RedisState;
use test_support::{Proxy, RedisServer, eventually};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::model::Link;
use super::world::LEASES;
use crate::directory::Lease;
use crate::directory::tests::View;
use crate::node::NodeId;

pub(super) struct Replica {
    pub(super) view: View,
    pub(super) proxy: Proxy,
    pub(super) link: Link,
    /// What it believes to own.
    pub(super) leases: HashMap<NodeId, Held>,
    processor: Processor,
}

pub(super) struct Held {
    pub(super) lease: Lease,
    /// The session in which it was good. As long as nothing happens to that and to the data in
    /// Redis, there is no reason to lose it.
    pub(super) good_in: Option<RedisState>,
}

impl Replica {
    pub(super) async fn start(redis: &RedisServer, prefix: &str) -> Self {
        let proxy = Proxy::start(redis.address()).await;
        let (processor, address, prefix) = (Processor::new(), proxy.address(), prefix.to_owned());
        let view = async move { View::open(address, &prefix, LEASES) };
        let view = processor.runtime().spawn(view).await.unwrap();
        view.until_ready().await;
        Self { view, proxy, link: Link::Good, leases: HashMap::new(), processor }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.processor.resume.is_some()
    }

    pub(super) fn has_contact(&self) -> bool {
        self.link == Link::Good && !self.is_paused()
    }

    pub(super) fn session(&self) -> Option<RedisState> {
        self.has_contact().then(|| *self.view.redis.state().borrow())
    }

    pub(super) fn is_undisturbed(&self, held: &Held) -> bool {
        held.good_in.is_some() && held.good_in == self.session()
    }

    /// From now on, it may lose what it has.
    pub(super) fn disturb(&mut self) {
        self.leases.values_mut().for_each(|held| held.good_in = None);
    }

    pub(super) async fn pause(&mut self) {
        self.processor.stop().await;
        self.disturb();
    }

    pub(super) fn resume(&mut self) {
        self.processor.resume = None;
    }

    /// Ends what disturbs the link; what was held up comes late, or not at all.
    pub(super) async fn restore(&mut self, late: bool) {
        if !late {
            self.proxy.cut();
        }
        self.proxy.pass().await;
        self.link = Link::Good;
    }

    /// Gives up what it has learnt to be lost.
    pub(super) fn evict(&mut self) -> Result<(), String> {
        while let Ok(lost) = self.view.lost.try_recv() {
            let Some(held) = self.leases.get(&lost.node) else { continue };
            if held.lease.owner().connection != lost.connection {
                continue;
            }
            if self.is_undisturbed(held) {
                return Err(format!("{:?} was lost without any reason", lost.node));
            }
            self.leases.remove(&lost.node);
        }
        Ok(())
    }

    /// Ends it. Whatever it still wants to say is not heard; its name is what is left of it.
    pub(super) async fn kill(self) -> String {
        self.proxy.refuse().await;
        self.proxy.cut();
        eventually("its links are gone", || self.proxy.connections() == 0).await;
        self.view.replica.to_string()
    }
}

/// What a replica runs on: one thread, for as long as that is not taken away.
struct Processor {
    runtime: Option<Runtime>,
    /// While this is there, the thread does nothing.
    resume: Option<mpsc::Sender<()>>,
}

impl Processor {
    fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { runtime: Some(runtime.unwrap()), resume: None }
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    /// Takes the thread off everything: tasks, timers, sockets. As with a process that is stopped,
    /// the system goes on to receive for it.
    async fn stop(&mut self) {
        let (resume, resumed) = mpsc::channel::<()>();
        let (stopped, has_stopped) = oneshot::channel();
        self.runtime().spawn(async move {
            let _ = stopped.send(());
            // It ends when the sender is dropped.
            let _ = resumed.recv();
        });
        has_stopped.await.unwrap();
        self.resume = Some(resume);
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.resume = None;
        // Not to be waited for where it is dropped.
        self.runtime.take().unwrap().shutdown_background();
    }
}
