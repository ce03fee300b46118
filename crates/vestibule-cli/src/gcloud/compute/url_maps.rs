//! `gcloud compute url-maps`.

use serde_json::{Value, json};

use super::backend_services::BACKEND_SERVICES;
use super::link::{Kind, Link, Scope, Scopes};
use super::verbs::{self, Change};
use super::{path_matchers, transfer};
use crate::gcloud::error::Failure;
use crate::gcloud::files;
use crate::gcloud::grammar::{Command, Flag, Group, Rule};
use crate::gcloud::invocation::{Display, Invocation};

pub const URL_MAPS: Kind =
    Kind { collection: "urlMaps", scopes: Scopes::GlobalUnlessRegion, plural: "url maps" };

const TABLE: Display = Display::new("table(name,defaultService.type_suffix():label=DEFAULT_SERVICE)");

/// The positional of nearly every command here.
const NAME: &str = "URL_MAP";

pub fn group() -> Group {
    Group::new("url-maps", "List, create, and delete URL maps.")
        .command(
            Command::new("create", "Create a URL map.", create)
                .about("Requests that no path matcher takes go to the default service.")
                .arg(NAME, "The name of the URL map.")
                .flags(super::scope_flags())
                .flag(Flag::text("default-service", "The backend service for requests that nothing else takes."))
                .flag(Flag::text("description", "What the URL map is for."))
                .rule(Rule::OneOf(vec![vec!["default-backend-bucket"], vec!["default-service"]]))
                .examples(&["gcloud compute url-maps create my-internal-url-map --default-service=my-internal-backend --region=us-central1"]),
        )
        .command(path_matchers::add_path_matcher_command())
        .command(path_matchers::remove_path_matcher_command())
        .command(path_matchers::add_host_rule_command())
        .command(path_matchers::remove_host_rule_command())
        .command(
            Command::new("set-default-service", "Change the default service of a URL map.", set_default_service)
                .arg(NAME, "The name of the URL map.")
                .flags(super::scope_flags())
                .flag(Flag::text("default-service", "The new default service."))
                .flag(Flag::text("path-matcher-name", "Changes this path matcher's default instead of the map's."))
                .rule(Rule::OneOf(vec![vec!["default-backend-bucket"], vec!["default-service"]])),
        )
        .command(
            Command::new("invalidate-cdn-cache", "Invalidate specified objects for a URL map in CDN caches.", invalidate)
                .arg(NAME, "The name of the URL map.")
                .flags(super::scope_flags())
                .flag(Flag::text("path", "The path to invalidate; a trailing * takes all below.").required())
                .flag(Flag::text("host", "Only under this host."))
                .flag(Flag::switch("async", "Do not wait.")),
        )
        .command(
            Command::new("delete", "Delete URL maps.", |inv| verbs::delete(inv, &URL_MAPS, NAME))
                .args(NAME, "The names of the URL maps.")
                .flags(super::scope_flags()),
        )
        .command(
            Command::new("describe", "Describe a URL map.", |inv| verbs::describe(inv, &URL_MAPS, NAME))
                .arg(NAME, "The name of the URL map.")
                .flags(super::scope_flags()),
        )
        .command(Command::new("list", "List URL maps.", |inv| verbs::list(inv, &URL_MAPS, TABLE)).flags(super::list_scope_flags()))
        .command(
            Command::new("export", "Export a URL map.", |inv| transfer::export(inv, &URL_MAPS, NAME))
                .arg(NAME, "The name of the URL map.")
                .flags(super::scope_flags())
                .flag(files::destination_flag()),
        )
        .command(
            Command::new("import", "Import a URL map.", |inv| transfer::import(inv, &transfer::URL_MAP, NAME))
                .about("An existing map of the name is replaced by the file's.")
                .arg(NAME, "The name of the URL map.")
                .flags(super::scope_flags())
                .flag(files::source_flag()),
        )
        .command(
            Command::new("validate", "Validate a URL map.", validate)
                .about("Loads the map and runs its tests, without storing it.")
                .flags(super::scope_flags())
                .flag(files::source_flag())
                .flag(Flag::choice("load-balancing-scheme", &["EXTERNAL", "EXTERNAL_MANAGED", "INTERNAL_MANAGED"], "The kind of load balancer the map is for.")),
        )
}

