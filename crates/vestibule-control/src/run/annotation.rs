//! Annotations and labels that mean something to Cloud Run.

/// Who may come in: `all`, `internal`, `internal-and-cloud-load-balancing`, `none`. On a service.
pub(super) const INGRESS: &str = "run.googleapis.com/ingress";
/// The ingress in force.
pub(super) const INGRESS_STATUS: &str = "run.googleapis.com/ingress-status";
/// All default URLs, as a JSON list.
pub(super) const URLS: &str = "run.googleapis.com/urls";
/// The operation of the last change.
pub(super) const OPERATION_ID: &str = "run.googleapis.com/operation-id";
/// Who made the service, or the revision.
pub(super) const CREATOR: &str = "serving.knative.dev/creator";
/// Who changed the service last.
pub(super) const LAST_MODIFIER: &str = "serving.knative.dev/lastModifier";
/// Audiences of identity tokens beyond the URLs, as a JSON list.
pub(super) const CUSTOM_AUDIENCES: &str = "run.googleapis.com/custom-audiences";
/// `"true"`: no default URL.
pub(super) const DEFAULT_URL_DISABLED: &str = "run.googleapis.com/default-url-disabled";
/// `"true"`: no identity check.
pub(super) const INVOKER_IAM_DISABLED: &str = "run.googleapis.com/invoker-iam-disabled";
/// `"true"`: Identity-Aware Proxy in front.
pub(super) const IAP_ENABLED: &str = "run.googleapis.com/iap-enabled";
pub(super) const DESCRIPTION: &str = "run.googleapis.com/description";
pub(super) const LAUNCH_STAGE: &str = "run.googleapis.com/launch-stage";
pub(super) const CLIENT_NAME: &str = "run.googleapis.com/client-name";
pub(super) const CLIENT_VERSION: &str = "run.googleapis.com/client-version";
pub(super) const BINARY_AUTHORIZATION: &str = "run.googleapis.com/binary-authorization";
pub(super) const BREAKGLASS: &str = "run.googleapis.com/binary-authorization-breakglass";
/// Instances of all revisions together, at least. On a service.
pub(super) const SERVICE_MIN: &str = "run.googleapis.com/minScale";
/// Instances of all revisions together, at most. On a service.
pub(super) const SERVICE_MAX: &str = "run.googleapis.com/maxScale";
/// `automatic` or `manual`. On a service.
pub(super) const SCALING_MODE: &str = "run.googleapis.com/scalingMode";
/// Instances, where the mode is `manual`.
pub(super) const MANUAL_COUNT: &str = "run.googleapis.com/manualInstanceCount";

/// Instances of a revision, at least. On a template.
pub(super) const MIN_SCALE: &str = "autoscaling.knative.dev/minScale";
/// Instances of a revision, at most. On a template.
pub(super) const MAX_SCALE: &str = "autoscaling.knative.dev/maxScale";
/// `"false"`: the processor is there between requests too. On a template.
pub(super) const CPU_THROTTLING: &str = "run.googleapis.com/cpu-throttling";
pub(super) const STARTUP_CPU_BOOST: &str = "run.googleapis.com/startup-cpu-boost";
pub(super) const SESSION_AFFINITY: &str = "run.googleapis.com/sessionAffinity";
pub(super) const EXECUTION_ENVIRONMENT: &str = "run.googleapis.com/execution-environment";
pub(super) const HEALTH_CHECK_DISABLED: &str = "run.googleapis.com/health-check-disabled";
pub(super) const VPC_CONNECTOR: &str = "run.googleapis.com/vpc-access-connector";
pub(super) const VPC_EGRESS: &str = "run.googleapis.com/vpc-access-egress";
pub(super) const NETWORK_INTERFACES: &str = "run.googleapis.com/network-interfaces";
pub(super) const CONCURRENCY_TARGET: &str = "run.googleapis.com/scaling-concurrency-target";
pub(super) const CPU_TARGET: &str = "run.googleapis.com/scaling-cpu-target";
pub(super) const ENCRYPTION_KEY: &str = "run.googleapis.com/encryption-key";
pub(super) const CLOUDSQL: &str = "run.googleapis.com/cloudsql-instances";
/// Which containers must have started before which, as a JSON object of lists. On a template.
pub(super) const CONTAINER_DEPENDENCIES: &str = "run.googleapis.com/container-dependencies";
/// Names for secrets of other projects: `ALIAS:projects/P/secrets/S,…`. On a template.
pub(super) const SECRETS: &str = "run.googleapis.com/secrets";

/// Where a service or revision lives. A label.
pub(super) const LOCATION: &str = "cloud.googleapis.com/location";
/// The service of a revision. A label.
pub(super) const SERVICE: &str = "serving.knative.dev/service";
pub(super) const CONFIGURATION: &str = "serving.knative.dev/configuration";
/// The how-manieth revision of its service. A label.
pub(super) const CONFIGURATION_GENERATION: &str = "serving.knative.dev/configurationGeneration";
pub(super) const ROUTE: &str = "serving.knative.dev/route";
pub(super) const SERVICE_UID: &str = "serving.knative.dev/serviceUid";

/// Who made the job, or the execution.
pub(super) const JOB_CREATOR: &str = "run.googleapis.com/creator";
/// Who changed the job last.
pub(super) const JOB_LAST_MODIFIER: &str = "run.googleapis.com/lastModifier";
/// When the job was changed last. A label.
pub(super) const JOB_UPDATED: &str = "run.googleapis.com/lastUpdatedTime";
/// The job of an execution or a task. A label.
pub(super) const JOB: &str = "run.googleapis.com/job";
pub(super) const JOB_UID: &str = "run.googleapis.com/jobUid";
pub(super) const JOB_GENERATION: &str = "run.googleapis.com/jobGeneration";
pub(super) const JOB_RESOURCE_VERSION: &str = "run.googleapis.com/jobResourceVersion";
/// The execution of a task. A label.
pub(super) const EXECUTION: &str = "run.googleapis.com/execution";
/// `Active`: tasks of the execution run, or are to. A label.
pub(super) const SERVING_STATE: &str = "run.googleapis.com/servingState";
/// How far a task is: `Pending`, `Running`, `Succeeded`, `Failed`, `Cancelled`. A label.
pub(super) const RUNNING_STATE: &str = "run.googleapis.com/runningState";

/// Annotations of a job that the server writes; what a client sends there is ignored.
pub(super) const JOB_SERVER_WRITTEN: &[&str] = &[OPERATION_ID, JOB_CREATOR, JOB_LAST_MODIFIER];
/// Labels of a job that the server writes; what a client sends there is ignored.
pub(super) const JOB_SERVER_LABELS: &[&str] = &[LOCATION, JOB_UPDATED];

/// Annotations of a service that the server writes; what a client sends there is ignored.
pub(super) const SERVER_WRITTEN: &[&str] = &[INGRESS_STATUS, URLS, OPERATION_ID, CREATOR, LAST_MODIFIER];

/// Namespaces that the v2 API keeps for itself in labels and annotations.
pub(super) const RESERVED: &[&str] =
    &["run.googleapis.com", "cloud.googleapis.com", "serving.knative.dev", "autoscaling.knative.dev"];

/// Whether a label or annotation lies in a namespace that the v2 API keeps for itself.
pub(super) fn is_reserved(key: &str) -> bool {
    key.split_once('/').is_some_and(|(namespace, _)| RESERVED.contains(&namespace))
}

/// How clients write yes: gcloud is written in Python and says `True`.
pub(super) fn is_true(value: &str) -> bool {
    value.eq_ignore_ascii_case("true")
}
