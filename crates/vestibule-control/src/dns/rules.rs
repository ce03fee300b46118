//! Rules of response policies.

use std::collections::BTreeSet;

use serde_json::Value;
use vestibule_dns::{Action, Liveness, Name, ResponsePolicy, Rule};
use vestibule_model::name::is_valid_name;
use vestibule_store::View;

use super::policies::PolicyKind;
use super::routing::Balancer;
use super::{Dns, binding, invalid, keys, missing, quota, reconcile, records, required};
use crate::{Change, Document, Error, document};

const ENTITY: &str = "entity.responsePolicyRule";

/// The one thing that a rule can do besides answering.
const BYPASS: &str = "bypassResponsePolicy";

/// The key of a policy that must be there.
fn policy_key(view: &View, project: &str, policy: &str) -> Result<String, Error> {
    let key = keys::policy(PolicyKind::Response, project, policy);
    view.get(&key).map(|_| key).ok_or_else(|| missing(PolicyKind::Response.entity(), policy))
}

fn find(view: &View, project: &str, policy: &str, rule: &str) -> Result<(String, Document), Error> {
    let key = keys::rule(&policy_key(view, project, policy)?, rule);
    let found = view.get(&key).map(|kv| document::object(&kv.value).clone());
    found.map(|doc| (key, doc)).ok_or_else(|| missing("responsePolicyRule", rule))
}

impl Dns<'_> {
    /// Creates a rule. The resolver obeys it when this returns.
    pub fn create_rule(&self, project: &str, policy: &str, mut body: Document) -> Result<Value, Error> {
        let (rule, revision) = self.0.change(|change| {
            document::drop_nulls(&mut body);
            let policy = policy_key(change.view(), project, policy)?;
            let doc = checked(change, &policy, body.clone(), None)?;
            let name = document::text(&doc, "ruleName").unwrap_or_default();
            let key = keys::rule(&policy, name);
            if change.exists(&key) {
                return Err(taken(name));
            }
            quota::check_rules(change.view().range(&keys::rule(&policy, "")).count() + 1)?;
            let rule = Value::Object(doc);
            change.put(&key, rule.clone());
            Ok(rule)
        })?;
        self.obeyed(revision);
        Ok(rule)
    }

    pub fn rule(&self, project: &str, policy: &str, rule: &str) -> Result<Value, Error> {
        find(&self.0.view(), project, policy, rule).map(|(_, doc)| Value::Object(doc))
    }

    /// All rules of a policy by name.
    pub fn rules(&self, project: &str, policy: &str) -> Result<Vec<Value>, Error> {
        let view = self.0.view();
        let policy = policy_key(&view, project, policy)?;
        Ok(view.range(&keys::rule(&policy, "")).map(|kv| (*kv.value).clone()).collect())
    }

    /// Changes members of a rule (`patch`, RFC 7396), or replaces it (`update`). The resolver obeys it when this returns.
    pub fn change_rule(
        &self,
        project: &str,
        policy: &str,
        rule: &str,
        body: Document,
        replace: bool,
    ) -> Result<Value, Error> {
        let (changed, revision) = self.0.change(|change| {
            let (key, old) = find(change.view(), project, policy, rule)?;
            let policy = policy_key(change.view(), project, policy)?;
            let mut new = if replace { Document::new() } else { old };
            // Data and behaviour take each other's place.
            for (given, other) in [("localData", "behavior"), ("behavior", "localData")] {
                if body.get(given).is_some_and(|value| !value.is_null()) && !body.contains_key(other) {
                    new.remove(other);
                }
            }
            document::merge(&mut new, body);
            document::default(&mut new, "ruleName", rule);
            let changed = Value::Object(checked(change, &policy, new, Some(rule))?);
            change.put(&key, changed.clone());
            Ok(changed)
        })?;
        self.obeyed(revision);
        Ok(changed)
    }

    pub fn delete_rule(&self, project: &str, policy: &str, rule: &str) -> Result<(), Error> {
        let ((), revision) = self.0.change(|change| {
            let (key, _) = find(change.view(), project, policy, rule)?;
            change.delete(&key);
            Ok(())
        })?;
        self.obeyed(revision);
        Ok(())
    }
}

fn taken(name: &str) -> Error {
    Error::AlreadyExists { message: format!("The resource '{ENTITY}' named '{name}' already exists") }
}

