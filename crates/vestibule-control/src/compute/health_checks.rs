//! Health checks, global and regional.

use serde_json::{Value, json};
use vestibule_model::ResourceName;

use super::Call;
use super::kind::{Fingerprint, Info, Kind, Methods, ScopeKind};
use crate::{Change, Document, Error, document};

/// `healthChecks`
pub struct HealthChecks;

static INFO: Info = Info {
    collection: "healthChecks",
    scopes: &[ScopeKind::Region, ScopeKind::Global],
    word: "health_check",
    kind: "compute#healthCheck",
    list_kind: "compute#healthCheckList",
    aggregated_kind: Some("compute#healthChecksAggregatedList"),
    fingerprint: Fingerprint::None,
    labels: false,
    methods: Methods::BOTH,
    actions: &[],
    questions: &[],
    output_only: &[],
};

/// A `type` of health check.
struct Protocol {
    name: &'static str,
    /// The member that holds its settings.
    member: &'static str,
    /// The port that is probed when none is given.
    port: Option<u16>,
    /// It has `requestPath`, default `/`.
    path: bool,
    /// It has `proxyHeader`, default `NONE`.
    proxy_header: bool,
}

const fn protocol(
    name: &'static str,
    member: &'static str,
    port: Option<u16>,
    path: bool,
    proxy_header: bool,
) -> Protocol {
    Protocol { name, member, port, path, proxy_header }
}

const PROTOCOLS: &[Protocol] = &[
    protocol("HTTP", "httpHealthCheck", Some(80), true, true),
    protocol("HTTPS", "httpsHealthCheck", Some(443), true, true),
    protocol("HTTP2", "http2HealthCheck", Some(443), true, true),
    protocol("TCP", "tcpHealthCheck", Some(80), false, true),
    protocol("SSL", "sslHealthCheck", Some(443), false, true),
    protocol("GRPC", "grpcHealthCheck", None, false, false),
    protocol("GRPC_WITH_TLS", "grpcTlsHealthCheck", None, false, false),
];

/// Allowed interval and timeout, in seconds.
const SECONDS: std::ops::RangeInclusive<i64> = 1..=300;

/// Allowed thresholds, in probes.
const THRESHOLD: std::ops::RangeInclusive<i64> = 1..=10;

/// Longest `request` and `response`, in bytes.
const LONGEST_TEXT: usize = 1024;

impl Kind for HealthChecks {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(
        &self,
        _change: &mut Change<'_>,
        _name: &ResourceName,
        doc: &mut Document,
    ) -> Result<(), Error> {
        validate(doc)
    }

    fn update(
        &self,
        _change: &mut Change<'_>,
        _call: &Call,
        _name: &ResourceName,
        old: &Document,
        new: &mut Document,
    ) -> Result<(), Error> {
        // A patch to another type leaves the old type's settings behind; they are not meant.
        if old.get("type") != new.get("type") {
            let kept = document::text(new, "type").and_then(find).map(|protocol| protocol.member);
            let stale = |member: &str| Some(member) != kept && old.get(member) == new.get(member);
            let stale: Vec<&str> =
                PROTOCOLS.iter().map(|protocol| protocol.member).filter(|member| stale(member)).collect();
            stale.into_iter().for_each(|member| drop(new.remove(member)));
        }
        validate(new)
    }
}

fn find(name: &str) -> Option<&'static Protocol> {
    PROTOCOLS.iter().find(|protocol| protocol.name == name)
}

