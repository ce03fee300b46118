//! `gcloud compute url-maps`: path matchers and host rules.
//!
//! All four commands read the map, change it and put it back whole; the fingerprint that was read makes a change in
//! between a refusal instead of a loss.

use serde_json::{Map, Value, json};

use super::link::{Link, Scope};
use super::url_maps::{URL_MAPS, backend_url};
use super::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Rule};
use crate::gcloud::invocation::Invocation;

const NAME: &str = "URL_MAP";

pub fn add_path_matcher_command() -> Command {
    Command::new("add-path-matcher", "Add a path matcher to a URL map.", add_path_matcher)
        .about("The first path matcher gets the host rule *, unless --new-hosts or --existing-host says otherwise.")
        .arg(NAME, "The name of the URL map.")
        .flags(super::scope_flags())
        .flag(Flag::text("path-matcher-name", "The name of the new path matcher.").required())
        .flag(Flag::text("default-service", "The backend service for paths that no rule takes."))
        .flag(Flag::pairs("path-rules", "Paths and their backend services."))
        .flag(Flag::pairs("backend-service-path-rules", "Paths and their backend services, as --path-rules."))
        .flag(Flag::text("description", "What the path matcher is for."))
        .flag(Flag::list("new-hosts", "Hosts of a new host rule.").metavar("NEW_HOST"))
        .flag(Flag::text("existing-host", "A host whose rule is to use the new path matcher."))
        .flag(Flag::switch("delete-orphaned-path-matcher", "Drops the path matcher that --existing-host leaves without a host."))
        .rule(Rule::OneOf(vec![vec!["default-backend-bucket"], vec!["default-service"]]))
        .rule(Rule::Exclusive(vec![vec!["new-hosts"], vec!["existing-host"]]))
        .examples(&[
            "gcloud compute url-maps add-path-matcher my-internal-url-map --path-matcher-name=my-matcher --default-service=my-internal-backend --path-rules=\"/api/*=my-api-backend,/web/*=my-web-backend\" --region=us-central1",
        ])
}

pub fn remove_path_matcher_command() -> Command {
    Command::new("remove-path-matcher", "Remove a path matcher from a URL map.", remove_path_matcher)
        .about("Its host rules go with it.")
        .arg(NAME, "The name of the URL map.")
        .flags(super::scope_flags())
        .flag(Flag::text("path-matcher-name", "The name of the path matcher.").required())
}

pub fn add_host_rule_command() -> Command {
    Command::new("add-host-rule", "Add a rule to a URL map to map hosts to a path matcher.", add_host_rule)
        .arg(NAME, "The name of the URL map.")
        .flags(super::scope_flags())
        .flag(Flag::list("hosts", "The hosts, such as *.example.com.").metavar("HOST").required())
        .flag(Flag::text("path-matcher-name", "The path matcher for these hosts.").required())
        .flag(Flag::text("description", "What the rule is for."))
}

pub fn remove_host_rule_command() -> Command {
    Command::new("remove-host-rule", "Remove a host rule from a URL map.", remove_host_rule)
        .about("A path matcher that no host rule names any more stays only with another host rule.")
        .arg(NAME, "The name of the URL map.")
        .flags(super::scope_flags())
        .flag(Flag::text("host", "A host of the rule.").required())
        .flag(Flag::switch(
            "delete-orphaned-path-matcher",
            "Drops the path matcher that is left without a host.",
        ))
}

