//! Inbound forwarding: addresses inside a network at which its resolver answers too.
//!
//! While a server policy with `enableInboundForwarding` is bound to a network, every subnetwork of it in which hosts may
//! have addresses has one reservation more, of purpose `DNS_RESOLVER` and from its primary range. That is how others
//! find the resolver: whoever is connected to the network has a route to the subnetwork, and none to 169.254.169.254.
//! The reservations are Cloud DNS's own: they come and go with the policy and with the subnetworks.

use serde_json::json;
use vestibule_model::{ResourceName, id};

use super::{PolicyKind, keys};
use crate::compute::addresses::DNS_RESOLVER;
use crate::compute::subnetworks;
use crate::{Change, Error, document};

/// Makes the forwarders of a network what its policy says, as this change leaves it so far.
pub(crate) fn settle(change: &mut Change<'_>, network: &ResourceName) -> Result<(), Error> {
    let wanted = policy_of(change, network).is_some();
    for (subnetwork, doc) in change.users_in(network, "subnetworks") {
        let present = of(change, &subnetwork);
        if wanted && present.is_empty() && subnetworks::is_private(document::object(&doc)) {
            reserve(change, &subnetwork)?;
        } else if !wanted {
            present.iter().for_each(|address| change.delete(&address.key()));
        }
    }
    Ok(())
}

/// Takes the forwarder of a subnetwork that is about to go.
pub(crate) fn release(change: &mut Change<'_>, subnetwork: &ResourceName) {
    of(change, subnetwork).iter().for_each(|address| change.delete(&address.key()));
}

/// The policy that wants forwarders in a network, by its readable key. A network has one server policy at most.
pub(crate) fn policy_of(change: &Change<'_>, network: &ResourceName) -> Option<String> {
    let users = change.users(&network.key());
    let policy = users.into_iter().find(|key| keys::policy_kind(key) == Some(PolicyKind::Server))?;
    let wants = document::flag(document::object(&*change.get(&policy)?), "enableInboundForwarding");
    wants.then(|| policy.trim_start_matches("dns/").to_owned())
}

/// The forwarders in a subnetwork.
fn of(change: &Change<'_>, subnetwork: &ResourceName) -> Vec<ResourceName> {
    let addresses = change.users_in(subnetwork, "addresses").into_iter();
    let ours = addresses.filter(|(_, doc)| doc["purpose"] == DNS_RESOLVER);
    ours.map(|(address, _)| address).collect()
}

fn reserve(change: &mut Change<'_>, subnetwork: &ResourceName) -> Result<(), Error> {
    let text = format!("dns-forwarding-{}", id::resource_id());
    let name = ResourceName::new(&subnetwork.project, subnetwork.scope.clone(), "addresses", &text);
    let doc = json!({ "name": text, "addressType": "INTERNAL", "subnetwork": subnetwork.self_link() });
    change.create(&name, document::object(&doc).clone())?;
    // Nobody else may reserve for this purpose, so that it is not one that a new address can have.
    let mut doc = document::object(&*change.expect(&name)?).clone();
    doc.insert("purpose".into(), DNS_RESOLVER.into());
    change.rewrite(&name, doc).map(drop)
}
