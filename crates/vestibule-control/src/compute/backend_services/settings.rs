//! Everything about a backend service except its backends: limits and defaults.

use serde_json::{Value, json};
use vestibule_urlmap::HeaderAction;
use vestibule_urlmap::check::Problem;

use crate::compute::url_maps;
use crate::{Document, Error, document};

/// `timeoutSec` that nobody set, in seconds.
pub const TIMEOUT: i64 = 30;

/// `portName` that nobody set.
pub const PORT_NAME: &str = "http";

/// Longest `affinityCookieTtlSec`: two weeks.
const LONGEST_COOKIE: i64 = 1_209_600;

/// Longest duration of the API, in seconds: about 10,000 years.
const LONGEST_DURATION: i64 = 315_576_000_000;

/// Largest `consistentHash.minimumRingSize` (Envoy's largest ring).
const LARGEST_RING: i64 = 8_388_608;

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
        "subsetting",
        "tlsSettings",
    ];
    document::not_built(doc, "compute.regionBackendServices", &fields)?;
    if doc.get("iap").is_some_and(|iap| iap["enabled"] == true) {
        return Err(Error::not_built("compute.regionBackendServices.iap"));
    }
    match document::text(doc, "ipAddressSelectionPolicy") {
        None | Some("IPV4_ONLY" | "IP_ADDRESS_SELECTION_POLICY_UNSPECIFIED") => Ok(()),
        Some(_) => Err(Error::not_built("compute.regionBackendServices.ipAddressSelectionPolicy")),
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
    check_affinity(doc)?;
    check_outlier(doc)?;
    check_breakers(doc)?;
    check_metrics(doc)?;
    check_headers(doc)?;
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

/// Custom headers are checked as those of a URL map are.
fn check_headers(doc: &Document) -> Result<(), Error> {
    let lines = |field: &str| -> Vec<String> {
        document::items(doc, field).iter().filter_map(|line| line.as_str().map(str::to_owned)).collect()
    };
    let checked = HeaderAction::custom(&lines("customRequestHeaders"), &lines("customResponseHeaders"));
    checked.map(drop).map_err(|error| url_maps::refused(Problem::Invalid(error)))
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
    let settings = document::object(hash);
    let path = "resource.consistentHash";
    document::within(settings, path, "minimumRingSize", 1..=LARGEST_RING)?;
    if let Some(Value::Object(cookie)) = settings.get("httpCookie") {
        check_cookie(cookie, &format!("{path}.httpCookie"))?;
    }
    // Without a policy, Maglev is what sessions are kept by.
    let affinity = document::text(doc, "sessionAffinity").is_some_and(|affinity| affinity != "NONE");
    match document::text(doc, "localityLbPolicy") {
        Some("RING_HASH" | "MAGLEV") => Ok(()),
        None if affinity => Ok(()),
        _ => {
            let why = "Consistent hashing can only be set with localityLbPolicy RING_HASH or MAGLEV.";
            Err(Error::invalid(path, document::quoted(hash), why))
        }
    }
}

/// Affinities need what they look at.
fn check_affinity(doc: &Document) -> Result<(), Error> {
    let hash = doc.get("consistentHash").map(document::object);
    let hash_text = |field| hash.and_then(|hash| document::text(hash, field));
    let affinity = document::text(doc, "sessionAffinity");
    match affinity {
        Some("HEADER_FIELD") if hash_text("httpHeaderName").is_none() => {
            return Err(Error::required("resource.consistentHash.httpHeaderName"));
        }
        Some("HTTP_COOKIE") => {
            let cookie = hash.and_then(|hash| hash.get("httpCookie")).map(document::object);
            if cookie.and_then(|cookie| document::text(cookie, "name")).is_none() {
                return Err(Error::required("resource.consistentHash.httpCookie.name"));
            }
        }
        _ => {}
    }
    let Some(cookie) = doc.get("strongSessionAffinityCookie") else { return Ok(()) };
    let path = "resource.strongSessionAffinityCookie";
    if affinity != Some("STRONG_COOKIE_AFFINITY") {
        let why = "The cookie can only be set with sessionAffinity STRONG_COOKIE_AFFINITY.";
        return Err(Error::invalid(path, document::quoted(cookie), why));
    }
    check_cookie(document::object(cookie), path)
}

fn check_cookie(cookie: &Document, path: &str) -> Result<(), Error> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if let Some(name) = document::text(cookie, "name").filter(|name| !name.bytes().all(token)) {
        return Err(Error::invalid(format!("{path}.name"), name, "Must be a cookie name of RFC 6265."));
    }
    let in_path = |byte: u8| byte.is_ascii_graphic() && byte != b';' && byte != b',';
    if let Some(text) = document::text(cookie, "path").filter(|text| !text.bytes().all(in_path)) {
        return Err(Error::invalid(format!("{path}.path"), text, "Must be a path of RFC 6265."));
    }
    check_duration(cookie, path, "ttl", 0..=LONGEST_COOKIE)
}

