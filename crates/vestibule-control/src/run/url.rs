//! Default URLs of services.
//!
//! Each service has two: the older one carries a hash that stands for the project and a code that stands for the
//! region, the newer one can be told in advance. Both lead to the same service. A tagged revision has the same with
//! `TAG---` in front.

use ring::digest;
use vestibule_model::region::run_code;

use super::name::Name;
use crate::Error;

/// Longest label of a host name (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;
/// Characters of the hash in the older form.
const HASH_LEN: usize = 10;
/// What separates a tag from the rest.
const TAG_SEPARATOR: &str = "---";

/// The two host names of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hosts {
    /// `SERVICE-HASH-CODE.a.run.app`
    pub(super) hashed: String,
    /// `SERVICE-NUMBER.REGION.run.app`
    pub(super) deterministic: String,
}

/// The hosts of a service. Where the label would be too long, the service's part of it is cut.
pub(super) fn hosts(name: &Name) -> Hosts {
    let hashed = format!("-{}-{}", project_hash(&name.project), run_code(&name.location));
    let numbered = format!("-{}", name.project_number());
    Hosts {
        hashed: format!("{}{hashed}.a.run.app", cut(&name.name, hashed.len())),
        deterministic: format!("{}{numbered}.{}.run.app", cut(&name.name, numbered.len()), name.location),
    }
}

impl Hosts {
    /// The URL in `status.url`.
    pub(super) fn primary_url(&self) -> String {
        format!("https://{}", self.hashed)
    }

    /// All URLs, the one people are shown first.
    pub(super) fn urls(&self) -> [String; 2] {
        [format!("https://{}", self.deterministic), self.primary_url()]
    }

    /// The URL of a tag.
    pub(super) fn tag_url(&self, tag: &str) -> String {
        format!("https://{tag}{TAG_SEPARATOR}{}", self.hashed)
    }

    /// All URLs of a tag.
    pub(super) fn tag_urls(&self, tag: &str) -> [String; 2] {
        [format!("https://{tag}{TAG_SEPARATOR}{}", self.deterministic), self.tag_url(tag)]
    }

    /// Refuses what cannot be a tag: lower-case letters, digits and hyphens, a letter first, and short enough that
    /// the tagged host name is one.
    pub(super) fn check_tag(&self, field: &str, tag: &str) -> Result<(), Error> {
        if !vestibule_model::name::is_valid_name(tag) {
            let why = "A tag must use only lowercase letters, numbers and '-'. It must begin with a letter and \
                       cannot end with a '-'.";
            return Err(Error::invalid(field, tag, why));
        }
        let label = |host: &str| host.split('.').next().map_or(0, str::len) + TAG_SEPARATOR.len() + tag.len();
        if label(&self.hashed).max(label(&self.deterministic)) > MAX_LABEL {
            return Err(Error::invalid(field, tag, "The tag is too long for the service's name."));
        }
        Ok(())
    }
}

fn cut(service: &str, rest: usize) -> &str {
    let end = service.len().min(MAX_LABEL.saturating_sub(rest));
    service[..end].trim_end_matches('-')
}

/// Ten characters that stand for a project, in the alphabet that Google's have.
fn project_hash(project: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let hash = digest::digest(&digest::SHA256, format!("run.app {project}").as_bytes());
    hash.as_ref().iter().take(HASH_LEN).map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> Hosts {
        hosts(&Name::new("demo", "us-central1", name))
    }

    #[test]
    fn both_forms() {
        let hosts = service("svc");
        let (label, domain) = hosts.hashed.split_once('.').unwrap();
        assert_eq!(domain, "a.run.app");
        assert_eq!(label.len(), "svc-abcdefghij-uc".len());
        assert!(label.starts_with("svc-") && label.ends_with("-uc"));
        assert_eq!(hosts.deterministic, "svc-496268734596.us-central1.run.app");
        assert_eq!(hosts.tag_url("blue"), format!("https://blue---{}", hosts.hashed));
        assert_ne!(hosts.hashed, super::hosts(&Name::new("other", "us-central1", "svc")).hashed);
    }

    #[test]
    fn labels_stay_within_63() {
        let long = service(&"a".repeat(63));
        for host in [&long.hashed, &long.deterministic] {
            assert_eq!(host.split('.').next().unwrap().len(), 63, "{host}");
        }
        assert!(long.check_tag("tag", "x").is_err());
    }

    #[test]
    fn tags() {
        let hosts = service("svc");
        for good in ["blue", "b", "b-1"] {
            assert!(hosts.check_tag("tag", good).is_ok(), "{good}");
        }
        for bad in ["", "Blue", "1b", "b-", "b_c", &"b".repeat(50)] {
            assert!(hosts.check_tag("tag", bad).is_err(), "{bad}");
        }
    }
}
