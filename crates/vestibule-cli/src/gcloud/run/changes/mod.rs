//! What flags change in the document of a service or a job.
//!
//! A change is a function on the document, so that creating and updating are the same code: one starts from an empty
//! document, the other from the one that was read. Where a service and a job differ is in the places of things, which a
//! [`Shape`] names.

mod annotations;
mod container;
pub mod flags;
mod job;
pub use job::at_least;
mod volumes;

use serde_json::{Map, Value, json};

use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{self, Misuse};
use crate::gcloud::invocation::Invocation;

/// Where the parts of a document are.
pub struct Shape {
    /// What is copied into each revision or execution.
    template: &'static [&'static str],
    /// What has the containers.
    pod: &'static [&'static str],
}

pub const SERVICE: Shape = Shape { template: &["spec", "template"], pod: &["spec", "template", "spec"] };

pub const JOB: Shape =
    Shape { template: &["spec", "template"], pod: &["spec", "template", "spec", "template", "spec"] };

/// Whether any flag of `deploy` and `services update` asks for a change (waiting or not is none).
pub fn any_asked(inv: &Invocation<'_>) -> bool {
    let shared = flags::service().into_iter().chain(flags::container());
    let changes = shared.filter(|flag| flag.name != "async");
    !inv.args.containers().is_empty() || changes.into_iter().any(|flag| inv.args.has(flag.name))
}

/// Applies all flags of a service but those for the revision's name and the traffic.
pub fn apply(inv: &Invocation<'_>, service: &mut Value) -> Result<(), Failure> {
    annotations::service(inv, service);
    annotations::labels(inv, service, &SERVICE);
    annotations::template(inv, service, &SERVICE)?;
    service_spec(inv, service)?;
    volumes::volumes(inv, service, &SERVICE)?;
    container::all(inv, service, &SERVICE)?;
    annotations::audiences(inv, service);
    Ok(())
}

/// Applies all flags of a job.
pub fn apply_to_job(inv: &Invocation<'_>, job: &mut Value) -> Result<(), Failure> {
    annotations::labels(inv, job, &JOB);
    annotations::template(inv, job, &JOB)?;
    job::spec(inv, job)?;
    volumes::volumes(inv, job, &JOB)?;
    container::all(inv, job, &JOB)
}

/// The object at `pointer`, made where it is missing.
pub fn object<'v>(value: &'v mut Value, path: &[&str]) -> &'v mut Map<String, Value> {
    let mut place = value;
    for step in path {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[*step];
    }
    if !place.is_object() {
        *place = json!({});
    }
    match place {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

/// The list `name` in an object, made where it is missing.
fn list<'v>(map: &'v mut Map<String, Value>, name: &str) -> &'v mut Vec<Value> {
    let place = map.entry(name).or_insert_with(|| json!([]));
    if !place.is_array() {
        *place = json!([]);
    }
    match place {
        Value::Array(list) => list,
        _ => unreachable!("made a list just above"),
    }
}

/// Drops a list that has become empty.
fn tidy(map: &mut Map<String, Value>, name: &str) {
    if map.get(name).and_then(Value::as_array).is_some_and(Vec::is_empty) {
        map.remove(name);
    }
}

/// Sets an entry, or drops it for the word `default`.
fn set_or_default(map: &mut Map<String, Value>, name: &str, value: &str) {
    match value {
        "default" => drop(map.remove(name)),
        value => drop(map.insert(name.to_owned(), json!(value))),
    }
}

fn service_spec(inv: &Invocation<'_>, service: &mut Value) -> Result<(), Failure> {
    let args = &inv.args;
    let spec = object(service, SERVICE.pod);
    if let Some(account) = args.text("service-account") {
        spec.insert("serviceAccountName".into(), json!(account));
    }
    if let Some(concurrency) = args.text("concurrency") {
        match concurrency {
            "default" => drop(spec.remove("containerConcurrency")),
            number => match number.parse::<u32>() {
                Ok(at_once @ 1..) => drop(spec.insert("containerConcurrency".into(), json!(at_once))),
                _ => {
                    let why = "must be an integer greater than 0 or \"default\".";
                    let message = format!("argument --concurrency: Bad value [{number}]: {why}");
                    return Err(Misuse::plain(&inv.path, message).into());
                }
            },
        }
    }
    if let Some(timeout) = args.text("timeout") {
        let seconds = grammar::parse_duration(timeout)
            .map_err(|error| Failure::new(format!("argument --timeout: {error}")))?;
        spec.insert("timeoutSeconds".into(), json!(seconds));
    }
    Ok(())
}

/// Some letters for a name that nobody else has.
pub fn letters(count: usize) -> String {
    std::iter::repeat_with(fastrand::lowercase).take(count).collect()
}
