//! What the broker listens on and allows.

use super::super::variable::Variable;
use super::{COUNT, COUNT_OR_ZERO, MILLISECONDS, SWITCH};

pub(super) const VARIABLES: &[Variable] = &[
    Variable {
        name: "PORT",
        default: "8080",
        allowed: "a port number from 0 to 65535",
        about: "The TCP port to listen on; 0 picks a free port, which is logged.",
    },
    Variable {
        name: "HOST",
        default: "0.0.0.0",
        allowed: "an IP address or the name of a host",
        about: "The address to listen on; 0.0.0.0 means all addresses, including those of IPv6 if there are any. A name stands for the first of its addresses that this machine has, IPv4 before IPv6. Some shells set HOST to other names: one without such an address means all addresses, with a warning in the log.",
    },
    Variable {
        name: "WORKER_THREADS",
        default: "",
        allowed: "a whole number from 1 to 1024",
        about: "The number of worker threads; if not set, the number of cores that the process or its container may use.",
    },
    Variable {
        name: "LOG_LEVEL",
        default: "0",
        allowed: "0, 1, 2 or 3",
        about: "How much is logged: 0 start, stop and errors; 1 also connections; 2 also relayed events, without their contents; 3 everything that helps with debugging.",
    },
    Variable {
        name: "LOG_FORMAT",
        default: "text",
        allowed: "text or json",
        about: "The format of the log.",
    },
    Variable {
        name: "P2P_CONNECTION_ENABLED",
        default: "true",
        allowed: SWITCH,
        about: "Whether nodes may exchange the signaling of direct connections; if not, it is acked DISABLED.",
    },
    Variable {
        name: "WEBSOCKET_RELAY_ENABLED",
        default: "true",
        allowed: SWITCH,
        about: "Whether nodes may send each other messages through the broker; if not, they are acked DISABLED.",
    },
    Variable {
        name: "ALLOWED_RUNTIMES",
        default: "",
        allowed: "names, separated by commas",
        about: "The platforms whose nodes may connect, as in their handshake, such as JVM; upper and lower case are the same. Other nodes are refused with unsupported architecture, before authentication. If not set, all may connect.",
    },
    Variable {
        name: "MIN_NODE_VERSION",
        default: "",
        allowed: "a version such as 1, 1.2 or 1.2.0-beta",
        about: "The oldest version of the node library that may connect, in the order of Semantic Versioning. Older nodes, and those whose version cannot be read, are refused with unsupported architecture.",
    },
    Variable {
        name: "DUPLICATE_ID_POLICY",
        default: "probe",
        allowed: "probe, reject or replace",
        about: "What to do when an ID is already in use. probe: refuse the new connection if the holder answers a ping within 2 s, and replace the holder otherwise; reject: always refuse the new connection; replace: always replace the holder, whose client gets Socket.IO's disconnect packet so that it does not reconnect. If an ID is replaced for the sixth time without a pause of 30 s, because two programs keep replacing each other, probe applies.",
    },
    Variable {
        name: "MAX_CONNECTIONS",
        default: "100000",
        allowed: COUNT,
        about: "The maximum number of connections at a time; further ones get 503.",
    },
    Variable {
        name: "MEMORY_LIMIT_BYTES",
        default: "",
        allowed: "a whole number of bytes, 33554432 or more",
        about: "The memory budget of the process; if not set, three quarters of the memory of its container or machine. From 80 % of it on, the broker pauses reading from the connections that hold most, and new connections get 503; from 95 % on, messages are acked ERROR.",
    },
    Variable {
        name: "MAX_QUEUED_BYTES",
        default: "1048576",
        allowed: COUNT,
        about: "The size of a connection's send queue, in bytes: below it one more message is accepted, above it senders get ERROR.",
    },
    Variable {
        name: "MAX_MESSAGES_PER_SECOND",
        default: "50000",
        allowed: COUNT_OR_ZERO,
        about: "The number of messages that one connection may send in a second, on average, with up to a second's worth at once; the broker reads further ones later, so the sender is slowed down and loses none. ARE_NODES_CONNECTED_TO_BROKER counts as one message more for every 10 IDs. 0 for no limit.",
    },
    Variable {
        name: "MAX_BYTES_PER_SECOND",
        default: "268435456",
        allowed: COUNT_OR_ZERO,
        about: "The same in bytes of messages.",
    },
    Variable {
        name: "MAX_DATA_BYTES",
        default: "32768",
        allowed: COUNT,
        about: "The maximum size of a node's data in its handshake, decoded, in bytes; a node with more is refused.",
    },
    Variable {
        name: "MAX_PRESENCE_IDS",
        default: "1000",
        allowed: COUNT,
        about: "The maximum number of IDs in one ARE_NODES_CONNECTED_TO_BROKER.",
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
        about: "How long the reply to a heartbeat may take before the connection is closed.",
    },
    Variable {
        name: "WRITE_TIMEOUT_MS",
        default: "10000",
        allowed: MILLISECONDS,
        about: "How long a byte may wait for the other side to read before the connection is closed.",
    },
    Variable {
        name: "MESSAGE_TIMEOUT_MS",
        default: "10000",
        allowed: MILLISECONDS,
        about: "How long a node may take from the first byte of a message to its last before the connection is closed.",
    },
    Variable {
        name: "SHUTDOWN_TIMEOUT_MS",
        default: "10000",
        allowed: MILLISECONDS,
        about: "How long the drain may take after SIGTERM, SIGINT, SIGQUIT or, without TLS_CERT_FILE, SIGHUP before the process ends.",
    },
];
