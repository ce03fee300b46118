//! What Cloud Run refuses in a service.
//!
//! Field names are those of v1, as gcloud prints them. What is documented but not built here is refused too, by name:
//! a setting that silently does nothing would be worse than none. What containers may be is in [`containers`].

pub(super) mod containers;

use serde_json::Value;

use super::url::Hosts;
use super::{annotation, json};
use crate::{Document, Error};
use containers::Kind;

/// Most requests an instance may take at once.
const MAX_CONCURRENCY: i64 = 1000;
/// Longest request, in seconds.
const MAX_TIMEOUT: i64 = 3600;
/// Longest description (`Service.description` of v2).
const MAX_DESCRIPTION: usize = 512;

/// Where a service's template has its specification.
pub(super) const TEMPLATE: &str = "spec.template.spec";

/// Checks a service: its annotations and its completed specification.
pub(super) fn service(annotations: &Document, spec: &Value, hosts: &Hosts) -> Result<(), Error> {
    service_annotations(annotations)?;
    revision_template(&spec["template"])?;
    traffic(json::items(spec, &["traffic"]), hosts)
}

fn service_annotations(annotations: &Document) -> Result<(), Error> {
    let value = |name: &str| annotations.get(name).and_then(Value::as_str);
    let field = |name: &str| format!("metadata.annotations[{name}]");
    if let Some(ingress) = value(annotation::INGRESS) {
        let allowed = ["all", "internal", "internal-and-cloud-load-balancing", "none"];
        if !allowed.contains(&ingress) {
            return Err(Error::invalid(
                field(annotation::INGRESS),
                ingress,
                format!("Must be one of {}.", allowed.join(", ")),
            ));
        }
    }
    if let Some(audiences) = value(annotation::CUSTOM_AUDIENCES)
        && serde_json::from_str::<Vec<String>>(audiences).is_err()
    {
        return Err(Error::invalid(
            field(annotation::CUSTOM_AUDIENCES),
            audiences,
            "Must be a JSON list of strings.",
        ));
    }
    if let Some(description) = value(annotation::DESCRIPTION)
        && description.chars().count() > MAX_DESCRIPTION
    {
        let why = format!("Must have at most {MAX_DESCRIPTION} characters.");
        return Err(Error::invalid(field(annotation::DESCRIPTION), description, why));
    }
    if let Some(mode) = value(annotation::SCALING_MODE)
        && !["automatic", "manual"].contains(&mode)
    {
        return Err(Error::invalid(
            field(annotation::SCALING_MODE),
            mode,
            "Must be one of automatic, manual.",
        ));
    }
    if value(annotation::IAP_ENABLED).is_some_and(annotation::is_true) {
        return Err(Error::not_built("run.services.iapEnabled"));
    }
    count(annotations, "metadata", annotation::MANUAL_COUNT, 0)?;
    scale(annotations, "metadata", annotation::SERVICE_MIN, annotation::SERVICE_MAX)
}

/// A pair of annotations with the least and the greatest number of instances.
fn scale(annotations: &Document, parent: &str, min: &str, max: &str) -> Result<(), Error> {
    let least = count(annotations, parent, min, 0)?.unwrap_or(0);
    let Some(most) = count(annotations, parent, max, 1)? else { return Ok(()) };
    if least > most {
        let field = format!("{parent}.annotations[{min}]");
        return Err(Error::invalid(
            field,
            least,
            "Must not be greater than the maximum number of instances.",
        ));
    }
    Ok(())
}

fn count(annotations: &Document, parent: &str, name: &str, least: u32) -> Result<Option<u32>, Error> {
    let Some(value) = annotations.get(name) else { return Ok(None) };
    let text = value.as_str().unwrap_or_default();
    match text.parse::<u32>() {
        Ok(number) if number >= least => Ok(Some(number)),
        _ => Err(Error::invalid(
            format!("{parent}.annotations[{name}]"),
            text,
            format!("Must be an integer of at least {least}."),
        )),
    }
}

fn revision_template(template: &Value) -> Result<(), Error> {
    annotations_not_built(&template["metadata"]["annotations"], Kind::Service)?;
    template_annotations(template["metadata"]["annotations"].as_object())?;
    let spec = &template["spec"];
    containers::check(TEMPLATE, template, Kind::Service)?;
    within(&spec["containerConcurrency"], &format!("{TEMPLATE}.containerConcurrency"), 1..=MAX_CONCURRENCY)?;
    within(&spec["timeoutSeconds"], &format!("{TEMPLATE}.timeoutSeconds"), 1..=MAX_TIMEOUT)
}

/// Refuses annotations of a template that are documented but not built.
pub(super) fn annotations_not_built(annotations: &Value, kind: Kind) -> Result<(), Error> {
    let set = |name: &&&str| json::text(annotations, &[name]).is_some();
    match [annotation::CLOUDSQL, annotation::ENCRYPTION_KEY].iter().find(set) {
        Some(name) => Err(kind.not_built(&format!("annotations[{name}]"))),
        None => Ok(()),
    }
}

fn template_annotations(annotations: Option<&Document>) -> Result<(), Error> {
    let Some(annotations) = annotations else { return Ok(()) };
    scale(annotations, "spec.template.metadata", annotation::MIN_SCALE, annotation::MAX_SCALE)
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
        match (latest, json::text(target, &["revisionName"])) {
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
        if let Some(name) = json::text(target, &["configurationName"]) {
            return Err(Error::invalid(field("configurationName"), name, "Must be empty."));
        }
        within(&target["percent"], &field("percent"), 0..=100)?;
        sum += target["percent"].as_i64().unwrap_or(0);
        if let Some(tag) = json::text(target, &["tag"]) {
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
