//! Firewall documents compiled to rules about addresses.
//!
//! What documents say by tag or service account is about the clients that have it at this moment, so the rules of a
//! network change with its clients.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;
use vestibule_model::{ResourceName, Scope};
use vestibule_store::View;
use vestibule_vpc::firewall::{Action, Direction, Traffic};
use vestibule_vpc::{Addresses, FirewallRule, NetworkId, Ports};

use crate::compute::linked;
use crate::{Document, document};

/// A rule that does not say has this priority.
const DEFAULT_PRIORITY: i64 = 1000;

/// A client of a network as firewall rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub address: Ipv4Addr,
    /// Its email address.
    pub service_account: String,
    pub tags: Vec<String>,
}

/// The rules of a network that are in force, with its clients put in the place of tags and service accounts. A rule
/// that is about nobody at present is left out.
pub fn firewall(view: &View, network: &NetworkId, members: &[Member]) -> Vec<FirewallRule> {
    let Ok(of) = ResourceName::parse(network.as_str()) else { return Vec::new() };
    let parent = ResourceName::new(&of.project, Scope::Global, "firewalls", "").parent_key();
    let documents = view.range(&parent).map(|kv| document::object(&kv.value));
    compiled(documents.filter(|doc| linked(doc, "network").as_ref() == Some(&of)), members)
}

/// The rules in force among documents of one network.
pub(super) fn compiled<'d>(
    documents: impl Iterator<Item = &'d Document>,
    members: &[Member],
) -> Vec<FirewallRule> {
    let enabled = documents.filter(|doc| !document::flag(doc, "disabled"));
    let rules = enabled.map(|doc| compile(doc, members));
    rules.filter(|rule| !rule.sources.is_empty() && !rule.destinations.is_empty()).collect()
}

fn compile(doc: &Document, members: &[Member]) -> FirewallRule {
    let direction = match document::text(doc, "direction") {
        Some("EGRESS") => Direction::Egress,
        _ => Direction::Ingress,
    };
    let (action, traffic) = match document::items(doc, "denied") {
        [] => (Action::Allow, document::items(doc, "allowed")),
        denied => (Action::Deny, denied),
    };
    let targets = clients(doc, "targetTags", "targetServiceAccounts", members);
    let senders = clients(doc, "sourceTags", "sourceServiceAccounts", members);
    let mut sources = either(ranges(doc, "sourceRanges"), senders);
    let mut destinations = ranges(doc, "destinationRanges").unwrap_or_else(Addresses::all);
    if let Some(targets) = targets {
        match direction {
            Direction::Ingress => destinations = destinations.intersection(&targets),
            Direction::Egress => sources = sources.intersection(&targets),
        }
    }
    let priority = document::integer(doc, "priority").unwrap_or(DEFAULT_PRIORITY);
    FirewallRule {
        name: document::text(doc, "name").unwrap_or_default().into(),
        direction,
        priority: priority.clamp(0, i64::from(u16::MAX)) as u16,
        action,
        sources,
        destinations,
        traffic: traffic.iter().filter_map(|entry| self::traffic(document::object(entry))).collect(),
        log: doc.get("logConfig").is_some_and(|log| document::flag(document::object(log), "enable")),
    }
}

/// A sender fits if its address or what it is fits; without either, every sender does.
fn either(ranges: Option<Addresses>, clients: Option<Addresses>) -> Addresses {
    match (ranges, clients) {
        (None, None) => Addresses::all(),
        (ranges, clients) => ranges.into_iter().chain(clients).collect(),
    }
}

/// The clients that have one of the tags or service accounts; `None` if the document names neither.
fn clients(doc: &Document, tags: &str, accounts: &str, members: &[Member]) -> Option<Addresses> {
    let (tags, accounts) = (document::items(doc, tags), document::items(doc, accounts));
    if tags.is_empty() && accounts.is_empty() {
        return None;
    }
    let has = |list: &[Value], text: &str| list.iter().any(|entry| entry.as_str() == Some(text));
    let named = members.iter().filter(|member| {
        has(accounts, &member.service_account) || member.tags.iter().any(|tag| has(tags, tag))
    });
    Some(named.map(|member| member.address).collect())
}

/// A list of ranges; `None` if it is not there. Networks here speak IPv4 alone: a range of IPv6 is about nobody.
fn ranges(doc: &Document, field: &str) -> Option<Addresses> {
    let items = document::items(doc, field);
    let parsed = items.iter().filter_map(|item| range(item.as_str()?));
    (!items.is_empty()).then(|| parsed.collect())
}

fn range(text: &str) -> Option<Addresses> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
    match address.parse().ok()? {
        IpAddr::V4(address) => Some(Addresses::network(address, prefix.parse().ok()?)),
        IpAddr::V6(_) => None,
    }
}

fn traffic(entry: &Document) -> Option<Traffic> {
    let protocol = match document::text(entry, "IPProtocol")?.to_ascii_lowercase().as_str() {
        "all" => None,
        other => Some(protocol_number(other)?),
    };
    let ports = document::items(entry, "ports");
    let ranges = || ports.iter().filter_map(|ports| port_range(ports.as_str()?)).collect::<Ports>();
    Some(Traffic { protocol, ports: (!ports.is_empty()).then(ranges) })
}

/// A protocol's number by its name in IANA's registry, or by itself.
fn protocol_number(text: &str) -> Option<u8> {
    match text {
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmp" => Some(1),
        "esp" => Some(50),
        "ah" => Some(51),
        "ipip" => Some(94),
        "sctp" => Some(132),
        number => number.parse().ok(),
    }
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}
