//! `serverTlsPolicies` of Network Security: whether a load balancer asks clients for certificates, and whom it trusts.
//!
//! A policy without a validation mode is one for Traffic Director. It is kept as it was sent, and cannot be attached to a
//! target proxy.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use vestibule_proxy::tls::{ClientValidation, ClientValidationMode, Trust};
use vestibule_store::View;

use super::{Info, Kind, Name, TRUST_CONFIGS};
use crate::{Change, Document, Error, document};

/// `serverTlsPolicies`
pub struct ServerTlsPolicies;

pub static SERVER_TLS_POLICIES: ServerTlsPolicies = ServerTlsPolicies;

static INFO: Info = Info {
    service: "networksecurity",
    collection: "serverTlsPolicies",
    message: "google.cloud.networksecurity.v1.ServerTlsPolicy",
    writable: &["allowOpen", "description", "labels", "mtlsPolicy", "serverCertificate"],
    etag: false,
    id_rule: "It must hold 1 to 63 letters, digits, hyphens and underscores, and not begin with a digit.",
    is_id: |id| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&id.len()) && !id.starts_with(|c: char| c.is_ascii_digit()) && id.bytes().all(fits)
    },
};

const ALLOW: &str = "ALLOW_INVALID_OR_MISSING_CLIENT_CERT";
const REJECT: &str = "REJECT_INVALID";
/// Needs SHA-1 and clocks that stand still.
const RELAX: &str = "ALLOW_VALIDATION_RELAXATIONS";

const MTLS: &str = "mtlsPolicy";
const MODE: &str = "clientValidationMode";
const TRUST_CONFIG: &str = "clientValidationTrustConfig";
const AUTHORITIES: &str = "clientValidationCa";

impl Kind for ServerTlsPolicies {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn validate(&self, change: &mut Change<'_>, name: &Name, doc: &Document) -> Result<(), Error> {
        let mtls = part(doc);
        let path = |field: &str| format!("server_tls_policy.mtls_policy.{field}");
        match document::text(mtls, MODE) {
            None if document::text(mtls, TRUST_CONFIG).is_some() => {
                return Err(Error::bad_request(
                    "client_validation_mode is required with client_validation_trust_config.",
                ));
            }
            None => {}
            Some(RELAX) => {
                let method = format!("networksecurity.projects.locations.serverTlsPolicies.{MTLS}.{MODE}");
                return Err(Error::not_built(format!("{method} ({RELAX})")));
            }
            Some(ALLOW | REJECT) => check_for_load_balancers(doc)?,
            Some(other) => {
                let why = format!("Must be one of {ALLOW}, {REJECT}.");
                return Err(Error::invalid(path("client_validation_mode"), other, why));
            }
        }
        if !document::items(mtls, "clientValidationRelaxations").is_empty() {
            let why = format!("Relaxations need the mode {RELAX}.");
            return Err(Error::invalid(path("client_validation_relaxations"), "", why));
        }
        check_trust_config(change, name, mtls)?;
        match change.users(&name.key()).is_empty() {
            true => Ok(()),
            false => check_attachable(doc).map_err(Error::bad_request),
        }
    }

    fn references(&self, name: &Name, doc: &Document) -> Vec<Name> {
        trust_config(name, part(doc)).into_iter().collect()
    }
}

/// `mtlsPolicy`
fn part(doc: &Document) -> &Document {
    document::object(doc.get(MTLS).unwrap_or(&Value::Null))
}

fn trust_config(policy: &Name, mtls: &Document) -> Option<Name> {
    Name::read(super::Kind::info(&TRUST_CONFIGS), document::text(mtls, TRUST_CONFIG)?, &policy.project)
}

/// What Google says of policies for load balancers.
fn check_for_load_balancers(doc: &Document) -> Result<(), Error> {
    let mtls = part(doc);
    let wrong = if document::flag(doc, "allowOpen") {
        "allow_open must be false in policies for Application Load Balancers."
    } else if doc.get("serverCertificate").is_some_and(|certificate| certificate != &serde_json::json!({})) {
        "server_certificate must be empty in policies for Application Load Balancers."
    } else if !document::items(mtls, AUTHORITIES).is_empty() {
        "mtls_policy.client_validation_ca must be empty in policies for Application Load Balancers."
    } else if document::text(mtls, MODE) == Some(REJECT) && document::text(mtls, TRUST_CONFIG).is_none() {
        "mtls_policy.client_validation_trust_config is required with client_validation_mode REJECT_INVALID."
    } else {
        return Ok(());
    };
    Err(Error::bad_request(wrong))
}

