//! `getHealth`: what the prober knows of the endpoints behind a backend service.

use serde_json::{Value, json};
use vestibule_balance::State;
use vestibule_model::ResourceName;
use vestibule_model::name::SELF_LINK_PREFIX;
use vestibule_store::View;

use crate::compute::network_endpoint_groups::{EndpointType, NetworkEndpoint, endpoints};
use crate::lb::Sources;
use crate::{Control, Document, document};

/// The health of every endpoint of a group. Empty where nobody probes: serverless groups, and backend services that no
/// forwarding rule leads to. An endpoint whose first probe is not over counts as unhealthy; the API has no third word.
pub fn of_group(
    control: &Control,
    view: &View,
    service: &ResourceName,
    doc: &Document,
    group: &ResourceName,
) -> Vec<Value> {
    let Some(stored) = view.get(&group.key()) else { return Vec::new() };
    let group_doc = document::object(&stored.value);
    let kind = EndpointType::of(group_doc);
    let Some(sources) = Sources::of(view, service, doc) else { return Vec::new() };
    let health = |item: &Value| {
        let item = document::object(item);
        let endpoint = NetworkEndpoint::of(item)?;
        let state = control.health().state(&sources.probe_key(group_doc, &endpoint)?)?;
        let mut status = json!({
            "healthState": if state == State::Healthy { "HEALTHY" } else { "UNHEALTHY" },
            "port": sources.port(group_doc, &endpoint),
        });
        if kind != Some(EndpointType::InternetName) {
            status["ipAddress"] = endpoint.host.into();
        }
        if let Some(instance) = document::text(item, "instance") {
            status["instance"] = instance_link(group, instance).into();
        }
        if let Some(annotations) = item.get("annotations") {
            status["annotations"] = annotations.clone();
        }
        Some(status)
    };
    endpoints::of(view, group).iter().filter_map(health).collect()
}

/// Whether a backend service has anything that may answer: an endpoint that is healthy or that nobody probes, or a
/// serverless group, which is always there.
pub fn is_up(control: &Control, view: &View, service: &ResourceName, doc: &Document) -> bool {
    let sources = Sources::of(view, service, doc);
    super::groups(doc).iter().any(|group| {
        let Some(stored) = view.get(&group.key()) else { return false };
        let group_doc = document::object(&stored.value);
        if EndpointType::of(group_doc).is_none() {
            return true;
        }
        let Some(sources) = &sources else { return false };
        endpoints::used(view, group).iter().any(|endpoint| match sources.probe_key(group_doc, endpoint) {
            Some(key) => control.health().state(&key) == Some(State::Healthy),
            None => true,
        })
    })
}

/// The link of the client that an endpoint names.
fn instance_link(group: &ResourceName, instance: &str) -> String {
    match instance.find("projects/") {
        Some(at) => format!("{SELF_LINK_PREFIX}{}", &instance[at..]),
        None => {
            let parent = group.parent_relative();
            let zone = parent.strip_suffix("networkEndpointGroups").unwrap_or(&parent);
            format!("{SELF_LINK_PREFIX}{zone}instances/{instance}")
        }
    }
}
