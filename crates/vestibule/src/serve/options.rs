//! The flags of `vestibule serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use vestibule_proxy::limits::{self, Limits};

use super::takeover::Settings;

const MIB: usize = 1 << 20;

/// Runs the private cloud: Google's APIs, the load balancer, DNS, the serverless runtime, logs.
///
/// Prints one line on stdout once it serves: `ready` and key=value pairs (api, state, network-mode, gateway, front).
/// All else goes to stderr. SIGTERM or Ctrl-C ends it after the requests in flight have been answered.
#[derive(Debug, Parser)]
#[command(name = "vestibule serve")]
pub struct Options {
    /// Where all state lives. Default: $XDG_STATE_HOME/vestibule, or ~/.local/state/vestibule
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Take over from the server that runs with the same state directory: no client notices. The two may be different
    /// versions with different flags, except where things listen, the network mode and the number of workers. If this
    /// server fails before it serves, the other goes on
    #[arg(long)]
    pub takeover: bool,

    /// Where the APIs listen; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8470")]
    pub api_listen: SocketAddr,

    /// How VPC networks are realised: as network namespaces, on loopback addresses, or the first that works
    #[arg(long, value_enum, default_value_t = NetworkMode::Auto)]
    pub network_mode: NetworkMode,

    /// What happens where Google refuses something that would work here: accept it with a warning, or refuse it
    #[arg(long, value_enum, default_value_t = Conformance::Permissive)]
    pub conformance: Conformance,

    /// Begin projects without an auto mode network `default` (Google's constraint compute.skipDefaultNetworkCreation)
    #[arg(long)]
    pub skip_default_network: bool,

    /// Where the gateway into the networks listens in loopback mode (SOCKS5 and HTTP proxy)
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    pub gateway_listen: SocketAddr,

    /// Where default URLs (*.run.app) are served over HTTPS to callers outside of every network
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    pub front_listen: SocketAddr,

    /// Threads that serve load balanced requests. Default: one a core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,

    /// Let clients speak HTTP/2 without TLS to plain ports where they know that they may (gRPC, above all); Google's load
    /// balancers do not
    #[arg(long)]
    pub h2c: bool,

    /// Client connections that the proxy holds at once; more wait in the kernel's queue. Every thread has an even share
    #[arg(long, value_name = "N", default_value_t = limits::MAX_CONNECTIONS, value_parser = positive)]
    pub max_connections: usize,

    /// Client connections of one forwarding rule at once; more wait in its queue
    #[arg(long, value_name = "N", default_value_t = limits::MAX_CONNECTIONS_PER_LISTENER, value_parser = positive)]
    pub max_connections_per_rule: usize,

    /// Requests that are under way at once, waiting for an instance included; more are answered 503
    #[arg(long, value_name = "N", default_value_t = limits::MAX_REQUESTS, value_parser = positive)]
    pub max_requests: usize,

    /// Memory that requests under way may hold in buffers, in MiB; while they hold more, new ones are answered 503
    #[arg(long, value_name = "MIB", default_value_t = limits::MAX_REQUEST_MEMORY / MIB, value_parser = positive)]
    pub max_request_memory: usize,

    /// What runs revisions: containers made by Vestibule itself, containers of the Docker engine at DOCKER_HOST, or the
    /// first of the two that works here; `process` runs a container's command as a program of this machine, with your
    /// rights
    #[arg(long, value_enum, default_value_t = RunDriver::Auto)]
    pub driver: RunDriver,

    /// What instances of services reach outside of VPC networks: the internet; that and private networks of this
    /// machine; nothing
    #[arg(long, value_enum, default_value_t = Egress::Internet)]
    pub egress: Egress,

    /// How long an instance without a request is kept, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = vestibule_run::config::IDLE_TIMEOUT.as_secs())]
    pub idle_timeout: u64,

    /// How long requests in flight may take after SIGTERM, in seconds; new connections are taken for half of it, or until
    /// none has come for a while
    #[arg(long, value_name = "SECONDS", default_value_t = limits::DRAIN_TIMEOUT.as_secs())]
    pub drain_timeout: u64,

    /// Who is asked for names that no private zone holds: `system` (/etc/resolv.conf), `none`, or a name server
    #[arg(long, value_name = "system|none|ADDR:PORT", default_value = "system", value_parser = upstream)]
    pub dns_upstream: Upstream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkMode {
    Auto,
    Namespace,
    Loopback,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Conformance {
    Permissive,
    Google,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RunDriver {
    Auto,
    Container,
    Docker,
    Process,
}

/// What instances reach outside of VPC networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Egress {
    /// Public addresses.
    Internet,
    /// Public addresses, and private ones that this machine reaches.
    Machine,
    None,
}

/// Where names go that no private zone holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    System,
    None,
    Server(SocketAddr),
}

fn positive(word: &str) -> Result<usize, String> {
    match word.parse() {
        Ok(0) | Err(_) => Err("not a number above 0".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn upstream(word: &str) -> Result<Upstream, String> {
    match word {
        "system" => Ok(Upstream::System),
        "none" => Ok(Upstream::None),
        other => other.parse().map(Upstream::Server).map_err(|_| "not system, none or ADDR:PORT".to_owned()),
    }
}

impl Upstream {
    /// The servers to ask, in order.
    pub fn servers(self) -> Vec<SocketAddr> {
        match self {
            Upstream::None => Vec::new(),
            Upstream::Server(server) => vec![server],
            Upstream::System => {
                let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
                text.lines().filter_map(name_server).collect()
            }
        }
    }
}

/// The address in a line `nameserver ADDRESS` (resolv.conf(5)).
fn name_server(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace();
    (words.next() == Some("nameserver")).then_some(())?;
    Some(SocketAddr::new(words.next()?.parse().ok()?, 53))
}

/// The state directory that a flag names, or the user's own.
pub fn state_dir(flag: Option<&Path>) -> PathBuf {
    if let Some(dir) = flag {
        return dir.to_owned();
    }
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| ".".into())).join(".local/state");
    base.unwrap_or_else(home).join("vestibule")
}

impl Options {
    pub fn state_dir(&self) -> PathBuf {
        state_dir(self.state_dir.as_deref())
    }

    pub fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            connections_per_listener: self.max_connections_per_rule,
            requests: self.max_requests,
            request_memory: self.max_request_memory.saturating_mul(MIB),
        }
    }

    /// What two servers of a takeover must agree on.
    pub fn settings(&self) -> Settings {
        let mode = self.network_mode.to_possible_value();
        let workers = vestibule_proxy::ProxyConfig::default().workers;
        Settings {
            api: self.api_listen,
            gateway: self.gateway_listen,
            front: self.front_listen,
            network_mode: mode.map(|mode| mode.get_name().to_owned()).unwrap_or_default(),
            workers: self.workers.map_or(workers as u64, u64::from),
        }
    }

    pub fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout)
    }

    pub fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_well_formed() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn resolv_conf_is_read_like_resolvers_do() {
        assert_eq!(name_server("nameserver 127.0.0.53"), Some("127.0.0.53:53".parse().unwrap()));
        assert_eq!(name_server("nameserver fd00::1 # x"), Some("[fd00::1]:53".parse().unwrap()));
        assert_eq!(name_server("search nameserver"), None);
        assert_eq!(name_server("# nameserver 127.0.0.1"), None);
    }
}
