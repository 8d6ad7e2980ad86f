//! The list of all variables, for people and for the reader.

/// One variable.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value where nothing is set; empty for "not set".
    pub default: &'static str,
    /// What it may be set to.
    pub allowed: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// The variables of the webhooks.
pub(super) const WEBHOOKS: [&str; 5] = [
    "NODES_AUTHENTICATION_WEBHOOK_URL",
    "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL",
    "NODES_VALIDITY_CHECK_WEBHOOK_URL",
    "RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL",
    "ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL",
];

const SWITCH: &str = "true or false";
const MILLISECONDS: &str = "a whole number of milliseconds from 1 to 86400000";
const COUNT: &str = "a whole number from 1 to 4294967295";
const WEBHOOK_URL: &str = "an http or https URL";

/// Every variable, in the order in which people are shown them.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "PORT",
        default: "8080",
        allowed: "a port number from 0 to 65535",
        about: "The TCP port to listen on; 0 takes a free one, which the log names.",
    },
    Variable {
        name: "HOST",
        default: "0.0.0.0",
        allowed: "an IP address",
        about: "The address to listen on. 0.0.0.0 stands for all addresses, those of IPv6 too where there are any.",
    },
    Variable {
        name: "LOG_LEVEL",
        default: "0",
        allowed: "0, 1, 2 or 3",
        about: "How much is logged: 0 start, stop and errors; 1 connections too; 2 relayed events too, without contents; 3 everything that helps debugging.",
    },
    Variable {
        name: "LOG_FORMAT",
        default: "text",
        allowed: "text or json",
        about: "The form of a log line.",
    },
    Variable {
        name: "P2P_CONNECTION_ENABLED",
        default: "true",
        allowed: SWITCH,
        about: "Whether nodes may exchange the signaling of direct connections; if not, it is answered DISABLED.",
    },
    Variable {
        name: "WEBSOCKET_RELAY_ENABLED",
        default: "true",
        allowed: SWITCH,
        about: "Whether nodes may send each other messages through the broker; if not, they are answered DISABLED.",
    },
    Variable {
        name: "DUPLICATE_ID_POLICY",
        default: "probe",
        allowed: "probe, reject or replace",
        about: "What becomes of a node whose ID another connection holds. probe: it is refused if the holder answers a ping within 2 s, and replaces it otherwise; reject: it is always refused; replace: it always replaces the holder.",
    },
    Variable {
        name: "MAX_CONNECTIONS",
        default: "100000",
        allowed: COUNT,
        about: "The most connections at a time; more are answered 503.",
    },
    Variable {
        name: "MAX_QUEUED_BYTES",
        default: "1048576",
        allowed: COUNT,
        about: "The most that may wait to be written to one connection, in bytes; one more message is taken below it, and senders are answered ERROR above it.",
    },
    Variable {
        name: "MAX_PRESENCE_IDS",
        default: "1000",
        allowed: COUNT,
        about: "The most IDs that one ARE_NODES_CONNECTED_TO_BROKER may ask about.",
    },
    Variable {
        name: "PING_INTERVAL_MS",
        default: "25000",
        allowed: MILLISECONDS,
        about: "The time between two heartbeats on a connection.",
    },
    Variable {
        name: "PING_TIMEOUT_MS",
        default: "20000",
        allowed: MILLISECONDS,
        about: "How long the answer to a heartbeat may take before the connection is closed.",
    },
    Variable {
        name: "WRITE_TIMEOUT_MS",
        default: "10000",
        allowed: MILLISECONDS,
        about: "How long a write may wait for the other side to read before the connection is closed.",
    },
    Variable {
        name: "SHUTDOWN_TIMEOUT_MS",
        default: "10000",
        allowed: MILLISECONDS,
        about: "How long the process may take to end after SIGTERM or SIGINT.",
    },
    Variable {
        name: "REDIS_URL",
        default: "",
        allowed: "a redis, rediss or unix URL",
        about: "The Redis server by which replicas act as one. Not supported yet: the broker does not start if it is set.",
    },
    Variable {
        name: "REDIS_LOCK_TTL_MS",
        default: "60000",
        allowed: "a whole number of milliseconds from 1000 to 86400000",
        about: "How long a lease on an ID lives in Redis without being renewed.",
    },
    Variable {
        name: "NODES_AUTHENTICATION_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "Asked whether a node may connect. Not supported yet: the broker does not start if it is set.",
    },
    Variable {
        name: "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "Asked whether two nodes may communicate. Not supported yet: the broker does not start if it is set.",
    },
    Variable {
        name: "NODES_VALIDITY_CHECK_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "Asked from time to time which nodes may stay. Not supported yet: the broker does not start if it is set.",
    },
    Variable {
        name: "NODES_STATUS_CHECK_INTERVAL_MS",
        default: "30000",
        allowed: MILLISECONDS,
        about: "The time between two validity checks.",
    },
    Variable {
        name: "RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "Asked for the RTC configuration of a node; without it every node gets Google's public STUN servers. Not supported yet: the broker does not start if it is set.",
    },
    Variable {
        name: "ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "Told of every SOCKET_MSG_EXCHANGE. Not supported yet: the broker does not start if it is set.",
    },
];
