//! Where Redis is and how to connect to it.

use std::fmt;

use redis::aio::AsyncPushSender;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    PushInfo, RedisResult, TlsCertificates,
};
use url::Url;

use super::COMMAND_TIMEOUT;

/// How the servers belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisMode {
    /// One server.
    Single,
    /// Sentinels, which know the primary.
    Sentinel,
    /// Some servers of a cluster.
    Cluster,
}

/// What is needed to ask sentinels.
#[derive(Clone, Default)]
pub struct SentinelSettings {
    /// The name by which they know the primary.
    pub primary: String,
    /// The user to log in to the sentinels as, if any.
    pub username: Option<String>,
    /// The password for the sentinels, if any.
    pub password: Option<String>,
}

/// What TLS needs to know beside the system's roots.
#[derive(Clone, Default)]
pub struct Certificates {
    /// Certificates (PEM) to trust instead of the system's.
    pub roots: Option<Vec<u8>>,
    /// The certificate that is shown to Redis, and its key (PEM).
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

/// Where Redis is, and how to connect to it.
#[derive(Clone)]
pub struct RedisSettings {
    servers: Vec<ConnectionInfo>,
    mode: RedisMode,
    sentinel: SentinelSettings,
    key_prefix: String,
    certificates: Option<TlsCertificates>,
}

/// Settings by which Redis could never be reached. The text holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRedisSettings(String);

impl fmt::Debug for RedisSettings {
    /// Nothing but the mode: the rest may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl RedisSettings {
    /// Settings for the servers at `urls`. With sentinels the URLs are theirs; user, password
    /// and database in the first one are for the primary.
    ///
    /// # Errors
    /// [`InvalidRedisSettings`] if a URL is not one for Redis, or does not fit the mode.
    pub fn new(
        urls: &[Url],
        mode: RedisMode,
        sentinel: SentinelSettings,
        key_prefix: String,
        certificates: Certificates,
    ) -> Result<Self, InvalidRedisSettings> {
        let invalid = |text: &str| InvalidRedisSettings(text.into());
        if urls.is_empty() || (mode == RedisMode::Single && urls.len() > 1) {
            return Err(invalid("one server in single mode, one or more in the others"));
        }
        // The library would not check the server's certificate if it was `#insecure`.
        if urls.iter().any(|url| url.fragment().is_some()) {
            return Err(invalid("a URL for Redis has no fragment (what follows #)"));
        }
        let tcp = TcpSettings::default().set_nodelay(true);
        let servers = urls.iter().map(|url| {
            let info = url.clone().into_connection_info()?;
            Ok(info.set_tcp_settings(tcp.clone()))
        });
        // The library names what is wrong, and never the URL.
        let servers: Vec<ConnectionInfo> = servers
            .collect::<RedisResult<_>>()
            .map_err(|error| InvalidRedisSettings(error.to_string()))?;
        let is_unix = |server: &ConnectionInfo| matches!(server.addr(), ConnectionAddr::Unix(_));
        if mode != RedisMode::Single && servers.iter().any(is_unix) {
            return Err(invalid("a unix socket fits only single mode"));
        }
        if mode == RedisMode::Cluster && servers[0].redis_settings().db() != 0 {
            return Err(invalid("a cluster has only database 0"));
        }
        let Certificates { roots, client } = certificates;
        let certificates = (roots.is_some() || client.is_some()).then(|| TlsCertificates {
            client_tls: client
                .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key }),
            root_cert: roots,
        });
        let settings = Self { servers, mode, sentinel, key_prefix, certificates };
        settings.check().map_err(|error| InvalidRedisSettings(error.to_string()))?;
        Ok(settings)
    }

    /// The prefix of all keys and channels.
    pub(super) fn key_prefix(&self) -> &str {
        &self.key_prefix
    }

    pub(super) fn mode(&self) -> RedisMode {
        self.mode
    }

    /// The command that sends a message. In a cluster an ordinary one would go to every server.
    pub(super) fn publish_command(&self) -> &'static str {
        if self.mode == RedisMode::Cluster { "SPUBLISH" } else { "PUBLISH" }
    }

    /// The oldest version that has all that is needed, as (major, minor).
    pub(super) fn least_version(&self) -> (u32, u32) {
        // Sharded channels exist since 7.0.
        if self.mode == RedisMode::Cluster { (7, 0) } else { (6, 2) }
    }

    /// Builds one of each client, so that errors show at the start and not at the first outage.
    fn check(&self) -> RedisResult<()> {
        // rustls needs a default provider; installing it a second time does no harm.
        let _ = rustls::crypto::ring::default_provider().install_default();
        match self.mode {
            RedisMode::Single => self.single().map(drop),
            RedisMode::Sentinel => self
                .sentinels()
                .try_for_each(|builder| builder.and_then(SentinelClientBuilder::build).map(drop)),
            RedisMode::Cluster => self.cluster(no_pushes()).map(drop),
        }
    }

    pub(super) fn single(&self) -> RedisResult<Client> {
        let server = self.servers[0].clone();
        match &self.certificates {
            Some(certificates) if is_tls(&server) => {
                Client::build_with_tls(server, certificates.clone())
            }
            _ => Client::open(server),
        }
    }

    /// Builds one client for each sentinel, so that one that hangs does not keep the others from
    /// being asked.
    pub(super) fn sentinels(&self) -> impl Iterator<Item = RedisResult<SentinelClientBuilder>> {
        self.servers.iter().map(|server| {
            let primary = self.servers[0].redis_settings();
            let mut builder = SentinelClientBuilder::new(
                [server.addr().clone()],
                &self.sentinel.primary,
                SentinelServerType::Master,
            )?
            .set_client_to_redis_db(primary.db())
            .set_client_to_redis_tcp_settings(server.tcp_settings().clone())
            .set_client_to_sentinel_tcp_settings(server.tcp_settings().clone());
            if let Some(username) = primary.username() {
                builder = builder.set_client_to_redis_username(username);
            }
            if let Some(password) = primary.password() {
                builder = builder.set_client_to_redis_password(password);
            }
            if let Some(username) = &self.sentinel.username {
                builder = builder.set_client_to_sentinel_username(username);
            }
            if let Some(password) = &self.sentinel.password {
                builder = builder.set_client_to_sentinel_password(password);
            }
            if is_tls(server) {
                builder = builder.set_client_to_redis_tls_mode(redis::TlsMode::Secure);
                if let Some(certificates) = &self.certificates {
                    builder = builder
                        .set_client_to_redis_certificates(certificates.clone())
                        .set_client_to_sentinel_certificates(certificates.clone());
                }
            }
            Ok(builder)
        })
    }

    /// Builds a client for the cluster, which receives messages if `pushes` is given.
    pub(super) fn cluster(
        &self,
        pushes: Option<impl AsyncPushSender>,
    ) -> RedisResult<ClusterClient> {
        let mut builder = ClusterClientBuilder::new(self.servers.clone())
            .connection_timeout(COMMAND_TIMEOUT)
            .response_timeout(COMMAND_TIMEOUT)
            .overall_response_timeout(Some(COMMAND_TIMEOUT))
            .max_retry_wait(100);
        if let Some(certificates) = &self.certificates
            && is_tls(&self.servers[0])
        {
            builder = builder.certs(certificates.clone());
        }
        if let Some(pushes) = pushes {
            builder = builder.use_protocol(ProtocolVersion::RESP3).push_sender(pushes);
        }
        builder.build()
    }
}

/// Stands for a client that receives no messages.
pub(super) fn no_pushes() -> Option<impl AsyncPushSender> {
    None::<fn(PushInfo) -> Result<(), ()>>
}

fn is_tls(server: &ConnectionInfo) -> bool {
    matches!(server.addr(), ConnectionAddr::TcpTls { .. })
}
