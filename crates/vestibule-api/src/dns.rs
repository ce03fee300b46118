//! Cloud DNS v1: zones, record sets, changes, policies.
//!
//! Everything here is synchronous: a call that changes something answers when the resolver obeys.

mod server_policies;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value};
use vestibule_control::dns::{Caller, Dns, change_order, project, set_order};
use vestibule_control::{Document, Error};
use vestibule_model::Service;

use crate::list::Listing;
use crate::{Call, Ctx, Registry, Reply, policies};

/// Entries on a page if the client names no number, and the most it gets.
const PAGE_SIZE: usize = 1000;

pub(crate) fn register(registry: &mut Registry) {
    let mut methods = registry.service(Service::Dns);
    server_policies::register(&mut methods);
    methods
        .add("dns.projects.get", |_, call| Ok(project(call.project()).into()))
        .add("dns.managedZones.create", |ctx, call| {
            zone(ctx, call, |dns, at, body| dns.create_zone(at.project, body))
        })
        .add("dns.managedZones.get", |ctx, call| zone(ctx, call, |dns, at, _| dns.zone(at.project, at.zone)))
        .add("dns.managedZones.list", list_zones)
        .add("dns.managedZones.patch", |ctx, call| change_zone(ctx, call, false))
        .add("dns.managedZones.update", |ctx, call| change_zone(ctx, call, true))
        .add("dns.managedZones.delete", delete_zone)
        .add("dns.managedZones.getIamPolicy", get_policy)
        .add("dns.managedZones.setIamPolicy", set_policy)
        .add("dns.managedZones.testIamPermissions", test_permissions)
        .add("dns.managedZoneOperations.get", get_operation)
        .add("dns.managedZoneOperations.list", list_operations)
        .add("dns.resourceRecordSets.create", |ctx, call| {
            zone(ctx, call, |dns, at, body| dns.create_set(at.project, at.zone, body))
        })
        .add("dns.resourceRecordSets.get", |ctx, call| {
            zone(ctx, call, |dns, at, _| dns.set(at.project, at.zone, at.name, at.kind))
        })
        .add("dns.resourceRecordSets.list", list_sets)
        .add("dns.resourceRecordSets.patch", |ctx, call| {
            zone(ctx, call, |dns, at, body| dns.patch_set(at.project, at.zone, at.name, at.kind, body))
        })
        .add("dns.resourceRecordSets.delete", delete_set)
        .add("dns.changes.create", |ctx, call| {
            zone(ctx, call, |dns, at, body| dns.create_change(at.project, at.zone, &body))
        })
        .add("dns.changes.get", get_change)
        .add("dns.changes.list", list_changes);
}

/// What a path names.
struct At<'a> {
    project: &'a str,
    zone: &'a str,
    name: &'a str,
    kind: &'a str,
}

/// Answers a method that gives one document.
fn zone(
    ctx: &Ctx<'_>,
    call: Call,
    run: impl FnOnce(Dns<'_>, At<'_>, Document) -> Result<Value, Error>,
) -> Result<Reply, Error> {
    let part = |name: &str| call.optional_param(name).unwrap_or_default();
    let at =
        At { project: call.project(), zone: part("managedZone"), name: part("name"), kind: part("type") };
    Ok(run(ctx.control().dns(), at, call.body().clone())?.into())
}

fn change_zone(ctx: &Ctx<'_>, call: Call, replace: bool) -> Result<Reply, Error> {
    let operation_id = call.query("clientOperationId");
    let caller = Caller { user: ctx.user(), operation_id };
    let dns = ctx.control().dns();
    let body = call.body().clone();
    Ok(dns.change_zone(call.project(), call.param("managedZone"), &caller, body, replace)?.into())
}

fn delete_zone(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    ctx.control().dns().delete_zone(call.project(), call.param("managedZone"))?;
    Ok(Reply::raw("application/json; charset=UTF-8", Bytes::new()).with_status(StatusCode::NO_CONTENT))
}

/// The zone of a call to one of the policy methods, which name it otherwise.
fn guarded(call: &Call) -> &str {
    call.param("managedZonesId")
}

fn get_policy(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let version = policies::version_in(call.body());
    Ok(ctx.control().dns().zone_policy(call.project(), guarded(&call), version)?.into())
}

fn set_policy(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let request = Value::Object(call.body().clone());
    Ok(ctx.control().dns().set_zone_policy(call.project(), guarded(&call), &request)?.into())
}

