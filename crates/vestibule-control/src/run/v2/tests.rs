use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::testing::{NUMBER, PROJECT, REGION, World, caller, members, place, service};
use super::super::{Caller, json as reach, name, template, url, validate};
use super::*;

const RUN: &str = "type.googleapis.com/google.cloud.run.v2.Service";

impl World {
    fn create_v2(&self, service: &str, body: Value) -> Result<Value, Error> {
        self.control.run().create_v2(caller(), place(), service, members(body))
    }

    fn patch_v2(&self, service: &str, body: Value, patch: Patch<'_>) -> Result<Value, Error> {
        self.control.run().patch_v2(caller(), place(), service, members(body), patch)
    }

    fn get_v2(&self, service: &str) -> Value {
        self.control.run().get_v2(place(), service).unwrap()
    }
}

fn minimal() -> Value {
    json!({"template": {"containers": [{"image": "gcr.io/cloudrun/hello"}]}, "labels": {"team": "a"}})
}

fn done(operation: &Value) -> &Value {
    assert_eq!(operation["done"], true, "{operation}");
    &operation["response"]
}

#[test]
fn a_minimal_service_reads_back_with_its_defaults() {
    let world = World::new();
    let operation = world.create_v2("svc", minimal()).unwrap();
    let id = operation["name"]
        .as_str()
        .unwrap()
        .strip_prefix("projects/demo/locations/us-central1/operations/")
        .unwrap();
    assert_eq!(operation["metadata"]["@type"], RUN);
    let waited = world.control.run().wait_v2(place(), id, std::time::Duration::from_secs(20)).unwrap();
    let response = done(&waited);
    assert_eq!(response["@type"], RUN);

    let mut service = world.get_v2("svc");
    assert_eq!(service["name"], "projects/demo/locations/us-central1/services/svc");
    assert_eq!((&service["generation"], &service["observedGeneration"]), (&json!("1"), &json!("1")));
    assert_eq!(service["labels"], json!({"team": "a"}), "the server adds no label of its own");
    assert_eq!(service.get("annotations"), None);
    assert_eq!((&service["ingress"], &service["launchStage"]), (&json!("INGRESS_TRAFFIC_ALL"), &json!("GA")));
    assert_eq!(
        service["template"].take(),
        json!({
            "timeout": "300s",
            "maxInstanceRequestConcurrency": 80,
            "serviceAccount": format!("{NUMBER}-compute@developer.gserviceaccount.com"),
            "scaling": {"maxInstanceCount": 100},
            "containers": [{
                "image": "gcr.io/cloudrun/hello",
                "ports": [{"name": "http1", "containerPort": 8080}],
                "resources": {"limits": {"cpu": "1000m", "memory": "512Mi"}, "cpuIdle": true, "startupCpuBoost": true},
                "startupProbe": {"timeoutSeconds": 240, "periodSeconds": 240, "failureThreshold": 1, "tcpSocket": {"port": 8080}},
            }],
        })
    );
    let latest = json!([{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}]);
    assert_eq!((&service["traffic"], &service["trafficStatuses"]), (&latest, &latest));
    assert_eq!(service["terminalCondition"]["type"], "Ready");
    assert_eq!(service["terminalCondition"]["state"], "CONDITION_SUCCEEDED");
    assert_eq!(service.get("reconciling"), None);
    assert_eq!(service["urls"][0], format!("https://svc-{NUMBER}.us-central1.run.app"));
    assert_eq!(service["urls"][1], service["uri"]);
    assert_eq!(service["latestReadyRevision"], service["latestCreatedRevision"]);
    let revision = service["latestReadyRevision"].as_str().unwrap();
    assert!(
        revision.starts_with("projects/demo/locations/us-central1/services/svc/revisions/svc-00001-"),
        "{revision}"
    );
}

#[test]
fn an_empty_answer_of_terraform_s_second_plan_changes_nothing() {
    let world = World::new();
    world.create_v2("svc", minimal()).unwrap();
    world.decided("svc");
    let before = world.get_v2("svc");
    // Terraform sends all that it read, without a mask.
    let mut sent = before.clone();
    for output in ["etag", "uri", "urls", "conditions", "terminalCondition", "trafficStatuses", "uid"] {
        sent.as_object_mut().unwrap().remove(output);
    }
    let operation = world.patch_v2("svc", sent, Patch::default()).unwrap();
    assert_eq!(done(&operation)["generation"], "1");
    assert_eq!(world.get_v2("svc"), before);
}

