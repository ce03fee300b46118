//! Policies of managed zones: who may see and change one.

use serde_json::{Value, json};
use vestibule_iam::Principal;
use vestibule_iam::policy::Context;

use super::{Dns, Zone, find_zone, find_zone_in};
use crate::{Error, iam};

impl Zone {
    /// The key of the zone's policy.
    pub(super) fn policy_key(&self) -> String {
        format!("policy/{}", self.key)
    }
}

impl Dns<'_> {
    /// The policy of a zone, for a client that understands policies up to `version`.
    pub fn zone_policy(&self, project: &str, zone: &str, version: u8) -> Result<Value, Error> {
        let view = self.0.view();
        let zone = find_zone(&view, project, zone)?;
        Ok(iam::policy_at(&view, &zone.policy_key()).to_json(version))
    }

    /// Replaces the policy of a zone by the one in the request.
    pub fn set_zone_policy(&self, project: &str, zone: &str, request: &Value) -> Result<Value, Error> {
        let (policy, _) = self.0.change(|change| {
            let zone = find_zone_in(change, project, zone)?;
            iam::replace_policy(change, &zone.policy_key(), request)
        })?;
        Ok(policy)
    }

    /// Which of the permissions the caller has on a zone. None on one that does not exist.
    pub fn test_zone_permissions(
        &self,
        project: &str,
        zone: &str,
        permissions: &[String],
        principal: &Principal,
    ) -> Result<Value, Error> {
        let view = self.0.view();
        let Ok(found) = find_zone(&view, project, zone) else { return Ok(json!({})) };
        let policies = [iam::policy_at(&view, &found.policy_key()), iam::project_policy(&view, project)];
        let context = Context {
            resource_name: format!("projects/{project}/managedZones/{zone}"),
            resource_type: "dns.googleapis.com/ManagedZone".to_owned(),
            resource_service: "dns.googleapis.com".to_owned(),
            ..Context::now()
        };
        let held = iam::held(&policies, permissions, principal, &context)?;
        Ok(if held.is_empty() { json!({}) } else { json!({ "permissions": held }) })
    }
}
