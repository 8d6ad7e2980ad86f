//! All open links, so that they can be counted, limited and ended together.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::{CloseReason, Link, LinkHandle, LinkLimits, RateLimit, Socket};

/// The least number of bytes that a link must hold to be paused when memory is short.
const MIN_PAUSED_BYTES: usize = 16 * 1024;

/// The set of open links.
#[derive(Clone)]
pub struct LinkSet(Arc<Inner>);

struct Inner {
    limits: Arc<LinkLimits>,
    max_links: usize,
    links: Mutex<Links>,
    emptied: Notify,
    on_rate_limited: OnceLock<OnRateLimited>,
}

type OnRateLimited = Box<dyn Fn(RateLimit) + Send + Sync>;

#[derive(Default)]
struct Links {
    last_key: u64,
    open: HashMap<u64, LinkHandle>,
    /// The most that were open since the last call of [`LinkSet::take_peak`].
    peak: usize,
}

/// A link's slot in the set; free again when dropped.
pub(crate) struct Slot {
    set: LinkSet,
    key: u64,
}

/// A link over something else than a stream of bytes. It ends when it is dropped.
pub struct BareLink {
    handle: LinkHandle,
    _slot: Slot,
}

impl BareLink {
    /// The handle for the rest of the broker.
    pub fn handle(&self) -> &LinkHandle {
        &self.handle
    }
}

impl Drop for BareLink {
    fn drop(&mut self) {
        self.handle.kill(CloseReason::Transport);
    }
}

impl LinkSet {
    /// Creates a set for at most `max_links` links with these `limits`.
    pub fn new(limits: LinkLimits, max_links: usize) -> Self {
        Self(Arc::new(Inner {
            limits: Arc::new(limits),
            max_links,
            links: Mutex::default(),
            emptied: Notify::new(),
            on_rate_limited: OnceLock::new(),
        }))
    }

    /// Calls `on_rate_limited` whenever a link pauses its reading for a rate limit. There is one such
    /// call: a second one is dropped.
    pub fn on_rate_limited(&self, on_rate_limited: impl Fn(RateLimit) + Send + Sync + 'static) {
        let _ = self.0.on_rate_limited.set(Box::new(on_rate_limited));
    }

    /// Makes a link of an accepted connection.
    ///
    /// # Errors
    /// Gives the socket back if the set is full.
    pub fn open<S: Socket>(&self, socket: S, remote_addr: SocketAddr) -> Result<Link<S>, S> {
        match self.enter(remote_addr) {
            Some((handle, slot)) => Ok(Link::new(socket, handle, slot)),
            None => Err(socket),
        }
    }

    /// Makes a link without a stream: the code that reads and writes reports it to the handle. `None`
    /// if the set is full.
    pub fn open_bare(&self, remote_addr: SocketAddr) -> Option<BareLink> {
        let (handle, slot) = self.enter(remote_addr)?;
        Some(BareLink { handle, _slot: slot })
    }

    fn enter(&self, remote_addr: SocketAddr) -> Option<(LinkHandle, Slot)> {
        let handle = LinkHandle::new(remote_addr, self.0.limits.clone());
        let mut links = self.lock();
        if links.open.len() >= self.0.max_links {
            return None;
        }
        links.last_key += 1;
        let key = links.last_key;
        links.open.insert(key, handle.clone());
        links.peak = links.peak.max(links.open.len());
        drop(links);
        Some((handle, Slot { set: self.clone(), key }))
    }

    /// Returns how many links are open.
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Returns the most links that were open at a time since the last call.
    pub fn take_peak(&self) -> usize {
        let mut links = self.lock();
        let open = links.open.len();
        std::mem::replace(&mut links.peak, open)
    }

    /// Whether as many links are open as there may be.
    pub fn is_full(&self) -> bool {
        self.len() >= self.0.max_links
    }

    /// Whether more than three quarters of the links that there may be are open.
    pub fn is_crowded(&self) -> bool {
        self.len() > self.0.max_links / 4 * 3
    }

    /// Whether no link is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the handles of all open links.
    pub fn handles(&self) -> Vec<LinkHandle> {
        self.lock().open.values().cloned().collect()
    }

    /// Pauses the reading of the links that hold most, so that they hold `bytes` together, and resumes
    /// that of all others. Returns how many were paused now.
    pub fn pause_largest(&self, bytes: usize) -> usize {
        let handles = self.handles();
        let mut held: Vec<_> = handles.iter().map(|link| (link.held_bytes(), link)).collect();
        held.sort_unstable_by_key(|(held, _)| std::cmp::Reverse(*held));
        let (mut sum, mut newly) = (0, 0);
        for (held, link) in held {
            let pauses = sum < bytes && held >= MIN_PAUSED_BYTES;
            sum += held;
            newly += usize::from(link.pause_for_memory(pauses) && pauses);
        }
        newly
    }

    /// Kills every open link.
    pub fn kill_all(&self, reason: CloseReason) {
        for link in self.handles() {
            link.kill(reason);
        }
    }

    /// Waits until no link is open.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Links> {
        self.0.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Reports a pause for a rate limit.
    pub(crate) fn rate_limited(&self, limit: RateLimit) {
        if let Some(on_rate_limited) = self.set.0.on_rate_limited.get() {
            on_rate_limited(limit);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut links = self.set.lock();
        links.open.remove(&self.key);
        let is_empty = links.open.is_empty();
        drop(links);
        if is_empty {
            self.set.0.emptied.notify_waiters();
        }
    }
}
