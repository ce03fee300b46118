//! `gcloud compute network-endpoint-groups`.

mod endpoints;

use serde_json::{Map, Value, json};

use super::link::{Kind, Scopes};
use super::networks::NETWORKS;
use super::subnets::SUBNETS;
use super::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group, Rule};
use crate::gcloud::invocation::{Display, Invocation};

pub const GROUPS: Kind = Kind {
    collection: "networkEndpointGroups",
    scopes: Scopes::RegionGlobalOrZone,
    plural: "network endpoint groups",
};

const TABLE: Display = Display::computed(
    "table(name,location:label=LOCATION,networkEndpointType:label=ENDPOINT_TYPE,size)",
    |group, name| (name == "location").then(|| location(group)).flatten(),
);

const TYPES: &[&str] = &[
    "gce-vm-ip",
    "gce-vm-ip-port",
    "internet-fqdn-port",
    "internet-ip-port",
    "non-gcp-private-ip-port",
    "private-service-connect",
    "serverless",
];

/// What a serverless group may point at: the object's field, and its flags with their fields.
const SERVERLESS: &[(&str, &[(&str, &str)])] = &[
    ("cloudFunction", &[("cloud-function-name", "function"), ("cloud-function-url-mask", "urlMask")]),
    (
        "cloudRun",
        &[("cloud-run-service", "service"), ("cloud-run-tag", "tag"), ("cloud-run-url-mask", "urlMask")],
    ),
    (
        "appEngine",
        &[
            ("app-engine-service", "service"),
            ("app-engine-url-mask", "urlMask"),
            ("app-engine-version", "version"),
        ],
    ),
];

pub fn group() -> Group {
    Group::new("network-endpoint-groups", "Read and manipulate network endpoint groups.")
        .command(
            Command::new("create", "Create a network endpoint group.", create)
                .about(
                    "A serverless group stands for a Cloud Run service: one named by --cloud-run-service, or whichever the URL \
                     names by --cloud-run-url-mask. With the mask <service>, a request for /my-service/path goes to my-service.",
                )
                .arg("NAME", "The name of the group.")
                .flags(scope_flags())
                .flag(Flag::choice("network-endpoint-type", TYPES, "What the endpoints are. Default: gce-vm-ip-port."))
                .flag(Flag::text("cloud-run-service", "The Cloud Run service that requests go to.").metavar("CLOUD_RUN_SERVICE"))
                .flag(Flag::text("cloud-run-tag", "The service's traffic tag."))
                .flag(Flag::text("cloud-run-url-mask", "Where in the URL the service and tag stand, such as <tag>.example.com/<service>."))
                .flag(Flag::text("cloud-function-name", "The function that requests go to."))
                .flag(Flag::text("cloud-function-url-mask", "Where in the URL the function's name stands."))
                .flag(Flag::toggle("app-engine-app", "The project's App Engine application."))
                .flag(Flag::text("app-engine-service", "The App Engine service."))
                .flag(Flag::text("app-engine-version", "The App Engine version."))
                .flag(Flag::text("app-engine-url-mask", "Where in the URL service and version stand."))
                .flag(Flag::text("network", "The network of the endpoints."))
                .flag(Flag::text("subnet", "The subnet of the endpoints."))
                .flag(Flag::int("default-port", "The port of endpoints that name none."))
                .rule(Rule::Exclusive(vec![
                    vec!["cloud-function-name", "cloud-function-url-mask"],
                    vec!["cloud-run-service", "cloud-run-tag", "cloud-run-url-mask"],
                    vec!["app-engine-app", "app-engine-service", "app-engine-url-mask", "app-engine-version"],
                ]))
                .examples(&[
                    "gcloud compute network-endpoint-groups create my-serverless-neg --region=us-central1 --network-endpoint-type=serverless --cloud-run-service=my-internal-service",
                    "gcloud compute network-endpoint-groups create my-flexible-neg --region=us-central1 --network-endpoint-type=serverless --cloud-run-url-mask='<service>'",
                ]),
        )
        .command(
            Command::new("delete", "Delete a network endpoint group.", delete)
                .arg("NAME", "The name of the group.")
                .flags(scope_flags()),
        )
        .command(
            Command::new("describe", "Describe a network endpoint group.", |inv| verbs::describe(inv, &GROUPS, "NAME"))
                .arg("NAME", "The name of the group.")
                .flags(scope_flags()),
        )
        .command(
            Command::new("list", "List network endpoint groups.", |inv| verbs::list(inv, &GROUPS, TABLE))
                .flags(super::list_scope_flags())
                .flag(Flag::list("zones", "Only groups in these zones.").metavar("ZONE")),
        )
        .command(endpoints::list_command())
        .command(endpoints::update_command())
}

/// `--region`, `--global` and `--zone`.
fn scope_flags() -> Vec<Flag> {
    let mut flags = super::scope_flags();
    flags.push(Flag::text("zone", "The zone of the group."));
    flags
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let args = &inv.args;
    let link = GROUPS.resolve(inv, args.name("NAME"))?;
    let kind = args.text("network-endpoint-type").unwrap_or("gce-vm-ip-port");
    let mut body = Map::new();
    body.insert("name".into(), json!(link.name));
    body.insert("networkEndpointType".into(), json!(kind.replace('-', "_").to_uppercase()));
    for (field, flags) in SERVERLESS {
        let inner: Map<String, Value> = flags
            .iter()
            .filter_map(|(flag, field)| Some(((*field).to_owned(), json!(args.text(flag)?))))
            .collect();
        if !inner.is_empty() || (*field == "appEngine" && args.on("app-engine-app")) {
            body.insert((*field).into(), Value::Object(inner));
        }
    }
    if let Some(network) = args.text("network") {
        body.insert("network".into(), json!(NETWORKS.resolve(inv, network)?.url(inv.api.base())));
    }
    if let Some(subnet) = args.text("subnet") {
        body.insert(
            "subnetwork".into(),
            json!(SUBNETS.at(inv, &region_of(&link.scope), subnet)?.url(inv.api.base())),
        );
    }
    if let Some(port) = args.int("default-port") {
        body.insert("defaultPort".into(), json!(port));
    }
    let name = link.name.clone();
    let made = verbs::carry_out(inv, "Created", vec![Change::insert(link, Value::Object(body))])?;
    inv.status(&format!("Created network endpoint group [{name}]."));
    inv.show_made(&made, Display::NOTHING)
}

fn delete(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = GROUPS.resolve(inv, inv.args.name("NAME"))?;
    inv.confirm_or_abort(&format!("You are about to delete network endpoint group: [{}]", link.name))?;
    let name = link.name.clone();
    verbs::carry_out(inv, "Deleted", vec![Change::delete(link)])?;
    inv.status(&format!("Deleted network endpoint group [{name}]."));
    Ok(())
}

/// The region of a scope: a zone's name is its region's with a letter behind.
fn region_of(scope: &super::Scope) -> super::Scope {
    match scope {
        super::Scope::Zone(zone) => {
            super::Scope::Region(zone.rsplit_once('-').map_or(zone.as_str(), |(region, _)| region).to_owned())
        }
        other => other.clone(),
    }
}

/// The region or zone, cut out of the link as gcloud does.
fn location(group: &Value) -> Option<Value> {
    let link = super::Link::parse(group.get("selfLink")?.as_str()?, "")?;
    let location = match link.scope {
        super::Scope::Global => "global".to_owned(),
        super::Scope::Region(name) | super::Scope::Zone(name) => name,
    };
    Some(Value::String(location))
}
