//! Services through a control plane whose runtime only pretends ([`super::testing`]), one idea a module.

mod becoming_ready;
mod reading;
mod traffic;
mod writing;

use serde_json::Value;
use vestibule_run::desired::RevisionState;

const READY: RevisionState = RevisionState::Ready { image_digest: String::new() };

fn created(service: &Value) -> String {
    service["status"]["latestCreatedRevisionName"].as_str().unwrap().to_owned()
}
