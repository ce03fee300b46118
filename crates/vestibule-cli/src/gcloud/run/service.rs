//! What a Knative service document says.

use serde_json::Value;

/// Annotation and label names.
pub const URLS: &str = "run.googleapis.com/urls";
pub const INGRESS: &str = "run.googleapis.com/ingress";
pub const OPERATION: &str = "run.googleapis.com/operation-id";
pub const NONCE: &str = "client.knative.dev/nonce";
pub const LOCATION: &str = "cloud.googleapis.com/location";
pub const RUNNING_STATE: &str = "run.googleapis.com/runningState";
pub const CREATOR: &str = "serving.knative.dev/creator";
pub const LAST_MODIFIER: &str = "serving.knative.dev/lastModifier";

/// A service or revision document, read only.
#[derive(Clone, Copy)]
pub struct Document<'d>(pub &'d Value);

/// How far a document's wish has come true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Still on the way.
    Unknown,
    /// Failed, with what the last condition says.
    Failed(String),
}

impl<'d> Document<'d> {
    pub fn text(&self, pointer: &str) -> Option<&'d str> {
        self.0.pointer(pointer)?.as_str()
    }

    pub fn name(&self) -> &'d str {
        self.text("/metadata/name").unwrap_or_default()
    }

    /// What the server calls the namespace; later calls use it.
    pub fn namespace(&self) -> Option<&'d str> {
        self.text("/metadata/namespace")
    }

    pub fn annotation(&self, name: &str) -> Option<&'d str> {
        self.0.pointer("/metadata/annotations")?.get(name)?.as_str()
    }

    pub fn label(&self, name: &str) -> Option<&'d str> {
        self.0.pointer("/metadata/labels")?.get(name)?.as_str()
    }

    /// The URL to show: the first of the annotation's, else the status's.
    pub fn url(&self) -> Option<String> {
        let urls: Option<Vec<String>> =
            self.annotation(URLS).and_then(|text| serde_json::from_str(text).ok());
        urls.and_then(|urls| urls.into_iter().next()).or_else(|| self.text("/status/url").map(str::to_owned))
    }

    pub fn ingress(&self) -> &'d str {
        self.annotation(INGRESS).unwrap_or("all")
    }

    pub fn condition(&self, kind: &str) -> Option<&'d Value> {
        self.conditions().find(|c| c.get("type").and_then(Value::as_str) == Some(kind))
    }

    fn conditions(&self) -> impl Iterator<Item = &'d Value> {
        self.0.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
    }

    /// Whether what was last asked for is in force.
    pub fn readiness(&self) -> Readiness {
        let observed = self.0.pointer("/status/observedGeneration").and_then(Value::as_i64);
        let wanted = self.0.pointer("/metadata/generation").and_then(Value::as_i64);
        let fresh = observed.is_none() || observed == wanted;
        let status = self.condition("Ready").and_then(|c| c.get("status")).and_then(Value::as_str);
        match status {
            Some("True") if fresh => Readiness::Ready,
            Some("False") if fresh => Readiness::Failed(self.failure()),
            _ => Readiness::Unknown,
        }
    }

    fn failure(&self) -> String {
        let failed = self.conditions().filter(|c| c.get("status").and_then(Value::as_str) == Some("False"));
        let message = failed.filter_map(|c| c.get("message")?.as_str()).last();
        message.unwrap_or("The service did not become ready.").to_owned()
    }

    /// The sign in front of a line of a list.
    pub fn glyph(&self) -> &'static str {
        let kind = self.text("/kind").unwrap_or_default();
        if kind == "Task" {
            return match self.label(RUNNING_STATE) {
                Some("Running") => "…",
                Some("Succeeded") => "✔",
                Some("Failed") => "X",
                Some("Cancelled") => "!",
                Some("Abandoned") => "-",
                _ => ".",
            };
        }
        let deciding = if kind == "Execution" { "Completed" } else { "Ready" };
        let created = self.text("/status/latestCreatedRevisionName");
        let ready = self.text("/status/latestReadyRevisionName");
        match self.condition(deciding).and_then(|c| c.get("status")).and_then(Value::as_str) {
            Some("True") => "✔",
            // It serves, but not what was asked for last.
            Some("False") if kind == "Service" && ready.is_some() && ready != created => "!",
            Some("False") => "X",
            _ => "…",
        }
    }

    /// The first container, where single-container flags apply.
    pub fn container(&self, spec: &str) -> Option<&'d Value> {
        self.0.pointer(spec)?.get("containers")?.get(0)
    }
}
