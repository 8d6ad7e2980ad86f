//! Every variable with each kind of wrong value.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rondevu::{AllowedOrigins, Storage};

use super::*;
use crate::broker::DuplicateIdPolicy;
use ::peer_relay::DialPolicy;

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::read(|name| {
        variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
    })
}

#[test]
fn an_empty_environment_gives_the_defaults_of_the_contract() {
    let config = Config::default();
    assert_eq!((config.host, config.port), ([0, 0, 0, 0].into(), 8080));
    assert_eq!(config.log_level, LogLevel::Minimal);
    assert!(config.cluster.is_none() && config.webhooks.names().is_empty());
    assert_eq!(config.webhooks.validity_check_interval, Duration::from_secs(30));
    assert!(config.broker.signaling_enabled && config.broker.relay_enabled);
    assert_eq!(config.broker.duplicate_id_policy, DuplicateIdPolicy::Probe);
    assert_eq!(config.link.max_queued_bytes, 1 << 20);
    assert_eq!(config.link.max_queued_bytes, 1 << 20);
    let TransportSettings { ping_interval, ping_timeout, .. } = config.transport;
    assert_eq!(ping_interval + ping_timeout, Duration::from_secs(45));
    let clustered = read(&[("REDIS_URL", "redis://h")]).unwrap().cluster.unwrap();
    assert_eq!(clustered.leases.ttl, Duration::from_secs(60));
}

#[test]
fn values_are_read_without_their_outer_blanks_and_blank_is_not_set() {
    let config = read(&[
        ("PORT", " 9090 "),
        ("HOST", "::1"),
        ("LOG_LEVEL", "\t"),
        ("P2P_CONNECTION_ENABLED", "FALSE"),
        ("DUPLICATE_ID_POLICY", "replace"),
        ("REDIS_URL", ""),
        ("RTC_CONFIGURATION_RESOLVER_WEBHOOK_URL", "https://user:word@hooks.test:444/rtc?token=t"),
    ])
    .unwrap();
    assert_eq!((config.host, config.port), (Host::Address("::1".parse().unwrap()), 9090));
    assert!(!config.broker.signaling_enabled);
    assert_eq!(config.broker.duplicate_id_policy, DuplicateIdPolicy::Replace);
    assert!(config.cluster.is_none());
    let url = config.webhooks.rtc_configuration.unwrap();
    assert_eq!(url.expose().password(), Some("word"));
    assert_eq!(format!("{url} {url:?}"), "https://hooks.test:444 https://hooks.test:444");
}

