//! Server policies and response policies: what comes before a network's zones.
//!
//! Both are the same kind of thing, a named document that is bound to networks, of which a network has one at most; what
//! differs is said by [`PolicyKind`]. A policy goes only when no network is bound to it any more, as on Google's.

use serde_json::{Value, json};
use vestibule_dns::ServerPolicy;
use vestibule_model::name::is_valid_name;
use vestibule_model::{ResourceName, id};
use vestibule_store::View;

use super::{Dns, binding, inbound, invalid, keys, missing, quota, reconcile, required, servers};
use crate::{Change, Document, Error, compute, document};

/// The longest description, in characters.
const MAX_DESCRIPTION: usize = 1024;

/// Which of the two kinds of policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// `policies`: which servers the networks ask instead, and whether others may ask them.
    Server,
    /// `responsePolicies`: rules for single names.
    Response,
}

impl PolicyKind {
    /// The word for one in paths of fields and parameters.
    pub fn entity(self) -> &'static str {
        match self {
            PolicyKind::Server => "policy",
            PolicyKind::Response => "responsePolicy",
        }
    }

    /// The name of the collection.
    pub fn collection(self) -> &'static str {
        match self {
            PolicyKind::Server => "policies",
            PolicyKind::Response => "responsePolicies",
        }
    }

    /// The member that holds a policy's name.
    pub fn name_field(self) -> &'static str {
        match self {
            PolicyKind::Server => "name",
            PolicyKind::Response => "responsePolicyName",
        }
    }

    fn path(self, field: &str) -> String {
        format!("entity.{}.{field}", self.entity())
    }

    fn is_key(self, key: &str) -> bool {
        keys::policy_kind(key) == Some(self)
    }

    fn find<'v>(self, view: &'v View, project: &str, name: &str) -> Result<&'v Value, Error> {
        let found = view.get(&keys::policy(self, project, name));
        found.map(|kv| &*kv.value).ok_or_else(|| missing(self.entity(), name))
    }
}

impl Dns<'_> {
    /// Creates a policy. The resolver obeys it when this returns.
    pub fn create_policy(&self, kind: PolicyKind, project: &str, mut body: Document) -> Result<Value, Error> {
        let (policy, revision) = self.0.change(|change| {
            document::drop_nulls(&mut body);
            body.insert("id".into(), id::resource_id().into());
            let doc = checked(change, kind, project, body.clone(), None)?;
            let name = document::text(&doc, kind.name_field()).unwrap_or_default();
            let key = keys::policy(kind, project, name);
            if change.exists(&key) {
                let message =
                    format!("The resource 'entity.{}' named '{name}' already exists", kind.entity());
                return Err(Error::AlreadyExists { message });
            }
            let bound = binding::names(&doc);
            let policy = Value::Object(doc);
            change.put(&key, policy.clone());
            settle(change, bound)?;
            Ok(policy)
        })?;
        self.obeyed(revision);
        Ok(policy)
    }

    pub fn policy(&self, kind: PolicyKind, project: &str, name: &str) -> Result<Value, Error> {
        kind.find(&self.0.view(), project, name).cloned()
    }

    /// All policies of a kind by name.
    pub fn policies(&self, kind: PolicyKind, project: &str) -> Vec<Value> {
        let view = self.0.view();
        let all = view.range(&keys::policy(kind, project, ""));
        all.filter(|kv| kind.is_key(&kv.key)).map(|kv| (*kv.value).clone()).collect()
    }

    /// Changes members of a policy (`patch`, RFC 7396), or replaces it (`update`). The resolver obeys it when this
    /// returns.
    pub fn change_policy(
        &self,
        kind: PolicyKind,
        project: &str,
        name: &str,
        body: Document,
        replace: bool,
    ) -> Result<Value, Error> {
        let (policy, revision) = self.0.change(|change| {
            let old = document::object(kind.find(change.view(), project, name)?).clone();
            let mut new = if replace { Document::new() } else { old.clone() };
            document::merge(&mut new, body);
            document::default(&mut new, kind.name_field(), name);
            new.insert("id".into(), old.get("id").cloned().unwrap_or_default());
            let new = checked(change, kind, project, new, Some(name))?;
            let bound = [binding::names(&old), binding::names(&new)].concat();
            let policy = Value::Object(new);
            change.put(&keys::policy(kind, project, name), policy.clone());
            settle(change, bound)?;
            Ok(policy)
        })?;
        self.obeyed(revision);
        Ok(policy)
    }

    /// Deletes a policy that is bound to no network and holds no rules.
    pub fn delete_policy(&self, kind: PolicyKind, project: &str, name: &str) -> Result<(), Error> {
        let ((), revision) = self.0.change(|change| {
            let policy = kind.find(change.view(), project, name)?;
            let key = keys::policy(kind, project, name);
            if binding::links(document::object(policy)).next().is_some() {
                return Err(holds(name, "networks"));
            }
            if change.view().range(&format!("{key}/")).next().is_some() {
                return Err(holds(name, "response policy rules"));
            }
            change.delete(&key);
            Ok(())
        })?;
        self.obeyed(revision);
        Ok(())
    }
}

