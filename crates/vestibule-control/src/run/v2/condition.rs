//! Conditions in v2's words.

use serde_json::{Value, json};

use super::super::json as reach;
use super::super::status;

/// The conditions of the given types, in that order.
pub(super) fn all(stored: &Value, kinds: &[&str]) -> Value {
    kinds.iter().filter_map(|kind| status::find(stored, kind)).map(condition).collect()
}

/// One condition.
pub(super) fn condition(v1: &Value) -> Value {
    let state = match v1["status"].as_str() {
        Some("True") => "CONDITION_SUCCEEDED",
        Some("False") => "CONDITION_FAILED",
        _ => "CONDITION_RECONCILING",
    };
    let mut out =
        json!({ "type": v1["type"], "state": state, "lastTransitionTime": v1["lastTransitionTime"] });
    if let Some(message) = reach::text(v1, &["message"]) {
        out["message"] = message.into();
    }
    if v1["severity"] == "Info" {
        out["severity"] = "INFO".into();
    }
    if let Some((field, reason)) = reach::text(v1, &["reason"]).and_then(reason) {
        out[field] = reason.into();
    }
    out
}

/// The field that holds a reason, and the reason; `None` for one that v2 has no word for.
fn reason(v1: &str) -> Option<(&'static str, &'static str)> {
    Some(match v1 {
        "RevisionFailed" => ("reason", "REVISION_FAILED"),
        "ContainerMissing" => ("reason", "CONTAINER_MISSING"),
        "ContainerPermissionDenied" => ("reason", "CONTAINER_PERMISSION_DENIED"),
        "ContainerImageUnauthorized" => ("reason", "CONTAINER_IMAGE_UNAUTHORIZED"),
        "SecretsAccessCheckFailed" => ("reason", "SECRETS_ACCESS_CHECK_FAILED"),
        "ProgressDeadlineExceeded" => ("reason", "PROGRESS_DEADLINE_EXCEEDED"),
        "RevisionMissing" => ("reason", "UNKNOWN"),
        "HealthCheckContainerError" => ("revisionReason", "HEALTH_CHECK_CONTAINER_ERROR"),
        "Retired" => ("revisionReason", "RETIRED"),
        "NonZeroExitCode" => ("executionReason", "NON_ZERO_EXIT_CODE"),
        "Cancelled" => ("executionReason", "CANCELLED"),
        "Cancelling" => ("executionReason", "CANCELLING"),
        _ => return None,
    })
}