#[test]
fn each_kind_of_wrong_value_is_a_error() {
    let milliseconds = ["0", "-1", "1.5", "1e3", "x", "86400001", "99999999999999999999"];
    let counts = ["0", "-1", "x", "4294967296"];
    let switches = ["yes", "1", "0", "tru"];
    let webhooks = ["x", "/hook", "ftp://h/", "http://", "https://h:99999/"];
    for variable in VARIABLES {
        let wrong: &[&str] = match variable.name {
            "PORT" => &["-1", "65536", "x", "80 80"],
            "HOST" => &["a host", "1.2.3", "[::1]", "0.0.0.0:1"],
            "WORKER_THREADS" => &["0", "-1", "x", "1025"],
            "TRUSTED_PROXIES" => &[",", "10.0.0.0/33", "localhost", "10.0.0.1:80"],
            "BANNED_ADDRESSES" => &["x", "10.0.0.0/-1"],
            "ALLOWED_ORIGINS" => &[",", "https://a/", "a.test", "https://A", "*,https://a"],
            "INTERNAL_ADDR" | "METRICS_ADDR" => {
                &["9090", "localhost:9090", "127.0.0.1", "127.0.0.1:65536"]
            }
            "AUTHENTICATION_FAILURE_CACHE_TTL_MS" => &milliseconds[1..],
            "MAX_CONNECTS_PER_SECOND_PER_ADDRESS" => &counts[1..],
            "MAX_MESSAGES_PER_SECOND" | "MAX_BYTES_PER_SECOND" => &counts[1..],
            "PROXY_PROTOCOL" => &["on", "optional"],
            "LOG_LEVEL" => &["4", "-1", "debug", "01x"],
            "LOG_FORMAT" => &["xml", "JSON5"],
            "ALLOWED_RUNTIMES" => &[",", "JVM,"],
            "MIN_NODE_VERSION" => &["x", "1.x", "-1", "1.2.3.4", "v1"],
            "DUPLICATE_ID_POLICY" => &["maybe", "0"],
            "REDIS_URL" => &[
                "x",
                "http://h/",
                "localhost:6379",
                "redis://h,",
                "redis://h/x",
                "redis://0.0.0.0",
                "redis://a,redis://b",
                "unix:",
            ],
            "REDIS_MODE" => &["one", "Cluster"],
            "REDIS_KEY_PREFIX" | "REDIS_SENTINEL_NAME" => &[],
            "REDIS_SENTINEL_USERNAME" | "REDIS_SENTINEL_PASSWORD" => &[],
            "JWT_JWKS_URL" => &webhooks,
            "JWT_SECRET" => &["a secret that is too short"],
            "JWT_AUDIENCE" | "JWT_ISSUER" => &[",", "a,"],
            "JWT_LEEWAY_MS" => &milliseconds[1..],
            "REDIS_OUTAGE_GRACE_MS" => &milliseconds[1..],
            "REDIS_REQUIRED_AT_START" | "READY_REQUIRES_REDIS" => &switches,
            "AUTHORIZATION_CACHE_TTL_MS" | "NODE_EVENTS_DEBOUNCE_MS" => &milliseconds[1..],
            "NODE_EVENTS_MAX_REFUSALS_PER_SECOND" => &counts[1..],
            "AUTHENTICATION_DATA_FORMAT" => &["json", "0"],
            "RTC_FALLBACK" => &["first", "1"],
            "WEBHOOK_SECRET" => &["x", "whsec_x", "whsec_"],
            "WEBHOOK_PROXY" => &webhooks,
            "STORAGE_TYPE" => &["redis", "postgres", "MEMORY"],
            "STORAGE_PATH" => &[":temp:", "file:data.db"],
            "SESSION_TIMEOUT" => &milliseconds,
            "CORS_ORIGINS" => &[",", "https://a,", "https://a b", "https://a/", "a.test"],
            "DISCOVERY_PATH" => &["x", "/x/", "/a b", "/health", "/socket.io/x"],
            "DISCOVERY_MAX_REQUESTS_PER_SECOND" => &counts[1..],
            "DISCOVERY_MAX_PERCENT_PER_ADDRESS" => &["0", "101", "x"],
            "STUN_URLS" => &["x", "stun:", "turn:h", "stun:h,", "stun:h,x", "stun://h", "stun:h:0"],
            "API_TOKEN" | "API_READ_TOKEN" => &["short", "0123456789abcdef,", "0123456789 abcdef"],
            "API_ADDR" => &["x", "127.0.0.1", "localhost:1"],
            "API_SENDER_ID" => &["a\nb"],
            "API_MAX_FAILURES_PER_MINUTE" | "API_MAX_BANS" => &counts,
            "TURN_URLS" => &["x", "turn:", "stun:h", "turn:h", "turn:h?transport=sctp"],
            "MEMORY_LIMIT_BYTES" => &["0", "33554431", "-1", "1.5", "x", "1GB"],
            "TURN_SECRET" => &["a secret without servers"],
            "PEER_RELAY_PATH" => &[
                "x",
                "//",
                "/a//b",
                "/a/",
                "/../x",
                "/a?b",
                "/{a}",
                "/socket.io",
                "/socket.io/x",
                "/health",
            ],
            "PEER_RELAY_BOOTSTRAP" => &["x", "http://h/", "ws://", "ws://a,", "ws://a,x"],
            "PEER_RELAY_PUBLIC_URL" => &["x", "https://h/", "ws://"],
            "PEER_RELAY_WEBRTC" => &["x", "localhost", "0.0.0.0", "::", "1.2.3.4:5", "224.0.0.1"],
            "PEER_RELAY_DIAL" => &["none", "0"],
            "PEER_RELAY_MAX_MESSAGE_BYTES" => &["4095", "1000001", "x"],
            "PEER_RELAY_ID_FILE" => &[],
            name if name.ends_with("_FILE") => &["/nowhere", "/", "/dev/null"],
            name if name.ends_with("_MS") => &milliseconds,
            name if name.ends_with("_ENABLED") || name == "PEER_RELAY_BRIDGE" => &switches,
            name if name.ends_with("_WEBHOOK_URL") => &webhooks,
            _ => &counts,
        };
        for value in wrong {
            let ConfigErrors(errors) = read(&[(variable.name, value)]).unwrap_err();
            let error = errors.iter().find(|error| error.variable == variable.name);
            let error = error.or(errors.first().filter(|_| variable.name == "TURN_SECRET"));
            assert!(error.is_some(), "{} {value}: {errors:?}", variable.name);
        }
        let broken = OsStr::from_bytes(b"\xff").to_owned();
        let ConfigErrors(errors) =
            Config::read(|name| (name == variable.name).then(|| broken.clone())).unwrap_err();
        assert_eq!(errors[0].problem, "the value is not UTF-8");
    }
}

