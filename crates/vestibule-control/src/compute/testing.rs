//! A control plane in a temporary directory, for the tests of resources.

use serde_json::{Value, json};
use tempfile::TempDir;
use vestibule_model::{ResourceName, Scope};
use vestibule_store::Store;

use super::Call;
use crate::{Conformance, Control, Document, Error, Settings, document};

/// Project of every test.
pub const PROJECT: &str = "demo";

/// Region of every test.
pub const REGION: &str = "us-central1";

/// A fresh control plane. Paths are written without the project: `global/networks/n`.
pub struct World {
    pub control: Control,
    _dir: TempDir,
}

impl World {
    pub fn new() -> World {
        World::with(Conformance::Permissive)
    }

    pub fn strict() -> World {
        World::with(Conformance::Google)
    }

    fn with(conformance: Conformance) -> World {
        World::with_settings(Settings { conformance, ..Settings::default() })
    }

    pub fn with_settings(settings: Settings) -> World {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(dir.path()).expect("a fresh store");
        World { control: Control::open(store, settings), _dir: dir }
    }

    pub fn name(&self, path: &str) -> ResourceName {
        ResourceName::parse(&format!("projects/{PROJECT}/{path}")).expect("a valid path")
    }

    pub fn try_insert(&self, parent: &str, body: Value) -> Result<Value, Error> {
        self.insert_as(&call(), parent, body)
    }

    pub fn insert_as(&self, call: &Call, parent: &str, body: Value) -> Result<Value, Error> {
        let (scope, collection) = parent.rsplit_once('/').expect("scope and collection");
        let scope = Scope::parse(scope).expect("a scope");
        self.control.compute().insert(call, PROJECT, &scope, collection, members(body))
    }

    pub fn insert(&self, parent: &str, body: Value) -> Value {
        self.try_insert(parent, body).expect("accepted")
    }

    pub fn try_patch(&self, path: &str, body: Value) -> Result<Value, Error> {
        self.control.compute().patch(&call(), &self.name(path), members(body))
    }

    pub fn patch(&self, path: &str, body: Value) -> Value {
        self.try_patch(path, body).expect("accepted")
    }

    /// Patches with the current fingerprint.
    pub fn try_patch_now(&self, path: &str, mut body: Value) -> Result<Value, Error> {
        body["fingerprint"] = self.get(path)["fingerprint"].clone();
        self.try_patch(path, body)
    }

    pub fn try_update(&self, path: &str, body: Value) -> Result<Value, Error> {
        self.control.compute().update(&call(), &self.name(path), members(body))
    }

    pub fn try_act(&self, path: &str, verb: &str, body: Value) -> Result<Value, Error> {
        self.control.compute().act(&call(), &self.name(path), verb, members(body))
    }

    pub fn try_ask(&self, path: &str, verb: &str, body: Value) -> Result<Value, Error> {
        self.control.compute().ask(&call(), &self.name(path), verb, members(body))
    }

    pub fn act(&self, path: &str, verb: &str, body: Value) -> Value {
        self.try_act(path, verb, body).expect("accepted")
    }

    pub fn try_delete(&self, path: &str) -> Result<Value, Error> {
        self.control.compute().delete(&call(), &self.name(path))
    }

    pub fn delete(&self, path: &str) -> Value {
        self.try_delete(path).expect("accepted")
    }

    pub fn try_get(&self, path: &str) -> Result<Value, Error> {
        self.control.compute().get(&self.name(path))
    }

    pub fn get(&self, path: &str) -> Value {
        self.try_get(path).expect("present")
    }

    /// A custom mode network.
    pub fn network(&self, name: &str) {
        self.insert("global/networks", json!({"name": name, "autoCreateSubnetworks": false}));
    }

    /// A private subnetwork of a network, in [`REGION`].
    pub fn subnetwork(&self, name: &str, network: &str, range: &str) {
        self.try_subnetwork(name, network, range).expect("accepted");
    }

    pub fn try_subnetwork(&self, name: &str, network: &str, range: &str) -> Result<Value, Error> {
        let body =
            json!({"name": name, "network": format!("global/networks/{network}"), "ipCidrRange": range});
        self.try_insert(&format!("regions/{REGION}/subnetworks"), body)
    }

    /// A proxy-only subnetwork, in [`REGION`].
    pub fn try_proxy_only(&self, name: &str, network: &str, range: &str, role: &str) -> Result<Value, Error> {
        let body = json!({
            "name": name, "network": format!("global/networks/{network}"), "ipCidrRange": range,
            "purpose": "REGIONAL_MANAGED_PROXY", "role": role,
        });
        self.try_insert(&format!("regions/{REGION}/subnetworks"), body)
    }
}

/// A caller without a request id.
pub fn call() -> Call {
    Call { user: "user:tester@vestibule".into(), ..Call::default() }
}

pub fn members(body: Value) -> Document {
    document::object(&body).clone()
}
