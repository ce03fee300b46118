//! How this control plane behaves where Google and convenience differ.

/// What happens where Google refuses something that would work here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conformance {
    /// Accept it, with a warning on the operation. The default.
    #[default]
    Permissive,
    /// Refuse it as Google does.
    Google,
}

/// Settings of a control plane, fixed when it opens.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Default: [`Conformance::Permissive`].
    pub conformance: Conformance,
    /// Why firewall rules are kept without being enforced, as a sentence. Default: they are enforced.
    pub firewall_gap: Option<String>,
    /// Why firewall rules with logging record nothing, as a sentence. Default: they do.
    pub firewall_log_gap: Option<String>,
    /// Whether every project begins with an auto mode network `default`, as on Google's. Default: it begins with nothing.
    pub default_networks: bool,
}
