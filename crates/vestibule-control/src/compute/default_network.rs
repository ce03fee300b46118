//! The network that every project has from its beginning: an auto mode network `default` with four firewall rules.
//!
//! Projects are not made here: any id is one. So a project begins with the first call about its networks, and gets its
//! default network in a change of its own, once: who deletes it does not get it back. Until somebody uses it, it is
//! documents and nothing else: a network *sleeps* while nothing but what came with it refers to it and no client ever
//! was in it, and no machinery is made for it.

use serde_json::{Value, json};
use vestibule_model::{ResourceName, Scope};
use vestibule_store::View;

use super::{Compute, networks};
use crate::{Change, Error, document, users};

const NAME: &str = "default";

/// The firewall rules of Google's default network: name, sources, what they allow, what they are for.
fn firewall_rules() -> [(&'static str, &'static str, Value, &'static str); 4] {
    let port = |port: &str| json!([{"IPProtocol": "tcp", "ports": [port]}]);
    let internal = json!([
        {"IPProtocol": "tcp", "ports": ["0-65535"]},
        {"IPProtocol": "udp", "ports": ["0-65535"]},
        {"IPProtocol": "icmp"},
    ]);
    let icmp = json!([{"IPProtocol": "icmp"}]);
    [
        ("default-allow-icmp", "0.0.0.0/0", icmp, "Allow ICMP from anywhere"),
        ("default-allow-internal", "10.128.0.0/9", internal, "Allow internal traffic on the default network"),
        ("default-allow-rdp", "0.0.0.0/0", port("3389"), "Allow RDP from anywhere"),
        ("default-allow-ssh", "0.0.0.0/0", port("22"), "Allow SSH from anywhere"),
    ]
}

/// The lowest priority that a rule may have, but for one.
const PRIORITY: i64 = 65_534;

impl Compute<'_> {
    /// Gives a project what it has from its beginning, if this is its beginning and the settings want it so. Call it
    /// before anything that is about a project's networks.
    pub fn begin(&self, project: &str) -> Result<(), Error> {
        let key = key_of(project);
        if !self.control.settings().default_networks || self.control.view().get(&key).is_some() {
            return Ok(());
        }
        let begin = |change: &mut Change<'_>| {
            if change.exists(&key) {
                return Ok(());
            }
            change.put(&key, json!({}));
            let network = default_of(project);
            if change.exists(&network.key()) {
                return Ok(());
            }
            make(change, &network)
        };
        self.control.change(begin).map(drop)
    }
}

fn make(change: &mut Change<'_>, network: &ResourceName) -> Result<(), Error> {
    let doc = json!({
        "name": NAME, "description": "Default network for the project", "autoCreateSubnetworks": true,
        "routingConfig": {"routingMode": "REGIONAL"},
    });
    change.create(network, document::object(&doc).clone())?;
    for (name, sources, allowed, description) in firewall_rules() {
        let doc = json!({
            "name": name, "description": description, "network": network.self_link(), "direction": "INGRESS",
            "priority": PRIORITY, "sourceRanges": [sources], "allowed": allowed, "disabled": false,
            "logConfig": {"enable": false},
        });
        let rule = ResourceName::new(&network.project, Scope::Global, "firewalls", name);
        change.create(&rule, document::object(&doc).clone())?;
    }
    Ok(())
}

fn default_of(project: &str) -> ResourceName {
    ResourceName::new(project, networks::SCOPE, "networks", NAME)
}

/// Below the prefix of compute's documents, so that who follows those hears of it.
fn key_of(project: &str) -> String {
    format!("compute/begun/{project}")
}

/// Whether a network is there in documents alone.
pub fn sleeps(view: &View, network: &ResourceName) -> bool {
    let ours = network.name == NAME && *network == default_of(&network.project);
    let begun = ours.then(|| view.get(&key_of(&network.project))).flatten();
    begun.is_some_and(|begun| begun.value["awake"] != true) && !is_used(view, network)
}

