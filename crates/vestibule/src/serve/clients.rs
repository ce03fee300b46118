//! Clients inside the networks: their leases, and who they are to the gateway and to the metadata server.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use vestibule_api::host::{self, Held, Vm, VmRequest};
use vestibule_control::compute::{VmAddress, instance_name, zone};
use vestibule_control::lb::{Explanation, Live, Question};
use vestibule_control::vpc::{self, Member};
use vestibule_control::{Control, Error};
use vestibule_dns::{Machine, Resolver};
use vestibule_gateway::{BoxFuture, Client, World};
use vestibule_iam::account;
use vestibule_iam::metadata::Identity;
use vestibule_model::ResourceName;
use vestibule_model::name::{Scope, is_valid_name};
use vestibule_run::front::Front;
use vestibule_vpc::firewall::Flow;
use vestibule_vpc::{Mode, NetworkId, Vpc};

use super::firewalls::Firewalls;
use super::metrics::Metrics;
use super::takeover::Described;

/// What a lease tells its client.
pub struct Surroundings {
    pub gateway: Option<SocketAddr>,
    pub ca_bundle: PathBuf,
    /// Folder for files of single clients.
    pub run_dir: PathBuf,
    /// The rest of `/vestibule/v1/status`.
    pub status: Value,
    pub metrics: Metrics,
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
    /// The process is about to end.
    closing: AtomicBool,
}

struct Entry {
    client: Arc<Client>,
    identity: Identity,
    tags: Vec<String>,
    address: VmAddress,
}

