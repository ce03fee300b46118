//! What firewall rules with logging decided, as the entries of Firewall Rules Logging.
//!
//! An entry is about the client that the rule protects: its instance, its network, its subnetwork's log. The other side
//! is told of where it is a client too. Formatting happens on the thread that reads the kernel's log; nobody waits for
//! it, and an entry that finds the log's queue full is dropped and counted.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Map, Value, json};
use vestibule_control::compute::linked;
use vestibule_control::{Control, Document, document, vpc};
use vestibule_iam::metadata::Identity;
use vestibule_logs::time::TimeWriter;
use vestibule_logs::{Batch, LogSink, json::Object};
use vestibule_model::ResourceName;
use vestibule_model::name::Scope;
use vestibule_store::View;
use vestibule_vpc::firewall::{Action, Direction, FirewallEvent};
use vestibule_vpc::{Addresses, NetworkId};

use super::clients::Clients;

/// Makes entries of events.
pub struct FirewallLog {
    pub control: Control,
    pub clients: Clients,
    pub logs: LogSink,
}

/// A subnetwork's document, with its name.
struct Subnetwork {
    name: ResourceName,
    id: String,
}

impl FirewallLog {
    /// Writes an event down. Never waits.
    pub fn write(&self, event: &FirewallEvent) {
        let view = self.control.view();
        let Ok(network) = ResourceName::parse(event.network.as_str()) else { return };
        let rule = ResourceName::new(&network.project, Scope::Global, "firewalls", &*event.rule);
        let stored = view.get(&rule.key());
        let doc = stored.map(|stored| document::object(&stored.value).clone()).unwrap_or_default();
        let (own, other) = match event.direction {
            Direction::Ingress => (event.flow.destination, event.flow.source),
            Direction::Egress => (event.flow.source, event.flow.destination),
        };
        let subnetwork = subnetwork_of(&view, &network, own);
        let mut payload = base(event, &network);
        if wants_metadata(&doc) {
            details(&mut payload, event, &doc);
            self.side(&mut payload, "instance", "vpc", &event.network, own, subnetwork.as_ref());
            let theirs = subnetwork_of(&view, &network, other);
            if theirs.is_some() {
                self.side(
                    &mut payload,
                    "remote_instance",
                    "remote_vpc",
                    &event.network,
                    other,
                    theirs.as_ref(),
                );
            }
        }
        let location = self.identity(&event.network, own).map(|identity| identity.zone).unwrap_or_default();
        let mut batch = Batch::with_capacity(1024);
        batch.push_with(|out| {
            entry(out, event, &network.project, &location, subnetwork.as_ref(), &Value::Object(payload));
            true
        });
        self.logs.try_send(batch);
    }

    fn identity(&self, network: &NetworkId, address: Ipv4Addr) -> Option<Identity> {
        self.clients.identity(network, SocketAddr::from((address, 0)))
    }

    fn side(
        &self,
        payload: &mut Map<String, Value>,
        instance: &str,
        vpc: &str,
        network: &NetworkId,
        address: Ipv4Addr,
        subnetwork: Option<&Subnetwork>,
    ) {
        if let Some(identity) = self.identity(network, address) {
            let told = json!({
                "project_id": identity.project_id, "vm_name": identity.instance_name,
                "region": identity.region, "zone": identity.zone,
            });
            payload.insert(instance.to_owned(), told);
        }
        if let Some(subnetwork) = subnetwork {
            let told = json!({
                "project_id": subnetwork.name.project, "vpc_name": network.short(),
                "subnetwork_name": subnetwork.name.name,
            });
            payload.insert(vpc.to_owned(), told);
        }
    }
}

