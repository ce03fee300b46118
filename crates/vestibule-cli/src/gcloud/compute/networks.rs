//! `gcloud compute networks`.

use serde_json::{Map, Value, json};

use super::link::{Kind, Scopes};
use super::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group};
use crate::gcloud::invocation::{Display, Invocation};

pub const NETWORKS: Kind = Kind { collection: "networks", scopes: Scopes::Global, plural: "networks" };

const TABLE: Display = Display::new(
    "table(name,x_gcloud_subnet_mode:label=SUBNET_MODE,x_gcloud_bgp_routing_mode:label=BGP_ROUTING_MODE,\
     IPv4Range:label=IPV4_RANGE,gatewayIPv4:label=GATEWAY_IPV4,internalIpv6Range:label=INTERNAL_IPV6_RANGE)",
);

pub fn group() -> Group {
    Group::new("networks", "List, create, and delete VPC networks.")
        .group(super::subnets::group())
        .command(
            Command::new("create", "Create a VPC network.", create)
                .about("A network has no subnets until they are created, unless --subnet-mode=auto.")
                .arg("NAME", "The name of the network.")
                .flag(Flag::choice(
                    "subnet-mode",
                    &["auto", "custom"],
                    "Whether subnets are made by you or by themselves. Default: auto.",
                ))
                .flag(Flag::choice(
                    "bgp-routing-mode",
                    &["global", "regional"],
                    "The routing mode. Default: regional.",
                ))
                .flag(Flag::text("description", "What the network is for."))
                .flag(Flag::int("mtu", "The largest packet, bytes (1300 to 8896)."))
                .examples(&["gcloud compute networks create my-vpc --subnet-mode=custom"]),
        )
        .command(
            Command::new("update", "Update a VPC network.", update)
                .arg("NAME", "The name of the network.")
                .flag(Flag::choice("bgp-routing-mode", &["global", "regional"], "The routing mode."))
                .flag(Flag::toggle(
                    "switch-to-custom-subnet-mode",
                    "Keeps the subnets of an auto mode network, and makes none by itself any more. Cannot be undone.",
                ))
                .flag(Flag::int("mtu", "The largest packet, bytes (1300 to 8896).")),
        )
        .command(
            Command::new("delete", "Delete VPC networks.", |inv| verbs::delete(inv, &NETWORKS, "NAME"))
                .args("NAME", "The names of the networks."),
        )
        .command(
            Command::new("describe", "Describe a VPC network.", describe)
                .arg("NAME", "The name of the network."),
        )
        .command(Command::new("list", "List VPC networks.", list).flags(super::list_flags()))
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = NETWORKS.resolve(inv, inv.args.name("NAME"))?;
    let mode = inv.args.text("bgp-routing-mode").unwrap_or("regional").to_uppercase();
    let mut body = json!({
        "name": link.name,
        "autoCreateSubnetworks": inv.args.text("subnet-mode") != Some("custom"),
        "routingConfig": {"routingMode": mode},
    });
    if let Some(description) = inv.args.text("description") {
        body["description"] = json!(description);
    }
    if let Some(mtu) = inv.args.int("mtu") {
        body["mtu"] = json!(mtu);
    }
    let name = link.name.clone();
    let mut made = verbs::carry_out(inv, "Created", vec![Change::insert(link, body)])?;
    made.iter_mut().for_each(add_modes);
    inv.show_made(&made, TABLE)?;
    if inv.is_default_format() {
        inv.status(&firewall_advice(&name));
    }
    Ok(())
}

fn firewall_advice(name: &str) -> String {
    format!(
        "\nInstances on this network will not be reachable until firewall rules\nare created. As an example, you can \
         allow all internal traffic between\ninstances as well as SSH, RDP, and ICMP by running:\n\n\
         $ gcloud compute firewall-rules create <FIREWALL_NAME> --network {name} --allow tcp,udp,icmp --source-ranges <IP_RANGE>\n\
         $ gcloud compute firewall-rules create <FIREWALL_NAME> --network {name} --allow tcp:22,tcp:3389,icmp\n"
    )
}

fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = NETWORKS.resolve(inv, inv.args.name("NAME"))?;
    if inv.args.on("switch-to-custom-subnet-mode") {
        inv.confirm_or_abort(&format!(
            "Network [{}] will be switched to custom mode. This operation cannot be undone.",
            link.name
        ))?;
        return verbs::update(inv, Change::call(link, "switchToCustomMode", json!({})));
    }
    let mut body = Map::new();
    if let Some(mode) = inv.args.text("bgp-routing-mode") {
        body.insert("routingConfig".into(), json!({"routingMode": mode.to_uppercase()}));
    }
    if let Some(mtu) = inv.args.int("mtu") {
        body.insert("mtu".into(), json!(mtu));
    }
    if body.is_empty() {
        return Err(Failure::new("At least one property must be modified."));
    }
    verbs::update(inv, Change::patch(link, Value::Object(body)))
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = NETWORKS.resolve(inv, inv.args.name("NAME"))?;
    let mut network = verbs::read(inv, &link)?;
    add_modes(&mut network);
    inv.show(&network, Display::YAML)
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut found = verbs::collect(inv, &NETWORKS)?;
    found.iter_mut().for_each(add_modes);
    inv.list(found, TABLE)
}

/// The two fields that gcloud adds to every network it shows.
fn add_modes(network: &mut Value) {
    let subnet_mode = match network.get("autoCreateSubnetworks").and_then(Value::as_bool) {
        Some(true) => "AUTO",
        Some(false) => "CUSTOM",
        None => "LEGACY",
    };
    let routing = network.pointer("/routingConfig/routingMode").cloned();
    if let Value::Object(map) = network {
        map.insert("x_gcloud_subnet_mode".into(), subnet_mode.into());
        if let Some(routing) = routing {
            map.insert("x_gcloud_bgp_routing_mode".into(), routing);
        }
    }
}
