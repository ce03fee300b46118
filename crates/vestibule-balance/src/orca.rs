//! Load reports that backends send with their answers, in the `endpoint-load-metrics` header.
//!
//! The form is ORCA's (Open Request Cost Aggregation, `xds.data.orca.v3.OrcaLoadReport`), in the three spellings that
//! Envoy reads: `TEXT cpu_utilization=0.3,named_metrics.queue=0.5`, `JSON {"cpu_utilization": 0.3}` and `BIN` with the
//! message in base64. A report that cannot be read, or says what no load can be, counts as none: a backend must not be
//! able to hurt a request by what it says of itself.

mod message;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The header, in lower case.
pub const HEADER: &str = "endpoint-load-metrics";

/// Most metrics of one report; further ones are not read.
const MOST_NAMED: usize = 64;

/// What a backend says of itself. What it does not say is 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Share of the CPU in use. May exceed 1.
    pub cpu_utilization: f64,
    /// Share of the memory in use.
    pub mem_utilization: f64,
    /// Share of whatever the program itself holds for its limit. May exceed 1.
    pub application_utilization: f64,
    /// Requests a second that the backend serves.
    pub rps_fractional: f64,
    /// Metrics of the program's own.
    pub named_metrics: Vec<(String, f64)>,
}

/// `backendServices.customMetrics[].name`: what an endpoint's utilisation is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metric {
    Cpu,
    Memory,
    Application,
    Named(String),
}

impl Metric {
    /// Reads a name: `orca.cpu_utilization`, `orca.named_metrics.queue`, or `queue` for the same.
    pub fn parse(name: &str) -> Metric {
        match name.strip_prefix("orca.").unwrap_or(name) {
            "cpu_utilization" => Metric::Cpu,
            "mem_utilization" => Metric::Memory,
            "application_utilization" => Metric::Application,
            other => Metric::Named(other.strip_prefix("named_metrics.").unwrap_or(other).to_owned()),
        }
    }
}

impl Report {
    /// Reads a header's value.
    pub fn parse(value: &[u8]) -> Option<Report> {
        let text = std::str::from_utf8(value).ok()?.trim();
        let (spelling, rest) = text.split_once(' ')?;
        match spelling {
            "TEXT" => Report::from_text(rest),
            "JSON" => Report::from_json(&serde_json::from_str(rest).ok()?),
            "BIN" => message::read(&STANDARD.decode(rest.trim()).ok()?),
            _ => None,
        }
    }

    fn from_text(text: &str) -> Option<Report> {
        let mut report = Report::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').or_else(|| pair.split_once(':'))?;
            report.set(name.trim(), value.trim().parse().ok()?)?;
        }
        Some(report)
    }

    fn from_json(value: &Value) -> Option<Report> {
        let mut report = Report::default();
        for (name, value) in value.as_object()? {
            match value {
                Value::Object(named) if matches!(name.as_str(), "named_metrics" | "namedMetrics") => {
                    for (name, value) in named {
                        report.name(name, value.as_f64()?)?;
                    }
                }
                // Costs of this one request, and utilisations that no policy asks for.
                Value::Object(_) => {}
                value => report.set(name, value.as_f64()?)?,
            }
        }
        Some(report)
    }

    /// Sets a member by its name, in either of protobuf's spellings. Others are passed over.
    fn set(&mut self, name: &str, value: f64) -> Option<()> {
        let value = load(value)?;
        match name {
            "cpu_utilization" | "cpuUtilization" => self.cpu_utilization = value,
            "mem_utilization" | "memUtilization" => self.mem_utilization = value,
            "application_utilization" | "applicationUtilization" => self.application_utilization = value,
            "rps_fractional" | "rpsFractional" => self.rps_fractional = value,
            _ => {
                if let Some(name) = name.strip_prefix("named_metrics.") {
                    self.name(name, value)?;
                }
            }
        }
        Some(())
    }

    fn name(&mut self, name: &str, value: f64) -> Option<()> {
        let value = load(value)?;
        if self.named_metrics.len() < MOST_NAMED {
            self.named_metrics.push((name.to_owned(), value));
        }
        Some(())
    }

    /// How full the endpoint is by these metrics: the fullest counts. Without any, what the program says, or else its
    /// CPU. `None`: it says nothing of them.
    pub fn utilization(&self, metrics: &[Metric]) -> Option<f64> {
        let fullest = if metrics.is_empty() {
            [self.application_utilization, self.cpu_utilization].into_iter().find(|load| *load > 0.0)
        } else {
            metrics.iter().map(|metric| self.value(metric)).reduce(f64::max)
        };
        fullest.filter(|load| *load > 0.0)
    }

    fn value(&self, metric: &Metric) -> f64 {
        match metric {
            Metric::Cpu => self.cpu_utilization,
            Metric::Memory => self.mem_utilization,
            Metric::Application => self.application_utilization,
            Metric::Named(name) => {
                let mut named = self.named_metrics.iter();
                named.find(|(known, _)| known == name).map_or(0.0, |(_, value)| *value)
            }
        }
    }
}

/// A number that a load can be.
fn load(value: f64) -> Option<f64> {
    (value.is_finite() && value >= 0.0).then_some(value)
}

#[cfg(test)]
mod tests;
