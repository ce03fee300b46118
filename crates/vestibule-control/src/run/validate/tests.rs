use serde_json::{Map, json};

use super::*;
use crate::run::{name::Name, template, url};

/// The field that is refused once `patch` has been merged into a good service; `None` if it is accepted.
fn refused(annotations: Value, patch: Value) -> Option<String> {
    refused_with(json!({}), annotations, patch)
}

fn refused_with(labels: Value, annotations: Value, patch: Value) -> Option<String> {
    let mut spec = json!({
        "template": {"spec": {"containers": [{"image": "gcr.io/cloudrun/hello"}]}},
        "traffic": [{"latestRevision": true, "percent": 100}],
    });
    if let (Value::Object(spec), Value::Object(patch)) = (&mut spec, patch) {
        crate::document::merge(spec, patch);
    }
    if let Some(Value::Object(template)) = spec.get_mut("template") {
        template::complete(template, "demo");
    }
    let hosts = url::hosts(&Name::new("demo", "us-central1", "svc"));
    let annotations = annotations.as_object().cloned().unwrap_or_else(Map::new);
    match service(crate::document::object(&labels), &annotations, &spec, &hosts) {
        Ok(()) => None,
        Err(Error::Invalid { field, .. } | Error::Required { field }) => Some(field),
        Err(Error::NotBuilt { what }) => Some(format!("not built: {what}")),
        Err(other) => panic!("{other:?}"),
    }
}

fn container(container: Value) -> Option<String> {
    refused(json!({}), json!({"template": {"spec": {"containers": [container]}}}))
        .map(|field| field.replace("spec.template.spec.containers[0].", ""))
}

fn traffic(traffic: Value) -> Option<String> {
    refused(json!({}), json!({"traffic": traffic}))
}

