//! `gcloud dns policies` and `gcloud dns response-policies`.

use serde_json::{Map, Value, json};

use super::{name_servers, pages, rules, shown};
use crate::gcloud::compute::networks_kind;
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Command, Flag, Group};
use crate::gcloud::invocation::{Display, Invocation};
use crate::gcloud::segment;
use crate::gcloud::tree::list_flags;

pub const JSON: Display = Display::new("json");

const POLICY_TABLE: Display = Display::new(
    "table(name,description,enableInboundForwarding:label=FORWARDING,enableLogging:label=LOGGING,\
     alternativeNameServerConfig.targetNameServers.extract(ipv4Address).map().join(\", \").list():label=ALTERNATE_NAME_SERVERS,\
     networks.firstof(networkUrl).map().scope().join(\", \"):label=NETWORKS,\
     dns64Config.scope.allQueries:label=DNS64_ALL_QUERIES)",
);

const POLICY: &str = "POLICY";
pub const RESPONSE_POLICY: &str = "RESPONSE_POLICIES";

/// What one of the two kinds of policies is called where.
#[derive(Clone, Copy)]
struct Kind {
    /// In paths and lists.
    collection: &'static str,
    /// Where an update's answer has the policy.
    member: &'static str,
    /// In lines about what was done.
    word: &'static str,
    positional: &'static str,
}

const SERVER: Kind = Kind { collection: "policies", member: "policy", word: "Policy", positional: POLICY };
const RESPONSE: Kind = Kind {
    collection: "responsePolicies",
    member: "responsePolicy",
    word: "ResponsePolicy",
    positional: RESPONSE_POLICY,
};

impl Kind {
    fn collection_path(self, inv: &Invocation<'_>) -> String {
        format!("/dns/v1/projects/{}/{}", inv.project(), self.collection)
    }

    /// The path of the policy that the command line names.
    fn path(self, inv: &Invocation<'_>) -> String {
        self.path_of(inv, inv.args.name(self.positional))
    }

    fn path_of(self, inv: &Invocation<'_>, name: &str) -> String {
        // A link names the policy last.
        let name = name.rsplit('/').next().unwrap_or(name);
        format!("{}/{}", self.collection_path(inv), segment(name))
    }
}

/// The path of a response policy.
pub fn response_policy_path(inv: &Invocation<'_>, name: &str) -> String {
    RESPONSE.path_of(inv, name)
}

pub fn server_group() -> Group {
    let name = "The name of the policy.";
    Group::new("policies", "Manage your Cloud DNS policies.")
        .command(
            Command::new("create", "Creates a new Cloud DNS policy.", create_server)
                .arg(POLICY, name)
                .flag(description().required())
                .flag(networks().required())
                .flags(server_settings())
                .flag(Flag::switch("enable-dns64-all-queries", "DNS64 for the networks."))
                .examples(&["gcloud dns policies create my-policy --description=outbound --networks=my-vpc --alternative-name-servers=10.0.0.53"]),
        )
        .command(
            Command::new("update", "Update an existing Cloud DNS policy.", update_server)
                .arg(POLICY, name)
                .flag(description())
                .flag(networks())
                .flags(server_settings())
                .flag(Flag::toggle("enable-dns64-all-queries", "DNS64 for the networks.")),
        )
        .command(Command::new("delete", "Deletes a Cloud DNS policy.", |inv| delete(inv, SERVER)).arg(POLICY, name))
        .command(Command::new("describe", "Describes a Cloud DNS policy.", |inv| describe(inv, SERVER)).arg(POLICY, name))
        .command(Command::new("list", "View the list of all your Cloud DNS policies.", |inv| list(inv, SERVER, POLICY_TABLE)).flags(list_flags()))
}