fn test_permissions(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let permissions = policies::permissions(call.body());
    let dns = ctx.control().dns();
    Ok(dns.test_zone_permissions(call.project(), guarded(&call), &permissions, ctx.principal())?.into())
}

fn delete_set(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (name, kind) = (call.param("name"), call.param("type"));
    ctx.control().dns().delete_set(call.project(), call.param("managedZone"), name, kind)?;
    Ok(Reply::empty())
}

fn get_operation(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let dns = ctx.control().dns();
    Ok(dns.zone_operation(call.project(), call.param("managedZone"), call.param("operation"))?.into())
}

fn get_change(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let dns = ctx.control().dns();
    Ok(dns.change_of(call.project(), call.param("managedZone"), call.param("changeId"))?.into())
}

fn list_zones(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let zones = ctx.control().dns().zones(call.project(), call.query("dnsName"));
    listed(&call, Some("dns#managedZonesListResponse"), "managedZones", zones, |zone| text(zone, "name"))
}

fn list_operations(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let operations = ctx.control().dns().zone_operations(call.project(), call.param("managedZone"))?;
    let by_id = call.query("sortBy") == Some("id");
    listed(&call, Some("dns#managedZoneOperationsListResponse"), "operations", operations, |operation| {
        let id = text(operation, "id");
        if by_id { id } else { format!("{} {id}", text(operation, "startTime")) }
    })
}

fn list_changes(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let newest_first = match call.query("sortOrder") {
        None | Some("ascending") => false,
        Some("descending") => true,
        Some(other) => {
            return Err(Error::invalid("sortOrder", other, "Must be one of ascending, descending."));
        }
    };
    let changes = ctx.control().dns().changes(call.project(), call.param("managedZone"))?;
    listed(&call, Some("dns#changesListResponse"), "changes", changes, |change| {
        change_order(change, newest_first)
    })
}

fn list_sets(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (name, kind, filter) = (call.query("name"), call.query("type"), call.query("filter"));
    if kind.is_some() && name.is_none() {
        return Err(Error::bad_request("The 'type' parameter needs the 'name' parameter."));
    }
    if filter.is_some() && name.is_some() {
        return Err(Error::bad_request("The 'filter' parameter cannot be used with 'name' and 'type'."));
    }
    let filter = filter.map(SetFilter::parse).transpose()?;
    let mut sets = ctx.control().dns().sets(call.project(), call.param("managedZone"), name, kind)?;
    sets.retain(|set| filter.as_ref().is_none_or(|filter| filter.matches(set)));
    listed(&call, Some("dns#resourceRecordSetsListResponse"), "rrsets", sets, set_order)
}

/// How many items a page has at most; 0 asks for as many as there can be.
fn page_size(call: &Call) -> Result<usize, Error> {
    let Some(asked) = call.query("maxResults") else { return Ok(PAGE_SIZE) };
    match asked.parse::<usize>() {
        Ok(0) => Ok(PAGE_SIZE),
        Ok(size) => Ok(size.min(PAGE_SIZE)),
        Err(_) => Err(Error::Named {
            reason: "invalid",
            message: format!("Invalid value for 'parameters.maxResults': '{asked}'"),
        }),
    }
}

