//! `gcloud dns response-policies rules`.

use serde_json::{Map, Value, json};

use super::policies::{JSON, RESPONSE_POLICY, response_policy_path, without_empty};
use super::{pages, shown};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group, Kind, split_pairs};
use crate::gcloud::invocation::Invocation;
use crate::gcloud::segment;
use crate::gcloud::tree::list_flags;

const BYPASS: &str = "bypassResponsePolicy";

const RULE: &str = "RESPONSE_POLICY_RULE";

pub fn group() -> Group {
    let name = "The name of the rule.";
    Group::new("rules", "Manage your Cloud DNS response policy rules.")
        .command(
            Command::new("create", "Creates a new Cloud DNS response policy rule.", create)
                .arg(RULE, name)
                .flag(policy_flag())
                .flag(dns_name().required())
                .flags(actions())
                .examples(&["gcloud dns response-policies rules create my-rule --response-policy=my-response-policy --dns-name=www.example.com. --local-data=name=www.example.com.,type=A,ttl=300,rrdatas=10.0.0.100"]),
        )
        .command(Command::new("update", "Updates a new Cloud DNS response policy rule.", update).arg(RULE, name).flag(policy_flag()).flag(dns_name()).flags(actions()))
        .command(Command::new("delete", "Deletes a Cloud DNS response policy rule.", delete).arg(RULE, name).flag(policy_flag()))
        .command(Command::new("describe", "Shows details about a Cloud DNS response policy rule.", describe).arg(RULE, name).flag(policy_flag()))
        .command(
            Command::new("list", "Displays the list of all a Cloud DNS response policy rules.", list)
                .arg(RESPONSE_POLICY, "The response policy.")
                .flags(list_flags()),
        )
}

fn policy_flag() -> Flag {
    Flag::text("response-policy", "The response policy that the rule belongs to.").required()
}

fn dns_name() -> Flag {
    Flag::text("dns-name", "The name that the rule is for: exact, or *. and a name for all below it.")
}

fn actions() -> Vec<Flag> {
    vec![
        Flag::choice(
            "behavior",
            &["behaviorUnspecified", BYPASS],
            "bypassResponsePolicy: the name is resolved as if there were no policy.",
        ),
        Flag::new(
            "local-data",
            Kind::Repeated,
            "A record set: name=NAME,type=TYPE,ttl=TTL,rrdatas=DATA|DATA.",
        )
        .metavar("LOCAL_DATA"),
    ]
}

fn rules_path(inv: &Invocation<'_>, policy: &str) -> String {
    format!("{}/rules", response_policy_path(inv, policy))
}

fn path(inv: &Invocation<'_>) -> String {
    let policy = inv.args.text("response-policy").unwrap_or_default();
    format!("{}/{}", rules_path(inv, policy), segment(inv.args.name(RULE)))
}

/// Writes what the command line says of a rule into it.
fn apply(inv: &Invocation<'_>, body: &mut Map<String, Value>) -> Result<(), Failure> {
    if let Some(name) = inv.args.text("dns-name") {
        body.insert("dnsName".into(), json!(name));
    }
    if let Some(sets) = inv.args.list("local-data") {
        let sets = sets.iter().map(|text| record_set(text)).collect::<Result<Vec<Value>, Failure>>()?;
        body.remove("behavior");
        body.insert("localData".into(), json!({"localDatas": sets}));
    }
    if let Some(behavior) = inv.args.text("behavior") {
        body.remove("localData");
        match behavior {
            BYPASS => body.insert("behavior".into(), json!(behavior)),
            _ => body.remove("behavior"),
        };
    }
    Ok(())
}

/// `name=…,type=…,ttl=…,rrdatas=…|…` as a record set.
fn record_set(text: &str) -> Result<Value, Failure> {
    let wrong = |why: String| Failure::new(format!("argument --local-data: {why}"));
    let mut set = Map::new();
    for (key, value) in split_pairs(text).map_err(|error| wrong(error.to_string()))? {
        let value = match key.as_str() {
            "name" | "type" => json!(value),
            "ttl" => {
                json!(value.parse::<i64>().map_err(|_| wrong(format!("Invalid value [{value}] for ttl")))?)
            }
            "rrdatas" => json!(value.split('|').collect::<Vec<_>>()),
            _ => return Err(wrong(format!("valid keys are [name, rrdatas, ttl, type]; received: {key}"))),
        };
        set.insert(key, value);
    }
    Ok(Value::Object(set))
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    if inv.args.has("behavior") && inv.args.has("local-data") {
        return Err(Failure::new(
            "arguments not allowed simultaneously: Only one of arguments [--behavior, --local-data] is allowed.",
        ));
    }
    let mut body = Map::new();
    body.insert("ruleName".into(), json!(inv.args.name(RULE)));
    apply(inv, &mut body)?;
    let rules = rules_path(inv, inv.args.text("response-policy").unwrap_or_default());
    let answer = inv.api.post(&format!("{rules}?alt=json"), &without_empty(body))?;
    if !answer.is_success() {
        return Err(Failure::http(&answer));
    }
    inv.status(&format!("Created ResponsePolicyRule [{}{}].", inv.api.base(), path(inv)));
    inv.show(&shown(answer.body), JSON)
}

fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let path = path(inv);
    let found = inv.api.get(&format!("{path}?alt=json"))?;
    if !found.is_success() {
        return Err(Failure::http(&found));
    }
    if !inv.args.has_any(&["dns-name", "local-data", "behavior"]) {
        inv.status("Nothing to update.");
        return inv.show(&shown(found.body), JSON);
    }
    let mut body = found.body.as_object().cloned().unwrap_or_default();
    apply(inv, &mut body)?;
    let answer = inv.api.call("PUT", &format!("{path}?alt=json"), Some(&without_empty(body)))?;
    if !answer.is_success() {
        return Err(Failure::http(&answer));
    }
    report_update(inv, "ResponsePolicyRule", &answer.body["responsePolicyRule"]);
    inv.show(&shown(answer.body), JSON)
}

/// gcloud prints the whole resource where it means its name.
pub fn report_update(inv: &Invocation<'_>, word: &str, resource: &Value) {
    inv.status(&format!("Updated {word} [{resource}]."));
}

fn delete(inv: &Invocation<'_>) -> Result<(), Failure> {
    let path = path(inv);
    let answer = inv.api.call("DELETE", &format!("{path}?alt=json"), None)?;
    if !answer.is_success() {
        return Err(Failure::http(&answer));
    }
    inv.status(&format!("Deleted ResponsePolicyRule [{}{path}].", inv.api.base()));
    inv.show(&json!({}), JSON)
}

fn describe(inv: &Invocation<'_>) -> Result<(), Failure> {
    let answer = inv.api.get(&format!("{}?alt=json", path(inv)))?;
    match answer.is_success() {
        true => inv.show(&shown(answer.body), JSON),
        false => Err(Failure::http(&answer)),
    }
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let path = rules_path(inv, inv.args.name(RESPONSE_POLICY));
    let found = pages(inv, &path, "", "responsePolicyRules")?;
    inv.list(found.into_iter().map(shown).collect(), JSON)
}
