//! Sends requests to the API and shows the replies.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::ArgMatches;
use crolang_broker::{Config, Host};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use url::Url;

use super::super::say;

/// How long a request may take: a replica waits 2 s for others.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A client with its token.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: String,
    prints_json: bool,
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum ClientError {
    #[error("there is no token: set API_TOKEN, or name a file with --token-file")]
    NoToken,
    #[error("{file}: {source}")]
    TokenFile { file: String, source: io::Error },
    #[error("the configuration has PORT=0: name the address with --url")]
    NoAddress,
    #[error("the target is neither node:<ID> nor address:<IP address or network>")]
    Target,
    #[error("{url}: {cause}")]
    Unreachable { url: Url, cause: String },
    #[error("{code}: {detail}")]
    Refused { code: String, detail: String },
}

impl ClientError {
    /// Whether the arguments or variables are wrong.
    pub(in super::super) fn is_usage(&self) -> bool {
        !matches!(self, Self::Unreachable { .. } | Self::Refused { .. })
    }
}

impl Client {
    pub(super) fn new(config: &Config, arguments: &ArgMatches) -> Result<Self, ClientError> {
        let token = match arguments.get_one::<String>("token-file") {
            Some(file) => {
                let read = std::fs::read_to_string(file);
                read.map_err(|source| ClientError::TokenFile { file: file.clone(), source })?
            }
            None => config.api.token.as_ref().ok_or(ClientError::NoToken)?.expose().to_owned(),
        };
        let base = match arguments.get_one::<Url>("url") {
            Some(url) => url.clone(),
            None => default_url(config)?,
        };
        // Fails where the process has some cryptography already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build();
        let unreachable = |error: reqwest::Error| ClientError::Unreachable {
            url: base.clone(),
            cause: error.to_string(),
        };
        Ok(Self {
            http: http.map_err(unreachable)?,
            token: token.trim().to_owned(),
            prints_json: arguments.get_flag("json"),
            base,
        })
    }

    /// Sends a request. Returns the reply, `null` if it has no body.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let mut url = self.base.clone();
        // Only URLs without a host have no path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url.clone()).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let unreachable = |error: reqwest::Error| {
            let mut causes =
                std::iter::successors(Some(&error as &dyn std::error::Error), |error| {
                    error.source()
                });
            let cause = causes.by_ref().last().map_or_else(String::new, ToString::to_string);
            ClientError::Unreachable { url: self.base.clone(), cause }
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        let reply: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(reply);
        }
        let text = |key: &str| reply[key].as_str().map(str::to_owned);
        Err(ClientError::Refused {
            code: text("code").unwrap_or_else(|| status.to_string()),
            detail: text("detail").unwrap_or_else(|| "that is not the server API".into()),
        })
    }

    /// Prints a reply, as it is or as a table.
    pub(super) fn show(&self, reply: &Value, table: impl FnOnce(&Value) -> String) {
        let text = if self.prints_json { reply.to_string() } else { table(reply) };
        if !text.is_empty() {
            say(io::stdout(), text);
        }
    }
}

/// Where a broker with this configuration has its API, seen from its machine.
fn default_url(config: &Config) -> Result<Url, ClientError> {
    let own = config.api_addr.map(|address| (address.ip().into(), address.port(), "http"));
    let scheme = if config.listener.tls.is_some() { "https" } else { "http" };
    let (host, port, scheme) = own.unwrap_or((config.host.clone(), config.port, scheme));
    let authority = match host {
        Host::Address(ip) => SocketAddr::new(reachable(ip), port).to_string(),
        Host::Name(name) => format!("{name}:{port}"),
    };
    let url = Url::parse(&format!("{scheme}://{authority}/"));
    url.ok().filter(|_| port != 0).ok_or(ClientError::NoAddress)
}

/// The address by which this machine reaches what listens on `ip`.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}
