//! Networks and their ranges.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// A VPC network: `projects/P/global/networks/N`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkId(Arc<str>);

impl NetworkId {
    pub fn new(project: &str, network: &str) -> NetworkId {
        NetworkId(format!("projects/{project}/global/networks/{network}").into())
    }

    /// From a relative resource name, `projects/P/global/networks/N`.
    pub fn from_relative(name: &str) -> NetworkId {
        NetworkId(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The network's short name, as logs print it.
    pub fn short(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A subnet's primary range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet {
    /// First address of the range.
    pub range: Ipv4Addr,
    /// Prefix length, 0 to 32.
    pub prefix: u8,
    /// The second address of the range.
    pub gateway: Ipv4Addr,
}
