//! Forwarding rules of internal application load balancers: a private address and a port that lead to a target proxy.
//!
//! Nearly everything about a rule is fixed when it is made. Its target is exchanged by `setTarget`, its labels by
//! `setLabels`; a patch may change the description.

mod place;
#[cfg(test)]
mod tests;

use serde_json::Value;
use vestibule_model::ResourceName;

use super::Call;
use super::kind::{Action, Fingerprint, Info, Kind, Methods, ScopeKind, Verb, linked};
use super::{backend_services, subnetworks};
use crate::{Change, Document, Error, document};

/// `forwardingRules` of regions
pub struct ForwardingRules;

const SET_TARGET: &str = "setTarget";

static INFO: Info = Info {
    collection: "forwardingRules",
    scopes: &[ScopeKind::Region],
    word: "forwarding_rule",
    kind: "compute#forwardingRule",
    list_kind: "compute#forwardingRuleList",
    aggregated_kind: Some("compute#forwardingRuleAggregatedList"),
    fingerprint: Fingerprint::Checked,
    labels: true,
    methods: Methods::PATCH,
    actions: &[Action { verb: SET_TARGET, operation_type: "SetTarget" }],
    questions: &[],
    output_only: &[
        "serviceName",
        "pscConnectionId",
        "pscConnectionStatus",
        "baseForwardingRule",
        "attachedExtensions",
        "childForwardingRules",
        "parentForwardingRule",
    ],
};

/// Targets that an internal application load balancer has.
const TARGETS: &[&str] = &["targetHttpProxies", "targetHttpsProxies"];

/// Members that a patch must leave alone.
const FIXED: &[&str] = &[
    "IPAddress",
    "IPProtocol",
    "portRange",
    "network",
    "subnetwork",
    "loadBalancingScheme",
    "networkTier",
    "ipVersion",
    "target",
];

impl Kind for ForwardingRules {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(&self, change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
        check_scheme(doc)?;
        refuse_foreign(doc)?;
        document::one_of(doc, "resource", "networkTier", &["PREMIUM", "STANDARD"])?;
        let ports = place::port(doc)?;
        let asked = document::text(doc, "target")
            .map(str::to_owned)
            .ok_or_else(|| Error::required("resource.target"))?;
        resolve_target(change, name, doc)?;
        let place = place::subnetwork(change, name, doc)?;
        check_proxy_only(change, name, &place.network, &asked)?;
        let address = place::address(change, name, &place, doc, ports)?;
        doc.insert("IPAddress".into(), address.to_string().into());
        document::default(doc, "networkTier", "PREMIUM");
        document::default(doc, "description", "");
        Ok(())
    }

    fn update(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        _name: &ResourceName,
        old: &Document,
        new: &mut Document,
    ) -> Result<(), Error> {
        // The same reference in another spelling is no change.
        for field in ["network", "subnetwork", "target"] {
            if linked(old, field) == linked(new, field)
                && let Some(link) = old.get(field)
            {
                new.insert(field.to_owned(), link.clone());
            }
        }
        if let Some(range) = place::written_range(new) {
            new.insert("portRange".into(), range.into());
        }
        FIXED.iter().try_for_each(|field| document::unchanged(old, new, "resource", field))?;
        refuse_foreign(new)?;
        if document::flag(old, GLOBAL_ACCESS) != document::flag(new, GLOBAL_ACCESS) {
            let why = "The field cannot be changed with load balancing scheme INTERNAL_MANAGED.";
            let value = document::flag(new, GLOBAL_ACCESS);
            change.refuse_or_warn(Error::invalid(format!("resource.{GLOBAL_ACCESS}"), value, why))?;
        }
        document::default(new, "description", "");
        Ok(())
    }

    fn act(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        _verb: &str,
        body: &Document,
        mut doc: Document,
    ) -> Result<Document, Error> {
        let target = document::text(body, "target").ok_or_else(|| Error::required("resource.target"))?;
        doc.insert("target".into(), target.into());
        resolve_target(change, name, &mut doc)?;
        Ok(doc)
    }

    fn references(&self, _name: &ResourceName, doc: &Document) -> Vec<ResourceName> {
        ["target", "network", "subnetwork"].iter().filter_map(|field| linked(doc, field)).collect()
    }

    /// Google tells by the operation that a subnetwork has no address left.
    fn fails_late(&self, verb: Verb<'_>, error: &Error) -> bool {
        verb == Verb::Insert && matches!(error, Error::IpSpaceExhausted { .. })
    }
}

const GLOBAL_ACCESS: &str = "allowGlobalAccess";

fn check_scheme(doc: &Document) -> Result<(), Error> {
    // EXTERNAL is what the API takes for granted.
    match document::text(doc, "loadBalancingScheme").unwrap_or("EXTERNAL") {
        backend_services::SCHEME => Ok(()),
        scheme => Err(Error::not_built(format!("compute.forwardingRules with loadBalancingScheme {scheme}"))),
    }
}

/// Members of other load balancers.
fn refuse_foreign(doc: &Document) -> Result<(), Error> {
    let set = |value: &Value| match value {
        Value::Bool(on) => *on,
        Value::Array(items) => !items.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    };
    for field in
        ["backendService", "ports", "allPorts", "sourceIpRanges", "serviceLabel", "isMirroringCollector"]
    {
        if let Some(value) = doc.get(field).filter(|value| set(value)) {
            let why = "The field cannot be set with load balancing scheme INTERNAL_MANAGED.";
            return Err(Error::invalid(format!("resource.{field}"), document::quoted(value), why));
        }
    }
    if let Some(version) = document::text(doc, "ipVersion").filter(|version| *version != "IPV4") {
        return Err(Error::not_built(format!("compute.forwardingRules with ipVersion {version}")));
    }
    let fields = [
        "allowPscGlobalAccess",
        "ipCollection",
        "metadataFilters",
        "noAutomateDnsZone",
        "serviceDirectoryRegistrations",
    ];
    document::not_built(doc, "compute.forwardingRules", &fields)
}

/// Makes `target` canonical. It must be a target proxy of the rule's region.
fn resolve_target(change: &Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
    let field = "resource.target";
    let asked = document::text(doc, "target").map(str::to_owned).ok_or_else(|| Error::required(field))?;
    let target = change.resolve(name, doc, "target", &name.scope, TARGETS)?;
    let target = target.ok_or_else(|| Error::required(field))?;
    if target.project == name.project && target.scope == name.scope {
        return Ok(());
    }
    let why = "The target proxy must be in the project and region of the forwarding rule.";
    Err(Error::invalid(field, asked, why))
}

fn check_proxy_only(
    change: &Change<'_>,
    name: &ResourceName,
    network: &ResourceName,
    asked: &str,
) -> Result<(), Error> {
    let region = name.scope.region_name().unwrap_or_default();
    if subnetworks::has_active(change, network, region) {
        return Ok(());
    }
    let why =
        "An active proxy-only subnetwork is required in the same region and VPC as the forwarding rule.";
    Err(Error::invalid("resource.target", asked, why))
}
