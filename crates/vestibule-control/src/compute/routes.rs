//! Routes of VPC networks.
//!
//! A network is made with one route, to the default internet gateway; it is a document like any other and may be
//! deleted. The local routes of its subnetworks follow from the subnetworks and are never stored: they are read, and
//! cannot be changed. A route to the address of a client (`nextHopIp`) is what packets follow; one to the gateway leads
//! nowhere, since a network has no way to the internet here.

use serde_json::{Value, json};
use vestibule_model::name::SELF_LINK_PREFIX;
use vestibule_model::{ResourceName, Scope, fingerprint};
use vestibule_store::View;

use super::kind::{Fingerprint, Info, Kind, Methods, ScopeKind, linked};
use super::ranges::Range;
use super::{addresses, networks, subnetworks};
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
/// Next hops that there is nothing of here.
const NOT_BUILT: &[&str] =
    &["nextHopIlb", "nextHopInstance", "nextHopInterconnectAttachment", "nextHopNetwork", "nextHopVpnTunnel"];

impl Kind for Routes {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(&self, change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
        doc.remove("params");
        document::not_built(doc, "compute.routes", NOT_BUILT)?;
        document::within(doc, "resource", "priority", 0..=65_535)?;
        document::default(doc, "priority", DEFAULT_PRIORITY);
        let network = change
            .resolve(name, doc, "network", &networks::SCOPE, &["networks"])?
            .ok_or_else(|| Error::required("resource.network"))?;
        check_range(change, &network, doc)?;
        match (document::text(doc, "nextHopIp"), document::text(doc, "nextHopGateway")) {
            (Some(hop), None) => lead_to(change, &network, hop, doc),
            (None, Some(gateway)) => {
                check_gateway(gateway)?;
                doc.insert("nextHopGateway".into(), gateway_of(name).into());
                if !name.name.starts_with(AUTOMATIC) {
                    warn(change, "clients have no way to the internet.");
                }
                Ok(())
            }
            (None, None) => Err(Error::required("resource.nextHopGateway")),
            (Some(_), Some(_)) => Err(Error::bad_request("A route has exactly one next hop.")),
        }
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

fn check_gateway(gateway: &str) -> Result<(), Error> {
    if gateway.ends_with(GATEWAY) {
        return Ok(());
    }
    let why = "Must be the default internet gateway.";
    Err(Error::invalid("resource.nextHopGateway", gateway, why))
}

/// Destinations are what no subnetwork has: its own route would win always.
fn check_range(change: &Change<'_>, network: &ResourceName, doc: &Document) -> Result<(), Error> {
    let field = "resource.destRange";
    let text = document::text(doc, "destRange").ok_or_else(|| Error::required(field))?;
    if text.contains(':') {
        return Err(Error::not_built("compute.routes.destRange of IPv6"));
    }
    let refuse = |why: String| Err(Error::invalid(field, text, why));
    let range = match Range::parse(text) {
        Ok(range) => range,
        Err(error) => return refuse(error.to_string()),
    };
    if let Some(prohibited) = range.prohibited().filter(|prohibited| prohibited.covers(&range)) {
        return refuse(format!("The range is in {prohibited}, which is never routed."));
    }
    for (subnetwork, stored) in change.users_in(network, "subnetworks") {
        if subnetworks::ranges(document::object(&stored)).any(|taken| taken.covers(&range)) {
            let region = subnetwork.scope.region_name().unwrap_or_default();
            let name = &subnetwork.name;
            return refuse(format!("The range is in subnetwork '{name}' in region '{region}'."));
        }
    }
    Ok(())
}

/// Checks a next hop that is a client's address.
fn lead_to(change: &mut Change<'_>, network: &ResourceName, hop: &str, doc: &Document) -> Result<(), Error> {
    let field = "resource.nextHopIp";
    if !document::items(doc, "tags").is_empty() {
        return Err(Error::not_built("compute.routes.tags with nextHopIp"));
    }
    let address = addresses::literal(field, hop)?;
    let subnetworks = change.users_in(network, "subnetworks");
    let is_there = |(_, stored): &(_, std::sync::Arc<Value>)| {
        let doc = document::object(stored);
        let range = subnetworks::primary_range(doc);
        subnetworks::is_private(doc) && range.is_ok_and(|range| range.is_usable(address))
    };
    if !subnetworks.iter().any(is_there) {
        let why =
            "Must be an address that a client can have: in the primary range of a subnetwork of the network.";
        return Err(Error::invalid(field, hop, why));
    }
    if let Some(why) = change.control().settings().firewall_gap.clone() {
        warn(change, &format!("networks forward nothing here. {why}"));
    }
    Ok(())
}

fn warn(change: &mut Change<'_>, why: &str) {
    change.warn("NOT_CRITICAL_ERROR", format!("The route is kept, and no packet follows it: {why}"));
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
    let (Some(network), Some(made)) = (doc.get("network"), doc.get("creationTimestamp")) else {
        return Vec::new();
    };
    let route = |range: Range| {
        let range = range.to_string();
        let id = digest(&[&subnetwork.relative(), &range]);
        let name = named(subnetwork, &format!("{AUTOMATIC}r-{id:016x}"));
        let doc = json!({
            "kind": INFO.kind, "id": id.to_string(), "name": name.name, "selfLink": name.self_link(),
            "creationTimestamp": made, "network": network, "destRange": range, "priority": 0,
            "description": format!("Default local route to the subnetwork {range}."), "nextHopNetwork": network,
        });
        (name, document::object(&doc).clone())
    };
    subnetworks::ranges(doc).map(route).collect()
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
        let secondary = json!([{"rangeName": "pods", "ipCidrRange": "10.8.0.0/16"}]);
        let subnetwork = json!({
            "name": "s", "network": "global/networks/n", "ipCidrRange": "10.0.0.0/24", "secondaryIpRanges": secondary,
        });
        world.insert("regions/us-central1/subnetworks", subnetwork);
        world.try_proxy_only("p", "n", "10.129.0.0/23", "ACTIVE").unwrap();
        let body = |extra: Value| {
            let mut body = json!({
                "name": "r", "network": "global/networks/n", "destRange": "192.0.2.0/24",
                "nextHopGateway": "projects/demo/global/gateways/default-internet-gateway",
            });
            document::merge(body.as_object_mut().unwrap(), document::object(&extra).clone());
            body
        };
        let by_ip = |ip: &str| json!({"nextHopIp": ip, "nextHopGateway": null});
        for (extra, text) in [
            (json!({"nextHopIp": "10.0.0.2"}), "exactly one next hop"),
            (
                json!({"nextHopInstance": "zones/z/instances/i"}),
                "compute.routes.nextHopInstance is not supported",
            ),
            (json!({"nextHopIlb": "10.0.0.100"}), "compute.routes.nextHopIlb is not supported"),
            (
                json!({"destRange": "10.0.0.128/25"}),
                "The range is in subnetwork 's' in region 'us-central1'.",
            ),
            (json!({"destRange": "10.8.0.0/24"}), "The range is in subnetwork 's'"),
            (json!({"destRange": "169.254.169.0/24"}), "which is never routed"),
            (
                by_ip("10.0.0.1"),
                "'resource.nextHopIp': '10.0.0.1'. Must be an address that a client can have",
            ),
            (by_ip("10.1.0.2"), "Must be an address that a client can have"),
            (by_ip("10.129.0.2"), "Must be an address that a client can have"),
            (by_ip("fd00::2"), "'resource.nextHopIp': 'fd00::2'. Must be an IPv4 address."),
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
        let mut followed = by_ip("10.0.0.2");
        followed["name"] = "followed".into();
        let operation = world.insert("global/routes", body(followed));
        assert!(operation.get("warnings").is_none(), "{operation}");
        let refused = world.try_subnetwork("t", "n", "192.0.2.0/24").unwrap_err().to_string();
        assert!(refused.contains("conflicts with the destinations of route"), "{refused}");
        world.delete("global/routes/followed");
        for name in ["s", "p"] {
            world.delete(&format!("regions/us-central1/subnetworks/{name}"));
        }
        let operation = world.delete("global/networks/n");
        let text = operation["error"]["errors"][0]["message"].as_str().unwrap();
        assert!(text.ends_with("is already being used by 'projects/demo/global/routes/r'"), "{text}");
    }
}
