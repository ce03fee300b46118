//! Who holds which private address, and the one place that gives addresses out.
//!
//! Three kinds of holders share a subnetwork: reservations, forwarding rules and clients. A rule may serve on a
//! reserved address, and several rules may share an address when their ports differ; a client may ask for a reserved
//! address on which nobody serves; everything else excludes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use vestibule_model::ResourceName;

use super::{DNS_RESOLVER, SHARED};
use crate::compute::subnetworks;
use crate::{Change, Document, Error, document};

/// Ports of a forwarding rule, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    /// `TCP` or `UDP`.
    pub protocol: String,
    pub first: u16,
    pub last: u16,
}

impl Ports {
    /// Reads `80` or `80-90`.
    pub fn parse(protocol: &str, range: &str) -> Option<Ports> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first != 0 && first <= last).then(|| Ports { protocol: protocol.to_ascii_uppercase(), first, last })
    }

    /// Whether both name a port of the same protocol.
    pub fn overlap(&self, other: &Ports) -> bool {
        self.protocol == other.protocol && self.first <= other.last && other.first <= self.last
    }

    /// Ports of a stored rule; one that names none is taken to serve on all.
    pub fn of_rule(rule: &Document) -> Ports {
        let protocol = document::text(rule, "IPProtocol").unwrap_or("TCP");
        document::text(rule, "portRange")
            .and_then(|range| Ports::parse(protocol, range))
            .unwrap_or_else(|| Ports { protocol: protocol.to_owned(), first: 1, last: u16::MAX })
    }
}

/// What an address is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A reservation. It may be made of an address on which rules already serve.
    Reservation,
    /// A forwarding rule on these ports.
    Rule(Ports),
    /// A client inside the subnetwork.
    Client,
}

/// Who holds an address.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    pub reservation: Option<ResourceName>,
    /// The reservation is for several rules.
    pub shared: bool,
    /// The reservation is for the network's resolver.
    pub resolver: bool,
    pub rules: Vec<(ResourceName, Ports)>,
    pub client: bool,
}

/// Every address of a subnetwork that somebody holds.
pub fn taken(change: &Change<'_>, subnetwork: &ResourceName) -> BTreeMap<Ipv4Addr, Taken> {
    let mut taken: BTreeMap<Ipv4Addr, Taken> = BTreeMap::new();
    for user in change.users_of(subnetwork) {
        let (field, is_rule) = match user.collection.as_str() {
            "addresses" => ("address", false),
            "forwardingRules" => ("IPAddress", true),
            _ => continue,
        };
        let Some(stored) = change.find(&user) else { continue };
        let doc = document::object(&stored);
        let Some(address) = document::text(doc, field).and_then(|text| text.parse().ok()) else { continue };
        let holders = taken.entry(address).or_default();
        if is_rule {
            holders.rules.push((user, Ports::of_rule(doc)));
        } else {
            holders.shared = document::text(doc, "purpose") == Some(SHARED);
            holders.resolver = document::text(doc, "purpose") == Some(DNS_RESOLVER);
            holders.reservation = Some(user);
        }
    }
    for address in change.control().vms().held(subnetwork) {
        taken.entry(address).or_default().client = true;
    }
    taken
}

/// Finds the address for a claim in a private subnetwork: the wanted one, if it may have it, or the lowest free one.
/// `field` names the wanted address in errors.
pub fn allocate(
    change: &mut Change<'_>,
    subnetwork: &ResourceName,
    field: &str,
    wanted: Option<Ipv4Addr>,
    claim: Claim,
) -> Result<Ipv4Addr, Error> {
    let (range, gateway) = subnetworks::range_of(change, subnetwork)?;
    let taken = taken(change, subnetwork);
    let Some(wanted) = wanted else {
        let is_free = |address: &Ipv4Addr| *address != gateway && !taken.contains_key(address);
        return range.usable().find(is_free).ok_or_else(|| Error::IpSpaceExhausted {
            message: format!(
                "IP space of '{subnetwork}' is exhausted. Insufficient free IP addresses in the IP range \
                     '{range}'. Consider expanding the current subnet IP range to include more IP addresses."
            ),
        });
    };
    if !range.is_usable(wanted) || wanted == gateway {
        let why = if range.contains(wanted) {
            format!("The address is one of the four that are reserved in the range {range}.")
        } else {
            format!("The address is not in the range {range} of the subnetwork.")
        };
        return Err(Error::invalid(field, wanted, why));
    }
    if let Some(holders) = taken.get(&wanted) {
        admit(change, wanted, holders, &claim)?;
    }
    Ok(wanted)
}

fn admit(change: &mut Change<'_>, address: Ipv4Addr, holders: &Taken, claim: &Claim) -> Result<(), Error> {
    let in_use = || Error::IpInUse { address: address.to_string() };
    if holders.client || holders.resolver {
        return Err(in_use());
    }
    match claim {
        // As a VM may ask for an address that is reserved for VMs.
        Claim::Client if holders.rules.is_empty() && !holders.shared => Ok(()),
        Claim::Client => Err(in_use()),
        Claim::Reservation if holders.reservation.is_some() => Err(in_use()),
        Claim::Reservation => Ok(()),
        Claim::Rule(ports) if holders.rules.iter().any(|(_, theirs)| theirs.overlap(ports)) => Err(in_use()),
        // Google wants a reserved address that several rules serve on to be reserved for that.
        Claim::Rule(_) if holders.reservation.is_some() && !holders.shared && !holders.rules.is_empty() => {
            change.refuse_or_warn(in_use())
        }
        Claim::Rule(_) => Ok(()),
    }
}

/// Reads a literal address.
pub fn literal(field: &str, text: &str) -> Result<Ipv4Addr, Error> {
    text.parse().map_err(|_| Error::invalid(field, text, "Must be an IPv4 address."))
}
