//! Regional target HTTPS proxies.

use serde_json::Value;
use vestibule_model::ResourceName;

use super::super::Call;
use super::super::kind::{Action, Fingerprint, Info, Kind, Methods, ScopeKind, linked};
use super::SET_URL_MAP;
use crate::{Change, Document, Error, document, located};

/// `targetHttpsProxies` of regions
pub struct TargetHttpsProxies;

const SET_CERTIFICATES: &str = "setSslCertificates";

static INFO: Info = Info {
    collection: "targetHttpsProxies",
    scopes: &[ScopeKind::Region],
    word: "target_https_proxy",
    kind: "compute#targetHttpsProxy",
    list_kind: "compute#targetHttpsProxyList",
    aggregated_kind: Some("compute#targetHttpsProxyAggregatedList"),
    fingerprint: Fingerprint::Required,
    labels: false,
    methods: Methods::PATCH,
    actions: &[SET_URL_MAP, Action { verb: SET_CERTIFICATES, operation_type: SET_CERTIFICATES }],
    questions: &[],
    output_only: &[],
};

/// Most certificates of one proxy.
const MOST_CERTIFICATES: usize = 15;

impl Kind for TargetHttpsProxies {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(&self, change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
        validate(change, name, doc)
    }

    fn update(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        _old: &Document,
        new: &mut Document,
    ) -> Result<(), Error> {
        validate(change, name, new)
    }

    fn act(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        verb: &str,
        body: &Document,
        mut doc: Document,
    ) -> Result<Document, Error> {
        if verb == SET_URL_MAP.verb {
            return super::act_set_url_map(change, name, body, doc);
        }
        let certificates = body.get("sslCertificates").cloned();
        doc.insert("sslCertificates".into(), certificates.unwrap_or_else(|| Value::Array(Vec::new())));
        resolve_certificates(change, name, &mut doc)?;
        Ok(doc)
    }

    fn references(&self, _name: &ResourceName, doc: &Document) -> Vec<ResourceName> {
        linked(doc, "urlMap").into_iter().chain(certificates(doc)).chain(linked(doc, "sslPolicy")).collect()
    }
}

/// The server TLS policy of a stored proxy.
pub fn server_tls_policy(name: &ResourceName, doc: &Document) -> Option<located::Name> {
    located::attached(document::text(doc, "serverTlsPolicy")?, &name.project)
}

/// The certificates of a stored proxy, the default one first.
pub fn certificates(doc: &Document) -> Vec<ResourceName> {
    let links = document::items(doc, "sslCertificates").iter().filter_map(Value::as_str);
    links.filter_map(|link| ResourceName::parse(link).ok()).collect()
}

fn validate(change: &Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
    let fields = ["authorizationPolicy", "certificateMap"];
    document::not_built(doc, "compute.regionTargetHttpsProxies", &fields)?;
    document::one_of(doc, "resource", "quicOverride", &["NONE", "ENABLE", "DISABLE"])?;
    document::default(doc, "quicOverride", "NONE");
    document::one_of(doc, "resource", "tlsEarlyData", &["DISABLED", "PERMISSIVE", "STRICT", "UNRESTRICTED"])?;
    document::default(doc, "tlsEarlyData", "DISABLED");
    if document::text(doc, "tlsEarlyData") != Some("DISABLED") {
        return Err(Error::not_built("compute.regionTargetHttpsProxies.tlsEarlyData"));
    }
    super::validate(change, name, doc)?;
    resolve_policy(change, name, doc)?;
    resolve_server_tls_policy(change, name, doc)?;
    resolve_certificates(change, name, doc)
}

/// The policy must be in the proxy's region, and one for load balancers. An empty link detaches it.
fn resolve_server_tls_policy(
    change: &Change<'_>,
    name: &ResourceName,
    doc: &mut Document,
) -> Result<(), Error> {
    let field = "serverTlsPolicy";
    let Some(reference) = document::text(doc, field) else {
        doc.remove(field);
        return Ok(());
    };
    let region = name.scope.region_name().unwrap_or_default();
    let policy = located::attachable(change, &name.project, region, &format!("resource.{field}"), reference)?;
    doc.insert(field.into(), policy.full().into());
    Ok(())
}

/// The policy must be in the proxy's region. An empty link detaches it.
fn resolve_policy(change: &Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
    if document::text(doc, "sslPolicy") == Some("") {
        doc.remove("sslPolicy");
    }
    match change.resolve(name, doc, "sslPolicy", &name.scope, &["sslPolicies"])? {
        Some(policy) if policy.project != name.project || policy.scope != name.scope => {
            let why = "The SSL policy must be in the project and region of the target proxy.";
            Err(Error::invalid("resource.sslPolicy", policy.self_link(), why))
        }
        _ => Ok(()),
    }
}

fn resolve_certificates(change: &Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
    let field = "resource.sslCertificates";
    let links = document::items(doc, "sslCertificates");
    if links.is_empty() {
        return Err(Error::required(field));
    }
    if links.len() > MOST_CERTIFICATES {
        let message = format!(
            "Value for field '{field}' is too large: maximum size {MOST_CERTIFICATES} element(s); actual size {}.",
            links.len()
        );
        return Err(Error::bad_request(message));
    }
    let mut resolved = Vec::with_capacity(links.len());
    for (index, link) in links.iter().enumerate() {
        let path = format!("{field}[{index}]");
        let text = link.as_str().unwrap_or_default();
        if text.contains("certificatemanager.googleapis.com/") {
            return Err(Error::not_built("certificatemanager.certificates"));
        }
        let certificate = change.reference(name, &path, text, &name.scope, &["sslCertificates"])?;
        if certificate.scope != name.scope {
            let why = "The certificate must be in the region of the target proxy.";
            return Err(Error::invalid(path, text, why));
        }
        resolved.push(Value::String(certificate.self_link()));
    }
    doc.insert("sslCertificates".into(), resolved.into());
    Ok(())
}
