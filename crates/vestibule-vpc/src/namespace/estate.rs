//! Namespaces that go from one process to the next.
//!
//! A namespace lives as long as anybody holds it, so a descriptor of each is all that must be handed over, with what
//! is known of it: addresses that are held, clients and the names of their links. An ordinary user's namespaces belong
//! to a user namespace, which the next process must enter first, while it has one thread.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::room::Room;
use super::{Filter, Namespaces, Network, NetworkState, UserNamespace, join_user_namespace, lock};
use crate::inheritance::{address, duplicate, network, unreadable};
use crate::{Estate, NetworkId, Subnet};

impl Namespaces {
    /// What another process needs to go on: first the user namespace, if there is one, then every network's namespace
    /// and those of its clients.
    pub(super) fn describe(&self) -> io::Result<Estate> {
        let mut descriptors = Vec::new();
        if UserNamespace::entered() {
            descriptors.push(File::open("/proc/self/ns/user")?.into());
        }
        let mut described = Vec::new();
        for (id, network) in lock(&self.networks).iter() {
            described.push(network.describe(id, &mut descriptors)?);
        }
        let state = json!({
            "user": UserNamespace::entered(),
            "networks": described,
            "guests": self.guests.load(Ordering::Relaxed),
            "noFilter": self.no_filter,
            "noLog": self.no_log,
        });
        Ok(Estate { state, descriptors })
    }

    /// Goes on with what another process described. Call it from the only thread of the process.
    pub fn adopt(estate: Estate) -> io::Result<Namespaces> {
        let Estate { state, descriptors } = estate;
        let mut descriptors = descriptors.into_iter();
        let wrong = || unreadable("its networks");
        if state["user"] == true {
            join_user_namespace(&descriptors.next().ok_or_else(wrong)?)?;
        }
        let mut networks = HashMap::new();
        for described in state["networks"].as_array().ok_or_else(wrong)? {
            let id = network(&described["id"]).ok_or_else(wrong)?;
            let adopted = Network::adopt(&id, described, &mut descriptors)?;
            networks.insert(id, Arc::new(adopted));
        }
        let guests = state["guests"].as_u64().and_then(|count| count.try_into().ok()).ok_or_else(wrong)?;
        Ok(Namespaces {
            networks: networks.into(),
            guests: AtomicU32::new(guests),
            no_filter: state["noFilter"].as_str().map(str::to_owned),
            no_log: state["noLog"].as_str().map(str::to_owned),
            tell: Default::default(),
            inherited: Default::default(),
        })
    }
}

impl Network {
    fn describe(&self, id: &NetworkId, descriptors: &mut Vec<OwnedFd>) -> io::Result<Value> {
        descriptors.push(duplicate(self.room.namespace())?);
        let state = lock(&self.state);
        let mut guests = Vec::with_capacity(state.guests.len());
        for (ip, (room, link)) in &state.guests {
            descriptors.push(duplicate(room.namespace())?);
            guests.push(json!([ip, link]));
        }
        let subnets = state.subnets.iter().map(|subnet| json!([subnet.range, subnet.prefix, subnet.gateway]));
        Ok(json!({
            "id": id.as_str(),
            "subnets": subnets.collect::<Vec<_>>(),
            "held": *lock(&self.held),
            "mtu": self.mtu.load(Ordering::Relaxed),
            "guests": guests,
            "laid": state.laid.iter().map(|((range, prefix), hops)| json!([range, prefix, hops])).collect::<Vec<_>>(),
            "tracks": lock(&self.filter).tracks,
        }))
    }

    fn adopt(
        id: &NetworkId,
        described: &Value,
        descriptors: &mut impl Iterator<Item = OwnedFd>,
    ) -> io::Result<Network> {
        let wrong = || unreadable(&format!("network {id}"));
        let mut room = |name: &str| Room::enter(name, descriptors.next().ok_or_else(wrong)?);
        let own = room(id.short())?;
        let mut state = NetworkState::default();
        for row in described["guests"].as_array().ok_or_else(wrong)? {
            let (ip, link) = address(&row[0]).zip(row[1].as_str()).ok_or_else(wrong)?;
            state.guests.insert(ip, (room(&format!("vm {ip}"))?, link.to_owned()));
        }
        let subnets = described["subnets"].as_array().ok_or_else(wrong)?.iter().map(subnet);
        state.subnets = subnets.collect::<Option<_>>().ok_or_else(wrong)?;
        // A server of before there were static routes has laid none.
        let laid = described["laid"].as_array().into_iter().flatten().map(laid);
        state.laid = laid.collect::<Option<_>>().ok_or_else(wrong)?;
        let held = described["held"].as_array().ok_or_else(wrong)?.iter().map(address);
        let held = held.collect::<Option<BTreeSet<_>>>().ok_or_else(wrong)?;
        let mtu = described["mtu"].as_u64().and_then(|mtu| mtu.try_into().ok()).ok_or_else(wrong)?;
        // The rules come from the store, as after any start; what the kernel tracks, it tracks on.
        let tracks = described["tracks"].as_bool().ok_or_else(wrong)?;
        let filter = Filter { clients: state.guests.len(), tracks, ..Filter::default() };
        Ok(Network {
            room: own,
            sockets: Default::default(),
            held: held.into(),
            state: state.into(),
            filter: filter.into(),
            alive: Arc::default(),
            mtu: AtomicU32::new(mtu),
        })
    }
}

fn subnet(row: &Value) -> Option<Subnet> {
    let prefix = row[1].as_u64()?.try_into().ok()?;
    Some(Subnet { range: address(&row[0])?, prefix, gateway: address(&row[2])? })
}

fn laid(row: &Value) -> Option<((Ipv4Addr, u8), BTreeSet<Ipv4Addr>)> {
    let prefix = row[1].as_u64()?.try_into().ok()?;
    let hops = row[2].as_array()?.iter().map(address).collect::<Option<_>>()?;
    Some(((address(&row[0])?, prefix), hops))
}
