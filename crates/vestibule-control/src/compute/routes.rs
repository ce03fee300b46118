//! Routes of VPC networks.
//!
//! A network is made with one route, to the default internet gateway; it is a document like any other and may be
//! deleted. The local routes of its subnetworks follow from the subnetworks and are never stored: they are read, and
//! cannot be changed. Nothing is routed by these documents. Inside a network every range is reached through its
//! gateway, and clients have no way to the internet.

use serde_json::{Value, json};
use vestibule_model::name::SELF_LINK_PREFIX;
use vestibule_model::{ResourceName, Scope, fingerprint};
use vestibule_store::View;

use super::kind::{Fingerprint, Info, Kind, Methods, ScopeKind, linked};
use super::networks;
use super::ranges::Range;
use crate::{Change, Document, Error, document};

/// `routes`
pub struct Routes;

static INFO: Info = Info {
    collection: "routes",
    scopes: &[ScopeKind::Global],
    word: "route",
    kind: "compute#route",
    list_kind: "compute#routeList",
    aggregated_kind: None,
    fingerprint: Fingerprint::None,
    labels: false,
    methods: Methods::NONE,
    actions: &[],
    questions: &[],
    output_only: &[
        "asPaths",
        "nextHopHub",
        "nextHopInterRegionCost",
        "nextHopMed",
        "nextHopOrigin",
        "nextHopPeering",
        "routeStatus",
        "routeType",
        "warnings",
    ],
};

/// Names of the routes that come with networks and subnetworks begin so.
const AUTOMATIC: &str = "default-route-";
/// The one gateway there is.
const GATEWAY: &str = "global/gateways/default-internet-gateway";
const DEFAULT_PRIORITY: i64 = 1000;

impl Kind for Routes {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(&self, change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
        doc.remove("params");
        let others = [
            "nextHopIlb",
            "nextHopInstance",
            "nextHopInterconnectAttachment",
            "nextHopIp",
            "nextHopNetwork",
            "nextHopVpnTunnel",
        ];
        document::not_built(doc, "compute.routes", &others)?;
        let field = "resource.destRange";
        let range = document::text(doc, "destRange").ok_or_else(|| Error::required(field))?;
        if range.contains(':') {
            return Err(Error::not_built("compute.routes.destRange of IPv6"));
        }
        Range::parse(range).map_err(|error| Error::invalid(field, range, error.to_string()))?;
        document::within(doc, "resource", "priority", 0..=65_535)?;
        document::default(doc, "priority", DEFAULT_PRIORITY);
        let gateway = document::text(doc, "nextHopGateway")
            .ok_or_else(|| Error::required("resource.nextHopGateway"))?;
        if !gateway.ends_with(GATEWAY) {
            return Err(Error::invalid(
                "resource.nextHopGateway",
                gateway,
                "Must be the default internet gateway.",
            ));
        }
        doc.insert("nextHopGateway".into(), gateway_of(name).into());
        if !name.name.starts_with(AUTOMATIC) {
            change.warn(
                "NOT_CRITICAL_ERROR",
                "The route is kept, and no packet follows it: clients have no way to the internet.",
            );
        }
        change
            .resolve(name, doc, "network", &networks::SCOPE, &["networks"])?
            .map(drop)
            .ok_or_else(|| Error::required("resource.network"))
    }

    fn references(&self, _name: &ResourceName, doc: &Document) -> Vec<ResourceName> {
        linked(doc, "network").into_iter().collect()
    }

    fn derived(&self, view: &View, project: &str) -> Vec<(ResourceName, Document)> {
        let regions = format!("compute/projects/{project}/regions/");
        let subnetworks = view.range(&regions).filter_map(|kv| {
            let name = ResourceName::from_key(&kv.key).filter(|name| name.collection == "subnetworks")?;
            Some((name, document::object(&kv.value)))
        });
        subnetworks.flat_map(|(name, doc)| local(&name, doc)).collect()
    }
}

fn gateway_of(name: &ResourceName) -> String {
    format!("{SELF_LINK_PREFIX}projects/{}/{GATEWAY}", name.project)
}

/// The route to the internet that a network comes with.
pub fn make_default(change: &mut Change<'_>, network: &ResourceName) -> Result<(), Error> {
    let name = named(network, &format!("{AUTOMATIC}{:016x}", digest(&[&network.relative()])));
    if change.exists(&name.key()) {
        return Ok(());
    }
    let doc = json!({
        "network": network.self_link(), "destRange": "0.0.0.0/0", "priority": DEFAULT_PRIORITY,
        "description": "Default route to the Internet.", "nextHopGateway": gateway_of(&name),
    });
    change.create(&name, document::object(&doc).clone()).map(drop)
}