/// The networks have a policy, or have it no more.
fn settle(change: &mut Change<'_>, networks: Vec<ResourceName>) -> Result<(), Error> {
    networks.iter().try_for_each(|network| inbound::settle(change, network))
}

fn holds(name: &str, what: &str) -> Error {
    Error::Named {
        reason: "containerNotEmpty",
        message: format!(
            "The resource named '{name}' cannot be deleted because it contains one or more '{what}'."
        ),
    }
}

/// Checks a policy's document as a whole. `known` is the name of one that is there already.
fn checked(
    change: &Change<'_>,
    kind: PolicyKind,
    project: &str,
    mut doc: Document,
    known: Option<&str>,
) -> Result<Document, Error> {
    let name_path = kind.path(kind.name_field());
    let name = document::text(&doc, kind.name_field()).ok_or_else(|| required(&name_path))?.to_owned();
    if !is_valid_name(&name) || known.is_some_and(|known| known != name) {
        return Err(invalid(&name_path, name));
    }
    let description = document::text(&doc, "description").unwrap_or_default();
    if description.chars().count() > MAX_DESCRIPTION {
        return Err(invalid(&kind.path("description"), description));
    }
    if let Some(Value::Array(networks)) = doc.get_mut("networks") {
        let entry = format!("dns#{}Network", kind.entity());
        quota::check_networks(networks.len())?;
        binding::canonical(change, project, networks, &kind.path("networks"), &entry)?;
    }
    binding::check_alone(change, &doc, &keys::policy(kind, project, &name), |key| kind.is_key(key))?;
    match kind {
        PolicyKind::Server => check_server_policy(&mut doc)?,
        PolicyKind::Response => {
            compute::check_labels(&doc, &kind.path("labels"))?;
            document::not_built(&doc, "dns.responsePolicies", &["gkeClusters"])?;
        }
    }
    doc.insert("kind".into(), format!("dns#{}", kind.entity()).into());
    Ok(doc)
}

/// What a server policy may switch on: entries for those outside of the network, query logs.
const SWITCHES: [&str; 2] = ["enableInboundForwarding", "enableLogging"];

fn check_server_policy(doc: &mut Document) -> Result<(), Error> {
    const WHAT: &str = "dns.policies";
    let kind = PolicyKind::Server;
    for field in SWITCHES {
        if let Some(other) = doc.get(field).filter(|value| !value.is_boolean()) {
            return Err(invalid(&kind.path(field), document::quoted(other)));
        }
    }
    let Some(Value::Object(config)) = doc.get_mut("alternativeNameServerConfig") else { return Ok(()) };
    document::not_built(config, &format!("{WHAT}.alternativeNameServerConfig"), &["outboundEndpoints"])?;
    let place = kind.path("alternativeNameServerConfig.targetNameServers");
    let servers = document::items(config, "targetNameServers");
    quota::check_targets(servers.len())?;
    servers::check(servers, &place, &format!("{WHAT}.alternativeNameServerConfig.targetNameServers"))?;
    config.insert("kind".into(), "dns#policyAlternativeNameServerConfig".into());
    if let Some(Value::Array(servers)) = config.get_mut("targetNameServers") {
        let kind = json!("dns#policyAlternativeNameServerConfigTargetNameServer");
        servers.iter_mut().filter_map(Value::as_object_mut).for_each(|server| {
            server.insert("kind".into(), kind.clone());
        });
    }
    Ok(())
}

/// A server policy for the resolver; `None` for one that leaves resolution as it is.
///
/// `translate` says whether this policy may have answers translated for IPv6.
pub(super) fn compile_server_policy(doc: &Document, translate: bool) -> Option<ServerPolicy> {
    let config = document::object(doc.get("alternativeNameServerConfig").unwrap_or(&Value::Null));
    let policy = ServerPolicy {
        name: document::text(doc, PolicyKind::Server.name_field()).unwrap_or_default().into(),
        networks: binding::links(doc).filter_map(reconcile::network).collect(),
        targets: servers::targets(config).into(),
        log: document::flag(doc, "enableLogging"),
        dns64: translate && doc.get("dns64Config").is_some_and(|c| c["scope"]["allQueries"] == true),
    };
    (!policy.targets.is_empty() || policy.log || policy.dns64).then_some(policy)
}
