//! What firewall rules say on the way: the sender's side to every address of the network, the receiver's side too where
//! that is a client, and the endpoint's side where a proxy connects to it. The same rules as the kernel's decide, in [`vestibule_vpc::firewall::decide`].

use std::net::Ipv4Addr;

use serde::Serialize;
use vestibule_model::ResourceName;
use vestibule_proxy::snapshot::{At, Endpoints, Listener};
use vestibule_store::View;
use vestibule_vpc::firewall::{Action, Direction, Flow, SCTP, TCP, UDP, decide};
use vestibule_vpc::{FirewallRule, NetworkId};

use super::{End, Outcome, Traveller};
use crate::compute::ranges::Range;
use crate::vpc::{self, Member};

const ICMP: u8 = 1;
/// Different rulings about endpoints that are told at most.
const MOST_RULINGS: usize = 8;

/// What one side says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ruling {
    /// `EGRESS` or `INGRESS`.
    pub direction: &'static str,
    /// `ALLOW` or `DENY`.
    pub action: &'static str,
    /// The rule that decided; left out where that is the implied one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
}

/// A destination without HTTP: `tcp://10.0.0.3:5432`, `icmp://10.0.0.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain {
    protocol: u8,
    pub(super) address: Ipv4Addr,
    port: u16,
}

impl Plain {
    pub fn parse(text: &str) -> Option<Plain> {
        let (scheme, rest) = text.split_once("://")?;
        let rest = rest.trim_end_matches('/');
        let protocol = match scheme.to_ascii_lowercase().as_str() {
            "tcp" => TCP,
            "udp" => UDP,
            "sctp" => SCTP,
            "icmp" => return Some(Plain { protocol: ICMP, address: rest.parse().ok()?, port: 0 }),
            _ => return None,
        };
        let (address, port) = rest.split_once(':')?;
        Some(Plain { protocol, address: address.parse().ok()?, port: port.parse().ok()? })
    }
}

