//! Addresses: reservations of private addresses in a subnetwork.
//!
//! A reservation is *used* by the forwarding rules that serve on its address, or by the client that asked for it. Which those are is derived from the
//! addresses, never stored: a rule may name the address as a literal before anybody reserves it. It is found by way of
//! the subnetwork, which both refer to.

mod allocate;
#[cfg(test)]
mod tests;

pub use allocate::{Claim, Ports, Taken, allocate, literal, taken};

use serde_json::Value;
use vestibule_model::ResourceName;
use vestibule_store::View;

use super::kind::{Fingerprint, Info, Kind, Methods, ScopeKind, Verb, linked};
use super::subnetworks;
use super::vms::{self, Vms};
use crate::{Change, Document, Error, dns, document, users};

/// `addresses`
pub struct Addresses;

static INFO: Info = Info {
    collection: "addresses",
    scopes: &[ScopeKind::Region],
    word: "address",
    kind: "compute#address",
    list_kind: "compute#addressList",
    aggregated_kind: Some("compute#addressAggregatedList"),
    fingerprint: Fingerprint::None,
    labels: true,
    methods: Methods::NONE,
    actions: &[],
    questions: &[],
    output_only: &["status", "users"],
};

/// What an internal address may be reserved for. The first is the default; the second may serve several rules.
const PURPOSES: &[&str] = &["GCE_ENDPOINT", SHARED];
const SHARED: &str = "SHARED_LOADBALANCER_VIP";
/// The purpose of addresses that Cloud DNS reserves for its inbound forwarders, and nobody else.
pub(crate) const DNS_RESOLVER: &str = "DNS_RESOLVER";

impl Kind for Addresses {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(&self, change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
        refuse_not_built(doc)?;
        document::one_of(doc, "resource", "purpose", PURPOSES)?;
        document::default(doc, "purpose", PURPOSES[0]);
        let tiers = ["PREMIUM", "STANDARD", "FIXED_STANDARD", "STANDARD_OVERRIDES_FIXED_STANDARD"];
        document::one_of(doc, "resource", "networkTier", &tiers)?;
        document::default(doc, "networkTier", tiers[0]);
        let subnetwork = change
            .resolve(name, doc, "subnetwork", &name.scope, &["subnetworks"])?
            .ok_or_else(|| Error::required("resource.subnetwork"))?;
        check_subnetwork(change, name, &subnetwork)?;
        let wanted = match document::text(doc, "address") {
            Some(text) => Some(literal("resource.address", text)?),
            None => None,
        };
        let address = allocate(change, &subnetwork, "resource.address", wanted, Claim::Reservation)?;
        doc.insert("address".into(), address.to_string().into());
        Ok(())
    }

    fn delete(&self, change: &mut Change<'_>, name: &ResourceName, doc: &Document) -> Result<(), Error> {
        if let Some(policy) = inbound_policy(change, doc) {
            return Err(Error::in_use(INFO.word, name, policy));
        }
        let rules = rules_on(change.view(), doc).into_iter();
        match rules.chain(client_on(change.control().vms(), doc)).next() {
            Some(user) => Err(Error::in_use(INFO.word, name, user)),
            None => Ok(()),
        }
    }

    fn references(&self, _name: &ResourceName, doc: &Document) -> Vec<ResourceName> {
        linked(doc, "subnetwork").into_iter().collect()
    }

    /// Google tells that a subnetwork is full by the operation.
    fn fails_late(&self, verb: Verb<'_>, error: &Error) -> bool {
        verb == Verb::Insert && matches!(error, Error::IpSpaceExhausted { .. })
    }

    fn present(&self, vms: &Vms, view: &View, _name: &ResourceName, doc: &mut Document) {
        let users = rules_on(view, doc).into_iter().chain(client_on(vms, doc));
        let users: Vec<Value> = users.map(|user| user.self_link().into()).collect();
        doc.insert("status".into(), if users.is_empty() { "RESERVED" } else { "IN_USE" }.into());
        if !users.is_empty() {
            doc.insert("users".into(), users.into());
        }
    }
}

fn refuse_not_built(doc: &Document) -> Result<(), Error> {
    let what = "compute.addresses";
    // EXTERNAL is what the API takes for granted.
    let kind = document::text(doc, "addressType").unwrap_or("EXTERNAL");
    if kind != "INTERNAL" {
        return Err(Error::not_built(format!("{what} with addressType {kind}")));
    }
    if let Some(version) = document::text(doc, "ipVersion").filter(|version| *version != "IPV4") {
        return Err(Error::not_built(format!("{what} with ipVersion {version}")));
    }
    if let Some(length) = document::integer(doc, "prefixLength").filter(|length| ![0, 32].contains(length)) {
        return Err(Error::not_built(format!("{what} with prefixLength {length}")));
    }
    document::not_built(doc, what, &["ipv6EndpointType", "ipCollection", "network", "networkAttachment"])
}

fn check_subnetwork(
    change: &Change<'_>,
    name: &ResourceName,
    subnetwork: &ResourceName,
) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::invalid("resource.subnetwork", subnetwork.self_link(), why));
    if subnetwork.scope != name.scope {
        return refuse("The subnetwork must be in the region of the address.");
    }
    let stored = change.expect(subnetwork)?;
    if !subnetworks::is_private(document::object(&stored)) {
        return refuse(subnetworks::why_not_private(document::object(&stored)));
    }
    Ok(())
}

/// The DNS policy that an inbound forwarder's address belongs to.
fn inbound_policy(change: &Change<'_>, doc: &Document) -> Option<String> {
    let ours = document::text(doc, "purpose") == Some(DNS_RESOLVER);
    let subnetwork = linked(doc, "subnetwork").filter(|_| ours)?;
    let network = subnetworks::network_of(document::object(&*change.find(&subnetwork)?)).ok()?;
    dns::inbound::policy_of(change, &network)
}

/// The forwarding rules that serve on an address, in the order of their names.
fn rules_on(view: &View, address: &Document) -> Vec<ResourceName> {
    let Some(subnetwork) = linked(address, "subnetwork") else { return Vec::new() };
    let ip = address.get("address");
    let serves =
        |rule: &ResourceName| view.get(&rule.key()).is_some_and(|kv| kv.value.get("IPAddress") == ip);
    users(view, &subnetwork.key())
        .iter()
        .filter_map(|key| ResourceName::from_key(key))
        .filter(|user| user.collection == "forwardingRules" && serves(user))
        .collect()
}

/// The client that has an address, as Google names a VM.
fn client_on(vms: &Vms, address: &Document) -> Option<ResourceName> {
    let subnetwork = linked(address, "subnetwork")?;
    let ip = document::text(address, "address")?.parse().ok()?;
    vms.held(&subnetwork).contains(&ip).then(|| vms::instance(&subnetwork, ip))
}
