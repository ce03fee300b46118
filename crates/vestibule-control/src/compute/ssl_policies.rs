//! SSL policies, global and regional: which versions of TLS and which cipher suites a target HTTPS proxy offers.
//!
//! A policy names a profile, which is a published list of features (cipher suites of TLS 1.2 and earlier), and a lowest
//! version. The suites of TLS 1.3 are not chosen by a profile: they are on wherever the version is. `enabledFeatures`
//! tells what the policy asks for. What of it [is offered](offered) is less: the proxy has neither TLS 1.0 and 1.1
//! (RFC 8996 forbids them) nor suites without forward secrecy or authenticated encryption, and a policy that asks for
//! them says so in its `warnings`.

use serde_json::{Value, json};
use vestibule_model::ResourceName;
use vestibule_proxy::tls::{Policy, Version};
use vestibule_store::View;

use super::Call;
use super::kind::{Fingerprint, Info, Kind, Methods, ScopeKind};
use crate::{Change, Document, Error, document};

/// `sslPolicies`
pub struct SslPolicies;

static INFO: Info = Info {
    collection: "sslPolicies",
    scopes: &[ScopeKind::Region, ScopeKind::Global],
    word: "ssl_policy",
    kind: "compute#sslPolicy",
    list_kind: "compute#sslPoliciesList",
    aggregated_kind: Some("compute#sslPoliciesAggregatedList"),
    fingerprint: Fingerprint::Required,
    labels: false,
    methods: Methods::PATCH,
    actions: &[],
    questions: &[],
    output_only: &["enabledFeatures", "warnings"],
};

/// The least demanding profile that has a feature, and whether the FIPS profile has it too.
struct Feature {
    name: &'static str,
    profile: Profile,
    fips: bool,
}

/// Google's profiles in order: each has what the next one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Profile {
    Compatible,
    Modern,
    Restricted,
}

const fn feature(name: &'static str, profile: Profile, fips: bool) -> Feature {
    Feature { name, profile, fips }
}

