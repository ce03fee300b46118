//! `gcloud compute routes`.

use serde_json::{Value, json};

use super::link::{Kind, Scopes};
use super::verbs;
use crate::gcloud::grammar::{Command, Group};
use crate::gcloud::invocation::Display;

const ROUTES: Kind = Kind { collection: "routes", scopes: Scopes::Global, plural: "routes" };

const TABLE: Display = Display::computed(
    "table(name,network.basename(),destRange,next_hop:label=NEXT_HOP,priority)",
    |route, name| (name == "next_hop").then(|| next_hop(route)).flatten(),
);

const NAME: &str = "NAME";

pub fn group() -> Group {
    Group::new("routes", "Read and delete routes.")
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

/// Where a route leads: the name of a network or a gateway.
fn next_hop(route: &Value) -> Option<Value> {
    let link = ["nextHopGateway", "nextHopNetwork"].iter().find_map(|field| route.get(*field)?.as_str())?;
    // gcloud shows a gateway by its name and a network by its link's end.
    Some(json!(link.rsplit('/').next().unwrap_or(link)))
}