/// The list in a field of the map.
fn list(map: &Value, field: &str) -> Vec<Value> {
    map.get(field).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Puts a list back; an empty one is left out.
fn put_list(map: &mut Value, field: &str, items: Vec<Value>) {
    if let Value::Object(map) = map {
        match items.is_empty() {
            true => drop(map.remove(field)),
            false => drop(map.insert(field.to_owned(), Value::Array(items))),
        }
    }
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn has_host(rule: &Value, host: &str) -> bool {
    rule.get("hosts")
        .and_then(Value::as_array)
        .is_some_and(|hosts| hosts.iter().any(|h| h.as_str() == Some(host)))
}

fn start(inv: &Invocation<'_>) -> Result<(Link, Value), Failure> {
    let link = URL_MAPS.resolve(inv, inv.args.name(NAME))?;
    let map = verbs::read(inv, &link)?;
    Ok((link, map))
}

fn add_path_matcher(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (link, mut map) = start(inv)?;
    let name = inv.args.text("path-matcher-name").unwrap_or_default();
    let mut matchers = list(&map, "pathMatchers");
    let mut rules = list(&map, "hostRules");
    match inv.args.text("existing-host") {
        Some(host) => take_over_host(inv, host, name, &mut rules, &mut matchers)?,
        None => {
            let star = vec!["*".to_owned()];
            let hosts = inv.args.list("new-hosts").map_or(star, <[String]>::to_vec);
            for host in &hosts {
                if let Some(rule) = rules.iter().find(|rule| has_host(rule, host)) {
                    return Err(Failure::new(format!(
                        "Cannot create a new host rule with host [{host}] because the host is already part of a host rule that \
                         references the path matcher [{}].",
                        text(rule, "pathMatcher")
                    )));
                }
            }
            rules.push(json!({"hosts": hosts, "pathMatcher": name}));
        }
    }
    matchers.push(new_matcher(inv, &link.scope, name)?);
    put_list(&mut map, "hostRules", rules);
    put_list(&mut map, "pathMatchers", matchers);
    verbs::update(inv, Change::put(link, map))
}

/// Gives the host's rule to the new path matcher. The old one may be left without any host.
fn take_over_host(
    inv: &Invocation<'_>,
    host: &str,
    name: &str,
    rules: &mut [Value],
    matchers: &mut Vec<Value>,
) -> Result<(), Failure> {
    let Some(rule) = rules.iter_mut().find(|rule| has_host(rule, host)) else {
        return Err(Failure::new(format!(
            "No host rule with host [{host}] exists. Check your spelling or use [--new-hosts] to create a new host rule."
        )));
    };
    let old = text(rule, "pathMatcher").to_owned();
    rule["pathMatcher"] = json!(name);
    if rules.iter().all(|rule| text(rule, "pathMatcher") != old) {
        if !inv.args.on("delete-orphaned-path-matcher") {
            return Err(orphan(name));
        }
        matchers.retain(|matcher| text(matcher, "name") != old);
    }
    Ok(())
}

fn orphan(name: &str) -> Failure {
    Failure::new(format!(
        "This operation will orphan the path matcher [{name}]. To delete the orphan path matcher, rerun this command with \
         [--delete-orphaned-path-matcher] or use [gcloud compute url-maps edit] to modify the URL map by hand."
    ))
}

fn new_matcher(inv: &Invocation<'_>, scope: &Scope, name: &str) -> Result<Value, Failure> {
    let mut matcher = Map::new();
    matcher.insert("name".into(), json!(name));
    let service = inv.args.text("default-service").unwrap_or_default();
    matcher.insert("defaultService".into(), json!(backend_url(inv, scope, service)?));
    if let Some(description) = inv.args.text("description") {
        matcher.insert("description".into(), json!(description));
    }
    let given = |flag: &str| inv.args.pairs(flag).unwrap_or_default().to_vec();
    let pairs = [given("path-rules"), given("backend-service-path-rules")].concat();
    let rules = path_rules(inv, scope, &pairs)?;
    if !rules.is_empty() {
        matcher.insert("pathRules".into(), Value::Array(rules));
    }
    Ok(Value::Object(matcher))
}

/// One rule a backend service, with all paths that lead there, ordered by the service's link.
fn path_rules(
    inv: &Invocation<'_>,
    scope: &Scope,
    pairs: &[(String, String)],
) -> Result<Vec<Value>, Failure> {
    let mut by_service: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    for (path, service) in pairs {
        by_service.entry(backend_url(inv, scope, service)?).or_default().push(path.clone());
    }
    let rule = |(service, mut paths): (String, Vec<String>)| {
        paths.sort();
        json!({"paths": paths, "service": service})
    };
    Ok(by_service.into_iter().map(rule).collect())
}

fn remove_path_matcher(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (link, mut map) = start(inv)?;
    let name = inv.args.text("path-matcher-name").unwrap_or_default();
    let mut matchers = list(&map, "pathMatchers");
    let before = matchers.len();
    matchers.retain(|matcher| text(matcher, "name") != name);
    if matchers.len() == before {
        return Err(Failure::new(format!("No path matcher with the name [{name}] was found.")));
    }
    let mut rules = list(&map, "hostRules");
    rules.retain(|rule| text(rule, "pathMatcher") != name);
    put_list(&mut map, "pathMatchers", matchers);
    put_list(&mut map, "hostRules", rules);
    verbs::update(inv, Change::put(link, map))
}

fn add_host_rule(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (link, mut map) = start(inv)?;
    let mut hosts = inv.args.list("hosts").unwrap_or_default().to_vec();
    hosts.sort();
    let mut rule = json!({"hosts": hosts, "pathMatcher": inv.args.text("path-matcher-name")});
    if let Some(description) = inv.args.text("description") {
        rule["description"] = json!(description);
    }
    let mut rules = list(&map, "hostRules");
    rules.push(rule);
    put_list(&mut map, "hostRules", rules);
    verbs::update(inv, Change::put(link, map))
}

fn remove_host_rule(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (link, mut map) = start(inv)?;
    let host = inv.args.text("host").unwrap_or_default();
    let mut rules = list(&map, "hostRules");
    let Some(position) = rules.iter().position(|rule| has_host(rule, host)) else {
        return Err(Failure::new(format!("No host rule contains the host [{host}].")));
    };
    let matcher = text(&rules.remove(position), "pathMatcher").to_owned();
    if rules.iter().all(|rule| text(rule, "pathMatcher") != matcher) {
        if !inv.args.on("delete-orphaned-path-matcher") {
            return Err(orphan(&matcher));
        }
        let mut matchers = list(&map, "pathMatchers");
        matchers.retain(|m| text(m, "name") != matcher);
        put_list(&mut map, "pathMatchers", matchers);
    }
    put_list(&mut map, "hostRules", rules);
    verbs::update(inv, Change::put(link, map))
}
