//! What is measured.

use serde_json::{Value, json};

use super::peers::Peer;

/// One thing to measure.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    pub name: &'static str,
    /// Path at the backend; `/N` answers N bytes.
    pub path: &'static str,
    pub tls: bool,
    /// Client connections.
    pub connections: u32,
    pub load: Kind,
    /// Access logs are written.
    pub logs: bool,
    pub rules: Rules,
}

/// How requests are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP/1.1 on connections that stay.
    KeepAlive,
    /// HTTP/2 with so many streams on each connection.
    Http2 { streams: u32 },
    /// A connection for each request.
    Connect(Connect),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    Plain,
    /// TLS 1.3 with a full handshake.
    Full,
    /// TLS 1.3 with a ticket of an earlier connection.
    Resumed,
}

impl Connect {
    pub fn word(self) -> &'static str {
        match self {
            Connect::Plain => "plain",
            Connect::Full => "full",
            Connect::Resumed => "resumed",
        }
    }
}

/// Rules to look through. The request meets the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    None,
    Paths(u32),
    Routes(u32),
}

const KEEP_ALIVE: Work = Work {
    name: "",
    path: "/1024",
    tls: false,
    connections: 32,
    load: Kind::KeepAlive,
    logs: true,
    rules: Rules::None,
};

/// One over plain HTTP/1.1, on connections that stay.
pub const fn plain(name: &'static str, path: &'static str) -> Work {
    Work { name, path, ..KEEP_ALIVE }
}

const fn streams(name: &'static str, streams: u32) -> Work {
    Work { name, tls: true, connections: 4, load: Kind::Http2 { streams }, ..KEEP_ALIVE }
}

const fn connect(name: &'static str, tls: bool, how: Connect) -> Work {
    Work { name, path: "/0", tls, load: Kind::Connect(how), ..KEEP_ALIVE }
}

const fn rules(name: &'static str, rules: Rules) -> Work {
    Work { name, rules, ..KEEP_ALIVE }
}

/// In the order of the table.
pub const WORKS: [Work; 17] = [
    plain("HTTP/1.1 keep-alive, empty answer", "/0"),
    plain("HTTP/1.1 keep-alive, 1 KiB", "/1024"),
    Work { logs: false, ..plain("HTTP/1.1 keep-alive, 1 KiB, no logs", "/1024") },
    plain("HTTP/1.1 keep-alive, 64 KiB", "/65536"),
    Work { connections: 8, ..plain("HTTP/1.1 keep-alive, 1 MiB", "/1048576") },
    connect("HTTP/1.1, a connection for each request", false, Connect::Plain),
    Work { tls: true, ..plain("HTTP/1.1 over TLS 1.3, 1 KiB", "/1024") },
    connect("TLS 1.3, a full handshake for each request", true, Connect::Full),
    connect("TLS 1.3, a resumed handshake for each request", true, Connect::Resumed),
    streams("HTTP/2 over TLS, 1 KiB, 1 stream", 1),
    streams("HTTP/2 over TLS, 1 KiB, 10 streams", 10),
    streams("HTTP/2 over TLS, 1 KiB, 100 streams", 100),
    rules("10 path rules", Rules::Paths(10)),
    rules("1,000 path rules", Rules::Paths(1_000)),
    rules("100,000 path rules", Rules::Paths(100_000)),
    rules("10 route rules", Rules::Routes(10)),
    rules("1,000 route rules", Rules::Routes(1_000)),
];

impl Work {
    /// Rules in Google's sense are compared with Envoy alone.
    pub fn is_for(self, peer: Peer) -> bool {
        self.rules == Rules::None || matches!(peer, Peer::Vestibule | Peer::Envoy)
    }

    pub fn is_http2(self) -> bool {
        matches!(self.load, Kind::Http2 { .. })
    }

    /// The path to ask for.
    pub fn target(self) -> String {
        match self.rules {
            Rules::None => self.path.to_owned(),
            Rules::Paths(count) | Rules::Routes(count) => format!("/r/{}/x", count - 1),
        }
    }
}

impl Rules {
    /// As a URL map with the one service `bs`.
    pub fn url_map(self) -> Option<Value> {
        let (name, rules): (_, Vec<Value>) = match self {
            Rules::None => return None,
            Rules::Paths(count) => (
                "pathRules",
                (0..count).map(|i| json!({"paths": [format!("/r/{i}/*")], "service": "bs"})).collect(),
            ),
            Rules::Routes(count) => (
                "routeRules",
                (0..count)
                    .map(|i| {
                        json!({"priority": i, "matchRules": [{"prefixMatch": format!("/r/{i}/")}], "service": "bs"})
                    })
                    .collect(),
            ),
        };
        Some(json!({
            "defaultService": "bs",
            "hostRules": [{"hosts": ["*"], "pathMatcher": "m"}],
            "pathMatchers": [{"name": "m", "defaultService": "bs", name: rules}],
        }))
    }

    /// As routes of Envoy.
    pub fn envoy_routes(self) -> Vec<Value> {
        let count = match self {
            Rules::None => 0,
            Rules::Paths(count) | Rules::Routes(count) => count,
        };
        let route = |prefix: String| json!({"match": {"prefix": prefix}, "route": {"cluster": "b"}});
        (0..count).map(|i| route(format!("/r/{i}/"))).chain([route("/".to_owned())]).collect()
    }
}
