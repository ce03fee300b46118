//! Network endpoint groups: serverless ones, and those with endpoints.
//!
//! A serverless group is a pointer ([`serverless`]). Every other group holds endpoints that are attached and detached
//! while it is in use ([`endpoints`]). Zonal groups hold clients of a network and what stands beyond it; regional ones
//! what is on the internet.

pub mod endpoints;
mod serverless;
mod settings;
#[cfg(test)]
mod tests;

pub use endpoints::NetworkEndpoint;
pub use serverless::{Platform, is_serverless};
pub use settings::region_of;

use std::borrow::Cow;

use serde_json::Value;
use vestibule_model::ResourceName;
use vestibule_store::View;

use super::Call;
use super::kind::{Action, Fingerprint, Info, Kind, Methods, ScopeKind, Verb, linked};
use super::vms::Vms;
use crate::{Change, Document, Error, document};

/// `networkEndpointGroups` of one kind of scope
pub struct NetworkEndpointGroups {
    info: &'static Info,
    /// The collection in ids of methods, e.g. `regionNetworkEndpointGroups`.
    methods: &'static str,
    /// In messages: `regional` or `zonal`.
    scope: &'static str,
    /// Groups of regions hold what is on the internet, or point to what is serverless.
    is_regional: bool,
    /// Types that are documented for the scope and not built.
    unbuilt: [&'static str; 2],
}

pub static REGIONAL: NetworkEndpointGroups = NetworkEndpointGroups {
    info: &REGIONAL_INFO,
    methods: "regionNetworkEndpointGroups",
    scope: "regional",
    is_regional: true,
    unbuilt: ["PRIVATE_SERVICE_CONNECT", "GCE_VM_IP_PORTMAP"],
};

pub static ZONAL: NetworkEndpointGroups = NetworkEndpointGroups {
    info: &ZONAL_INFO,
    methods: "networkEndpointGroups",
    scope: "zonal",
    is_regional: false,
    // The first is for passthrough load balancers.
    unbuilt: ["GCE_VM_IP", "GCE_VM_IP_PORTMAP"],
};

const LIST_ENDPOINTS: &str = "listNetworkEndpoints";
const ATTACH: &str = "attachNetworkEndpoints";
const DETACH: &str = "detachNetworkEndpoints";

const fn info(scopes: &'static [ScopeKind]) -> Info {
    Info {
        collection: "networkEndpointGroups",
        scopes,
        word: "network_endpoint_group",
        kind: "compute#networkEndpointGroup",
        list_kind: "compute#networkEndpointGroupList",
        aggregated_kind: Some("compute#networkEndpointGroupAggregatedList"),
        fingerprint: Fingerprint::None,
        labels: false,
        methods: Methods::NONE,
        actions: &[
            Action { verb: ATTACH, operation_type: ATTACH },
            Action { verb: DETACH, operation_type: DETACH },
        ],
        questions: &[LIST_ENDPOINTS],
        output_only: &["size"],
    }
}

static REGIONAL_INFO: Info = info(&[ScopeKind::Region]);
static ZONAL_INFO: Info = info(&[ScopeKind::Zone]);

/// What the endpoints of a group are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointType {
    /// `GCE_VM_IP_PORT`: clients of a network.
    Vm,
    /// `NON_GCP_PRIVATE_IP_PORT`: what a network is connected to.
    Hybrid,
    /// `INTERNET_IP_PORT`
    InternetIp,
    /// `INTERNET_FQDN_PORT`
    InternetName,
}

impl EndpointType {
    const ALL: [EndpointType; 4] =
        [EndpointType::Vm, EndpointType::Hybrid, EndpointType::InternetIp, EndpointType::InternetName];

    /// The type of a stored group; `None` for a serverless one.
    pub fn of(neg: &Document) -> Option<EndpointType> {
        let text = document::text(neg, "networkEndpointType")?;
        EndpointType::ALL.into_iter().find(|kind| kind.text() == text)
    }

    pub fn text(self) -> &'static str {
        match self {
            EndpointType::Vm => "GCE_VM_IP_PORT",
            EndpointType::Hybrid => "NON_GCP_PRIVATE_IP_PORT",
            EndpointType::InternetIp => "INTERNET_IP_PORT",
            EndpointType::InternetName => "INTERNET_FQDN_PORT",
        }
    }

    /// It belongs to regions, and to zones otherwise.
    pub fn is_internet(self) -> bool {
        matches!(self, EndpointType::InternetIp | EndpointType::InternetName)
    }
}

impl Kind for NetworkEndpointGroups {
    fn info(&self) -> &'static Info {
        self.info
    }

    fn insert(&self, change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
        const FIELD: &str = "networkEndpointType";
        let word = document::text(doc, FIELD).ok_or_else(|| Error::required(format!("resource.{FIELD}")))?;
        if word == "SERVERLESS" && self.is_regional {
            return serverless::validate(doc);
        }
        if self.unbuilt.contains(&word) {
            return Err(Error::not_built(format!("compute.{} with {FIELD} {word}", self.methods)));
        }
        match EndpointType::of(doc).filter(|kind| kind.is_internet() == self.is_regional) {
            Some(kind) => settings::validate(change, name, doc, kind),
            None => Err(Error::invalid(
                format!("resource.{FIELD}"),
                word,
                format!("The network endpoint type is not allowed in {} scope.", self.scope),
            )),
        }
    }

    fn delete(&self, change: &mut Change<'_>, name: &ResourceName, _doc: &Document) -> Result<(), Error> {
        change.delete(&endpoints::key(name));
        Ok(())
    }

    fn act(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        verb: &str,
        body: &Document,
        doc: Document,
    ) -> Result<Document, Error> {
        endpoints::act(change, name, verb == ATTACH, body, doc)
    }

    fn ask(
        &self,
        change: &mut Change<'_>,
        call: &Call,
        name: &ResourceName,
        _verb: &str,
        body: &Document,
        doc: Option<&Document>,
    ) -> Result<Value, Error> {
        endpoints::list(change, call, name, body, doc.ok_or_else(|| Error::not_found(name))?)
    }

    fn references(&self, _name: &ResourceName, doc: &Document) -> Vec<ResourceName> {
        references(doc)
    }

    fn present(&self, _vms: &Vms, view: &View, name: &ResourceName, doc: &mut Document) {
        doc.insert("size".into(), endpoints::of(view, name).len().into());
    }

    fn operation_type(&self, verb: Verb<'_>) -> Cow<'static, str> {
        match verb {
            Verb::Insert => format!("compute.{}.insert", self.methods).into(),
            Verb::Delete => format!("compute.{}.delete", self.methods).into(),
            other => self.info.operation_type(other),
        }
    }
}

fn references(doc: &Document) -> Vec<ResourceName> {
    ["network", "subnetwork"].into_iter().filter_map(|field| linked(doc, field)).collect()
}
