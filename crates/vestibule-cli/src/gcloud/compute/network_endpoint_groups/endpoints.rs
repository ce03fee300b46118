//! `gcloud compute network-endpoint-groups update` and `list-network-endpoints`.

use serde_json::{Map, Value, json};

use super::{GROUPS, scope_flags};
use crate::gcloud::compute::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{self, Command, Flag, Misuse};
use crate::gcloud::invocation::{Display, Invocation};

const TABLE: Display = Display::new(
    "table(networkEndpoint.instance,networkEndpoint.ipAddress,networkEndpoint.ipv6Address,networkEndpoint.port,\
     networkEndpoint.fqdn,networkEndpoint.clientDestinationPort)",
);

/// Keys of an endpoint on the command line, and their fields.
const KEYS: &[(&str, &str)] = &[
    ("instance", "instance"),
    ("ip", "ipAddress"),
    ("ipv6", "ipv6Address"),
    ("port", "port"),
    ("fqdn", "fqdn"),
    ("client-port", "clientDestinationPort"),
];

/// Fields of an endpoint that are numbers.
const NUMBERS: &[&str] = &["port", "clientDestinationPort"];

pub fn list_command() -> Command {
    Command::new("list-network-endpoints", "List network endpoints in a network endpoint group.", list)
        .arg("NAME", "The name of the group.")
        .flags(scope_flags())
        .flags(crate::gcloud::tree::list_flags())
}

pub fn update_command() -> Command {
    Command::new("update", "Update a network endpoint group.", update)
        .about("Endpoints are given as KEY=VALUE pairs: instance, ip, port, fqdn.")
        .arg("NAME", "The name of the group.")
        .flags(scope_flags())
        .flag(Flag::new("add-endpoint", grammar::Kind::Repeated, "An endpoint to attach. May be repeated."))
        .flag(Flag::new("remove-endpoint", grammar::Kind::Repeated, "An endpoint to detach. May be repeated."))
        .examples(&[
            "gcloud compute network-endpoint-groups update my-neg --zone=us-central1-a --add-endpoint=instance=vm1,ip=10.0.0.5,port=8080",
        ])
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = GROUPS.resolve(inv, inv.args.name("NAME"))?;
    let mut found = Vec::new();
    let mut page = String::new();
    loop {
        let path = format!("{}/listNetworkEndpoints?alt=json{page}", link.path());
        let answer = inv.api.post(&path, &json!({}))?;
        if !answer.is_success() {
            return Err(Failure::compute(&[answer.error_message()]));
        }
        found.extend(answer.body["items"].as_array().into_iter().flatten().cloned());
        match answer.body["nextPageToken"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => page = format!("&pageToken={}", crate::gcloud::query(token)),
            None => return inv.list(found, TABLE),
        }
    }
}

fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let (add, remove) = (endpoints(inv, "add-endpoint")?, endpoints(inv, "remove-endpoint")?);
    match (add.is_empty(), remove.is_empty()) {
        (true, true) => {
            return Err(misuse(
                inv,
                "Exactly one of (--add-endpoint | --remove-endpoint) must be specified.",
            ));
        }
        (false, false) => {
            return Err(misuse(
                inv,
                "argument --add-endpoint: Exactly one of (--add-endpoint | --remove-endpoint) must be specified.",
            ));
        }
        _ => {}
    }
    let link = GROUPS.resolve(inv, inv.args.name("NAME"))?;
    let (verb, done, endpoints) = match add.is_empty() {
        false => ("attachNetworkEndpoints", "Attached", add),
        true => ("detachNetworkEndpoints", "Detached", remove),
    };
    let name = link.name.clone();
    let count = endpoints.len();
    let body = json!({ "networkEndpoints": endpoints });
    verbs::carry_out_quietly(inv, None, vec![Change::call(link, verb, body)])?;
    let (preposition, noun) =
        (if done == "Attached" { "to" } else { "from" }, if count == 1 { "endpoint" } else { "endpoints" });
    inv.status(&format!("{done} {count} network {noun} {preposition} [{name}]."));
    Ok(())
}

/// The endpoints that a flag gives.
fn endpoints(inv: &Invocation<'_>, flag: &str) -> Result<Vec<Value>, Failure> {
    inv.args.list(flag).unwrap_or_default().iter().map(|text| endpoint(inv, flag, text)).collect()
}

fn endpoint(inv: &Invocation<'_>, flag: &str, text: &str) -> Result<Value, Failure> {
    let mut endpoint = Map::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| misuse(inv, format!("argument --{flag}: Bad syntax for dict arg: [{pair}].")))?;
        let known = KEYS.iter().find(|(word, _)| *word == key);
        let (_, field) = known.ok_or_else(|| {
            let keys: Vec<&str> = KEYS.iter().map(|(word, _)| *word).collect();
            misuse(inv, format!("argument --{flag}: valid keys are [{}]; received: {key}", keys.join(", ")))
        })?;
        let value = match NUMBERS.contains(field) {
            true => value
                .parse::<i64>()
                .map(Value::from)
                .map_err(|_| misuse(inv, format!("argument --{flag}: invalid int value: '{value}'")))?,
            false => Value::from(value),
        };
        endpoint.insert((*field).to_owned(), value);
    }
    Ok(Value::Object(endpoint))
}

/// A complaint about the command line itself.
fn misuse(inv: &Invocation<'_>, message: impl Into<String>) -> Failure {
    Failure::Misuse(Misuse::plain(&inv.path, message.into()))
}
