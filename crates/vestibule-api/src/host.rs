//! What the admin API asks of the process around it: how the networks are realised, and leases of clients inside them.

use std::any::Any;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vestibule_control::Error;
use vestibule_control::lb::{Explanation, Question};

/// The process around the API.
pub trait Host: Send + Sync {
    /// Where things listen and how the networks are realised; a flat object.
    fn status(&self) -> Value;
    /// What was done so far, in the text format of Prometheus, version 0.0.4.
    fn metrics(&self) -> String;
    /// Lets a client into a network. It stays until the second value is dropped.
    fn open_vm(&self, request: VmRequest) -> Result<(Vm, Held), Error>;
    /// The way a request would take, without sending it.
    fn explain(&self, question: &Question) -> Explanation;
}

/// Something that lasts as long as a response is being read.
pub type Held = Arc<dyn Any + Send + Sync>;

/// Who a client wants to be.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VmRequest {
    pub project: String,
    /// Short name of the VPC network.
    pub network: String,
    /// Short name of the subnetwork.
    pub subnet: String,
    /// Needed only where several regions have a subnetwork of this name.
    pub region: Option<String>,
    /// A free address of the subnetwork; the lowest one by default.
    pub address: Option<Ipv4Addr>,
    /// Default: the project's Compute Engine default service account.
    pub service_account: Option<String>,
    /// Network tags, for firewall rules. Default: none.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// A client inside a network, and what a program needs to act as it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Vm {
    pub id: String,
    pub project: String,
    pub region: String,
    pub network: String,
    pub address: Ipv4Addr,
    /// `loopback` or `namespace`.
    pub mode: &'static str,
    /// Proxies that lead into the network, in loopback mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,
    /// Namespaces to enter, in namespace mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// `host:port` of the network's resolver, as the program can reach it.
    pub resolver: String,
    /// Where the metadata server answers inside the network.
    pub metadata: String,
    /// File with the certificates to trust: the machine's own and that of the default URLs.
    pub ca_bundle: String,
    /// Its full host name inside the network.
    pub hostname: String,
    /// File to stand in the place of `/etc/resolv.conf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolv_conf: Option<String>,
}

/// Proxy URLs.
#[derive(Debug, Clone, Serialize)]
pub struct Gateway {
    pub http: String,
    pub socks5: String,
}

/// Paths of namespaces.
#[derive(Debug, Clone, Serialize)]
pub struct Namespace {
    pub network: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// The body of `/vestibule/v1/explain`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExplainRequest {
    /// `http://host[:port]/path?query`; the scheme may be left out.
    pub url: String,
    /// `GET` when empty.
    pub method: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// `projects/P/global/networks/N`; by default the first network in which the address serves.
    pub network: Option<String>,
    /// Connect there, whatever the URL's host is.
    pub address: Option<Ipv4Addr>,
    /// Address of the client that asks; by default one in the destination's subnetwork.
    pub from: Option<Ipv4Addr>,
    /// Its network tags; by default those of the client that has the address.
    pub tags: Vec<String>,
    /// Its service account's email address; by default as `tags`.
    pub service_account: Option<String>,
}

impl From<ExplainRequest> for Question {
    fn from(request: ExplainRequest) -> Question {
        let ExplainRequest { url, method, headers, network, address, from, tags, service_account } = request;
        Question { url, method, headers, network, address, from, tags, service_account }
    }
}
