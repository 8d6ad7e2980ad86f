//! Discovery and the peer-relay network.

use super::super::variable::Variable;
use super::{COUNT, COUNT_OR_ZERO, MILLISECONDS, SWITCH};

pub(super) const VARIABLES: &[Variable] = &[
    Variable {
        name: "STORAGE_TYPE",
        default: "",
        allowed: "memory, sqlite, or redis if REDIS_URL is set",
        about: "Enables discovery, and decides where its sessions are stored: memory, lost when the process ends; sqlite, a file; redis, shared by all replicas.",
    },
    Variable {
        name: "STORAGE_PATH",
        default: "./data.db",
        allowed: "the path of a file, or :memory:",
        about: "The file of sqlite, used by one process at a time; a file of Rondevu's own is imported. With :memory:, sessions are stored in memory.",
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
        allowed: "* or origins as browsers send them (https://app.example.org), separated by commas",
        about: "The origins whose web pages may read discovery's responses.",
    },
    Variable {
        name: "DISCOVERY_PATH",
        default: "/",
        allowed: "/ or a path like /a/b of letters, digits and -._~ that belongs to nothing else",
        about: "The base path of discovery's endpoints.",
    },
    Variable {
        name: "DISCOVERY_MAX_REQUESTS_PER_SECOND",
        default: "10000",
        allowed: COUNT_OR_ZERO,
        about: "The maximum number of discovery requests from one address in a second; an IPv6 network of 64 bits counts as one address; further ones get 429. 0 for no limit.",
    },
    Variable {
        name: "DISCOVERY_MAX_SESSIONS",
        default: "100000",
        allowed: COUNT,
        about: "The maximum number of discovery sessions at a time; further ones get 429.",
    },
    Variable {
        name: "DISCOVERY_MAX_SESSIONS_PER_ORIGIN",
        default: "20000",
        allowed: COUNT,
        about: "The maximum number of discovery sessions of one origin at a time; further ones get 429.",
    },
    Variable {
        name: "DISCOVERY_MAX_STORED_BYTES",
        default: "268435456",
        allowed: COUNT,
        about: "The maximum size of all discovery sessions together, in bytes; requests beyond it get 429.",
    },
    Variable {
        name: "DISCOVERY_MAX_WAITING",
        default: "10000",
        allowed: COUNT,
        about: "The maximum number of waiting polls and event streams at a time; further ones get 429.",
    },
    Variable {
        name: "DISCOVERY_MAX_UNFINISHED_BYTES",
        default: "67108864",
        allowed: COUNT,
        about: "The maximum size of all incomplete bodies of discovery requests together, in bytes; requests beyond it get 429.",
    },
    Variable {
        name: "DISCOVERY_MAX_RESPONSE_BYTES",
        default: "67108864",
        allowed: COUNT,
        about: "The maximum size of all responses of discovery that clients have not read, in bytes; requests beyond it get 503. A list that is not read within WRITE_TIMEOUT_MS, and one second more for each 64 KiB, ends its connection.",
    },
    Variable {
        name: "DISCOVERY_MAX_PERCENT_PER_ADDRESS",
        default: "25",
        allowed: "a whole number from 1 to 100",
        about: "The share that one address may have, in percent, of DISCOVERY_MAX_SESSIONS, DISCOVERY_MAX_STORED_BYTES, DISCOVERY_MAX_WAITING, DISCOVERY_MAX_UNFINISHED_BYTES and DISCOVERY_MAX_RESPONSE_BYTES; anything beyond that gets 429. Each replica counts for itself.",
    },
    Variable {
        name: "PEER_RELAY_PATH",
        default: "",
        allowed: "a path of letters, digits, - . _ ~ and /, such as /peer-relay; not a path of another endpoint",
        about: "The path at which peers of the npm package peer-relay connect; if set, the broker is a peer of their network.",
    },
    Variable {
        name: "PEER_RELAY_BOOTSTRAP",
        default: "",
        allowed: "ws or wss URLs, separated by commas",
        about: "The peers through which the broker joins an existing network; it reconnects to them whenever it loses them.",
    },
    Variable {
        name: "PEER_RELAY_PUBLIC_URL",
        default: "",
        allowed: "a ws or wss URL",
        about: "The URL under which other peers can reach the broker; if not set, they get none.",
    },
    Variable {
        name: "PEER_RELAY_WEBRTC",
        default: "",
        allowed: "an IP address, in a build with the cargo feature webrtc",
        about: "The address at which peers reach the broker over UDP, with a port for each channel; browsers then prefer WebRTC to WebSocket. If not set, WebRTC is off.",
    },
    Variable {
        name: "PEER_RELAY_DIAL",
        default: "bootstrap",
        allowed: "bootstrap or any",
        about: "Which peers the broker connects to. bootstrap: only those of PEER_RELAY_BOOTSTRAP; any: also every URL that a peer sends for itself, even in a private network.",
    },
    Variable {
        name: "PEER_RELAY_MAX_CHANNELS",
        default: "10000",
        allowed: COUNT,
        about: "The maximum number of peers connected at a time, apart from those of PEER_RELAY_BOOTSTRAP; further ones get 503.",
    },
    Variable {
        name: "PEER_RELAY_MAX_CHANNELS_PER_ADDRESS",
        default: "",
        allowed: COUNT,
        about: "The maximum number of peers connected from one address; further ones get 429. If not set, a quarter of PEER_RELAY_MAX_CHANNELS, or 100 if that is more, with the same exception as MAX_CONNECTIONS_PER_ADDRESS.",
    },
    Variable {
        name: "PEER_RELAY_MAX_MESSAGE_BYTES",
        default: "1000000",
        allowed: "a whole number of bytes from 4096 to 1000000",
        about: "The longest message of a peer; a longer one ends its channel. Over WebRTC messages have at most 65536 bytes.",
    },
    Variable {
        name: "PEER_RELAY_ID_FILE",
        default: "",
        allowed: "the path of a file",
        about: "The file that keeps the broker's ID in the network over restarts, as bootstrap peers need it; created if it is not there. If not set, the ID is a random one at each start.",
    },
    Variable {
        name: "PEER_RELAY_BRIDGE",
        default: "false",
        allowed: SWITCH,
        about: "Whether nodes and peers of the network may send each other messages; nodes address peers by their 40-digit IDs.",
    },
];
