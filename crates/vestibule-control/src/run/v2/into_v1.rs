//! From a v2 service to what a v1 client would have wanted.

use serde_json::{Map, Value, json};

use super::super::annotation as a;
use super::super::json as reach;
use super::super::pod;
use super::super::wanted::Wanted;
use crate::{Document, Error, document};

/// Parts of a service that are documented and not built.
const SERVICE_NOT_BUILT: [&str; 4] = ["buildConfig", "multiRegionSettings", "sshEnabled", "functionalType"];
/// Parts of a template that are documented and not built.
const TEMPLATE_NOT_BUILT: [&str; 9] = [
    "nodeSelector",
    "sandboxes",
    "serviceMesh",
    "encryptionKey",
    "encryptionKeyRevocationAction",
    "encryptionKeyShutdownDuration",
    "gpuZonalRedundancyDisabled",
    "ambientNetworking",
    "workloadIdentityConfig",
];
/// Parts of a container that are documented and not built.
const CONTAINER_NOT_BUILT: [&str; 4] = ["baseImageUri", "buildConfig", "sandboxLauncher", "sourceCode"];
/// Kinds of volumes that are documented and not built.
const VOLUME_NOT_BUILT: [&str; 4] = ["cloudSqlInstance", "filestore", "gcs", "nfs"];

/// Reads a v2 document. `old` is the v1 document that it takes the place of.
pub(super) fn wanted(body: Document, old: Option<&Value>) -> Result<Wanted, Error> {
    let mut body = Value::Object(body);
    reach::prune_nulls(&mut body);
    let body = document::object(&body);
    document::not_built(body, "run.projects.locations.services", &SERVICE_NOT_BUILT)?;
    let null = Value::Null;
    let labels = own(body.get("labels").unwrap_or(&null), "labels")?;
    let mut annotations = own(body.get("annotations").unwrap_or(&null), "annotations")?;
    service_annotations(body, &mut annotations);
    let template = body.get("template").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut spec = Map::new();
    spec.insert("template".into(), Value::Object(self::template(&template)?));
    if let Some(Value::Array(targets)) = body.get("traffic") {
        let targets: Result<Vec<Value>, Error> = targets.iter().enumerate().map(target).collect();
        spec.insert("traffic".into(), Value::Array(targets?));
    }
    let mut wanted = Wanted { labels, annotations, spec, force: false };
    if let Some(old) = old {
        carry_over(old, &mut wanted);
    }
    Ok(wanted)
}

/// Labels or annotations of a client; those that v2 keeps for itself are refused.
pub(super) fn own(value: &Value, field: &str) -> Result<Document, Error> {
    if let Some((key, _)) = reach::strings(value, &[]).find(|(key, _)| a::is_reserved(key)) {
        let why = format!("The namespaces {} are reserved.", a::RESERVED.join(", "));
        return Err(Error::invalid(format!("{field}[{key}]"), key, why));
    }
    Ok(value.as_object().cloned().unwrap_or_default())
}

fn service_annotations(body: &Document, annotations: &mut Document) {
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            annotations.insert(key.to_owned(), value.into());
        }
    };
    let text = |field: &str| document::text(body, field).map(str::to_owned);
    let flag = |field: &str| document::flag(body, field).then(|| "true".to_owned());
    set(a::DESCRIPTION, text("description"));
    set(a::CLIENT_NAME, text("client"));
    set(a::CLIENT_VERSION, text("clientVersion"));
    set(a::INGRESS, ingress(document::text(body, "ingress")));
    // GA is what is meant without a stage, and is not written down.
    set(
        a::LAUNCH_STAGE,
        text("launchStage").filter(|stage| !matches!(stage.as_str(), "GA" | "LAUNCH_STAGE_UNSPECIFIED")),
    );
    set(a::DEFAULT_URL_DISABLED, flag("defaultUriDisabled"));
    set(a::INVOKER_IAM_DISABLED, flag("invokerIamDisabled"));
    set(a::IAP_ENABLED, flag("iapEnabled"));
    let audiences = document::items(body, "customAudiences");
    set(a::CUSTOM_AUDIENCES, (!audiences.is_empty()).then(|| json!(audiences).to_string()));
    if let Some(Value::Object(binary)) = body.get("binaryAuthorization") {
        let default = document::flag(binary, "useDefault").then(|| "default".to_owned());
        set(a::BINARY_AUTHORIZATION, default.or_else(|| document::text(binary, "policy").map(str::to_owned)));
        set(a::BREAKGLASS, document::text(binary, "breakglassJustification").map(str::to_owned));
    }
    if let Some(Value::Object(scaling)) = body.get("scaling") {
        let number = |field: &str| document::integer(scaling, field);
        set(a::SERVICE_MIN, number("minInstanceCount").filter(|n| *n != 0).map(|n| n.to_string()));
        set(a::SERVICE_MAX, number("maxInstanceCount").filter(|n| *n != 0).map(|n| n.to_string()));
        set(a::MANUAL_COUNT, number("manualInstanceCount").map(|n| n.to_string()));
        set(
            a::SCALING_MODE,
            match document::text(scaling, "scalingMode") {
                Some("MANUAL") => Some("manual".to_owned()),
                Some("AUTOMATIC") => Some("automatic".to_owned()),
                _ => None,
            },
        );
    }
}

