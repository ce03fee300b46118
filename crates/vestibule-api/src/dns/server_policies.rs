//! Cloud DNS v1: server policies, response policies and their rules.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use vestibule_control::dns::PolicyKind::{self, Response, Server};
use vestibule_control::{Document, Error};

use super::{Dns, listed, text};
use crate::{Call, Ctx, Methods, Reply};

pub(super) fn register(methods: &mut Methods<'_>) {
    methods
        .add("dns.policies.create", |ctx, call| create(ctx, &call, Server))
        .add("dns.policies.get", |ctx, call| get(ctx, &call, Server))
        .add("dns.policies.list", |ctx, call| list(ctx, &call, Server))
        .add("dns.policies.patch", |ctx, call| change(ctx, &call, Server, false))
        .add("dns.policies.update", |ctx, call| change(ctx, &call, Server, true))
        .add("dns.policies.delete", |ctx, call| delete(ctx, &call, Server))
        .add("dns.responsePolicies.create", |ctx, call| create(ctx, &call, Response))
        .add("dns.responsePolicies.get", |ctx, call| get(ctx, &call, Response))
        .add("dns.responsePolicies.list", |ctx, call| list(ctx, &call, Response))
        .add("dns.responsePolicies.patch", |ctx, call| change(ctx, &call, Response, false))
        .add("dns.responsePolicies.update", |ctx, call| change(ctx, &call, Response, true))
        .add("dns.responsePolicies.delete", |ctx, call| delete(ctx, &call, Response))
        .add("dns.responsePolicyRules.create", |ctx, call| {
            rule(ctx, &call, |dns, at, body| dns.create_rule(at.project, at.policy, body))
        })
        .add("dns.responsePolicyRules.get", |ctx, call| {
            rule(ctx, &call, |dns, at, _| dns.rule(at.project, at.policy, at.rule))
        })
        .add("dns.responsePolicyRules.list", list_rules)
        .add("dns.responsePolicyRules.patch", |ctx, call| change_rule(ctx, &call, false))
        .add("dns.responsePolicyRules.update", |ctx, call| change_rule(ctx, &call, true))
        .add("dns.responsePolicyRules.delete", delete_rule);
}

/// The name of the policy in the path.
fn name(call: &Call, kind: PolicyKind) -> &str {
    call.param(kind.entity())
}

fn create(ctx: &Ctx<'_>, call: &Call, kind: PolicyKind) -> Result<Reply, Error> {
    Ok(ctx.control().dns().create_policy(kind, call.project(), call.body().clone())?.into())
}

fn get(ctx: &Ctx<'_>, call: &Call, kind: PolicyKind) -> Result<Reply, Error> {
    Ok(ctx.control().dns().policy(kind, call.project(), name(call, kind))?.into())
}

fn list(ctx: &Ctx<'_>, call: &Call, kind: PolicyKind) -> Result<Reply, Error> {
    let policies = ctx.control().dns().policies(kind, call.project());
    // Google's answer has no word for itself here.
    let word = (kind == Server).then_some("dns#policiesListResponse");
    listed(call, word, kind.collection(), policies, |policy| text(policy, kind.name_field()))
}

/// Answers the new policy inside of a member.
fn change(ctx: &Ctx<'_>, call: &Call, kind: PolicyKind, replace: bool) -> Result<Reply, Error> {
    let dns = ctx.control().dns();
    let policy = dns.change_policy(kind, call.project(), name(call, kind), call.body().clone(), replace)?;
    Ok(inside(kind.entity(), policy))
}

fn delete(ctx: &Ctx<'_>, call: &Call, kind: PolicyKind) -> Result<Reply, Error> {
    ctx.control().dns().delete_policy(kind, call.project(), name(call, kind))?;
    Ok(nothing())
}

/// What the path of a rule names.
struct At<'a> {
    project: &'a str,
    policy: &'a str,
    rule: &'a str,
}

fn at(call: &Call) -> At<'_> {
    let rule = call.optional_param("responsePolicyRule").unwrap_or_default();
    At { project: call.project(), policy: name(call, Response), rule }
}

fn rule(
    ctx: &Ctx<'_>,
    call: &Call,
    run: impl FnOnce(Dns<'_>, At<'_>, Document) -> Result<Value, Error>,
) -> Result<Reply, Error> {
    Ok(run(ctx.control().dns(), at(call), call.body().clone())?.into())
}

fn list_rules(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let At { project, policy, .. } = at(&call);
    let rules = ctx.control().dns().rules(project, policy)?;
    listed(&call, None, "responsePolicyRules", rules, |rule| text(rule, "ruleName"))
}

fn change_rule(ctx: &Ctx<'_>, call: &Call, replace: bool) -> Result<Reply, Error> {
    let At { project, policy, rule } = at(call);
    let changed = ctx.control().dns().change_rule(project, policy, rule, call.body().clone(), replace)?;
    Ok(inside("responsePolicyRule", changed))
}

fn delete_rule(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let At { project, policy, rule } = at(&call);
    ctx.control().dns().delete_rule(project, policy, rule)?;
    Ok(nothing())
}

fn inside(member: &str, value: Value) -> Reply {
    json!({ member: value }).into()
}

