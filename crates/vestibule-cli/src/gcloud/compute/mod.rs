//! `gcloud compute`: what all its resources have in common.
//!
//! A resource is named by a [`Link`]; a mutating call answers with an operation, which is waited for ([`operation`]), and
//! then the resource is read once and shown. Each file beside this one holds the commands of one resource and only
//! says what is special about it.

mod addresses;
mod backend_services;
mod custom_metrics;
mod firewall_rules;
mod forwarding_rules;
mod health_checks;
mod link;
mod network_endpoint_groups;
mod networks;
mod operation;
mod path_matchers;
mod regions;
mod routes;
mod ssl_certificates;
mod ssl_policies;
mod subnets;
mod target_proxies;
mod transfer;
mod url_maps;
mod verbs;

pub use link::{Kind, Link, Scope};

use super::grammar::{Flag, Group};

/// Networks, which DNS zones refer to.
pub fn networks_kind() -> &'static Kind {
    &networks::NETWORKS
}

/// The whole group.
pub fn group() -> Group {
    Group::new("compute", "Create and manipulate networks and load balancers.")
        .group(networks::group())
        .group(network_endpoint_groups::group())
        .group(backend_services::group())
        .group(health_checks::group())
        .group(url_maps::group())
        .group(target_proxies::http_group())
        .group(target_proxies::https_group())
        .group(ssl_certificates::group())
        .group(ssl_policies::group())
        .group(forwarding_rules::group())
        .group(addresses::group())
        .group(firewall_rules::group())
        .group(routes::group())
        .group(regions::group())
        .group(operation::group())
}

/// `--region`.
fn region_flag() -> Flag {
    Flag::text(
        "region",
        "The region of the resource. Default: CLOUDSDK_COMPUTE_REGION or the property compute/region, where one must be named.",
    )
}

/// `--region` and `--global`.
fn scope_flags() -> Vec<Flag> {
    vec![region_flag(), Flag::switch("global", "The resource is a global one.")]
}

/// The flags of every `list`.
fn list_flags() -> Vec<Flag> {
    crate::gcloud::tree::list_flags()
}

/// `--regions` and `--global` of a `list`.
fn list_scope_flags() -> Vec<Flag> {
    let mut flags = list_flags();
    flags.push(Flag::list("regions", "Only resources in these regions.").metavar("REGION"));
    flags.push(Flag::switch("global", "Only global resources."));
    flags
}
