//! VPC networks. Also the example of a [`Kind`]: every hook is used here.

use std::borrow::Cow;

use serde_json::{Value, json};
use vestibule_model::{ResourceName, Scope, region};
use vestibule_store::View;

use super::kind::{Action, Fingerprint, Info, Kind, Methods, ScopeKind, Verb};
use super::vms::Vms;
use super::{Call, routes, subnetworks};
use crate::{Change, Document, Error, document, users};

/// `networks`
pub struct Networks;

const SWITCH: &str = "switchToCustomMode";
const EFFECTIVE_FIREWALLS: &str = "getEffectiveFirewalls";

/// Smallest and largest `mtu` of a network, in bytes.
const MTU: std::ops::RangeInclusive<i64> = 1300..=8896;

static INFO: Info = Info {
    collection: "networks",
    scopes: &[ScopeKind::Global],
    word: "network",
    kind: "compute#network",
    list_kind: "compute#networkList",
    aggregated_kind: None,
    fingerprint: Fingerprint::None,
    labels: false,
    methods: Methods::PATCH,
    actions: &[Action { verb: SWITCH, operation_type: SWITCH }],
    questions: &[EFFECTIVE_FIREWALLS],
    output_only: &["subnetworks", "peerings", "gatewayIPv4", "firewallPolicy", "additionalTags"],
};

impl Kind for Networks {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(
        &self,
        _change: &mut Change<'_>,
        _name: &ResourceName,
        doc: &mut Document,
    ) -> Result<(), Error> {
        if !doc.contains_key("autoCreateSubnetworks") || doc.contains_key("IPv4Range") {
            let why = "Legacy networks are no longer supported. Set the field to true or false.";
            return Err(Error::invalid("resource.autoCreateSubnetworks", "", why));
        }
        validate(doc)
    }

    fn inserted(&self, change: &mut Change<'_>, name: &ResourceName, doc: &Document) -> Result<(), Error> {
        routes::make_default(change, name)?;
        if !is_auto(doc) {
            return Ok(());
        }
        region::REGIONS.iter().try_for_each(|region| {
            let subnetwork = subnetworks::automatic(name, region.name);
            change.create(&subnetwork.name, subnetwork.doc).map(drop)
        })
    }

    fn update(
        &self,
        _change: &mut Change<'_>,
        _call: &Call,
        _name: &ResourceName,
        old: &Document,
        new: &mut Document,
    ) -> Result<(), Error> {
        for field in ["autoCreateSubnetworks", "IPv4Range", "networkProfile"] {
            document::unchanged(old, new, "resource", field)?;
        }
        validate(new)
    }

    /// The subnetworks and routes that came with a network go with it.
    fn delete(&self, change: &mut Change<'_>, name: &ResourceName, doc: &Document) -> Result<(), Error> {
        routes::delete_default(change, name);
        if is_auto(doc) {
            for (subnetwork, doc) in change.users_in(name, "subnetworks") {
                if subnetworks::is_automatic(change, &subnetwork, document::object(&doc)) {
                    change.delete(&subnetwork.key());
                }
            }
        }
        Ok(())
    }

    fn act(
        &self,
        _change: &mut Change<'_>,
        _call: &Call,
        _name: &ResourceName,
        _verb: &str,
        _body: &Document,
        mut doc: Document,
    ) -> Result<Document, Error> {
        if !is_auto(&doc) {
            return Err(Error::bad_request("The network is already in custom subnet mode."));
        }
        doc.insert("autoCreateSubnetworks".into(), false.into());
        Ok(doc)
    }

    /// The network's firewall rules. There are no hierarchical policies that would add to them.
    fn ask(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        _verb: &str,
        _body: &Document,
        doc: Option<&Document>,
    ) -> Result<Value, Error> {
        if doc.is_none() {
            return Err(Error::not_found(name));
        }
        let rules = change.users_in(name, "firewalls").into_iter().map(|(_, rule)| (*rule).clone());
        Ok(json!({ "firewalls": rules.collect::<Vec<_>>() }))
    }

    fn present(&self, _vms: &Vms, view: &View, name: &ResourceName, doc: &mut Document) {
        let links: Vec<Value> = users(view, &name.key())
            .iter()
            .filter_map(|key| ResourceName::from_key(key))
            .filter(|user| user.collection == "subnetworks")
            .map(|user| user.self_link().into())
            .collect();
        if !links.is_empty() {
            doc.insert("subnetworks".into(), links.into());
        }
    }

    /// Google tells that a network is still in use by its operation.
    fn fails_late(&self, verb: Verb<'_>, error: &Error) -> bool {
        verb == Verb::Delete && matches!(error, Error::InUse { .. })
    }

