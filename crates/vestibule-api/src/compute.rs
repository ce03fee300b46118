//! Google Compute Engine v1.
//!
//! Compute's methods are as regular as its paths: scope, collection, name, verb. So there is no handler for each of
//! them, but one for each thing that can be done, and a table that is built from two others: the published method
//! table says which paths exist, and the control plane's table of kinds says which collections and verbs are built.
//! A kind that the control plane learns is served here at once. What is in the first table and not in the second has
//! no handler, and answers 501.

use serde_json::Value;
use vestibule_control::compute::{self, Info, Kind, ScopeKind, check_scope};
use vestibule_control::{Error, compute::kind_of};
use vestibule_model::route::Method;
use vestibule_model::{ResourceName, Scope, Service};

use crate::{Call, Ctx, Handler, Methods, Registry, Reply, list};

pub(crate) fn register(registry: &mut Registry) {
    let mut methods = registry.service(Service::Compute);
    for method in Service::Compute.methods() {
        if let Some(handler) = Shape::of(method).and_then(|shape| resource_handler(method, &shape)) {
            methods.add(method.id, handler);
        }
    }
    register_operations(&mut methods);
    methods
        .add("compute.subnetworks.listUsable", list_usable_subnetworks)
        .add("compute.sslPolicies.listAvailableFeatures", list_ssl_features)
        .add("compute.regionSslPolicies.listAvailableFeatures", list_ssl_features)
        .add("compute.projects.get", get_project)
        .add("compute.regions.get", get_region)
        .add("compute.regions.list", list_regions)
        .add("compute.zones.get", get_zone)
        .add("compute.zones.list", list_zones);
}

// --- the table ------------------------------------------------------------------------------------------------

/// The regular part of a path, after the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// `None`: over all scopes.
    scope: Option<ScopeKind>,
    collection: &'static str,
    /// Name of the parameter that names the resource.
    item: Option<&'static str>,
    /// The segment behind the resource.
    verb: Option<&'static str>,
}

impl Shape {
    fn of(method: &Method) -> Option<Shape> {
        let path = method.template.strip_prefix("/compute/v1/projects/{project}/")?;
        let parts: Vec<&'static str> = path.split('/').collect();
        let (scope, rest) = match parts.as_slice() {
            ["aggregated", rest @ ..] => (None, rest),
            ["global", rest @ ..] => (Some(ScopeKind::Global), rest),
            ["regions", "{region}", rest @ ..] => (Some(ScopeKind::Region), rest),
            ["zones", "{zone}", rest @ ..] => (Some(ScopeKind::Zone), rest),
            // Some verbs of global resources are older than the word: `projects/p/targetHttpProxies/x/setUrlMap`.
            rest @ [_, item, _] if parameter(item).is_some() => (Some(ScopeKind::Global), rest),
            _ => return None,
        };
        let (collection, item, verb) = match *rest {
            [collection] => (collection, None, None),
            [collection, item] => (collection, Some(parameter(item)?), None),
            [collection, item, verb] => (collection, Some(parameter(item)?), Some(verb)),
            _ => return None,
        };
        Some(Shape { scope, collection, item, verb })
    }

    fn kind(&self) -> Option<&'static dyn Kind> {
        let fits = |kind: &&dyn Kind| {
            let info = kind.info();
            info.collection == self.collection && self.scope.is_none_or(|scope| info.scopes.contains(&scope))
        };
        compute::kinds().find(fits)
    }
}

