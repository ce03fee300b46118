//! Resource limits as Kubernetes writes them.

use std::collections::BTreeMap;

/// Cloud Run's default: one processor.
const DEFAULT_CPU: &str = "1000m";
/// Cloud Run's default.
const DEFAULT_MEMORY: &str = "512Mi";

/// What an instance may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::driver) struct Limits {
    /// Thousandths of a processor.
    pub(in crate::driver) cpu: u64,
    /// Bytes.
    pub(in crate::driver) memory: u64,
}

impl Limits {
    /// Limits of a revision. What cannot be read counts as not given: the control plane has accepted it.
    pub(in crate::driver) fn of(limits: &BTreeMap<String, String>) -> Self {
        let read = |name: &str, default: &str, scale: f64| {
            let given = limits.get(name).and_then(|text| quantity(text));
            let value = given.or_else(|| quantity(default)).unwrap_or(1.0) * scale;
            // Saturates, and is no fraction.
            value.round() as u64
        };
        Self { cpu: read("cpu", DEFAULT_CPU, 1_000.0), memory: read("memory", DEFAULT_MEMORY, 1.0) }
    }
}

/// `1`, `500m`, `0.5`, `512Mi`, `1G`: a positive number.
fn quantity(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit {
        "" => 1.0,
        "m" => 0.001,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number * scale).filter(|value| *value > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_kubernetes_writes_them() {
        let limits = |cpu: &str, memory: &str| {
            let pairs =
                [("cpu", cpu), ("memory", memory)].map(|(name, value)| (name.to_owned(), value.to_owned()));
            Limits::of(&BTreeMap::from(pairs))
        };
        assert_eq!(limits("2", "1Gi"), Limits { cpu: 2_000, memory: 1 << 30 });
        assert_eq!(limits("500m", "128M"), Limits { cpu: 500, memory: 128_000_000 });
        assert_eq!(limits("0.08", "67108864"), Limits { cpu: 80, memory: 64 << 20 });
        let default = Limits { cpu: 1_000, memory: 512 << 20 };
        assert_eq!(Limits::of(&BTreeMap::new()), default);
        assert_eq!(limits("much", "-1Gi"), default);
        assert_eq!(limits("0", "1.2.3Mi"), default);
    }
}
