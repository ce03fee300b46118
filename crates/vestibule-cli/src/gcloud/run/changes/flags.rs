//! The flags of `deploy`, `services update` and `jobs create|update|deploy`.

use crate::gcloud::grammar::{Flag, Kind, Rule};

const INGRESS: &[&str] = &["all", "internal", "internal-and-cloud-load-balancing"];
const EGRESS: &[&str] = &["all", "all-traffic", "private-ranges-only"];

/// Flags of one container of a service.
pub fn container() -> Vec<Flag> {
    let mut flags = container_of_job();
    flags.extend([
        Flag::text("port", "The port that the container listens on, or default. Default: 8080."),
        Flag::toggle("use-http2", "Speaks HTTP/2 without TLS to the container."),
        Flag::pairs("liveness-probe", "Whether an instance still works."),
        Flag::pairs("readiness-probe", "Whether an instance may get requests."),
    ]);
    flags
}

/// Flags of one container of a job.
pub fn container_of_job() -> Vec<Flag> {
    vec![
        Flag::text("image", "The container image, such as gcr.io/cloudrun/hello."),
        Flag::list("command", "The program to run instead of the image's.").metavar("COMMAND"),
        Flag::list("args", "Its arguments.").metavar("ARG"),
        Flag::text("workdir", "The folder that it starts in."),
        Flag::text("memory", "The memory limit, such as 512Mi."),
        Flag::text("cpu", "The CPU limit, such as 1 or 500m."),
        Flag::pairs("set-env-vars", "All environment variables."),
        Flag::pairs("update-env-vars", "Environment variables to set."),
        Flag::list("remove-env-vars", "Environment variables to drop.").metavar("KEY"),
        Flag::switch("clear-env-vars", "Drops all environment variables."),
        Flag::text("env-vars-file", "A YAML file with all environment variables."),
        Flag::pairs(
            "set-secrets",
            "All secrets: NAME=SECRET:VERSION is a variable, /PATH=SECRET:VERSION a file.",
        ),
        Flag::pairs("update-secrets", "Secrets to set."),
        Flag::list("remove-secrets", "Variables and files from secrets to drop.").metavar("KEY"),
        Flag::switch("clear-secrets", "Drops all variables and files from secrets."),
        Flag::new("add-volume-mount", Kind::Repeated, "Mounts a volume.")
            .metavar("volume=NAME,mount-path=MOUNT_PATH"),
        Flag::list("remove-volume-mount", "Paths of mounts to drop.").metavar("MOUNT_PATH"),
        Flag::switch("clear-volume-mounts", "Drops all mounts."),
        Flag::list("depends-on", "Containers that start before this one.").metavar("CONTAINER"),
        Flag::pairs(
            "startup-probe",
            "When a container has started, such as httpGet.path=/ready,periodSeconds=1.",
        ),
    ]
}

/// Flags that a service shares with a job and that are about the whole.
fn shared() -> Vec<Flag> {
    vec![
        Flag::text("service-account", "Who it is."),
        Flag::pairs("labels", "Labels to set; as --update-labels."),
        Flag::text("vpc-connector", "The connector into a VPC network."),
        Flag::choice("vpc-egress", EGRESS, "Which traffic goes through the VPC network."),
        Flag::text("network", "The VPC network that instances reach directly."),
        Flag::text("subnet", "The subnet that instances take addresses from."),
        Flag::list("network-tags", "Tags of the instances in the network.").metavar("TAG"),
        Flag::new(
            "add-volume",
            Kind::Repeated,
            "Adds a volume, such as name=scratch,type=in-memory,size-limit=64Mi.",
        )
        .metavar("KEY=VALUE"),
        Flag::list("remove-volume", "Volumes to drop.").metavar("VOLUME"),
        Flag::switch("clear-volumes", "Drops all volumes."),
        Flag::switch("async", "Return at once."),
    ]
}