#[test]
fn all_errors_are_reported_together_and_no_secret_is() {
    let errors =
        read(&[("PORT", "x"), ("REDIS_URL", "http://:hunter2@h"), ("LOG_LEVEL", "9")]).unwrap_err();
    let text = errors.to_string();
    for line in [
        "PORT: \"x\" is not valid; allowed: a port number from 0 to 65535",
        "LOG_LEVEL: \"9\" is not valid; allowed: 0, 1, 2 or 3",
        "REDIS_URL: the value (not shown, it may hold a secret) is not valid; allowed: redis, rediss or unix URLs",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("hunter2"));
}

#[test]
fn the_peer_relay_network_is_off_and_dials_no_strangers_by_default() {
    let config = Config::default().peer_relay;
    assert!(config.path.is_none() && !config.bridge);
    assert!(config.peer.bootstrap.is_empty() && config.peer.public_url.is_none());
    assert_eq!((config.peer.dial, config.peer.max_channels), (DialPolicy::Bootstrap, 10_000));
    assert!(read(&[("PEER_RELAY_BRIDGE", "True")]).unwrap().peer_relay.bridge);
    let config = read(&[
        ("PEER_RELAY_PATH", "/peers/here"),
        ("PEER_RELAY_BOOTSTRAP", "ws://a:8001 , wss://user:word@b/c"),
        ("PEER_RELAY_PUBLIC_URL", "wss://here.test/peers/here"),
        ("PEER_RELAY_DIAL", "any"),
    ]);
    let config = config.unwrap().peer_relay;
    assert_eq!((config.path.as_deref(), config.peer.dial), (Some("/peers/here"), DialPolicy::Any));
    let urls: Vec<_> = config.peer.bootstrap.iter().map(|url| url.as_str()).collect();
    assert_eq!(urls, ["ws://a:8001/", "wss://user:word@b/c"]);
    assert!(!format!("{config:?}").contains("word"));
    assert!(read(&[("PEER_RELAY_PATH", "/")]).is_ok());
    let errors = read(&[("PEER_RELAY_BOOTSTRAP", "ws://a,http://:hunter2@b")]).unwrap_err();
    assert!(!errors.to_string().contains("hunter2"));
}

#[test]
fn discovery_and_peers_have_paths_of_their_own() {
    let with = |path, base_path| {
        read(&[
            ("STORAGE_TYPE", "memory"),
            ("DISCOVERY_PATH", base_path),
            ("PEER_RELAY_PATH", path),
        ])
    };
    assert!(with("/peers", "/").is_ok() && with("/poll", "/meet").is_ok());
    for (path, base_path) in [("/", "/"), ("/poll", "/"), ("/t/offer", "/"), ("/meet", "/meet")] {
        let ConfigErrors(errors) = with(path, base_path).unwrap_err();
        assert_eq!(errors[0].variable, "PEER_RELAY_PATH", "{path} {base_path}");
    }
    assert!(read(&[("PEER_RELAY_PATH", "/poll")]).is_ok());
}