/// Every feature that a policy can enable, as published with the profiles that have it; in the order of names.
const FEATURES: &[Feature] = &[
    feature("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", Profile::Modern, false),
    feature("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Profile::Restricted, true),
    feature("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", Profile::Modern, false),
    feature("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Profile::Restricted, true),
    feature("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", Profile::Restricted, false),
    feature("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", Profile::Modern, false),
    feature("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Profile::Restricted, true),
    feature("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", Profile::Modern, false),
    feature("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Profile::Restricted, true),
    feature("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Profile::Restricted, false),
    feature("TLS_RSA_WITH_3DES_EDE_CBC_SHA", Profile::Compatible, false),
    feature("TLS_RSA_WITH_AES_128_CBC_SHA", Profile::Compatible, false),
    feature("TLS_RSA_WITH_AES_128_GCM_SHA256", Profile::Compatible, false),
    feature("TLS_RSA_WITH_AES_256_CBC_SHA", Profile::Compatible, false),
    feature("TLS_RSA_WITH_AES_256_GCM_SHA384", Profile::Compatible, false),
];

const PROFILES: &[&str] = &["COMPATIBLE", "CUSTOM", "FIPS_202205", "MODERN", "RESTRICTED"];
const VERSIONS: &[&str] = &["TLS_1_0", "TLS_1_1", "TLS_1_2", "TLS_1_3"];
const EXCHANGES: &[&str] = &["DEFAULT", "DEFERRED", "ENABLED"];

impl Kind for SslPolicies {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(&self, change: &mut Change<'_>, _name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
        validate(change, doc)
    }

    fn update(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        _name: &ResourceName,
        _old: &Document,
        new: &mut Document,
    ) -> Result<(), Error> {
        validate(change, new)
    }
}

/// Answers `listAvailableFeatures`: what `customFeatures` may hold.
pub fn available() -> Vec<&'static str> {
    FEATURES.iter().map(|feature| feature.name).collect()
}

/// What the proxy offers under a stored policy.
pub fn offered(view: &View, name: &ResourceName) -> Result<Policy, Error> {
    let stored = view.get(&name.key()).ok_or_else(|| Error::not_found(name))?;
    let doc = document::object(&stored.value);
    let features = document::items(doc, "enabledFeatures").iter().filter_map(Value::as_str);
    Ok(Policy {
        lowest: lowest(doc),
        suites: features.map(str::to_owned).collect(),
        fips: document::text(doc, "profile") == Some("FIPS_202205"),
    })
}

fn lowest(doc: &Document) -> Version {
    match document::text(doc, "minTlsVersion") {
        Some("TLS_1_3") => Version::Tls13,
        _ => Version::Tls12,
    }
}

fn validate(change: &mut Change<'_>, doc: &mut Document) -> Result<(), Error> {
    document::one_of(doc, "resource", "profile", PROFILES)?;
    document::default(doc, "profile", "COMPATIBLE");
    document::one_of(doc, "resource", "minTlsVersion", VERSIONS)?;
    document::default(doc, "minTlsVersion", "TLS_1_0");
    document::one_of(doc, "resource", "postQuantumKeyExchange", EXCHANGES)?;
    check_version(doc)?;
    let enabled = enabled(doc)?;
    warn(change, doc, &enabled);
    doc.insert("enabledFeatures".into(), json!(enabled));
    Ok(())
}

/// Two profiles and versions belong together.
fn check_version(doc: &Document) -> Result<(), Error> {
    let profile = document::text(doc, "profile").unwrap_or_default();
    let version = document::text(doc, "minTlsVersion").unwrap_or_default();
    let why = match (profile, version) {
        ("FIPS_202205", version) if version != "TLS_1_2" => {
            "The profile FIPS_202205 requires the minimum TLS version TLS_1_2."
        }
        (profile, "TLS_1_3") if profile != "RESTRICTED" => {
            "The minimum TLS version TLS_1_3 requires the profile RESTRICTED."
        }
        _ => return Ok(()),
    };
    Err(Error::invalid("resource.minTlsVersion", version, why))
}

/// The features that a policy asks for, in the order of names.
fn enabled(doc: &Document) -> Result<Vec<&'static str>, Error> {
    let field = "resource.customFeatures";
    let custom = document::items(doc, "customFeatures");
    let profile = match document::text(doc, "profile") {
        Some("CUSTOM") if custom.is_empty() => {
            return Err(Error::invalid(
                field,
                "",
                "Custom features must be specified when profile is CUSTOM.",
            ));
        }
        Some("CUSTOM") => return chosen(custom),
        _ if !custom.is_empty() => {
            let sent = custom.first().map(document::quoted).unwrap_or_default();
            return Err(Error::invalid(
                field,
                sent,
                "Custom features must be empty unless profile is CUSTOM.",
            ));
        }
        Some("FIPS_202205") => return Ok(named(|feature| feature.fips)),
        Some("MODERN") => Profile::Modern,
        Some("RESTRICTED") => Profile::Restricted,
        _ => Profile::Compatible,
    };
    Ok(named(|feature| feature.profile >= profile))
}

fn chosen(custom: &[Value]) -> Result<Vec<&'static str>, Error> {
    for (index, sent) in custom.iter().enumerate() {
        if !FEATURES.iter().any(|feature| Some(feature.name) == sent.as_str()) {
            let why = "Must be one of the features that sslPolicies.listAvailableFeatures returns.";
            return Err(Error::invalid(
                format!("resource.customFeatures[{index}]"),
                document::quoted(sent),
                why,
            ));
        }
    }
    Ok(named(|feature| custom.iter().any(|sent| sent.as_str() == Some(feature.name))))
}

fn named(wanted: impl Fn(&Feature) -> bool) -> Vec<&'static str> {
    FEATURES.iter().filter(|feature| wanted(feature)).map(|feature| feature.name).collect()
}

/// Says in the document and on the operation what is asked for and not offered.
fn warn(change: &mut Change<'_>, doc: &mut Document, enabled: &[&'static str]) {
    let mut told = Vec::new();
    let version = document::text(doc, "minTlsVersion").unwrap_or_default();
    if matches!(version, "TLS_1_0" | "TLS_1_1") {
        told.push("TLS 1.0 and TLS 1.1 are not offered (RFC 8996); clients need TLS 1.2 or 1.3.".to_owned());
    }
    let missing: Vec<&str> = match lowest(doc) {
        Version::Tls13 => Vec::new(),
        Version::Tls12 => enabled.iter().copied().filter(|name| !Policy::has(name)).collect(),
    };
    if !missing.is_empty() {
        told.push(format!("These features are enabled and not offered here: {}.", missing.join(", ")));
    }
    if lowest(doc) == Version::Tls12 && missing.len() == enabled.len() {
        told.push("No enabled feature is offered, which leaves TLS 1.3 alone.".to_owned());
    }
    if document::text(doc, "postQuantumKeyExchange") == Some("ENABLED") {
        told.push(
            "X25519MLKEM768 is not offered here; key exchange stays with X25519 and the NIST curves."
                .to_owned(),
        );
    }
    doc.remove("warnings");
    if !told.is_empty() {
        let warnings: Vec<Value> =
            told.iter().map(|message| json!({"code": WARNING, "message": message})).collect();
        doc.insert("warnings".into(), warnings.into());
    }
    told.into_iter().for_each(|message| change.warn(WARNING, message));
}

