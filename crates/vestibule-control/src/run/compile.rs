//! From documents to what the runtime should do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use vestibule_iam::policy::Policy;
use vestibule_run::desired::{
    Container, Desired, Ingress, Protocol, Revision, Service, ServiceKey, TrafficTarget, VpcAccess,
};
use vestibule_store::View;

use super::annotation::{
    self, CPU_THROTTLING, CUSTOM_AUDIENCES, DEFAULT_URL_DISABLED, INGRESS, INVOKER_IAM_DISABLED,
    MANUAL_COUNT, MAX_SCALE, MIN_SCALE, NETWORK_INTERFACES, SCALING_MODE, SERVICE_MAX, SERVICE_MIN,
    SESSION_AFFINITY, VPC_EGRESS,
};
use super::name::{Kind, Name};
use super::revision::{self, Bundle, DEFAULT_MAX_SCALE};
use super::status::Facts;
use super::traffic::Readiness;
use super::{jobs, json, pod, template, url, validate};
use crate::iam;

/// Everything that should run in this state of the store.
pub fn desired(view: &View) -> Desired {
    let mut projects: HashMap<String, Arc<Policy>> = HashMap::new();
    let mut compiled = Vec::new();
    for bundle in revision::bundles(view) {
        let name = &bundle.name;
        let project = projects.entry(name.project.clone());
        let project = project.or_insert_with(|| Arc::new(iam::project_policy(view, &name.project))).clone();
        let policies = vec![Arc::new(iam::policy_at(view, &name.policy_key(Kind::Service))), project];
        compiled.push(Arc::new(service(&bundle, policies)));
    }
    Desired { generation: view.revision(), services: compiled, executions: jobs::desired(view) }
}

fn service(bundle: &Bundle, policies: Vec<Arc<Policy>>) -> Service {
    let (name, document) = (&bundle.name, &*bundle.service.value);
    let facts = Facts::new(name, bundle.revision_documents());
    let annotation = |key: &str| json::text(document, &["metadata", "annotations", key]);
    let entries = facts.traffic(document);
    let scaling = Scaling::of_service(&annotation);
    // Manual scaling to no instance switches a service off.
    let entries = if scaling.manual == Some(0) { Vec::new() } else { entries };
    let traffic: Vec<TrafficTarget> = entries.iter().map(target).collect();
    let hosts = url::hosts(name);
    let share =
        |revision: &str| traffic.iter().filter(|t| *t.revision == *revision).map(|t| t.percent).sum::<u32>();
    // What a revision that is being deployed will get, so that its part of the service's minimum waits for it.
    let newest = json::text(document, &["status", "latestCreatedRevisionName"]);
    let coming = |revision: &str| {
        let wanted = json::items(document, &["spec", "traffic"]).iter();
        let own = wanted.filter(|target| match target["latestRevision"].as_bool() {
            Some(true) => newest == Some(revision),
            _ => target["revisionName"] == revision,
        });
        own.filter_map(|target| target["percent"].as_u64()).sum::<u64>() as u32
    };
    let used = |revision: &str| traffic.iter().any(|t| *t.revision == *revision);
    let compiled = bundle.revisions.iter().filter_map(|(revision, stored)| {
        let document = &*stored.value;
        let proven = match revision::readiness(document) {
            Readiness::Ready if used(&revision.name) => true,
            Readiness::Deploying => false,
            // What cannot be reached need not run, and what failed need not be tried again.
            Readiness::Ready | Readiness::Failed { .. } => return None,
        };
        let percent = if proven { share(&revision.name) } else { coming(&revision.name) };
        Some(Arc::new(scaling.apply(compile(name, &revision.name, document, proven), percent)))
    });
    Service {
        key: ServiceKey {
            project: name.project.as_str().into(),
            region: name.location.as_str().into(),
            name: name.name.as_str().into(),
        },
        project_number: name.project_number().into(),
        ingress: ingress(annotation(INGRESS)),
        invoker_check_disabled: annotation(INVOKER_IAM_DISABLED).is_some_and(annotation::is_true),
        policies,
        audiences: audiences(&hosts, &traffic, annotation(CUSTOM_AUDIENCES)),
        hosts: vec![hosts.hashed, hosts.deterministic],
        default_url_disabled: annotation(DEFAULT_URL_DISABLED).is_some_and(annotation::is_true),
        revisions: compiled.collect(),
        traffic,
    }
}

fn ingress(value: Option<&str>) -> Ingress {
    match value {
        Some("internal") => Ingress::Internal,
        Some("internal-and-cloud-load-balancing") => Ingress::InternalAndCloudLoadBalancing,
        Some("none") => Ingress::None,
        _ => Ingress::All,
    }
}

fn target(entry: &Value) -> TrafficTarget {
    TrafficTarget {
        revision: entry["revisionName"].as_str().unwrap_or_default().into(),
        percent: entry["percent"].as_u64().and_then(|percent| u32::try_from(percent).ok()).unwrap_or(0),
        tag: json::text(entry, &["tag"]).map(Into::into),
    }
}

