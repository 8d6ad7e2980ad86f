//! The variables of connections before they are WebSockets: proxies, addresses, HTTP.

use super::MILLISECONDS;
use crate::config::Variable;

const NETWORKS: &str = "IP addresses and networks like 10.0.0.0/8, separated by commas";

pub(super) const VARIABLES: &[Variable] = &[
    Variable {
        name: "TRUSTED_PROXIES",
        default: "",
        allowed: NETWORKS,
        about: "The proxies in front of the broker. On their connections the client's address is taken from X-Forwarded-For or Forwarded: the rightmost address that is not one of theirs. If both headers are there and differ, neither counts.",
    },
    Variable {
        name: "PROXY_PROTOCOL",
        default: "off",
        allowed: "off, optional or required; the latter two together with TRUSTED_PROXIES",
        about: "Whether connections from TRUSTED_PROXIES begin with a header of the PROXY protocol, version 1 or 2, that names the client's address. optional is for proxies that never pass on a client's first bytes without a header. Connections from elsewhere have none.",
    },
    Variable {
        name: "HTTP_IDLE_TIMEOUT_MS",
        default: "75000",
        allowed: MILLISECONDS,
        about: "How long a connection may be idle between two HTTP requests; longer than proxies keep theirs. The head of a request must come within 5 s of its first byte, that of the first request within 5 s of the connection's beginning.",
    },
];
