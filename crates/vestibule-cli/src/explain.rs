//! `vestibule explain`: the way a request would take.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::http::Api;
use crate::printer::{Printer, Tone};
use crate::secret::Secret;
use crate::settings::{DEFAULT_API, DEFAULT_PROJECT, Environment};

/// A request that nobody sends.
#[derive(Args)]
pub struct Options {
    /// The URL, such as http://10.0.0.100/api/x or http://api.internal.example.com/; or another client of the network,
    /// such as tcp://10.0.0.3:5432, udp://10.0.0.3:53 or icmp://10.0.0.3
    url: String,
    /// The VPC network that the caller is in [default: the first in which the address serves]
    #[arg(long)]
    network: Option<String>,
    /// Connect to this address, whatever the URL's host is
    #[arg(long, value_name = "IP")]
    address: Option<String>,
    /// The client that asks, by its address [default: one without tags in the subnet of the destination]
    #[arg(long, value_name = "IP")]
    from: Option<String>,
    /// Network tags of the client, for firewall rules [default: those it has]
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tags: Vec<String>,
    /// The client's service account, for firewall rules [default: the one it has]
    #[arg(long, value_name = "EMAIL")]
    service_account: Option<String>,
    /// The method
    #[arg(long, default_value = "GET")]
    method: String,
    /// A request header, such as 'Host: api.internal.example.com'; may be given many times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The project [default: $CLOUDSDK_CORE_PROJECT, or local-project]
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// How to print
    #[arg(long, value_parser = ["text", "json"], default_value = "text")]
    format: String,
}

/// Members of the answer in the order of a request's way, with the words for them.
const STATIONS: &[(&str, &str)] = &[
    ("network", "network"),
    ("client", "client"),
    ("firewall", "firewall"),
    ("address", "address"),
    ("forwardingRule", "forwarding rule"),
    ("targetProxy", "target proxy"),
    ("urlMap", "URL map"),
    ("hostRule", "host rule"),
    ("pathMatcher", "path matcher"),
    ("pathRule", "path rule"),
    ("location", "redirected to"),
    ("backendService", "backend service"),
    ("weightedBackendServices", "chosen from"),
    ("rewrittenUrl", "rewritten to"),
    ("networkEndpointGroup", "endpoint group"),
    ("urlMask", "URL mask"),
    ("service", "service"),
    ("tag", "tag"),
    ("revisions", "revisions"),
];

pub fn run(options: &Options, environment: &Environment, printer: &Printer) -> Result<u8, String> {
    let api = Api::new(environment.get("VESTIBULE_API").unwrap_or(DEFAULT_API), Secret::new("local"));
    let answer = api
        .post("/vestibule/v1/explain", &options.question(environment)?)
        .map_err(|error| error.to_string())?;
    if !answer.is_success() {
        return Err(answer.error_message());
    }
    match options.format.as_str() {
        "json" => printer.line(&serde_json::to_string_pretty(&answer.body).unwrap_or_default()),
        _ => printer.data(&text(&answer.body, printer)),
    }
    Ok(u8::from(is_no_question(&answer.body)))
}

/// Whether nothing was explained: the URL is none, or the network does not exist.
fn is_no_question(answer: &Value) -> bool {
    matches!(answer["refusedBy"].as_str(), Some("url" | "network"))
}

impl Options {
    fn question(&self, environment: &Environment) -> Result<Value, String> {
        let project = self
            .project
            .as_deref()
            .or_else(|| environment.get("CLOUDSDK_CORE_PROJECT"))
            .unwrap_or(DEFAULT_PROJECT);
        let mut question = Map::new();
        question.insert("url".into(), json!(self.url));
        question.insert("method".into(), json!(self.method));
        let header = |line: &String| match line.split_once(':') {
            Some((name, value)) => Ok(json!([name.trim(), value.trim()])),
            None => Err(format!("--header must be NAME: VALUE, not {line}")),
        };
        question.insert(
            "headers".into(),
            Value::Array(self.headers.iter().map(header).collect::<Result<_, _>>()?),
        );
        if let Some(network) = &self.network {
            let full = if network.contains('/') {
                network.clone()
            } else {
                format!("projects/{project}/global/networks/{network}")
            };
            question.insert("network".into(), json!(full));
        }
        let texts =
            [("address", &self.address), ("from", &self.from), ("serviceAccount", &self.service_account)];
        for (name, value) in texts {
            if let Some(value) = value {
                question.insert(name.into(), json!(value));
            }
        }
        if !self.tags.is_empty() {
            question.insert("tags".into(), json!(self.tags));
        }
        Ok(Value::Object(question))
    }
}

