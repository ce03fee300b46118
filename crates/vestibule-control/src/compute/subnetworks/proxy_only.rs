//! Proxy-only subnetworks: where the proxies of Envoy-based load balancers live.
//!
//! At most one ACTIVE and one BACKUP exist for a purpose in a region of a network. A BACKUP is made ACTIVE by a patch;
//! the old ACTIVE then becomes the BACKUP and drains for as long as the patch said. When the draining ends is kept in
//! a document of its own, so that the subnetwork's document changes only when somebody changes it.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use vestibule_model::{ResourceName, time};
use vestibule_store::View;

use super::network_of;
use crate::compute::Call;
use crate::compute::ranges::Range;
use crate::{Change, Document, Error, document};

/// Purposes of proxy-only subnetworks.
pub const PURPOSES: &[&str] = &[REGIONAL, LEGACY, "GLOBAL_MANAGED_PROXY"];

/// For every regional Envoy-based load balancer.
const REGIONAL: &str = "REGIONAL_MANAGED_PROXY";

/// What [`REGIONAL`] was called before; cannot stand beside it.
const LEGACY: &str = "INTERNAL_HTTPS_LOAD_BALANCER";

/// Longest prefix: at least 64 addresses.
const LONGEST_PREFIX: u8 = 26;

/// Longest drain that a patch may ask for.
const LONGEST_DRAIN: SignedDuration = SignedDuration::from_hours(1);

/// What a proxy-only subnetwork is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Active,
    Backup,
}

impl Role {
    fn of(doc: &Document) -> Option<Role> {
        match document::text(doc, "role")? {
            "ACTIVE" => Some(Role::Active),
            "BACKUP" => Some(Role::Backup),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Active => "ACTIVE",
            Role::Backup => "BACKUP",
        })
    }
}

pub fn is_proxy_only(doc: &Document) -> bool {
    PURPOSES.contains(&purpose(doc))
}

/// Whether this is the subnetwork that the proxies of regional load balancers have their addresses in.
pub fn is_active(doc: &Document) -> bool {
    is_regional(purpose(doc)) && Role::of(doc) == Some(Role::Active)
}

/// Whether regional load balancers can run in this region of this network.
pub fn has_active(change: &Change<'_>, network: &ResourceName, region: &str) -> bool {
    peers(change, network, region).any(|(_, doc)| is_active(&doc))
}

/// Checks role, size and company of a new subnetwork.
pub fn validate(
    change: &Change<'_>,
    name: &ResourceName,
    network: &ResourceName,
    doc: &Document,
    range: &Range,
) -> Result<(), Error> {
    document::one_of(doc, "resource", "role", &["ACTIVE", "BACKUP"])?;
    let purpose = purpose(doc);
    if !is_proxy_only(doc) {
        return match document::text(doc, "role") {
            Some(role) => {
                let why = format!("Invalid field set in subnetwork with purpose {purpose}.");
                Err(Error::invalid("resource.role", role, why))
            }
            None => Ok(()),
        };
    }
    if let Some(log) = doc.get("logConfig") {
        let why = format!("Invalid field set in subnetwork with purpose {purpose}.");
        return Err(Error::invalid("resource.logConfig", document::quoted(log), why));
    }
    if range.prefix() > LONGEST_PREFIX {
        let why = format!(
            "A proxy-only subnetwork needs at least 64 addresses, a prefix length of {LONGEST_PREFIX}."
        );
        return Err(Error::invalid("resource.ipCidrRange", range, why));
    }
    let role = Role::of(doc).ok_or_else(|| Error::required("resource.role"))?;
    check_company(change, name, network, purpose, role)
}

fn check_company(
    change: &Change<'_>,
    name: &ResourceName,
    network: &ResourceName,
    purpose: &str,
    role: Role,
) -> Result<(), Error> {
    let region = name.scope.region_name().unwrap_or_default();
    let place = format!("in region '{region}' of network '{}'", network.name);
    let mut active = false;
    for (other, doc) in peers(change, network, region).filter(|(other, _)| other != name) {
        let theirs = self::purpose(&doc);
        if theirs != purpose && is_regional(theirs) && is_regional(purpose) {
            let why =
                format!("Subnetwork '{}' has purpose {theirs} {place}; the two cannot coexist.", other.name);
            return Err(Error::invalid("resource.purpose", purpose, why));
        }
        if theirs != purpose {
            continue;
        }
        if Role::of(&doc) == Some(role) {
            let why = format!("Subnetwork '{}' is already the {role} {purpose} {place}.", other.name);
            return Err(Error::invalid("resource.role", role, why));
        }
        active |= Role::of(&doc) == Some(Role::Active);
    }
    if role == Role::Backup && !active {
        let why = format!("There is no ACTIVE {purpose} {place}.");
        return Err(Error::invalid("resource.role", role, why));
    }
    Ok(())
}

