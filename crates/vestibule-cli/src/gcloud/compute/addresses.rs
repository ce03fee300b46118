//! `gcloud compute addresses`.

use serde_json::{Map, Value, json};

use super::link::{Kind, Scopes};
use super::networks::NETWORKS;
use super::subnets::SUBNETS;
use super::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group};
use crate::gcloud::invocation::{Display, Invocation};

pub const ADDRESSES: Kind =
    Kind { collection: "addresses", scopes: Scopes::RegionOrGlobal, plural: "addresses" };

const TABLE: Display = Display::computed(
    "table(name,address_range:label=ADDRESS/RANGE,addressType:label=TYPE,purpose,network.basename(),region.basename(),\
     subnetwork.basename():label=SUBNET,status)",
    |address, name| (name == "address_range").then(|| address_range(address)).flatten(),
);

const PURPOSES: &[&str] = &[
    "GCE_ENDPOINT",
    "IPSEC_INTERCONNECT",
    "PRIVATE_SERVICE_CONNECT",
    "SHARED_LOADBALANCER_VIP",
    "VPC_PEERING",
];

const NAME: &str = "NAME";

pub fn group() -> Group {
    Group::new("addresses", "Read and manipulate reserved addresses.")
        .command(
            Command::new("create", "Reserve IP addresses.", create)
                .about("Without --addresses, free addresses of the subnet are taken. Every word is a name: an address goes to --addresses.")
                .optional_args(NAME, "The names of the addresses.")
                .flags(super::scope_flags())
                .flag(Flag::list("addresses", "The addresses, one for each name.").metavar("ADDRESS"))
                .flag(Flag::text("subnet", "The subnet of internal addresses."))
                .flag(Flag::text("network", "The network of internal addresses."))
                .flag(Flag::choice("purpose", PURPOSES, "What internal addresses are for. Default: GCE_ENDPOINT."))
                .flag(Flag::int("prefix-length", "Reserves a range of this prefix length."))
                .flag(Flag::choice("network-tier", &["PREMIUM", "STANDARD"], "The tier of external addresses."))
                .flag(Flag::text("description", "What the addresses are for.")),
        )
        .command(
            Command::new("delete", "Release reserved IP addresses.", |inv| verbs::delete(inv, &ADDRESSES, NAME))
                .args(NAME, "The names of the addresses.")
                .flags(super::scope_flags()),
        )
        .command(
            Command::new("describe", "Describe a reserved address.", |inv| verbs::describe(inv, &ADDRESSES, NAME))
                .arg(NAME, "The name of the address.")
                .flags(super::scope_flags()),
        )
        .command(Command::new("list", "List reserved addresses.", |inv| verbs::list(inv, &ADDRESSES, TABLE)).flags(super::list_scope_flags()))
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let args = &inv.args;
    let addresses = args.list("addresses").unwrap_or_default();
    let names: Vec<String> = match args.words(NAME) {
        [] => addresses.iter().map(|_| generated_name()).collect(),
        words => words.to_vec(),
    };
    if names.is_empty() {
        return Err(Failure::new(
            "Missing required argument [NAME, --address]: At least one name or address must be provided.",
        ));
    }
    if !addresses.is_empty() && addresses.len() != names.len() {
        return Err(Failure::new(
            "Missing required argument [--addresses]: If providing both, you must specify the same number of names as addresses.",
        ));
    }
    let mut changes = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let link = ADDRESSES.resolve(inv, name)?;
        let mut body = Map::new();
        body.insert("name".into(), json!(link.name));
        if let Some(address) = addresses.get(index) {
            body.insert("address".into(), json!(address));
        }
        if args.has_any(&["subnet", "network"]) {
            body.insert("addressType".into(), json!("INTERNAL"));
            let default = if args.has("subnet") { "GCE_ENDPOINT" } else { "VPC_PEERING" };
            body.insert("purpose".into(), json!(args.text("purpose").unwrap_or(default)));
        }
        if let Some(subnet) = args.text("subnet") {
            body.insert(
                "subnetwork".into(),
                json!(SUBNETS.at(inv, &link.scope, subnet)?.url(inv.api.base())),
            );
        }
        if let Some(network) = args.text("network") {
            body.insert("network".into(), json!(NETWORKS.resolve(inv, network)?.url(inv.api.base())));
        }
        if let Some(length) = args.int("prefix-length") {
            body.insert("prefixLength".into(), json!(length));
        }
        for (flag, field) in [("network-tier", "networkTier"), ("description", "description")] {
            if let Some(value) = args.text(flag) {
                body.insert(field.into(), json!(value));
            }
        }
        changes.push(Change::insert(link, Value::Object(body)));
    }
    let made = verbs::carry_out(inv, "Created", changes)?;
    inv.show_made(&made, Display::NOTHING)
}

/// A name nobody chose, such as `address-k3v9x2q8w1ab`.
fn generated_name() -> String {
    let tail: String = std::iter::repeat_with(fastrand::lowercase).take(12).collect();
    format!("address-{tail}")
}

fn address_range(address: &Value) -> Option<Value> {
    let plain = address.get("address")?.as_str()?;
    Some(match address.get("prefixLength").and_then(Value::as_i64) {
        Some(length) => json!(format!("{plain}/{length}")),
        None => json!(plain),
    })
}
