//! What Cloud Run refuses in a service.
//!
//! Field names are those of v1, as gcloud prints them. What is documented but not built here is refused too, by name:
//! a setting that silently does nothing would be worse than none. What containers may be is in [`containers`].

mod annotations;
pub(super) mod containers;

use serde_json::{Value, json};

use super::url::Hosts;
use super::{annotation, json as reach};
use crate::compute::check_labels;
use crate::{Document, Error, document};
use containers::Kind;

/// Most requests an instance may take at once.
const MAX_CONCURRENCY: i64 = 1000;
/// Longest request, in seconds.
const MAX_TIMEOUT: i64 = 3600;

/// Where a service's template has its specification.
pub(super) const TEMPLATE: &str = "spec.template.spec";

/// Checks a service: its labels, its annotations and its completed specification.
pub(super) fn service(
    labels: &Document,
    annotations: &Document,
    spec: &Value,
    hosts: &Hosts,
) -> Result<(), Error> {
    self::labels(labels, "metadata.labels")?;
    annotations::service(annotations)?;
    revision_template(&spec["template"])?;
    traffic(reach::items(spec, &["traffic"]), hosts)
}

fn revision_template(template: &Value) -> Result<(), Error> {
    annotations::template(document::object(&template["metadata"]["annotations"]))?;
    labels(document::object(&template["metadata"]["labels"]), "spec.template.metadata.labels")?;
    let spec = &template["spec"];
    containers::check(TEMPLATE, template, Kind::Service)?;
    within(&spec["containerConcurrency"], &format!("{TEMPLATE}.containerConcurrency"), 1..=MAX_CONCURRENCY)?;
    within(&spec["timeoutSeconds"], &format!("{TEMPLATE}.timeoutSeconds"), 1..=MAX_TIMEOUT)
}

/// Checks labels. Those with a prefix (`cloud.googleapis.com/location`) are the server's, which clients send back.
pub(super) fn labels(labels: &Document, path: &str) -> Result<(), Error> {
    let mut own = labels.clone();
    own.retain(|key, _| !key.contains('/'));
    check_labels(document::object(&json!({ "labels": own })), path)
}

/// Refuses annotations of a job's template that are documented but not built.
pub(super) fn annotations_not_built(annotations: &Value, kind: Kind) -> Result<(), Error> {
    let set = |name: &&&str| reach::text(annotations, &[name]).is_some();
    match [annotation::CLOUDSQL, annotation::ENCRYPTION_KEY].iter().find(set) {
        Some(name) => Err(kind.not_built(&format!("annotations[{name}]"))),
        None => Ok(()),
    }
}

/// Refuses a number outside a range. Absent is fine.
pub(super) fn within(
    value: &Value,
    field: &str,
    allowed: std::ops::RangeInclusive<i64>,
) -> Result<(), Error> {
    match value {
        Value::Null => Ok(()),
        value if value.as_i64().is_some_and(|number| allowed.contains(&number)) => Ok(()),
        value => {
            let why = format!("Must be between {} and {}.", allowed.start(), allowed.end());
            Err(Error::invalid(field, value, why))
        }
    }
}

fn traffic(targets: &[Value], hosts: &Hosts) -> Result<(), Error> {
    let mut sum = 0;
    let mut tags: Vec<&str> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let field = |member: &str| format!("spec.traffic[{index}].{member}");
        let latest = target["latestRevision"].as_bool().unwrap_or(false);
        match (latest, reach::text(target, &["revisionName"])) {
            (true, Some(name)) => {
                let why = "Must be empty if latestRevision is true.";
                return Err(Error::invalid(field("revisionName"), name, why));
            }
            (false, None) => {
                let why = "One of revisionName and latestRevision must be set.";
                return Err(Error::invalid(field("revisionName"), "", why));
            }
            _ => {}
        }
        if let Some(name) = reach::text(target, &["configurationName"]) {
            return Err(Error::invalid(field("configurationName"), name, "Must be empty."));
        }
        within(&target["percent"], &field("percent"), 0..=100)?;
        sum += target["percent"].as_i64().unwrap_or(0);
        if let Some(tag) = reach::text(target, &["tag"]) {
            hosts.check_tag(&field("tag"), tag)?;
            if tags.contains(&tag) {
                return Err(Error::invalid(field("tag"), tag, "A tag must be unique."));
            }
            tags.push(tag);
        }
    }
    if sum != 100 {
        return Err(Error::invalid("spec.traffic", sum, "Traffic percentages must add up to 100."));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
