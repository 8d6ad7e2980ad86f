//! The variables of connections before they are WebSockets: proxies, addresses, HTTP.

use super::{COUNT, COUNT_OR_ZERO, MILLISECONDS, MILLISECONDS_OR_ZERO};
use crate::config::Variable;

const NETWORKS: &str = "IP addresses and networks like 10.0.0.0/8, separated by commas";

pub(super) const VARIABLES: &[Variable] = &[
    Variable {
        name: "TRUSTED_PROXIES",
        default: "",
        allowed: NETWORKS,
        about: "The proxies in front of the broker. On their connections the client's address is taken from X-Forwarded-For or Forwarded: the rightmost address that is not one of theirs. If both headers are present and differ, neither counts. If not set, private addresses have no limits per address, because one of them is probably a proxy.",
    },
    Variable {
        name: "PROXY_PROTOCOL",
        default: "off",
        allowed: "off, optional or required; the latter two together with TRUSTED_PROXIES",
        about: "Whether connections from TRUSTED_PROXIES begin with a header of the PROXY protocol, version 1 or 2, that names the client's address. optional is for proxies that never forward a client's first bytes without a header. Connections from other addresses have no header.",
    },
    Variable {
        name: "TLS_CERT_FILE",
        default: "",
        allowed: "a path to certificates in PEM, together with TLS_KEY_FILE",
        about: "The certificate of the broker, followed by those that lead to a known authority. If set, the main port speaks TLS 1.2 and 1.3. The files are read again when one of them changes, and on SIGHUP; open connections stay.",
    },
    Variable {
        name: "TLS_KEY_FILE",
        default: "",
        allowed: "a path to a private key in PEM, without a password",
        about: "The private key of TLS_CERT_FILE.",
    },
    Variable {
        name: "TLS_CLIENT_CA_FILE",
        default: "",
        allowed: "a path to certificates in PEM, together with TLS_CERT_FILE",
        about: "The authorities that sign the certificates of clients. If set, only clients with a certificate of theirs can connect.",
    },
    Variable {
        name: "HTTP_IDLE_TIMEOUT_MS",
        default: "75000",
        allowed: MILLISECONDS,
        about: "How long a connection may be idle between two HTTP requests; it should be longer than the idle timeout of proxies. It is 5 s while more than three quarters of MAX_CONNECTIONS are open. The head of a request must arrive within 5 s after its first byte, that of the first request within 5 s after the connection was opened.",
    },
    Variable {
        name: "INTERNAL_ADDR",
        default: "",
        allowed: "an IP address with a port, such as 127.0.0.1:9090",
        about: "A second address to listen on, for operators: /metrics (unless METRICS_ADDR is set), /readyz, /livez and /health are served there, without limits, and only /health is still served on the main port.",
    },
    Variable {
        name: "METRICS_ADDR",
        default: "",
        allowed: "an IP address with a port, such as 127.0.0.1:9100",
        about: "An address to listen on for /metrics alone, without TLS: it is then served neither on the main port nor at INTERNAL_ADDR. /health is there too.",
    },
    Variable {
        name: "ALLOWED_ORIGINS",
        default: "*",
        allowed: "* or origins like https://example.com, as browsers send them, separated by commas",
        about: "The origins whose web pages may open WebSockets; others get 403. Clients that send no origin are always allowed.",
    },
    Variable {
        name: "BANNED_ADDRESSES",
        default: "",
        allowed: NETWORKS,
        about: "Addresses whose connections are closed at once, or whose requests get 403 if they come through TRUSTED_PROXIES.",
    },
    Variable {
        name: "MAX_CONNECTIONS_PER_ADDRESS",
        default: "",
        allowed: COUNT,
        about: "The maximum number of connections of one address; further ones get 429. If not set, a quarter of all, or 100 if that is more; all of them for 127.0.0.1 and ::1 as long as TRUSTED_PROXIES names none, because a proxy on this machine or a test with many nodes has that address.",
    },
    Variable {
        name: "MAX_CONNECTS_PER_SECOND_PER_ADDRESS",
        default: "10000",
        allowed: COUNT_OR_ZERO,
        about: "The number of connections that one address may open in a second, on average, with up to 5 seconds' worth at once; further ones get 429. 0 for no limit.",
    },
    Variable {
        name: "MAX_UNFINISHED_HEADS_PER_ADDRESS",
        default: "2000",
        allowed: COUNT,
        about: "The maximum number of connections of one address whose first request is incomplete; further ones get 429.",
    },
    Variable {
        name: "MAX_ADMISSIONS_PER_ADDRESS",
        default: "128",
        allowed: COUNT,
        about: "The maximum number of nodes of one address that are being authenticated at a time. Eight times as many may wait for up to 5 s; further ones get 429.",
    },
    Variable {
        name: "AUTHENTICATION_FAILURE_CACHE_TTL_MS",
        default: "5000",
        allowed: MILLISECONDS_OR_ZERO,
        about: "How long a node whose authentication failed is refused without asking the webhook again, if it comes from the same address with the same values. 0 disables the cache.",
    },
];
