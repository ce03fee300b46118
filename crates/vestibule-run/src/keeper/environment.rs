//! The environment of an instance.

use crate::desired::{Container, Revision, Service};

/// Variables of a container but `PORT` and secrets, later ones winning: what the user set, then what Cloud Run's
/// container contract sets, then where the metadata server is, in the names that Google's client libraries look for.
pub(super) fn environment(
    service: &Service,
    revision: &Revision,
    container: &Container,
    metadata: Option<&str>,
) -> Vec<(String, String)> {
    let mut variables = container.env.clone();
    let mut set = |name: &str, value: &str| variables.push((name.to_owned(), value.to_owned()));
    set("K_SERVICE", &service.key.name);
    set("K_REVISION", &revision.name);
    set("K_CONFIGURATION", &service.key.name);
    set("CLOUD_RUN_TIMEOUT_SECONDS", &revision.timeout.as_secs().to_string());
    metadata_variables(metadata, set);
    variables
}

/// Where the metadata server is, in the names that Google's client libraries look for.
pub(crate) fn metadata_variables(metadata: Option<&str>, mut set: impl FnMut(&str, &str)) {
    if let Some(address) = metadata {
        for name in ["GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"] {
            set(name, address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::collections::BTreeMap;

    #[test]
    fn the_contract_wins_over_the_user() {
        let service = testing::service("svc");
        let env = vec![("A".to_owned(), "1".to_owned()), ("K_SERVICE".to_owned(), "other".to_owned())];
        let container = Container { env, ..Container::new("app", "i") };
        let revision = testing::revision("svc-1");
        let map = |metadata| BTreeMap::from_iter(environment(&service, &revision, &container, metadata));
        let expected = [
            ("A", "1"),
            ("CLOUD_RUN_TIMEOUT_SECONDS", "300"),
            ("K_CONFIGURATION", "svc"),
            ("K_REVISION", "svc-1"),
            ("K_SERVICE", "svc"),
        ];
        assert_eq!(map(None), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let with = map(Some("127.0.0.1:99"));
        assert_eq!(with["GCE_METADATA_HOST"], "127.0.0.1:99");
        assert_eq!(with["GCE_METADATA_ROOT"], "127.0.0.1:99");
    }
}