fn validate(doc: &mut Document) -> Result<(), Error> {
    for field in ["checkIntervalSec", "timeoutSec"] {
        document::within(doc, "resource", field, SECONDS)?;
        document::default(doc, field, 5);
    }
    for field in ["healthyThreshold", "unhealthyThreshold"] {
        document::within(doc, "resource", field, THRESHOLD)?;
        document::default(doc, field, 2);
    }
    let (interval, timeout) =
        (document::integer(doc, "checkIntervalSec"), document::integer(doc, "timeoutSec"));
    if timeout > interval {
        let why = "The timeout must not be greater than checkIntervalSec.";
        return Err(Error::invalid("resource.timeoutSec", timeout.unwrap_or_default(), why));
    }
    document::not_built(doc, "compute.healthChecks", &["sourceRegions"])?;
    let protocol = validate_type(doc)?;
    document::default(doc, protocol.member, json!({}));
    match doc.get_mut(protocol.member) {
        Some(Value::Object(settings)) => validate_settings(protocol, settings),
        _ => Err(Error::invalid(format!("resource.{}", protocol.member), "", "Must be an object.")),
    }
}

fn validate_type(doc: &mut Document) -> Result<&'static Protocol, Error> {
    let given: Vec<&Protocol> =
        PROTOCOLS.iter().filter(|protocol| doc.contains_key(protocol.member)).collect();
    if let Some(surplus) = given.get(1) {
        let why = "Exactly one protocol specific health check must be given.";
        return Err(Error::invalid(format!("resource.{}", surplus.member), "", why));
    }
    let protocol = match (doc.get("type"), given.first()) {
        (None, Some(protocol)) => protocol,
        (None, None) => return Err(Error::required("resource.type")),
        (Some(name), given) => {
            let known = name.as_str().and_then(find);
            let matching = known.filter(|protocol| given.is_none_or(|given| given.name == protocol.name));
            matching.ok_or_else(|| {
                let why = "Must be the type whose settings are given.";
                Error::invalid("resource.type", document::quoted(name), why)
            })?
        }
    };
    document::default(doc, "type", protocol.name);
    PROTOCOLS
        .iter()
        .find(|known| known.name == protocol.name)
        .ok_or_else(|| Error::internal("unknown protocol"))
}

fn validate_settings(protocol: &Protocol, settings: &mut Document) -> Result<(), Error> {
    let path = format!("resource.{}", protocol.member);
    let specifications = ["USE_FIXED_PORT", "USE_NAMED_PORT", "USE_SERVING_PORT"];
    document::one_of(settings, &path, "portSpecification", &specifications)?;
    document::within(settings, &path, "port", 1..=65_535)?;
    document::one_of(settings, &path, "proxyHeader", &["NONE", "PROXY_V1"])?;
    let serving = document::text(settings, "portSpecification") == Some("USE_SERVING_PORT");
    if serving && settings.contains_key("port") {
        let why = "The port cannot be set with portSpecification USE_SERVING_PORT.";
        let port = settings.get("port").map(document::quoted).unwrap_or_default();
        return Err(Error::invalid(format!("{path}.port"), port, why));
    }
    let fixed = document::text(settings, "portSpecification").is_none_or(|how| how == "USE_FIXED_PORT");
    match protocol.port {
        Some(port) if fixed => document::default(settings, "port", port),
        None if fixed && !settings.contains_key("port") => {
            return Err(Error::required(format!("{path}.port")));
        }
        _ => {}
    }
    if protocol.path {
        if let Some(text) = document::text(settings, "requestPath").filter(|text| !text.starts_with('/')) {
            return Err(Error::invalid(format!("{path}.requestPath"), text, "Must start with '/'."));
        }
        document::default(settings, "requestPath", "/");
    }
    if protocol.proxy_header {
        document::default(settings, "proxyHeader", "NONE");
    }
    validate_texts(&path, settings)
}