/// What an identity token may be meant for: any URL of the service, with or without a tag, or what its owner added.
fn audiences(hosts: &url::Hosts, traffic: &[TrafficTarget], custom: Option<&str>) -> Vec<String> {
    let mut audiences: Vec<String> = hosts.urls().into();
    for tag in traffic.iter().filter_map(|target| target.tag.as_deref()) {
        audiences.extend(hosts.tag_urls(tag));
    }
    let custom: Vec<String> = custom.and_then(|custom| serde_json::from_str(custom).ok()).unwrap_or_default();
    audiences.extend(custom);
    audiences
}

/// Numbers of instances that a service asks for over all its revisions.
struct Scaling {
    min: u32,
    max: Option<u32>,
    manual: Option<u32>,
}

impl Scaling {
    fn of_service<'a>(annotation: &impl Fn(&str) -> Option<&'a str>) -> Scaling {
        let number = |key: &str| annotation(key).and_then(|text| text.parse().ok());
        let manual = annotation(SCALING_MODE) == Some("manual");
        Scaling {
            min: number(SERVICE_MIN).unwrap_or(0),
            max: number(SERVICE_MAX),
            manual: manual.then(|| number(MANUAL_COUNT).unwrap_or(1)),
        }
    }

    /// Gives a revision its part, by its share of the traffic. A part is never rounded down to none.
    fn apply(&self, mut revision: Revision, percent: u32) -> Revision {
        let part = |of: u32| u64::from(of).saturating_mul(u64::from(percent.min(100))).div_ceil(100) as u32;
        if let Some(count) = self.manual {
            revision.min_instances = part(count);
            revision.max_instances = if percent == 0 { revision.max_instances } else { part(count) };
            return revision;
        }
        revision.min_instances = revision.min_instances.max(part(self.min));
        if let Some(max) = self.max {
            revision.max_instances = revision.max_instances.min(part(max).max(1));
        }
        revision.min_instances = revision.min_instances.min(revision.max_instances);
        revision
    }
}

/// Direct VPC egress: the first of the interfaces, a list in JSON. Names may be short or whole.
pub(super) fn vpc_access(of: &Name, interfaces: Option<&str>, egress: Option<&str>) -> Option<VpcAccess> {
    let interfaces: Value = serde_json::from_str(interfaces?).ok()?;
    let interface = interfaces.get(0)?;
    let text = |field: &str| interface[field].as_str().unwrap_or_default();
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let project = [text("network"), text("subnetwork")].into_iter().find_map(|name| {
        let (_, after) = name.split_once("projects/")?;
        after.split('/').next().map(str::to_owned)
    });
    let tags = interface["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    Some(VpcAccess {
        network: (project.unwrap_or_else(|| of.project.clone()), last(text("network"))),
        subnetwork: last(text("subnetwork")),
        tags: tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect(),
        all_traffic: matches!(egress, Some("all-traffic" | "all")),
    })
}

/// A revision. `service`: whose it is.
fn compile(service: &Name, name: &str, document: &Value, proven: bool) -> Revision {
    let spec = &document["spec"];
    let annotation = |key: &str| json::text(document, &["metadata", "annotations", key]);
    let count = |key: &str| annotation(key).and_then(|text| text.parse::<u32>().ok());
    let number = |value: &Value, default: u64| value.as_u64().filter(|number| *number > 0).unwrap_or(default);
    let ingress = template::ingress(spec);
    let port = u16::try_from(template::container_port(&spec["containers"][ingress])).unwrap_or(8080);
    let source = pod::Source { of: service, document, path: validate::TEMPLATE };
    let mut sidecars = pod::containers(source, Some(port));
    // Templates without a container are refused.
    let container = if ingress < sidecars.len() { sidecars.remove(ingress) } else { Container::default() };
    Revision {
        name: name.into(),
        container,
        sidecars,
        volumes: pod::volumes(source),
        port,
        protocol: match spec["containers"][ingress]["ports"][0]["name"].as_str() {
            Some("h2c") => Protocol::H2c,
            _ => Protocol::Http1,
        },
        concurrency: number(&spec["containerConcurrency"], 80) as u32,
        min_instances: count(MIN_SCALE).unwrap_or(0),
        max_instances: count(MAX_SCALE).unwrap_or(DEFAULT_MAX_SCALE),
        timeout: Duration::from_secs(number(&spec["timeoutSeconds"], 300)),
        service_account: spec["serviceAccountName"].as_str().unwrap_or_default().to_owned(),
        session_affinity: annotation(SESSION_AFFINITY).is_some_and(annotation::is_true),
        vpc: vpc_access(service, annotation(NETWORK_INTERFACES), annotation(VPC_EGRESS)),
        throttled: annotation(CPU_THROTTLING).is_none_or(annotation::is_true),
        proven,
    }
}
