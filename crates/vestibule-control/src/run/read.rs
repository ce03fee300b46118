//! Reading services, revisions, and the routes and configurations that are parts of a service seen on their own.

use std::sync::Arc;

use serde_json::{Value, json};
use vestibule_model::region;
use vestibule_store::View;

use super::name::{self, Kind, Name, Place};
use super::selector::Selector;
use super::{Run, json as reach, revision, status, template};
use crate::Error;

/// What a list holds: all documents that fit, newest first, for the caller to cut into pages.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Of the list and its items, in v1: services and jobs have different ones.
    pub api_version: &'static str,
    /// `ServiceList` and the like.
    pub kind: &'static str,
    pub items: Vec<Value>,
}

impl Listing {
    fn serving(kind: &'static str, items: Vec<Value>) -> Listing {
        Listing { api_version: "serving.knative.dev/v1", kind, items }
    }
}

/// A service as v1 shows it.
pub(super) fn service(stored: &Value) -> Value {
    let mut shown = stored.clone();
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("vestibule");
    }
    shown["spec"]["template"] = template::shown(&stored["spec"]["template"]);
    shown
}

impl Run<'_> {
    /// A service.
    pub fn get(&self, place: Place<'_>, service: &str) -> Result<Value, Error> {
        let view = self.control.view();
        let (_, stored) = find(&view, place, Kind::Service, service)?;
        Ok(self::service(&stored))
    }

    /// All services whose labels fit a selector.
    pub fn list(&self, place: Place<'_>, selector: &str) -> Result<Listing, Error> {
        let selector = Selector::parse(selector)?;
        let found = all(&self.control.view(), place, Kind::Service);
        let fitting = found.iter().filter(|(_, stored)| selector.matches(stored));
        Ok(Listing::serving("ServiceList", fitting.map(|(_, stored)| service(stored)).collect()))
    }

    /// A revision.
    pub fn revision(&self, place: Place<'_>, revision: &str) -> Result<Value, Error> {
        let view = self.control.view();
        let (name, stored) = find(&view, place, Kind::Revision, revision)?;
        Ok(revision::shown(&stored, parent(&view, &name, &stored).as_deref()))
    }

    /// All revisions whose labels fit a selector.
    pub fn revisions(&self, place: Place<'_>, selector: &str) -> Result<Listing, Error> {
        let selector = Selector::parse(selector)?;
        let view = self.control.view();
        let found = all(&view, place, Kind::Revision);
        let fitting = found.iter().filter(|(_, stored)| selector.matches(stored));
        let items =
            fitting.map(|(name, stored)| revision::shown(stored, parent(&view, name, stored).as_deref()));
        Ok(Listing::serving("RevisionList", items.collect()))
    }

    /// A service's route: where its traffic goes.
    pub fn route(&self, place: Place<'_>, route: &str) -> Result<Value, Error> {
        let (_, stored) = find(&self.control.view(), place, Kind::Service, route)?;
        Ok(self::route(&stored))
    }

    /// All routes.
    pub fn routes(&self, place: Place<'_>, selector: &str) -> Result<Listing, Error> {
        self.parts(place, selector, "RouteList", route)
    }

    /// A service's configuration: how its revisions are made.
    pub fn configuration(&self, place: Place<'_>, configuration: &str) -> Result<Value, Error> {
        let (_, stored) = find(&self.control.view(), place, Kind::Service, configuration)?;
        Ok(self::configuration(&stored))
    }

    /// All configurations.
    pub fn configurations(&self, place: Place<'_>, selector: &str) -> Result<Listing, Error> {
        self.parts(place, selector, "ConfigurationList", configuration)
    }

    fn parts(
        &self,
        place: Place<'_>,
        selector: &str,
        kind: &'static str,
        part: impl Fn(&Value) -> Value,
    ) -> Result<Listing, Error> {
        let selector = Selector::parse(selector)?;
        let found = all(&self.control.view(), place, Kind::Service);
        let items =
            found.iter().map(|(_, stored)| part(stored)).filter(|part| selector.matches(part)).collect();
        Ok(Listing::serving(kind, items))
    }

    /// All regions, in the order of their names.
    pub fn locations(&self, project: &str) -> Vec<Value> {
        let of = |region: &region::Region| {
            json!({
                "name": format!("projects/{project}/locations/{}", region.name),
                "locationId": region.name,
                "displayName": region.name,
                "labels": { "cloud.googleapis.com/region": region.name },
            })
        };
        region::REGIONS.iter().map(of).collect()
    }
}

