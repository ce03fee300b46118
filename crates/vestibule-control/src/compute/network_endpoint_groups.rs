//! Regional network endpoint groups: serverless ones.
//!
//! A serverless group is a pointer: to a Cloud Run service, a function or an App Engine service of its region, by name
//! or by a mask over each request's URL. What it points to need not exist; requests then fail.

use std::borrow::Cow;

use serde_json::{Value, json};
use vestibule_model::ResourceName;
use vestibule_model::name::is_valid_name;
use vestibule_store::View;
use vestibule_urlmap::Mask;

use super::Call;
use super::kind::{Action, Fingerprint, Info, Kind, Methods, ScopeKind, Verb};
use crate::{Change, Document, Error, document};

/// `networkEndpointGroups` of regions
pub struct NetworkEndpointGroups;

static INFO: Info = Info {
    collection: "networkEndpointGroups",
    scopes: &[ScopeKind::Region],
    word: "network_endpoint_group",
    kind: "compute#networkEndpointGroup",
    list_kind: "compute#networkEndpointGroupList",
    aggregated_kind: Some("compute#networkEndpointGroupAggregatedList"),
    fingerprint: Fingerprint::None,
    labels: false,
    methods: Methods::NONE,
    actions: &[
        Action { verb: "attachNetworkEndpoints", operation_type: "attachNetworkEndpoints" },
        Action { verb: "detachNetworkEndpoints", operation_type: "detachNetworkEndpoints" },
    ],
    questions: &[LIST_ENDPOINTS],
    output_only: &["size"],
};

const LIST_ENDPOINTS: &str = "listNetworkEndpoints";

/// What a serverless group points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    CloudRun,
    CloudFunction,
    AppEngine,
}

impl Platform {
    const ALL: [Platform; 3] = [Platform::CloudRun, Platform::CloudFunction, Platform::AppEngine];

    /// The platform of a stored group.
    pub fn of(neg: &Document) -> Option<Platform> {
        Platform::ALL.into_iter().find(|platform| neg.contains_key(platform.member()))
    }

    /// The member that holds the platform's settings.
    pub fn member(self) -> &'static str {
        match self {
            Platform::CloudRun => "cloudRun",
            Platform::CloudFunction => "cloudFunction",
            Platform::AppEngine => "appEngine",
        }
    }

    /// The member of the settings that names the service.
    pub fn service_field(self) -> &'static str {
        match self {
            Platform::CloudFunction => "function",
            _ => "service",
        }
    }

    /// The member of the settings that names a tag or a version.
    pub fn tag_field(self) -> Option<&'static str> {
        match self {
            Platform::CloudRun => Some("tag"),
            Platform::CloudFunction => None,
            Platform::AppEngine => Some("version"),
        }
    }

    fn placeholders(self) -> &'static [&'static str] {
        match self {
            Platform::CloudRun => &["service", "tag"],
            Platform::CloudFunction => &["function"],
            Platform::AppEngine => &["service", "version"],
        }
    }
}

impl Kind for NetworkEndpointGroups {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(
        &self,
        _change: &mut Change<'_>,
        _name: &ResourceName,
        doc: &mut Document,
    ) -> Result<(), Error> {
        match document::text(doc, "networkEndpointType") {
            None => return Err(Error::required("resource.networkEndpointType")),
            Some("SERVERLESS") => {}
            Some(
                "PRIVATE_SERVICE_CONNECT" | "INTERNET_FQDN_PORT" | "INTERNET_IP_PORT" | "GCE_VM_IP_PORTMAP",
            ) => {
                return Err(Error::not_implemented(
                    "compute.regionNetworkEndpointGroups with this networkEndpointType",
                ));
            }
            Some(other) => {
                let why = "The network endpoint type is not allowed in regional scope.";
                return Err(Error::invalid("resource.networkEndpointType", other, why));
            }
        }
        for field in ["network", "subnetwork", "defaultPort", "pscTargetService", "pscData"] {
            if let Some(value) = doc.get(field) {
                let why = "The field cannot be set for Serverless network endpoint groups.";
                return Err(Error::invalid(format!("resource.{field}"), document::quoted(value), why));
            }
        }
        check_target(doc)
    }

    fn act(
        &self,
        _change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        _verb: &str,
        _body: &Document,
        _doc: Document,
    ) -> Result<Document, Error> {
        Err(Error::bad_request(format!(
            "'{name}' is a Serverless network endpoint group and has no endpoints."
        )))
    }

    fn ask(
        &self,
        _change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        _verb: &str,
        _body: &Document,
        doc: Option<&Document>,
    ) -> Result<Value, Error> {
        doc.ok_or_else(|| Error::not_found(name))?;
        Ok(json!({
            "kind": "compute#networkEndpointGroupsListNetworkEndpoints",
            "id": format!("{name}/{LIST_ENDPOINTS}"),
        }))
    }