    fn operation_type(&self, verb: Verb<'_>) -> Cow<'static, str> {
        match verb {
            Verb::Patch => "compute.networks.patch".into(),
            other => INFO.operation_type(other),
        }
    }
}

/// Whether subnetworks of this network are made by the server.
pub fn is_auto(network: &Document) -> bool {
    document::flag(network, "autoCreateSubnetworks")
}

/// A network's name, in the scope that networks live in.
pub const SCOPE: Scope = Scope::Global;

fn validate(doc: &mut Document) -> Result<(), Error> {
    document::not_built(
        doc,
        "compute.networks",
        &["enableUlaInternalIpv6", "internalIpv6Range", "networkProfile"],
    )?;
    document::within(doc, "resource", "mtu", MTU)?;
    let orders = ["AFTER_CLASSIC_FIREWALL", "BEFORE_CLASSIC_FIREWALL"];
    document::one_of(doc, "resource", "networkFirewallPolicyEnforcementOrder", &orders)?;
    document::default(doc, "networkFirewallPolicyEnforcementOrder", orders[0]);
    document::default(doc, "routingConfig", json!({}));
    match doc.get_mut("routingConfig") {
        Some(Value::Object(routing)) => validate_routing(routing),
        _ => Err(Error::invalid("resource.routingConfig", "", "Must be an object.")),
    }
}

fn validate_routing(routing: &mut Document) -> Result<(), Error> {
    // Says what to do with another member in a patch; it is never read back.
    if document::flag(routing, "deleteBgpAlwaysCompareMed") {
        routing.remove("bgpAlwaysCompareMed");
    }
    routing.remove("deleteBgpAlwaysCompareMed");
    let path = "resource.routingConfig";
    document::one_of(routing, path, "routingMode", &["REGIONAL", "GLOBAL"])?;
    document::one_of(routing, path, "bgpBestPathSelectionMode", &["LEGACY", "STANDARD"])?;
    document::default(routing, "routingMode", "REGIONAL");
    document::default(routing, "bgpBestPathSelectionMode", "LEGACY");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::testing::World;

    #[test]
    fn a_minimal_network_reads_back_as_googles() {
        let world = World::new();
        world.insert("global/networks", json!({"name": "n", "autoCreateSubnetworks": false}));
        let mut doc = world.get("global/networks/n");
        let id = doc["id"].as_str().unwrap().to_owned();
        for varying in ["id", "creationTimestamp"] {
            doc.as_object_mut().unwrap().remove(varying).unwrap();
        }
        let link = "https://www.googleapis.com/compute/v1/projects/demo/global/networks";
        assert_eq!(
            doc,
            json!({
                "autoCreateSubnetworks": false,
                "kind": "compute#network",
                "name": "n",
                "networkFirewallPolicyEnforcementOrder": "AFTER_CLASSIC_FIREWALL",
                "routingConfig": {"bgpBestPathSelectionMode": "LEGACY", "routingMode": "REGIONAL"},
                "selfLink": format!("{link}/n"),
                "selfLinkWithId": format!("{link}/{id}"),
            })
        );
    }

    #[test]
    fn what_is_refused() {
        let world = World::new();
        for (body, text) in [
            (
                json!({"name": "n"}),
                "Invalid value for field 'resource.autoCreateSubnetworks': ''. Legacy networks are no longer \
                 supported. Set the field to true or false.",
            ),
            (
                json!({"name": "n", "autoCreateSubnetworks": false, "mtu": 1299}),
                "Invalid value for field 'resource.mtu': '1299'. Must be between 1300 and 8896.",
            ),
            (
                json!({"name": "n", "autoCreateSubnetworks": false, "routingConfig": {"routingMode": "X"}}),
                "Invalid value for field 'resource.routingConfig.routingMode': 'X'. Must be one of REGIONAL, GLOBAL.",
            ),
            (
                json!({"name": "n", "autoCreateSubnetworks": false, "enableUlaInternalIpv6": true}),
                "compute.networks.enableUlaInternalIpv6 is not supported by Vestibule",
            ),
        ] {
            assert_eq!(
                world.try_insert("global/networks", body.clone()).unwrap_err().to_string(),
                text,
                "{body}"
            );
        }
        assert!(world.control.compute().list("demo", &Scope::Global, "networks").is_empty());
    }

    #[test]
    fn a_name_is_taken_once() {
        let world = World::new();
        world.network("n");
        let again = world.try_insert("global/networks", json!({"name": "n", "autoCreateSubnetworks": false}));
        assert_eq!(
            again.unwrap_err(),
            Error::AlreadyExists {
                message: "The resource 'projects/demo/global/networks/n' already exists".into()
            }
        );
    }

    #[test]
    fn patching_merges_and_keeps_what_cannot_change() {
        let world = World::new();
        world.network("n");
        let operation = world.patch("global/networks/n", json!({"routingConfig": {"routingMode": "GLOBAL"}}));
        assert_eq!(operation["operationType"], "compute.networks.patch");
        let doc = world.get("global/networks/n");
        assert_eq!(
            doc["routingConfig"],
            json!({"bgpBestPathSelectionMode": "LEGACY", "routingMode": "GLOBAL"})
        );
        world.patch("global/networks/n", json!({"routingConfig": {"bgpAlwaysCompareMed": true}}));
        world.patch("global/networks/n", json!({"routingConfig": {"deleteBgpAlwaysCompareMed": false}}));
        assert_eq!(world.get("global/networks/n")["routingConfig"]["bgpAlwaysCompareMed"], true);
        world.patch("global/networks/n", json!({"routingConfig": {"deleteBgpAlwaysCompareMed": true}}));
        assert_eq!(world.get("global/networks/n")["routingConfig"], doc["routingConfig"]);
        let refused = world.try_patch("global/networks/n", json!({"autoCreateSubnetworks": true}));
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }

    #[test]
    fn a_used_network_is_not_deleted_and_the_operation_says_so() {
        let world = World::new();
        world.network("n");
        world.subnetwork("s", "n", "10.0.0.0/24");
        let operation = world.delete("global/networks/n");
        assert_eq!(operation["status"], "DONE");
        assert_eq!(operation["progress"], 100);
        assert_eq!(operation["httpErrorStatusCode"], 400);
        assert_eq!(operation["httpErrorMessage"], "BAD REQUEST");
        assert_eq!(
            operation["error"],
            json!({"errors": [{
                "code": "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE",
                "message": "The network resource 'projects/demo/global/networks/n' is already being used by \
                            'projects/demo/regions/us-central1/subnetworks/s'",
            }]})
        );
        world.get("global/networks/n");
        world.delete("regions/us-central1/subnetworks/s");
        assert_eq!(world.delete("global/networks/n")["error"], Value::Null);
        assert!(matches!(world.try_get("global/networks/n"), Err(Error::NotFound { .. })));
    }

    #[test]
    fn an_auto_mode_network_brings_a_subnetwork_for_every_region_and_takes_them_along() {
        let world = World::new();
        world.insert("global/networks", json!({"name": "auto", "autoCreateSubnetworks": true}));
        let network = world.get("global/networks/auto");
        assert_eq!(network["subnetworks"].as_array().unwrap().len(), region::REGIONS.len());
        let central = world.get("regions/us-central1/subnetworks/auto");
        assert_eq!(central["ipCidrRange"], "10.128.0.0/20");
        let refused = world.try_delete("regions/us-central1/subnetworks/auto").unwrap_err();
        assert!(refused.to_string().contains("Cannot delete auto subnetwork"), "{refused}");
        assert_eq!(world.delete("global/networks/auto")["error"], Value::Null);
        assert!(world.control.compute().aggregated("demo", "subnetworks").is_empty());
    }

    #[test]
    fn effective_firewalls_are_the_rules_of_the_network() {
        let world = World::new();
        world.network("n");
        world.network("m");
        let rule = json!({"name": "f", "network": "global/networks/n", "allowed": [{"IPProtocol": "icmp"}]});
        world.insert("global/firewalls", rule);
        let ask =
            |network| world.try_ask(&format!("global/networks/{network}"), EFFECTIVE_FIREWALLS, json!({}));
        assert_eq!(ask("n").unwrap(), json!({"firewalls": [world.get("global/firewalls/f")]}));
        assert_eq!(ask("m").unwrap(), json!({"firewalls": []}));
        assert!(matches!(ask("none"), Err(Error::NotFound { .. })));
    }

    #[test]
    fn an_auto_mode_network_becomes_a_custom_one() {
        let world = World::new();
        world.insert("global/networks", json!({"name": "auto", "autoCreateSubnetworks": true}));
        let operation = world.act("global/networks/auto", SWITCH, json!({}));
        assert_eq!(operation["operationType"], SWITCH);
        assert_eq!(world.get("global/networks/auto")["autoCreateSubnetworks"], false);
        world.delete("regions/us-central1/subnetworks/auto");
        assert!(world.try_act("global/networks/auto", SWITCH, json!({})).is_err());
    }
}
