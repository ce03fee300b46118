//! `vestibule vm run` and `vm shell`: a command as a client inside a VPC network.
//!
//! In namespace mode the command really stands inside the network: further processes of this binary move into the
//! client's namespaces and start the command there. In loopback mode it stays where it is and is told, by the usual
//! proxy variables, to go through the gateway, which gives its connections the client's address.

mod enter;
mod init;
mod lease;
mod supervise;

use std::ffi::OsString;
use std::net::Ipv4Addr;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::printer::Printer;
use crate::settings::{DEFAULT_API, DEFAULT_PROJECT, Environment};
pub use lease::{Lease, Vm};
use supervise::Reach;

#[derive(Subcommand)]
pub enum Command {
    /// Run a command as a client inside a VPC network
    ///
    /// The client has an address of the subnet, the network's resolver, a metadata server, and a way to the network's
    /// virtual IPs. Its lease ends with the command, and every process that the command started ends with it. The exit
    /// code is the command's, or 128 and the number of the signal that ended it. Signals are passed on to the command.
    /// When `serve` ends, the command gets SIGTERM, and SIGKILL 3 seconds later.
    ///
    /// In loopback mode (see `vestibule serve --help`) the command is not inside a network: variables such as http_proxy
    /// and all_proxy lead programs that know them through the gateway, as the client's address; programs that do not
    /// (dig, getent, ping) stay outside. VESTIBULE_RESOLVER is the network's resolver. Processes that the command left
    /// behind live on without a lease.
    Run(Run),
    /// Open a shell as a client inside a VPC network
    ///
    /// As `vm run` with $SHELL, or /bin/sh.
    Shell(Client),
    #[command(hide = true)]
    Enter(enter::Options),
    #[command(hide = true)]
    Init(init::Options),
}

/// Who the client is, and what it runs.
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    client: Client,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Who a client is.
#[derive(Args)]
pub struct Client {
    /// The VPC network
    #[arg(long)]
    network: String,
    /// The subnet that the client's address is from
    #[arg(long)]
    subnet: String,
    /// The address [default: the lowest free one]
    #[arg(long, value_name = "IP")]
    address: Option<Ipv4Addr>,
    /// The subnet's region, where several regions have a subnet of this name
    #[arg(long)]
    region: Option<String>,
    /// Who the client is to the metadata server [default: the project's Compute Engine account]
    #[arg(long, value_name = "EMAIL")]
    service_account: Option<String>,
    /// Network tags of the client, for firewall rules
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tags: Vec<String>,
    /// The project [default: $CLOUDSDK_CORE_PROJECT, or local-project]
    #[arg(long, value_name = "ID")]
    project: Option<String>,
}

/// The shell of who has no $SHELL.
const SHELL: &str = "/bin/sh";

pub fn run(command: Command, environment: &Environment, _printer: &Printer) -> Result<u8, String> {
    match command {
        Command::Run(Run { client, command }) => client.run(command, environment),
        Command::Shell(client) => {
            let shell = environment.get("SHELL").unwrap_or(SHELL);
            client.run(vec![shell.into()], environment)
        }
        Command::Enter(options) => enter::run(options),
        Command::Init(options) => init::run(&options),
    }
}

impl Client {
    fn run(self, command: Vec<OsString>, environment: &Environment) -> Result<u8, String> {
        let base = environment.get("VESTIBULE_API").unwrap_or(DEFAULT_API);
        let project = self
            .project
            .as_deref()
            .or_else(|| environment.get("CLOUDSDK_CORE_PROJECT"))
            .unwrap_or(DEFAULT_PROJECT);
        let lease = Lease::open(base, &self.wish(project))?;
        let reach = match &lease.vm.namespace {
            None => Reach::Direct,
            Some(_) => Reach::pipe().map_err(|error| error.to_string())?,
        };
        let command = enter::command(&lease.vm, &reach, command)?;
        supervise::run(&command, reach, variables(&lease.vm), lease.watch())
    }

    /// The body of the request for a lease.
    fn wish(&self, project: &str) -> Value {
        let mut wish = json!({"project": project, "network": self.network, "subnet": self.subnet});
        let texts = [
            ("region", self.region.clone()),
            ("address", self.address.map(|ip| ip.to_string())),
            ("serviceAccount", self.service_account.clone()),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                wish[name] = json!(value);
            }
        }
        if !self.tags.is_empty() {
            wish["tags"] = json!(self.tags);
        }
        wish
    }
}

/// What the command finds in its environment.
fn variables(vm: &Vm) -> Vec<(String, String)> {
    let mut set: Vec<(String, String)> = [
        ("GCE_METADATA_HOST", vm.metadata.clone()),
        ("VESTIBULE_RESOLVER", vm.resolver.clone()),
        ("VESTIBULE_VM_ADDRESS", vm.address.clone()),
        ("SSL_CERT_FILE", vm.ca_bundle.clone()),
        ("CURL_CA_BUNDLE", vm.ca_bundle.clone()),
        ("REQUESTS_CA_BUNDLE", vm.ca_bundle.clone()),
        ("NODE_EXTRA_CA_CERTS", vm.ca_bundle.clone()),
        // Nothing is to go around the gateway, and no proxy of the machine's own into the network.
        ("NO_PROXY", String::new()),
        ("no_proxy", String::new()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    let (http, socks) =
        vm.gateway.as_ref().map_or((String::new(), String::new()), |g| (g.http.clone(), g.socks5.clone()));
    for name in ["http_proxy", "https_proxy"] {
        set.push((name.to_owned(), http.clone()));
        set.push((name.to_uppercase(), http.clone()));
    }
    set.push(("all_proxy".to_owned(), socks.clone()));
    set.push(("ALL_PROXY".to_owned(), socks));
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_goes_through_the_gateway() {
        let vm: Vm = serde_json::from_value(json!({
            "id": "vm-1", "address": "10.0.0.2", "mode": "loopback", "resolver": "127.9.0.3:5353", "metadata": "169.254.169.254",
            "ca_bundle": "/s/ca.pem", "gateway": {"http": "http://vm-1:x@127.0.0.1:9", "socks5": "socks5h://vm-1:x@127.0.0.1:9"},
        }))
        .unwrap();
        let set = variables(&vm);
        let get = |name: &str| set.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(get("http_proxy"), Some("http://vm-1:x@127.0.0.1:9"));
        assert_eq!(get("HTTPS_PROXY"), Some("http://vm-1:x@127.0.0.1:9"));
        assert_eq!(get("ALL_PROXY"), Some("socks5h://vm-1:x@127.0.0.1:9"));
        assert_eq!(get("NO_PROXY"), Some(""));
        assert_eq!(get("VESTIBULE_VM_ADDRESS"), Some("10.0.0.2"));
    }
}