fn ingress(ingress: Option<&str>) -> Option<String> {
    let ingress = match ingress? {
        "INGRESS_TRAFFIC_INTERNAL_ONLY" => "internal",
        "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER" => "internal-and-cloud-load-balancing",
        "INGRESS_TRAFFIC_NONE" => "none",
        _ => "all",
    };
    Some(ingress.to_owned())
}

fn target((index, target): (usize, &Value)) -> Result<Value, Error> {
    let mut out = Map::new();
    let kind =
        reach::text(target, &["type"]).and_then(|kind| kind.strip_prefix("TRAFFIC_TARGET_ALLOCATION_TYPE_"));
    match (kind, reach::text(target, &["revision"])) {
        (Some("LATEST"), Some(revision)) => {
            let why = "Must be empty if the type is TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST.";
            return Err(Error::invalid(format!("traffic[{index}].revision"), revision, why));
        }
        (Some("REVISION"), None) => return Err(Error::required(format!("traffic[{index}].revision"))),
        // Some clients give the revision's full name.
        (_, Some(revision)) => out.insert("revisionName".into(), revision.rsplit('/').next().into()),
        (_, None) => out.insert("latestRevision".into(), true.into()),
    };
    for field in ["percent", "tag"] {
        if !target[field].is_null() {
            out.insert(field.into(), target[field].clone());
        }
    }
    Ok(Value::Object(out))
}

fn template(template: &Document) -> Result<Document, Error> {
    const WHAT: &str = "run.projects.locations.services.template";
    document::not_built(template, WHAT, &TEMPLATE_NOT_BUILT)?;
    let null = Value::Null;
    let labels = own(template.get("labels").unwrap_or(&null), "template.labels")?;
    let mut annotations = own(template.get("annotations").unwrap_or(&null), "template.annotations")?;
    let first = document::items(template, "containers").first();
    template_annotations(template, first.and_then(|first| first["resources"].as_object()), &mut annotations);
    surroundings(template, &mut annotations);
    if let Some(dependencies) = dependencies(document::items(template, "containers")) {
        annotations.insert(a::CONTAINER_DEPENDENCIES.to_owned(), dependencies.into());
    }
    let mut metadata = Map::new();
    if let Some(revision) = document::text(template, "revision") {
        metadata.insert("name".into(), revision.into());
    }
    if !labels.is_empty() {
        metadata.insert("labels".into(), Value::Object(labels));
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".into(), Value::Object(annotations));
    }
    let mut spec = Map::new();
    let containers: Result<Vec<Value>, Error> =
        document::items(template, "containers").iter().map(|c| container(c, WHAT)).collect();
    spec.insert("containers".into(), Value::Array(containers?));
    let volumes: Result<Vec<Value>, Error> =
        document::items(template, "volumes").iter().map(|v| volume(v, WHAT)).collect();
    let volumes = volumes?;
    if !volumes.is_empty() {
        spec.insert("volumes".into(), Value::Array(volumes));
    }
    if let Some(concurrency) = document::integer(template, "maxInstanceRequestConcurrency") {
        spec.insert("containerConcurrency".into(), concurrency.into());
    }
    if let Some(account) = document::text(template, "serviceAccount") {
        spec.insert("serviceAccountName".into(), account.into());
    }
    if let Some(timeout) = document::text(template, "timeout") {
        spec.insert("timeoutSeconds".into(), seconds(timeout)?.into());
    }
    let mut out = Map::new();
    out.insert("metadata".into(), Value::Object(metadata));
    out.insert("spec".into(), Value::Object(spec));
    Ok(out)
}

