//! `gcloud compute routes`.

use serde_json::{Value, json};

use super::link::{Kind, Scopes};
use super::networks::NETWORKS;
use super::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group, Rule};
use crate::gcloud::invocation::{Display, Invocation};

const ROUTES: Kind = Kind { collection: "routes", scopes: Scopes::Global, plural: "routes" };

const TABLE: Display = Display::computed(
    "table(name,network.basename(),destRange,next_hop:label=NEXT_HOP,priority)",
    |route, name| (name == "next_hop").then(|| next_hop(route)).flatten(),
);

const NAME: &str = "NAME";
/// The one gateway there is.
const GATEWAY: &str = "default-internet-gateway";
/// What gcloud sends where nothing is said.
const DEFAULT_PRIORITY: i64 = 1000;

pub fn group() -> Group {
    Group::new("routes", "List, create, and delete routes.")
        .command(
            Command::new("create", "Create a route.", create)
                .arg(NAME, "The name of the route.")
                .flag(Flag::text("network", "The network of the route. Default: default."))
                .flag(Flag::text("destination-range", "Where packets go that follow the route.").required())
                .flag(Flag::text("next-hop-address", "The address of the client that leads there."))
                .flag(Flag::choice(
                    "next-hop-gateway",
                    &[GATEWAY],
                    "The gateway to the internet, which leads nowhere here.",
                ))
                .flag(Flag::int("priority", "0 (first) to 65535. Default: 1000."))
                .flag(Flag::text("description", "What the route is for."))
                .rule(Rule::OneOf(vec![vec!["next-hop-address"], vec!["next-hop-gateway"]])),
        )
        .command(
            Command::new("delete", "Delete routes.", |inv| verbs::delete(inv, &ROUTES, NAME))
                .args(NAME, "The names of the routes."),
        )
        .command(
            Command::new("describe", "Describe a route.", |inv| verbs::describe(inv, &ROUTES, NAME))
                .arg(NAME, "The name of the route."),
        )
        .command(
            Command::new("list", "List routes.", |inv| verbs::list(inv, &ROUTES, TABLE))
                .flags(super::list_flags()),
        )
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let args = &inv.args;
    let link = ROUTES.resolve(inv, args.name(NAME))?;
    let network = NETWORKS.resolve(inv, args.text("network").unwrap_or("default"))?;
    let mut body = json!({
        "name": link.name, "network": network.url(inv.api.base()), "destRange": args.text("destination-range"),
        "priority": args.int("priority").unwrap_or(DEFAULT_PRIORITY),
    });
    if let Some(address) = args.text("next-hop-address") {
        body["nextHopIp"] = json!(address);
    } else {
        let (base, project) = (inv.api.base(), &link.project);
        let gateway = format!("{base}/compute/v1/projects/{project}/global/gateways/{GATEWAY}");
        body["nextHopGateway"] = json!(gateway);
    }
    if let Some(description) = args.text("description") {
        body["description"] = json!(description);
    }
    let made = verbs::carry_out(inv, "Created", vec![Change::insert(link, body)])?;
    inv.show_made(&made, TABLE)
}

/// Where a route leads: an address, or the name of a network or a gateway.
fn next_hop(route: &Value) -> Option<Value> {
    let fields = ["nextHopGateway", "nextHopIp", "nextHopNetwork"];
    let link = fields.iter().find_map(|field| route.get(*field)?.as_str())?;
    // gcloud shows a gateway by its name and a network by its link's end.
    Some(json!(link.rsplit('/').next().unwrap_or(link)))
}