fn parameter(part: &'static str) -> Option<&'static str> {
    part.strip_prefix('{')?.strip_suffix('}')
}

/// The handler of a method on resources, if the control plane has what it takes.
fn resource_handler(method: &Method, shape: &Shape) -> Option<Handler> {
    let info = shape.kind()?.info();
    let handler: Handler = match (method.verb, shape.scope, shape.item, shape.verb) {
        ("GET", None, None, None) if info.aggregated_kind.is_some() => aggregated,
        (_, None, ..) => return None,
        ("GET", _, None, None) => list,
        ("POST", _, None, None) => insert,
        ("GET", _, Some(_), None) => get,
        ("DELETE", _, Some(_), None) => delete,
        ("PATCH", _, Some(_), None) if info.methods.patch => patch,
        ("PUT", _, Some(_), None) if info.methods.update => update,
        ("POST", _, Some(_), Some(verb)) if acts(info, verb) => act,
        (_, _, Some(_), Some(verb)) if info.questions.contains(&verb) => ask,
        _ => return None,
    };
    Some(handler)
}

fn acts(info: &Info, verb: &str) -> bool {
    info.actions.iter().any(|action| action.verb == verb) || info.labels && verb == "setLabels"
}

// --- resources ------------------------------------------------------------------------------------------------

/// What a call is about.
struct Target {
    scope: Scope,
    collection: &'static str,
    name: Option<String>,
    verb: &'static str,
}

impl Target {
    fn of(call: &Call) -> Result<Target, Error> {
        let shape = Shape::of(call.method).ok_or_else(|| Error::not_implemented(call.method.id))?;
        let scope = match shape.scope {
            Some(ScopeKind::Region) => Scope::region(call.param("region")),
            Some(ScopeKind::Zone) => Scope::zone(call.param("zone")),
            Some(ScopeKind::Global) | None => Scope::Global,
        };
        check_scope(&scope)?;
        let name = shape.item.map(|item| call.param(item).to_owned());
        Ok(Target { scope, collection: shape.collection, name, verb: shape.verb.unwrap_or_default() })
    }

    fn resource(&self, call: &Call) -> ResourceName {
        let name = self.name.as_deref().unwrap_or_default();
        ResourceName::new(call.project(), self.scope.clone(), self.collection, name)
    }
}

/// What the control plane wants to know of a call beside its body.
fn caller(ctx: &Ctx<'_>, call: &Call) -> compute::Call {
    compute::Call {
        user: ctx.user().to_owned(),
        request_id: call.optional_query("requestId").map(str::to_owned),
        parameters: call.queries().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    }
}

fn insert(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let target = Target::of(&call)?;
    let (caller, project) = (caller(ctx, &call), call.project().to_owned());
    let compute = ctx.control().compute();
    Ok(compute.insert(&caller, &project, &target.scope, target.collection, call.document())?.into())
}

fn get(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let name = Target::of(&call)?.resource(&call);
    Ok(ctx.control().compute().get(&name)?.into())
}

fn patch(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let name = Target::of(&call)?.resource(&call);
    let caller = caller(ctx, &call);
    Ok(ctx.control().compute().patch(&caller, &name, call.document())?.into())
}

fn update(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let name = Target::of(&call)?.resource(&call);
    let caller = caller(ctx, &call);
    Ok(ctx.control().compute().update(&caller, &name, call.document())?.into())
}

fn delete(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let name = Target::of(&call)?.resource(&call);
    Ok(ctx.control().compute().delete(&caller(ctx, &call), &name)?.into())
}

fn act(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let target = Target::of(&call)?;
    let (name, caller) = (target.resource(&call), caller(ctx, &call));
    Ok(ctx.control().compute().act(&caller, &name, target.verb, call.document())?.into())
}

fn ask(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let target = Target::of(&call)?;
    let (name, caller) = (target.resource(&call), caller(ctx, &call));
    Ok(ctx.control().compute().ask(&caller, &name, target.verb, call.document())?.into())
}

fn list(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let target = Target::of(&call)?;
    let kind = kind_of(target.collection, &target.scope).map_or("", |kind| kind.info().list_kind);
    let items = ctx.control().compute().list(call.project(), &target.scope, target.collection);
    Ok(list::compute(&call, kind, &target.resource(&call).parent_relative(), items)?.into())
}

fn aggregated(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let shape = Shape::of(call.method).ok_or_else(|| Error::not_implemented(call.method.id))?;
    let kind = shape.kind().and_then(|kind| kind.info().aggregated_kind).unwrap_or_default();
    let scopes = ctx.control().compute().aggregated(call.project(), shape.collection);
    Ok(list::compute_aggregated(&call, kind, shape.collection, scopes)?.into())
}

/// Every subnetwork of the project, in the few words that matter to who wants to use one.
fn list_usable_subnetworks(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let scopes = ctx.control().compute().aggregated(call.project(), "subnetworks");
    let subnetworks = scopes.into_iter().flat_map(|(_, found)| found).collect();
    let parent = format!("projects/{}/aggregated/subnetworks", call.project());
    let mut answer = list::compute(&call, "compute#usableSubnetworksAggregatedList", &parent, subnetworks)?;
    if let Some(Value::Array(items)) = answer.get_mut("items") {
        items.iter_mut().for_each(|item| *item = usable(item));
    }
    Ok(answer.into())
}

fn usable(subnetwork: &Value) -> Value {
    let told = ["ipCidrRange", "network", "purpose", "role", "secondaryIpRanges", "stackType"];
    let told = told.into_iter().filter_map(|field| Some((field.to_owned(), subnetwork.get(field)?.clone())));
    let link = ("subnetwork".to_owned(), subnetwork["selfLink"].clone());
    Value::Object(told.chain([link]).collect())
}

// --- operations -----------------------------------------------------------------------------------------------

fn register_operations(methods: &mut Methods<'_>) {
    for collection in ["globalOperations", "regionOperations", "zoneOperations"] {
        let id = |action: &str| format!("compute.{collection}.{action}");
        methods
            .add(&id("get"), get_operation)
            .add(&id("list"), list_operations)
            .add(&id("delete"), delete_operation)
            .add_waiting(&id("wait"), wait_operation);
    }
    methods.add("compute.globalOperations.aggregatedList", aggregated_operations);
}

fn get_operation(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let scope = Target::of(&call)?.scope;
    Ok(ctx.control().compute().operation(call.project(), &scope, call.param("operation"))?.into())
}

/// Answers at the latest when patience ends, with the operation as it is then.
fn wait_operation(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let scope = Target::of(&call)?.scope;
    let compute = ctx.control().compute();
    Ok(compute.wait(call.project(), &scope, call.param("operation"), ctx.patience())?.into())
}

fn delete_operation(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let scope = Target::of(&call)?.scope;
    ctx.control().compute().delete_operation(call.project(), &scope, call.param("operation"))?;
    Ok(Reply::raw("application/json", "").with_status(http::StatusCode::NO_CONTENT))
}

fn list_operations(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let target = Target::of(&call)?;
    let items = ctx.control().compute().operations(call.project(), &target.scope);
    let parent = target.resource(&call).parent_relative();
    Ok(list::compute(&call, "compute#operationList", &parent, items)?.into())
}

fn aggregated_operations(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let scopes = ctx.control().compute().aggregated_operations(call.project());
    Ok(list::compute_aggregated(&call, "compute#operationAggregatedList", "operations", scopes)?.into())
}

fn list_ssl_features(_ctx: &Ctx<'_>, _call: Call) -> Result<Reply, Error> {
    Ok(serde_json::json!({ "features": compute::ssl_policies::available() }).into())
}

// --- places ---------------------------------------------------------------------------------------------------

fn get_project(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().compute().project(call.project()).into())
}

