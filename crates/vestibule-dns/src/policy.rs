//! What comes before a network's zones: server policies and response policies.

use std::net::SocketAddr;
use std::sync::Arc;

use vestibule_vpc::NetworkId;

use crate::hash::Names;
use crate::name::Name;
use crate::records::RecordSet;
use crate::suffix::BySuffix;
use crate::zone::ZoneData;

/// A name server that is asked for what we do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    pub path: Path,
}

/// How a name server is reached (`forwardingPath`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Through the network if its address is of a private range, and else from this machine. A private address that the
    /// network does not have is taken for one that this machine reaches, as by a VPN.
    Default,
    /// Through the network.
    Private,
    /// From this machine.
    Machine,
}

impl Target {
    /// A server on the default path.
    pub fn new(address: SocketAddr) -> Target {
        Target { address, path: Path::Default }
    }
}

/// A server policy.
#[derive(Debug, Clone, Default)]
pub struct ServerPolicy {
    /// Its short name.
    pub name: Arc<str>,
    pub networks: Vec<NetworkId>,
    /// `alternativeNameServerConfig`: the networks ask these servers for everything, and nobody else. Default: none,
    /// which leaves resolution as it is.
    pub targets: Arc<[Target]>,
    /// `enableLogging`: questions of the networks are logged. Default: they are not.
    pub log: bool,
    /// `dns64Config.scope.allQueries`: names without an AAAA record get one that leads to their A record (RFC 6147).
    /// Default: they do not.
    pub dns64: bool,
}

/// A response policy, ready to be asked.
#[derive(Debug)]
pub struct ResponsePolicy {
    name: Arc<str>,
    networks: Vec<NetworkId>,
    rules: Arc<Rules>,
}

/// A rule of a response policy.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `www.example.com.`, or `*.example.com.` for all names below.
    pub name: Name,
    pub action: Action,
}

/// What a rule does with a name.
#[derive(Debug, Clone)]
pub enum Action {
    /// `localData`: these records, and no others. They must have the rule's name.
    Answer(Vec<RecordSet>),
    /// `bypassResponsePolicy`: the name is resolved as if there were no policy.
    Bypass,
}

impl ResponsePolicy {
    /// Prepares a policy. Of two rules for one name the later counts.
    pub fn new(networks: Vec<NetworkId>, rules: Vec<Rule>) -> ResponsePolicy {
        ResponsePolicy { name: Arc::default(), networks, rules: Arc::new(Rules::new(rules)) }
    }

    /// The same with its short name, which logs tell.
    pub fn named(self, name: &str) -> ResponsePolicy {
        ResponsePolicy { name: name.into(), ..self }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn networks(&self) -> &[NetworkId] {
        &self.networks
    }

    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.clone()
    }
}

/// The rules of a network by name.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    exact: Names<Name, Prepared>,
    /// By the name that follows the `*`.
    below: BySuffix<Prepared>,
}

#[derive(Debug)]
pub(crate) enum Prepared {
    /// A zone of its own: for a wildcard it begins at the name that follows the `*`.
    Answer(ZoneData),
    Bypass,
}

impl Rules {
    fn new(rules: Vec<Rule>) -> Rules {
        let mut all = Rules::default();
        for rule in rules {
            let below = rule.name.below_wildcard();
            let apex = below.clone().unwrap_or_else(|| rule.name.clone());
            let prepared = match rule.action {
                Action::Answer(sets) => Prepared::Answer(ZoneData::new(apex.clone(), sets)),
                Action::Bypass => Prepared::Bypass,
            };
            match below {
                Some(_) => all.below.insert(apex, prepared),
                None => drop(all.exact.insert(apex, prepared)),
            }
        }
        all
    }

    /// The one rule that applies to a name: its own, else the wildcard with the longest name.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&Prepared> {
        let parent = || name.get(usize::from(*name.first()?) + 1..);
        self.exact.get(name).or_else(|| self.below.find(parent()?))
    }
}
