//! What makes replicas act as one.

use super::super::variable::Variable;
use super::{MILLISECONDS_OR_ZERO, SWITCH};

pub(super) const VARIABLES: &[Variable] = &[
    Variable {
        name: "REDIS_URL",
        default: "",
        allowed: "redis, rediss or unix URLs; several, separated by commas, for sentinels and clusters",
        about: "The Redis through which any number of replicas act as one; if not set, this broker is alone. Redis 6.2 or newer (7.0 for clusters), or Valkey.",
    },
    Variable {
        name: "REDIS_MODE",
        default: "single",
        allowed: "single, sentinel or cluster",
        about: "What REDIS_URL names: a single server, its sentinels, or some servers of a cluster.",
    },
    Variable {
        name: "REDIS_KEY_PREFIX",
        default: "crolang",
        allowed: "any text",
        about: "The prefix of all keys and channels in Redis. Replicas with the same prefix act as one.",
    },
    Variable {
        name: "REDIS_LOCK_TTL_MS",
        default: "60000",
        allowed: "a whole number of milliseconds from 1000 to 86400000",
        about: "How long a lease on an ID lives in Redis unless it is extended, which happens every third of that time. Below 5000, a short network failure may cost leases.",
    },
    Variable {
        name: "REDIS_OUTAGE_GRACE_MS",
        default: "300000",
        allowed: MILLISECONDS_OR_ZERO,
        about: "How long nodes stay connected while Redis is unavailable, after their leases must have expired. 0 is strict: no ID ever has two connections, but an outage of a few seconds disconnects every node.",
    },
    Variable {
        name: "REDIS_REQUIRED_AT_START",
        default: "false",
        allowed: SWITCH,
        about: "Whether the start fails if Redis is unavailable. If not, the broker starts, rejects all nodes, and keeps trying.",
    },
    Variable {
        name: "READY_REQUIRES_REDIS",
        default: "true",
        allowed: SWITCH,
        about: "Whether /readyz is 503 while Redis is unavailable. If not, a load balancer keeps sending nodes, which this broker rejects itself until Redis is back.",
    },
    Variable {
        name: "REDIS_CA_FILE",
        default: "",
        allowed: "a file of certificates in PEM",
        about: "Certificates to trust instead of the system's for Redis over TLS (rediss).",
    },
    Variable {
        name: "REDIS_CERT_FILE",
        about: "The client certificate for Redis over TLS, followed by its intermediate certificates. Needs REDIS_KEY_FILE.",
        default: "",
        allowed: "a file of certificates in PEM",
    },
    Variable {
        name: "REDIS_KEY_FILE",
        about: "The private key of REDIS_CERT_FILE.",
        default: "",
        allowed: "a file with a private key in PEM",
    },
    Variable {
        name: "REDIS_SENTINEL_NAME",
        default: "mymaster",
        allowed: "any text",
        about: "The sentinels' name for the primary.",
    },
    Variable {
        name: "REDIS_SENTINEL_USERNAME",
        default: "",
        allowed: "any text",
        about: "The user name for the sentinels; the user and password in REDIS_URL are for the primary.",
    },
    Variable {
        name: "REDIS_SENTINEL_PASSWORD",
        default: "",
        allowed: "any text",
        about: "The password for the sentinels.",
    },
];
