//! From a v2 job to what a v1 client would have wanted.

use serde_json::{Map, Value, json};

use super::super::annotation as a;
use super::super::json as reach;
use super::super::wanted::Wanted;
use super::into_v1::{carry, container, dependencies, own, respell_secrets, seconds, surroundings, volume};
use crate::{Document, Error, document};

const WHAT: &str = "run.projects.locations.jobs";
/// Parts of a job that are documented and not built.
const JOB_NOT_BUILT: [&str; 2] = ["binaryAuthorization", "functionalType"];
/// Parts of a task's template that are documented and not built.
const TASK_NOT_BUILT: [&str; 5] =
    ["nodeSelector", "sandboxes", "encryptionKey", "gpuZonalRedundancyDisabled", "workloadIdentityConfig"];

/// Annotations of a job that v2 has fields for.
const JOB_FIELDS: &[&str] = &[a::CLIENT_NAME, a::CLIENT_VERSION, a::LAUNCH_STAGE];
/// Annotations of an execution's template that v2 has fields for.
const TEMPLATE_FIELDS: &[&str] = &[
    a::CLIENT_NAME,
    a::CLIENT_VERSION,
    a::EXECUTION_ENVIRONMENT,
    a::VPC_CONNECTOR,
    a::VPC_EGRESS,
    a::NETWORK_INTERFACES,
    a::CONTAINER_DEPENDENCIES,
];

/// Reads a v2 document. `old` is the v1 document that it takes the place of.
pub(super) fn wanted(body: Document, old: Option<&Value>) -> Result<Wanted, Error> {
    let mut body = Value::Object(body);
    reach::prune_nulls(&mut body);
    let body = document::object(&body);
    document::not_built(body, WHAT, &JOB_NOT_BUILT)?;
    let null = Value::Null;
    let labels = own(body.get("labels").unwrap_or(&null), "labels")?;
    let mut annotations = own(body.get("annotations").unwrap_or(&null), "annotations")?;
    client(body, &mut annotations);
    // GA is what is meant without a stage, and is not written down.
    let stage = document::text(body, "launchStage");
    if let Some(stage) = stage.filter(|stage| !matches!(*stage, "GA" | "LAUNCH_STAGE_UNSPECIFIED")) {
        annotations.insert(a::LAUNCH_STAGE.to_owned(), stage.into());
    }
    let template = body.get("template").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut spec = Map::new();
    spec.insert("template".into(), execution(&template)?);
    for token in ["startExecutionToken", "runExecutionToken"] {
        if let Some(text) = document::text(body, token) {
            spec.insert(token.into(), text.into());
        }
    }
    let mut wanted = Wanted { labels, annotations, spec, force: false };
    if let Some(old) = old {
        carry_over(old, &mut wanted);
    }
    Ok(wanted)
}

fn client(document: &Document, annotations: &mut Document) {
    for (field, key) in [("client", a::CLIENT_NAME), ("clientVersion", a::CLIENT_VERSION)] {
        if let Some(text) = document::text(document, field) {
            annotations.insert(key.to_owned(), text.into());
        }
    }
}

fn execution(template: &Document) -> Result<Value, Error> {
    let null = Value::Null;
    let labels = own(template.get("labels").unwrap_or(&null), "template.labels")?;
    let mut annotations = own(template.get("annotations").unwrap_or(&null), "template.annotations")?;
    client(template, &mut annotations);
    let task = template.get("template").and_then(Value::as_object).cloned().unwrap_or_default();
    surroundings(&task, &mut annotations);
    if let Some(dependencies) = dependencies(document::items(&task, "containers")) {
        annotations.insert(a::CONTAINER_DEPENDENCIES.to_owned(), dependencies.into());
    }
    let mut spec = Map::new();
    for field in ["parallelism", "taskCount"] {
        if let Some(number) = document::integer(template, field) {
            spec.insert(field.into(), number.into());
        }
    }
    if document::flag(template, "delayExecution") {
        spec.insert("delayExecution".into(), true.into());
    }
    spec.insert("template".into(), Value::Object(Map::from_iter([("spec".into(), self::task(&task)?)])));
    let mut metadata = Map::new();
    for (member, texts) in [("labels", labels), ("annotations", annotations)] {
        if !texts.is_empty() {
            metadata.insert(member.into(), Value::Object(texts));
        }
    }
    Ok(Value::Object(Map::from_iter([
        ("metadata".into(), Value::Object(metadata)),
        ("spec".into(), Value::Object(spec)),
    ])))
}

fn task(task: &Document) -> Result<Value, Error> {
    let what = format!("{WHAT}.template.template");
    document::not_built(task, &what, &TASK_NOT_BUILT)?;
    let mut spec = Map::new();
    let containers: Result<Vec<Value>, Error> =
        document::items(task, "containers").iter().map(|c| container(c, &what)).collect();
    spec.insert("containers".into(), Value::Array(containers?));
    let volumes: Result<Vec<Value>, Error> =
        document::items(task, "volumes").iter().map(|v| volume(v, &what)).collect();
    let volumes = volumes?;
    if !volumes.is_empty() {
        spec.insert("volumes".into(), Value::Array(volumes));
    }
    if let Some(retries) = document::integer(task, "maxRetries") {
        spec.insert("maxRetries".into(), retries.into());
    }
    if let Some(account) = document::text(task, "serviceAccount") {
        spec.insert("serviceAccountName".into(), account.into());
    }
    if let Some(timeout) = document::text(task, "timeout") {
        spec.insert("timeoutSeconds".into(), seconds(timeout)?.to_string().into());
    }
    Ok(Value::Object(spec))
}

/// What v2 says is different this once, as v1 says it.
pub(super) fn overrides(overrides: &Value) -> Result<Value, Error> {
    let mut out = overrides.clone();
    reach::prune_nulls(&mut out);
    if let Some(timeout) = reach::text(overrides, &["timeout"]) {
        out["timeoutSeconds"] = seconds(timeout)?.into();
    }
    if let Some(Value::Array(changes)) = out.get_mut("containerOverrides") {
        for change in changes.iter_mut().filter(|change| change["env"].is_array()) {
            // The container as a whole would be checked for more than there is.
            let env =
                container(&Value::Object(Map::from_iter([("env".into(), change["env"].clone())])), WHAT)?;
            change["env"] = env["env"].clone();
        }
    }
    Ok(out)
}

/// Keeps what v2 cannot say, as services do.
fn carry_over(old: &Value, wanted: &mut Wanted) {
    let mut annotations = Value::Object(std::mem::take(&mut wanted.annotations));
    carry(&old["metadata"]["annotations"], &mut annotations, |name| JOB_FIELDS.contains(&name));
    wanted.annotations = annotations.as_object().cloned().unwrap_or_default();
    let before = &old["spec"]["template"]["metadata"];
    let Some(template) = wanted.spec.get_mut("template") else { return };
    let mut annotations = template["metadata"]["annotations"].clone();
    carry(&before["annotations"], &mut annotations, |name| TEMPLATE_FIELDS.contains(&name));
    if annotations.as_object().is_some_and(|annotations| !annotations.is_empty()) {
        template["metadata"]["annotations"] = annotations;
    }
    for (key, value) in reach::strings(&before["labels"], &[]).filter(|(key, _)| a::is_reserved(key)) {
        template["metadata"]["labels"][key] = value.into();
    }
    let task = json!({ "metadata": before, "spec": old["spec"]["template"]["spec"]["template"]["spec"] });
    respell_secrets(&task, &mut template["spec"]["template"]["spec"]);
}