const WARNING: &str = "NOT_CRITICAL_ERROR";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::testing::World;

    const POLICIES: &str = "regions/us-central1/sslPolicies";

    fn features(doc: &Value) -> usize {
        doc["enabledFeatures"].as_array().unwrap().len()
    }

    #[test]
    fn profiles_enable_what_is_published() {
        let world = World::new();
        for (name, body, count) in [
            ("compatible", json!({}), 15),
            ("modern", json!({"profile": "MODERN", "minTlsVersion": "TLS_1_1"}), 10),
            ("restricted", json!({"profile": "RESTRICTED", "minTlsVersion": "TLS_1_3"}), 6),
            ("fips", json!({"profile": "FIPS_202205", "minTlsVersion": "TLS_1_2"}), 4),
            ("custom", json!({"profile": "CUSTOM", "customFeatures": ["TLS_RSA_WITH_AES_128_CBC_SHA"]}), 1),
        ] {
            let mut body = body;
            body["name"] = name.into();
            world.insert(POLICIES, body);
            assert_eq!(features(&world.get(&format!("{POLICIES}/{name}"))), count, "{name}");
        }
        let doc = world.get(&format!("{POLICIES}/compatible"));
        assert_eq!((&doc["profile"], &doc["minTlsVersion"]), (&json!("COMPATIBLE"), &json!("TLS_1_0")));
        assert_eq!(doc["kind"], "compute#sslPolicy");
        assert!(world.get(&format!("{POLICIES}/restricted")).get("warnings").is_none());
        let custom = world.get(&format!("{POLICIES}/custom"));
        assert_eq!(custom["warnings"].as_array().unwrap().len(), 3, "{custom}");
        world.insert("global/sslPolicies", json!({"name": "g"}));
    }

    #[test]
    fn what_is_refused() {
        let world = World::new();
        for (body, text) in [
            (json!({"profile": "NOPE"}), "Invalid value for field 'resource.profile': 'NOPE'."),
            (json!({"minTlsVersion": "SSL_3"}), "Invalid value for field 'resource.minTlsVersion': 'SSL_3'."),
            (
                json!({"profile": "FIPS_202205"}),
                "Invalid value for field 'resource.minTlsVersion': 'TLS_1_0'. The profile FIPS_202205",
            ),
            (
                json!({"profile": "MODERN", "minTlsVersion": "TLS_1_3"}),
                "Invalid value for field 'resource.minTlsVersion': 'TLS_1_3'. The minimum",
            ),
            (json!({"profile": "CUSTOM"}), "Invalid value for field 'resource.customFeatures': ''."),
            (
                json!({"customFeatures": ["TLS_RSA_WITH_AES_128_CBC_SHA"]}),
                "Invalid value for field 'resource.customFeatures': 'TLS_RSA_WITH_AES_128_CBC_SHA'.",
            ),
            (
                json!({"profile": "CUSTOM", "customFeatures": ["TLS_NULL"]}),
                "Invalid value for field 'resource.customFeatures[0]': 'TLS_NULL'.",
            ),
        ] {
            let mut body = body;
            body["name"] = "p".into();
            let error = world.try_insert(POLICIES, body.clone()).unwrap_err().to_string();
            assert!(error.starts_with(text), "{body}: {error}");
        }
    }

    #[test]
    fn a_patch_needs_the_fingerprint_and_computes_again() {
        let world = World::new();
        world.insert(
            POLICIES,
            json!({"name": "p", "profile": "CUSTOM", "customFeatures": ["TLS_RSA_WITH_AES_128_CBC_SHA"]}),
        );
        let path = format!("{POLICIES}/p");
        let modern = json!({"profile": "MODERN", "customFeatures": []});
        assert!(matches!(world.try_patch(&path, modern.clone()), Err(Error::ConditionNotMet { .. })));
        world.try_patch_now(&path, modern).unwrap();
        let doc = world.get(&path);
        assert_eq!((features(&doc), &doc["customFeatures"]), (10, &json!([])));
    }
}
