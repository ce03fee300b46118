//! Everything about a backend service except its backends: limits and defaults.

use serde_json::{Value, json};

use crate::{Document, Error, document};

/// `timeoutSec` that nobody set, in seconds.
pub const TIMEOUT: i64 = 30;

/// `portName` that nobody set.
pub const PORT_NAME: &str = "http";

/// Longest `affinityCookieTtlSec`: two weeks.
const LONGEST_COOKIE: i64 = 1_209_600;

/// Longest `connectionDraining.drainingTimeoutSec`, in seconds.
const LONGEST_DRAIN: i64 = 3600;

const PROTOCOLS: &[&str] = &["HTTP", "HTTPS", "HTTP2", "H2C"];

const AFFINITIES: &[&str] =
    &["NONE", "CLIENT_IP", "GENERATED_COOKIE", "HEADER_FIELD", "HTTP_COOKIE", "STRONG_COOKIE_AFFINITY"];

const POLICIES: &[&str] = &[
    "ROUND_ROBIN",
    "LEAST_REQUEST",
    "RING_HASH",
    "RANDOM",
    "ORIGINAL_DESTINATION",
    "MAGLEV",
    "WEIGHTED_ROUND_ROBIN",
];

/// Features of the schema that this load balancer does not have, or that are not built.
pub fn refuse_not_built(doc: &Document) -> Result<(), Error> {
    let fields = [
        "cdnPolicy",
        "connectionTrackingPolicy",
        "customMetrics",
        "customRequestHeaders",
        "customResponseHeaders",
        "dynamicForwarding",
        "enableCDN",
        "externalManagedMigrationState",
        "failoverPolicy",
        "haPolicy",
        "localityLbPolicies",
        "maxStreamDuration",
        "network",
        "networkPassThroughLbTrafficPolicy",
        "securityPolicy",
        "securitySettings",
        "serviceBindings",
        "serviceLbPolicy",
        "strongSessionAffinityCookie",
        "subsetting",
        "tlsSettings",
    ];
    document::not_built(doc, "compute.regionBackendServices", &fields)?;
    if doc.get("iap").is_some_and(|iap| iap["enabled"] == true) {
        return Err(Error::not_implemented("compute.regionBackendServices.iap"));
    }
    match document::text(doc, "ipAddressSelectionPolicy") {
        None | Some("IPV4_ONLY" | "IP_ADDRESS_SELECTION_POLICY_UNSPECIFIED") => Ok(()),
        Some(_) => Err(Error::not_implemented("compute.regionBackendServices.ipAddressSelectionPolicy")),
    }
}

/// Checks what may be said, and fills in what Google fills in.
pub fn validate(doc: &mut Document, serverless: bool) -> Result<(), Error> {
    let root = "resource";
    document::one_of(doc, root, "protocol", PROTOCOLS)?;
    document::default(doc, "protocol", PROTOCOLS[0]);
    document::within(doc, root, "timeoutSec", 1..=i64::from(i32::MAX))?;
    document::default(doc, "timeoutSec", TIMEOUT);
    document::one_of(doc, root, "sessionAffinity", AFFINITIES)?;
    document::default(doc, "sessionAffinity", AFFINITIES[0]);
    document::within(doc, root, "affinityCookieTtlSec", 0..=LONGEST_COOKIE)?;
    document::default(doc, "affinityCookieTtlSec", 0);
    document::one_of(doc, root, "localityLbPolicy", POLICIES)?;
    document::within(doc, root, "port", 1..=65_535)?;
    document::default(doc, "description", "");
    if !serverless {
        document::default(doc, "port", 80);
        document::default(doc, "portName", PORT_NAME);
    }
    check_hash(doc)?;
    hide_secret(doc);
    match doc.entry("connectionDraining").or_insert_with(|| json!({})) {
        Value::Object(draining) => {
            document::within(
                draining,
                "resource.connectionDraining",
                "drainingTimeoutSec",
                0..=LONGEST_DRAIN,
            )?;
            document::default(draining, "drainingTimeoutSec", 0);
        }
        _ => return Err(Error::invalid("resource.connectionDraining", "", "Must be an object.")),
    }
    match doc.get_mut("logConfig") {
        Some(Value::Object(log)) => validate_log(log),
        _ => Ok(()),
    }
}

/// The secret of identity-aware proxy is write-only: what is read back is its SHA-256.
fn hide_secret(doc: &mut Document) {
    let Some(Value::Object(iap)) = doc.get_mut("iap") else { return };
    if let Some(secret) = iap.remove("oauth2ClientSecret") {
        let secret = secret.as_str().unwrap_or_default();
        let digest = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        iap.insert("oauth2ClientSecretSha256".into(), hex.into());
    }
}

fn check_hash(doc: &Document) -> Result<(), Error> {
    let Some(hash) = doc.get("consistentHash") else { return Ok(()) };
    if matches!(document::text(doc, "localityLbPolicy"), Some("RING_HASH" | "MAGLEV")) {
        return Ok(());
    }
    let why = "Consistent hashing can only be set with localityLbPolicy RING_HASH or MAGLEV.";
    Err(Error::invalid("resource.consistentHash", document::quoted(hash), why))
}

fn validate_log(log: &mut Document) -> Result<(), Error> {
    let path = "resource.logConfig";
    if let Some(rate) = log.get("sampleRate")
        && !rate.as_f64().is_some_and(|rate| (0.0..=1.0).contains(&rate))
    {
        let why = "Must be between 0.0 and 1.0 inclusive.";
        return Err(Error::invalid(format!("{path}.sampleRate"), document::quoted(rate), why));
    }
    let modes = ["EXCLUDE_ALL_OPTIONAL", "INCLUDE_ALL_OPTIONAL", "CUSTOM"];
    document::one_of(log, path, "optionalMode", &modes)?;
    if let Some(fields) =
        log.get("optionalFields").filter(|_| !document::items(log, "optionalFields").is_empty())
        && document::text(log, "optionalMode") != Some("CUSTOM")
    {
        let why = "Optional fields can only be set with optionalMode CUSTOM.";
        return Err(Error::invalid(format!("{path}.optionalFields"), document::quoted(fields), why));
    }
    document::not_built(
        log,
        "compute.regionBackendServices.logConfig",
        &["loggingHttpRequestHeaders", "loggingHttpResponseHeaders"],
    )?;
    if document::flag(log, "enable") {
        document::default(log, "sampleRate", 1.0);
        document::default(log, "optionalMode", modes[0]);
    }
    Ok(())
}
