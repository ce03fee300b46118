//! Network Security v1 (server TLS policies) and Certificate Manager v1 (trust configs), which differ in words alone.
//!
//! The operations of both are at the path of Cloud Run's, which is routed to Cloud Run's v1: that module asks here for
//! what it does not know.

use serde_json::Value;
use vestibule_control::Error;
use vestibule_control::located::{Kind, Located, Place, SERVER_TLS_POLICIES, TRUST_CONFIGS};
use vestibule_model::Service;

use crate::{Call, Ctx, Registry, Reply, list};

/// Entries of a list if the client names no number, and the most it gets.
const PAGE_SIZE: usize = 500;
const MAX_PAGE_SIZE: usize = 1000;

/// The words of a collection.
trait Collection {
    /// Path parameter of one resource.
    const PARAMETER: &'static str;
    /// Query parameter with the id of a new one.
    const ID: &'static str;
    /// Member of a list.
    const MEMBER: &'static str;
    fn kind() -> &'static dyn Kind;
}

struct Policies;

impl Collection for Policies {
    const PARAMETER: &'static str = "serverTlsPoliciesId";
    const ID: &'static str = "serverTlsPolicyId";
    const MEMBER: &'static str = "serverTlsPolicies";
    fn kind() -> &'static dyn Kind {
        &SERVER_TLS_POLICIES
    }
}

struct Trusts;

impl Collection for Trusts {
    const PARAMETER: &'static str = "trustConfigsId";
    const ID: &'static str = "trustConfigId";
    const MEMBER: &'static str = "trustConfigs";
    fn kind() -> &'static dyn Kind {
        &TRUST_CONFIGS
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry
        .service(Service::Networksecurity)
        .add("networksecurity.projects.locations.serverTlsPolicies.create", create::<Policies>)
        .add("networksecurity.projects.locations.serverTlsPolicies.get", get::<Policies>)
        .add("networksecurity.projects.locations.serverTlsPolicies.list", list_all::<Policies>)
        .add("networksecurity.projects.locations.serverTlsPolicies.patch", patch::<Policies>)
        .add("networksecurity.projects.locations.serverTlsPolicies.delete", delete::<Policies>)
        .add("networksecurity.projects.locations.operations.get", operation)
        .add("networksecurity.projects.locations.operations.list", operations)
        .add("networksecurity.projects.locations.operations.delete", delete_operation)
        .add("networksecurity.projects.locations.operations.cancel", cancel);
    registry
        .service(Service::Certificatemanager)
        .add("certificatemanager.projects.locations.trustConfigs.create", create::<Trusts>)
        .add("certificatemanager.projects.locations.trustConfigs.get", get::<Trusts>)
        .add("certificatemanager.projects.locations.trustConfigs.list", list_all::<Trusts>)
        .add("certificatemanager.projects.locations.trustConfigs.patch", patch::<Trusts>)
        .add("certificatemanager.projects.locations.trustConfigs.delete", delete::<Trusts>)
        .add("certificatemanager.projects.locations.operations.get", operation)
        .add("certificatemanager.projects.locations.operations.list", operations)
        .add("certificatemanager.projects.locations.operations.delete", delete_operation)
        .add("certificatemanager.projects.locations.operations.cancel", cancel);
}

fn located<'a>(ctx: &'a Ctx<'_>) -> Located<'a> {
    ctx.control().located()
}

fn place(call: &Call) -> Place<'_> {
    Place { project: call.project(), location: call.param("locationsId") }
}

fn create<C: Collection>(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let id = call.query(C::ID).filter(|id| !id.is_empty()).ok_or_else(|| Error::required(C::ID))?;
    Ok(located(ctx).create(C::kind(), place(&call), id, call.body().clone())?.into())
}

fn get<C: Collection>(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(located(ctx).get(C::kind(), place(&call), call.param(C::PARAMETER))?.into())
}

fn list_all<C: Collection>(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let mut found = located(ctx).list(C::kind(), place(&call));
    if let Some(filter) = call.optional_query("filter").filter(|filter| !filter.is_empty()) {
        let filter = list::Filter::parse(filter)?;
        found.retain(|item| filter.matches(item));
    }
    Ok(list::google(&call, C::MEMBER, PAGE_SIZE, MAX_PAGE_SIZE, found, by_name)?.into())
}

pub(crate) fn by_name(item: &Value) -> String {
    item["name"].as_str().unwrap_or_default().to_owned()
}

fn patch<C: Collection>(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (id, mask) = (call.param(C::PARAMETER), call.query("updateMask"));
    Ok(located(ctx).patch(C::kind(), place(&call), id, call.body().clone(), mask)?.into())
}