/// Takes the routes that a network came with away.
pub fn delete_default(change: &mut Change<'_>, network: &ResourceName) {
    for route in change.users_of(network) {
        if route.collection == INFO.collection && route.name.starts_with(AUTOMATIC) {
            change.delete(&route.key());
        }
    }
}

/// The local routes of a subnetwork, one for each of its ranges.
fn local(subnetwork: &ResourceName, doc: &Document) -> Vec<(ResourceName, Document)> {
    let secondary = document::items(doc, "secondaryIpRanges").iter().map(document::object);
    let ranges =
        std::iter::once(doc).chain(secondary).filter_map(|entry| document::text(entry, "ipCidrRange"));
    let (Some(network), Some(made)) = (doc.get("network"), doc.get("creationTimestamp")) else {
        return Vec::new();
    };
    let route = |range: &str| {
        let id = digest(&[&subnetwork.relative(), range]);
        let name = named(subnetwork, &format!("{AUTOMATIC}r-{id:016x}"));
        let doc = json!({
            "kind": INFO.kind, "id": id.to_string(), "name": name.name, "selfLink": name.self_link(),
            "creationTimestamp": made, "network": network, "destRange": range, "priority": 0,
            "description": format!("Default local route to the subnetwork {range}."), "nextHopNetwork": network,
        });
        (name, document::object(&doc).clone())
    };
    ranges.map(route).collect()
}

fn named(of: &ResourceName, name: &str) -> ResourceName {
    ResourceName::new(&of.project, Scope::Global, INFO.collection, name)
}

/// The same number for the same words for ever.
fn digest(words: &[&str]) -> u64 {
    fingerprint::hash64(Value::from(words.to_vec()).to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::testing::{PROJECT, World};

    fn routes(world: &World) -> Vec<(String, String)> {
        let all = world.control.compute().list(PROJECT, &Scope::Global, "routes");
        let text = |route: &Value, field: &str| route[field].as_str().unwrap_or_default().to_owned();
        all.iter().map(|route| (text(route, "destRange"), text(route, "name"))).collect()
    }

    #[test]
    fn routes_come_and_go_with_networks_and_subnetworks() {
        let world = World::new();
        world.network("n");
        world.subnetwork("s", "n", "10.0.0.0/24");
        let [internet, local] = routes(&world).try_into().unwrap();
        assert_eq!((internet.0.as_str(), local.0.as_str()), ("0.0.0.0/0", "10.0.0.0/24"));
        let route = world.get(&format!("global/routes/{}", local.1));
        assert_eq!((&route["priority"], &route["nextHopNetwork"]), (&json!(0), &route["network"]));
        let refused = world.try_delete(&format!("global/routes/{}", local.1)).unwrap_err();
        assert!(refused.to_string().contains("cannot be changed"), "{refused}");
        world.delete(&format!("global/routes/{}", internet.1));
        assert_eq!(routes(&world), [local]);
        world.delete("regions/us-central1/subnetworks/s");
        assert_eq!(world.delete("global/networks/n")["error"], Value::Null);
        assert_eq!(routes(&world), []);
    }

    #[test]
    fn what_a_route_may_be() {
        let world = World::new();
        world.network("n");
        let body = |extra: Value| {
            let mut body = json!({
                "name": "r", "network": "global/networks/n", "destRange": "192.0.2.0/24",
                "nextHopGateway": "projects/demo/global/gateways/default-internet-gateway",
            });
            document::merge(body.as_object_mut().unwrap(), document::object(&extra).clone());
            body
        };
        for (extra, text) in [
            (json!({"nextHopIp": "10.0.0.2"}), "compute.routes.nextHopIp is not supported"),
            (json!({"destRange": "192.0.2.1/24"}), "resource.destRange"),
            (json!({"nextHopGateway": null}), "resource.nextHopGateway"),
            (json!({"nextHopGateway": "elsewhere"}), "Must be the default internet gateway."),
            (json!({"network": null}), "resource.network"),
        ] {
            let refused = world.try_insert("global/routes", body(extra.clone())).unwrap_err().to_string();
            assert!(refused.contains(text), "{extra}: {refused}");
        }
        let operation = world.insert("global/routes", body(json!({})));
        assert_eq!(operation["warnings"][0]["code"], "NOT_CRITICAL_ERROR");
        let operation = world.delete("global/networks/n");
        let text = operation["error"]["errors"][0]["message"].as_str().unwrap();
        assert!(text.ends_with("is already being used by 'projects/demo/global/routes/r'"), "{text}");
    }
}
