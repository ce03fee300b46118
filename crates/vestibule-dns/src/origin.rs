//! Who answered a question, in the words of Cloud DNS's query log.

use std::sync::Arc;

/// What resolved a name (`target_type` and `target_name` of the log's resource).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) kind: &'static str,
    /// The short name of the zone or policy; empty for what has none.
    pub(crate) name: Arc<str>,
}

impl Origin {
    pub(crate) const PRIVATE_ZONE: &str = "private-zone";
    pub(crate) const PUBLIC_ZONE: &str = "public-zone";
    pub(crate) const FORWARDING_ZONE: &str = "forwarding-zone";
    pub(crate) const PEERING_ZONE: &str = "peering-zone";
    pub(crate) const FORWARDING_POLICY: &str = "forwarding-policy";
    /// Not among the published words, which say nothing of response policies.
    pub(crate) const RESPONSE_POLICY: &str = "response-policy";
    /// Compute Engine's own names.
    pub(crate) const INTERNAL: &str = "internal";
    /// Public DNS.
    pub(crate) const EXTERNAL: &str = "external";

    pub(crate) fn new(kind: &'static str, name: &Arc<str>) -> Origin {
        Origin { kind, name: name.clone() }
    }

    pub(crate) fn unnamed(kind: &'static str) -> Origin {
        Origin { kind, name: Arc::from("") }
    }
}