fn get_region(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().compute().region(call.project(), call.param("region"))?.into())
}

fn get_zone(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(ctx.control().compute().zone(call.project(), call.param("zone"))?.into())
}

fn list_regions(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let regions = ctx.control().compute().regions(call.project());
    places(&call, "compute#regionList", "regions", regions)
}

fn list_zones(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    places(&call, "compute#zoneList", "zones", ctx.control().compute().zones(call.project()))
}

fn places(call: &Call, kind: &str, collection: &str, items: Vec<Value>) -> Result<Reply, Error> {
    let parent = format!("projects/{}/{collection}", call.project());
    Ok(list::compute(call, kind, &parent, items)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use serde_json::json;
    use vestibule_model::route;

    const P: &str = "/compute/v1/projects/demo";

    fn shape(id: &str) -> Option<Shape> {
        Shape::of(route::method(Service::Compute, id).unwrap())
    }

    #[test]
    fn shapes_of_paths() {
        let set_url_map = shape("compute.targetHttpProxies.setUrlMap").unwrap();
        assert_eq!(set_url_map.scope, Some(ScopeKind::Global));
        assert_eq!((set_url_map.collection, set_url_map.verb), ("targetHttpProxies", Some("setUrlMap")));
        let labels = shape("compute.addresses.setLabels").unwrap();
        assert_eq!((labels.scope, labels.item), (Some(ScopeKind::Region), Some("resource")));
        assert_eq!(shape("compute.subnetworks.aggregatedList").unwrap().scope, None);
        assert_eq!(shape("compute.regions.list"), None);
        assert_eq!(shape("compute.projects.get"), None);
    }

    /// The control plane's table must not promise a method that has no path.
    #[test]
    fn every_kind_is_reachable() {
        let shapes: Vec<(&Method, Shape)> =
            Service::Compute.methods().iter().filter_map(|m| Some((m, Shape::of(m)?))).collect();
        for kind in compute::kinds() {
            let info = kind.info();
            let has = |verb: &str, item: bool, action: Option<&str>| {
                info.scopes.iter().any(|scope| {
                    shapes.iter().any(|(method, shape)| {
                        shape.collection == info.collection
                            && shape.scope == Some(*scope)
                            && method.verb == verb
                            && shape.item.is_some() == item
                            && shape.verb == action
                    })
                })
            };
            let what = info.collection;
            assert!(
                has("POST", false, None) && has("GET", true, None) && has("DELETE", true, None),
                "{what}"
            );
            assert!(!info.methods.patch || has("PATCH", true, None), "{what} patch");
            assert!(!info.methods.update || has("PUT", true, None), "{what} update");
            assert!(!info.labels || has("POST", true, Some("setLabels")), "{what} setLabels");
            for action in info.actions {
                assert!(has("POST", true, Some(action.verb)), "{what} {}", action.verb);
            }
            for verb in info.questions {
                assert!(has("POST", true, Some(verb)) || has("GET", true, Some(verb)), "{what} {verb}");
            }
        }
    }

    #[test]
    fn the_calls_that_gcloud_makes_for_a_network_and_its_subnetworks() {
        let world = World::new();
        let body = json!({"autoCreateSubnetworks": false, "name": "my-vpc", "routingConfig": {"routingMode": "REGIONAL"}});
        let (status, operation) = world.send("POST", &format!("{P}/global/networks?alt=json"), body);
        assert_eq!((status, &operation["status"]), (200, &json!("DONE")), "{operation}");
        let name = operation["name"].as_str().unwrap();
        let path = format!("{P}/global/operations/{name}/wait?alt=json");
        assert_eq!(world.send("POST", &path, Value::Null), (200, operation.clone()));
        assert_eq!(world.get(&format!("{P}/global/operations/{name}")), (200, operation));
        let network = "http://127.0.0.1:8470/compute/v1/projects/demo/global/networks/my-vpc";
        let subnets = format!("{P}/regions/us-central1/subnetworks");
        for body in [
            json!({"ipCidrRange": "10.0.0.0/24", "name": "my-subnet", "network": network, "privateIpGoogleAccess": false}),
            json!({
                "ipCidrRange": "10.129.0.0/23", "name": "proxy-only-subnet", "network": network,
                "purpose": "REGIONAL_MANAGED_PROXY", "role": "ACTIVE",
            }),
        ] {
            let (status, operation) = world.send("POST", &format!("{subnets}?alt=json"), body);
            assert_eq!((status, &operation["status"]), (200, &json!("DONE")), "{operation}");
        }
        let (status, network) = world.get(&format!("{P}/global/networks/my-vpc"));
        assert_eq!((status, network["subnetworks"].as_array().unwrap().len()), (200, 2));
        let (_, listed) = world.get(&format!("{subnets}?maxResults=500"));
        assert_eq!(listed["kind"], "compute#subnetworkList");
        assert_eq!(listed["items"][0]["name"], "my-subnet");
        let (_, usable) = world.get(&format!("{P}/aggregated/subnetworks/listUsable"));
        let usable = usable["items"][0].as_object().unwrap();
        assert!(usable["subnetwork"].as_str().unwrap().ends_with("/subnetworks/my-subnet"), "{usable:?}");
        assert!(usable.contains_key("ipCidrRange") && !usable.contains_key("name"), "{usable:?}");
        let (_, all) = world.get(&format!("{P}/aggregated/subnetworks?includeAllScopes=True&maxResults=500"));
        assert_eq!(all["kind"], "compute#subnetworkAggregatedList");
        assert_eq!(all["items"]["regions/us-central1"]["subnetworks"].as_array().unwrap().len(), 2);
        assert_eq!(all["items"]["regions/us-east1"]["warning"]["code"], "NO_RESULTS_ON_PAGE");
    }

    #[test]
    fn refusals_have_computes_envelope() {
        let world = World::new();
        let network = json!({"name": "n", "autoCreateSubnetworks": false});
        world.send("POST", &format!("{P}/global/networks"), network.clone());
        let subnet = json!({"name": "s", "network": "global/networks/n", "ipCidrRange": "10.0.5.0/33"});
        let subnets = format!("{P}/regions/us-central1/subnetworks");
        for (verb, path, body, status, reason) in [
            ("POST", format!("{P}/global/networks"), network, 409, "alreadyExists"),
            ("POST", format!("{P}/global/networks"), json!({"name": "F"}), 400, "invalid"),
            ("POST", format!("{P}/global/networks"), json!({}), 400, "required"),
            ("POST", format!("{P}/global/networks"), json!({"name": "m", "colour": 1}), 400, "badRequest"),
            ("GET", format!("{P}/global/networks/nope"), Value::Null, 404, "notFound"),
            ("DELETE", format!("{P}/global/networks/nope"), Value::Null, 404, "notFound"),
            ("POST", subnets.clone(), subnet, 400, "invalid"),
            ("GET", format!("{P}/global/operations/nope"), Value::Null, 404, "notFound"),
            ("POST", format!("{P}/global/networks/n/addPeering"), json!({}), 501, "notImplemented"),
            ("GET", format!("{P}/global/addresses"), Value::Null, 501, "notImplemented"),
        ] {
            let (code, answer) = world.send(verb, &path, body);
            let error = &answer["error"];
            assert_eq!(
                (code, error["errors"][0]["reason"].as_str()),
                (status, Some(reason)),
                "{verb} {path} {answer}"
            );
            assert_eq!(error["code"], code);
        }
        let good = json!({"name": "s", "network": "global/networks/n", "ipCidrRange": "10.0.5.0/24"});
        world.send("POST", &subnets, good);
        let stale = json!({"description": "x", "fingerprint": "AAAAAAAAAAA="});
        let (code, answer) = world.send("PATCH", &format!("{subnets}/s"), stale);
        assert_eq!((code, answer["error"]["errors"][0]["reason"].as_str()), (412, Some("conditionNotMet")));
    }

    #[test]
    fn parameters_beside_the_body_arrive() {
        let world = World::new();
        let id = "6a0d1b2c-3d4e-5f60-7182-93a4b5c6d7e8";
        let path = format!("{P}/global/networks?requestId={id}");
        let body = json!({"name": "n", "autoCreateSubnetworks": false});
        let first = world.send("POST", &path, body.clone());
        assert_eq!(first.1["clientOperationId"], id);
        assert_eq!(world.send("POST", &path, body), first);
        let (status, operations) = world.get(&format!("{P}/global/operations"));
        assert_eq!((status, operations["items"].as_array().unwrap().len()), (200, 1));
    }

    #[test]
    fn a_deleted_operation_answers_with_nothing() {
        let world = World::new();
        let body = json!({"name": "n", "autoCreateSubnetworks": false});
        let (_, operation) = world.send("POST", &format!("{P}/global/networks"), body);
        let path = format!("{P}/global/operations/{}", operation["name"].as_str().unwrap());
        let request = http::Request::delete(&path).body(bytes::Bytes::new()).unwrap();
        let answer = world.request(request);
        assert_eq!((answer.status().as_u16(), answer.body().len()), (204, 0));
        assert_eq!(world.get(&path).0, 404);
    }

    #[test]
    fn nothing_is_in_a_place_that_google_does_not_have() {
        let world = World::new();
        for (path, field) in [
            ("regions/nowhere-1/backendServices", "region': 'nowhere-1"),
            ("regions/us-central1-a/urlMaps/map", "region': 'us-central1-a"),
            ("zones/us-central1/networkEndpointGroups", "zone': 'us-central1"),
        ] {
            let (status, answer) = world.get(&format!("{P}/{path}"));
            let message = answer["error"]["message"].as_str().unwrap_or_default();
            assert!(status == 400 && message.contains(field), "{path}: {status} {answer}");
        }
    }

    #[test]
    fn places_are_listed() {
        let world = World::new();
        let (_, regions) = world.get(&format!("{P}/regions?maxResults=500"));
        let central =
            regions["items"].as_array().unwrap().iter().find(|region| region["name"] == "us-central1");
        assert_eq!(central.unwrap()["status"], "UP");
        assert_eq!(world.get(&format!("{P}/regions/us-central1")).1, *central.unwrap());
        assert_eq!(world.get(&format!("{P}/zones/us-central1-a")).0, 200);
        assert_eq!(world.get(&format!("{P}/zones/us-central1-z")).0, 404);
        assert_eq!(world.get(P).1["kind"], "compute#project");
    }
}
