//! What several unit tests need.

use std::sync::Arc;

use vestibule_urlmap::UrlMap;
use vestibule_vpc::NetworkId;

use crate::snapshot::{
    Backend, BackendService, DEFAULT_KEEP_ALIVE, Listener, LogConfig, Optional, Protocol, Routes,
};

/// A listener that sends everything to one service without a backend.
pub(crate) fn listener(ip: &str, port: u16) -> Arc<Listener> {
    let document = serde_json::from_value(serde_json::json!({ "defaultService": "bs" })).unwrap();
    let url_map = UrlMap::compile(&document, |_| Some(0)).unwrap();
    let service = BackendService {
        name: "bs".into(),
        log: LogConfig { enable: true, sample_rate: 1.0, optional: Optional::default() },
        timeout: std::time::Duration::from_secs(30),
        protocol: Protocol::Http1,
        headers: None,
        backend: Backend::Empty,
    };
    Arc::new(Listener {
        network: NetworkId::new("p", "vpc"),
        ip: ip.parse().unwrap(),
        port,
        region: "us-central1".into(),
        project: "p".into(),
        project_number: "123456789012".into(),
        clients: None,
        forwarding_rule: "fr".into(),
        target_proxy: "tp".into(),
        url_map_name: "um".into(),
        keep_alive: DEFAULT_KEEP_ALIVE,
        tls: None,
        routes: Arc::new(Routes { url_map: Arc::new(url_map), services: vec![Arc::new(service)] }),
    })
}