fn delete<C: Collection>(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let (id, etag) = (call.param(C::PARAMETER), call.optional_query("etag"));
    Ok(located(ctx).delete(C::kind(), place(&call), id, etag)?.into())
}

pub(crate) fn operation(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(located(ctx).operation(place(&call), call.param("operationsId"))?.into())
}

fn operations(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let found = operations_of(ctx, &call);
    Ok(list::google(&call, "operations", PAGE_SIZE, MAX_PAGE_SIZE, found, by_name)?.into())
}

/// All operations at the path of a call.
pub(crate) fn operations_of(ctx: &Ctx<'_>, call: &Call) -> Vec<Value> {
    located(ctx).operations(place(call))
}

pub(crate) fn delete_operation(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    located(ctx).delete_operation(place(&call), call.param("operationsId"))?;
    Ok(Reply::empty())
}

/// What a change did is committed before its operation can be named: there is nothing to stop.
fn cancel(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    located(ctx).operation(place(&call), call.param("operationsId"))?;
    Ok(Reply::empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::World;

    const POLICIES: &str = "/v1/projects/demo/locations/us-central1/serverTlsPolicies";
    const TRUSTS: &str = "/v1/projects/demo/locations/us-central1/trustConfigs";

    fn pem() -> String {
        rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn a_policy_s_life_over_http() {
        let world = World::new();
        let ok = |verb: &str, path: &str, body: Value| {
            let (status, answer) = world.send(verb, path, body);
            assert_eq!(status, 200, "{verb} {path}: {answer}");
            answer
        };
        let store = json!([{ "trustAnchors": [{ "pemCertificate": pem() }] }]);
        let made = ok("POST", &format!("{TRUSTS}?trustConfigId=t"), json!({ "trustStores": store }));
        assert_eq!((&made["done"], &made["metadata"]["verb"]), (&json!(true), &json!("create")));
        assert_eq!(
            made["response"]["@type"],
            "type.googleapis.com/google.cloud.certificatemanager.v1.TrustConfig"
        );
        let etag = ok("GET", &format!("{TRUSTS}/t"), Value::Null)["etag"].clone();
        let trust = "projects/496268734596/locations/us-central1/trustConfigs/t";
        let body = json!({"name": "p", "mtlsPolicy": {"clientValidationMode": "REJECT_INVALID", "clientValidationTrustConfig": trust}});
        let made = ok("POST", &format!("{POLICIES}?serverTlsPolicyId=p"), body.clone());
        // The path of operations is shared by all APIs.
        let operation = format!("/v1/{}", made["name"].as_str().unwrap());
        assert_eq!(ok("GET", &operation, Value::Null), made);
        let listed = ok("GET", "/v1/projects/demo/locations/us-central1/operations", Value::Null);
        assert_eq!(listed["operations"].as_array().unwrap().len(), 2);
        ok("POST", &format!("{operation}:cancel"), json!({}));
        ok("DELETE", &operation, Value::Null);
        assert_eq!(world.get(&operation).0, 404);
        // What was sent is read as it was sent.
        let read = ok("GET", &format!("{POLICIES}/p"), Value::Null);
        assert_eq!(read["mtlsPolicy"], body["mtlsPolicy"]);
        assert_eq!(read["name"], "projects/demo/locations/us-central1/serverTlsPolicies/p");
        let patched =
            ok("PATCH", &format!("{POLICIES}/p?updateMask=description"), json!({"description": "d"}));
        assert_eq!(patched["response"]["mtlsPolicy"], body["mtlsPolicy"]);
        let all = ok("GET", "/v1/projects/demo/locations/-/serverTlsPolicies", Value::Null);
        assert_eq!(all["serverTlsPolicies"][0]["description"], "d");
        let (status, refused) = world.send("DELETE", &format!("{TRUSTS}/t"), Value::Null);
        assert_eq!((status, &refused["error"]["status"]), (400, &json!("FAILED_PRECONDITION")));
        ok("DELETE", &format!("{POLICIES}/p"), Value::Null);
        let (status, refused) = world.send("DELETE", &format!("{TRUSTS}/t?etag=stale"), Value::Null);
        assert_eq!((status, &refused["error"]["status"]), (409, &json!("ABORTED")));
        ok("DELETE", &format!("{TRUSTS}/t?etag={}", etag.as_str().unwrap()), Value::Null);
        assert_eq!(world.get(&format!("{TRUSTS}/t")).0, 404);
        assert_eq!(ok("GET", TRUSTS, Value::Null), json!({}));
    }
}
