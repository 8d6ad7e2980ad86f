//! The variables of the server API.

use super::COUNT;
use crate::config::Variable;

const TOKENS: &str =
    "tokens of 16 to 256 visible ASCII characters, separated by commas; not shown anywhere";

pub(super) const VARIABLES: &[Variable] = &[
    Variable {
        name: "API_TOKEN",
        default: "",
        allowed: TOKENS,
        about: "The tokens that may use the server API below /api/v1, to read and to change. Without a token here or in API_READ_TOKEN there is no API.",
    },
    Variable {
        name: "API_READ_TOKEN",
        default: "",
        allowed: TOKENS,
        about: "The tokens that may only read.",
    },
    Variable {
        name: "API_ADDR",
        default: "",
        allowed: "an IP address with a port, such as 127.0.0.1:9091",
        about: "An address to listen on for the API alone; if not set, it is served on the main port.",
    },
    Variable {
        name: "API_SENDER_ID",
        default: "",
        allowed: "an ID that a node could have",
        about: "The sender of messages that the API sends. No node gets this ID.",
    },
    Variable {
        name: "API_MAX_BANS",
        default: "1000",
        allowed: COUNT,
        about: "How many bans there may be at a time, the same for all replicas; further ones get 409.",
    },
    Variable {
        name: "API_MAX_STREAMS",
        default: "16",
        allowed: COUNT,
        about: "The maximum number of open streams of events; further ones get 503.",
    },
    Variable {
        name: "API_MAX_FAILURES_PER_MINUTE",
        default: "10",
        allowed: COUNT,
        about: "How many requests without a valid token one address may make; further ones get 429 until a minute has passed since the first.",
    },
];