#[test]
fn resources_that_are_spoken_of_default_to_false() {
    let world = World::new();
    let body =
        json!({"template": {"containers": [{"image": "x", "resources": {"limits": {"memory": "1Gi"}}}]}});
    world.create_v2("svc", body).unwrap();
    let resources = &world.get_v2("svc")["template"]["containers"][0]["resources"];
    assert_eq!(*resources, json!({"limits": {"memory": "1Gi"}}));
}

#[test]
fn both_apis_see_one_service() {
    let world = World::new();
    let mut body = service("svc", "one");
    body["metadata"]["annotations"] = json!({
        "run.googleapis.com/ingress": "internal", "run.googleapis.com/description": "d", "example.com/own": "1",
    });
    body["spec"]["template"]["metadata"]["annotations"] = json!({
        "autoscaling.knative.dev/maxScale": "7", "run.googleapis.com/startup-cpu-boost": "True",
        "run.googleapis.com/startupProbeType": "gvisor",
    });
    world.create(body);
    world.decided("svc");
    let v2 = world.get_v2("svc");
    assert_eq!((&v2["ingress"], &v2["description"]), (&json!("INGRESS_TRAFFIC_INTERNAL_ONLY"), &json!("d")));
    assert_eq!(v2["annotations"], json!({"example.com/own": "1"}));
    assert_eq!(v2["template"]["scaling"]["maxInstanceCount"], 7);
    assert_eq!(v2["template"]["containers"][0]["resources"]["startupCpuBoost"], true);
    assert_eq!(v2["template"]["labels"], json!({"client.knative.dev/nonce": "abcdefghij"}));

    // An update of one field through v2 leaves what only v1 can say, and makes no revision.
    let patch = Patch { mask: Some("description"), ..Patch::default() };
    world.patch_v2("svc", json!({"description": "new"}), patch).unwrap();
    let v1 = world.get("svc");
    assert_eq!(v1["metadata"]["annotations"]["run.googleapis.com/description"], "new");
    let annotations = &v1["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["run.googleapis.com/startupProbeType"], "gvisor");
    assert_eq!(annotations["run.googleapis.com/startup-cpu-boost"], "True");
    assert_eq!(world.revisions("").len(), 1);

    world
        .patch_v2("svc", json!({"traffic": []}), Patch { mask: Some("traffic"), ..Patch::default() })
        .unwrap();
    assert_eq!(world.revisions("").len(), 1);
    let force = Patch { mask: Some("description"), force_new_revision: true, ..Patch::default() };
    world.patch_v2("svc", json!({"description": "new"}), force).unwrap();
    assert_eq!(world.revisions("").len(), 2);
}

#[test]
fn patching() {
    let world = World::new();
    assert!(matches!(world.patch_v2("svc", minimal(), Patch::default()), Err(Error::NotFound { .. })));
    world.patch_v2("svc", minimal(), Patch { allow_missing: true, ..Patch::default() }).unwrap();
    world.decided("svc");
    let etag = world.get_v2("svc")["etag"].clone();
    let with_etag = |etag: &Value| {
        let mut body = minimal();
        body["etag"] = etag.clone();
        body["description"] = "d".into();
        world.patch_v2("svc", body, Patch::default())
    };
    assert!(matches!(with_etag(&json!("\"other\"")), Err(Error::Aborted { .. })));
    assert!(with_etag(&etag).is_ok());
    assert!(matches!(with_etag(&etag), Err(Error::Aborted { .. })));

    let dry = Caller { dry_run: true, ..caller() };
    let mut body = minimal();
    body["description"] = "dry".into();
    let operation =
        world.control.run().patch_v2(dry, place(), "svc", members(body), Patch::default()).unwrap();
    assert_eq!(done(&operation)["description"], "dry");
    assert_eq!(world.get_v2("svc")["description"], "d");
}

#[test]
fn refusals_name_v2_s_fields() {
    let world = World::new();
    let field = |mut body: Value, path: &str, value: Value| {
        *body.pointer_mut(path).unwrap() = value;
        match world.create_v2("svc", body) {
            Err(Error::Invalid { field, .. } | Error::Required { field }) => field,
            Err(Error::NotBuilt { what }) => format!("not built: {what}"),
            other => panic!("{other:?}"),
        }
    };
    let body = || {
        json!({"labels": {}, "annotations": {}, "traffic": [], "scaling": {}, "template": {
            "revision": "", "labels": {}, "timeout": "1s", "maxInstanceRequestConcurrency": 1, "volumes": [],
            "containers": [{"image": "x", "env": [], "ports": []}]}})
    };
    assert_eq!(field(body(), "/template/containers/0/image", "".into()), "template.containers[0].image");
    assert_eq!(field(body(), "/template/containers", json!([])), "template.containers");
    assert_eq!(field(body(), "/template/timeout", "9999s".into()), "template.timeout");
    assert_eq!(field(body(), "/template/timeout", "1.5s".into()), "template.timeout");
    assert_eq!(
        field(body(), "/template/maxInstanceRequestConcurrency", 2000.into()),
        "template.maxInstanceRequestConcurrency"
    );
    assert_eq!(field(body(), "/template/revision", "other-1".into()), "template.revision");
    assert_eq!(
        field(body(), "/traffic", json!([{"percent": 10, "type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"}])),
        "traffic"
    );
    let reserved = json!({"run.googleapis.com/x": "1"});
    assert_eq!(field(body(), "/annotations", reserved.clone()), "annotations[run.googleapis.com/x]");
    assert_eq!(field(body(), "/template/labels", reserved), "template.labels[run.googleapis.com/x]");
    let secret = json!([{"name": "A", "valueSource": {"secretKeyRef": {"version": "1"}}}]);
    assert!(
        field(body(), "/template/containers/0/env", secret).starts_with("template.containers[0].env[0].")
    );
    let volume = |source: Value| field(body(), "/template/volumes", json!([{"name": "v", "gcs": source}]));
    assert!(volume(json!({"bucket": "b"})).starts_with("not built: "));
    let secret = json!([{"name": "v", "secret": {"secret": ""}}]);
    assert_eq!(field(body(), "/template/volumes", secret), "template.volumes[0].secret.secretName");
    match world.create_v2("Svc", body()) {
        Err(Error::Invalid { field, .. }) => assert_eq!(field, "service_id"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failed_change_fails_its_operation() {
    let world = World::new();
    let body = json!({"template": {"containers": [{"image": "missing"}]}});
    let operation = world.create_v2("svc", body).unwrap();
    let id = operation["name"].as_str().unwrap().rsplit('/').next().unwrap();
    let operation = world.control.run().wait_v2(place(), id, std::time::Duration::from_secs(20)).unwrap();
    assert_eq!((&operation["done"], operation.get("response")), (&json!(true), None));
    assert_eq!(operation["error"]["code"], 9);
    assert!(operation["error"]["message"].as_str().unwrap().ends_with("Image 'missing' not found."));
    let service = world.get_v2("svc");
    assert_eq!(service["terminalCondition"]["state"], "CONDITION_FAILED");
    assert_eq!(service["terminalCondition"]["reason"], "REVISION_FAILED");
    let revisions = world.control.run().revisions_v2(place(), "svc").unwrap();
    assert_eq!(revisions[0]["conditions"][0]["reason"], "CONTAINER_MISSING");
}

#[test]
fn deleting() {
    let world = World::new();
    world.create_v2("svc", minimal()).unwrap();
    world.decided("svc");
    let run = world.control.run();
    assert!(matches!(run.delete_v2(caller(), place(), "svc", Some("\"x\"")), Err(Error::Aborted { .. })));
    let operation = run.delete_v2(caller(), place(), "svc", None).unwrap();
    assert_eq!(done(&operation)["name"], "projects/demo/locations/us-central1/services/svc");
    assert!(done(&operation)["deleteTime"].is_string());
    assert!(matches!(run.get_v2(place(), "svc"), Err(Error::NotFound { .. })));
    assert_eq!(run.list_v2(place()), [] as [Value; 0]);
    let id = operation["name"].as_str().unwrap().rsplit('/').next().unwrap();
    assert_eq!(run.operation_v2(place(), id).unwrap(), operation);
    assert!(matches!(run.operation_v2(place(), "nope"), Err(Error::NotFound { .. })));
}

#[test]
fn revisions() {
    let world = World::new();
    let mut body = minimal();
    body["template"]["revision"] = "svc-first".into();
    world.create_v2("svc", body).unwrap();
    world.decided("svc");
    let run = world.control.run();
    let revision = run.revision_v2(place(), "svc", "svc-first").unwrap();
    assert_eq!(revision["name"], "projects/demo/locations/us-central1/services/svc/revisions/svc-first");
    assert_eq!(revision["service"], "svc");
    assert_eq!(revision["containers"][0]["name"], "hello-1");
    assert_eq!(revision["containerStatuses"][0]["imageDigest"], "gcr.io/cloudrun/hello@sha256:00");
    let states: Vec<&Value> = reach::items(&revision, &["conditions"]).iter().map(|c| &c["state"]).collect();
    assert_eq!(states, ["CONDITION_SUCCEEDED"; 4]);
    assert!(matches!(run.revision_v2(place(), "other", "svc-first"), Err(Error::NotFound { .. })));
    assert_eq!(run.revisions_v2(place(), "-").unwrap(), [revision]);
    assert!(matches!(
        run.delete_revision_v2(caller(), place(), "svc", "svc-first", None),
        Err(Error::FailedPrecondition { .. })
    ));
    let mut second = minimal();
    second["template"]["revision"] = "svc-second".into();
    world.patch_v2("svc", second, Patch::default()).unwrap();
    world.decided("svc");
    let operation = run.delete_revision_v2(caller(), place(), "svc", "svc-first", None).unwrap();
    assert_eq!(done(&operation)["@type"], "type.googleapis.com/google.cloud.run.v2.Revision");
    assert_eq!(run.revisions_v2(place(), "svc").unwrap().len(), 1);
}

/// Fills in and shows a service without storing it.
fn through_v1(body: &Value, old: Option<&Value>) -> Value {
    let mut wanted = into_v1::wanted(members(body.clone()), old).unwrap();
    template::complete(reach::object_mut(&mut wanted.spec, "template"), PROJECT);
    json!({
        "metadata": {"annotations": wanted.annotations, "labels": wanted.labels},
        "spec": wanted.spec,
        "status": {},
    })
}

fn shown(v1: &Value) -> Value {
    let mut shown = view::service(&name::Name::new(PROJECT, REGION, "svc"), v1);
    let written = shown.as_object_mut().unwrap();
    written.retain(|field, _| !matches!(field.as_str(), "name" | "etag" | "reconciling"));
    shown
}

/// Why a service in the form of v1 is refused, if it is.
fn refused(v1: &Value) -> Option<crate::Error> {
    let hosts = url::hosts(&name::Name::new(PROJECT, REGION, "svc"));
    let metadata = |member: &str| members(v1["metadata"][member].clone());
    validate::service(&metadata("labels"), &metadata("annotations"), &v1["spec"], &hosts).err()
}

fn text() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,8}"
}

fn maybe(strategy: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Null), strategy]
}

