//! `gcloud run`.

mod changes;
mod deploy;
mod describe;
mod jobs;
mod knative;
mod logs;
pub mod policy;
pub mod proxy;
mod regions;
mod replace;
mod revisions;
mod rollout;
mod service;
mod services;
mod source;
mod traffic;

use super::error::Failure;
use super::grammar::{Flag, Group};
use super::invocation::Invocation;

pub fn group() -> Group {
    let region = || {
        Flag::text(
            "region",
            "The region of the service. Default: CLOUDSDK_RUN_REGION or the property run/region.",
        )
    };
    let platform = || {
        Flag::choice("platform", &["managed"], "Accepted for gcloud's sake; there is one platform.").hidden()
    };
    Group::new("run", "Manage your Cloud Run applications.")
        .flag(platform())
        .command(deploy::deploy_command().flag(region()))
        .group(
            Group::new("services", "View and manage your Cloud Run services.")
                .flag(region())
                .command(services::list_command())
                .command(services::describe_command())
                .command(services::delete_command())
                .command(deploy::update_command())
                .command(traffic::update_traffic_command())
                .command(replace::command())
                .command(policy::get_command())
                .command(policy::set_command())
                .command(policy::add_command())
                .command(policy::remove_command())
                .command(proxy::command())
                .group(Group::new("logs", "Read logs for Cloud Run services.").command(logs::read_command())),
        )
        .group(
            Group::new("revisions", "View and manage your Cloud Run revisions.")
                .flag(region())
                .command(revisions::list_command())
                .command(revisions::describe_command())
                .command(revisions::delete_command()),
        )
        .group(jobs::group().flag(region()))
        .group(knative::configurations().flag(region()))
        .group(knative::routes().flag(region()))
        .group(Group::new("regions", "View available Cloud Run regions.").command(regions::list_command()))
}

/// `--region` or the property run/region.
fn region(inv: &Invocation<'_>) -> Result<String, Failure> {
    let region = inv.args.text("region").or_else(|| inv.properties.get("run", "region"));
    region.map(str::to_owned).ok_or_else(|| {
        Failure::new(
            "You must specify a region. Either use the `--region` flag or set the run/region property.",
        )
    })
}

/// The path of the Knative collections of a namespace.
///
/// Their own paths have no region: Google has it in the host name. Vestibule also takes it from a path prefix, which
/// needs no name to resolve.
fn namespace_path(region: &str, namespace: &str) -> String {
    format!("/run/{region}/apis/serving.knative.dev/v1/namespaces/{namespace}")
}

/// The path of a service in the API that has locations, which IAM and operations use.
fn location_path(project: &str, region: &str) -> String {
    format!("/v1/projects/{project}/locations/{region}")
}