pub fn response_group() -> Group {
    let name = "The name of the response policy.";
    Group::new("response-policies", "Manage your Cloud DNS response policy.")
        .group(rules::group())
        .command(
            Command::new("create", "Creates a new Cloud DNS response policy.", create_response)
                .arg(RESPONSE_POLICY, name)
                .flag(description().required())
                .flag(networks())
                .examples(&["gcloud dns response-policies create my-response-policy --description=internal --networks=my-vpc"]),
        )
        .command(
            Command::new("update", "Updates a Cloud DNS response policy.", update_response)
                .arg(RESPONSE_POLICY, name)
                .flag(description())
                .flag(networks()),
        )
        .command(Command::new("delete", "Deletes a Cloud DNS response policy.", |inv| delete(inv, RESPONSE)).arg(RESPONSE_POLICY, name))
        .command(Command::new("describe", "Describes a Cloud DNS response policy.", |inv| describe(inv, RESPONSE)).arg(RESPONSE_POLICY, name))
        .command(Command::new("list", "Displays the list of all Cloud DNS response policies in a given project.", |inv| list(inv, RESPONSE, JSON)).flags(list_flags()))
}

fn description() -> Flag {
    Flag::text("description", "A description of the policy.")
}

fn networks() -> Flag {
    Flag::list("networks", "The networks that the policy applies to; an empty value for none.")
        .metavar("NETWORKS")
}

fn server_settings() -> Vec<Flag> {
    vec![
        Flag::list("alternative-name-servers", "Name servers that are asked instead, for everything.")
            .metavar("NAME_SERVERS"),
        Flag::list("private-alternative-name-servers", "The same, always reached through the VPC network.")
            .metavar("NAME_SERVERS"),
        Flag::toggle("enable-inbound-forwarding", "Lets others than the networks' machines ask."),
        Flag::toggle("enable-logging", "Logs queries."),
    ]
}

/// Writes what the command line says of a policy's networks and description into it.
fn apply_common(inv: &Invocation<'_>, body: &mut Map<String, Value>) -> Result<(), Failure> {
    if let Some(networks) = inv.args.list("networks") {
        let base = inv.api.base();
        let link =
            |network: &String| Ok(json!({"networkUrl": networks_kind().resolve(inv, network)?.url(base)}));
        let links = networks.iter().map(link).collect::<Result<Vec<Value>, Failure>>()?;
        body.insert("networks".into(), json!(links));
    }
    if let Some(description) = inv.args.text("description") {
        body.insert("description".into(), json!(description));
    }
    Ok(())
}

fn apply_server(inv: &Invocation<'_>, body: &mut Map<String, Value>) -> Result<(), Failure> {
    apply_common(inv, body)?;
    let args = &inv.args;
    if args.has_any(&["alternative-name-servers", "private-alternative-name-servers"]) {
        let list = |flag| args.list(flag).unwrap_or_default();
        let servers =
            name_servers(list("alternative-name-servers"), list("private-alternative-name-servers"));
        match servers.is_empty() {
            true => body.remove("alternativeNameServerConfig"),
            false => body.insert("alternativeNameServerConfig".into(), json!({"targetNameServers": servers})),
        };
    }
    for (flag, field) in
        [("enable-inbound-forwarding", "enableInboundForwarding"), ("enable-logging", "enableLogging")]
    {
        if let Some(on) = args.toggle(flag) {
            body.insert(field.into(), json!(on));
        }
    }
    Ok(())
}

fn dns64(on: bool) -> Value {
    json!({"scope": {"allQueries": on}})
}

fn create_server(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut body = Map::new();
    body.insert("name".into(), json!(inv.args.name(POLICY)));
    body.insert("enableInboundForwarding".into(), json!(false));
    body.insert("enableLogging".into(), json!(false));
    body.insert("dns64Config".into(), dns64(inv.args.on("enable-dns64-all-queries")));
    apply_server(inv, &mut body)?;
    create(inv, SERVER, body)
}

fn create_response(inv: &Invocation<'_>) -> Result<(), Failure> {
    if !inv.args.has("networks") {
        return Err(Failure::new(
            "Missing required argument [--networks,--gkeclusters]: A list of networks or GKE clusters must be provided.'\n         \
             NOTE: You can provide an empty value (\"\") for response policies that\n          have NO network or GKE clusters binding.\n          ",
        ));
    }
    let mut body = Map::new();
    body.insert("responsePolicyName".into(), json!(inv.args.name(RESPONSE_POLICY)));
    apply_common(inv, &mut body)?;
    create(inv, RESPONSE, body)
}