#[test]
fn turn_needs_servers_and_one_secret() {
    let rtc = |variables: &[(&str, &str)]| read(variables).map(|config| config.static_rtc);
    let urls = ("TURN_URLS", "turn:a:3478?transport=udp, turns:b");
    let own = rtc(&[urls, ("TURN_SECRET", "s"), ("STUN_URLS", "stun:c")]).unwrap();
    let StaticRtc::Turn(servers) = own else { panic!("{own:?}") };
    assert_eq!(servers.turn_urls, ["turn:a:3478?transport=udp", "turns:b"]);
    assert_eq!(
        (servers.secret.as_str(), servers.credential_ttl),
        ("s", Duration::from_secs(86_400))
    );
    assert!(!format!("{:?}", servers).contains("\"s\""));

    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        std::fs::write(folder.path().join(name), content).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    };
    let secret = file("secret", " from a file\n");
    let own = rtc(&[urls, ("TURN_SECRET_FILE", &secret)]).unwrap();
    assert!(matches!(own, StaticRtc::Turn(servers) if servers.secret == "from a file"));
    let written = file("rtc.json", r#"{"iceServers":[{"urls":"stun:d"}],"x":1}"#);
    let own = rtc(&[("RTC_CONFIGURATION_FILE", &written)]).unwrap();
    assert!(matches!(own, StaticRtc::Fixed(rtc) if rtc.as_argument().as_str().contains("stun:d")));

    let empty = file("empty", "\n");
    let servers = file("no-servers.json", r#"{"iceServers":[]}"#);
    for variables in [
        &[urls, ("TURN_SECRET", "s"), ("TURN_SECRET_FILE", &secret)][..],
        &[urls, ("TURN_SECRET_FILE", &empty)],
        &[("RTC_CONFIGURATION_FILE", &written), ("STUN_URLS", "stun:c")],
        &[("RTC_CONFIGURATION_FILE", &servers)],
        &[("RTC_CONFIGURATION_FILE", &secret)],
    ] {
        assert!(rtc(variables).is_err(), "{variables:?}");
    }
}

#[test]
fn discovery_is_on_if_a_storage_is_named() {
    assert!(Config::default().discovery.is_none());
    let discovery = read(&[("STORAGE_TYPE", "memory")]).unwrap().discovery.unwrap();
    assert_eq!(discovery.session_timeout, Duration::from_secs(300));
    assert_eq!(
        (discovery.base_path.as_str(), discovery.allowed_origins),
        ("", AllowedOrigins::All)
    );
    let memory = read(&[("STORAGE_TYPE", "sqlite"), ("STORAGE_PATH", ":memory:")]);
    assert!(matches!(memory.unwrap().discovery.unwrap().storage, Storage::Memory));
    let none = read(&[("STORAGE_TYPE", "memory"), ("DISCOVERY_MAX_REQUESTS_PER_SECOND", "0")]);
    assert_eq!(none.unwrap().discovery.unwrap().max_requests_per_second, None);
    let shared = read(&[("STORAGE_TYPE", "redis"), ("REDIS_URL", "redis://h")]).unwrap();
    assert!(matches!(shared.discovery.unwrap().storage, Storage::Redis(_)));
    let text = read(&[("STORAGE_TYPE", "redis")]).unwrap_err().to_string();
    assert!(text.contains("STORAGE_TYPE: redis needs a valid REDIS_URL"), "{text}");
}

#[test]
#[cfg(feature = "discovery-sqlite")]
fn sqlite_has_a_file() {
    let discovery = read(&[("STORAGE_TYPE", "sqlite")]).unwrap().discovery.unwrap();
    assert!(matches!(discovery.storage, Storage::Sqlite(path) if path.as_os_str() == "./data.db"));
}

#[test]
#[cfg(not(feature = "discovery-sqlite"))]
fn sqlite_needs_a_build_with_it() {
    let text = read(&[("STORAGE_TYPE", "sqlite")]).unwrap_err().to_string();
    assert!(text.contains("STORAGE_TYPE: this program was built without sqlite"), "{text}");
}

#[test]
fn paths_of_other_endpoints_are_reserved() {
    for reserved in ["health", "healthz", "livez", "metrics", "readyz", "socket.io"] {
        for path in [format!("/{reserved}"), format!("/{reserved}/x")] {
            let ConfigErrors(errors) = read(&[("DISCOVERY_PATH", &path)]).unwrap_err();
            assert_eq!(errors[0].variable, "DISCOVERY_PATH", "{path}");
        }
    }
}

#[test]
fn paths_of_the_server_api_are_reserved_where_it_is_served() {
    let token = ("API_TOKEN", "0123456789abcdef");
    for variable in ["DISCOVERY_PATH", "PEER_RELAY_PATH"] {
        for path in ["/api/v1", "/api/v1/x", "/admin", "/admin/x"] {
            let set = [token, ("STORAGE_TYPE", "memory"), (variable, path)];
            let ConfigErrors(errors) = read(&set).unwrap_err();
            assert_eq!(errors[0].variable, variable, "{path}");
            assert!(read(&set[1..]).is_ok(), "{path}");
            let elsewhere = [&set[..], &[("API_ADDR", "127.0.0.1:9091")]].concat();
            assert!(read(&elsewhere).is_ok(), "{path}");
        }
        assert!(read(&[token, ("STORAGE_TYPE", "memory"), (variable, "/administration")]).is_ok());
    }
}