#[test]
fn annotations() {
    let annotation = |name: &str, value: &str| refused(json!({ name: value }), json!({})).is_some();
    for ingress in ["all", "internal", "internal-and-cloud-load-balancing", "none"] {
        assert!(!annotation("run.googleapis.com/ingress", ingress), "{ingress}");
    }
    assert!(annotation("run.googleapis.com/ingress", "internal-and-gclb"));
    assert!(!annotation("run.googleapis.com/custom-audiences", r#"["a"]"#));
    assert!(annotation("run.googleapis.com/custom-audiences", "a"));
    assert!(annotation("run.googleapis.com/description", &"d".repeat(513)));
    assert!(!annotation("run.googleapis.com/description", &"é".repeat(512)));
    assert!(annotation("run.googleapis.com/minScale", "-1"));
    assert!(annotation("run.googleapis.com/iap-enabled", "true"));
    assert!(!annotation("example.com/anything", "x"));
    let both = json!({"run.googleapis.com/minScale": "3", "run.googleapis.com/maxScale": "2"});
    assert!(refused(both, json!({})).is_some());
    let template = |min: &str, max: &str| {
        let annotations =
            json!({"autoscaling.knative.dev/minScale": min, "autoscaling.knative.dev/maxScale": max});
        refused(json!({}), json!({"template": {"metadata": {"annotations": annotations}}}))
    };
    assert_eq!(template("2", "10"), None);
    assert!(template("2", "1").is_some());
    assert!(template("0", "0").is_some());
}

#[test]
fn every_annotation_has_its_place() {
    let on_service = |name: &str, value: &str| refused(json!({ name: value }), json!({}));
    let on_template = |name: &str, value: &str| {
        refused(json!({}), json!({"template": {"metadata": {"annotations": {name: value}}}}))
    };
    for (name, value) in [
        ("run.googleapis.com/default-url-disabled", "True"),
        ("run.googleapis.com/launch-stage", "BETA"),
        ("run.googleapis.com/binary-authorization", "default"),
        ("run.googleapis.com/build-id", "1"),
    ] {
        assert_eq!(on_service(name, value), None, "{name}");
    }
    for (name, value) in [
        ("run.googleapis.com/sessionAffinity", "true"),
        ("run.googleapis.com/cpu-throttling", "False"),
        ("run.googleapis.com/scaling-cpu-target", "0.9"),
        ("run.googleapis.com/scaling-concurrency-target", "0"),
        ("run.googleapis.com/network-interfaces", r#"[{"network": "n", "subnetwork": "s"}]"#),
        ("client.knative.dev/user-image", "x"),
    ] {
        assert_eq!(on_template(name, value), None, "{name}");
    }
    for (name, value) in [
        ("autoscaling.knative.dev/maxScale", "3"),
        ("run.googleapis.com/cpu-throttling", "true"),
        ("run.googleapis.com/ingres", "all"),
        ("run.googleapis.com/invoker-iam-disabled", "yes"),
        ("run.googleapis.com/launch-stage", "SOON"),
        ("run.googleapis.com/binary-authorization", "projects/p/policy"),
    ] {
        assert_eq!(on_service(name, value), Some(format!("metadata.annotations[{name}]")));
    }
    for (name, value) in [
        ("run.googleapis.com/ingress", "all"),
        ("autoscaling.knative.dev/class", "hpa"),
        ("run.googleapis.com/sessionAffinity", "yes"),
        ("run.googleapis.com/execution-environment", "gen3"),
        ("run.googleapis.com/vpc-access-egress", "some"),
        ("run.googleapis.com/network-interfaces", "n"),
        ("run.googleapis.com/network-interfaces", "[]"),
        ("run.googleapis.com/network-interfaces", "[{}]"),
        ("run.googleapis.com/scaling-cpu-target", "0.95"),
        ("run.googleapis.com/scaling-concurrency-target", "0.05"),
    ] {
        assert_eq!(
            on_template(name, value),
            Some(format!("spec.template.metadata.annotations[{name}]")),
            "{value}"
        );
    }
    assert!(on_template("run.googleapis.com/mesh", "m").unwrap().starts_with("not built: "));
    let both = json!({"run.googleapis.com/scaling-cpu-target": "0", "run.googleapis.com/scaling-concurrency-target": "0"});
    assert!(refused(json!({}), json!({"template": {"metadata": {"annotations": both}}})).is_some());
    let manual = |count: Value| refused(count, json!({}));
    assert!(
        manual(json!({"run.googleapis.com/scalingMode": "manual"})).unwrap().contains("manualInstanceCount")
    );
    let counted =
        json!({"run.googleapis.com/scalingMode": "manual", "run.googleapis.com/manualInstanceCount": "0"});
    assert_eq!(manual(counted), None);
}

#[test]
fn labels_are_googles() {
    let label = |name: &str, value: &str| refused_with(json!({ name: value }), json!({}), json!({}));
    assert_eq!(label("team", "x-1_"), None);
    assert_eq!(label("cloud.googleapis.com/location", "us-central1"), None, "a server's own, sent back");
    assert_eq!(label("Team", "x").as_deref(), Some("metadata.labels"));
    assert_eq!(label("team", "A b").as_deref(), Some("metadata.labels"));
    let template = json!({"template": {"metadata": {"labels": {"T": "x"}}}});
    assert_eq!(refused(json!({}), template).as_deref(), Some("spec.template.metadata.labels"));
}

#[test]
fn containers() {
    assert_eq!(container(json!({"image": "x"})), None);
    assert_eq!(container(json!({})).as_deref(), Some("image"));
    assert_eq!(container(json!({"image": "a b"})).as_deref(), Some("image"));
    assert_eq!(container(json!({"image": "x", "name": "Web"})).as_deref(), Some("name"));
    let none = refused(json!({}), json!({"template": {"spec": {"containers": []}}}));
    assert_eq!(none.as_deref(), Some("spec.template.spec.containers"));
    assert_eq!(container(json!({"image": "x", "workingDir": "/srv"})), None);
    assert_eq!(container(json!({"image": "x", "workingDir": "srv"})).as_deref(), Some("workingDir"));
    assert!(
        container(json!({"image": "x", "envFrom": [{"prefix": "p"}]})).unwrap().starts_with("not built: ")
    );
    assert_eq!(container(json!({"image": "x", "resources": {"requests": {}}})), None);
}

#[test]
fn numbers_of_the_template() {
    let spec = |member: &str, value: i64| {
        refused(json!({}), json!({"template": {"spec": {member: value}}})).is_some()
    };
    assert!(
        !spec("containerConcurrency", 1000)
            && spec("containerConcurrency", 1001)
            && spec("containerConcurrency", -1)
    );
    assert!(!spec("timeoutSeconds", 3600) && spec("timeoutSeconds", 3601) && spec("timeoutSeconds", -1));
}

#[test]
fn ports() {
    let port = |ports: Value| container(json!({"image": "x", "ports": ports}));
    assert_eq!(port(json!([{"containerPort": 65535, "name": "h2c", "protocol": "TCP"}])), None);
    assert_eq!(port(json!([{"containerPort": 65536}])).as_deref(), Some("ports[0].containerPort"));
    assert_eq!(port(json!([{"name": "http2"}])).as_deref(), Some("ports[0].name"));
    assert_eq!(port(json!([{"containerPort": 1}, {"containerPort": 2}])).as_deref(), Some("ports"));
    assert_eq!(port(json!([{"protocol": "UDP"}])).as_deref(), Some("ports[0].protocol"));
}

#[test]
fn variables() {
    let env = |env: Value| container(json!({"image": "x", "env": env}));
    assert_eq!(env(json!([{"name": "A", "value": "b"}, {"name": "B"}])), None);
    assert_eq!(env(json!([{"name": "PORT", "value": "1"}])).as_deref(), Some("env"));
    assert_eq!(env(json!([{"name": "A"}, {"name": "A"}])).as_deref(), Some("env[1].name"));
    assert_eq!(env(json!([{"name": "A=B"}])).as_deref(), Some("env[0].name"));
    let secret = |reference: Value| env(json!([{"name": "A", "valueFrom": {"secretKeyRef": reference}}]));
    assert_eq!(secret(json!({"name": "s", "key": "latest"})), None);
    assert_eq!(secret(json!({"name": "s"})).as_deref(), Some("env[0].valueFrom.secretKeyRef.key"));
    assert_eq!(secret(json!({"key": "1"})).as_deref(), Some("env[0].valueFrom.secretKeyRef.name"));
    let both = json!([{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "1"}}}]);
    assert_eq!(env(both).as_deref(), Some("env[0].value"));
    let other = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    assert!(env(other).unwrap().starts_with("not built: "));
}

/// A template of several containers, with annotations.
fn several(containers: Value, annotations: Value) -> Option<String> {
    let template = json!({"metadata": {"annotations": annotations}, "spec": {"containers": containers}});
    refused(json!({}), json!({"template": template}))
}

#[test]
fn several_containers() {
    let app = json!({"image": "x", "name": "app", "ports": [{"containerPort": 8080}]});
    let proxy = json!({"image": "y", "name": "proxy"});
    let none = json!({});
    assert_eq!(several(json!([app, proxy]), none.clone()), None);
    assert_eq!(several(json!([proxy, app, {"image": "z"}]), none.clone()), None);
    for (containers, field) in [
        (json!([proxy, {"image": "z"}]), "spec.template.spec.containers.ports"),
        (
            json!([app, {"image": "z", "ports": [{"containerPort": 1}]}]),
            "spec.template.spec.containers.ports",
        ),
        (json!([app, proxy, proxy]), "spec.template.spec.containers[2].name"),
        (json!(vec![app.clone(); 11]), "spec.template.spec.containers"),
    ] {
        assert_eq!(several(containers.clone(), none.clone()).as_deref(), Some(field), "{containers}");
    }
    let half = |name: &str| json!({"image": name, "resources": {"limits": {"cpu": "0.5", "memory": "1Gi"}}});
    let mut listening = half("x");
    listening["ports"] = json!([{"containerPort": 8080}]);
    assert_eq!(several(json!([listening, half("y")]), none), None, "one processor together");
}

#[test]
fn containers_that_wait() {
    let containers = json!([
        {"image": "x", "name": "app", "ports": [{"containerPort": 8080}]},
        {"image": "y", "name": "proxy"},
        {"image": "z", "name": "cache"},
    ]);
    let waiting = |order: &str| {
        several(containers.clone(), json!({"run.googleapis.com/container-dependencies": order})).is_some()
    };
    assert!(!waiting(r#"{"app": ["proxy", "cache"], "proxy": ["cache"]}"#));
    for bad in [
        "app",
        r#"{"app": "proxy"}"#,
        r#"{"app": ["none"]}"#,
        r#"{"none": ["app"]}"#,
        r#"{"app": ["app"]}"#,
        r#"{"app": ["proxy"], "proxy": ["cache"], "cache": ["app"]}"#,
    ] {
        assert!(waiting(bad), "{bad}");
    }
}

#[test]
fn volumes() {
    let memory = json!({"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}});
    let secret =
        json!({"name": "s", "secret": {"secretName": "top", "items": [{"key": "1", "path": "a/b"}]}});
    let volumes = |volumes: Value, mounts: Value| {
        let spec = json!({"containers": [{"image": "x", "volumeMounts": mounts}], "volumes": volumes});
        let field = refused(json!({}), json!({"template": {"spec": spec}}))?;
        Some(field.replace("spec.template.spec.", "").replace("containers[0].", ""))
    };
    let mounts = json!([{"name": "m", "mountPath": "/m", "subPath": "d"}, {"name": "s", "mountPath": "/s"}]);
    assert_eq!(volumes(json!([memory, secret]), mounts), None);
    for (bad, field) in [
        (json!([{"emptyDir": {}}]), "volumes[0].name"),
        (json!([{"name": "v"}]), "volumes[0].name"),
        (json!([memory, memory]), "volumes[1].name"),
        (json!([{"name": "v", "emptyDir": {"sizeLimit": "lots"}}]), "volumes[0].emptyDir.sizeLimit"),
        (
            json!([{"name": "v", "emptyDir": {"medium": "Disk"}}]),
            "not built: run.services.template.volumes.emptyDir.medium (Disk)",
        ),
        (json!([{"name": "v", "nfs": {"server": "s"}}]), "not built: run.services.template.volumes.nfs"),
        (json!([{"name": "v", "secret": {"optional": false}}]), "volumes[0].secret.secretName"),
    ] {
        assert_eq!(volumes(bad.clone(), json!([])).as_deref(), Some(field), "{bad}");
    }
    for (item, field) in [
        (json!({"key": "1", "path": "/a"}), "path"),
        (json!({"key": "1", "path": "a/../b"}), "path"),
        (json!({"key": "1"}), "path"),
        (json!({"path": "a"}), "key"),
        (json!({"key": "1", "path": "a", "mode": 512}), "mode"),
    ] {
        let bad = json!([{"name": "v", "secret": {"secretName": "s", "items": [item]}}]);
        let expected = format!("volumes[0].secret.items[0].{field}");
        assert_eq!(volumes(bad, json!([])), Some(expected), "{item}");
    }
    for (mount, field) in [
        (json!([{"name": "x", "mountPath": "/x"}]), "volumeMounts[0].name"),
        (json!([{"name": "m", "mountPath": "x"}]), "volumeMounts[0].mountPath"),
        (json!([{"name": "m", "mountPath": "/"}]), "volumeMounts[0].mountPath"),
        (json!([{"name": "m", "mountPath": "/a:b"}]), "volumeMounts[0].mountPath"),
        (json!([{"name": "m", "mountPath": "/proc"}]), "volumeMounts[0].mountPath"),
        (json!([{"name": "m", "mountPath": "/sys/x"}]), "volumeMounts[0].mountPath"),
        (json!([{"name": "m", "mountPath": "/a/../b"}]), "volumeMounts[0].mountPath"),
        (
            json!([{"name": "m", "mountPath": "/a"}, {"name": "s", "mountPath": "/a"}]),
            "volumeMounts[1].mountPath",
        ),
        (json!([{"name": "s", "mountPath": "/a", "subPath": "b"}]), "volumeMounts[0].subPath"),
        (json!([{"name": "m", "mountPath": "/a", "subPath": "../b"}]), "volumeMounts[0].subPath"),
    ] {
        assert_eq!(volumes(json!([memory, secret]), mount.clone()).as_deref(), Some(field), "{mount}");
    }
}

#[test]
fn aliases_of_secrets() {
    let alias = |value: &str| several(json!([{"image": "x"}]), json!({"run.googleapis.com/secrets": value}));
    assert_eq!(alias("a:projects/1/secrets/s,b:projects/p/secrets/t"), None);
    for bad in ["a:s", ":projects/1/secrets/s", "a:projects//secrets/s"] {
        assert!(alias(bad).is_some(), "{bad}");
    }
}

#[test]
fn resources() {
    let limits = |limits: Value| container(json!({"image": "x", "resources": {"limits": limits}}));
    for good in [
        json!({"cpu": "2", "memory": "256Mi"}),
        json!({"cpu": "8000m", "memory": "4Gi"}),
        json!({"cpu": "0.5"}),
        json!({"memory": "1G"}),
        json!({"memory": "4Gi"}),
        json!({"cpu": "1", "memory": "128Mi"}),
        json!({"cpu": "8", "memory": "32Gi"}),
    ] {
        assert_eq!(limits(good.clone()), None, "{good}");
    }
    assert_eq!(limits(json!({"cpu": "3"})).as_deref(), Some("resources.limits.cpu"));
    assert_eq!(limits(json!({"cpu": "10m"})).as_deref(), Some("resources.limits.cpu"));
    assert_eq!(limits(json!({"cpu": "4", "memory": "1Gi"})).as_deref(), Some("resources.limits.memory"));
    for (cpu, memory) in
        [("0.4", "513Mi"), ("0.9", "2Gi"), ("1", "5Gi"), ("2", "9Gi"), ("6", "2Gi"), ("8", "33Gi")]
    {
        let bad = json!({"cpu": cpu, "memory": memory});
        assert_eq!(limits(bad).as_deref(), Some("resources.limits.memory"), "{cpu} {memory}");
    }
    assert_eq!(
        limits(json!({"cpu": "4"})).as_deref(),
        Some("resources.limits.memory"),
        "not with what is filled in"
    );
    assert_eq!(limits(json!({"memory": "lots"})).as_deref(), Some("resources.limits.memory"));
    assert!(limits(json!({"nvidia.com/gpu": "1"})).unwrap().starts_with("not built: "));
    let part = json!({"template": {"spec": {"containerConcurrency": 2, "containers": [
        {"image": "x", "resources": {"limits": {"cpu": "0.5", "memory": "256Mi"}}}]}}});
    assert!(refused(json!({}), part).unwrap().ends_with("limits.cpu"));
    for (name, value) in
        [("run.googleapis.com/cpu-throttling", "False"), ("run.googleapis.com/execution-environment", "gen2")]
    {
        let half = |cpu: &str| {
            several(json!([{"image": "x", "resources": {"limits": {"cpu": cpu}}}]), json!({ name: value }))
        };
        assert!(half("0.5").unwrap().ends_with("limits.cpu"), "{name}");
        assert_eq!(half("1"), None, "{name}");
    }
}

#[test]
fn probes() {
    let startup = |probe: Value| container(json!({"image": "x", "startupProbe": probe}));
    assert_eq!(
        startup(
            json!({"httpGet": {"path": "/"}, "periodSeconds": 240, "timeoutSeconds": 240, "failureThreshold": 1})
        ),
        None
    );
    assert_eq!(startup(json!({"grpc": {}})), None);
    assert_eq!(startup(json!({"tcpSocket": {}, "periodSeconds": 24, "failureThreshold": 10})), None);
    for long in
        [json!({"tcpSocket": {}, "failureThreshold": 25}), json!({"tcpSocket": {}, "periodSeconds": 81})]
    {
        assert_eq!(startup(long).as_deref(), Some("startupProbe.failureThreshold"));
    }
    assert_eq!(
        startup(json!({"httpGet": {"scheme": "HTTPS"}})).as_deref(),
        Some("startupProbe.httpGet.scheme")
    );
    assert_eq!(
        startup(json!({"tcpSocket": {}, "periodSeconds": 241})).as_deref(),
        Some("startupProbe.periodSeconds")
    );
    assert_eq!(
        startup(json!({"tcpSocket": {}, "timeoutSeconds": 11})).as_deref(),
        Some("startupProbe.timeoutSeconds")
    );
    assert_eq!(startup(json!({"tcpSocket": {}, "grpc": {}})).as_deref(), Some("startupProbe"));
    assert_eq!(startup(json!({"periodSeconds": 5})).as_deref(), Some("startupProbe"));
    assert_eq!(startup(json!({"httpGet": {"host": "x"}})).as_deref(), Some("startupProbe.httpGet.host"));
    assert_eq!(
        startup(json!({"tcpSocket": {}, "successThreshold": 2})).as_deref(),
        Some("startupProbe.successThreshold")
    );
    assert!(startup(json!({"exec": {"command": ["x"]}})).unwrap().starts_with("not built: "));
    let liveness = json!({"image": "x", "livenessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 3600}});
    assert_eq!(container(liveness), None);
}

#[test]
fn shares() {
    let latest = json!({"latestRevision": true, "percent": 100});
    assert_eq!(traffic(json!([latest, {"revisionName": "svc-1", "tag": "blue"}])), None);
    assert_eq!(traffic(json!([{"latestRevision": true, "percent": 99}])).as_deref(), Some("spec.traffic"));
    assert_eq!(
        traffic(json!([{"latestRevision": true, "percent": 101}])).as_deref(),
        Some("spec.traffic[0].percent")
    );
    assert_eq!(traffic(json!([{"percent": 100}])).as_deref(), Some("spec.traffic[0].revisionName"));
    let both = json!([{"latestRevision": true, "revisionName": "svc-1", "percent": 100}]);
    assert_eq!(traffic(both).as_deref(), Some("spec.traffic[0].revisionName"));
    let twice = json!([latest, {"revisionName": "a", "tag": "t"}, {"revisionName": "b", "tag": "t"}]);
    assert_eq!(traffic(twice).as_deref(), Some("spec.traffic[2].tag"));
    let odd = json!([latest, {"revisionName": "a", "tag": "T"}]);
    assert_eq!(traffic(odd).as_deref(), Some("spec.traffic[1].tag"));
    let configuration = json!([{"configurationName": "c", "latestRevision": true, "percent": 100}]);
    assert_eq!(traffic(configuration).as_deref(), Some("spec.traffic[0].configurationName"));
}