    fn present(&self, _view: &View, _name: &ResourceName, doc: &mut Document) {
        doc.insert("size".into(), 0.into());
    }

    fn operation_type(&self, verb: Verb<'_>) -> Cow<'static, str> {
        match verb {
            Verb::Insert => "compute.regionNetworkEndpointGroups.insert".into(),
            Verb::Delete => "compute.regionNetworkEndpointGroups.delete".into(),
            other => INFO.operation_type(other),
        }
    }
}

/// Whether a stored group is serverless.
pub fn is_serverless(doc: &Document) -> bool {
    document::text(doc, "networkEndpointType") == Some("SERVERLESS")
}

/// Exactly one platform, with a name or a mask that finds one.
fn check_target(doc: &Document) -> Result<(), Error> {
    let mut platforms = Platform::ALL.into_iter().filter(|platform| doc.contains_key(platform.member()));
    let platform = platforms.next().ok_or_else(|| Error::required("resource.cloudRun"))?;
    if let Some(other) = platforms.next() {
        let why = "Exactly one of cloudRun, appEngine and cloudFunction must be set.";
        let value = doc.get(other.member()).map(document::quoted).unwrap_or_default();
        return Err(Error::invalid(format!("resource.{}", other.member()), value, why));
    }
    let path = format!("resource.{}", platform.member());
    let settings = doc.get(platform.member()).and_then(Value::as_object);
    let settings = settings.ok_or_else(|| Error::invalid(&path, "", "Must be an object."))?;
    let mask = mask_of(settings, &path, platform)?;
    check_names(settings, &path, platform)?;
    let named = document::text(settings, platform.service_field()).is_some();
    let found = mask.as_ref().is_some_and(Mask::finds_service);
    match platform {
        // Without a service, the application's own dispatch rules choose one.
        Platform::AppEngine => {
            let version = document::text(settings, "version").filter(|_| !named && !found);
            match version {
                Some(version) => {
                    let why = "A version can only be set together with a service.";
                    Err(Error::invalid(format!("{path}.version"), version, why))
                }
                None => Ok(()),
            }
        }
        _ if named || found => Ok(()),
        _ => Err(Error::required(format!("{path}.{}", platform.service_field()))),
    }
}

fn mask_of(settings: &Document, path: &str, platform: Platform) -> Result<Option<Mask>, Error> {
    let Some(text) = document::text(settings, "urlMask") else { return Ok(None) };
    let refuse = |why: String| Error::invalid(format!("{path}.urlMask"), text, why);
    let mask = Mask::parse(text).map_err(|error| refuse(error.to_string()))?;
    let foreign = mask.placeholders().find(|name| !platform.placeholders().contains(name));
    match foreign {
        Some(foreign) => Err(refuse(format!("URL mask contains the invalid placeholder <{foreign}>."))),
        None => Ok(Some(mask)),
    }
}

/// A field and what its values must be.
type NameRule = (&'static str, fn(&str) -> bool);

fn check_names(settings: &Document, path: &str, platform: Platform) -> Result<(), Error> {
    let rules: [Option<NameRule>; 2] = match platform {
        Platform::CloudRun => [Some(("service", is_valid_name)), Some(("tag", is_valid_name))],
        Platform::CloudFunction => [Some(("function", is_function)), None],
        Platform::AppEngine => [Some(("service", is_function)), Some(("version", is_version))],
    };
    for (field, valid) in rules.into_iter().flatten() {
        match document::text(settings, field) {
            Some(text) if !valid(text) => {
                return Err(Error::invalid(format!("{path}.{field}"), text, "The name is not valid."));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Names of functions and of App Engine's services keep their case.
fn is_function(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&text.len()) && text.bytes().all(plain)
}

fn is_version(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::testing::World;

    const NEGS: &str = "regions/us-central1/networkEndpointGroups";

    fn serverless(member: &str, settings: Value) -> Value {
        json!({"name": "neg", "networkEndpointType": "SERVERLESS", member: settings})
    }

    #[test]
    fn a_group_reads_back_as_googles() {
        let world = World::new();
        let mut body = serverless("cloudRun", json!({"service": "s"}));
        body["appEngine"] = Value::Null;
        body["region"] = "projects/demo/global/regions/us-central1".into();
        let operation = world.insert(NEGS, body);
        assert_eq!(operation["operationType"], "compute.regionNetworkEndpointGroups.insert");
        let path = format!("{NEGS}/neg");
        let mut doc = world.get(&path);
        for varying in ["id", "creationTimestamp"] {
            doc.as_object_mut().unwrap().remove(varying).unwrap();
        }
        let region = "https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1";
        assert_eq!(
            doc,
            json!({
                "cloudRun": {"service": "s"},
                "kind": "compute#networkEndpointGroup",
                "name": "neg",
                "networkEndpointType": "SERVERLESS",
                "region": region,
                "selfLink": format!("{region}/networkEndpointGroups/neg"),
                "size": 0,
            })
        );
        let operation = world.delete(&path);
        assert_eq!(operation["operationType"], "compute.regionNetworkEndpointGroups.delete");
    }

    #[test]
    fn every_platform_and_every_mask() {
        for (member, settings) in [
            ("cloudRun", json!({"service": "my-internal-service", "tag": "canary"})),
            ("cloudRun", json!({"urlMask": "<service>"})),
            ("cloudRun", json!({"service": "s", "urlMask": "<service>"})),
            ("cloudRun", json!({"urlMask": "<tag>.example.com/<service>"})),
            ("cloudFunction", json!({"function": "My_fn"})),
            ("cloudFunction", json!({"urlMask": "example.com/<function>"})),
            ("appEngine", json!({})),
            ("appEngine", json!({"service": "default", "version": "v1"})),
            ("appEngine", json!({"urlMask": "<service>-dot-app.appspot.com/<version>"})),
        ] {
            let world = World::strict();
            world.insert(NEGS, serverless(member, settings.clone()));
            assert_eq!(world.get(&format!("{NEGS}/neg"))[member], settings);
        }
    }

    #[test]
    fn what_is_refused() {
        let world = World::new();
        let with = |field: &str, value: Value| {
            let mut body = serverless("cloudRun", json!({"service": "s"}));
            body[field] = value;
            body
        };
        for (body, text) in [
            (json!({"name": "neg"}), "Required field 'resource.networkEndpointType' not specified"),
            (
                json!({"name": "neg", "networkEndpointType": "SERVERLESS"}),
                "Required field 'resource.cloudRun' not specified",
            ),
            (
                json!({"name": "neg", "networkEndpointType": "GCE_VM_IP_PORT"}),
                "Invalid value for field 'resource.networkEndpointType': 'GCE_VM_IP_PORT'.",
            ),
            (with("network", json!("global/networks/n")), "Invalid value for field 'resource.network'"),
            (with("defaultPort", json!(80)), "Invalid value for field 'resource.defaultPort': '80'."),
            (with("appEngine", json!({})), "Invalid value for field 'resource.appEngine'"),
            (serverless("cloudRun", json!({})), "Required field 'resource.cloudRun.service' not specified"),
            (
                serverless("cloudRun", json!({"tag": "t"})),
                "Required field 'resource.cloudRun.service' not specified",
            ),
            (
                serverless("cloudRun", json!({"urlMask": "/<tag>"})),
                "Required field 'resource.cloudRun.service' not specified",
            ),
            (
                serverless("cloudRun", json!({"service": "S"})),
                "Invalid value for field 'resource.cloudRun.service': 'S'.",
            ),
            (
                serverless("cloudRun", json!({"urlMask": "/<service"})),
                "Invalid value for field 'resource.cloudRun.urlMask': '/<service'. URL mask contains an invalid",
            ),
            (
                serverless("cloudRun", json!({"urlMask": "/<function>"})),
                "Invalid value for field 'resource.cloudRun.urlMask': '/<function>'.",
            ),
            (
                serverless("cloudFunction", json!({})),
                "Required field 'resource.cloudFunction.function' not specified",
            ),
            (
                serverless("appEngine", json!({"version": "v1"})),
                "Invalid value for field 'resource.appEngine.version': 'v1'.",
            ),
        ] {
            let error = world.try_insert(NEGS, body.clone()).unwrap_err().to_string();
            assert!(error.starts_with(text), "{body}: {error}");
        }
        let psc = json!({"name": "neg", "networkEndpointType": "PRIVATE_SERVICE_CONNECT"});
        assert!(matches!(world.try_insert(NEGS, psc), Err(Error::NotImplemented { .. })));
        let zonal = world.try_insert("zones/us-central1-a/networkEndpointGroups", json!({"name": "neg"}));
        assert!(matches!(zonal, Err(Error::NotImplemented { .. })));
    }

    #[test]
    fn it_has_no_endpoints() {
        let world = World::new();
        world.insert(NEGS, serverless("cloudRun", json!({"service": "s"})));
        let path = format!("{NEGS}/neg");
        assert!(world.try_act(&path, "attachNetworkEndpoints", json!({"networkEndpoints": []})).is_err());
        let listed = world.try_ask(&path, LIST_ENDPOINTS, json!({})).unwrap();
        assert!(listed.get("items").is_none());
        assert!(world.try_ask(&format!("{NEGS}/other"), LIST_ENDPOINTS, json!({})).is_err());
    }
}