/// The answer for people: one station a line, then how it ends.
pub fn text(answer: &Value, printer: &Printer) -> String {
    let string = |name: &str| answer.get(name).and_then(Value::as_str);
    let width = STATIONS.iter().map(|(_, words)| words.len()).max().unwrap_or(0);
    let mut out = format!("{}\n", printer.tone(Tone::Bold, string("url").unwrap_or_default()));
    for (name, words) in STATIONS {
        if let Some(value) = answer.get(*name).map(shown).filter(|value| !value.is_empty()) {
            out += &format!("  {words:width$}  {value}\n");
        }
    }
    for note in answer.get("notes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        out += &format!("  {:width$}  {note}\n", "note");
    }
    let status = answer
        .get("status")
        .and_then(Value::as_u64)
        .map_or(String::new(), |status| format!(" with {status}"));
    let reason = string("reason").map_or(String::new(), |reason| format!(": {reason}"));
    let ending = match (string("outcome"), string("refusedBy")) {
        (Some("refused"), check) => {
            let check = check.map_or(String::new(), |check| format!(" by the check `{check}`"));
            printer.tone(Tone::Bad, &format!("refused{check}{status}{reason}"))
        }
        (outcome, _) => {
            printer.tone(Tone::Good, &format!("{}{status}{reason}", outcome.unwrap_or("unknown")))
        }
    };
    out + &format!("  {:width$}  {ending}\n", "=>")
}

/// A station: a name, shares as `name (50%)`, or what firewall rules say.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(rulings) if rulings.iter().any(|ruling| ruling.get("direction").is_some()) => {
            rulings.iter().map(ruling).collect::<Vec<_>>().join(", ")
        }
        Value::Array(shares) => {
            let share = |share: &Value| {
                let name = share.get("name").and_then(Value::as_str).unwrap_or_default();
                share
                    .get("percent")
                    .and_then(Value::as_f64)
                    .map_or(name.to_owned(), |percent| format!("{name} ({percent}%)"))
            };
            shares.iter().map(share).collect::<Vec<_>>().join(", ")
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// `egress denied by no-db (priority 10)`.
fn ruling(ruling: &Value) -> String {
    let text = |name: &str| ruling.get(name).and_then(Value::as_str);
    let verb = if text("action") == Some("DENY") { "denied" } else { "allowed" };
    let rule = match (text("rule"), ruling.get("priority").and_then(Value::as_u64)) {
        (Some(rule), Some(priority)) => format!("{rule} (priority {priority})"),
        (Some(rule), None) => rule.to_owned(),
        (None, _) => "the implied rule".to_owned(),
    };
    format!("{} {verb} by {rule}", text("direction").unwrap_or_default().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firewall_rules_are_told_by_name() {
        let answer = json!({
            "url": "tcp://10.0.0.3:80", "outcome": "refused", "refusedBy": "firewall", "reason": "No.", "client": "10.0.0.2",
            "firewall": [
                {"direction": "EGRESS", "action": "ALLOW"},
                {"direction": "INGRESS", "action": "DENY", "rule": "shut", "priority": 10},
            ],
        });
        let text = text(&answer, &Printer::captured());
        assert!(
            text.contains("  firewall         egress allowed by the implied rule, ingress denied by shut (priority 10)\n"),
            "{text}"
        );
        assert!(text.contains("refused by the check `firewall`: No."), "{text}");
    }

    #[test]
    fn only_what_cannot_be_explained_is_a_failure() {
        for (check, fails) in [("url", true), ("network", true), ("dns", false), ("identity", false)] {
            assert_eq!(is_no_question(&json!({"outcome": "refused", "refusedBy": check})), fails, "{check}");
        }
        assert!(!is_no_question(&json!({"outcome": "served"})));
    }

    #[test]
    fn stations_in_order() {
        let answer = json!({
            "url": "http://10.0.0.100/api/x", "outcome": "refused", "status": 403, "refusedBy": "identity", "reason": "No token.",
            "service": "api", "forwardingRule": "rule", "revisions": [{"name": "api-1", "percent": 100.0}], "notes": ["n"],
        });
        let text = text(&answer, &Printer::captured());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "http://10.0.0.100/api/x",
                "  forwarding rule  rule",
                "  service          api",
                "  revisions        api-1 (100%)",
                "  note             n",
                "  =>               refused by the check `identity` with 403: No token.",
            ]
        );
    }
}