/// Flags for what there may be already.
fn for_update() -> Vec<Flag> {
    vec![
        Flag::pairs("update-labels", "Labels to set."),
        Flag::list("remove-labels", "Labels to drop.").metavar("KEY"),
        Flag::switch("clear-labels", "Drops all labels."),
        Flag::switch("clear-vpc-connector", "Drops the connector."),
        Flag::switch("clear-network", "Takes the instances out of the network."),
        Flag::list("remove-containers", "Containers to drop.").metavar("CONTAINER"),
    ]
}

/// Flags of a service that are not about one container.
pub fn service() -> Vec<Flag> {
    let mut flags = shared();
    flags.extend(for_update());
    flags.extend([
        Flag::choice(
            "ingress",
            INGRESS,
            "Who may reach the service without its being refused. Default: all.",
        ),
        Flag::text("concurrency", "Requests at once in one instance, or default. Default: 80."),
        Flag::text("timeout", "How long a request may take, such as 300 or 5m. Default: 300 s."),
        Flag::text("min-instances", "Instances of the revision that are kept, or default."),
        Flag::text("max-instances", "The most instances of the revision, or default."),
        Flag::text("min", "Instances of the service that are kept, or default."),
        Flag::text("max", "The most instances of the service, or default."),
        Flag::text("scaling", "auto, or a fixed number of instances."),
        Flag::choice("execution-environment", &["gen1", "gen2"], "The sandbox."),
        Flag::toggle("cpu-throttling", "Gives CPU only while requests are served."),
        Flag::toggle("cpu-boost", "Gives more CPU while an instance starts."),
        Flag::toggle("session-affinity", "Keeps a client with an instance."),
        Flag::toggle(
            "deploy-health-check",
            "Starts an instance to see whether the revision works. Default: on.",
        ),
        Flag::toggle("default-url", "Whether the service has its run.app URL."),
        Flag::toggle("invoker-iam-check", "Whether callers need run.invoker."),
        Flag::list("add-custom-audiences", "Audiences of identity tokens to accept as well.")
            .metavar("AUDIENCE"),
        Flag::list("set-custom-audiences", "All further audiences.").metavar("AUDIENCE"),
        Flag::list("remove-custom-audiences", "Audiences to drop.").metavar("AUDIENCE"),
        Flag::switch("clear-custom-audiences", "Drops all further audiences."),
        Flag::text("description", "What the service is for."),
        Flag::text("revision-suffix", "The end of the new revision's name."),
        Flag::text("tag", "A traffic tag for the new revision."),
        Flag::toggle("traffic", "--no-traffic leaves the traffic with the revisions that have it.")
            .shown_negated(),
    ]);
    flags
}

/// Flags of a job that are not about one container.
pub fn job() -> Vec<Flag> {
    let mut flags = shared();
    flags.extend([
        Flag::int("tasks", "How many tasks an execution has. Default: 1."),
        Flag::int("parallelism", "How many of them run at once; 0: as many as there are. Default: 0."),
        Flag::int("max-retries", "How often a task that failed is tried again. Default: 3."),
        Flag::new(
            "task-timeout",
            Kind::Duration,
            "How long an attempt may take, such as 600 or 10m. Default: 10m.",
        ),
        Flag::switch("execute-now", "Execute the job as soon as it is written."),
        Flag::switch("wait", "Wait for the end of the execution; implies --execute-now."),
    ]);
    flags
}

/// The same for a job that there may be already.
pub fn job_for_update() -> Vec<Flag> {
    let mut flags = job();
    flags.extend(for_update());
    flags
}

/// Rules between flags that services and jobs share.
pub fn rules() -> Vec<Rule> {
    vec![
        Rule::Exclusive(vec![
            vec!["set-env-vars"],
            vec!["env-vars-file"],
            vec!["clear-env-vars"],
            vec!["update-env-vars", "remove-env-vars"],
        ]),
        Rule::Exclusive(vec![
            vec!["set-secrets"],
            vec!["clear-secrets"],
            vec!["update-secrets", "remove-secrets"],
        ]),
        Rule::Exclusive(vec![vec!["labels"], vec!["update-labels"]]),
    ]
}

/// Rules between flags of a job.
pub fn job_rules() -> Vec<Rule> {
    let mut rules = rules();
    rules.push(Rule::Exclusive(vec![vec!["async"], vec!["execute-now", "wait"]]));
    rules
}