impl Traveller<'_> {
    /// What stands between the client and a virtual IP.
    pub(super) fn pass_to(&mut self, view: &View, listener: &Listener) -> Result<(), End> {
        if let (Some(from), Some(clients)) = (self.question.from, &listener.clients)
            && !clients.contains(from)
        {
            let why = format!(
                "{from} is not in {}, the forwarding rule's region, and the rule has no global access.",
                listener.region
            );
            return self.refuse("globalAccess", None, why);
        }
        let to = Plain { protocol: TCP, address: listener.ip, port: listener.port };
        let network = listener.network.clone();
        self.ask_sides(view, &network, to, to.address, &[Direction::Egress])
    }

    /// The way to another client, if the address is one's or a static route leads there.
    pub(super) fn reach_client(&mut self, view: &View, to: Plain) -> Result<bool, End> {
        let (network, near) = match self.network_of_client(view, to.address) {
            Some(network) => (network, to.address),
            None => match self.led(view, to.address)? {
                Some(found) => found,
                None => return Ok(false),
            },
        };
        self.story.network = Some(network.short().to_owned());
        self.story.address = Some(match to.port {
            0 => to.address.to_string(),
            port => format!("{}:{port}", to.address),
        });
        self.ask_sides(view, &network, to, near, &[Direction::Egress, Direction::Ingress])?;
        self.story.outcome = Outcome::Delivered;
        Ok(true)
    }

    /// What stands between the proxies and the endpoints in the network: the receiver's side alone, asked by the
    /// addresses of the proxy-only subnetwork. It comes before the endpoints' health, which it often explains.
    pub(super) fn pass_to_endpoints(&mut self, view: &View, endpoints: &Endpoints) -> Result<(), End> {
        let Some(proxy) = endpoints.from.first().copied() else { return Ok(()) };
        let rules = vpc::firewall(view, &endpoints.network, &self.members(&endpoints.network));
        let inside = endpoints.endpoints.iter().filter_map(|endpoint| match endpoint.at {
            At::Network(to) => Some(to),
            _ => None,
        });
        let (mut asked, mut denied) = (Vec::new(), Vec::new());
        for to in inside {
            let flow = Flow { source: proxy, destination: *to.ip(), protocol: TCP, port: to.port() };
            let (action, rule) = decide(&rules, Direction::Ingress, &flow);
            let ruling = ruling(Direction::Ingress, action, rule);
            if action == Action::Deny {
                denied.push((to, self.denied(Direction::Ingress, rule)));
            }
            if !asked.contains(&ruling) && asked.len() < MOST_RULINGS {
                asked.push(ruling);
            }
        }
        self.story.firewall.extend(asked);
        let Some((to, why)) = denied.first() else { return Ok(()) };
        let (count, all) = (denied.len(), endpoints.endpoints.len());
        let why = format!(
            "{count} of {all} endpoints cannot be reached from the proxy-only subnetwork, {to} say. {why} It takes an \
             ingress rule that allows tcp:{} from that subnetwork's range.",
            to.port()
        );
        match self.gap.clone() {
            Some(gap) => self.story.notes.push(format!("{why} It is not enforced: {gap}")),
            None if count == all => return self.refuse("firewall", Some(503), why),
            None => self.story.notes.push(why),
        }
        Ok(())
    }

    pub(super) fn plain(&mut self, view: &View, to: Plain) -> Result<(), End> {
        if self.reach_client(view, to)? {
            return Ok(());
        }
        self.refuse("address", None, format!("No client has the address {} now.", to.address))
    }

    pub(super) fn literal(&self) -> Option<Plain> {
        let address = self.question.address.or_else(|| self.url.host.parse().ok())?;
        Some(Plain { protocol: TCP, address, port: self.url.port })
    }

    fn network_of_client(&self, view: &View, address: Ipv4Addr) -> Option<NetworkId> {
        let wanted = |network: &NetworkId| {
            self.question.network.as_deref().is_none_or(|wanted| wanted == network.as_str())
        };
        let networks = vpc::networks(view).into_keys().filter(wanted);
        networks
            .into_iter()
            .find(|network| self.members(network).iter().any(|member| member.address == address))
    }

    pub(super) fn members(&self, network: &NetworkId) -> Vec<Member> {
        self.live.members.map(|members| members(network)).unwrap_or_default()
    }

    fn ask_sides(
        &mut self,
        view: &View,
        network: &NetworkId,
        to: Plain,
        near: Ipv4Addr,
        sides: &[Direction],
    ) -> Result<(), End> {
        let mut members = self.members(network);
        let source = self.sender(view, network, near, &mut members);
        let rules = vpc::firewall(view, network, &members);
        let flow = Flow { source, destination: to.address, protocol: to.protocol, port: to.port };
        self.story.client = Some(source.to_string());
        for side in sides {
            let (action, rule) = decide(&rules, *side, &flow);
            self.story.firewall.push(ruling(*side, action, rule));
            if action == Action::Deny {
                let why = self.denied(*side, rule);
                match self.gap.clone() {
                    Some(gap) => self.story.notes.push(format!("{why} It is not enforced: {gap}")),
                    None => return self.refuse("firewall", None, why),
                }
            }
        }
        let asked_for = self.question.from.is_some() || !self.question.tags.is_empty();
        if !asked_for && rules.iter().any(|rule| sides.contains(&rule.direction)) {
            self.story
                .notes
                .push(format!("Asked for a client at {source} without tags; --from names another."));
        }
        Ok(())
    }

    fn denied(&self, side: Direction, rule: Option<&FirewallRule>) -> String {
        let (what, implied) = match side {
            Direction::Egress => ("The sender's side", "the implied rule"),
            Direction::Ingress => ("The receiver's side", "the implied rule: no rule lets it in"),
        };
        match rule {
            Some(rule) => {
                format!("{what} denies it, by firewall rule {} of priority {}.", rule.name, rule.priority)
            }
            None => format!("{what} denies it, by {implied}."),
        }
    }

    /// The address of who asks. One that no client has is taken for a client with the tags and the account of the
    /// question.
    fn sender(
        &self,
        view: &View,
        network: &NetworkId,
        near: Ipv4Addr,
        members: &mut Vec<Member>,
    ) -> Ipv4Addr {
        let taken = |address: Ipv4Addr, members: &[Member]| members.iter().any(|m| m.address == address);
        let supposed = || neighbour(view, network, near, |address| taken(address, members));
        let address = self.question.from.or_else(supposed).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let said = !self.question.tags.is_empty() || self.question.service_account.is_some();
        if said || !taken(address, members) {
            members.retain(|member| member.address != address);
            members.push(Member {
                address,
                service_account: self.question.service_account.clone().unwrap_or_default(),
                tags: self.question.tags.clone(),
            });
        }
        address
    }
}

fn ruling(side: Direction, action: Action, rule: Option<&FirewallRule>) -> Ruling {
    Ruling {
        direction: match side {
            Direction::Egress => "EGRESS",
            Direction::Ingress => "INGRESS",
        },
        action: match action {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
        },
        rule: rule.map(|rule| rule.name.to_string()),
        priority: rule.map(|rule| rule.priority),
    }
}

/// An address in the same subnetwork that a client could have.
fn neighbour(
    view: &View,
    network: &NetworkId,
    near: Ipv4Addr,
    taken: impl Fn(Ipv4Addr) -> bool,
) -> Option<Ipv4Addr> {
    let network = ResourceName::parse(network.as_str()).ok()?;
    let ranges = vpc::subnetworks(view, &network)
        .into_iter()
        .filter_map(|name| Range::parse(view.get(&name.key())?.value["ipCidrRange"].as_str()?).ok());
    let mut around = ranges.filter(|range| range.contains(near));
    around.next()?.usable().find(|address| *address != near && !taken(*address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_without_http() {
        let parsed = |text| Plain::parse(text).map(|to| (to.protocol, to.address.to_string(), to.port));
        assert_eq!(parsed("tcp://10.0.0.3:5432"), Some((TCP, "10.0.0.3".into(), 5432)));
        assert_eq!(parsed("UDP://10.0.0.3:53/"), Some((UDP, "10.0.0.3".into(), 53)));
        assert_eq!(parsed("icmp://10.0.0.3"), Some((ICMP, "10.0.0.3".into(), 0)));
        for other in ["http://10.0.0.3/", "10.0.0.3", "tcp://10.0.0.3", "tcp://name:1", "icmp://10.0.0.3:1"] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }
}
