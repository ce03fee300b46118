//! From executions to what the runtime should do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use vestibule_run::desired::{Execution, ExecutionKey};
use vestibule_store::View;

use super::super::annotation::{NETWORK_INTERFACES, VPC_EGRESS};
use super::super::compile::vpc_access;
use super::super::json;
use super::super::name::{Kind, Name, parse_key};
use super::super::pod::{self, Source};
use super::{execution, record, template};

/// Every execution that is not over.
pub(in super::super) fn desired(view: &View) -> Vec<Arc<Execution>> {
    let unfinished = view.range("run/projects/").filter_map(|kv| {
        let (collection, name) = parse_key(&kv.key)?;
        let goes_on = collection == Kind::Execution.collection() && !execution::is_over(&kv.value);
        goes_on.then(|| Arc::new(compile(view, &name, &kv.value)))
    });
    unfinished.collect()
}

fn compile(view: &View, name: &Name, document: &Value) -> Execution {
    let task = template::task(document);
    let source = Source { of: name, document: &task, path: template::TASK };
    let annotation = |key: &str| json::text(document, &["metadata", "annotations", key]);
    let (spec, of_task) = (&document["spec"], &task["spec"]);
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let seconds = of_task["timeoutSeconds"].as_str().and_then(|text| text.parse().ok()).unwrap_or(600);
    Execution {
        key: ExecutionKey {
            project: name.project.as_str().into(),
            region: name.location.as_str().into(),
            job: execution::job_of(document).unwrap_or_default().into(),
            name: name.name.as_str().into(),
        },
        project_number: name.project_number().into(),
        containers: pod::containers(source, None),
        volumes: pod::volumes(source),
        vpc: vpc_access(name, annotation(NETWORK_INTERFACES), annotation(VPC_EGRESS)),
        task_count: number(&spec["taskCount"]).unwrap_or(1),
        parallelism: number(&spec["parallelism"]).unwrap_or(0),
        max_retries: number(&of_task["maxRetries"]).unwrap_or(3),
        timeout: Duration::from_secs(seconds),
        service_account: of_task["serviceAccountName"].as_str().unwrap_or_default().to_owned(),
        cancelled: execution::is_cancelled(document),
        begun: record::begun(view, name),
    }
}
