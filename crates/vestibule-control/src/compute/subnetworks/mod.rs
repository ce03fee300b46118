//! Subnetworks: ranges of a network in one region.

mod automatic;
mod proxy_only;
mod spans;
#[cfg(test)]
mod tests;

pub use automatic::{automatic, is_automatic};
pub use proxy_only::{Role, has_active, is_active, is_proxy_only};
pub use spans::{primary_range, ranges};

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use vestibule_model::ResourceName;
use vestibule_store::View;

use super::kind::{Action, Fingerprint, Info, Kind, Methods, ScopeKind, linked};
use super::ranges::Range;
use super::vms::Vms;
use super::{Call, networks};
use crate::{Change, Document, Error, dns, document};

/// `subnetworks`
pub struct Subnetworks;

const EXPAND: &str = "expandIpCidrRange";
const GOOGLE_ACCESS: &str = "setPrivateIpGoogleAccess";

static INFO: Info = Info {
    collection: "subnetworks",
    scopes: &[ScopeKind::Region],
    word: "subnetwork",
    kind: "compute#subnetwork",
    list_kind: "compute#subnetworkList",
    aggregated_kind: Some("compute#subnetworkAggregatedList"),
    fingerprint: Fingerprint::Required,
    labels: false,
    methods: Methods::PATCH,
    actions: &[
        Action { verb: EXPAND, operation_type: EXPAND },
        Action { verb: GOOGLE_ACCESS, operation_type: GOOGLE_ACCESS },
    ],
    questions: &[],
    output_only: &[
        "gatewayAddress",
        "state",
        "ipv6CidrRange",
        "ipv6GceEndpoint",
        "externalIpv6Prefix",
        "internalIpv6Prefix",
        "systemReservedExternalIpv6Ranges",
        "systemReservedInternalIpv6Ranges",
        "utilizationDetails",
    ],
};

/// Purposes of subnetworks that hosts may have addresses in. `PRIVATE_RFC_1918` is the old spelling.
const PRIVATE: &[&str] = &["PRIVATE", "PRIVATE_RFC_1918"];

impl Kind for Subnetworks {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(&self, change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
        let network = change
            .resolve(name, doc, "network", &networks::SCOPE, &["networks"])?
            .ok_or_else(|| Error::required("resource.network"))?;
        refuse_not_built(doc)?;
        let purposes: Vec<&str> = [PRIVATE, proxy_only::PURPOSES].concat();
        document::one_of(doc, "resource", "purpose", &purposes)?;
        document::default(doc, "purpose", PRIVATE[0]);
        let primary = spans::parse_primary(doc)?;
        proxy_only::validate(change, name, &network, doc, &primary)?;
        validate(change, doc)?;
        spans::check_all(change, name, &network, doc)?;
        doc.insert("gatewayAddress".into(), primary.nth(1).to_string().into());
        Ok(())
    }

    fn inserted(&self, change: &mut Change<'_>, _name: &ResourceName, doc: &Document) -> Result<(), Error> {
        dns::inbound::settle(change, &network_of(doc)?)
    }

    fn update(
        &self,
        change: &mut Change<'_>,
        call: &Call,
        name: &ResourceName,
        old: &Document,
        new: &mut Document,
    ) -> Result<(), Error> {
        // Canonical before it is compared: the same network in another spelling is no change.
        change.resolve(name, new, "network", &networks::SCOPE, &["networks"])?;
        document::unchanged(old, new, "resource", "network")?;
        let network = network_of(new)?;
        document::unchanged(old, new, "resource", "ipCidrRange")?;
        refuse_not_built(new)?;
        proxy_only::update(change, call, name, &network, old, new)?;
        validate(change, new)?;
        if old.get("secondaryIpRanges") != new.get("secondaryIpRanges") {
            spans::check_all(change, name, &network, new)?;
        }
        Ok(())
    }

    fn delete(&self, change: &mut Change<'_>, name: &ResourceName, doc: &Document) -> Result<(), Error> {
        if is_automatic(change, name, doc) {
            let why =
                "Invalid resource usage: 'Cannot delete auto subnetwork from an auto subnet mode network.'.";
            return Err(Error::bad_request(why));
        }
        proxy_only::delete(change, name, doc)?;
        if let Some(address) = change.control().vms().held(name).first() {
            return Err(Error::in_use(INFO.word, name, format!("the client at {address}")));
        }
        dns::inbound::release(change, name);
        Ok(())
    }

    fn act(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        verb: &str,
        body: &Document,
        mut doc: Document,
    ) -> Result<Document, Error> {
        match verb {
            EXPAND => spans::expand(change, name, &network_of(&doc)?, body, &mut doc)?,
            _ => {
                if is_proxy_only(&doc) {
                    let why = "Private Google access cannot be set on a proxy-only subnetwork.";
                    return Err(Error::bad_request(why));
                }
                // Absent means off: that is how clients switch it off.
                let on = document::flag(body, "privateIpGoogleAccess");
                doc.insert("privateIpGoogleAccess".into(), on.into());
            }
        }
        Ok(doc)
    }