fn entry(
    out: &mut Vec<u8>,
    event: &FirewallEvent,
    project: &str,
    location: &str,
    subnetwork: Option<&Subnetwork>,
    payload: &Value,
) {
    let mut entry = Object::begin(out);
    entry.str("logName", &format!("projects/{project}/logs/compute.googleapis.com%2Ffirewall"));
    entry.object("resource", |resource| {
        resource.str("type", "gce_subnetwork");
        resource.object("labels", |labels| {
            labels.str("project_id", project);
            labels.str("location", location);
            labels.str("subnetwork_id", subnetwork.map_or("", |subnetwork| &subnetwork.id));
            labels.str("subnetwork_name", subnetwork.map_or("", |subnetwork| &subnetwork.name.name));
        });
    });
    let time = entry.value("timestamp");
    time.push(b'"');
    TimeWriter::new().micros(time, event.time);
    time.push(b'"');
    entry.value("jsonPayload").extend_from_slice(payload.to_string().as_bytes());
    entry.end();
}

/// What every entry tells.
fn base(event: &FirewallEvent, network: &ResourceName) -> Map<String, Value> {
    let flow = &event.flow;
    let payload = json!({
        "connection": {
            "src_ip": flow.source, "src_port": event.source_port, "dest_ip": flow.destination,
            "dest_port": flow.port, "protocol": flow.protocol,
        },
        "disposition": if event.action == Action::Allow { "ALLOWED" } else { "DENIED" },
        "rule_details": {"reference": format!("network:{}/firewall:{}", network.name, event.rule)},
    });
    document::object(&payload).clone()
}

/// `logConfig.metadata`; Google's default is to include all.
fn wants_metadata(rule: &Document) -> bool {
    let config = rule.get("logConfig").map(document::object);
    config.and_then(|config| document::text(config, "metadata")) != Some("EXCLUDE_ALL_METADATA")
}

/// What the rule says, as far as it is still there.
fn details(payload: &mut Map<String, Value>, event: &FirewallEvent, rule: &Document) {
    let Some(Value::Object(details)) = payload.get_mut("rule_details") else { return };
    details.insert("priority".into(), event.priority.into());
    let (action, direction) = (event.action == Action::Allow, event.direction == Direction::Ingress);
    details.insert("action".into(), if action { "ALLOW" } else { "DENY" }.into());
    details.insert("direction".into(), if direction { "INGRESS" } else { "EGRESS" }.into());
    for (field, told) in [
        ("sourceRanges", "source_range"),
        ("destinationRanges", "destination_range"),
        ("sourceTags", "source_tag"),
        ("targetTags", "target_tag"),
        ("sourceServiceAccounts", "source_service_account"),
        ("targetServiceAccounts", "target_service_account"),
    ] {
        if let Some(value) = rule.get(field).filter(|value| value.as_array().is_some_and(|v| !v.is_empty())) {
            details.insert(told.into(), value.clone());
        }
    }
    let traffic = [document::items(rule, "allowed"), document::items(rule, "denied")].concat();
    let ports = traffic.iter().map(document::object).map(|entry| {
        let protocol = document::text(entry, "IPProtocol").unwrap_or_default().to_ascii_uppercase();
        match document::items(entry, "ports") {
            [] => json!({"ip_protocol": protocol}),
            ports => json!({"ip_protocol": protocol, "port_range": ports}),
        }
    });
    details.insert("ip_port_info".into(), ports.collect());
}

/// The subnetwork whose primary range holds the address.
fn subnetwork_of(view: &View, network: &ResourceName, address: Ipv4Addr) -> Option<Subnetwork> {
    vpc::subnetworks(view, network).into_iter().find_map(|name| {
        let doc = document::object(&view.get(&name.key())?.value);
        debug_assert!(linked(doc, "network").as_ref() == Some(network), "a subnetwork of another network");
        let (base, prefix) = document::text(doc, "ipCidrRange")?.split_once('/')?;
        let range = Addresses::network(base.parse().ok()?, prefix.parse().ok()?);
        let id = document::text(doc, "id").unwrap_or_default().to_owned();
        range.contains(address).then_some(Subnetwork { name, id })
    })
}
