//! A backend service and its group as the proxy sees them.

use std::time::Duration;

use vestibule_model::{ResourceName, compute};
use vestibule_proxy::snapshot::{Backend, BackendService, LogConfig, Optional, Protocol, ServerlessNeg};
use vestibule_store::{KeyValue, View};
use vestibule_urlmap::{HeaderAction, Mask};

use crate::compute::backend_services;
use crate::compute::network_endpoint_groups::{Platform, is_serverless};
use crate::{Document, Error, document};

/// `timeoutSec` that nobody set.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The App Engine service that serves what no other is named for.
const DEFAULT_SERVICE: &str = "default";

/// The group behind a stored backend service.
pub fn group<'v>(view: &'v View, service: &KeyValue) -> Option<(ResourceName, &'v KeyValue)> {
    let groups = backend_services::groups(document::object(&service.value));
    groups.into_iter().find_map(|group| {
        let stored = view.get(&group.key())?;
        Some((group, stored))
    })
}

/// Compiles a stored backend service with a serverless group, or none.
pub fn serverless_backend(
    name: &ResourceName,
    service: &KeyValue,
    group: Option<(ResourceName, &KeyValue)>,
) -> Result<BackendService, Error> {
    let backend = match group {
        None => Backend::Empty,
        Some((name, stored)) => match serverless(&name, document::object(&stored.value))? {
            Some(neg) => Backend::Serverless(neg),
            None => return Err(Error::internal(format!("{name} is of a type that is not built"))),
        },
    };
    compile(name, service, backend)
}

/// Compiles a stored backend service.
pub fn compile(name: &ResourceName, service: &KeyValue, backend: Backend) -> Result<BackendService, Error> {
    let doc: compute::BackendService = document::typed(document::object(&service.value))?;
    let timeout = doc.timeout_sec.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let headers = HeaderAction::custom(&doc.custom_request_headers, &doc.custom_response_headers)
        .map_err(|error| Error::internal(format!("{name} has bad custom headers: {error}")))?;
    Ok(BackendService {
        name: name.name.as_str().into(),
        log: log_config(doc.log_config.as_ref()),
        timeout: timeout.unwrap_or(TIMEOUT),
        protocol: protocol(doc.protocol.as_deref()),
        headers: Some(headers).filter(|headers| !headers.is_empty()),
        backend,
    })
}

/// How endpoints are spoken to. What is stored was checked; a service that does not say speaks HTTP.
fn protocol(doc: Option<&str>) -> Protocol {
    match doc {
        Some("HTTPS") => Protocol::Https,
        Some("HTTP2") => Protocol::Http2,
        Some("H2C") => Protocol::H2c,
        _ => Protocol::Http1,
    }
}

fn log_config(doc: Option<&compute::BackendServiceLogConfig>) -> LogConfig {
    let Some(doc) = doc else {
        return LogConfig { enable: false, sample_rate: 0.0, optional: Optional::default() };
    };
    let enable = doc.enable.unwrap_or(false);
    let is_wanted = |group: &str| match doc.optional_mode.as_deref() {
        Some("INCLUDE_ALL_OPTIONAL") => true,
        Some("CUSTOM") => doc.optional_fields.iter().any(|field| field.split('.').next() == Some(group)),
        _ => false,
    };
    let optional = Optional { tls: is_wanted("tls"), mtls: is_wanted("mtls") };
    LogConfig { enable, sample_rate: doc.sample_rate.unwrap_or(1.0), optional }
}

/// A serverless group; `None` for any other.
///
/// A function of the second generation is a service of Cloud Run, and so is what stands in for App Engine's services
/// here: by its name, with the version as the tag.
pub fn serverless(name: &ResourceName, neg: &Document) -> Result<Option<ServerlessNeg>, Error> {
    let Some(platform) = Platform::of(neg).filter(|_| is_serverless(neg)) else { return Ok(None) };
    let settings = neg.get(platform.member()).map(document::object);
    let text = |field: &str| settings.and_then(|settings| document::text(settings, field));
    let mask = text("urlMask").map(Mask::parse).transpose();
    let mask = mask.map_err(|error| Error::internal(format!("{name} has a bad URL mask: {error}")))?;
    let service = match (platform, text(platform.service_field())) {
        (Platform::AppEngine, None) => Some(DEFAULT_SERVICE.to_owned()),
        // How Google names the Cloud Run service of a function.
        (Platform::CloudFunction, Some(function)) => Some(function.to_ascii_lowercase().replace('_', "-")),
        (_, service) => service.map(str::to_owned),
    };
    Ok(Some(ServerlessNeg {
        name: name.name.as_str().into(),
        project: name.project.as_str().into(),
        region: name.scope.region_name().unwrap_or_default().into(),
        service: service.map(Into::into),
        tag: platform.tag_field().and_then(text).map(Into::into),
        mask,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use vestibule_model::Scope;

    fn neg(settings: Value) -> ServerlessNeg {
        let name = ResourceName::new("demo", Scope::region("us-central1"), "networkEndpointGroups", "neg");
        let mut doc = document::object(&settings).clone();
        doc.insert("networkEndpointType".into(), "SERVERLESS".into());
        serverless(&name, &doc).unwrap().unwrap()
    }

    #[test]
    fn every_platform_ends_at_a_service() {
        for (settings, service, tag) in [
            (json!({"cloudRun": {"service": "s", "tag": "t"}}), Some("s"), Some("t")),
            (json!({"cloudRun": {"urlMask": "/<service>"}}), None, None),
            (json!({"cloudFunction": {"function": "My_Func"}}), Some("my-func"), None),
            (json!({"appEngine": {}}), Some("default"), None),
            (json!({"appEngine": {"service": "web", "version": "v1"}}), Some("web"), Some("v1")),
        ] {
            let neg = neg(settings.clone());
            assert_eq!((neg.service.as_deref(), neg.tag.as_deref()), (service, tag), "{settings}");
            assert_eq!(neg.mask.is_some(), settings.to_string().contains("urlMask"));
        }
    }

    #[test]
    fn log_settings() {
        let config = |json: Value| log_config(Some(&serde_json::from_value(json).unwrap()));
        let wanted = |enable, sample_rate, all| LogConfig {
            enable,
            sample_rate,
            optional: Optional { tls: all, mtls: all },
        };
        assert_eq!(log_config(None), wanted(false, 0.0, false));
        assert_eq!(config(json!({"enable": true})), wanted(true, 1.0, false));
        assert_eq!(config(json!({"enable": true, "sampleRate": 0.25})), wanted(true, 0.25, false));
        assert_eq!(
            config(json!({"enable": true, "optionalMode": "INCLUDE_ALL_OPTIONAL"})),
            wanted(true, 1.0, true)
        );
        let custom = json!({"enable": true, "optionalMode": "CUSTOM", "optionalFields": ["tls.cipher"]});
        assert_eq!(config(custom).optional, Optional { tls: true, mtls: false });
    }
}