fn create(inv: &Invocation<'_>, kind: Kind, body: Map<String, Value>) -> Result<(), Failure> {
    let answer = inv.api.post(&format!("{}?alt=json", kind.collection_path(inv)), &without_empty(body))?;
    if !answer.is_success() {
        return Err(Failure::making(&answer, &inv.project()));
    }
    inv.status(&format!("Created {} [{}{}].", kind.word, inv.api.base(), kind.path(inv)));
    inv.show(&shown(answer.body), JSON)
}

/// gcloud sends no empty list, wherever one is.
pub fn without_empty(body: Map<String, Value>) -> Value {
    Value::Object(
        body.into_iter().filter(|(_, value)| value.as_array().is_none_or(|list| !list.is_empty())).collect(),
    )
}

fn update_server(inv: &Invocation<'_>) -> Result<(), Failure> {
    let given = [
        "networks",
        "description",
        "enable-inbound-forwarding",
        "enable-logging",
        "alternative-name-servers",
        "enable-dns64-all-queries",
    ];
    update(inv, SERVER, &given, |body| {
        apply_server(inv, body)?;
        if let Some(on) = inv.args.toggle("enable-dns64-all-queries") {
            body.insert("dns64Config".into(), dns64(on));
        }
        Ok(())
    })
}

fn update_response(inv: &Invocation<'_>) -> Result<(), Failure> {
    update(inv, RESPONSE, &["networks", "description"], |body| apply_common(inv, body))
}

/// Reads the policy, and writes it back as a whole with the changes.
fn update(
    inv: &Invocation<'_>,
    kind: Kind,
    given: &[&str],
    apply: impl FnOnce(&mut Map<String, Value>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let path = kind.path(inv);
    let found = inv.api.get(&format!("{path}?alt=json"))?;
    if !found.is_success() {
        return Err(Failure::http(&found));
    }
    if !inv.args.has_any(given) {
        inv.status("Nothing to update.");
        return inv.show(&shown(found.body), JSON);
    }
    let mut body = found.body.as_object().cloned().unwrap_or_default();
    apply(&mut body)?;
    let answer = inv.api.call("PUT", &format!("{path}?alt=json"), Some(&without_empty(body)))?;
    if !answer.is_success() {
        return Err(Failure::http(&answer));
    }
    let policy = answer.body.get(kind.member).cloned().unwrap_or_default();
    match kind.member {
        "policy" => {
            inv.status(&format!("Updated Policy [{}].", policy["name"].as_str().unwrap_or_default()));
            inv.show(&shown(policy), JSON)
        }
        _ => {
            rules::report_update(inv, kind.word, &policy);
            inv.show(&shown(answer.body), JSON)
        }
    }
}

fn delete(inv: &Invocation<'_>, kind: Kind) -> Result<(), Failure> {
    let path = kind.path(inv);
    let answer = inv.api.call("DELETE", &format!("{path}?alt=json"), None)?;
    if !answer.is_success() {
        return Err(Failure::http(&answer));
    }
    if kind.member == SERVER.member {
        inv.status(&format!("Deleted policy [{}].", inv.args.name(kind.positional)));
        return Ok(());
    }
    inv.status(&format!("Deleted {} [{}{path}].", kind.word, inv.api.base()));
    inv.show(&json!({}), JSON)
}

fn describe(inv: &Invocation<'_>, kind: Kind) -> Result<(), Failure> {
    let answer = inv.api.get(&format!("{}?alt=json", kind.path(inv)))?;
    match answer.is_success() {
        true => inv.show(&shown(answer.body), JSON),
        false => Err(Failure::http(&answer)),
    }
}

fn list(inv: &Invocation<'_>, kind: Kind, display: Display) -> Result<(), Failure> {
    let path = kind.collection_path(inv);
    let found = pages(inv, &path, "", kind.collection)?;
    inv.list(found.into_iter().map(shown).collect(), display)
}
