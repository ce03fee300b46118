//! What roles grant.
//!
//! Google publishes hundreds of roles with thousands of permissions. This table holds those that matter to a load
//! balancer, its serverless backends, DNS, logs and identities; a role that is not in it is accepted in a binding and
//! grants nothing. Permissions have the form `service.resource.verb`, and where a role holds all of a kind the table
//! says so with a pattern instead of a list.

/// What a role grants: permissions that fit any of `grants` and none of `except`.
struct Role {
    name: &'static str,
    grants: &'static [&'static str],
    except: &'static [&'static str],
}

/// Speaking in the name of a service account. Not part of the basic roles, not even of owner.
const SPEAK_AS: &[&str] = &[
    "iam.serviceAccounts.getAccessToken",
    "iam.serviceAccounts.getOpenIdToken",
    "iam.serviceAccounts.implicitDelegation",
    "iam.serviceAccounts.signBlob",
    "iam.serviceAccounts.signJwt",
];

/// What only owners and administrators may do, besides speaking as an account.
const NOT_FOR_EDITORS: &[&str] = &[
    "*.setIamPolicy",
    "iam.roles.create",
    "iam.roles.delete",
    "iam.roles.update",
    "iam.serviceAccounts.getAccessToken",
    "iam.serviceAccounts.getOpenIdToken",
    "iam.serviceAccounts.implicitDelegation",
    "iam.serviceAccounts.signBlob",
    "iam.serviceAccounts.signJwt",
    "resourcemanager.projects.delete",
    "secretmanager.versions.access",
];

