//! Clients inside the networks: their leases, and who they are to the gateway and to the metadata server.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use vestibule_api::host::{self, Held, Vm, VmRequest};
use vestibule_control::compute::VmAddress;
use vestibule_control::lb::{Explanation, Live, Question};
use vestibule_control::vpc::Member;
use vestibule_control::{Control, Error};
use vestibule_dns::Resolver;
use vestibule_gateway::{BoxFuture, Client, World};
use vestibule_iam::account;
use vestibule_iam::metadata::Identity;
use vestibule_model::ResourceName;
use vestibule_model::name::Scope;
use vestibule_run::front::Front;
use vestibule_vpc::{Mode, NetworkId, Vpc};

use super::firewalls::Firewalls;

/// What a lease tells its client.
pub struct Surroundings {
    pub gateway: Option<SocketAddr>,
    pub ca_bundle: PathBuf,
    /// Folder for files of single clients.
    pub run_dir: PathBuf,
    /// The rest of `/vestibule/v1/status`.
    pub status: Value,
}

/// Every client of this process. Cheap to clone.
#[derive(Clone)]
pub struct Clients(Arc<Inner>);

struct Inner {
    control: Control,
    vpc: Vpc,
    resolver: Resolver,
    /// Lets requests into services; asked what it would say.
    front: Front,
    surroundings: Surroundings,
    leases: Mutex<HashMap<String, Arc<Entry>>>,
    firewalls: Firewalls,
}

struct Entry {
    client: Arc<Client>,
    identity: Identity,
    tags: Vec<String>,
}

/// Ends a lease when the last reader of its response is gone.
struct Lease {
    clients: Clients,
    id: String,
    address: VmAddress,
    network: NetworkId,
}

impl Clients {
    pub fn new(
        control: Control,
        vpc: Vpc,
        resolver: Resolver,
        front: Front,
        surroundings: Surroundings,
    ) -> Clients {
        let firewalls = Firewalls::new(control.clone(), vpc.clone());
        let leases = Mutex::default();
        Clients(Arc::new(Inner { control, vpc, resolver, front, surroundings, leases, firewalls }))
    }

    pub fn vpc(&self) -> Vpc {
        self.0.vpc.clone()
    }

