//! Keys of DNS documents.

use vestibule_store::{KeyValue, View};

use super::policies::PolicyKind;

const ALL: &str = "dns/projects/";

pub(super) fn zone(project: &str, zone: &str) -> String {
    format!("{ALL}{project}/managedZones/{zone}")
}

/// All zones of a project, by name.
pub(super) fn zones<'v>(view: &'v View, project: &str) -> impl Iterator<Item = &'v KeyValue> + use<'v> {
    view.range(&zone(project, "")).filter(|kv| is_zone(&kv.key))
}

/// All zones of all projects.
pub(super) fn all_zones(view: &View) -> impl Iterator<Item = &KeyValue> {
    view.range(ALL).filter(|kv| is_zone(&kv.key))
}

/// Whether this is the key of a zone, and not of something inside of one.
pub(super) fn is_zone(key: &str) -> bool {
    zone_of(key) == Some(key)
}

/// The key of the zone that a DNS key is, or belongs to.
pub(super) fn zone_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(ALL)?;
    let (project, rest) = rest.split_once("/managedZones/")?;
    let name = rest.split('/').next().filter(|name| !name.is_empty() && !project.contains('/'))?;
    Some(&key[..key.len() - rest.len() + name.len()])
}

/// What all record sets of a zone start with.
pub(super) fn sets(zone: &str) -> String {
    format!("{zone}/rrsets/")
}

/// `name` in lower case, with its dot.
pub(super) fn set(zone: &str, name: &str, kind: &str) -> String {
    format!("{zone}/rrsets/{name}/{kind}")
}

/// What all sets of one name start with.
pub(super) fn sets_of(zone: &str, name: &str) -> String {
    format!("{zone}/rrsets/{name}/")
}

/// The zone's key and the name, from the key of a record set.
pub(super) fn name_of_set(key: &str) -> Option<(&str, &str)> {
    let zone = zone_of(key)?;
    let (name, _) = key[zone.len()..].strip_prefix("/rrsets/")?.rsplit_once('/')?;
    Some((zone, name))
}

pub(super) fn changes(zone: &str) -> String {
    format!("{zone}/changes/")
}

pub(super) fn operations(zone: &str) -> String {
    format!("{zone}/operations/")
}

pub(super) fn policy(kind: PolicyKind, project: &str, name: &str) -> String {
    format!("{ALL}{project}/{}/{name}", kind.collection())
}

/// All policies of all projects, with what belongs to them.
pub(super) fn all_policies(view: &View) -> impl Iterator<Item = &KeyValue> {
    view.range(ALL).filter(|kv| policy_kind(&kv.key).is_some())
}

/// What kind of policy this is the key of, if it is one's and not that of something inside of one.
pub(super) fn policy_kind(key: &str) -> Option<PolicyKind> {
    policy_of(key).filter(|(policy, _)| *policy == key).map(|(_, kind)| kind)
}

/// The key of the policy that a DNS key is, or belongs to.
pub(super) fn policy_of(key: &str) -> Option<(&str, PolicyKind)> {
    let (project, rest) = key.strip_prefix(ALL)?.split_once('/')?;
    let (collection, name) = rest.split_once('/')?;
    let kinds = [PolicyKind::Server, PolicyKind::Response];
    let kind = kinds.into_iter().find(|kind| kind.collection() == collection)?;
    let name = name.split('/').next().filter(|name| !name.is_empty())?;
    Some((&key[..ALL.len() + project.len() + 1 + collection.len() + 1 + name.len()], kind))
}

/// `policy` is the key of the policy.
pub(super) fn rule(policy: &str, name: &str) -> String {
    format!("{policy}/rules/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_which_zone() {
        let key = zone("p", "z");
        assert!(is_zone(&key));
        for inner in
            [set(&key, "a.example.", "A"), format!("{}0", changes(&key)), set(&key, "0/25.2.", "PTR")]
        {
            assert_eq!(zone_of(&inner), Some(key.as_str()), "{inner}");
            assert!(!is_zone(&inner));
        }
        assert_eq!(zone_of("compute/projects/p/global/networks/n"), None);
        assert_eq!(name_of_set(&set(&key, "0/25.2.", "PTR")), Some((key.as_str(), "0/25.2.")));
        assert_eq!(name_of_set(&format!("{}0", changes(&key))), None);
        assert_eq!(zone_of("dns/projects/p/managedZones/"), None);
    }

    #[test]
    fn what_belongs_to_which_policy() {
        let key = policy(PolicyKind::Response, "p", "r");
        assert_eq!(policy_kind(&key), Some(PolicyKind::Response));
        assert_eq!(policy_of(&rule(&key, "one")), Some((key.as_str(), PolicyKind::Response)));
        assert_eq!(policy_kind(&rule(&key, "one")), None);
        assert_eq!(policy_kind(&policy(PolicyKind::Server, "p", "s")), Some(PolicyKind::Server));
        // Names of zones may be anything, those of collections too.
        for other in [&zone("p", "policies"), "dns/projects/p/policies/", "compute/projects/p/policies/x"] {
            assert_eq!(policy_of(other), None, "{other}");
        }
        assert_eq!(zone_of(&key), None);
    }
}
