//! `gcloud compute health-checks`.

use serde_json::{Map, Value, json};

use super::link::{Kind, Scopes};
use super::verbs;
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{self, Command, Flag, Group};
use crate::gcloud::invocation::{Display, Invocation};

pub const HEALTH_CHECKS: Kind =
    Kind { collection: "healthChecks", scopes: Scopes::GlobalUnlessRegion, plural: "health checks" };

const TABLE: Display = Display::new("table(name,type:label=PROTOCOL)");

pub fn group() -> Group {
    Group::new("health-checks", "Read and manipulate health checks for load balanced instances.")
        .group(
            Group::new("create", "Create a health check.")
                .command(protocol("http", create_http))
                .command(protocol("tcp", create_tcp)),
        )
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

fn protocol(name: &'static str, run: grammar::Handler) -> Command {
    let mut command = Command::new(name, "Create a health check of this protocol.", run)
        .arg("NAME", "The name of the health check.")
        .flags(super::scope_flags())
        .flag(Flag::int("port", "The port to check. Default: 80."))
        .flag(Flag::text("description", "What the check is for."))
        .flag(Flag::new("check-interval", grammar::Kind::Duration, "Time between checks. Default: 5 s."))
        .flag(Flag::new("timeout", grammar::Kind::Duration, "How long a check may take. Default: 5 s."))
        .flag(Flag::int("healthy-threshold", "Successes until healthy. Default: 2."))
        .flag(Flag::int("unhealthy-threshold", "Failures until unhealthy. Default: 2."));
    if name == "http" {
        command = command
            .flag(Flag::text("request-path", "The path to ask for. Default: /."))
            .flag(Flag::text("host", "The Host header."));
    }
    command
}

fn create_http(inv: &Invocation<'_>) -> Result<(), Failure> {
    let mut check = json!({
        "port": inv.args.int("port").unwrap_or(80),
        "portSpecification": "USE_FIXED_PORT",
        "proxyHeader": "NONE",
        "requestPath": inv.args.text("request-path").unwrap_or("/"),
    });
    if let Some(host) = inv.args.text("host") {
        check["host"] = json!(host);
    }
    create(inv, "HTTP", "httpHealthCheck", check)
}

fn create_tcp(inv: &Invocation<'_>) -> Result<(), Failure> {
    let port = inv.args.int("port").unwrap_or(80);
    create(
        inv,
        "TCP",
        "tcpHealthCheck",
        json!({"port": port, "portSpecification": "USE_FIXED_PORT", "proxyHeader": "NONE"}),
    )
}

fn create(inv: &Invocation<'_>, kind: &str, field: &str, check: Value) -> Result<(), Failure> {
    let link = HEALTH_CHECKS.resolve(inv, inv.args.name("NAME"))?;
    let mut body = Map::new();
    body.insert("name".into(), json!(link.name));
    body.insert("type".into(), json!(kind));
    body.insert(field.into(), check);
    let numbers = [
        ("check-interval", "checkIntervalSec", 5),
        ("timeout", "timeoutSec", 5),
        ("healthy-threshold", "healthyThreshold", 2),
        ("unhealthy-threshold", "unhealthyThreshold", 2),
    ];
    for (flag, field, default) in numbers {
        body.insert(field.into(), json!(inv.args.int(flag).unwrap_or(default)));
    }
    if let Some(description) = inv.args.text("description") {
        body.insert("description".into(), json!(description));
    }
    verbs::create(inv, link, Value::Object(body), TABLE)
}