const fn role(name: &'static str, grants: &'static [&'static str]) -> Role {
    Role { name, grants, except: &[] }
}

const ROLES: &[Role] = &[
    Role { name: "roles/owner", grants: &["*"], except: SPEAK_AS },
    Role { name: "roles/editor", grants: &["*"], except: NOT_FOR_EDITORS },
    role("roles/viewer", &["*.get", "*.list", "*.getIamPolicy", "*.getHealth", "*.aggregatedList"]),
    role("roles/browser", &["resourcemanager.projects.get", "resourcemanager.projects.list"]),
    role(
        "roles/run.admin",
        &[
            "run.*",
            "resourcemanager.projects.get",
            "resourcemanager.projects.list",
            "recommender.locations.*",
        ],
    ),
    Role {
        name: "roles/run.developer",
        grants: &["run.*", "resourcemanager.projects.get", "resourcemanager.projects.list"],
        except: &["*.setIamPolicy", "run.routes.invoke"],
    },
    role(
        "roles/run.viewer",
        &[
            "run.*.get",
            "run.*.list",
            "run.*.getIamPolicy",
            "resourcemanager.projects.get",
            "resourcemanager.projects.list",
        ],
    ),
    role("roles/run.invoker", &["run.routes.invoke", "run.jobs.run"]),
    role("roles/run.servicesInvoker", &["run.routes.invoke"]),
    role("roles/run.jobsExecutor", &["run.jobs.run", "run.executions.cancel"]),
    role("roles/compute.admin", &["compute.*", "resourcemanager.projects.get"]),
    role("roles/compute.viewer", &["compute.*.get", "compute.*.list", "resourcemanager.projects.get"]),
    role(
        "roles/compute.networkAdmin",
        &[
            "compute.addresses.*",
            "compute.backendServices.*",
            "compute.forwardingRules.*",
            "compute.globalAddresses.*",
            "compute.globalForwardingRules.*",
            "compute.healthChecks.*",
            "compute.networks.*",
            "compute.regionBackendServices.*",
            "compute.regionHealthChecks.*",
            "compute.regionTargetHttpProxies.*",
            "compute.regionTargetHttpsProxies.*",
            "compute.regionUrlMaps.*",
            "compute.routes.*",
            "compute.subnetworks.*",
            "compute.targetHttpProxies.*",
            "compute.targetHttpsProxies.*",
            "compute.urlMaps.*",
            "compute.*.get",
            "compute.*.list",
            "resourcemanager.projects.get",
        ],
    ),
    role(
        "roles/compute.loadBalancerAdmin",
        &[
            "compute.addresses.*",
            "compute.backendServices.*",
            "compute.forwardingRules.*",
            "compute.healthChecks.*",
            "compute.networkEndpointGroups.*",
            "compute.regionBackendServices.*",
            "compute.regionHealthChecks.*",
            "compute.regionNetworkEndpointGroups.*",
            "compute.regionSslCertificates.*",
            "compute.regionTargetHttpProxies.*",
            "compute.regionTargetHttpsProxies.*",
            "compute.regionUrlMaps.*",
            "compute.sslCertificates.*",
            "compute.targetHttpProxies.*",
            "compute.targetHttpsProxies.*",
            "compute.urlMaps.*",
            "compute.networks.get",
            "compute.networks.list",
            "compute.networks.use",
            "compute.subnetworks.get",
            "compute.subnetworks.list",
            "compute.subnetworks.use",
            "resourcemanager.projects.get",
        ],
    ),
    role(
        "roles/compute.instanceAdmin.v1",
        &["compute.instances.*", "compute.networkEndpointGroups.*", "compute.regionNetworkEndpointGroups.*"],
    ),
    role(
        "roles/compute.securityAdmin",
        &[
            "compute.firewalls.*",
            "compute.sslCertificates.*",
            "compute.regionSslCertificates.*",
            "compute.sslPolicies.*",
        ],
    ),
    role(
        "roles/compute.loadBalancerServiceUser",
        &["compute.backendServices.get", "compute.backendServices.list", "compute.backendServices.use"],
    ),
    role(
        "roles/dns.admin",
        &["dns.*", "compute.networks.get", "compute.networks.list", "resourcemanager.projects.get"],
    ),
    role(
        "roles/dns.reader",
        &["dns.*.get", "dns.*.list", "compute.networks.get", "resourcemanager.projects.get"],
    ),
    role("roles/logging.admin", &["logging.*", "resourcemanager.projects.get"]),
    role("roles/logging.viewer", &["logging.*.get", "logging.*.list", "resourcemanager.projects.get"]),
    role("roles/logging.logWriter", &["logging.logEntries.create", "logging.logEntries.route"]),
    role(
        "roles/secretmanager.admin",
        &["secretmanager.*", "resourcemanager.projects.get", "resourcemanager.projects.list"],
    ),
    role(
        "roles/secretmanager.secretAccessor",
        &["secretmanager.versions.access", "resourcemanager.projects.get", "resourcemanager.projects.list"],
    ),
    role(
        "roles/secretmanager.secretVersionAdder",
        &["secretmanager.versions.add", "resourcemanager.projects.get", "resourcemanager.projects.list"],
    ),
    role(
        "roles/secretmanager.secretVersionManager",
        &[
            "secretmanager.versions.add",
            "secretmanager.versions.destroy",
            "secretmanager.versions.disable",
            "secretmanager.versions.enable",
            "secretmanager.versions.get",
            "secretmanager.versions.list",
            "resourcemanager.projects.get",
            "resourcemanager.projects.list",
        ],
    ),
    role(
        "roles/secretmanager.viewer",
        &[
            "secretmanager.*.get",
            "secretmanager.*.list",
            "secretmanager.*.getIamPolicy",
            "resourcemanager.projects.get",
            "resourcemanager.projects.list",
        ],
    ),
    role(
        "roles/iam.serviceAccountTokenCreator",
        &[
            "iam.serviceAccounts.get",
            "iam.serviceAccounts.list",
            "iam.serviceAccounts.getAccessToken",
            "iam.serviceAccounts.getOpenIdToken",
            "iam.serviceAccounts.implicitDelegation",
            "iam.serviceAccounts.signBlob",
            "iam.serviceAccounts.signJwt",
            "resourcemanager.projects.get",
        ],
    ),
    role("roles/iam.serviceAccountOpenIdTokenCreator", &["iam.serviceAccounts.getOpenIdToken"]),
    role(
        "roles/iam.serviceAccountUser",
        &["iam.serviceAccounts.actAs", "iam.serviceAccounts.get", "iam.serviceAccounts.list"],
    ),
    Role {
        name: "roles/iam.serviceAccountAdmin",
        grants: &["iam.serviceAccounts.*", "resourcemanager.projects.get"],
        except: SPEAK_AS,
    },
    role("roles/iam.serviceAccountKeyAdmin", &["iam.serviceAccountKeys.*", "iam.serviceAccounts.get"]),
    role(
        "roles/iam.securityAdmin",
        &["*.getIamPolicy", "*.setIamPolicy", "*.list", "iam.roles.get", "resourcemanager.projects.get"],
    ),
    role("roles/iam.securityReviewer", &["*.getIamPolicy", "*.list", "iam.roles.get"]),
    role(
        "roles/resourcemanager.projectIamAdmin",
        &[
            "resourcemanager.projects.get",
            "resourcemanager.projects.getIamPolicy",
            "resourcemanager.projects.setIamPolicy",
        ],
    ),
    role("roles/serviceusage.serviceUsageAdmin", &["serviceusage.*"]),
    role("roles/cloudfunctions.invoker", &["cloudfunctions.functions.invoke"]),
];

/// The predefined roles of Cloud Run. Those that are not in [`ROLES`] grant nothing here.
const RUN_ROLES: &[&str] = &[
    "roles/run.admin",
    "roles/run.builder",
    "roles/run.developer",
    "roles/run.invoker",
    "roles/run.jobsExecutor",
    "roles/run.jobsExecutorWithOverrides",
    "roles/run.serviceAgent",
    "roles/run.servicesInvoker",
    "roles/run.sourceDeveloper",
    "roles/run.sourceViewer",
    "roles/run.viewer",
];

/// Whether Google has a role of this name, as far as is known here: the names of Cloud Run's roles are, and a misspelt
/// one would leave a service closed without a word.
pub fn may_exist(role: &str) -> bool {
    !role.starts_with("roles/run.") || RUN_ROLES.contains(&role)
}

/// Whether a role grants a permission.
pub fn grants(role: &str, permission: &str) -> bool {
    ROLES.iter().find(|known| known.name == role).is_some_and(|role| {
        role.grants.iter().any(|pattern| fits(pattern, permission))
            && !role.except.iter().any(|pattern| fits(pattern, permission))
    })
}

/// Whether a text has the form of a role's name: predefined, of a project or of an organisation.
pub fn is_role_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':'))
    };
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        ["roles", role] => part(role),
        ["projects" | "organizations", of, "roles", role] => part(of) && part(role),
        _ => false,
    }
}

