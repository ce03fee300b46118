//! Clients that stay while their server is replaced.
//!
//! A lease lasts as long as its client's connection to the API. That connection goes to the next server with the
//! lease: nothing is written on it any more, and when it ends, so does the lease. Instances of services hold leases as
//! well; theirs end with the server that runs them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use vestibule_control::compute::VmAddress;
use vestibule_iam::metadata::Identity;
use vestibule_model::ResourceName;

use crate::serve::clients::Lease;

/// A client as one server describes it to the next.
#[derive(Debug, Clone)]
pub struct Described {
    pub id: String,
    pub identity: Identity,
    pub tags: Vec<String>,
    pub address: VmAddress,
    /// Its connection is among the descriptors. Without one it is an instance of the other server's.
    pub has_connection: bool,
}

impl Described {
    pub fn to_json(&self) -> Value {
        let who = &self.identity;
        json!({
            "id": self.id,
            "tags": self.tags,
            "network": self.address.network.key(),
            "subnetwork": self.address.subnetwork.key(),
            "address": self.address.address,
            "hasConnection": self.has_connection,
            "identity": {
                "projectId": who.project_id,
                "projectNumber": who.project_number,
                "region": who.region,
                "zone": who.zone,
                "instanceId": who.instance_id,
                "instanceName": who.instance_name,
                "hostname": who.hostname,
                "serviceAccount": who.service_account,
            },
        })
    }

    pub fn from_json(json: &Value) -> Option<Described> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let who = &json["identity"];
        Some(Described {
            id: text(&json["id"])?,
            tags: json["tags"].as_array()?.iter().map(text).collect::<Option<_>>()?,
            address: VmAddress {
                network: ResourceName::from_key(json["network"].as_str()?)?,
                subnetwork: ResourceName::from_key(json["subnetwork"].as_str()?)?,
                address: json["address"].as_str()?.parse().ok()?,
            },
            has_connection: json["hasConnection"].as_bool()?,
            identity: Identity {
                project_id: text(&who["projectId"])?,
                project_number: text(&who["projectNumber"])?,
                region: text(&who["region"])?,
                zone: text(&who["zone"])?,
                instance_id: text(&who["instanceId"])?,
                instance_name: text(&who["instanceName"])?,
                hostname: text(&who["hostname"])?,
                service_account: text(&who["serviceAccount"])?,
            },
        })
    }
}

/// Leases whose connections came from an earlier server.
#[derive(Clone, Default)]
pub struct Adopted(Arc<Mutex<Vec<Kept>>>);

type Kept = (Weak<Lease>, Weak<OwnedFd>);

impl Adopted {
    /// Keeps a lease until its client's connection ends, or `stopped` says that the server does.
    pub fn keep(
        &self,
        lease: Lease,
        connection: OwnedFd,
        services: &tokio::runtime::Handle,
        stopped: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let (lease, connection) = (Arc::new(lease), Arc::new(connection));
        let stream = std::net::TcpStream::from(connection.as_fd().try_clone_to_owned()?);
        stream.set_nonblocking(true)?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(lease, _)| lease.strong_count() > 0);
        kept.push((Arc::downgrade(&lease), Arc::downgrade(&connection)));
        services.spawn(async move {
            if let Ok(mut stream) = tokio::net::TcpStream::from_std(stream) {
                let mut bytes = [0; 64];
                let ended = async { while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {} };
                tokio::select! {
                    () = ended => {}
                    () = super::super::ended(stopped) => {}
                }
            }
            drop(lease);
            drop(connection);
        });
        Ok(())
    }

    /// Those that are still there.
    pub fn all(&self) -> Vec<(Arc<Lease>, Arc<OwnedFd>)> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .filter_map(|(lease, connection)| Some((lease.upgrade()?, connection.upgrade()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_survives_the_way() {
        let name = |kind: &str| {
            ResourceName::from_key(&format!("compute/projects/p/regions/r/{kind}/x")).expect("a key")
        };
        let described = Described {
            id: "vm-1".into(),
            identity: Identity::cloud_run("p", "1", "r", "i", "a@b"),
            tags: vec!["t".into()],
            address: VmAddress {
                network: ResourceName::from_key("compute/projects/p/global/networks/n").expect("a key"),
                subnetwork: name("subnetworks"),
                address: [10, 0, 0, 2].into(),
            },
            has_connection: true,
        };
        let json = described.to_json();
        assert_eq!(Described::from_json(&json).expect("understood").to_json(), json);
        assert!(Described::from_json(&json!({"id": "vm-1"})).is_none());
    }
}
