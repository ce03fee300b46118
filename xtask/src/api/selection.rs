//! What we take from Google's discovery documents. This is the one place to change to serve more of an API.

/// What to take from one discovery document.
pub struct Selection {
    /// The document's file name without `.json`, e.g. `run.v2`.
    pub document: &'static str,
    /// The Rust module of its types, and the snake-case name of its `Service` variant.
    pub module: &'static str,
    /// Dropped from the front of schema names where that leaves no ambiguity.
    pub strip: &'static [&'static str],
    /// Methods to serve, without the service's name: exact ids, or a prefix with a final `*`. All others of the document
    /// are only known by path and name, so that they can be refused by name.
    pub methods: &'static [&'static str],
    /// Methods not to serve though `methods` covers them.
    pub except: &'static [&'static str],
    /// Schemas that get a typed struct, with all they reach. All others are only validated, which compiles faster.
    pub types: &'static [&'static str],
    /// Fields that Google takes though its document does not list them: schema, name, and the field's JSON schema.
    pub extra: &'static [(&'static str, &'static str, &'static str)],
}

/// The selection, in the order in which routes win where two services share a path.
pub const SELECTION: &[Selection] = &[
    Selection {
        document: "compute.v1",
        module: "compute",
        strip: &[],
        methods: &[
            "projects.get",
            "regions.*",
            "zones.*",
            "networks.*",
            "subnetworks.*",
            "regionNetworkEndpointGroups.*",
            "networkEndpointGroups.*",
            "regionBackendServices.*",
            "backendServices.*",
            "regionUrlMaps.*",
            "urlMaps.*",
            "regionTargetHttpProxies.*",
            "targetHttpProxies.*",
            "regionTargetHttpsProxies.*",
            "targetHttpsProxies.*",
            "regionSslCertificates.*",
            "sslCertificates.*",
            "forwardingRules.*",
            "addresses.*",
            "globalAddresses.*",
            "firewalls.*",
            "routes.*",
            "regionHealthChecks.*",
            "healthChecks.*",
            "regionSslPolicies.*",
            "sslPolicies.aggregatedList",
            "sslPolicies.delete",
            "sslPolicies.get",
            "sslPolicies.insert",
            "sslPolicies.list",
            "sslPolicies.listAvailableFeatures",
            "sslPolicies.patch",
            "globalOperations.*",
            "regionOperations.*",
            "zoneOperations.*",
        ],
        except: &[],
        types: &[
            "Network",
            "Subnetwork",
            "NetworkEndpointGroup",
            "NetworkEndpoint",
            "BackendService",
            "UrlMap",
            "TargetHttpProxy",
            "TargetHttpsProxy",
            "SslCertificate",
            "SslPolicy",
            "ForwardingRule",
            "Address",
            "Firewall",
            "HealthCheck",
            "Operation",
        ],
        // Only ever sent: says what a patch does to `bgpAlwaysCompareMed`. Terraform sends it with any routing field.
        extra: &[("NetworkRoutingConfig", "deleteBgpAlwaysCompareMed", r#"{"type": "boolean"}"#)],
    },
    Selection {
        document: "run.v1",
        module: "run_v1",
        strip: &["GoogleCloudRunV1", "GoogleIamV1"],
        methods: &["*"],
        except: &[],
        types: &["Service", "Revision", "Policy"],
        extra: &[],
    },
    Selection {
        document: "run.v2",
        module: "run_v2",
        strip: &["GoogleCloudRunV2", "GoogleIamV1", "GoogleLongrunning"],
        methods: &["*"],
        except: &[],
        types: &["GoogleCloudRunV2Service", "GoogleCloudRunV2Revision", "GoogleLongrunningOperation"],
        // v1 has it, and Terraform sends it to both.
        extra: &[("GoogleCloudRunV2Probe", "successThreshold", r#"{"type": "integer", "format": "int32"}"#)],
    },
    Selection {
        document: "dns.v1",
        module: "dns",
        strip: &["GoogleIamV1"],
        methods: &["*"],
        except: &[],
        types: &[
            "ManagedZone",
            "ResourceRecordSet",
            "Change",
            "Policy",
            "ResponsePolicy",
            "ResponsePolicyRule",
        ],
        extra: &[],
    },
    Selection {
        document: "logging.v2",
        module: "logging",
        strip: &[],
        methods: &["entries.*", "projects.logs.*", "projects.sinks.*", "monitoredResourceDescriptors.*"],
        except: &[],
        types: &["LogEntry", "ListLogEntriesRequest", "WriteLogEntriesRequest"],
        extra: &[],
    },
    Selection {
        document: "serviceusage.v1",
        module: "serviceusage",
        strip: &[],
        methods: &["*"],
        except: &[],
        types: &[],
        extra: &[],
    },
    Selection {
        document: "cloudresourcemanager.v1",
        module: "resourcemanager_v1",
        strip: &[],
        methods: &[
            "projects.get",
            "projects.list",
            "projects.getIamPolicy",
            "projects.setIamPolicy",
            "projects.testIamPermissions",
        ],
        except: &[],
        types: &[],
        extra: &[],
    },
    Selection {
        document: "cloudresourcemanager.v3",
        module: "resourcemanager_v3",
        strip: &[],
        methods: &[
            "projects.get",
            "projects.list",
            "projects.search",
            "projects.getIamPolicy",
            "projects.setIamPolicy",
            "projects.testIamPermissions",
            "effectiveTags.*",
        ],
        except: &[],
        types: &[],
        extra: &[],
    },
    Selection {
        document: "iam.v1",
        module: "iam",
        strip: &[],
        methods: &["projects.serviceAccounts.*", "roles.*"],
        // Deprecated there; the IAM Service Account Credentials API serves the same paths.
        except: &["projects.serviceAccounts.signBlob", "projects.serviceAccounts.signJwt"],
        types: &["ServiceAccount", "ServiceAccountKey", "Policy"],
        extra: &[],
    },
    Selection {
        document: "iamcredentials.v1",
        module: "iamcredentials",
        strip: &[],
        methods: &["projects.serviceAccounts.*"],
        except: &[],
        types: &[],
        extra: &[],
    },
    Selection {
        document: "secretmanager.v1",
        module: "secretmanager",
        strip: &[],
        methods: &["projects.secrets.*"],
        except: &[],
        types: &[],
        extra: &[],
    },
    Selection {
        document: "networksecurity.v1",
        module: "networksecurity",
        strip: &[],
        methods: &["projects.locations.serverTlsPolicies.*", "projects.locations.operations.*"],
        except: &[
            "projects.locations.serverTlsPolicies.getIamPolicy",
            "projects.locations.serverTlsPolicies.setIamPolicy",
            "projects.locations.serverTlsPolicies.testIamPermissions",
        ],
        types: &[],
        extra: &[],
    },
    Selection {
        document: "certificatemanager.v1",
        module: "certificatemanager",
        strip: &[],
        methods: &["projects.locations.trustConfigs.*", "projects.locations.operations.*"],
        except: &[],
        types: &[],
        extra: &[],
    },
    // Terraform's google_project data source asks for it and fails without an answer.
    Selection {
        document: "cloudbilling.v1",
        module: "cloudbilling",
        strip: &[],
        methods: &["projects.getBillingInfo"],
        except: &[],
        types: &[],
        extra: &[],
    },
    unserved("appengine.v1"),
    unserved("artifactregistry.v1"),
    unserved("cloudbuild.v1"),
    unserved("cloudfunctions.v1"),
    unserved("cloudfunctions.v2"),
    unserved("vpcaccess.v1"),
];

/// A document of which nothing is served: clients that get there are told which method is missing.
const fn unserved(document: &'static str) -> Selection {
    Selection { document, module: "", strip: &[], methods: &[], except: &[], types: &[], extra: &[] }
}

impl Selection {
    /// Whether we serve a method, named without its service, e.g. `urlMaps.get`.
    pub fn serves(&self, method: &str) -> bool {
        let covers = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(prefix) => method.starts_with(prefix),
            None => method == *pattern,
        };
        self.methods.iter().any(covers) && !self.except.contains(&method)
    }
}
