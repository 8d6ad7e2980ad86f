//! Puts the parts together and owns everything that runs.
//!
//! The only file that knows both the configuration and all parts.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use redis_session::{Message, Redis, RedisSettings, RedisState};
use rondevu::{Discovery, OpenError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::broker::{Broker, BrokerSettings};
use crate::config::{Config, PeerRelayConfig, RedisConfig, SecretUrl, WebhookConfig};
use crate::delivery::Remote;
use crate::directory::{Directory, LeaseSettings, LostLease, Upkeep};
use crate::gateway::{self, Listener, TransportSettings};
use crate::http;
use crate::link::{CloseReason, LinkLimits, LinkSet};
use crate::metrics::Metrics;
use crate::node::ReplicaId;
use crate::overlay::{Peer, PeerSettings};
use crate::webhooks::{
    Authentication, Authorization, Client, ClientError, ClientSettings, RtcConfigurations,
    SocketMessages, Validity, Webhooks,
};

/// How much of the shutdown's time is left for what has to be cut off.
const CUT_OFF_SHARE: u32 = 10;

/// How long the start waits for Redis before it goes on without.
const REDIS_START_PATIENCE: Duration = Duration::from_secs(2);

/// How long the start waits for Redis if it is required.
const REQUIRED_REDIS_PATIENCE: Duration = Duration::from_secs(10);

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
    listener: JoinHandle<()>,
    discovery: Option<Discovery>,
    _upkeep: Vec<AbortOnDropHandle<()>>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Redis cannot be reached, and the configuration says that it has to be.
    #[error("Redis cannot be reached")]
    Redis,
    /// The webhooks cannot be called as they should be.
    #[error(transparent)]
    Webhooks(#[from] ClientError),
    /// The sessions of discovery cannot be stored.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// The signals that end the process cannot be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(#[source] io::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Server {
    /// Starts to listen and to serve.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(config: &Config) -> Result<Self, StartError> {
        let address = SocketAddr::new(config.host, config.port);
        let bound = gateway::bind(config.host, config.port)
            .and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|source| StartError::Bind { address, source })?;

        let metrics = Metrics::new();
        let limits = LinkLimits {
            write_timeout: config.write_timeout,
            max_queued_bytes: config.max_queued_bytes,
        };
        let links = LinkSet::new(limits, config.max_connections);
        let replica = ReplicaId::random();
        let (directory, cluster) = match &config.redis.settings {
            None => (Directory::memory(), None),
            Some(settings) => {
                let (directory, cluster) = join(settings, &config.redis, replica, &metrics).await?;
                (directory, Some(cluster))
            }
        };
        let peer = match &config.peer_relay.path {
            Some(_) => {
                let settings = peer_settings(&config.peer_relay, limits);
                let started = Peer::start_among(settings, links.clone(), &metrics).await;
                Some(started.map_err(|source| StartError::Bind { address, source })?)
            }
            None => None,
        };
        let broker = Broker::new(
            replica,
            BrokerSettings {
                signaling_enabled: config.p2p_connection_enabled,
                relay_enabled: config.websocket_relay_enabled,
                max_presence_ids: config.max_presence_ids,
                duplicate_id_policy: config.duplicate_id_policy,
                rtc_fallback: config.rtc.fallback,
            },
            directory,
            cluster.as_ref().map(|cluster| cluster.remote.clone()),
            webhooks(&config.webhooks, &metrics)?,
            config.rtc.own.clone(),
            metrics.clone(),
        );
        let bridge = peer.clone().filter(|_| config.peer_relay.bridge);
        let peer_events = bridge.as_ref().map(Peer::events);
        let broker = Arc::new(match bridge {
            Some(peer) => broker.bridged(peer),
            None => broker,
        });
        let transport = TransportSettings {
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            max_queued_bytes: config.max_queued_bytes,
        };
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let discovery = match &config.discovery {
            Some(settings) => {
                Some(Discovery::open(settings, metrics.discovery(), stop.clone()).await?)
            }
            None => None,
        };
        let gateway = Listener {
            links: links.clone(),
            app: app(
                broker.clone(),
                (&config.peer_relay, peer.clone()),
                discovery.as_ref(),
                metrics.clone(),
            ),
            socket_io: gateway::socket_io(broker.clone(), transport),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
        };
        let listener = tokio::spawn(gateway.run(listener, stop.clone()));
        let validity_interval = config.webhooks.nodes_status_check_interval;
        let mut upkeep = vec![spawn(check_validity(broker.clone(), validity_interval))];
        upkeep.extend(peer_events.map(|events| spawn(broker.clone().serve_peers(events))));
        upkeep.extend(cluster.into_iter().flat_map(|cluster| cluster.run(&broker)));
        let shutdown_timeout = config.shutdown_timeout;
        Ok(Self {
            address,
            shutdown_timeout,
            broker,
            peer,
            links,
            metrics,
            stop,
            tasks,
            listener,
            discovery,
            _upkeep: upkeep,
        })
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the server counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The connections that are open, of nodes and of others.
    pub fn links(&self) -> &LinkSet {
        &self.links
    }

    /// The broker as a peer of the peer-relay network, if it is one.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Ends the server in good order, within the shutdown timeout: nobody is let in any more,
    /// every ID is given back, then every connection is closed after what is queued on it. The
    /// nodes see a connection that closed, and so come back by themselves.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.broker.drain();
        if let Some(peer) = &self.peer {
            peer.leave();
        }
        // The others speak HTTP: the listener lets them finish what they are about.
        for link in self.links.handles().iter().filter(|link| link.is_upgraded()) {
            link.close(CloseReason::Draining);
        }
        let patience = self.shutdown_timeout - self.shutdown_timeout / CUT_OFF_SHARE;
        if tokio::time::timeout(patience, self.links.emptied()).await.is_err() {
            tracing::warn!(connections = self.links.len(), "connections are cut off");
            self.links.kill_all(CloseReason::Draining);
            let _ =
                tokio::time::timeout(self.shutdown_timeout / CUT_OFF_SHARE, self.links.emptied())
                    .await;
        }
        let _ = tokio::time::timeout(patience / CUT_OFF_SHARE, self.broker.leave()).await;
        self.tasks.close();
        if let Some(discovery) = &self.discovery {
            let patience = self.shutdown_timeout / CUT_OFF_SHARE;
            if tokio::time::timeout(patience, discovery.close()).await.is_err() {
                tracing::warn!("the sessions of discovery are closed by the process's end");
            }
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

fn app(
    broker: Arc<Broker>,
    (peer_relay, peer): (&PeerRelayConfig, Option<Peer>),
    discovery: Option<&Discovery>,
    metrics: Metrics,
) -> Router {
    let socket_io = any(gateway::upgrade).with_state((broker.clone(), metrics.clone()));
    let sessions = discovery.cloned();
    let ready = move || {
        broker.ready()?;
        match sessions.as_ref().is_none_or(Discovery::is_available) {
            true => Ok(()),
            false => Err("discovery_redis_unavailable"),
        }
    };
    let mut app = Router::new()
        .route("/socket.io", socket_io.clone())
        .route("/socket.io/", socket_io)
        .merge(http::routes(ready, metrics.clone()));
    if let (Some(path), Some(peer)) = (&peer_relay.path, peer) {
        app = app.route(path, any(gateway::peer_relay).with_state((peer, metrics)));
    }
    match discovery {
        Some(discovery) => app.merge(discovery.router()),
        None => app.merge(http::health_route()),
    }
}

/// The broker as a peer. It does not listen by itself: the accept loop hands channels over.
fn peer_settings(config: &PeerRelayConfig, limits: LinkLimits) -> PeerSettings {
    PeerSettings {
        bootstrap: config.bootstrap.iter().map(|url| url.expose().clone()).collect(),
        public_url: config.public_url.as_ref().map(|url| url.expose().clone()),
        webrtc: config.webrtc,
        dial: config.dial,
        max_channels: config.max_channels,
        limits,
        ..PeerSettings::default()
    }
}

/// The webhooks that are set. One client for all of them, and none where none is set.
fn webhooks(config: &WebhookConfig, metrics: &Metrics) -> Result<Webhooks, ClientError> {
    if !config.is_any_set() {
        return Ok(Webhooks::default());
    }
    let settings = ClientSettings {
        timeout: config.timeout,
        max_in_flight: config.max_in_flight,
        extra_roots: config.extra_roots.clone(),
        proxy: config.proxy.as_ref().map(|proxy| proxy.expose().clone()),
        signer: config.signer.clone(),
    };
    let client = Client::new(settings, metrics.clone())?;
    let hook = |name, url: &Option<SecretUrl>| {
        url.as_ref().map(|url| client.hook(name, url.expose().clone()))
    };
    Ok(Webhooks {
        authentication: hook("authentication", &config.authentication)
            .map(|hook| Authentication::new(hook, config.authentication_data_format)),
        authorization: hook("authorization", &config.authorization)
            .map(|hook| Authorization::new(hook, config.authorization_cache_ttl)),
        validity: hook("validity", &config.validity)
            .map(|hook| Validity::new(hook, config.validity_check_batch_size)),
        rtc_configuration: hook("rtc_configuration", &config.rtc_configuration)
            .map(RtcConfigurations::new),
        socket_message: hook("on_socket_message", &config.socket_message)
            .map(|hook| SocketMessages::new(hook, metrics.clone())),
    })
}

/// What makes a replica one of many.
struct Cluster {
    remote: Remote,
    frames: mpsc::Receiver<Message>,
    upkeep: Upkeep,
    lost: mpsc::Receiver<LostLease>,
}

/// Connects to Redis, and waits a little for it.
async fn join(
    settings: &RedisSettings,
    config: &RedisConfig,
    replica: ReplicaId,
    metrics: &Metrics,
) -> Result<(Directory, Cluster), StartError> {
    if config.is_ttl_short() {
        tracing::warn!("REDIS_LOCK_TTL_MS is short: a hiccup of the network may cost leases");
    }
    let name = replica.to_string();
    let (redis, frames) = Redis::start(settings.clone(), "nodes", &name, metrics.redis());
    let patience =
        if config.required_at_start { REQUIRED_REDIS_PATIENCE } else { REDIS_START_PATIENCE };
    let mut state = redis.state();
    let connected = state.wait_for(|state| *state != RedisState::Unavailable);
    if tokio::time::timeout(patience, connected).await.is_err() && config.required_at_start {
        return Err(StartError::Redis);
    }
    let remote = Remote::new(redis.clone(), replica, metrics.clone());
    let leases = LeaseSettings { ttl: config.lock_ttl, outage_grace: config.outage_grace };
    let (directory, upkeep, lost) = Directory::redis(redis, replica, leases, metrics.clone());
    Ok((directory, Cluster { remote, frames, upkeep, lost }))
}

impl Cluster {
    /// Starts the tasks that keep a replica in its cluster.
    fn run(self, broker: &Arc<Broker>) -> [AbortOnDropHandle<()>; 4] {
        [
            spawn(self.upkeep.run()),
            spawn(self.remote.run()),
            spawn(broker.clone().serve_replicas(self.frames)),
            spawn(broker.clone().evict_lost(self.lost)),
        ]
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

async fn check_validity(broker: Arc<Broker>, interval: Duration) {
    broker.check_validity_every(interval).await;
}