/// Checks a patch's effect on purpose and role, and swaps roles where a BACKUP is made ACTIVE.
pub fn update(
    change: &mut Change<'_>,
    call: &Call,
    name: &ResourceName,
    network: &ResourceName,
    old: &Document,
    new: &Document,
) -> Result<(), Error> {
    document::one_of(new, "resource", "role", &["ACTIVE", "BACKUP"])?;
    let migrated = purpose(old) == LEGACY && purpose(new) == REGIONAL;
    if !migrated {
        document::unchanged(old, new, "resource", "purpose")?;
    }
    if is_proxy_only(new)
        && let Some(log) = new.get("logConfig")
    {
        let why = format!("Invalid field set in subnetwork with purpose {}.", purpose(new));
        return Err(Error::invalid("resource.logConfig", document::quoted(log), why));
    }
    match (Role::of(old), Role::of(new)) {
        (before, after) if before == after => Ok(()),
        (Some(Role::Backup), Some(Role::Active)) => promote(change, call, name, network, old),
        (_, after) => {
            let value = after.map(|role| role.to_string()).unwrap_or_default();
            let why = "Only a BACKUP subnetwork can change its role, to ACTIVE.";
            Err(Error::invalid("resource.role", value, why))
        }
    }
}

fn promote(
    change: &mut Change<'_>,
    call: &Call,
    name: &ResourceName,
    network: &ResourceName,
    doc: &Document,
) -> Result<(), Error> {
    let drain = drain_time(call)?;
    let region = name.scope.region_name().unwrap_or_default();
    let same = |other: &Document| purpose(other) == purpose(doc);
    let active =
        peers(change, network, region).find(|(_, doc)| same(doc) && Role::of(doc) == Some(Role::Active));
    if is_draining(change.view(), name) {
        return Err(Error::invalid("resource.role", Role::Active, "The subnetwork is draining."));
    }
    let Some((active, mut doc)) = active else { return Ok(()) };
    doc.insert("role".into(), Role::Backup.to_string().into());
    change.rewrite(&active, doc)?;
    if !drain.is_zero() {
        let until = time::rfc3339(change.now() + drain);
        change.put(&drain_key(&active), json!({ "until": until }));
    }
    Ok(())
}

fn drain_time(call: &Call) -> Result<SignedDuration, Error> {
    let Some(text) = call.parameters.get("drainTimeoutSeconds") else { return Ok(SignedDuration::ZERO) };
    let time = text.parse().ok().map(SignedDuration::from_secs);
    time.filter(|time| !time.is_negative() && *time <= LONGEST_DRAIN).ok_or_else(|| {
        let why = format!("Must be between 0 and {} seconds.", LONGEST_DRAIN.as_secs());
        Error::invalid("drainTimeoutSeconds", text, why)
    })
}

/// Whether the subnetwork still drains after it lost the ACTIVE role.
pub fn is_draining(view: &View, name: &ResourceName) -> bool {
    let until = view.get(&drain_key(name)).and_then(|kv| kv.value["until"].as_str().and_then(time::parse));
    until.is_some_and(|until| Timestamp::now() < until)
}

/// Checks whether a proxy-only subnetwork may go.
pub fn delete(change: &mut Change<'_>, name: &ResourceName, doc: &Document) -> Result<(), Error> {
    change.delete(&drain_key(name));
    if !is_proxy_only(doc) || Role::of(doc) != Some(Role::Active) {
        return Ok(());
    }
    let network = network_of(doc)?;
    let region = name.scope.region_name().unwrap_or_default();
    let backup = peers(change, &network, region)
        .any(|(_, other)| purpose(&other) == purpose(doc) && Role::of(&other) == Some(Role::Backup));
    if backup {
        let why =
            "Invalid resource usage: Cannot delete ACTIVE subnetwork because a BACKUP subnetwork exists.";
        return Err(Error::bad_request(why));
    }
    let rules = change.list(&name.sibling("forwardingRules", ""));
    let rule = rules.into_iter().find(|(_, rule)| served_here(document::object(rule), &network));
    match rule {
        Some((rule, _)) if is_regional(purpose(doc)) => Err(Error::in_use("subnetwork", name, rule)),
        _ => Ok(()),
    }
}

/// Whether a forwarding rule's proxies take their addresses from this network's proxy-only subnetworks.
fn served_here(rule: &Document, network: &ResourceName) -> bool {
    let managed =
        matches!(document::text(rule, "loadBalancingScheme"), Some("INTERNAL_MANAGED" | "EXTERNAL_MANAGED"));
    managed && super::linked(rule, "network").is_some_and(|theirs| theirs == *network)
}

/// All proxy-only subnetworks of a network in one region.
fn peers<'a>(
    change: &'a Change<'_>,
    network: &ResourceName,
    region: &'a str,
) -> impl Iterator<Item = (ResourceName, Document)> + 'a {
    change
        .users_in(network, "subnetworks")
        .into_iter()
        .map(|(name, doc)| (name, document::object(&doc).clone()))
        .filter(move |(name, doc)| name.scope.region_name() == Some(region) && is_proxy_only(doc))
}

fn purpose(doc: &Document) -> &str {
    document::text(doc, "purpose").unwrap_or("PRIVATE")
}

fn is_regional(purpose: &str) -> bool {
    purpose == REGIONAL || purpose == LEGACY
}

fn drain_key(name: &ResourceName) -> String {
    format!("draining/{}", name.relative())
}