/// A document that exists.
pub(super) fn find(
    view: &View,
    place: Place<'_>,
    kind: Kind,
    name: &str,
) -> Result<(Name, Arc<Value>), Error> {
    let name = name::locate(view, place, kind, name)?;
    let stored = view.get(&name.key(kind)).ok_or_else(|| name.not_found(kind))?;
    Ok((name, stored.value.clone()))
}

/// All documents of a kind, newest first.
pub(super) fn all(view: &View, place: Place<'_>, kind: Kind) -> Vec<(Name, Arc<Value>)> {
    let names = name::names(view, place, kind).into_iter();
    let mut found: Vec<(Name, Arc<Value>)> =
        names.filter_map(|name| view.get(&name.key(kind)).map(|kv| (name, kv.value.clone()))).collect();
    let created = |value: &Value| reach::text(value, &["metadata", "creationTimestamp"]).map(str::to_owned);
    // Both times have the same form and zone, so that their texts compare like the times. The number tells apart what
    // was made in one moment.
    found.sort_by_cached_key(|(_, value)| std::cmp::Reverse((created(value), revision::number(value))));
    found
}

/// The service of a revision.
pub(super) fn parent(view: &View, name: &Name, stored: &Value) -> Option<Arc<Value>> {
    let service = name.sibling(revision::service_of(stored)?);
    view.get(&service.key(Kind::Service)).map(|kv| kv.value.clone())
}

fn part(stored: &Value, kind: &str, collection: &str, spec: Value, status: Value) -> Value {
    let mut metadata = stored["metadata"].clone();
    let name = reach::text(stored, &["metadata", "name"]).unwrap_or_default();
    let namespace = reach::text(stored, &["metadata", "namespace"]).unwrap_or_default();
    metadata["selfLink"] =
        format!("/apis/serving.knative.dev/v1/namespaces/{namespace}/{collection}/{name}").into();
    metadata["labels"][super::annotation::SERVICE] = name.into();
    metadata["ownerReferences"] = json!([{
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "name": name,
        "uid": stored["metadata"]["uid"],
        "controller": true,
        "blockOwnerDeletion": true,
    }]);
    json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
        "status": status,
    })
}

/// The `Ready` condition of a part: one of the service's conditions under another name.
fn ready(stored: &Value, condition: &str) -> Value {
    let mut ready =
        status::find(stored, condition).cloned().unwrap_or_else(|| json!({ "status": "Unknown" }));
    ready["type"] = "Ready".into();
    json!([ready])
}

fn route(stored: &Value) -> Value {
    let mut status = json!({
        "observedGeneration": stored["status"]["observedGeneration"],
        "conditions": ready(stored, "RoutesReady"),
    });
    for member in ["traffic", "url", "address"] {
        if !stored["status"][member].is_null() {
            status[member] = stored["status"][member].clone();
        }
    }
    part(stored, "Route", "routes", json!({ "traffic": stored["spec"]["traffic"] }), status)
}

fn configuration(stored: &Value) -> Value {
    let mut status = json!({
        "observedGeneration": stored["status"]["observedGeneration"],
        "conditions": ready(stored, "ConfigurationsReady"),
    });
    for member in ["latestCreatedRevisionName", "latestReadyRevisionName"] {
        if !stored["status"][member].is_null() {
            status[member] = stored["status"][member].clone();
        }
    }
    let spec = json!({ "template": template::shown(&stored["spec"]["template"]) });
    part(stored, "Configuration", "configurations", spec, status)
}