pub(super) fn seconds(timeout: &str) -> Result<i64, Error> {
    let number: Option<f64> = timeout.strip_suffix('s').and_then(|number| number.parse().ok());
    match number {
        Some(number) if number.fract() == 0.0 && number.abs() < 1e9 => Ok(number as i64),
        _ => Err(Error::invalid("template.timeout", timeout, "It must be a whole number of seconds.")),
    }
}

fn template_annotations(template: &Document, resources: Option<&Document>, annotations: &mut Document) {
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            annotations.insert(key.to_owned(), value.into());
        }
    };
    let text = |field: &str| document::text(template, field).map(str::to_owned);
    let flag = |field: &str| document::flag(template, field).then(|| "true".to_owned());
    set(a::CLIENT_NAME, text("client"));
    set(a::CLIENT_VERSION, text("clientVersion"));
    set(a::SESSION_AFFINITY, flag("sessionAffinity"));
    set(a::HEALTH_CHECK_DISABLED, flag("healthCheckDisabled"));
    if let Some(Value::Object(scaling)) = template.get("scaling") {
        let count =
            |field: &str| document::integer(scaling, field).filter(|n| *n != 0).map(|n| n.to_string());
        set(a::MIN_SCALE, count("minInstanceCount"));
        set(a::MAX_SCALE, count("maxInstanceCount"));
        let share = |field: &str| scaling.get(field).filter(|value| value.is_number()).map(Value::to_string);
        set(a::CONCURRENCY_TARGET, share("concurrencyUtilization"));
        set(a::CPU_TARGET, share("cpuUtilization"));
    }
    // Without a word about resources the processor idles between requests and is boosted at start; with one, what is
    // not said is false.
    let said = |field: &str| resources.is_none_or(|resources| document::flag(resources, field));
    set(a::CPU_THROTTLING, (!said("cpuIdle")).then(|| "false".to_owned()));
    set(a::STARTUP_CPU_BOOST, said("startupCpuBoost").then(|| "true".to_owned()));
}

/// What services and jobs alike say about where they run.
pub(super) fn surroundings(template: &Document, annotations: &mut Document) {
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            annotations.insert(key.to_owned(), value.into());
        }
    };
    set(
        a::EXECUTION_ENVIRONMENT,
        match document::text(template, "executionEnvironment") {
            Some("EXECUTION_ENVIRONMENT_GEN1") => Some("gen1".to_owned()),
            Some("EXECUTION_ENVIRONMENT_GEN2") => Some("gen2".to_owned()),
            _ => None,
        },
    );
    if let Some(Value::Object(vpc)) = template.get("vpcAccess") {
        set(a::VPC_CONNECTOR, document::text(vpc, "connector").map(str::to_owned));
        set(
            a::VPC_EGRESS,
            match document::text(vpc, "egress") {
                Some("ALL_TRAFFIC") => Some("all-traffic".to_owned()),
                Some("PRIVATE_RANGES_ONLY") => Some("private-ranges-only".to_owned()),
                _ => None,
            },
        );
        let interfaces = document::items(vpc, "networkInterfaces");
        set(a::NETWORK_INTERFACES, (!interfaces.is_empty()).then(|| json!(interfaces).to_string()));
    }
}

/// Which containers wait for which, as the annotation says it.
pub(super) fn dependencies(containers: &[Value]) -> Option<String> {
    let waiting = containers.iter().filter(|container| !reach::items(container, &["dependsOn"]).is_empty());
    let waiting: Map<String, Value> = waiting
        .map(|container| {
            (reach::text(container, &["name"]).unwrap_or_default().to_owned(), container["dependsOn"].clone())
        })
        .collect();
    (!waiting.is_empty()).then(|| Value::Object(waiting).to_string())
}

