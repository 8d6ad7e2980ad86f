//! Builds all parts of the broker and owns their tasks.
//!
//! The only module that knows both the configuration and all parts.

mod descriptors;
mod operators;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rondevu::{Demand, Discovery, OpenError};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::api;
use crate::bans::Bans;
use crate::broker::Broker;
use crate::cluster::{Cluster, RedisUnusable};
use crate::config::Config;
use crate::directory::Directory;
use crate::gateway::{self, Addresses, Listener, Tls, TlsError};
use crate::http;
use crate::lifecycle::Lifecycle;
use crate::login::Login;
use crate::memory_budget::MemoryBudget;
use crate::metrics::Metrics;
use crate::node::ReplicaId;
use crate::overlay::Peer;
#[cfg(feature = "overlay")]
use crate::overlay::{IdFileError, PeerId, PeerSettings};
use crate::webhooks::{ClientError, Webhooks};
use descriptors::Places;
use link::{CloseReason, LinkSet};
use operators::{Bound, Operators, shown};

/// The share of the shutdown timeout that is left for what has to be cut off.
const CUT_OFF_SHARE: u32 = 10;

/// A running broker. Dropping it ends it at once; [`Server::shutdown`] does so in good order.
pub struct Server {
    address: SocketAddr,
    shutdown_timeout: Duration,
    broker: Arc<Broker>,
    peer: Option<Peer>,
    links: LinkSet,
    metrics: Metrics,
    stop: CancellationToken,
    tasks: TaskTracker,
    places: usize,
    listener: JoinHandle<()>,
    tls: Option<Tls>,
    internal_address: Option<SocketAddr>,
    metrics_address: Option<SocketAddr>,
    api_address: Option<SocketAddr>,
    drain: CancellationToken,
    _operators: [Option<Operators>; 3],
    discovery: Option<Discovery>,
    _maintenance: Vec<AbortOnDropHandle<()>>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Redis cannot be used, and the configuration says that it has to be. Holds the cause.
    #[error("{0}")]
    Redis(String),
    /// The webhooks cannot be called as they should be.
    #[error(transparent)]
    Webhooks(#[from] ClientError),
    /// The files for TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The sessions of discovery cannot be stored.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// The ID of the broker's peer cannot be read or written.
    #[cfg(feature = "overlay")]
    #[error(transparent)]
    PeerId(#[from] IdFileError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
}

impl From<RedisUnusable> for StartError {
    fn from(cause: RedisUnusable) -> Self {
        Self::Redis(cause.to_string())
    }
}

impl Server {
    /// Starts to listen and to serve.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(config: &Config) -> Result<Self, StartError> {
        let address = SocketAddr::new(config.host.address().await, config.port);
        let bind_error = |source| StartError::Bind { address, source };
        let listener = gateway::bind(address.ip(), config.port).map_err(bind_error)?;
        let local_address = listener.local_addr().map_err(bind_error)?;
        let internal = config.internal_addr.map(Bound::to).transpose()?;
        let metrics_listener = config.metrics_addr.map(Bound::to).transpose()?;
        let own_api = config.api_addr.filter(|_| !config.api.tokens.is_empty());
        let own_api = own_api.map(Bound::to).transpose()?;

        let metrics = Metrics::new();
        let tls = config.listener.tls.clone();
        let tls = tls.map(|files| Tls::load(files, metrics.clone())).transpose()?;
        let places = Places::of(config);
        let links = LinkSet::new(config.link, places.connections);
        let counted = metrics.clone();
        links.on_rate_limited(move |limit| counted.rate_limit_pause(limit));
        let replica = ReplicaId::random();
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let cluster = match &config.cluster {
            Some(settings) => Some(Cluster::join(settings, replica, &metrics).await?),
            None => None,
        };
        let memory = MemoryBudget::new(config.memory_limit, &metrics);
        let login = config.login.clone();
        let login = login.map(|it| Login::new(it, &config.webhooks.calls, &metrics)).transpose()?;
        let peer = start_peer(config, address, &links, &memory, &metrics).await?;
        let is_followed = config.webhooks.node_events.is_some() || !config.api.tokens.is_empty();
        let lifecycle = is_followed.then(|| Lifecycle::new(replica, config.lifecycle, &metrics));
        let lifecycle = lifecycle.unwrap_or_default();
        let broker = Broker::new(
            replica,
            config.broker.clone(),
            cluster.as_ref().map_or_else(Directory::memory, Cluster::directory),
            cluster.as_ref().map(Cluster::remote),
            Webhooks::new(&config.webhooks, &lifecycle, &metrics)?,
            config.static_rtc.clone(),
            metrics.clone(),
        )
        .within(memory.clone())
        .recorded(lifecycle.clone())
        .logging_in(login);
        let redis = cluster.as_ref().map(Cluster::redis);
        let bans = Bans::new(redis, config.api.max_bans, metrics.clone());
        let broker = broker.with_bans(bans.clone());
        let broker = match config.api.sender.clone() {
            Some(sender) => broker.reserving(sender),
            None => broker,
        };
        let bridge = peer.clone().filter(|_| config.peer_relay.bridge);
        let peer_events = bridge.as_ref().map(Peer::events);
        let broker = match bridge {
            Some(peer) => broker.bridged(peer),
            None => broker,
        };
        let discovery = match &config.discovery {
            Some(settings) => {
                let discovery = Discovery::open(settings, metrics.discovery(), stop.clone());
                let memory = memory.clone();
                Some(discovery.await?.within(move |demand| match demand {
                    Demand::New => memory.admits_newcomers(),
                    Demand::Ongoing => memory.admits_message(),
                }))
            }
            None => None,
        };
        let broker = Arc::new(match &discovery {
            Some(discovery) => broker.reporting(http::discovery_part(discovery.clone())),
            None => broker,
        });
        let for_operators = http::operators_router(&broker);
        let for_operators = match metrics_listener {
            Some(_) => for_operators,
            None => for_operators.merge(http::metrics_route(&metrics)),
        };
        let drain = CancellationToken::new();
        let mut api = (!config.api.tokens.is_empty()).then(|| {
            let (settings, shown) = (config.api.clone(), shown(&config.settings));
            let (stop, drain) = (stop.clone(), drain.clone());
            api::router(broker.clone(), settings, shown, stop, drain, metrics.clone())
        });
        let own_api = match own_api {
            Some(bound) => Some(bound).zip(api.take()),
            None => None,
        };
        let (for_operators, internal_app) = match internal {
            Some(_) => (None, for_operators.merge(http::health_route())),
            None => (Some(for_operators), Router::new()),
        };
        let channels = config.peer_relay.max_channels();
        let gateway = Listener {
            addresses: Addresses::new(config.listener.clone(), places.connections, channels)
                .with_bans(bans.clone())
                .into(),
            links: links.clone(),
            refusals: LinkSet::new(config.link, places.refusals),
            tls: tls.clone(),
            app: http::router(
                &broker,
                config.peer_relay.path.as_deref().zip(peer.clone()),
                discovery.as_ref(),
                for_operators.into_iter().chain(api),
                &memory,
                &metrics,
            ),
            socket_io: gateway::socket_io(config.transport),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
        };
        let serve = |(bound, app): (Bound, Router)| bound.serve(app, config.link, &gateway);
        let internal = internal.map(|bound| serve((bound, internal_app)));
        let own_api = own_api.map(serve);
        let metrics_listener = metrics_listener
            .map(|bound| serve((bound, http::metrics_route(&metrics).merge(http::health_route()))));
        let listener = tokio::spawn(gateway.run(listener, stop.clone()));

        let (checked, interval) = (broker.clone(), config.webhooks.validity_check_interval);
        let check = async move { checked.check_validity_every(interval).await };
        let enforcing = broker.clone();
        let enforce = async move { enforcing.enforce_bans().await };
        let mut maintenance = vec![
            spawn(check),
            spawn(enforce),
            spawn(bans.run()),
            spawn(memory.keep(links.clone())),
            spawn(lifecycle.release_held()),
        ];
        maintenance.extend(tls.clone().map(|tls| spawn(tls.reload_on_change())));
        maintenance.extend(peer_events.map(|events| spawn(broker.clone().serve_peers(events))));
        maintenance.extend(cluster.into_iter().flat_map(|cluster| cluster.run(&broker)));
        Ok(Self {
            address: local_address,
            shutdown_timeout: config.shutdown_timeout,
            broker,
            peer,
            links,
            metrics,
            stop,
            tasks,
            places: places.connections,
            listener,
            tls,
            internal_address: internal.as_ref().map(|it| it.address),
            metrics_address: metrics_listener.as_ref().map(|it| it.address),
            api_address: own_api.as_ref().map(|it| it.address),
            drain,
            _operators: [internal, metrics_listener, own_api],
            discovery,
            _maintenance: maintenance,
        })
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the listener for operators, if there is one.
    pub fn internal_address(&self) -> Option<SocketAddr> {
        self.internal_address
    }

    /// Reads the certificate, its key and the authorities of clients again, for new connections. If
    /// they cannot be used, that is logged and the old ones are kept. Does nothing without TLS.
    pub fn reload_certificates(&self) {
        self.tls.iter().for_each(Tls::reload);
    }

    /// The address of the listener for metrics alone, if there is one.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The address of the API's own listener, if there is one.
    pub fn api_address(&self) -> Option<SocketAddr> {
        self.api_address
    }

    /// Resolves when an operator has asked over the API for the end of the process.
    pub async fn drain_requested(&self) {
        self.drain.cancelled().await;
    }

    /// Returns the most connections at a time: `MAX_CONNECTIONS`, or fewer if the process may not
    /// open that many files.
    pub fn places(&self) -> usize {
        self.places
    }

    /// Returns all metrics in the text format that Prometheus scrapes (OpenMetrics 1.0).
    pub fn metrics(&self) -> String {
        self.metrics.encode()
    }

    /// Returns the number of open connections, of nodes and of others.
    pub fn connections(&self) -> usize {
        self.links.len()
    }

    /// Returns the most connections that were open at a time since the last call.
    pub fn take_peak_connections(&self) -> usize {
        self.links.take_peak()
    }

    /// The broker as a peer of the peer-relay network, if it is one.
    #[cfg(feature = "overlay")]
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Shuts the server down in order, within the shutdown timeout: stops admissions, releases
    /// every ID, and closes every connection after what is queued on it. Nodes see a closed
    /// connection, and so reconnect.
    pub async fn shutdown(self) {
        let end = Instant::now() + self.shutdown_timeout;
        self.stop.cancel();
        self.broker.drain();
        if let Some(peer) = &self.peer {
            peer.leave();
        }
        // The others speak HTTP: the listener lets them finish what they are about.
        for link in self.links.handles().iter().filter(|link| link.is_upgraded()) {
            link.close(CloseReason::Draining);
        }
        let cut_off_timeout = self.shutdown_timeout / CUT_OFF_SHARE;
        let timeout = self.shutdown_timeout - cut_off_timeout;
        if tokio::time::timeout(timeout, self.links.emptied()).await.is_err() {
            tracing::warn!(
                connections = self.links.len(),
                "connections cut off at the end of the drain"
            );
            self.links.kill_all(CloseReason::Draining);
            let _ = tokio::time::timeout(cut_off_timeout, self.links.emptied()).await;
        }
        let _ = tokio::time::timeout(timeout / CUT_OFF_SHARE, self.broker.leave()).await;
        if tokio::time::timeout_at(end, self.broker.flush_events()).await.is_err() {
            tracing::warn!("the webhook for events of nodes did not take the last ones in time");
        }
        self.tasks.close();
        if let Some(discovery) = &self.discovery
            && tokio::time::timeout(cut_off_timeout, discovery.close()).await.is_err()
        {
            tracing::warn!("discovery did not close in time");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.listener.abort();
        self.links.kill_all(CloseReason::Draining);
    }
}

#[cfg(feature = "overlay")]
async fn start_peer(
    config: &Config,
    address: SocketAddr,
    links: &LinkSet,
    memory: &MemoryBudget,
    metrics: &Metrics,
) -> Result<Option<Peer>, StartError> {
    if config.peer_relay.path.is_none() {
        return Ok(None);
    }
    let configured = config.peer_relay.peer.clone();
    let kept = config.peer_relay.id_file.as_deref().map(PeerId::in_file).transpose()?;
    let memory = memory.clone();
    let settings = PeerSettings {
        id: kept.or(configured.id),
        admits: Some(Arc::new(move || memory.admits_newcomers())),
        ..configured
    };
    let started = Peer::start_with(settings, links.clone(), metrics.peer_relay()).await;
    started.map(Some).map_err(|source| StartError::Bind { address, source })
}

#[cfg(not(feature = "overlay"))]
async fn start_peer(
    _: &Config,
    _: SocketAddr,
    _: &LinkSet,
    _: &MemoryBudget,
    _: &Metrics,
) -> Result<Option<Peer>, StartError> {
    Ok(None)
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}
