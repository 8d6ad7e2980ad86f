//! The variables of logins by JWT.

use super::MILLISECONDS_OR_ZERO;
use crate::config::Variable;

const TEXTS: &str = "texts separated by commas";

pub(super) const VARIABLES: &[Variable] = &[
    Variable {
        name: "JWT_SECRET",
        default: "",
        allowed: "a text of at least 32 bytes, without the two below",
        about: "The secret of tokens that are signed with HS256. If set, a node needs a token in its data, all of it or the field token of a JSON object, whose sub is its ID or whose nodes describe it. The authentication webhook is asked after that, if it is set.",
    },
    Variable {
        name: "JWT_PUBLIC_KEY_FILE",
        default: "",
        allowed: "a path to a public key in PEM or a JSON Web Key Set, without JWT_SECRET and JWT_JWKS_URL",
        about: "The key of tokens that are signed with RS256, ES256 or EdDSA, instead of JWT_SECRET. The algorithm is that of the key. Of a set, a token's kid says which key is meant.",
    },
    Variable {
        name: "JWT_JWKS_URL",
        default: "",
        allowed: "an http or https URL, without JWT_SECRET and JWT_PUBLIC_KEY_FILE",
        about: "Where the JSON Web Key Set of those who sign tokens is, as JWT_PUBLIC_KEY_FILE may be one. It is read at the first login, every 5 minutes, and when a token names an unknown key, but not more often than every 10 s; with the timeout, certificates and proxy of webhooks. Until it could be read once, nodes get 503.",
    },
    Variable {
        name: "JWT_AUDIENCE",
        default: "",
        allowed: TEXTS,
        about: "A token must have one of these as its aud. If not set, tokens that have one are refused.",
    },
    Variable {
        name: "JWT_ISSUER",
        default: "",
        allowed: TEXTS,
        about: "A token must have one of these as its iss. If not set, any will do.",
    },
    Variable {
        name: "JWT_LEEWAY_MS",
        default: "5000",
        allowed: MILLISECONDS_OR_ZERO,
        about: "How much the clock of the one who signs tokens may differ, rounded down to seconds. A connection is closed this long after its token's exp.",
    },
];