/// A client's place in a network. Dropping it gives its address back.
pub struct Lease {
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
        let (leases, closing) = Default::default();
        Clients(Arc::new(Inner { control, vpc, resolver, front, surroundings, leases, firewalls, closing }))
    }

    /// From here on a lease ends without its client being cut off: the network goes with this process, and until then
    /// what is under way may come to its end.
    pub fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
    }

    /// Whether addresses are not given back any more.
    pub fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Relaxed)
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
        self.0.firewalls.enforce(network, || self.members(network))
    }

    /// The network's clients as firewall rules see them, in the order of their addresses.
    fn members(&self, network: &NetworkId) -> Vec<Member> {
        let leases = self.leases();
        let mut members: Vec<Member> = leases.values().filter_map(|entry| entry.member(network)).collect();
        members.sort_unstable_by_key(|member| member.address);
        members
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
        // Instances of services have no names.
        let own = own.filter(|entry| !entry.identity.hostname.is_empty());
        let named = |entry: &Arc<Entry>| Some((entry.identity.hostname.parse().ok()?, entry.client.address?));
        let hosts: Vec<(vestibule_dns::Name, Ipv4Addr)> = own.filter_map(named).collect();
        self.0.resolver.set_hosts(network, &hosts);
    }

    /// The identity of the client at a private address.
    pub fn identity(&self, network: &NetworkId, peer: SocketAddr) -> Option<Identity> {
        let IpAddr::V4(ip) = self.0.vpc.private_peer(network, peer).ip() else { return None };
        self.identity_at(network, ip)
    }

    /// The machine at a private address, as the query log tells it; `None` for an instance of a service.
    pub fn machine(&self, network: &NetworkId, address: Ipv4Addr) -> Option<Machine> {
        let identity = self.identity_at(network, address).filter(|who| !who.hostname.is_empty())?;
        Some(Machine {
            id: identity.instance_id.parse().ok()?,
            name: identity.instance_name,
            zone: identity.zone,
            project: identity.project_id,
            project_number: identity.project_number,
        })
    }

    fn identity_at(&self, network: &NetworkId, ip: Ipv4Addr) -> Option<Identity> {
        let leases = self.leases();
        let entry = leases.values().find(|e| e.client.network == *network && e.client.address == Some(ip))?;
        Some(entry.identity.clone())
    }

    fn open(&self, request: VmRequest) -> Result<(Vm, Held), Error> {
        check_identity(&request)?;
        self.0.control.compute().begin(&request.project)?;
        let subnetwork = self.subnetwork(&request)?;
        let address = self.0.control.lease_vm(&subnetwork, request.address)?;
        let network = NetworkId::new(&request.project, &request.network);
        let id = format!("vm-{:016x}", fastrand::u64(..));
        // From here on whatever goes wrong ends the lease.
        let lease = Lease { clients: self.clone(), id, address, network };
        let vm = self.admit(&request, &subnetwork, &lease)?;
        Ok((vm, Arc::new(lease)))
    }

    /// Lets an instance of a service into a network, as a client without a namespace of its own.
    pub fn seat(&self, identity: Identity, tags: Vec<String>, address: VmAddress) -> std::io::Result<Lease> {
        let network = NetworkId::from_relative(&address.network.relative());
        let client = Arc::new(Client { network: network.clone(), address: Some(address.address) });
        let id = format!("instance-{}", identity.instance_id);
        let lease = Lease { clients: self.clone(), id: id.clone(), address: address.clone(), network };
        self.leases().insert(id, Arc::new(Entry { client, identity, tags, address }));
        self.enforce_firewall(&lease.network)?;
        Ok(lease)
    }

    /// Every client, for another server.
    pub fn describe(&self) -> Vec<Described> {
        let leases = self.leases();
        let described = leases.iter().map(|(id, entry)| Described {
            id: id.clone(),
            identity: entry.identity.clone(),
            tags: entry.tags.clone(),
            address: entry.address.clone(),
            has_connection: false,
        });
        described.collect()
    }

    /// Goes on with a client of another server's. Its network follows when it is configured.
    pub fn adopt(&self, described: Described) -> Lease {
        let Described { id, identity, tags, address, .. } = described;
        let network = NetworkId::from_relative(&address.network.relative());
        self.0.control.vms().adopt(&address);
        let client = Arc::new(Client { network: network.clone(), address: Some(address.address) });
        let lease = Lease { clients: self.clone(), id: id.clone(), address: address.clone(), network };
        self.leases().insert(id, Arc::new(Entry { client, identity, tags, address }));
        self.announce(&lease.network);
        lease
    }

    /// Whether a network's firewall lets a client begin such a connection.
    pub fn lets_out(&self, network: &NetworkId, flow: &Flow) -> bool {
        self.0.firewalls.lets_out(network, flow)
    }

    /// The subnetwork that the request means: by name, network and, where several regions have it, region.
    fn subnetwork(&self, request: &VmRequest) -> Result<ResourceName, Error> {
        let view = self.0.control.view();
        let network = ResourceName::new(&request.project, Scope::Global, "networks", &request.network);
        if view.get(&network.key()).is_none() {
            return Err(Error::NotFound { message: format!("The network '{network}' was not found") });
        }
        let there = vpc::subnetworks(&view, &network);
        let named: Vec<&ResourceName> = there.iter().filter(|name| name.name == request.subnet).collect();
        let wanted = |name: &&ResourceName| {
            request.region.as_deref().is_none_or(|region| name.scope.region_name() == Some(region))
        };
        let regions =
            |names: &[&ResourceName]| joined(names.iter().filter_map(|name| name.scope.region_name()));
        let (subnet, of) = (&request.subnet, &request.network);
        let message = match named.iter().copied().filter(wanted).collect::<Vec<_>>().as_slice() {
            [one] => return Ok((*one).clone()),
            [] if named.is_empty() => {
                let others = joined(there.iter().map(|name| name.name.as_str()));
                format!("Network {of} has no subnetwork {subnet}; it has {others}")
            }
            [] => {
                let region = request.region.as_deref().unwrap_or_default();
                let others = regions(&named);
                format!("Network {of} has no subnetwork {subnet} in region {region}; it has one in {others}")
            }
            several => {
                let regions = regions(several);
                let why = format!(
                    "Several regions have a subnetwork {subnet} in network {of}: name the region ({regions})."
                );
                return Err(Error::bad_request(why));
            }
        };
        Err(Error::NotFound { message })
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
        let address = lease.address.clone();
        let entry = Entry { client, identity: identity.clone(), tags: request.tags.clone(), address };
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
                .then(|| self.resolv_conf(&request.project, &identity.zone))
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

    /// A file for `/etc/resolv.conf`, as VMs with zonal names have it: a neighbour's short name is enough.
    fn resolv_conf(&self, project: &str, zone: &str) -> std::io::Result<String> {
        let file = self.0.surroundings.run_dir.join(format!("resolv-{project}-{zone}.conf"));
        let text = format!(
            "search {zone}.c.{project}.internal c.{project}.internal google.internal\nnameserver {}\n",
            vestibule_dns::RESOLVER
        );
        std::fs::write(&file, text)?;
        Ok(file.display().to_string())
    }
}

