//! `gcloud compute health-checks`.

use serde_json::{Map, Value, json};

use super::link::{Kind, Scopes};
use super::verbs::{self, Change};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{self, Command, Flag, Group};
use crate::gcloud::invocation::{Display, Invocation};

pub const HEALTH_CHECKS: Kind =
    Kind { collection: "healthChecks", scopes: Scopes::GlobalUnlessRegion, plural: "health checks" };

const TABLE: Display = Display::new("table(name,type:label=PROTOCOL)");

/// A kind of health check.
struct Protocol {
    word: &'static str,
    kind: &'static str,
    /// The member with its settings.
    field: &'static str,
    /// The port that is checked when none is named; `None`: one must be.
    port: Option<i64>,
    /// Its settings beside the port: flag and field.
    texts: &'static [(&'static str, &'static str)],
}

const HTTP: &[(&str, &str)] = &[
    ("request-path", "requestPath"),
    ("host", "host"),
    ("response", "response"),
    ("proxy-header", "proxyHeader"),
];
const TEXT: &[(&str, &str)] =
    &[("request", "request"), ("response", "response"), ("proxy-header", "proxyHeader")];
const GRPC: &[(&str, &str)] = &[("grpc-service-name", "grpcServiceName")];

const PROTOCOLS: &[Protocol] = &[
    Protocol { word: "http", kind: "HTTP", field: "httpHealthCheck", port: Some(80), texts: HTTP },
    Protocol { word: "https", kind: "HTTPS", field: "httpsHealthCheck", port: Some(443), texts: HTTP },
    Protocol { word: "http2", kind: "HTTP2", field: "http2HealthCheck", port: Some(443), texts: HTTP },
    Protocol { word: "tcp", kind: "TCP", field: "tcpHealthCheck", port: Some(80), texts: TEXT },
    Protocol { word: "ssl", kind: "SSL", field: "sslHealthCheck", port: Some(443), texts: TEXT },
    Protocol { word: "grpc", kind: "GRPC", field: "grpcHealthCheck", port: None, texts: GRPC },
    Protocol {
        word: "grpc-with-tls",
        kind: "GRPC_WITH_TLS",
        field: "grpcTlsHealthCheck",
        port: None,
        texts: GRPC,
    },
];

/// Numbers that every check has: flag, field and default.
const NUMBERS: &[(&str, &str, i64)] = &[
    ("check-interval", "checkIntervalSec", 5),
    ("timeout", "timeoutSec", 5),
    ("healthy-threshold", "healthyThreshold", 2),
    ("unhealthy-threshold", "unhealthyThreshold", 2),
];

pub fn group() -> Group {
    let mut making = Group::new("create", "Create a health check.");
    let mut changing = Group::new("update", "Update a health check.");
    for protocol in PROTOCOLS {
        making = making.command(command(protocol, "Create a health check of this protocol.", create));
        changing = changing.command(command(protocol, "Update a health check of this protocol.", update));
    }
    Group::new("health-checks", "Read and manipulate health checks for load balanced instances.")
        .group(making)
        .group(changing)
        .command(
            Command::new("delete", "Delete health checks.", |inv| verbs::delete(inv, &HEALTH_CHECKS, "NAME"))
                .args("NAME", "The names of the health checks.")
                .flags(super::scope_flags()),
        )
        .command(
            Command::new("describe", "Describe a health check.", |inv| {
                verbs::describe(inv, &HEALTH_CHECKS, "NAME")
            })
            .arg("NAME", "The name of the health check.")
            .flags(super::scope_flags()),
        )
        .command(
            Command::new("list", "List health checks.", |inv| verbs::list(inv, &HEALTH_CHECKS, TABLE))
                .flags(super::list_scope_flags()),
        )
}

fn command(protocol: &'static Protocol, about: &'static str, run: grammar::Handler) -> Command {
    let mut command = Command::new(protocol.word, about, run)
        .arg("NAME", "The name of the health check.")
        .flags(super::scope_flags())
        .flag(Flag::int("port", "The port to check. Default: 80, or 443 with TLS."))
        .flag(Flag::switch("use-serving-port", "Checks the port that the endpoint serves at."))
        .flag(Flag::text("description", "What the check is for."))
        .flag(Flag::toggle("enable-logging", "Writes a log entry when the health of an endpoint changes."))
        .flag(Flag::new("check-interval", grammar::Kind::Duration, "Time between checks. Default: 5 s."))
        .flag(Flag::new("timeout", grammar::Kind::Duration, "How long a check may take. Default: 5 s."))
        .flag(Flag::int("healthy-threshold", "Successes until healthy. Default: 2."))
        .flag(Flag::int("unhealthy-threshold", "Failures until unhealthy. Default: 2."));
    for (flag, _) in protocol.texts {
        command = command.flag(match *flag {
            "proxy-header" => Flag::choice(
                "proxy-header",
                &["NONE", "PROXY_V1"],
                "What stands before the check. Default: NONE.",
            ),
            "request-path" => Flag::text("request-path", "The path to ask for. Default: /."),
            "host" => Flag::text("host", "The Host header."),
            "request" => Flag::text("request", "What is sent."),
            "response" => Flag::text("response", "What the answer must hold."),
            _ => Flag::text("grpc-service-name", "The service to ask for. Default: the whole server."),
        });
    }
    command
}