/// Checks a rule's document as a whole. `known` is the name of one that is there already.
fn checked(
    change: &Change<'_>,
    policy: &str,
    mut doc: Document,
    known: Option<&str>,
) -> Result<Document, Error> {
    let text = |field: &str| {
        let found = document::text(&doc, field).map(str::to_owned);
        found.ok_or_else(|| required(&format!("{ENTITY}.{field}")))
    };
    let (name, dns_name) = (text("ruleName")?, text("dnsName")?);
    if !is_valid_name(&name) || known.is_some_and(|known| known != name) {
        return Err(invalid(&format!("{ENTITY}.ruleName"), name));
    }
    let owner = selector(&dns_name)?;
    let rivals = change.view().range(&keys::rule(policy, ""));
    let mut others = rivals.filter(|kv| kv.value["ruleName"].as_str() != Some(&*name));
    if others
        .any(|kv| kv.value["dnsName"].as_str().and_then(|text| Name::parse(text).ok()) == Some(owner.clone()))
    {
        return Err(taken(&dns_name));
    }
    match doc.get("behavior").and_then(Value::as_str) {
        None | Some(BYPASS | "behaviorUnspecified") => {}
        Some(other) => return Err(invalid(&format!("{ENTITY}.behavior"), other)),
    }
    if let Some(data) = doc.get_mut("localData") {
        check_data(&owner, data)?;
        if doc.get("behavior").is_some_and(|behavior| behavior == BYPASS) {
            return Err(invalid(&format!("{ENTITY}.behavior"), BYPASS));
        }
    }
    doc.insert("kind".into(), "dns#responsePolicyRule".into());
    Ok(doc)
}

/// The name of a rule: one name, or all below one.
fn selector(text: &str) -> Result<Name, Error> {
    let wrong = || invalid(&format!("{ENTITY}.dnsName"), text);
    let name = Name::parse(text).map_err(|_| wrong())?;
    let fits = text.ends_with('.') && !name.is_root() && records::is_plain_name(text, true);
    if fits || text == "*." { Ok(name) } else { Err(wrong()) }
}

/// Record sets of the rule's own name, one a type.
fn check_data(owner: &Name, data: &mut Value) -> Result<(), Error> {
    let place = format!("{ENTITY}.localData.localDatas");
    let Some(Value::Array(sets)) =
        data.get_mut("localDatas").filter(|sets| sets.as_array().is_some_and(|s| !s.is_empty()))
    else {
        return Err(required(&place));
    };
    let mut kinds = BTreeSet::new();
    for (index, set) in sets.iter_mut().enumerate() {
        let path = format!("{place}[{index}]");
        let mut doc = document::object(set).clone();
        if doc.contains_key("routingPolicy") {
            // Rules answer everyone the same.
            return Err(invalid(&format!("{path}.routingPolicy"), "routingPolicy"));
        }
        let (name, kind) = records::check_alone(&mut doc, &path)?;
        if name != *owner {
            let told = document::text(&doc, "name").unwrap_or_default();
            return Err(invalid(&format!("{path}.name"), told));
        }
        if matches!(kind.as_str(), "NS" | "SOA") || !kinds.insert(kind.clone()) {
            return Err(invalid(&format!("{path}.type"), kind));
        }
        *set = Value::Object(doc);
    }
    if kinds.len() > 1 && kinds.contains("CNAME") {
        Err(records::alias_conflict(&owner.to_string()))
    } else {
        Ok(())
    }
}

/// A response policy with its rules, for the resolver.
pub(super) fn compile(view: &View, key: &str, doc: &Document) -> ResponsePolicy {
    let networks = binding::links(doc).filter_map(reconcile::network).collect();
    let rules = view.range(&keys::rule(key, "")).filter_map(|kv| compile_rule(document::object(&kv.value)));
    let name = document::text(doc, PolicyKind::Response.name_field()).unwrap_or_default();
    ResponsePolicy::new(networks, rules.collect()).named(name)
}

/// A rule that neither answers nor says what it does leaves its name alone.
fn compile_rule(doc: &Document) -> Option<Rule> {
    let name = Name::parse(document::text(doc, "dnsName")?).ok()?;
    let action = match doc.get("localData") {
        None => Action::Bypass,
        Some(data) => {
            let sets = document::items(document::object(data), "localDatas").iter();
            let mut alive = |_: &Balancer| Liveness::new(true);
            let compiled = sets.filter_map(|set| records::compile(document::object(set), &mut alive).ok());
            Action::Answer(compiled.collect())
        }
    };
    Some(Rule { name, action })
}
