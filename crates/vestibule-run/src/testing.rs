//! Services and revisions for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::desired::{Ingress, Probe, Protocol, Revision, Service, ServiceKey};
use crate::entries::EntryHead;
use crate::pool::Pool;
use crate::table::Route;

pub(crate) fn service(name: &str) -> Service {
    Service {
        key: ServiceKey { project: "p".into(), region: "r".into(), name: name.into() },
        project_number: "123456789012".into(),
        ingress: Ingress::All,
        invoker_check_disabled: true,
        policies: Vec::new(),
        audiences: Vec::new(),
        hosts: Vec::new(),
        default_url_disabled: false,
        traffic: Vec::new(),
        revisions: Vec::new(),
    }
}

pub(crate) fn revision(name: &str) -> Revision {
    Revision {
        name: name.into(),
        image: "gcr.io/cloudrun/hello".into(),
        command: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        container_name: "app".into(),
        port: 8080,
        protocol: Protocol::Http1,
        concurrency: 80,
        min_instances: 0,
        max_instances: 100,
        timeout: Duration::from_secs(300),
        service_account: "123456789012-compute@developer.gserviceaccount.com".into(),
        startup_probe: Probe::default_tcp(8080),
        limits: BTreeMap::new(),
        proven: true,
    }
}

pub(crate) fn route(name: &str) -> Route {
    let revision = Arc::new(revision(name));
    let (pool, _) = Pool::new(&revision);
    Route { log_head: Arc::new(EntryHead::new(&service("svc").key, name)), pool: Arc::new(pool), revision }
}