    /// The addresses of a name as far as no other server need be asked.
    fn own_addresses(&self, network: &NetworkId, host: &str) -> Vec<Ipv4Addr> {
        let Ok(name) = host.parse() else { return Vec::new() };
        let answer = self.0.resolver.lookup_local(network, &name, vestibule_dns::rdata::kind::A);
        let records = answer.map(|answer| answer.records).unwrap_or_default();
        let data = records.iter().filter_map(|record| <[u8; 4]>::try_from(record.data.as_slice()).ok());
        data.map(Ipv4Addr::from).collect()
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.0.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the network's firewall what documents and clients say now.
    pub fn enforce_firewall(&self, network: &NetworkId) -> std::io::Result<()> {
        self.0.firewalls.enforce(network, || {
            let leases = self.leases();
            let mut members: Vec<Member> =
                leases.values().filter_map(|entry| entry.member(network)).collect();
            members.sort_unstable_by_key(|member| member.address);
            members
        })
    }

    /// The network was just made: nothing but the implied rules is enforced in it.
    pub fn forget_firewall(&self, network: &NetworkId) {
        self.0.firewalls.forget(network);
    }

    /// Tells the resolver what the network's clients are called.
    fn announce(&self, network: &NetworkId) {
        // Under the lock: what is told last is then what is true last.
        let leases = self.leases();
        let own = leases.values().filter(|entry| entry.client.network == *network);
        let named = |entry: &Arc<Entry>| Some((entry.identity.hostname.parse().ok()?, entry.client.address?));
        let hosts: Vec<(vestibule_dns::Name, Ipv4Addr)> = own.filter_map(named).collect();
        self.0.resolver.set_hosts(network, &hosts);
    }

    /// The identity of the client at a private address.
    pub fn identity(&self, network: &NetworkId, peer: SocketAddr) -> Option<Identity> {
        let IpAddr::V4(ip) = self.0.vpc.private_peer(network, peer).ip() else { return None };
        let leases = self.leases();
        let entry = leases.values().find(|e| e.client.network == *network && e.client.address == Some(ip))?;
        Some(entry.identity.clone())
    }

    fn open(&self, request: VmRequest) -> Result<(Vm, Held), Error> {
        let subnetwork = self.subnetwork(&request)?;
        let address = self.0.control.lease_vm(&subnetwork, request.address)?;
        let network = NetworkId::new(&request.project, &request.network);
        let id = format!("vm-{:016x}", fastrand::u64(..));
        // From here on whatever goes wrong ends the lease.
        let lease = Lease { clients: self.clone(), id, address, network };
        let vm = self.admit(&request, &subnetwork, &lease)?;
        Ok((vm, Arc::new(lease)))
    }

    /// The subnetwork that the request means: by name, network and, where several regions have it, region.
    fn subnetwork(&self, request: &VmRequest) -> Result<ResourceName, Error> {
        let view = self.0.control.view();
        let prefix = format!("compute/projects/{}/regions/", request.project);
        let suffix = format!("/subnetworks/{}", request.subnet);
        let network = NetworkId::new(&request.project, &request.network);
        let found: Vec<ResourceName> = view
            .range(&prefix)
            .filter(|kv| kv.key.ends_with(&suffix))
            .filter(|kv| kv.value["network"].as_str().is_some_and(|n| n.ends_with(network.as_str())))
            .filter_map(|kv| ResourceName::from_key(&kv.key))
            .filter(|name| request.region.is_none() || request.region.as_deref() == region_of(name))
            .collect();
        match found.as_slice() {
            [one] => Ok(one.clone()),
            [] => {
                let region = request.region.as_deref().unwrap_or("-");
                let name =
                    format!("projects/{}/regions/{region}/subnetworks/{}", request.project, request.subnet);
                Err(Error::not_found(name))
            }
            _ => Err(Error::bad_request(format!(
                "Several regions have a subnetwork {} in network {}: name the region.",
                request.subnet, request.network
            ))),
        }
    }

    fn admit(&self, request: &VmRequest, subnetwork: &ResourceName, lease: &Lease) -> Result<Vm, Error> {
        let inner = &self.0;
        let (id, network) = (&lease.id, &lease.network);
        let (ip, gateway) = (lease.address.address, self.gateway_of(subnetwork)?);
        let internal =
            |error: std::io::Error| Error::internal(format!("a client cannot enter {network}: {error}"));
        let guest = inner.vpc.attach(network, ip, gateway).map_err(internal)?;
        let identity = identity(request, region_of(subnetwork).unwrap_or_default(), id, ip);
        let client = Arc::new(Client { network: network.clone(), address: Some(ip) });
        let entry = Entry { client, identity: identity.clone(), tags: request.tags.clone() };
        self.leases().insert(id.clone(), Arc::new(entry));
        self.announce(network);
        self.enforce_firewall(network).map_err(internal)?;
        let around = &inner.surroundings;
        let resolver = inner.vpc.locate(network, vestibule_dns::RESOLVER, 53);
        Ok(Vm {
            project: request.project.clone(),
            region: identity.region.clone(),
            network: request.network.clone(),
            address: ip,
            mode: mode_name(inner.vpc.mode()),
            gateway: around.gateway.map(|at| host::Gateway {
                http: format!("http://{id}:x@{at}"),
                socks5: format!("socks5h://{id}:x@{at}"),
            }),
            resolv_conf: guest
                .is_some()
                .then(|| self.resolv_conf(&request.project))
                .transpose()
                .map_err(internal)?,
            namespace: guest.map(|guest| host::Namespace { network: guest.network, user: guest.user }),
            resolver: resolver.map_or_else(|| format!("{}:53", vestibule_dns::RESOLVER), |at| at.to_string()),
            metadata: vestibule_dns::RESOLVER.to_string(),
            hostname: identity.hostname.clone(),
            ca_bundle: around.ca_bundle.display().to_string(),
            id: id.clone(),
        })
    }

    fn gateway_of(&self, subnetwork: &ResourceName) -> Result<Ipv4Addr, Error> {
        let view = self.0.control.view();
        let document = view.get(&subnetwork.key()).ok_or_else(|| Error::not_found(subnetwork.relative()))?;
        let gateway = document.value["gatewayAddress"].as_str().and_then(|text| text.parse().ok());
        gateway.ok_or_else(|| Error::internal(format!("{} has no gateway", subnetwork.relative())))
    }

    /// A file for `/etc/resolv.conf`, as VMs have it.
    fn resolv_conf(&self, project: &str) -> std::io::Result<String> {
        let file = self.0.surroundings.run_dir.join(format!("resolv-{project}.conf"));
        let text =
            format!("search c.{project}.internal google.internal\nnameserver {}\n", vestibule_dns::RESOLVER);
        std::fs::write(&file, text)?;
        Ok(file.display().to_string())
    }
}

fn region_of(name: &ResourceName) -> Option<&str> {
    match &name.scope {
        Scope::Region(region) => Some(region),
        _ => None,
    }
}

pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Loopback => "loopback",
        Mode::Namespace => "namespace",
    }
}