/// Whether a permission fits a pattern, in which a star stands for any text.
fn fits(pattern: &str, permission: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == permission,
        Some((before, after)) => {
            permission.len() >= before.len() + after.len()
                && permission.starts_with(before)
                && permission.ends_with(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_grant_what_they_should() {
        let table = [
            ("roles/owner", "run.routes.invoke", true),
            ("roles/owner", "run.services.setIamPolicy", true),
            ("roles/owner", "iam.serviceAccounts.getOpenIdToken", false),
            ("roles/editor", "run.routes.invoke", true),
            ("roles/editor", "run.services.setIamPolicy", false),
            ("roles/viewer", "run.services.get", true),
            ("roles/viewer", "run.routes.invoke", false),
            ("roles/viewer", "run.services.update", false),
            ("roles/run.admin", "run.routes.invoke", true),
            ("roles/run.developer", "run.services.update", true),
            ("roles/run.developer", "run.services.setIamPolicy", false),
            ("roles/run.developer", "run.routes.invoke", false),
            ("roles/run.viewer", "run.services.get", true),
            ("roles/run.viewer", "run.routes.invoke", false),
            ("roles/run.invoker", "run.routes.invoke", true),
            ("roles/run.invoker", "run.services.get", false),
            ("roles/run.servicesInvoker", "run.jobs.run", false),
            ("roles/iam.serviceAccountOpenIdTokenCreator", "iam.serviceAccounts.getOpenIdToken", true),
            ("roles/iam.serviceAccountOpenIdTokenCreator", "iam.serviceAccounts.getAccessToken", false),
            ("roles/iam.serviceAccountAdmin", "iam.serviceAccounts.create", true),
            ("roles/iam.serviceAccountAdmin", "iam.serviceAccounts.signJwt", false),
            ("roles/unheard.of", "run.routes.invoke", false),
            ("projects/demo/roles/custom", "run.routes.invoke", false),
        ];
        for (role, permission, expected) in table {
            assert_eq!(grants(role, permission), expected, "{role} {permission}");
        }
    }

    #[test]
    fn names_of_roles() {
        for good in ["roles/run.invoker", "projects/demo/roles/caller", "organizations/1/roles/a_b"] {
            assert!(is_role_name(good), "{good}");
        }
        for bad in ["", "run.invoker", "roles/", "roles/a b", "projects/demo/roles", "folders/1/roles/x"] {
            assert!(!is_role_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_misspelt_role_of_cloud_run_is_noticed() {
        for good in ["roles/run.invoker", "roles/compute.anything", "projects/demo/roles/run.mine"] {
            assert!(may_exist(good), "{good}");
        }
        for bad in ["roles/run.nope", "roles/run.Invoker", "roles/run."] {
            assert!(!may_exist(bad), "{bad}");
        }
    }

    #[test]
    fn every_role_is_listed_once() {
        let run = |role: &&Role| role.name.starts_with("roles/run.");
        assert!(ROLES.iter().filter(run).all(|role| may_exist(role.name)));
        for (index, role) in ROLES.iter().enumerate() {
            assert!(is_role_name(role.name));
            assert!(ROLES[..index].iter().all(|other| other.name != role.name), "{}", role.name);
        }
    }
}