/// A container. `what` is the field that it is in, for errors.
pub(super) fn container(container: &Value, what: &str) -> Result<Value, Error> {
    let container = document::object(container);
    document::not_built(container, &format!("{what}.containers"), &CONTAINER_NOT_BUILT)?;
    let mut out = Map::new();
    for field in [
        "name",
        "image",
        "command",
        "args",
        "ports",
        "workingDir",
        "volumeMounts",
        "startupProbe",
        "livenessProbe",
        "readinessProbe",
    ] {
        if let Some(value) = container.get(field) {
            out.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(limits) = container.get("resources").and_then(|resources| resources.get("limits")) {
        out.insert("resources".into(), json!({ "limits": limits }));
    }
    if let Some(Value::Array(env)) = container.get("env") {
        out.insert("env".into(), env.iter().map(variable).collect());
    }
    Ok(Value::Object(out))
}

fn variable(variable: &Value) -> Value {
    let reference = &variable["valueSource"]["secretKeyRef"];
    if reference.is_null() {
        return variable.clone();
    }
    // Without a word, the newest version.
    let version = reach::text(reference, &["version"]).unwrap_or("latest");
    let reference = json!({ "name": reference["secret"], "key": version });
    json!({ "name": variable["name"], "valueFrom": { "secretKeyRef": reference } })
}

/// A volume. `what` is the field that it is in, for errors.
pub(super) fn volume(volume: &Value, what: &str) -> Result<Value, Error> {
    let volume = document::object(volume);
    document::not_built(volume, &format!("{what}.volumes"), &VOLUME_NOT_BUILT)?;
    let mut out = Map::new();
    out.insert("name".into(), volume.get("name").cloned().unwrap_or_default());
    if let Some(memory @ Value::Object(_)) = volume.get("emptyDir") {
        let mut source = Map::new();
        match reach::text(memory, &["medium"]) {
            Some("MEMORY") => drop(source.insert("medium".into(), "Memory".into())),
            Some("DISK") => drop(source.insert("medium".into(), "Disk".into())),
            _ => {}
        }
        if let Some(limit) = reach::text(memory, &["sizeLimit"]) {
            source.insert("sizeLimit".into(), limit.into());
        }
        out.insert("emptyDir".into(), Value::Object(source));
    }
    if let Some(secret @ Value::Object(_)) = volume.get("secret") {
        let mut source = Map::new();
        source.insert("secretName".into(), secret["secret"].clone());
        if !secret["defaultMode"].is_null() {
            source.insert("defaultMode".into(), secret["defaultMode"].clone());
        }
        let items = reach::items(secret, &["items"]);
        if !items.is_empty() {
            source.insert("items".into(), items.iter().map(secret_item).collect());
        }
        out.insert("secret".into(), Value::Object(source));
    }
    Ok(Value::Object(out))
}

fn secret_item(item: &Value) -> Value {
    let version = reach::text(item, &["version"]).unwrap_or("latest");
    let mut out = json!({ "key": version, "path": item["path"] });
    if !item["mode"].is_null() {
        out["mode"] = item["mode"].clone();
    }
    out
}

/// Keeps what v2 cannot say: annotations and labels in its own namespaces that it has no field for, and the spelling
/// of those that it has.
fn carry_over(old: &Value, wanted: &mut Wanted) {
    let mut annotations = Value::Object(std::mem::take(&mut wanted.annotations));
    carry(&old["metadata"]["annotations"], &mut annotations, |name| is_among(SERVICE_FIELDS, name));
    wanted.annotations = annotations.as_object().cloned().unwrap_or_default();
    let template = &old["spec"]["template"]["metadata"];
    if let Some(new) = wanted.spec.get_mut("template") {
        carry(&template["annotations"], &mut new["metadata"]["annotations"], |name| {
            is_among(TEMPLATE_FIELDS, name)
        });
        for (key, value) in reach::strings(&template["labels"], &[]).filter(|(key, _)| a::is_reserved(key)) {
            new["metadata"]["labels"][key] = value.into();
        }
        respell_secrets(&old["spec"]["template"], &mut new["spec"]);
    }
}

/// v2 knows secrets of other projects by their whole names; a v1 template that calls one by an alias goes on doing so.
/// `old` has the aliases in its metadata, `new` is the specification of containers and volumes.
pub(super) fn respell_secrets(old: &Value, new: &mut Value) {
    let mut before = old["spec"].clone();
    let used: Vec<String> =
        secret_names(&mut before).into_iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    for name in secret_names(new) {
        let alias =
            pod::aliases(old).find(|(alias, full)| name == full && used.iter().any(|used| used == alias));
        if let Some((alias, _)) = alias {
            *name = alias.into();
        }
    }
}

/// Everywhere that a specification names a secret.
fn secret_names(spec: &mut Value) -> Vec<&mut Value> {
    let Some(spec) = spec.as_object_mut() else { return Vec::new() };
    let mut found = Vec::new();
    for (member, value) in spec.iter_mut() {
        let items = value.as_array_mut().into_iter().flatten();
        match member.as_str() {
            "volumes" => found.extend(items.filter_map(|volume| volume.pointer_mut("/secret/secretName"))),
            "containers" => {
                let variables =
                    items.filter_map(|container| container.get_mut("env")?.as_array_mut()).flatten();
                found.extend(
                    variables.filter_map(|variable| variable.pointer_mut("/valueFrom/secretKeyRef/name")),
                );
            }
            _ => {}
        }
    }
    found
}

/// Annotations of a service that v2 has fields for, and the fields.
const SERVICE_FIELDS: &[(&str, &str)] = &[
    (a::DESCRIPTION, "description"),
    (a::CLIENT_NAME, "client"),
    (a::CLIENT_VERSION, "clientVersion"),
    (a::INGRESS, "ingress"),
    (a::LAUNCH_STAGE, "launchStage"),
    (a::DEFAULT_URL_DISABLED, "defaultUriDisabled"),
    (a::INVOKER_IAM_DISABLED, "invokerIamDisabled"),
    (a::IAP_ENABLED, "iapEnabled"),
    (a::CUSTOM_AUDIENCES, "customAudiences"),
    (a::BINARY_AUTHORIZATION, "binaryAuthorization.policy"),
    (a::BREAKGLASS, "binaryAuthorization.breakglassJustification"),
    (a::SERVICE_MIN, "scaling.minInstanceCount"),
    (a::SERVICE_MAX, "scaling.maxInstanceCount"),
    (a::MANUAL_COUNT, "scaling.manualInstanceCount"),
    (a::SCALING_MODE, "scaling.scalingMode"),
];

/// Annotations of a template that v2 has fields for, and the fields.
const TEMPLATE_FIELDS: &[(&str, &str)] = &[
    (a::CLIENT_NAME, "template.client"),
    (a::CLIENT_VERSION, "template.clientVersion"),
    (a::SESSION_AFFINITY, "template.sessionAffinity"),
    (a::HEALTH_CHECK_DISABLED, "template.healthCheckDisabled"),
    (a::EXECUTION_ENVIRONMENT, "template.executionEnvironment"),
    (a::MIN_SCALE, "template.scaling.minInstanceCount"),
    (a::MAX_SCALE, "template.scaling.maxInstanceCount"),
    (a::CONCURRENCY_TARGET, "template.scaling.concurrencyUtilization"),
    (a::CPU_TARGET, "template.scaling.cpuUtilization"),
    (a::VPC_CONNECTOR, "template.vpcAccess.connector"),
    (a::VPC_EGRESS, "template.vpcAccess.egress"),
    (a::NETWORK_INTERFACES, "template.vpcAccess.networkInterfaces"),
    (a::CPU_THROTTLING, "template.containers.resources.cpuIdle"),
    (a::STARTUP_CPU_BOOST, "template.containers.resources.startupCpuBoost"),
    (a::CONTAINER_DEPENDENCIES, "template.containers.dependsOn"),
];

fn is_among(fields: &[(&str, &str)], annotation: &str) -> bool {
    fields.iter().any(|(name, _)| *name == annotation)
}

/// The field that v2 has for an annotation of v1.
pub(super) fn field_of(annotation: &str) -> Option<&'static str> {
    let fields = || SERVICE_FIELDS.iter().chain(TEMPLATE_FIELDS);
    fields().find(|(name, _)| *name == annotation).map(|(_, field)| *field)
}

/// Annotations in one place of the document; those with a field v2 can say.
pub(super) fn carry(old: &Value, new: &mut Value, has_field: impl Fn(&str) -> bool) {
    for (key, value) in reach::strings(old, &[]) {
        let hidden = a::is_reserved(key) && !has_field(key);
        let respelt = new[key].as_str().is_some_and(|new| new != value && new.eq_ignore_ascii_case(value));
        if hidden || respelt || (new[key].is_null() && is_default(key, value)) {
            new[key] = value.into();
        }
    }
    // What v2 shows although nobody said it comes back, and still nobody has said it.
    if let Some(new) = new.as_object_mut() {
        new.retain(|key, value| !old[key].is_null() || !is_default(key, value.as_str().unwrap_or_default()));
    }
}

/// Whether an annotation of a template says no more than its absence.
fn is_default(key: &str, value: &str) -> bool {
    matches!(
        (key, value),
        (a::CPU_THROTTLING, "true" | "True")
            | (a::MAX_SCALE, "100")
            | (a::MIN_SCALE, "0")
            | (a::VPC_EGRESS, "private-ranges-only")
    )
}