/// A backend service beside a URL map: its own scope, unless it is a URL.
pub fn backend_url(inv: &Invocation<'_>, scope: &Scope, name: &str) -> Result<String, Failure> {
    Ok(BACKEND_SERVICES.at(inv, scope, name)?.url(inv.api.base()))
}

/// Whether two references name the same resource, whatever their form.
pub fn is_same(inv: &Invocation<'_>, a: &str, b: &str) -> bool {
    let project = inv.project();
    a == b || (Link::parse(a, &project).is_some() && Link::parse(a, &project) == Link::parse(b, &project))
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = URL_MAPS.resolve(inv, inv.args.name(NAME))?;
    let service = backend_url(inv, &link.scope, inv.args.text("default-service").unwrap_or_default())?;
    let mut body = json!({"name": link.name, "defaultService": service});
    if let Some(description) = inv.args.text("description") {
        body["description"] = json!(description);
    }
    verbs::create(inv, link, body, TABLE)
}

fn set_default_service(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = URL_MAPS.resolve(inv, inv.args.name(NAME))?;
    let service = backend_url(inv, &link.scope, inv.args.text("default-service").unwrap_or_default())?;
    let old = verbs::read(inv, &link)?;
    let mut map = old.clone();
    let place = match inv.args.text("path-matcher-name") {
        None => &mut map,
        Some(name) => {
            let named = |matcher: &&mut Value| matcher.get("name").and_then(Value::as_str) == Some(name);
            let found = map
                .get_mut("pathMatchers")
                .and_then(Value::as_array_mut)
                .and_then(|all| all.iter_mut().find(named));
            found.ok_or_else(|| Failure::new(format!("No path matcher with the name [{name}] was found.")))?
        }
    };
    let unchanged =
        place.get("defaultService").and_then(Value::as_str).is_some_and(|old| is_same(inv, old, &service));
    if unchanged {
        inv.status(&format!("No change requested; skipping update for [{}].", link.name));
        return inv.show_made(&[old], Display::NOTHING);
    }
    place["defaultService"] = json!(service);
    verbs::update(inv, Change::put(link, map))
}

fn invalidate(inv: &Invocation<'_>) -> Result<(), Failure> {
    if inv.args.has("region") {
        return Err(Failure::new(
            "Invalid flag [--region]: Regional URL maps do not support Cloud CDN caching.",
        ));
    }
    let link = URL_MAPS.resolve(inv, inv.args.name(NAME))?;
    let mut body = json!({"path": inv.args.text("path")});
    if let Some(host) = inv.args.text("host") {
        body["host"] = json!(host);
    }
    let made = verbs::carry_out(
        inv,
        "Completed invalidation for",
        vec![Change::call(link, "invalidateCache", body)],
    )?;
    inv.show_made(&made, Display::NOTHING)
}

fn validate(inv: &Invocation<'_>) -> Result<(), Failure> {
    let map = files::read_source(inv)?;
    let name = map.get("name").and_then(Value::as_str).unwrap_or_default();
    let link = URL_MAPS.resolve(inv, name)?;
    let mut body = json!({"resource": map});
    if let Some(scheme) = inv.args.text("load-balancing-scheme") {
        body["loadBalancingSchemes"] = json!([scheme]);
    }
    let answer = inv.api.post(&format!("{}/validate?alt=json", link.path()), &body)?;
    match answer.is_success() {
        true => inv.show(&answer.body, Display::YAML),
        false => Err(Failure::compute(&[answer.error_message()])),
    }
}