fn identity(request: &VmRequest, region: &str, id: &str, ip: Ipv4Addr) -> Identity {
    let number = vestibule_model::project::project_number(&request.project).to_string();
    let name = format!("vm-{}", ip.to_string().replace('.', "-"));
    Identity {
        project_id: request.project.clone(),
        region: region.to_owned(),
        zone: format!("{region}-a"),
        instance_id: u64::from_str_radix(id.trim_start_matches("vm-"), 16).unwrap_or(1).to_string(),
        hostname: format!("{name}.{region}-a.c.{}.internal", request.project),
        instance_name: name,
        service_account: request.service_account.clone().unwrap_or_else(|| account::default_compute(&number)),
        project_number: number,
    }
}

impl Entry {
    /// The client as firewall rules see it, if it is in this network.
    fn member(&self, network: &NetworkId) -> Option<Member> {
        let address = self.client.address.filter(|_| self.client.network == *network)?;
        Some(Member {
            address,
            service_account: self.identity.service_account.clone(),
            tags: self.tags.clone(),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.clients.leases().remove(&self.id);
        self.clients.announce(&self.network);
        if let Err(error) = self.clients.enforce_firewall(&self.network) {
            tracing::error!(network = %self.network, %error, "firewall rules still hold for a client that is gone");
        }
        self.clients.0.vpc.detach(&self.network, self.address.address);
        self.clients.0.control.vms().release(&self.address);
    }
}

impl host::Host for Clients {
    fn status(&self) -> Value {
        self.0.surroundings.status.clone()
    }

    fn open_vm(&self, request: VmRequest) -> Result<(Vm, Held), Error> {
        self.open(request)
    }

    fn explain(&self, question: &Question) -> Explanation {
        let resolve = |network: &NetworkId, host: &str| self.own_addresses(network, host);
        let live = Live { front: Some(&self.0.front), resolve: Some(&resolve) };
        self.0.control.explain(question, live)
    }
}

impl World for Clients {
    /// A lease by its id, else a network by `PROJECT/NETWORK` or by a short name that only one network has, else the
    /// only network there is.
    fn client(&self, user: Option<&str>) -> Option<Arc<Client>> {
        if let Some(entry) = user.and_then(|id| self.leases().get(id).cloned()) {
            return Some(entry.client.clone());
        }
        let networks = vestibule_control::vpc::networks(&self.0.control.view());
        let mut fitting = networks.into_keys().filter(|network| match user.and_then(|u| u.split_once('/')) {
            Some((project, name)) => *network == NetworkId::new(project, name),
            None => user.is_none_or(|name| network.short() == name),
        });
        let network = fitting.next()?;
        fitting.next().is_none().then(|| Arc::new(Client { network, address: None }))
    }

    fn resolve<'a>(&'a self, network: &'a NetworkId, name: &'a str) -> BoxFuture<'a, Vec<Ipv4Addr>> {
        Box::pin(self.0.resolver.addresses(network, name))
    }
}
