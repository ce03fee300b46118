//! `--custom-metrics` of backend services: what the load of endpoints is told by.

use serde_json::{Map, Value, json};

use crate::gcloud::error::Failure;
use crate::gcloud::files;
use crate::gcloud::grammar::{Flag, Kind, split_pairs};
use crate::gcloud::invocation::Invocation;

pub const CLEAR: &str = "clear-custom-metrics";
const METRICS: &str = "custom-metrics";
const FILE: &str = "custom-metrics-file";

/// The flags that set metrics.
pub fn flags() -> Vec<Flag> {
    vec![
        Flag::new(
            METRICS,
            Kind::Repeated,
            "A metric of WEIGHTED_ROUND_ROBIN, such as 'name=my-signal,dryRun=true', or a JSON list of them.",
        ),
        Flag::text(FILE, "A file with a JSON list of metrics."),
    ]
}

/// Writes the metrics that were given into a backend service.
pub fn apply(inv: &Invocation<'_>, body: &mut Map<String, Value>) -> Result<(), Failure> {
    let args = &inv.args;
    let mut metrics = Vec::new();
    for text in args.list(METRICS).unwrap_or_default() {
        read(METRICS, text, &mut metrics)?;
    }
    if let Some(path) = args.text(FILE) {
        read(FILE, &files::read_file(inv, path)?, &mut metrics)?;
    }
    if args.on(CLEAR) || !metrics.is_empty() {
        body.insert("customMetrics".into(), Value::Array(metrics));
    }
    Ok(())
}

/// Reads one value of a flag: a JSON object, a list of them, or pairs.
fn read(flag: &str, text: &str, metrics: &mut Vec<Value>) -> Result<(), Failure> {
    let bad = |why: String| Failure::new(format!("argument --{flag}: {why}"));
    let text = text.trim();
    let all = if text.starts_with(['[', '{']) {
        match serde_json::from_str(text).map_err(|error| bad(error.to_string()))? {
            Value::Array(all) => all,
            one => vec![one],
        }
    } else {
        let pairs = split_pairs(text).map_err(|error| bad(error.to_string()))?;
        vec![Value::Object(pairs.into_iter().map(|(name, value)| (name, json!(value))).collect())]
    };
    for metric in all {
        metrics.push(checked(&metric).map_err(&bad)?);
    }
    Ok(())
}

/// A metric as the API has it.
fn checked(metric: &Value) -> Result<Value, String> {
    let members = metric.as_object().ok_or("A metric must be an object.")?;
    if let Some(other) = members.keys().find(|key| !matches!(key.as_str(), "name" | "dryRun")) {
        return Err(format!("valid keys are [dryRun, name]; received: {other}"));
    }
    let Some(name) = members.get("name").and_then(Value::as_str) else {
        return Err("Key [name] required in dict arg but not provided".to_owned());
    };
    let mut checked = json!({ "name": name });
    match members.get("dryRun") {
        None => {}
        Some(Value::Bool(on)) => checked["dryRun"] = json!(on),
        Some(Value::String(word)) if word.eq_ignore_ascii_case("true") => checked["dryRun"] = json!(true),
        Some(Value::String(word)) if word.eq_ignore_ascii_case("false") => checked["dryRun"] = json!(false),
        Some(other) => return Err(format!("Invalid value [{other}] for dryRun: must be true or false")),
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_pairs_or_json() {
        let metrics = |text: &str| {
            let mut metrics = Vec::new();
            read(METRICS, text, &mut metrics).map(|()| metrics)
        };
        let both = [json!({"name": "a", "dryRun": true}), json!({"name": "b"})];
        assert_eq!(metrics(r#"[{"name": "a", "dryRun": true}, {"name": "b"}]"#).unwrap(), both);
        assert_eq!(metrics("name=a,dryRun=true").unwrap(), both[..1]);
        assert_eq!(metrics(r#"{"name": "b"}"#).unwrap(), both[1..]);
        for bad in ["dryRun=true", "name=a,weight=1", "name=a,dryRun=maybe", "[1]", "[", "a"] {
            assert!(metrics(bad).is_err(), "{bad}");
        }
    }
}