/// A duration whose seconds are in a range.
fn check_duration(
    doc: &Document,
    path: &str,
    field: &str,
    seconds: std::ops::RangeInclusive<i64>,
) -> Result<(), Error> {
    let Some(duration) = doc.get(field) else { return Ok(()) };
    let duration = duration.as_object().ok_or_else(|| {
        Error::invalid(format!("{path}.{field}"), document::quoted(duration), "Must be an object.")
    })?;
    let path = format!("{path}.{field}");
    document::within(duration, &path, "seconds", seconds)?;
    document::within(duration, &path, "nanos", 0..=999_999_999)
}

fn check_outlier(doc: &Document) -> Result<(), Error> {
    let Some(outlier) = doc.get("outlierDetection") else { return Ok(()) };
    let path = "resource.outlierDetection";
    let outlier = document::object(outlier);
    for field in [
        "enforcingConsecutiveErrors",
        "enforcingConsecutiveGatewayFailure",
        "enforcingSuccessRate",
        "maxEjectionPercent",
    ] {
        document::within(outlier, path, field, 0..=100)?;
    }
    for field in [
        "consecutiveErrors",
        "consecutiveGatewayFailure",
        "successRateMinimumHosts",
        "successRateRequestVolume",
        "successRateStdevFactor",
    ] {
        document::within(outlier, path, field, 0..=i64::from(i32::MAX))?;
    }
    check_duration(outlier, path, "baseEjectionTime", 0..=LONGEST_DURATION)?;
    check_duration(outlier, path, "interval", 0..=LONGEST_DURATION)
}

fn check_breakers(doc: &Document) -> Result<(), Error> {
    let Some(breakers) = doc.get("circuitBreakers") else { return Ok(()) };
    let breakers = document::object(breakers);
    for field in
        ["maxConnections", "maxPendingRequests", "maxRequests", "maxRequestsPerConnection", "maxRetries"]
    {
        document::within(breakers, "resource.circuitBreakers", field, 0..=i64::from(i32::MAX))?;
    }
    Ok(())
}

/// Names of custom metrics, which have a form of their own.
fn check_metrics(doc: &Document) -> Result<(), Error> {
    for (index, metric) in document::items(doc, "customMetrics").iter().enumerate() {
        let path = format!("resource.customMetrics[{index}].name");
        let name = metric["name"].as_str().ok_or_else(|| Error::required(path.as_str()))?;
        if !is_metric_name(name) {
            let why = "Must be a match of regex '[a-z]([-_.a-z0-9]*[a-z0-9])?' with 1 to 64 characters.";
            return Err(Error::invalid(path, name, why));
        }
    }
    Ok(())
}

fn is_metric_name(name: &str) -> bool {
    let ends = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_lowercase()
        && ends(*last)
        && bytes.len() <= 64
        && bytes.iter().all(|byte| ends(*byte) || b"-_.".contains(byte))
}

/// Policies of endpoints that are not as Google has them.
pub fn check_policies(doc: &Document) -> Result<(), Error> {
    match document::text(doc, "localityLbPolicy") {
        Some("ORIGINAL_DESTINATION") => {
            Err(Error::not_built("compute.regionBackendServices.localityLbPolicy ORIGINAL_DESTINATION"))
        }
        _ => Ok(()),
    }
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
