//! Envoy's configuration, as far as these comparisons need it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::programs::Running;

const TYPE: &str = "type.googleapis.com/envoy.extensions";

/// A listener on loopback with this route configuration. Paths are normalised, as the load balancer does.
pub fn listener(port: u16, routes: Value) -> Value {
    let manager = json!({
        "@type": format!("{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "p", "codec_type": "HTTP1", "normalize_path": true, "merge_slashes": false,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "use_remote_address": true, "server_header_transformation": "PASS_THROUGH",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": routes,
        "http_filters": [
            {"name": "envoy.filters.http.cors",
             "typed_config": {"@type": format!("{TYPE}.filters.http.cors.v3.Cors")}},
            {"name": "envoy.filters.http.router",
             "typed_config": {"@type": format!("{TYPE}.filters.http.router.v3.Router")}},
        ],
    });
    json!({
        "name": format!("l{port}"), "address": address(([127, 0, 0, 1], port).into()),
        "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
    })
}

/// Starts Envoy with these listeners on `ports`. The backends are its clusters `s0`, `s1`, …
pub fn start(program: &Path, listeners: Vec<Value>, backends: &[SocketAddr], ports: &[u16]) -> Running {
    let clusters: Vec<Value> = backends
        .iter()
        .enumerate()
        .map(|(i, backend)| {
            json!({"name": format!("s{i}"), "type": "STATIC", "connect_timeout": "5s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{TYPE}.upstreams.http.v3.HttpProtocolOptions"),
                "common_http_protocol_options": {"max_requests_per_connection": 1},
                "explicit_http_config": {"http_protocol_options": {}}}},
            "load_assignment": {"cluster_name": format!("s{i}"), "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address(*backend)}}]}]}})
        })
        .collect();
    let config = json!({"static_resources": {"listeners": listeners, "clusters": clusters}});
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("envoy.json");
    fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(file).args([
        "--concurrency",
        "1",
        "--log-level",
        "error",
        "--disable-hot-restart",
        "--use-dynamic-base-id",
    ]);
    Running::start(command, dir, ports)
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}