fn check_trust_config(change: &Change<'_>, name: &Name, mtls: &Document) -> Result<(), Error> {
    let Some(sent) = document::text(mtls, TRUST_CONFIG) else { return Ok(()) };
    let field = "server_tls_policy.mtls_policy.client_validation_trust_config";
    let Some(trust) = trust_config(name, mtls) else {
        let why = "Must be of the form projects/PROJECT/locations/LOCATION/trustConfigs/TRUST_CONFIG.";
        return Err(Error::invalid(field, sent, why));
    };
    if trust.project != name.project || trust.location != name.location {
        let why = "The trust config must be in the project and location of the policy.";
        return Err(Error::invalid(field, sent, why));
    }
    match change.get(&trust.key()) {
        None => Err(trust.not_found()),
        Some(stored) if document::text(mtls, MODE) == Some(REJECT) && is_empty(&stored) => {
            Err(Error::invalid(field, sent, "REJECT_INVALID requires a trust config with certificates."))
        }
        Some(_) => Ok(()),
    }
}

/// The trust config trusts nobody.
fn is_empty(trust: &Value) -> bool {
    certificates(&trust["trustStores"][0]["trustAnchors"]).next().is_none()
        && certificates(&trust["allowlistedCertificates"]).next().is_none()
}

/// Why a policy cannot be attached to a target proxy.
fn check_attachable(doc: &Document) -> Result<(), String> {
    match document::text(part(doc), MODE) {
        Some(_) => Ok(()),
        None => {
            Err("A server TLS policy for load balancers must have an mtlsPolicy with a clientValidationMode."
                .to_owned())
        }
    }
}

/// Reads `serverTlsPolicy` of a target proxy in a project and region, and checks that it can be attached.
pub fn attachable(
    change: &Change<'_>,
    project: &str,
    region: &str,
    field: &str,
    reference: &str,
) -> Result<Name, Error> {
    let Some(name) = attached(reference, project) else {
        let why = "Must be of the form projects/PROJECT/locations/LOCATION/serverTlsPolicies/POLICY.";
        return Err(Error::invalid(field, reference, why));
    };
    if name.project != project || name.location != region {
        let why = "The server TLS policy must be in the project and region of the target proxy.";
        return Err(Error::invalid(field, reference, why));
    }
    let stored = change.get(&name.key()).ok_or_else(|| Error::not_found(&name))?;
    check_attachable(document::object(&stored)).map_err(|why| Error::invalid(field, reference, why))?;
    Ok(name)
}

/// The policy that a target proxy's `serverTlsPolicy` names.
pub fn attached(reference: &str, project: &str) -> Option<Name> {
    Name::read(&INFO, reference, project)
}

/// Revisions of the documents that make up what a policy asks.
pub fn revisions(view: &View, policy: &Name) -> [u64; 2] {
    let stored = view.get(&policy.key());
    let trust = stored.and_then(|kv| trust_config(policy, part(document::object(&kv.value))));
    let trust = trust.and_then(|trust| view.get(&trust.key()));
    [stored, trust].map(|kv| kv.map_or(0, |kv| kv.modified))
}

/// How clients are asked under a stored policy.
pub fn validation(view: &View, policy: &Name) -> Result<ClientValidation, Error> {
    let stored = view.get(&policy.key()).ok_or_else(|| policy.not_found())?;
    let mtls = part(document::object(&stored.value));
    let trust = trust_config(policy, mtls).map(|name| trust(view, &name)).transpose()?;
    let mode = match document::text(mtls, MODE) {
        Some(REJECT) => ClientValidationMode::RejectInvalid,
        _ => ClientValidationMode::AllowInvalidOrMissing,
    };
    Ok(ClientValidation { mode, trust })
}

fn trust(view: &View, name: &Name) -> Result<Trust, Error> {
    let stored = view.get(&name.key()).ok_or_else(|| name.not_found())?;
    let parsed = |list: &Value| certificates(list).map(|pem| parse(name, pem)).collect::<Result<Vec<_>, _>>();
    let store = &stored.value["trustStores"][0];
    let allowlisted = parsed(&stored.value["allowlistedCertificates"])?;
    Trust::new(&parsed(&store["trustAnchors"])?, parsed(&store["intermediateCas"])?, &allowlisted)
        .map_err(|error| Error::internal(format!("{name} cannot be used: {error}")))
}

fn certificates(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(|entry| entry["pemCertificate"].as_str())
}

fn parse(name: &Name, pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| Error::internal(format!("{name} has a bad certificate: {error}")))
}