fn nothing() -> Reply {
    Reply::raw("application/json; charset=UTF-8", Bytes::new()).with_status(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NETWORK, resolved, world};
    use super::*;
    use crate::testing::World;

    const POLICIES: &str = "/dns/v1/projects/demo/policies";
    const RESPONSES: &str = "/dns/v1/projects/demo/responsePolicies";

    fn delete(world: &World, path: &str) -> (u16, Value) {
        let answer = world.request(http::Request::delete(path).body(Bytes::new()).unwrap());
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }

    /// As gcloud and Terraform send them, one after the other.
    #[test]
    fn server_policies() {
        let (world, resolver, _reconciler) = world();
        let body = json!({
            "name": "p", "description": "d", "enableInboundForwarding": false, "enableLogging": false,
            "dns64Config": { "scope": { "allQueries": false } }, "networks": [{ "networkUrl": NETWORK }],
        });
        let (status, made) = world.send("POST", POLICIES, body);
        assert_eq!(
            (status, &made["kind"], &made["networks"][0]["kind"]),
            (200, &json!("dns#policy"), &json!("dns#policyNetwork")),
            "{made}"
        );
        let path = format!("{POLICIES}/p");
        assert_eq!(world.get(&path), (200, made.clone()));
        let (_, list) = world.get(&format!("{POLICIES}?maxResults=100"));
        assert_eq!(list, json!({ "kind": "dns#policiesListResponse", "policies": [made.clone()] }));
        let mut whole = made.clone();
        whole["description"] = json!("e");
        let (status, updated) = world.send("PUT", &path, whole.clone());
        assert_eq!((status, &updated["policy"]), (200, &whole));
        let servers = json!({ "targetNameServers": [{ "ipv4Address": "192.0.2.1" }] });
        let (status, patched) = world.send("PATCH", &path, json!({ "alternativeNameServerConfig": servers }));
        assert_eq!((status, &patched["policy"]["description"]), (200, &json!("e")));
        let network = vestibule_vpc::NetworkId::new("demo", "my-vpc");
        assert_eq!(
            resolver.lookup_local(&network, &"internal.example.com".parse().unwrap(), 6),
            None,
            "asked elsewhere"
        );
        let (status, refused) = delete(&world, &path);
        assert_eq!((status, &refused["error"]["errors"][0]["reason"]), (400, &json!("containerNotEmpty")));
        assert_eq!(world.send("PATCH", &path, json!({ "networks": null })).0, 200);
        assert_eq!(delete(&world, &path).0, 204);
        let (status, gone) = world.get(&path);
        assert_eq!((status, &gone["error"]["status"]), (404, &json!("NOT_FOUND")));
    }

    #[test]
    fn response_policies_and_rules() {
        let (world, resolver, _reconciler) = world();
        let body =
            json!({ "responsePolicyName": "r", "description": "d", "networks": [{ "networkUrl": NETWORK }] });
        let (status, made) = world.send("POST", RESPONSES, body.clone());
        assert_eq!((status, &made["kind"]), (200, &json!("dns#responsePolicy")), "{made}");
        let (status, taken) = world.send("POST", RESPONSES, body);
        assert_eq!((status, &taken["error"]["errors"][0]["reason"]), (409, &json!("alreadyExists")));
        let rules = format!("{RESPONSES}/r/rules");
        let data = |address: &str| json!({ "localDatas": [{ "name": "x.test.", "type": "A", "ttl": 60, "rrdatas": [address] }] });
        let rule = json!({ "ruleName": "one", "dnsName": "x.test.", "localData": data("10.0.0.9") });
        let (status, rule) = world.send("POST", &rules, rule);
        assert_eq!((status, &rule["kind"]), (200, &json!("dns#responsePolicyRule")), "{rule}");
        assert_eq!(resolved(&resolver, "x.test"), ["10.0.0.9"]);
        let one = format!("{rules}/one");
        assert_eq!(world.get(&one), (200, rule.clone()));
        let (_, list) = world.get(&rules);
        assert_eq!(list, json!({ "responsePolicyRules": [rule.clone()] }));
        let (status, patched) = world.send("PATCH", &one, json!({ "localData": data("10.0.0.10") }));
        assert_eq!((status, &patched["responsePolicyRule"]["ruleName"]), (200, &json!("one")));
        assert_eq!(resolved(&resolver, "x.test"), ["10.0.0.10"]);
        assert_eq!(world.send("PUT", &one, rule).0, 200);
        assert_eq!(resolved(&resolver, "x.test"), ["10.0.0.9"]);
        let (_, updated) = world.send("PATCH", &format!("{RESPONSES}/r"), json!({ "networks": [] }));
        assert_eq!(updated["responsePolicy"]["networks"], json!([]));
        assert_eq!(delete(&world, &format!("{RESPONSES}/r")).0, 400, "it holds a rule");
        assert_eq!(delete(&world, &one).0, 204);
        assert_eq!(world.get(&one).0, 404);
        assert_eq!(delete(&world, &format!("{RESPONSES}/r")).0, 204);
        assert_eq!(world.get(&rules).0, 404);
        assert_eq!(world.get(RESPONSES).1, json!({ "responsePolicies": [] }));
    }
}
