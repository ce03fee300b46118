//! Firewall rules of a network, with everything resolved to addresses.
//!
//! A packet between two clients must be let out by the sender's side and let in by the receiver's. On each side the
//! matching rule of the lowest priority number decides, a denying one before an allowing one of the same number;
//! without any, clients may send anything and receive nothing (the implied rules of VPC networks). What answers a
//! connection that was let through is always let through. Traffic with 169.254.169.254 is not asked about, and
//! traffic to virtual IPs only on its way out of the client.
//!
//! [`decide`] says the same in Rust as the kernel's rules do in namespace mode.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::{Addresses, Ports};

/// Seen from the client that a rule protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    Ingress,
    Egress,
}

/// What happens to a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Nothing comes back: the sender waits until it gives up.
    Deny,
    Allow,
}

/// One rule. Disabled ones are not among a network's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallRule {
    /// The resource's short name.
    pub name: Arc<str>,
    pub direction: Direction,
    /// 0 to 65535; the lowest number decides. Default in the API: 1000.
    pub priority: u16,
    pub action: Action,
    /// Who sends. In an egress rule: those of its targets.
    pub sources: Addresses,
    /// Who receives. In an ingress rule: those of its targets.
    pub destinations: Addresses,
    /// The rule matches what any of these does.
    pub traffic: Vec<Traffic>,
    /// Connections that it decides on are told of: [`crate::Driver::log_firewall`].
    pub log: bool,
}

/// A rule with logging decided on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallEvent {
    pub time: std::time::SystemTime,
    pub network: crate::NetworkId,
    /// The rule's short name.
    pub rule: Arc<str>,
    pub priority: u16,
    pub action: Action,
    pub direction: Direction,
    pub flow: Flow,
    /// Port of the sender; 0 for protocols without ports.
    pub source_port: u16,
}

/// A protocol and, where it has them, ports of the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// IP protocol number; `None` is every protocol.
    pub protocol: Option<u8>,
    /// `None` is every port.
    pub ports: Option<Ports>,
}

/// The first packet of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// IP protocol number.
    pub protocol: u8,
    /// Port of the receiver; 0 for protocols without ports.
    pub port: u16,
}

/// IP protocol numbers that have ports.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;

impl Traffic {
    /// Everything.
    pub const ALL: Traffic = Traffic { protocol: None, ports: None };

    /// Whether the protocol has ports at all. A rule with ports for one that has none matches nothing.
    pub fn has_ports(protocol: u8) -> bool {
        matches!(protocol, TCP | UDP | SCTP)
    }

    fn matches(&self, flow: &Flow) -> bool {
        self.protocol.is_none_or(|protocol| protocol == flow.protocol)
            && self.ports.as_ref().is_none_or(|ports| {
                self.protocol.is_some_and(Traffic::has_ports) && ports.contains(flow.port)
            })
    }
}

impl FirewallRule {
    pub fn matches(&self, flow: &Flow) -> bool {
        self.sources.contains(flow.source)
            && self.destinations.contains(flow.destination)
            && self.traffic.iter().any(|traffic| traffic.matches(flow))
    }

    /// Rules of one direction in the order in which they are asked.
    pub fn ordered(rules: &[FirewallRule], direction: Direction) -> Vec<&FirewallRule> {
        let mut ordered: Vec<&FirewallRule> =
            rules.iter().filter(|rule| rule.direction == direction).collect();
        ordered.sort_by_key(|rule| (rule.priority, rule.action));
        ordered
    }
}

/// What one side says to a new connection, and the rule that says so; `None` is the implied rule.
pub fn decide<'r>(
    rules: &'r [FirewallRule],
    direction: Direction,
    flow: &Flow,
) -> (Action, Option<&'r FirewallRule>) {
    let rule = FirewallRule::ordered(rules, direction).into_iter().find(|rule| rule.matches(flow));
    let implied = match direction {
        Direction::Ingress => Action::Deny,
        Direction::Egress => Action::Allow,
    };
    (rule.map_or(implied, |rule| rule.action), rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

    fn rule(name: &str, priority: u16, action: Action) -> FirewallRule {
        FirewallRule {
            name: name.into(),
            direction: Direction::Ingress,
            priority,
            action,
            sources: Addresses::all(),
            destinations: Addresses::all(),
            traffic: vec![Traffic::ALL],
            log: false,
        }
    }

    fn flow(protocol: u8, port: u16) -> Flow {
        Flow { source: CLIENT, destination: SERVER, protocol, port }
    }

    fn by(rules: &[FirewallRule], flow: &Flow) -> (Action, String) {
        let (action, rule) = decide(rules, Direction::Ingress, flow);
        (action, rule.map(|rule| rule.name.to_string()).unwrap_or_default())
    }

    #[test]
    fn without_rules_clients_send_and_do_not_receive() {
        assert_eq!(decide(&[], Direction::Ingress, &flow(TCP, 80)), (Action::Deny, None));
        assert_eq!(decide(&[], Direction::Egress, &flow(TCP, 80)), (Action::Allow, None));
    }

    #[test]
    fn the_lowest_number_decides_and_denying_breaks_a_tie() {
        let rules = [
            rule("allow-2", 2, Action::Allow),
            rule("deny-2", 2, Action::Deny),
            rule("allow-3", 3, Action::Allow),
        ];
        assert_eq!(by(&rules, &flow(TCP, 80)), (Action::Deny, "deny-2".to_owned()));
        let first = [&rules[..], &[rule("allow-1", 1, Action::Allow)]].concat();
        assert_eq!(by(&first, &flow(TCP, 80)), (Action::Allow, "allow-1".to_owned()));
    }

    #[test]
    fn ports_and_addresses_are_the_receivers_and_the_senders() {
        let ports = Some([(80, 80), (8000, 8080)].into_iter().collect());
        let web = FirewallRule {
            sources: Addresses::network(CLIENT, 24),
            destinations: [SERVER].into_iter().collect(),
            traffic: vec![
                Traffic { protocol: Some(TCP), ports: ports.clone() },
                Traffic { protocol: Some(1), ports: None },
            ],
            ..rule("web", 1000, Action::Allow)
        };
        let rules = [web];
        let allowed = |flow: Flow| decide(&rules, Direction::Ingress, &flow).0 == Action::Allow;
        for (protocol, port, expected) in
            [(TCP, 80, true), (TCP, 8001, true), (TCP, 81, false), (UDP, 80, false), (1, 0, true)]
        {
            assert_eq!(allowed(flow(protocol, port)), expected, "{protocol} {port}");
        }
        assert!(!allowed(Flow { destination: CLIENT, ..flow(TCP, 80) }));
        assert!(!allowed(Flow { source: SERVER, ..flow(TCP, 80) }));
        let any_protocol =
            FirewallRule { traffic: vec![Traffic { protocol: None, ports }], ..rule("p", 1, Action::Allow) };
        assert_eq!(
            by(&[any_protocol], &flow(TCP, 80)).0,
            Action::Deny,
            "ports need a protocol that has them"
        );
    }
}
