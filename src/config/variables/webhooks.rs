//! What the operator's own servers decide, and what nodes get without them.

use super::super::variable::Variable;
use super::{COUNT, COUNT_OR_ZERO, MILLISECONDS, MILLISECONDS_OR_ZERO, WEBHOOK_URL};

pub(super) const VARIABLES: &[Variable] = &[
    Variable {
        name: "NODES_AUTHENTICATION_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "The webhook that decides whether a node may connect; if not set, every node may.",
    },
    Variable {
        name: "AUTHENTICATION_DATA_FORMAT",
        default: "string",
        allowed: "string or object",
        about: "How the authentication webhook gets a node's data. string: always as the text that the node sent; object: as a JSON object if the text is one.",
    },
    Variable {
        name: "AUTHORIZE_NODES_COMMUNICATION_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "The webhook that decides whether one node may send to another; if not set, every node may.",
    },
    Variable {
        name: "AUTHORIZATION_CACHE_TTL_MS",
        default: "0",
        allowed: MILLISECONDS_OR_ZERO,
        about: "How long responses of the authorization webhook are cached; 0 disables the cache.",
    },
    Variable {
        name: "NODES_VALIDITY_CHECK_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "The webhook that is asked at intervals which connected nodes to disconnect.",
    },
    Variable {
        name: "NODES_STATUS_CHECK_INTERVAL_MS",
        default: "30000",
        allowed: MILLISECONDS,
        about: "The time between two validity checks, plus or minus a tenth.",
    },
    Variable {
        name: "VALIDITY_CHECK_BATCH_SIZE",
        default: "1000",
        allowed: COUNT,
        about: "The maximum number of nodes in one request to the validity webhook.",
    },
    Variable {
        name: "RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "The webhook that supplies each node's RTC configuration; if not set, nodes get RTC_CONFIGURATION_FILE, or TURN_URLS and STUN_URLS, or else Google's public STUN servers.",
    },
    Variable {
        name: "RTC_FALLBACK",
        default: "last",
        allowed: "last, default or close",
        about: "What a node gets if the RTC webhook fails. last: the last good configuration of this node, or of any node, or else the default; default: what it would get without the webhook; close: its connection is closed, so that it reconnects.",
    },
    Variable {
        name: "ON_AUTHENTICATED_SOCKET_MSG_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "The webhook that is notified of every SOCKET_MSG_EXCHANGE; it never delays a message.",
    },
    Variable {
        name: "NODE_EVENTS_WEBHOOK_URL",
        default: "",
        allowed: WEBHOOK_URL,
        about: "The webhook that is told, in batches, which nodes connected, disconnected and were refused; it never delays them.",
    },
    Variable {
        name: "NODE_EVENTS_DEBOUNCE_MS",
        default: "0",
        allowed: MILLISECONDS_OR_ZERO,
        about: "How long a disconnection is held back: if the node reconnects to the same replica within this time, both become one event. 0 holds none back.",
    },
    Variable {
        name: "NODE_EVENTS_BATCH_SIZE",
        default: "500",
        allowed: COUNT,
        about: "The maximum number of events in one request to the webhook for events of nodes.",
    },
    Variable {
        name: "NODE_EVENTS_MAX_QUEUED",
        default: "10000",
        allowed: COUNT,
        about: "The maximum number of events of nodes that are stored, for the webhook and for streams; beyond it the oldest is dropped, and its readers are told how many they lost.",
    },
    Variable {
        name: "NODE_EVENTS_MAX_REFUSALS_PER_SECOND",
        default: "100",
        allowed: COUNT_OR_ZERO,
        about: "The maximum number of refusals in a second that become events of their own; the next one says how many did not.",
    },
    Variable {
        name: "WEBHOOK_TIMEOUT_MS",
        default: "5000",
        allowed: MILLISECONDS,
        about: "How long a webhook call may take, and how long it may wait for a permit before that.",
    },
    Variable {
        name: "WEBHOOK_MAX_IN_FLIGHT",
        default: "256",
        allowed: COUNT,
        about: "The maximum number of calls to one webhook in flight; 64 times as many may wait.",
    },
    Variable {
        name: "WEBHOOK_SECRET",
        default: "",
        allowed: "whsec_ and the base64 of 24 to 64 bytes; several separated by blanks",
        about: "The secret that signs every call, as in Standard Webhooks; with several secrets, each of them signs.",
    },
    Variable {
        name: "WEBHOOK_CA_FILE",
        default: "",
        allowed: "a file of certificates in PEM",
        about: "Certificates to trust in addition to the system's for webhooks.",
    },
    Variable {
        name: "WEBHOOK_PROXY",
        default: "",
        allowed: "an http or https URL",
        about: "The proxy for webhook calls.",
    },
    Variable {
        name: "STUN_URLS",
        default: "",
        allowed: "URLs with stun: or stuns:, separated by commas",
        about: "The STUN servers that nodes get.",
    },
    Variable {
        name: "TURN_URLS",
        default: "",
        allowed: "URLs with turn: or turns:, separated by commas; together with TURN_SECRET",
        about: "The TURN servers that nodes get, each node with its own credentials.",
    },
    Variable {
        name: "TURN_SECRET",
        default: "",
        allowed: "any text; together with TURN_URLS",
        about: "The secret that the TURN servers share with the broker (coturn: static-auth-secret).",
    },
    Variable {
        name: "TURN_CREDENTIAL_TTL_MS",
        default: "86400000",
        allowed: "a whole number of milliseconds from 1000 to 86400000",
        about: "How long TURN credentials are valid.",
    },
    Variable {
        name: "RTC_CONFIGURATION_FILE",
        default: "",
        allowed: "a file with a JSON object that has iceServers, if neither STUN_URLS nor TURN_URLS are set",
        about: "The RTC configuration that every node gets.",
    },
];