/// The protocol that the command's own flags and name tell.
fn protocol(inv: &Invocation<'_>) -> Result<&'static Protocol, Failure> {
    let word = inv.path.last().copied().unwrap_or_default();
    PROTOCOLS
        .iter()
        .find(|protocol| protocol.word == word)
        .ok_or_else(|| Failure::new(format!("There is no health check of protocol [{word}].")))
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let protocol = protocol(inv)?;
    let args = &inv.args;
    let link = HEALTH_CHECKS.resolve(inv, args.name("NAME"))?;
    let mut check = Map::new();
    match (args.on("use-serving-port"), args.int("port").or(protocol.port)) {
        (true, _) => drop(check.insert("portSpecification".into(), json!("USE_SERVING_PORT"))),
        (false, Some(port)) => {
            check.insert("port".into(), json!(port));
            check.insert("portSpecification".into(), json!("USE_FIXED_PORT"));
        }
        (false, None) => {
            return Err(Failure::new(
                "Either --port, --port-name or --use-serving-port must be set for gRPC health checks.",
            ));
        }
    }
    for (flag, field) in protocol.texts {
        let default = match *flag {
            "request-path" => Some("/"),
            "proxy-header" => Some("NONE"),
            _ => None,
        };
        if let Some(text) = args.text(flag).or(default) {
            check.insert((*field).into(), json!(text));
        }
    }
    let mut body = Map::new();
    body.insert("name".into(), json!(link.name));
    body.insert("type".into(), json!(protocol.kind));
    body.insert(protocol.field.into(), Value::Object(check));
    for (flag, field, default) in NUMBERS {
        body.insert((*field).into(), json!(args.int(flag).unwrap_or(*default)));
    }
    if let Some(description) = args.text("description") {
        body.insert("description".into(), json!(description));
    }
    if let Some(on) = args.toggle("enable-logging") {
        body.insert("logConfig".into(), json!({ "enable": on }));
    }
    verbs::create(inv, link, Value::Object(body), TABLE)
}

fn update(inv: &Invocation<'_>) -> Result<(), Failure> {
    let protocol = protocol(inv)?;
    let args = &inv.args;
    let mut asked = vec!["port", "use-serving-port", "description", "enable-logging"];
    asked.extend(NUMBERS.iter().map(|(flag, ..)| *flag));
    asked.extend(protocol.texts.iter().map(|(flag, _)| *flag));
    if !args.has_any(&asked) {
        return Err(Failure::new("At least one property must be modified."));
    }
    let link = HEALTH_CHECKS.resolve(inv, args.name("NAME"))?;
    let mut body = verbs::read(inv, &link)?.as_object().cloned().unwrap_or_default();
    let kind = body.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind != protocol.kind {
        let words =
            format!("update {} subcommand applied to health check with protocol {kind}", protocol.word);
        return Err(Failure::new(words));
    }
    if let Value::Object(check) = body.entry(protocol.field).or_insert_with(|| json!({})) {
        if args.on("use-serving-port") {
            check.insert("portSpecification".into(), json!("USE_SERVING_PORT"));
            // A patch removes what is null.
            check.insert("port".into(), Value::Null);
        } else if let Some(port) = args.int("port") {
            check.insert("port".into(), json!(port));
            check.insert("portSpecification".into(), json!("USE_FIXED_PORT"));
        }
        for (flag, field) in protocol.texts {
            if let Some(text) = args.text(flag) {
                check.insert((*field).into(), if text.is_empty() { Value::Null } else { json!(text) });
            }
        }
    }
    for (flag, field, _) in NUMBERS {
        if let Some(number) = args.int(flag) {
            body.insert((*field).into(), json!(number));
        }
    }
    if let Some(description) = args.text("description") {
        body.insert("description".into(), json!(description));
    }
    if let Some(on) = args.toggle("enable-logging") {
        body.insert("logConfig".into(), json!({ "enable": on }));
    }
    verbs::update(inv, Change::patch(link, Value::Object(body)))
}