fn labels() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(text(), text(), 1..3).prop_map(|map| json!(map))
}

fn object(members: Vec<(&'static str, Value)>) -> Value {
    let said = members.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(said.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

fn container() -> impl Strategy<Value = Value> {
    let env = prop::collection::btree_map("[A-Z]{1,5}", text(), 1..3).prop_map(|map| {
        map.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Value>()
    });
    let resources = (any::<bool>(), any::<bool>(), prop::sample::select(vec!["1", "2000m"])).prop_map(
        |(idle, boost, cpu)| {
            object(vec![
                ("limits", json!({"cpu": cpu, "memory": "1Gi"})),
                ("cpuIdle", if idle { json!(true) } else { Value::Null }),
                ("startupCpuBoost", if boost { json!(true) } else { Value::Null }),
            ])
        },
    );
    let probe = (1..10u32, 1..10u32).prop_map(|(period, threshold)| {
        json!({"httpGet": {"path": "/up", "port": 80}, "periodSeconds": 10 * period, "timeoutSeconds": 1, "failureThreshold": threshold})
    });
    let port = (1..65535u32).prop_map(|port| json!([{"name": "h2c", "containerPort": port}]));
    (text(), maybe(text().prop_map(Value::from)), maybe(env), maybe(resources), maybe(probe), maybe(port))
        .prop_map(|(image, name, env, resources, probe, ports)| {
            object(vec![
                ("image", format!("registry/{image}:1").into()),
                ("name", name),
                ("env", env),
                ("resources", resources),
                ("startupProbe", probe),
                ("ports", ports),
                ("command", json!(["run"])),
            ])
        })
}

fn a_template() -> impl Strategy<Value = Value> {
    let scaling = (0..5u32, 5..9u32).prop_map(|(min, max)| {
        object(vec![
            ("minInstanceCount", if min == 0 { Value::Null } else { min.into() }),
            ("maxInstanceCount", max.into()),
            ("cpuUtilization", 0.5.into()),
        ])
    });
    let vpc = text().prop_map(|network| {
        json!({"networkInterfaces": [{"network": network, "tags": ["a"]}], "egress": "ALL_TRAFFIC"})
    });
    let environment = prop::sample::select(vec!["EXECUTION_ENVIRONMENT_GEN1", "EXECUTION_ENVIRONMENT_GEN2"]);
    (
        container(),
        maybe(labels()),
        maybe(labels()),
        maybe(scaling),
        maybe(vpc),
        maybe(environment.prop_map(Value::from)),
        maybe((1..3600u32).prop_map(|seconds| format!("{seconds}s").into())),
        any::<bool>(),
    )
        .prop_map(|(container, labels, annotations, scaling, vpc, environment, timeout, affinity)| {
            object(vec![
                ("containers", json!([container])),
                ("labels", labels),
                ("annotations", annotations),
                ("scaling", scaling),
                ("vpcAccess", vpc),
                ("executionEnvironment", environment),
                ("timeout", timeout),
                ("sessionAffinity", if affinity { json!(true) } else { Value::Null }),
                ("revision", "svc-x".into()),
            ])
        })
}

fn a_service() -> impl Strategy<Value = Value> {
    let ingress = prop::sample::select(vec![
        "INGRESS_TRAFFIC_ALL",
        "INGRESS_TRAFFIC_INTERNAL_ONLY",
        "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
        "INGRESS_TRAFFIC_NONE",
    ]);
    let traffic = (1..99u32).prop_map(|percent| {
        json!([
            {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": percent},
            {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": "svc-a", "percent": 100 - percent, "tag": "t"},
        ])
    });
    let scaling = (1..5u32).prop_map(|min| json!({"minInstanceCount": min, "scalingMode": "AUTOMATIC"}));
    (
        a_template(),
        maybe(labels()),
        maybe(labels()),
        ingress,
        maybe(traffic),
        maybe(scaling),
        maybe(text().prop_map(Value::from)),
        any::<bool>(),
    )
        .prop_map(|(template, labels, annotations, ingress, traffic, scaling, description, flag)| {
            let flag = if flag { json!(true) } else { Value::Null };
            object(vec![
                ("template", template),
                ("labels", labels),
                ("annotations", annotations),
                ("ingress", ingress.into()),
                ("traffic", traffic),
                ("scaling", scaling),
                ("description", description),
                ("customAudiences", json!(["a", "b"])),
                ("defaultUriDisabled", flag.clone()),
                ("invokerIamDisabled", flag),
                ("binaryAuthorization", json!({"useDefault": true})),
                ("launchStage", "BETA".into()),
            ])
        })
}

/// Whether everything that `small` says, `large` says too.
fn within(small: &Value, large: &Value) -> bool {
    match (small, large) {
        (Value::Object(small), Value::Object(large)) => {
            small.iter().all(|(name, value)| large.get(name).is_some_and(|large| within(value, large)))
        }
        (Value::Array(small), Value::Array(large)) => {
            small.len() == large.len() && small.iter().zip(large).all(|(small, large)| within(small, large))
        }
        (small, large) => small == large,
    }
}

proptest! {
    /// What a v2 client says comes back, and what comes back can be said again without changing anything.
    #[test]
    fn there_and_back(body in a_service()) {
        let stored = through_v1(&body, None);
        let read = shown(&stored);
        prop_assert!(within(&body, &read), "{body}\n{read}");
        let again = through_v1(&read, Some(&stored));
        prop_assert!(template::same(&stored["spec"]["template"], &again["spec"]["template"]), "{stored}\n{again}");
        prop_assert_eq!(&stored["metadata"], &again["metadata"]);
        prop_assert_eq!(shown(&again), read);
        prop_assert_eq!(refused(&stored), refused(&again), "what is accepted once is accepted again");
    }
}

fn v1_annotations(known: &'static [(&'static str, &'static [&'static str])]) -> impl Strategy<Value = Value> {
    let some = prop::sample::subsequence(known, 0..known.len());
    (some, any::<prop::sample::Index>(), maybe(labels())).prop_map(|(some, at, own)| {
        let mut all = own.as_object().cloned().unwrap_or_default();
        all.extend(
            some.into_iter()
                .map(|(name, values)| (name.to_owned(), Value::from(values[at.index(values.len())]))),
        );
        Value::Object(all)
    })
}

/// Annotations of services, with values that mean something.
const ON_SERVICES: &[(&str, &[&str])] = &[
    ("run.googleapis.com/ingress", &["all", "internal", "internal-and-cloud-load-balancing", "none"]),
    ("run.googleapis.com/description", &["d", "another one"]),
    ("run.googleapis.com/launch-stage", &["ALPHA", "BETA"]),
    ("run.googleapis.com/custom-audiences", &[r#"["a"]"#, r#"["a","b"]"#]),
    ("run.googleapis.com/default-url-disabled", &["true", "True"]),
    ("run.googleapis.com/invoker-iam-disabled", &["true"]),
    ("run.googleapis.com/minScale", &["1", "2"]),
    ("run.googleapis.com/maxScale", &["3", "40"]),
    ("run.googleapis.com/client-name", &["gcloud"]),
    ("run.googleapis.com/build-id", &["7"]),
];

/// Annotations of templates, with values that mean something.
const ON_TEMPLATES: &[(&str, &[&str])] = &[
    ("autoscaling.knative.dev/minScale", &["0", "2"]),
    ("autoscaling.knative.dev/maxScale", &["3", "100"]),
    ("run.googleapis.com/sessionAffinity", &["true", "True"]),
    ("run.googleapis.com/cpu-throttling", &["true", "False"]),
    ("run.googleapis.com/startup-cpu-boost", &["true"]),
    ("run.googleapis.com/execution-environment", &["gen1", "gen2"]),
    ("run.googleapis.com/health-check-disabled", &["true"]),
    ("run.googleapis.com/scaling-cpu-target", &["0.5", "0.9"]),
    ("run.googleapis.com/network-interfaces", &[r#"[{"network":"n","tags":["t"]}]"#]),
    ("run.googleapis.com/startupProbeType", &["Default"]),
    ("run.googleapis.com/secrets", &["top:projects/other/secrets/real"]),
];

/// The template's specification as a v1 client writes it: two containers, secrets and volumes.
fn v1_spec() -> impl Strategy<Value = Value> {
    let secret = prop::sample::select(vec!["top", "plain"]);
    (text(), secret, 1..1000u32, 1..3600u32, any::<bool>()).prop_map(|(image, secret, concurrency, timeout, two)| {
        let mut containers = vec![json!({
            "name": "app", "image": format!("registry/{image}:1"), "args": ["a"], "workingDir": "/srv",
            "ports": [{"name": "http1", "containerPort": 8080}],
            "resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}},
            "env": [{"name": "A", "value": "b"}, {"name": "S", "valueFrom": {"secretKeyRef": {"name": secret, "key": "3"}}}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "m", "mountPath": "/m"}],
            "livenessProbe": {"grpc": {"port": 8080, "service": "s"}, "periodSeconds": 20},
        })];
        if two {
            containers.push(json!({"name": "aside", "image": "registry/b:2"}));
        }
        json!({
            "containers": containers, "containerConcurrency": concurrency, "timeoutSeconds": timeout,
            "serviceAccountName": "a@demo.iam.gserviceaccount.com",
            "volumes": [
                {"name": "v", "secret": {"secretName": secret, "items": [{"key": "latest", "path": "f", "mode": 256}]}},
                {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            ],
        })
    })
}

proptest! {
    /// What a v1 client said is still there, word by word, when a v2 client has sent back what it read.
    #[test]
    fn a_v2_client_that_changes_nothing_loses_nothing(
        on_service in v1_annotations(ON_SERVICES),
        on_template in v1_annotations(ON_TEMPLATES),
        labels in labels(),
        spec in v1_spec(),
    ) {
        let template = json!({"metadata": {"annotations": on_template, "labels": labels}, "spec": spec});
        let mut whole = members(template);
        template::complete(&mut whole, PROJECT);
        let stored = json!({
            "metadata": {"annotations": on_service, "labels": labels},
            "spec": {"template": whole, "traffic": [{"latestRevision": true, "percent": 100}]},
            "status": {},
        });
        let again = through_v1(&shown(&stored), Some(&stored));
        let mut expected = stored.clone();
        // The one thing that v2 cannot leave unsaid is the ingress.
        let ingress = &mut expected["metadata"]["annotations"]["run.googleapis.com/ingress"];
        if ingress.is_null() {
            *ingress = "all".into();
        }
        prop_assert!(reach::same(&expected["metadata"], &again["metadata"]), "{expected}\n{again}");
        prop_assert_eq!(&stored["spec"]["traffic"], &again["spec"]["traffic"]);
        let (before, after) = (&stored["spec"]["template"], &again["spec"]["template"]);
        prop_assert!(reach::same(&before["metadata"], &after["metadata"]), "{before}\n{after}");
        prop_assert!(template::same(before, after), "{before}\n{after}");
    }
}
