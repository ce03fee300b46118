//! Which revisions get which share, from what is wanted and what can serve.
//!
//! `spec.traffic` says what is wanted; an entry names a revision or means the latest that is ready. It is obeyed as a
//! whole or not yet: while a revision that it names is still being deployed, and when one with a share cannot serve,
//! traffic stays where it was. An entry without a share that cannot be obeyed (a tag on a failed revision) is left out,
//! and the rest is obeyed.

use serde_json::Value;

use super::json;
use super::url::Hosts;

/// What is known of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readiness {
    Deploying,
    Ready,
    Failed { reason: String, message: String },
}

/// How far the wanted traffic can be obeyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Obeyed,
    /// Some revision is still being deployed.
    Waiting,
    /// It cannot be obeyed: reason and message of the condition.
    Refused {
        reason: &'static str,
        message: String,
    },
}

/// What becomes of the wanted traffic.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Resolution {
    /// Entries in the form of `status.traffic`. `None`: traffic stays where it was.
    pub(super) entries: Option<Vec<Value>>,
    pub(super) verdict: Verdict,
}

/// Resolves the wanted traffic. `readiness` knows all revisions of the service.
pub(super) fn resolve(
    wanted: &[Value],
    latest_ready: Option<&str>,
    readiness: impl Fn(&str) -> Option<Readiness>,
    hosts: &Hosts,
) -> Resolution {
    let mut entries = Vec::new();
    let mut hold = false;
    let mut waiting = false;
    let mut refused = None;
    for target in wanted {
        let latest = target["latestRevision"].as_bool().unwrap_or(false);
        let name = if latest { latest_ready } else { json::text(target, &["revisionName"]) };
        let Some(name) = name else {
            // No revision has ever been ready.
            hold = true;
            waiting = true;
            continue;
        };
        let problem = match readiness(name) {
            Some(Readiness::Ready) => {
                entries.push(entry(target, name, hosts));
                continue;
            }
            Some(Readiness::Deploying) => {
                hold = true;
                waiting = true;
                continue;
            }
            Some(Readiness::Failed { message, .. }) => (
                "RevisionFailed",
                format!("Revision '{name}' is not ready and cannot serve traffic. {message}"),
            ),
            None => ("RevisionMissing", format!("Revision '{name}' referenced in traffic does not exist.")),
        };
        hold |= target["percent"].as_u64().unwrap_or(0) > 0;
        refused.get_or_insert(problem);
    }
    let verdict = match refused {
        Some((reason, message)) => Verdict::Refused { reason, message },
        None if waiting => Verdict::Waiting,
        None => Verdict::Obeyed,
    };
    Resolution { entries: (!hold).then_some(entries), verdict }
}

/// The entry of `status.traffic` for a wanted one.
fn entry(target: &Value, revision: &str, hosts: &Hosts) -> Value {
    let mut entry = target.clone();
    entry["revisionName"] = revision.into();
    if let Some(tag) = json::text(target, &["tag"]) {
        entry["url"] = hosts.tag_url(tag).into();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{name::Name, url};
    use serde_json::json;

    fn resolved(wanted: Value, latest: Option<&str>) -> (Option<Value>, Verdict) {
        let readiness = |name: &str| match name {
            "a" | "b" => Some(Readiness::Ready),
            "new" => Some(Readiness::Deploying),
            "bad" => {
                Some(Readiness::Failed { reason: "ContainerMissing".into(), message: "Image gone.".into() })
            }
            _ => None,
        };
        let hosts = url::hosts(&Name::new("demo", "us-central1", "svc"));
        let resolution = resolve(wanted.as_array().unwrap(), latest, readiness, &hosts);
        (resolution.entries.map(Value::Array), resolution.verdict)
    }

    #[test]
    fn what_can_be_obeyed_is() {
        let wanted = json!([{"latestRevision": true, "percent": 90}, {"revisionName": "b", "percent": 10, "tag": "blue"}]);
        let (entries, verdict) = resolved(wanted, Some("a"));
        let entries = entries.unwrap();
        assert_eq!(verdict, Verdict::Obeyed);
        assert_eq!(entries[0], json!({"latestRevision": true, "percent": 90, "revisionName": "a"}));
        assert_eq!(entries[1]["revisionName"], "b");
        assert!(entries[1]["url"].as_str().unwrap().starts_with("https://blue---svc-"));
    }

    #[test]
    fn traffic_stays_until_everything_is_ready() {
        let latest = json!([{"latestRevision": true, "percent": 100}]);
        assert_eq!(resolved(latest, None), (None, Verdict::Waiting));
        let canary = json!([{"revisionName": "a", "percent": 100}, {"revisionName": "new", "tag": "canary"}]);
        assert_eq!(resolved(canary, Some("a")), (None, Verdict::Waiting));
    }

    #[test]
    fn what_cannot_serve_gets_no_share() {
        let missing = json!([{"revisionName": "nope", "percent": 100}]);
        let (entries, verdict) = resolved(missing, Some("a"));
        assert_eq!(entries, None);
        assert!(matches!(verdict, Verdict::Refused { reason: "RevisionMissing", .. }));

        let tag = json!([{"revisionName": "a", "percent": 100}, {"revisionName": "bad", "tag": "canary"}]);
        let (entries, verdict) = resolved(tag, Some("a"));
        assert_eq!(entries.unwrap().as_array().unwrap().len(), 1, "the rest is obeyed");
        match verdict {
            Verdict::Refused { reason: "RevisionFailed", message } => {
                assert!(message.ends_with("Image gone."), "{message}")
            }
            other => panic!("{other:?}"),
        }
    }
}