/// Whether anything but firewall rules, routes and the subnetworks that came with it refers to the network.
fn is_used(view: &View, network: &ResourceName) -> bool {
    let users = users(view, &network.key());
    users.iter().any(|key| match ResourceName::from_key(key) {
        Some(user) => match user.collection.as_str() {
            "firewalls" | "routes" => false,
            "subnetworks" => user.name != network.name,
            _ => true,
        },
        None => true,
    })
}

/// Somebody is about to enter the network.
pub fn wake(change: &mut Change<'_>, network: &ResourceName) {
    let key = key_of(&network.project);
    if network.name == NAME && change.get(&key).is_some_and(|begun| begun["awake"] != true) {
        change.put(&key, json!({"awake": true}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::compute::testing::{PROJECT, World};
    use vestibule_vpc::NetworkId;

    fn world() -> World {
        let world = World::with_settings(Settings { default_networks: true, ..Settings::default() });
        world.control.compute().begin(PROJECT).unwrap();
        world
    }

    fn is_there(world: &World) -> bool {
        let found = crate::vpc::networks(&world.control.view());
        found.contains_key(&NetworkId::new(PROJECT, NAME))
    }

    #[test]
    fn a_project_begins_with_a_network_as_googles() {
        let world = world();
        let network = world.get("global/networks/default");
        assert_eq!(network["autoCreateSubnetworks"], true);
        let subnetwork = world.get("regions/us-central1/subnetworks/default");
        assert_eq!(subnetwork["ipCidrRange"], "10.128.0.0/20");
        let rules = world.control.compute().list(PROJECT, &Scope::Global, "firewalls");
        let names: Vec<&str> = rules.iter().filter_map(|rule| rule["name"].as_str()).collect();
        assert_eq!(
            names,
            ["default-allow-icmp", "default-allow-internal", "default-allow-rdp", "default-allow-ssh"]
        );
    }

    #[test]
    fn who_deletes_it_does_not_get_it_back() {
        let world = world();
        let refused = world.delete("global/networks/default");
        assert!(
            refused["error"]["errors"][0]["message"].as_str().unwrap().contains("firewalls/"),
            "{refused}"
        );
        for (name, ..) in firewall_rules() {
            world.delete(&format!("global/firewalls/{name}"));
        }
        assert_eq!(world.delete("global/networks/default")["error"], Value::Null);
        world.control.compute().begin(PROJECT).unwrap();
        assert!(world.try_get("global/networks/default").is_err());
    }

    #[test]
    fn a_network_of_that_name_that_is_there_stays() {
        let world = World::with_settings(Settings { default_networks: true, ..Settings::default() });
        world.network(NAME);
        world.control.compute().begin(PROJECT).unwrap();
        assert_eq!(world.get("global/networks/default")["autoCreateSubnetworks"], false);
        assert!(is_there(&world) || !sleeps(&world.control.view(), &default_of("other")));
    }

    #[test]
    fn it_sleeps_until_it_is_used() {
        let world = world();
        assert!(!is_there(&world), "nobody uses it");
        let subnet =
            json!({"name": "mine", "network": "global/networks/default", "ipCidrRange": "10.1.0.0/24"});
        world.insert("regions/us-central1/subnetworks", subnet);
        assert!(is_there(&world), "it has a subnetwork that did not come with it");
        world.delete("regions/us-central1/subnetworks/mine");
        assert!(!is_there(&world));
        let name = world.name("regions/us-central1/subnetworks/default");
        let lease = world.control.lease_vm(&name, None).unwrap();
        assert_eq!(lease.address.to_string(), "10.128.0.2");
        assert!(is_there(&world), "a client is in it");
    }

    #[test]
    fn without_the_setting_there_is_none() {
        let world = World::new();
        world.control.compute().begin(PROJECT).unwrap();
        assert!(world.try_get("global/networks/default").is_err());
    }
}
