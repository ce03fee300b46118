//! Services and revisions for tests.

use std::sync::Arc;

use crate::desired::{Container, Ingress, Revision, Service, ServiceKey};
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
    Revision::new(name, Container::new("app", "gcr.io/cloudrun/hello"))
}

pub(crate) fn route(name: &str) -> Route {
    let revision = Arc::new(revision(name));
    let (pool, _) = Pool::new(&revision);
    Route { log_head: Arc::new(EntryHead::new(&service("svc").key, name)), pool: Arc::new(pool), revision }
}
