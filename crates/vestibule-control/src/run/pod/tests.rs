use serde_json::json;

use super::super::testing::{World, members, place, service};
use super::super::{Caller, testing};
use super::*;

/// A service of three containers with volumes and secrets, as a v1 client sends it.
fn rich() -> Value {
    let mut body = service("svc", "app");
    body["spec"]["template"] = json!({
        "metadata": {"annotations": {
            "run.googleapis.com/container-dependencies": r#"{"app":["proxy"],"proxy":["cache"]}"#,
            "run.googleapis.com/secrets": "far:projects/123456789012/secrets/theirs",
            "run.googleapis.com/sessionAffinity": "true",
        }},
        "spec": {
            "containers": [
                {
                    "image": "proxy", "name": "proxy",
                    "startupProbe": {"tcpSocket": {"port": 9000}},
                    "volumeMounts": [{"name": "shared", "mountPath": "/run/shared"}],
                },
                {
                    "image": "app", "name": "app", "workingDir": "/srv",
                    "ports": [{"containerPort": 7000}],
                    "env": [
                        {"name": "PLAIN", "value": "p"},
                        {"name": "OWN", "valueFrom": {"secretKeyRef": {"name": "ours", "key": "3"}}},
                        {"name": "FAR", "valueFrom": {"secretKeyRef": {"name": "far", "key": "latest"}}},
                    ],
                    "volumeMounts": [
                        {"name": "shared", "mountPath": "/tmp/shared", "subPath": "a"},
                        {"name": "keys", "mountPath": "/etc/keys"},
                    ],
                    "livenessProbe": {"httpGet": {"path": "/live"}, "periodSeconds": 5},
                    "readinessProbe": {"grpc": {"port": 7001, "service": "s"}},
                },
                {"image": "cache"},
            ],
            "volumes": [
                {"name": "shared", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
                {"name": "keys", "secret": {"secretName": "far", "defaultMode": 0o440, "items": [
                    {"key": "7", "path": "d/key.pem", "mode": 0o777}, {"key": "latest", "path": "cert.pem"}]}},
                {"name": "bare", "secret": {"secretName": "ours"}},
            ],
        },
    });
    body
}

fn secret(project: &str, secret: &str, version: &str) -> SecretRef {
    SecretRef { project: project.into(), secret: secret.into(), version: version.into() }
}

#[test]
fn a_rich_template_reaches_the_runtime_whole() {
    let world = World::new();
    let mut body = rich();
    body["spec"]["template"]["metadata"]["annotations"]["run.googleapis.com/container-dependencies"] =
        json!(r#"{"app":["proxy"],"proxy":["cache-3"]}"#);
    world.create(body);
    world.decided("svc");
    let service = world.desired("svc").unwrap();
    let revision = &service.revisions[0];
    assert!(revision.session_affinity);
    assert_eq!(revision.port, 7000);
    let names: Vec<_> = revision.containers().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["app", "proxy", "cache-3"], "the ingress container comes first");
    let app = &revision.container;
    assert_eq!(app.working_dir.as_deref(), Some("/srv"));
    assert_eq!(app.env, [("PLAIN".to_owned(), "p".to_owned())]);
    let field = |at| format!("spec.template.spec.containers[1].env[{at}].value_from.secret_key_ref.name");
    assert_eq!(
        app.secret_env,
        [
            SecretEnv { name: "OWN".into(), secret: secret("demo", "ours", "3"), field: field(1) },
            SecretEnv {
                name: "FAR".into(),
                secret: secret("123456789012", "theirs", "latest"),
                field: field(2)
            },
        ]
    );
    assert_eq!(app.depends_on, ["proxy"]);
    assert_eq!(revision.sidecars[0].depends_on, ["cache-3"]);
    assert_eq!((app.mounts[0].path.as_str(), app.mounts[0].sub_path.as_str()), ("/tmp/shared", "a"));
    assert_eq!(app.startup_probe, Some(Probe::default_tcp(7000)));
    let live = app.liveness_probe.as_ref().unwrap();
    assert_eq!(live.kind, ProbeKind::Http { port: 7000, path: "/live".into(), headers: vec![] });
    assert_eq!((live.period.as_secs(), live.timeout.as_secs(), live.failure_threshold), (5, 1, 3));
    let ready = app.readiness_probe.as_ref().unwrap();
    assert_eq!(ready.kind, ProbeKind::Grpc { port: 7001, service: "s".into() });
    assert_eq!(revision.sidecars[0].startup_probe.as_ref().unwrap().kind, ProbeKind::Tcp { port: 9000 });
    assert_eq!(revision.sidecars[1].startup_probe, None);

    let names: Vec<_> = revision.volumes.iter().map(|volume| volume.name.as_str()).collect();
    assert_eq!(names, ["shared", "keys", "bare"]);
    assert_eq!(revision.volumes[0].source, VolumeSource::Memory { size_limit: Some(64 << 20) });
    let VolumeSource::Secret(files) = &revision.volumes[1].source else { panic!() };
    // Nobody may write a secret's file.
    assert_eq!((files[0].path.as_str(), files[0].mode), ("d/key.pem", 0o555));
    assert_eq!(files[0].secret, secret("123456789012", "theirs", "7"));
    assert_eq!((files[1].path.as_str(), files[1].mode), ("cert.pem", 0o440));
    assert_eq!(files[1].field, "spec.template.spec.volumes[1].secret.secret_name");
    let VolumeSource::Secret(files) = &revision.volumes[2].source else { panic!() };
    assert_eq!((files[0].path.as_str(), files[0].mode), ("ours", 0o444));
    assert_eq!(files[0].secret, secret("demo", "ours", "latest"));
}

#[test]
fn both_apis_show_a_rich_template() {
    let world = World::new();
    let mut body = rich();
    // A container without a name cannot be waited for through v2, which shows none.
    body["spec"]["template"]["spec"]["containers"][2]["name"] = "cache".into();
    let sent = body["spec"]["template"]["spec"].clone();
    world.create(body);
    let v1 = world.decided("svc");
    for (at, container) in sent["containers"].as_array().unwrap().iter().enumerate() {
        let shown = &v1["spec"]["template"]["spec"]["containers"][at];
        for member in ["env", "volumeMounts", "workingDir", "name", "livenessProbe", "readinessProbe"] {
            assert_eq!(shown[member], container[member], "{at} {member}");
        }
    }
    assert_eq!(v1["spec"]["template"]["spec"]["volumes"], sent["volumes"]);

    let run = world.control.run();
    let v2 = run.get_v2(place(), "svc").unwrap();
    let template = &v2["template"];
    assert_eq!(template["sessionAffinity"], true);
    let app = &template["containers"][1];
    assert_eq!(app["dependsOn"], json!(["proxy"]));
    assert_eq!(app["workingDir"], "/srv");
    assert_eq!(
        app["env"],
        json!([
            {"name": "PLAIN", "value": "p"},
            {"name": "OWN", "valueSource": {"secretKeyRef": {"secret": "ours", "version": "3"}}},
            {"name": "FAR", "valueSource": {"secretKeyRef": {
                "secret": "projects/123456789012/secrets/theirs", "version": "latest"}}},
        ])
    );
    assert_eq!(
        template["volumes"],
        json!([
            {"name": "shared", "emptyDir": {"medium": "MEMORY", "sizeLimit": "64Mi"}},
            {"name": "keys", "secret": {
                "secret": "projects/123456789012/secrets/theirs", "defaultMode": 0o440,
                "items": [{"path": "d/key.pem", "version": "7", "mode": 0o777}, {"path": "cert.pem", "version": "latest"}],
            }},
            {"name": "bare", "secret": {"secret": "ours"}},
        ])
    );
}

/// A service made through v2 reads back as it was sent, and runs the same.
#[test]
fn v2_keeps_what_it_was_told() {
    let world = World::new();
    let template = json!({
        "containers": [
            {
                "name": "app", "image": "app", "workingDir": "/srv", "dependsOn": ["helper"],
                "ports": [{"name": "http1", "containerPort": 8080}],
                "env": [
                    {"name": "A", "value": "b"},
                    {"name": "S", "valueSource": {"secretKeyRef": {"secret": "ours", "version": "1"}}},
                    {"name": "T", "valueSource": {"secretKeyRef": {"secret": "projects/p/secrets/t", "version": "latest"}}},
                ],
                "volumeMounts": [{"name": "m", "mountPath": "/m"}, {"name": "e", "mountPath": "/e"}],
            },
            {"name": "helper", "image": "helper"},
        ],
        "volumes": [
            {"name": "m", "emptyDir": {"medium": "MEMORY", "sizeLimit": "1Gi"}},
            {"name": "e", "emptyDir": {}},
            {"name": "s", "secret": {"secret": "ours", "items": [{"path": "a", "version": "2"}], "defaultMode": 256}},
        ],
        "sessionAffinity": true,
    });
    let run = world.control.run();
    let body = members(json!({"template": template}));
    run.create_v2(testing::caller(), place(), "svc", body).unwrap();
    world.decided("svc");
    let shown = run.get_v2(place(), "svc").unwrap();
    assert_eq!(shown["template"]["volumes"], template["volumes"]);
    for at in 0..2 {
        for member in ["name", "image", "workingDir", "dependsOn", "env", "volumeMounts"] {
            let (shown, sent) = (&shown["template"]["containers"][at], &template["containers"][at]);
            assert_eq!(shown[member], sent[member], "{at} {member}");
        }
    }
    let revision = world.desired("svc").unwrap().revisions[0].clone();
    assert_eq!(revision.container.secret_env[1].secret, secret("p", "t", "latest"));
    assert_eq!(revision.container.depends_on, ["helper"]);
    assert_eq!(revision.volumes[1].source, VolumeSource::Memory { size_limit: None });

    // Sent back whole it changes nothing.
    let mut again = shown.clone();
    for output in ["etag", "uri", "urls", "conditions", "terminalCondition", "trafficStatuses", "uid"] {
        again.as_object_mut().unwrap().remove(output);
    }
    let unchanged = run
        .patch_v2(testing::caller(), place(), "svc", members(again), super::super::v2::Patch::default())
        .unwrap();
    assert_eq!(unchanged["response"]["generation"], "1", "{unchanged}");
    assert_eq!(run.get_v2(place(), "svc").unwrap(), shown);

    // What is not built is refused, and dropping the dependency drops it.
    for not_built in [
        json!({"containers": [{"image": "x", "sourceCode": {}}], "volumes": [{"name": "g", "gcs": {"bucket": "b"}}]}),
        json!({"containers": [{"image": "x", "baseImageUri": "y"}]}),
    ] {
        let body = members(json!({"template": not_built}));
        let dry = Caller { dry_run: true, ..testing::caller() };
        let refused = run.create_v2(dry, place(), "svc2", body).unwrap_err();
        assert!(matches!(refused, crate::Error::NotBuilt { .. }), "{refused}");
    }
    let mut alone = shown.clone();
    alone["template"]["containers"][0].as_object_mut().unwrap().remove("dependsOn");
    alone.as_object_mut().unwrap().remove("etag");
    run.patch_v2(testing::caller(), place(), "svc", members(alone), super::super::v2::Patch::default())
        .unwrap();
    let shown = run.get_v2(place(), "svc").unwrap();
    assert!(shown["template"]["containers"][0]["dependsOn"].is_null());
}