    fn references(&self, _name: &ResourceName, doc: &Document) -> Vec<ResourceName> {
        linked(doc, "network").into_iter().collect()
    }

    fn present(&self, _vms: &Vms, view: &View, name: &ResourceName, doc: &mut Document) {
        let state = if proxy_only::is_draining(view, name) { "DRAINING" } else { "READY" };
        doc.insert("state".into(), state.into());
    }
}

/// Whether hosts, virtual IPs and reservations may have addresses here.
pub fn is_private(doc: &Document) -> bool {
    document::text(doc, "purpose").is_none_or(|purpose| PRIVATE.contains(&purpose))
}

/// What to tell somebody who wants an address of a subnetwork that is not [private](is_private).
pub fn why_not_private(doc: &Document) -> &'static str {
    match proxy_only::is_proxy_only(doc) {
        true => {
            "The subnetwork must have purpose=PRIVATE: only the proxies of load balancers have addresses in it."
        }
        false => "The subnetwork must have purpose=PRIVATE.",
    }
}

/// The network of a stored subnetwork.
pub fn network_of(doc: &Document) -> Result<ResourceName, Error> {
    linked(doc, "network").ok_or_else(|| Error::internal("a stored subnetwork has no network"))
}

fn refuse_not_built(doc: &Document) -> Result<(), Error> {
    let fields = ["ipv6AccessType", "reservedInternalRange", "ipCollection", "externalIpv6Prefix"];
    document::not_built(doc, "compute.subnetworks", &fields)?;
    match document::text(doc, "stackType") {
        None | Some("IPV4_ONLY") => Ok(()),
        Some(other) => Err(Error::not_built(format!("compute.subnetworks.stackType {other}"))),
    }
}

/// What insert and patch check alike, and the defaults they share.
fn validate(change: &mut Change<'_>, doc: &mut Document) -> Result<(), Error> {
    let access = [
        "DISABLE_GOOGLE_ACCESS",
        "ENABLE_BIDIRECTIONAL_ACCESS_TO_GOOGLE",
        "ENABLE_OUTBOUND_VM_ACCESS_TO_GOOGLE",
    ];
    document::one_of(doc, "resource", "privateIpv6GoogleAccess", &access)?;
    document::default(doc, "privateIpGoogleAccess", false);
    document::default(doc, "privateIpv6GoogleAccess", access[0]);
    document::default(doc, "stackType", "IPV4_ONLY");
    // The older switch for the same thing.
    if document::flag(doc, "enableFlowLogs") && !doc.contains_key("logConfig") {
        doc.insert("logConfig".into(), json!({"enable": true}));
    }
    match doc.get_mut("logConfig") {
        Some(Value::Object(log)) => validate_log(change, log),
        _ => Ok(()),
    }
}

fn validate_log(change: &mut Change<'_>, log: &mut Document) -> Result<(), Error> {
    if !document::flag(log, "enable") {
        return Ok(());
    }
    let path = "resource.logConfig";
    let intervals = [
        "INTERVAL_5_SEC",
        "INTERVAL_30_SEC",
        "INTERVAL_1_MIN",
        "INTERVAL_5_MIN",
        "INTERVAL_10_MIN",
        "INTERVAL_15_MIN",
    ];
    document::one_of(log, path, "aggregationInterval", &intervals)?;
    let metadata = ["INCLUDE_ALL_METADATA", "EXCLUDE_ALL_METADATA", "CUSTOM_METADATA"];
    document::one_of(log, path, "metadata", &metadata)?;
    let sampling = log.get("flowSampling").and_then(Value::as_f64).unwrap_or(0.5);
    if !(0.0..=1.0).contains(&sampling) {
        return Err(Error::invalid("resource.logConfig.flowSampling", sampling, "Must be between 0 and 1."));
    }
    document::default(log, "aggregationInterval", intervals[0]);
    document::default(log, "flowSampling", 0.5);
    document::default(log, "metadata", metadata[0]);
    change.warn("NOT_CRITICAL_ERROR", "Flow logs are accepted, and no flow is recorded.");
    Ok(())
}

/// The primary range of a subnetwork that must exist, and its gateway, which is not at the beginning of a range that
/// grew downwards.
pub fn range_of(change: &Change<'_>, name: &ResourceName) -> Result<(Range, Ipv4Addr), Error> {
    let stored = change.expect(name)?;
    let doc = document::object(&stored);
    let range = primary_range(doc)?;
    let gateway = document::text(doc, "gatewayAddress").and_then(|text| text.parse().ok());
    Ok((range, gateway.unwrap_or_else(|| range.nth(1))))
}
