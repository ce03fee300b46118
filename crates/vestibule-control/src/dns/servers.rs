//! Name servers in documents: the targets of forwarding zones and of server policies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value;
use vestibule_dns::{Path, Target};

use super::invalid;
use crate::{Document, Error, document};

/// The port of name servers.
const DNS: u16 = 53;

/// Checks a list of name servers. `place` is the list's path, `what` the name of the same for texts of what is not
/// built.
pub(super) fn check(servers: &[Value], place: &str, what: &str) -> Result<(), Error> {
    for (index, server) in servers.iter().enumerate() {
        if server["domainName"].is_string() {
            return Err(Error::not_built(format!("{what}.domainName")));
        }
        let (v4, v6) = (server["ipv4Address"].as_str(), server["ipv6Address"].as_str());
        let fits = match (v4, v6) {
            (Some(v4), None) => v4.parse::<Ipv4Addr>().is_ok(),
            (None, Some(v6)) => v6.parse::<Ipv6Addr>().is_ok(),
            _ => false,
        };
        if !fits {
            let value = v4.or(v6).unwrap_or_default();
            return Err(invalid(&format!("{place}[{index}].ipv4Address"), value));
        }
        match server.get("forwardingPath").and_then(Value::as_str) {
            None | Some("default" | "private") => {}
            Some(other) => return Err(invalid(&format!("{place}[{index}].forwardingPath"), other)),
        }
    }
    Ok(())
}

/// The servers of `targetNameServers` in a configuration, for the resolver.
pub(super) fn targets(config: &Document) -> Vec<Target> {
    document::items(config, "targetNameServers").iter().filter_map(target).collect()
}

fn target(server: &Value) -> Option<Target> {
    let text = server["ipv4Address"].as_str().or_else(|| server["ipv6Address"].as_str())?;
    let address: IpAddr = text.parse().ok()?;
    let path = if server["forwardingPath"] == "private" { Path::Private } else { Path::Default };
    Some(Target { address: SocketAddr::new(address, DNS), path })
}
