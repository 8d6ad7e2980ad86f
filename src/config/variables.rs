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

const SWITCH: &str = "true or false";
const MILLISECONDS: &str = "a whole number of milliseconds from 1 to 86400000";
const MILLISECONDS_OR_ZERO: &str = "a whole number of milliseconds from 0 to 86400000";
const COUNT: &str = "a whole number from 1 to 4294967295";
const COUNT_OR_ZERO: &str = "a whole number from 0 to 4294967295";
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
        name: "WORKER_THREADS",
        default: "",
        allowed: "a whole number from 1 to 1024",
        about: "How many threads serve; without it as many as there are cores, or as a container may use.",
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
        allowed: "redis, rediss or unix URLs; several, separated by commas, for sentinels and clusters",
        about: "The Redis by which any number of replicas act as one; without it this one is alone. Version 6.2 or newer, for clusters 7.0; Valkey too.",
    },
    Variable {
        name: "REDIS_MODE",
        default: "single",
        allowed: "single, sentinel or cluster",
        about: "What the servers of REDIS_URL are: one server, the sentinels that know it, or some servers of a cluster.",
    },
    Variable {
        name: "REDIS_KEY_PREFIX",
        default: "crolang",
        allowed: "any text",
        about: "What all keys and channels in Redis begin with. Replicas with the same prefix act as one.",
    },
    Variable {
        name: "REDIS_LOCK_TTL_MS",
        default: "60000",
        allowed: "a whole number of milliseconds from 1000 to 86400000",
        about: "How long a lease on an ID lives in Redis without being extended; it is extended every third of that. Below 5000 a short trouble of the network may cost leases.",
    },
    Variable {
        name: "REDIS_OUTAGE_GRACE_MS",
        default: "300000",
        allowed: MILLISECONDS_OR_ZERO,
        about: "How long nodes are kept while Redis is away, beyond the time when their lease must have run out. 0 is strict: no ID ever has two connections, but an outage of a few seconds disconnects everybody.",
    },
    Variable {
        name: "REDIS_REQUIRED_AT_START",
        default: "false",
        allowed: SWITCH,
        about: "Whether the start fails if Redis cannot be reached. If not, the broker starts, lets nobody in, and keeps trying.",
    },
    Variable {
        name: "REDIS_CA_FILE",
        default: "",
        allowed: "a file of certificates in PEM",
        about: "Certificates to trust instead of the system's when Redis is reached by TLS (rediss).",
    },
    Variable {
        name: "REDIS_SENTINEL_NAME",
        default: "mymaster",
        allowed: "any text",
        about: "The name by which the sentinels know the primary.",
    },
    Variable {
        name: "REDIS_SENTINEL_USERNAME",
        default: "",
        allowed: "any text",
        about: "The user to log in to the sentinels as; user and password in REDIS_URL are for the primary.",
    },
    Variable {
        name: "REDIS_SENTINEL_PASSWORD",
        default: "",
        allowed: "any text",
        about: "The password for the sentinels.",
    },
    Variable {
        name: "NODES_AUTHENTICATION_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "Asked whether a node may connect; without it every node may.",
    },
    Variable {
        name: "AUTHENTICATION_DATA_FORMAT",
        default: "object",
        allowed: "object or string",
        about: "In which form the authentication webhook gets a node's data: as the JSON object that its text is, if it is one, or always as the text.",
    },
    Variable {
        name: "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "Asked whether one node may send to another; without it every node may.",
    },
    Variable {
        name: "AUTHORIZATION_CACHE_TTL_MS",
        default: "0",
        allowed: MILLISECONDS_OR_ZERO,
        about: "How long the answers of the authorization webhook are remembered; 0 for not at all.",
    },
    Variable {
        name: "NODES_VALIDITY_CHECK_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "Asked from time to time which of the connected nodes may not stay.",
    },
    Variable {
        name: "NODES_STATUS_CHECK_INTERVAL_MS",
        default: "30000",
        allowed: MILLISECONDS,
        about: "The time between two validity checks, a tenth more or less.",
    },
    Variable {
        name: "VALIDITY_CHECK_BATCH_SIZE",
        default: "1000",
        allowed: COUNT,
        about: "The most nodes in one question to the validity webhook.",
    },
    Variable {
        name: "RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "Asked for the RTC configuration of a node; without it every node gets that of RTC_CONFIGURATION_FILE, TURN_URLS or STUN_URLS, or else Google's public STUN servers.",
    },
    Variable {
        name: "RTC_FALLBACK",
        default: "last",
        allowed: "last, default or close",
        about: "What a node gets where the RTC webhook gives no answer. last: the last good one for it, or for any node, or else what it would get without the webhook; default: what it would get without the webhook; close: its connection is closed, and it comes again.",
    },
    Variable {
        name: "ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "Told of every SOCKET_MSG_EXCHANGE; never delays one.",
    },
    Variable {
        name: "WEBHOOK_TIMEOUT_MS",
        default: "5000",
        allowed: MILLISECONDS,
        about: "How long a call of a webhook may take.",
    },
    Variable {
        name: "WEBHOOK_MAX_IN_FLIGHT",
        default: "256",
        allowed: COUNT,
        about: "How many calls of one webhook may be under way; 64 times as many may wait.",
    },
    Variable {
        name: "WEBHOOK_SECRET",
        default: "",
        allowed: "whsec_ and the base64 of 24 to 64 bytes; several separated by blanks",
        about: "Signs every call as Standard Webhooks does; with several secrets, by each of them.",
    },
    Variable {
        name: "WEBHOOK_CA_FILE",
        default: "",
        allowed: "a file of certificates in PEM",
        about: "Certificates to trust beside the system's when a webhook is called.",
    },
    Variable {
        name: "WEBHOOK_PROXY",
        default: "",
        allowed: "an http or https URL",
        about: "The proxy that webhooks are called through.",
    },
    Variable {
        name: "STUN_URLS",
        default: "",
        allowed: "URLs with stun: or stuns:, separated by commas",
        about: "STUN servers that nodes are told of.",
    },
    Variable {
        name: "TURN_URLS",
        default: "",
        allowed: "URLs with turn: or turns:, separated by commas; together with TURN_SECRET or TURN_SECRET_FILE",
        about: "TURN servers that nodes are told of, with credentials of their own.",
    },
    Variable {
        name: "TURN_SECRET",
        default: "",
        allowed: "any text; together with TURN_URLS",
        about: "The secret that the TURN servers share with the broker (coturn: static-auth-secret).",
    },
    Variable {
        name: "TURN_SECRET_FILE",
        default: "",
        allowed: "a file with the secret, if TURN_SECRET is not set",
        about: "Where to read that secret from.",
    },
    Variable {
        name: "TURN_CREDENTIAL_TTL_MS",
        default: "86400000",
        allowed: "a whole number of milliseconds from 1000 to 86400000",
        about: "How long TURN credentials are good for.",
    },
    Variable {
        name: "RTC_CONFIGURATION_FILE",
        default: "",
        allowed: "a file with a JSON object that has iceServers, if neither STUN_URLS nor TURN_URLS are set",
        about: "The RTC configuration that every node gets.",
    },
    Variable {
        name: "STORAGE_TYPE",
        default: "",
        allowed: "memory, sqlite, or redis if REDIS_URL is set",
        about: "Switches discovery on, and says where its sessions are kept: memory, gone when the process ends; sqlite, a file; redis, shared by all replicas.",
    },
    Variable {
        name: "STORAGE_PATH",
        default: "./data.db",
        allowed: "the path of a file, or :memory:",
        about: "The file of sqlite, used by one process at a time; one of Rondevu's own is taken over. With :memory: it is as with STORAGE_TYPE=memory.",
    },
    Variable {
        name: "SESSION_TIMEOUT",
        default: "300000",
        allowed: MILLISECONDS,
        about: "How long a discovery session lives, in milliseconds.",
    },
    Variable {
        name: "CORS_ORIGINS",
        default: "*",
        allowed: "* or origins separated by commas",
        about: "The origins whose web pages may read discovery's answers.",
    },
    Variable {
        name: "DISCOVERY_PATH",
        default: "/",
        allowed: "/ or a path like /a/b of letters, digits and -._~ that belongs to nothing else",
        about: "The path that discovery's endpoints are below.",
    },
    Variable {
        name: "DISCOVERY_MAX_REQUESTS_PER_SECOND",
        default: "10000",
        allowed: COUNT_OR_ZERO,
        about: "The most requests for discovery in a second from one address, an IPv6 network of 64 bits counting as one; more are answered 429. 0 for no limit.",
    },
    Variable {
        name: "DISCOVERY_MAX_SESSIONS",
        default: "100000",
        allowed: COUNT,
        about: "The most discovery sessions at a time; more are answered 429.",
    },
    Variable {
        name: "DISCOVERY_MAX_SESSIONS_PER_ORIGIN",
        default: "20000",
        allowed: COUNT,
        about: "The most discovery sessions of one origin at a time; more are answered 429.",
    },
    Variable {
        name: "DISCOVERY_MAX_STORED_BYTES",
        default: "268435456",
        allowed: COUNT,
        about: "The most bytes of all discovery sessions together; more are answered 429.",
    },
    Variable {
        name: "DISCOVERY_MAX_WAITING",
        default: "10000",
        allowed: COUNT,
        about: "The most polls that wait and streams of events at a time; more are answered 429.",
    },
    Variable {
        name: "PEER_RELAY_PATH",
        default: "",
        allowed: "a path of letters, digits, - . _ ~ and /, such as /peer-relay; not one that the broker has already",
        about: "Where peers of the npm package peer-relay connect; the broker is a peer of their network if it is set.",
    },
    Variable {
        name: "PEER_RELAY_BOOTSTRAP",
        default: "",
        allowed: "ws or wss URLs, separated by commas",
        about: "The peers that the broker enters an existing network by; it comes back to them whenever it loses them.",
    },
    Variable {
        name: "PEER_RELAY_PUBLIC_URL",
        default: "",
        allowed: "a ws or wss URL",
        about: "The URL that other peers are told to reach the broker at; without it they are told none.",
    },
    Variable {
        name: "PEER_RELAY_DIAL",
        default: "bootstrap",
        allowed: "bootstrap or any",
        about: "Which peers the broker connects to by itself. bootstrap: those of PEER_RELAY_BOOTSTRAP only; any: also every URL that a peer sends for itself, be it in a private network.",
    },
    Variable {
        name: "PEER_RELAY_MAX_CHANNELS",
        default: "10000",
        allowed: COUNT,
        about: "The most peers that may be connected at a time, those of PEER_RELAY_BOOTSTRAP aside; more are answered 503.",
    },
    Variable {
        name: "PEER_RELAY_BRIDGE",
        default: "false",
        allowed: SWITCH,
        about: "Whether nodes and peers of the network may send each other messages; nodes address peers by their 40-digit IDs.",
    },
];