/// `kind` is what the answer says that it is, where Google's says it.
fn listed(
    call: &Call,
    kind: Option<&str>,
    member: &str,
    items: Vec<Value>,
    order: impl Fn(&Value) -> String,
) -> Result<Reply, Error> {
    let listing = Listing {
        size: page_size(call)?,
        token: call.query("pageToken").map(str::to_owned),
        ..Listing::default()
    };
    let page = listing.page(items, order)?;
    let mut answer = Map::from_iter([(member.to_owned(), Value::Array(page.items))]);
    if let Some(kind) = kind {
        answer.insert("kind".to_owned(), kind.into());
    }
    if let Some(token) = page.next_page_token {
        answer.insert("nextPageToken".to_owned(), token.into());
    }
    Ok(answer.into())
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// The filter of record sets: `name="www.example.com."` or `name=has_suffix("example.com.")`, and perhaps
/// `AND type="A"`.
#[derive(Debug, PartialEq, Eq)]
struct SetFilter {
    name: String,
    suffix: bool,
    kind: Option<String>,
}

impl SetFilter {
    fn parse(text: &str) -> Result<SetFilter, Error> {
        let wrong = || {
            let why = "Expected name=\"…\" or name=has_suffix(\"…\"), and perhaps AND type=\"…\".";
            Error::invalid("filter", text, why)
        };
        let mut filter = SetFilter { name: String::new(), suffix: false, kind: None };
        for term in text.split(" AND ") {
            let (field, value) = term.split_once('=').ok_or_else(wrong)?;
            let value = value.trim();
            match field.trim().trim_matches('`') {
                "name" if filter.name.is_empty() => {
                    let call = value.trim_start_matches('`').strip_prefix("has_suffix");
                    let inside = call.map(|rest| rest.trim_start_matches('`').trim());
                    let inside =
                        inside.map(|rest| rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')));
                    filter.suffix = inside.is_some();
                    filter.name = unquoted(inside.map_or(Some(value), |inside| inside).ok_or_else(wrong)?);
                }
                "type" if filter.kind.is_none() => filter.kind = Some(unquoted(value)),
                _ => return Err(wrong()),
            }
        }
        if filter.name.is_empty() { Err(wrong()) } else { Ok(filter) }
    }

    fn matches(&self, set: &Value) -> bool {
        let name = text(set, "name").to_ascii_lowercase();
        let wanted = self.name.to_ascii_lowercase();
        let fits = match self.suffix {
            true => name == wanted || name.ends_with(&format!(".{}", wanted.trim_start_matches('.'))),
            false => name == wanted,
        };
        fits && self.kind.as_ref().is_none_or(|kind| set["type"].as_str() == Some(kind))
    }
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use http::Request;
    use serde_json::json;
    use vestibule_control::dns::{Reconciler, start};
    use vestibule_dns::Resolver;
    use vestibule_vpc::NetworkId;

    const ZONES: &str = "/dns/v1/projects/demo/managedZones";
    const SETS: &str = "/dns/v1/projects/demo/managedZones/internal-zone/rrsets";

    pub(super) const NETWORK: &str = "http://127.0.0.1:8470/compute/v1/projects/demo/global/networks/my-vpc";

    /// A world with the network `my-vpc`, the zone of the published set-up, and a resolver.
    pub(super) fn world() -> (World, Resolver, Reconciler) {
        let world = World::new();
        let resolver = Resolver::new(Vec::new());
        let reconciler = start(world.api.deps().control.clone(), resolver.clone(), None).unwrap();
        let (status, answer) = world.send(
            "POST",
            "/compute/v1/projects/demo/global/networks",
            json!({ "name": "my-vpc", "autoCreateSubnetworks": false }),
        );
        assert_eq!(status, 200, "{answer}");
        // As gcloud sends it: no kind, no description, the network on its compute endpoint.
        let body = json!({
            "dnsName": "internal.example.com.", "name": "internal-zone", "visibility": "private",
            "privateVisibilityConfig": { "networks": [{ "networkUrl": NETWORK }] },
        });
        let (status, zone) = world.send("POST", ZONES, body);
        assert_eq!((status, &zone["kind"]), (200, &json!("dns#managedZone")), "{zone}");
        (world, resolver, reconciler)
    }

    #[test]
    fn zones_have_policies() {
        let (world, ..) = world();
        let zone = format!("{ZONES}/internal-zone");
        let post = |verb: &str, body: Value| world.send("POST", &format!("{zone}:{verb}"), body);
        assert_eq!(post("getIamPolicy", json!({})).1["bindings"], Value::Null);
        let binding = json!({ "role": "roles/dns.reader", "members": ["user:reader@example.com"] });
        let (status, set) = post("setIamPolicy", json!({ "policy": { "bindings": [binding] } }));
        assert_eq!((status, &set["bindings"][0]), (200, &binding), "{set}");
        assert_eq!(post("getIamPolicy", json!({})).1["etag"], set["etag"]);
        let permissions = json!({ "permissions": ["dns.changes.create", "nonsense.things.do"] });
        let held = post("testIamPermissions", permissions).1;
        assert_eq!(held["permissions"][0], "dns.changes.create", "the caller owns the project: {held}");
        let (status, refused) = post("setIamPolicy", json!({ "policy": { "bindings": [{ "role": "x" }] } }));
        assert_eq!(status, 400, "{refused}");
        let (status, _) = world.send("POST", &format!("{ZONES}/nope:getIamPolicy"), json!({}));
        assert_eq!(status, 404);
        assert_eq!(world.send("DELETE", &zone, Value::Null).0, 204);
        assert_eq!(post("getIamPolicy", json!({})).0, 404);
    }

    fn add(world: &World, name: &str, data: &[&str]) -> (u16, Value) {
        let body = json!({
            "kind": "dns#resourceRecordSet", "name": name, "rrdatas": data, "ttl": 300, "type": "A",
        });
        world.send("POST", SETS, body)
    }

    pub(super) fn resolved(resolver: &Resolver, name: &str) -> Vec<String> {
        let network = NetworkId::new("demo", "my-vpc");
        let answer = resolver.lookup_local(&network, &name.parse().unwrap(), 1).unwrap();
        answer.addresses().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_published_set_up() {
        let (world, resolver, _reconciler) = world();
        let (status, set) = add(&world, "api.internal.example.com.", &["10.0.0.100"]);
        assert_eq!((status, &set["rrdatas"]), (200, &json!(["10.0.0.100"])));
        assert_eq!(resolved(&resolver, "api.internal.example.com"), ["10.0.0.100"]);
        let (_, list) = world.get(&format!("{SETS}?maxResults=100"));
        assert_eq!(list["kind"], "dns#resourceRecordSetsListResponse");
        let rows: Vec<_> = list["rrsets"].as_array().unwrap().iter().map(|s| text(s, "type")).collect();
        assert_eq!(rows, ["NS", "SOA", "A"]);
        let path = format!("{SETS}/api.internal.example.com./A");
        assert_eq!(world.get(&path), (200, set));
        let body = json!({
            "kind": "dns#resourceRecordSet", "name": "api.internal.example.com.", "rrdatas": ["10.0.0.101"],
            "ttl": 60, "type": "A",
        });
        assert_eq!(world.send("PATCH", &path, body).1["ttl"], 60);
        assert_eq!(resolved(&resolver, "api.internal.example.com"), ["10.0.0.101"]);
        let (status, refused) = world.send("DELETE", &format!("{ZONES}/internal-zone"), Value::Null);
        assert_eq!((status, &refused["error"]["errors"][0]["reason"]), (400, &json!("containerNotEmpty")));
        assert_eq!(world.send("DELETE", &path, Value::Null), (200, json!({})));
        let request = Request::delete(format!("{ZONES}/internal-zone")).body(Bytes::new()).unwrap();
        let response = world.request(request);
        assert_eq!((response.status(), response.body().len()), (StatusCode::NO_CONTENT, 0));
    }

    #[test]
    fn a_transaction_of_gcloud() {
        let (world, resolver, _reconciler) = world();
        let (_, soa) = world.get(&format!("{SETS}?maxResults=100&name=internal.example.com.&type=SOA"));
        let old = soa["rrsets"][0].clone();
        assert_eq!(soa["rrsets"].as_array().unwrap().len(), 1);
        let mut new = old.clone();
        new["rrdatas"][0] =
            json!(text(&json!({ "x": old["rrdatas"][0] }), "x").replace(" 1 21600", " 2 21600"));
        let web = json!({
            "kind": "dns#resourceRecordSet", "name": "web.internal.example.com.", "rrdatas": ["10.0.0.102"],
            "ttl": 300, "type": "A",
        });
        let changes = format!("{ZONES}/internal-zone/changes");
        let body = json!({ "additions": [new, web], "deletions": [old] });
        let (status, change) = world.send("POST", &changes, body.clone());
        assert_eq!(
            (status, &change["id"], &change["status"]),
            (200, &json!("1"), &json!("done")),
            "{change}"
        );
        assert_eq!(world.get(&format!("{changes}/1")), (200, change));
        assert_eq!(resolved(&resolver, "web.internal.example.com"), ["10.0.0.102"]);
        let (status, stale) = world.send("POST", &changes, body);
        assert_eq!((status, &stale["error"]["errors"][0]["reason"]), (412, &json!("conditionNotMet")));
        let ids = |query: &str| -> Vec<String> {
            let (_, list) = world.get(&format!("{changes}?{query}"));
            let changes = list["changes"].as_array().unwrap_or_else(|| panic!("{query}: {list}"));
            changes.iter().map(|change| text(change, "id")).collect()
        };
        assert_eq!(ids("sortBy=changeSequence&sortOrder=descending"), ["1", "0"]);
        assert_eq!(ids(""), ["0", "1"]);
        assert_eq!(world.get(&format!("{changes}?sortOrder=up")).0, 400);
    }

    #[test]
    fn updates_answer_operations() {
        let (world, _, _reconciler) = world();
        let path = format!("{ZONES}/internal-zone");
        let body = json!({ "description": "hello", "name": "internal-zone" });
        let (status, operation) = world.send("PATCH", &path, body);
        assert_eq!((status, &operation["status"]), (200, &json!("done")));
        let id = text(&operation, "id");
        assert_eq!(world.get(&format!("{path}/operations/{id}")), (200, operation));
        let (_, mut zone) = world.get(&path);
        assert_eq!(zone["description"], "hello");
        zone["description"] = json!("whole");
        assert_eq!(world.send("PUT", &format!("{path}?clientOperationId=mine"), zone).1["id"], "mine");
        assert_eq!(world.get(&format!("{path}/operations")).1["operations"].as_array().unwrap().len(), 2);
        assert_eq!(world.get(&path).1["description"], "whole");
    }

    #[test]
    fn lists_have_pages_and_filters() {
        let (world, _, _reconciler) = world();
        for name in ["b", "a", "x.a", "c"] {
            assert_eq!(add(&world, &format!("{name}.internal.example.com."), &["10.0.0.1"]).0, 200);
        }
        let (mut names, mut token) = (Vec::new(), String::new());
        loop {
            let (_, page) = world.get(&format!("{SETS}?maxResults=2&pageToken={token}"));
            names.extend(page["rrsets"].as_array().unwrap().iter().map(|s| text(s, "name")));
            match page["nextPageToken"].as_str() {
                Some(next) => token = next.to_owned(),
                None => break,
            }
        }
        let short: Vec<_> = names.iter().map(|n| n.trim_end_matches("internal.example.com.")).collect();
        assert_eq!(short, ["", "", "a.", "x.a.", "b.", "c."]);
        let count = |query: &str| world.get(&format!("{SETS}?{query}")).1["rrsets"].as_array().map(Vec::len);
        assert_eq!(
            count("filter=name%3Dhas_suffix(%22a.internal.example.com.%22)%20AND%20type%3D%22A%22"),
            Some(2)
        );
        assert_eq!(count("filter=name%3D%22b.internal.example.com.%22"), Some(1));
        assert_eq!(count("name=nope.internal.example.com."), Some(0));
        assert_eq!(world.get(&format!("{SETS}?type=A")).0, 400);
        assert_eq!(world.get(&format!("{SETS}?filter=ttl%3D1")).0, 400);
        let zones =
            |query: &str| world.get(&format!("{ZONES}?{query}")).1["managedZones"].as_array().map(Vec::len);
        assert_eq!((zones("maxResults=100"), zones("dnsName=other.")), (Some(1), Some(0)));
        let (status, body) = world.get(&format!("{ZONES}?maxResults=-1"));
        assert_eq!((status, &body["error"]["errors"][0]["reason"]), (400, &json!("invalid")));
    }

    #[test]
    fn what_is_missing_is_told_in_both_styles() {
        let (world, _, _reconciler) = world();
        let (status, body) = world.get(&format!("{ZONES}/nope/rrsets?maxResults=100"));
        let message = "The 'parameters.managedZone' resource named 'nope' does not exist.";
        let errors = json!([{ "message": message, "domain": "global", "reason": "notFound" }]);
        assert_eq!(status, 404);
        assert_eq!(
            body,
            json!({ "error": { "code": 404, "message": message, "errors": errors, "status": "NOT_FOUND" } })
        );
        assert_eq!(world.get(&format!("{SETS}/nope.internal.example.com./A")).0, 404);
        let (status, body) = add(&world, "api.elsewhere.", &["10.0.0.1"]);
        assert_eq!((status, &body["error"]["errors"][0]["reason"]), (400, &json!("invalid")));
        let (status, quota) = world.get("/dns/v1/projects/demo");
        assert_eq!((status, &quota["quota"]["resourceRecordsPerRrset"]), (200, &json!(100)));
        assert_eq!(world.get(&format!("{ZONES}/internal-zone/dnsKeys")).0, 501);
    }

    #[test]
    fn filters_are_read() {
        let filter = |name: &str, suffix, kind: Option<&str>| SetFilter {
            name: name.to_owned(),
            suffix,
            kind: kind.map(str::to_owned),
        };
        for (text, expected) in [
            ("name=\"a.\"", filter("a.", false, None)),
            ("name = \"a.\" AND type = \"A\"", filter("a.", false, Some("A"))),
            ("name=has_suffix(\"a.\")", filter("a.", true, None)),
            ("`name`=`has_suffix`(\"a.\") AND type=\"A\"", filter("a.", true, Some("A"))),
        ] {
            assert_eq!(SetFilter::parse(text).unwrap(), expected, "{text}");
        }
        for wrong in ["", "a", "type=\"A\"", "name=has_suffix", "name=\"a.\" AND name=\"b.\"", "ttl=1"] {
            assert!(SetFilter::parse(wrong).is_err(), "{wrong}");
        }
    }
}