fn validate_texts(path: &str, settings: &Document) -> Result<(), Error> {
    for field in ["request", "response", "host", "grpcServiceName"] {
        let text = document::text(settings, field).unwrap_or_default();
        if text.len() > LONGEST_TEXT || !text.is_ascii() {
            let why = format!("Must be ASCII text of at most {LONGEST_TEXT} characters.");
            return Err(Error::invalid(format!("{path}.{field}"), text, why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::testing::World;

    const CHECKS: &str = "regions/us-central1/healthChecks";

    #[test]
    fn defaults_follow_the_type() {
        let world = World::new();
        for (name, body, settings) in [
            ("http", json!({"type": "HTTP"}), json!({"port": 80, "requestPath": "/", "proxyHeader": "NONE"})),
            (
                "https",
                json!({"httpsHealthCheck": {"requestPath": "/up"}}),
                json!({"port": 443, "requestPath": "/up", "proxyHeader": "NONE"}),
            ),
            (
                "tcp",
                json!({"type": "TCP", "tcpHealthCheck": {"portSpecification": "USE_SERVING_PORT"}}),
                json!({"portSpecification": "USE_SERVING_PORT", "proxyHeader": "NONE"}),
            ),
            ("grpc", json!({"grpcHealthCheck": {"port": 50051}}), json!({"port": 50051})),
        ] {
            let mut body = body;
            body["name"] = name.into();
            world.insert(CHECKS, body);
            let doc = world.get(&format!("{CHECKS}/{name}"));
            let protocol = find(doc["type"].as_str().unwrap()).unwrap();
            assert_eq!(doc[protocol.member], settings, "{name}");
            assert_eq!(
                [
                    &doc["checkIntervalSec"],
                    &doc["timeoutSec"],
                    &doc["healthyThreshold"],
                    &doc["unhealthyThreshold"]
                ],
                [5, 5, 2, 2]
            );
        }
        world.insert("global/healthChecks", json!({"name": "g", "type": "TCP"}));
        assert!(world.get("global/healthChecks/g").get("region").is_none());
    }

    #[test]
    fn what_is_refused() {
        let world = World::new();
        for (body, field) in [
            (json!({"type": "NOPE"}), "resource.type"),
            (json!({"type": "HTTP", "tcpHealthCheck": {}}), "resource.type"),
            (json!({"httpHealthCheck": {}, "tcpHealthCheck": {}}), "resource.tcpHealthCheck"),
            (json!({"type": "HTTP", "checkIntervalSec": 0}), "resource.checkIntervalSec"),
            (json!({"type": "HTTP", "timeoutSec": 6}), "resource.timeoutSec"),
            (json!({"type": "HTTP", "healthyThreshold": 11}), "resource.healthyThreshold"),
            (json!({"httpHealthCheck": {"port": 0}}), "resource.httpHealthCheck.port"),
            (json!({"httpHealthCheck": {"requestPath": "up"}}), "resource.httpHealthCheck.requestPath"),
            (
                json!({"httpHealthCheck": {"port": 80, "portSpecification": "USE_SERVING_PORT"}}),
                "resource.httpHealthCheck.port",
            ),
        ] {
            let mut body = body;
            body["name"] = "h".into();
            let error = world.try_insert(CHECKS, body.clone()).unwrap_err();
            assert!(matches!(&error, Error::Invalid { field: at, .. } if at == field), "{body} {error}");
        }
        assert_eq!(
            world.try_insert(CHECKS, json!({"name": "h"})).unwrap_err(),
            Error::required("resource.type")
        );
        assert_eq!(
            world.try_insert(CHECKS, json!({"name": "h", "type": "GRPC"})).unwrap_err(),
            Error::required("resource.grpcHealthCheck.port")
        );
    }

    #[test]
    fn a_patch_may_change_the_type() {
        let world = World::new();
        world.insert(CHECKS, json!({"name": "h", "type": "HTTP"}));
        let path = "regions/us-central1/healthChecks/h";
        world.patch(path, json!({"type": "TCP", "tcpHealthCheck": {"port": 90}}));
        let doc = world.get(path);
        assert!(doc.get("httpHealthCheck").is_none());
        assert_eq!(doc["tcpHealthCheck"]["port"], 90);
        let put = json!({"name": "h", "type": "HTTP", "httpHealthCheck": {"host": "x"}});
        world.try_update(path, put).unwrap();
        assert!(world.get(path).get("tcpHealthCheck").is_none());
    }
}
