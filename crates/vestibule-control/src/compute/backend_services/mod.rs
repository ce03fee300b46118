//! Regional backend services of internal application load balancers.
//!
//! What may be set depends on what is behind: with a serverless group, most of what steers connections to machines has
//! no meaning and Google refuses it.

mod backends;
mod health;
mod settings;
#[cfg(test)]
mod tests;

use backends::Behind;
pub use backends::groups;
pub use health::is_up;

use serde_json::{Value, json};
use vestibule_model::{ResourceName, Scope};
use vestibule_store::View;

use super::Call;
use super::kind::{Fingerprint, Info, Kind, Methods, ScopeKind};
use super::vms::Vms;
use crate::{Change, Document, Error, document, users};

/// `backendServices` of regions
pub struct BackendServices;

const HEALTH: &str = "getHealth";

static INFO: Info = Info {
    collection: "backendServices",
    scopes: &[ScopeKind::Region],
    word: "backend_service",
    kind: "compute#backendService",
    list_kind: "compute#backendServiceList",
    aggregated_kind: Some("compute#backendServiceAggregatedList"),
    fingerprint: Fingerprint::Required,
    labels: false,
    methods: Methods::BOTH,
    actions: &[],
    questions: &[HEALTH],
    output_only: &["usedBy", "edgeSecurityPolicy"],
};

/// The load balancing scheme of everything here.
pub const SCHEME: &str = "INTERNAL_MANAGED";

impl Kind for BackendServices {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(&self, change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
        validate(change, name, doc)
    }

    fn update(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        old: &Document,
        new: &mut Document,
    ) -> Result<(), Error> {
        // A scheme that is left out of a replacement is not meant to change.
        if let Some(scheme) = old.get("loadBalancingScheme") {
            document::default(new, "loadBalancingScheme", scheme.clone());
        }
        document::unchanged(old, new, "resource", "loadBalancingScheme")?;
        validate(change, name, new)
    }

    fn ask(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        _verb: &str,
        body: &Document,
        doc: Option<&Document>,
    ) -> Result<Value, Error> {
        let doc = doc.ok_or_else(|| Error::not_found(name))?;
        let group = document::text(body, "group").ok_or_else(|| Error::required("resource.group"))?;
        let wanted = change.reference(name, "resource.group", group, &name.scope, backends::COLLECTIONS)?;
        if !groups(doc).contains(&wanted) {
            let why = "The group is not a backend of the backend service.";
            return Err(Error::invalid("resource.group", group, why));
        }
        let mut answer = json!({"kind": "compute#backendServiceGroupHealth"});
        let healths = health::of_group(change.control(), change.view(), name, doc, &wanted);
        if !healths.is_empty() {
            answer["healthStatus"] = healths.into();
        }
        Ok(answer)
    }

    fn references(&self, _name: &ResourceName, doc: &Document) -> Vec<ResourceName> {
        let checks = document::items(doc, "healthChecks").iter().filter_map(Value::as_str);
        let checks = checks.filter_map(|link| ResourceName::parse(link).ok());
        groups(doc).into_iter().chain(checks).collect()
    }

    fn present(&self, _vms: &Vms, view: &View, name: &ResourceName, doc: &mut Document) {
        let maps = users(view, &name.key());
        let maps = maps.iter().filter_map(|key| ResourceName::from_key(key));
        let maps = maps.filter(|user| user.collection == "urlMaps");
        let used_by: Vec<Value> = maps.map(|map| json!({"reference": map.self_link()})).collect();
        if !used_by.is_empty() {
            doc.insert("usedBy".into(), used_by.into());
        }
    }
}

fn validate(change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
    settings::refuse_not_built(doc)?;
    resolve_health_checks(change, name, doc)?;
    let behind = backends::resolve(change, name, doc)?;
    let serverless = behind == Behind::Serverless;
    check_scheme(doc, serverless)?;
    settings::validate(doc, serverless)?;
    match behind {
        Behind::Serverless => backends::check_serverless(change, doc),
        Behind::Endpoints if document::items(doc, "healthChecks").is_empty() => {
            let why = "A backend service with network endpoint groups that hold endpoints must have a health check.";
            Err(Error::invalid("resource.healthChecks", "", why))
        }
        Behind::Endpoints | Behind::Internet => settings::check_policies(doc),
        Behind::Nothing => Ok(()),
    }
}

fn check_scheme(doc: &Document, serverless: bool) -> Result<(), Error> {
    match document::text(doc, "loadBalancingScheme") {
        Some(SCHEME) => Ok(()),
        scheme if serverless && scheme != Some("EXTERNAL_MANAGED") => {
            let why = "Invalid load balancing scheme for regional backend service with Serverless network endpoint group.";
            Err(Error::invalid("resource.loadBalancingScheme", scheme.unwrap_or_default(), why))
        }
        // EXTERNAL is what the API takes for granted.
        scheme => {
            let scheme = scheme.unwrap_or("EXTERNAL");
            Err(Error::not_built(format!("compute.regionBackendServices with loadBalancingScheme {scheme}")))
        }
    }
}

fn resolve_health_checks(change: &Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
    let Some(Value::Array(links)) = doc.get("healthChecks") else { return Ok(()) };
    if links.len() > 1 {
        let why = "A backend service can have at most one health check.";
        return Err(Error::invalid("resource.healthChecks[1]", document::quoted(&links[1]), why));
    }
    let mut resolved = Vec::new();
    for (index, link) in links.iter().enumerate() {
        let path = format!("resource.healthChecks[{index}]");
        let text = link.as_str().unwrap_or_default();
        let check = change.reference(name, &path, text, &name.scope, &["healthChecks"])?;
        if check.scope != name.scope && check.scope != Scope::Global {
            return Err(Error::invalid(
                path,
                text,
                "The health check must be in the region of the backend service.",
            ));
        }
        resolved.push(Value::String(check.self_link()));
    }
    doc.insert("healthChecks".into(), resolved.into());
    Ok(())
}