/// Different words in order, or that there are none.
fn joined<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: BTreeSet<&str> = words.collect();
    match words.is_empty() {
        true => "none at all".to_owned(),
        false => words.into_iter().collect::<Vec<_>>().join(", "),
    }
}

/// What firewall rules go by must be spelled as rules spell it.
fn check_identity(request: &VmRequest) -> Result<(), Error> {
    if let Some(account) = request.service_account.as_deref().filter(|text| !is_email(text)) {
        return Err(Error::invalid("serviceAccount", account, "Must be a service account's email address."));
    }
    match request.tags.iter().find(|tag| !is_valid_name(tag)) {
        Some(tag) => {
            let why = "Must be a match of regex '[a-z]([-a-z0-9]*[a-z0-9])?'.";
            Err(Error::invalid("tags", tag, why))
        }
        None => Ok(()),
    }
}

fn is_email(text: &str) -> bool {
    let whole = |part: &str| !part.is_empty() && !part.contains([' ', '@', '/']);
    text.split_once('@').is_some_and(|(name, host)| whole(name) && whole(host))
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
    let (name, zone) = (instance_name(ip), zone(region));
    Identity {
        project_id: request.project.clone(),
        region: region.to_owned(),
        instance_id: u64::from_str_radix(id.trim_start_matches("vm-"), 16).unwrap_or(1).to_string(),
        hostname: format!("{name}.{zone}.c.{}.internal", request.project),
        zone,
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

impl Lease {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Ends it, and gives back the address that connections were made from.
    pub fn end_with_address(self) {
        self.clients.0.vpc.release(&self.network, self.address.address);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.clients.0.closing.load(Ordering::Relaxed) {
            return;
        }
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

    fn metrics(&self) -> String {
        self.0.surroundings.metrics.text()
    }

    fn open_vm(&self, request: VmRequest) -> Result<(Vm, Held), Error> {
        self.open(request)
    }

    fn explain(&self, question: &Question) -> Explanation {
        let resolve = |network: &NetworkId, host: &str| self.own_addresses(network, host);
        let members = |network: &NetworkId| self.members(network);
        let live = Live { front: Some(&self.0.front), resolve: Some(&resolve), members: Some(&members) };
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
        let networks = vpc::networks(&self.0.control.view());
        let mut fitting = networks.into_keys().filter(|network| match user.and_then(|u| u.split_once('/')) {
            Some((project, name)) => *network == NetworkId::new(project, name),
            None => user.is_none_or(|name| network.short() == name),
        });
        let network = fitting.next()?;
        fitting.next().is_none().then(|| Arc::new(Client { network, address: None }))
    }

    fn resolve<'a>(&'a self, client: &'a Client, name: &'a str) -> BoxFuture<'a, Vec<Ipv4Addr>> {
        Box::pin(self.0.resolver.addresses(&client.network, client.address, name))
    }
}
