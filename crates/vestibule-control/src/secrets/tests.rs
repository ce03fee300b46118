use serde_json::{Value, json};
use tempfile::TempDir;
use vestibule_iam::Principal;
use vestibule_store::Store;

use super::{Reference, crc32c, name};
use crate::{Conformance, Control, Document, Error, Settings, document};

/// The number of the project `demo`.
const NUMBER: &str = "496268734596";
/// `s3cr3t` in base64.
const DATA: &str = "czNjcjN0";

struct World {
    control: Control,
    _dir: TempDir,
}

fn world(conformance: Conformance) -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    World { control: Control::open(store, Settings { conformance, ..Settings::default() }), _dir: dir }
}

fn body(value: Value) -> Document {
    document::object(&value).clone()
}

fn automatic() -> Document {
    body(json!({"replication": {"automatic": {}}}))
}

fn payload(data: &str) -> Document {
    body(json!({"payload": {"data": data}}))
}

impl World {
    fn new() -> World {
        world(Conformance::Permissive)
    }

    /// A world with the secret `s` and so many versions of it.
    fn with_versions(count: usize) -> World {
        let world = World::new();
        world.secrets().create("demo", "s", automatic()).unwrap();
        for _ in 0..count {
            world.secrets().add_version("demo", "s", &payload(DATA)).unwrap();
        }
        world
    }

    fn secrets(&self) -> super::Secrets<'_> {
        self.control.secrets()
    }

    fn access(&self, version: &str) -> Result<Value, Error> {
        self.secrets().access("demo", "s", version, &Principal::local())
    }

    fn patch(&self, change: Value, mask: &str) -> Result<Value, Error> {
        self.secrets().patch("demo", "s", &body(change), mask)
    }

    /// Rewrites a member of a stored document, as if time had passed.
    fn rewrite(&self, key: &str, member: &str, value: &str) {
        let rewritten = self.control.change(|change| {
            let mut document = (*change.get(key).expect("it is stored")).clone();
            document[member] = value.into();
            change.put(key, document);
            Ok(())
        });
        rewritten.unwrap();
    }

    /// Everything that is stored, as one text.
    fn stored(&self) -> String {
        self.control.view().range("").map(|kv| format!("{} {}\n", kv.key, kv.value)).collect()
    }
}

const PAST: &str = "2020-01-01T00:00:00Z";

#[test]
fn a_secret_has_what_google_s_clients_read() {
    let world = World::new();
    let sent =
        json!({"replication": {"automatic": {}}, "labels": {"env": "test"}, "annotations": {"a.b": "c"}});
    let made = world.secrets().create("demo", "my_Secret-1", body(sent)).unwrap();
    assert_eq!(made["name"], format!("projects/{NUMBER}/secrets/my_Secret-1"));
    assert_eq!(made["replication"], json!({"automatic": {}}));
    assert_eq!(made["labels"], json!({"env": "test"}));
    assert!(made["etag"].as_str().unwrap().starts_with('"'));
    assert!(made["createTime"].is_string() && made["vestibule"].is_null());
    assert_eq!(world.secrets().get("demo", "my_Secret-1").unwrap(), made);
    assert_eq!(world.secrets().list("demo"), [made]);
    assert!(world.secrets().list("other").is_empty());
    let again = world.secrets().create("demo", "my_Secret-1", automatic()).unwrap_err();
    assert_eq!(again.to_string(), format!("Secret [projects/{NUMBER}/secrets/my_Secret-1] already exists."));
}

#[test]
fn what_no_secret_may_be() {
    let world = World::new();
    for (id, sent) in [
        ("", json!({"replication": {"automatic": {}}})),
        ("a.b", json!({"replication": {"automatic": {}}})),
        ("a/b", json!({"replication": {"automatic": {}}})),
        ("s", json!({})),
        ("s", json!({"replication": {}})),
        ("s", json!({"replication": {"automatic": {}, "userManaged": {}}})),
        ("s", json!({"replication": {"userManaged": {"replicas": []}}})),
        ("s", json!({"replication": {"userManaged": {"replicas": [{"location": "nowhere"}]}}})),
        ("s", json!({"replication": {"automatic": {"customerManagedEncryption": {"kmsKeyName": "k"}}}})),
        ("s", json!({"replication": {"automatic": {}}, "topics": [{"name": "projects/p/topics/t"}]})),
        ("s", json!({"replication": {"automatic": {}}, "labels": {"Upper": "x"}})),
        ("s", json!({"replication": {"automatic": {}}, "annotations": {"-": "x"}})),
        ("s", json!({"replication": {"automatic": {}}, "annotations": {"a": "x".repeat(17 << 10)}})),
        ("s", json!({"replication": {"automatic": {}}, "expireTime": PAST})),
        ("s", json!({"replication": {"automatic": {}}, "ttl": "60s", "expireTime": "2999-01-01T00:00:00Z"})),
        ("s", json!({"replication": {"automatic": {}}, "versionAliases": {"a": "1"}})),
        ("s", json!({"replication": {"automatic": {}}, "versionDestroyTtl": "5s"})),
    ] {
        assert!(world.secrets().create("demo", id, body(sent.clone())).is_err(), "{id} {sent}");
    }
    let replicas =
        json!({"userManaged": {"replicas": [{"location": "us-central1"}, {"location": "us-east1"}]}});
    let made = world.secrets().create("demo", "s", body(json!({"replication": replicas}))).unwrap();
    assert_eq!(made["replication"], replicas);
    let version = world.secrets().add_version("demo", "s", &payload(DATA)).unwrap();
    assert_eq!(version["replicationStatus"], replicas);
}

#[test]
fn versions_count_up_and_are_read() {
    let world = World::with_versions(2);
    let data = b"hello \xff";
    let sum = crc32c(data);
    let sent = json!({"payload": {"data": "aGVsbG8g_w", "dataCrc32c": sum.to_string()}});
    let third = world.secrets().add_version("demo", "s", &body(sent)).unwrap();
    assert_eq!(third["name"], format!("projects/{NUMBER}/secrets/s/versions/3"));
    assert_eq!(
        (&third["state"], &third["clientSpecifiedPayloadChecksum"]),
        (&json!("ENABLED"), &json!(true))
    );
    for version in ["3", "latest"] {
        let read = world.access(version).unwrap();
        assert_eq!(read["name"], third["name"]);
        // Standard base64 with padding, whatever the client wrote.
        assert_eq!(read["payload"], json!({"data": "aGVsbG8g/w==", "dataCrc32c": sum.to_string()}));
    }
    let first = world.access("1").unwrap();
    assert_eq!(first["payload"], json!({"data": DATA, "dataCrc32c": crc32c(b"s3cr3t").to_string()}));
    let listed = world.secrets().versions("demo", "s").unwrap();
    assert_eq!(listed.len(), 3);
    assert!(listed[0]["clientSpecifiedPayloadChecksum"].is_null());
    assert!(!listed.iter().any(|version| version.to_string().contains(DATA)));
    assert_eq!(world.secrets().version("demo", "s", "latest").unwrap(), third);
    let missing = world.access("4").unwrap_err().to_string();
    assert_eq!(missing, format!("Secret Version [projects/{NUMBER}/secrets/s/versions/4] not found."));
}

#[test]
fn a_secret_without_versions_has_no_latest() {
    let world = World::with_versions(0);
    let error = world.access("latest").unwrap_err().to_string();
    assert_eq!(error, format!("Secret [projects/{NUMBER}/secrets/s] not found or has no versions."));
    assert!(world.secrets().versions("demo", "s").unwrap().is_empty());
}

#[test]
fn damaged_and_oversized_payloads_are_refused() {
    let world = World::with_versions(0);
    let wrong = json!({"payload": {"data": DATA, "dataCrc32c": "1"}});
    for sent in [wrong, json!({}), json!({"payload": {}}), json!({"payload": {"data": "*"}})] {
        assert!(world.secrets().add_version("demo", "s", &body(sent.clone())).is_err(), "{sent}");
    }
    use base64::Engine as _;
    let encoded = |size: usize| base64::engine::general_purpose::STANDARD.encode(vec![7; size]);
    assert!(world.secrets().add_version("demo", "s", &payload(&encoded((64 << 10) + 1))).is_err());
    assert!(world.secrets().add_version("demo", "s", &payload(&encoded(64 << 10))).is_ok());
}

#[test]
fn states_go_back_and_forth_until_destroyed() {
    let world = World::with_versions(1);
    let secrets = world.secrets();
    let disabled = secrets.disable_version("demo", "s", "1", None).unwrap();
    assert_eq!(disabled["state"], "DISABLED");
    let error = world.access("latest").unwrap_err();
    let text = format!("Secret Version [projects/{NUMBER}/secrets/s/versions/1] is in DISABLED state.");
    assert_eq!(error, Error::FailedPrecondition { message: text });
    let stale = secrets.enable_version("demo", "s", "1", Some("\"1\"")).unwrap_err();
    assert!(matches!(stale, Error::FailedPrecondition { .. }));
    secrets.enable_version("demo", "s", "1", disabled["etag"].as_str()).unwrap();
    assert!(world.access("1").is_ok());
    let destroyed = secrets.destroy_version("demo", "s", "1", None).unwrap();
    assert_eq!(destroyed["state"], "DESTROYED");
    assert!(destroyed["destroyTime"].is_string() && destroyed["scheduledDestroyTime"].is_null());
    assert!(!world.stored().contains(DATA), "the payload outlived its destruction");
    for again in [
        world.access("1"),
        secrets.enable_version("demo", "s", "1", None),
        secrets.disable_version("demo", "s", "1", None),
        secrets.destroy_version("demo", "s", "1", None),
    ] {
        assert!(again.unwrap_err().to_string().ends_with("is in DESTROYED state."));
    }
    // Numbers are not used twice.
    let next = secrets.add_version("demo", "s", &payload(DATA)).unwrap();
    assert!(next["name"].as_str().unwrap().ends_with("/versions/2"));
}

#[test]
fn a_destruction_can_wait_and_be_called_off() {
    let world = World::with_versions(1);
    let secrets = world.secrets();
    world.patch(json!({"versionDestroyTtl": "86400s"}), "version_destroy_ttl").unwrap();
    let waiting = secrets.destroy_version("demo", "s", "1", None).unwrap();
    assert_eq!(waiting["state"], "DISABLED");
    assert!(waiting["scheduledDestroyTime"].is_string());
    let saved = secrets.enable_version("demo", "s", "1", None).unwrap();
    assert!(saved["scheduledDestroyTime"].is_null());
    assert!(world.access("1").is_ok());

    secrets.destroy_version("demo", "s", "1", None).unwrap();
    let name = name::Name::new("demo", "s");
    world.rewrite(&name.version_key(1), "scheduledDestroyTime", PAST);
    let shown = secrets.version("demo", "s", "1").unwrap();
    assert_eq!((&shown["state"], &shown["destroyTime"]), (&json!("DESTROYED"), &json!(PAST)));
    assert!(world.stored().contains(DATA));
    secrets.create("demo", "other", automatic()).unwrap();
    assert!(!world.stored().contains(DATA), "the next change writes down what time has done");
}

#[test]
fn patches_change_what_the_mask_names() {
    let world = World::with_versions(2);
    let before = world.secrets().get("demo", "s").unwrap();
    let sent = json!({"labels": {"a": "1"}, "annotations": {"x": "y"}, "versionAliases": {"blue": "1"}});
    let changed = world.patch(sent, "labels,version_aliases").unwrap();
    assert_eq!(changed["labels"], json!({"a": "1"}));
    assert!(changed["annotations"].is_null());
    assert_ne!(changed["etag"], before["etag"]);
    assert!(world.access("blue").unwrap()["name"].as_str().unwrap().ends_with("/versions/1"));
    assert_eq!(world.patch(json!({}), "labels").unwrap().get("labels"), None);
    let until = world.patch(json!({"ttl": "3600s"}), "ttl").unwrap();
    assert!(until["expireTime"].is_string() && until["ttl"].is_null());
    assert!(world.patch(json!({}), "expireTime").unwrap()["expireTime"].is_null());
    for (change, mask) in [
        (json!({}), ""),
        (json!({}), "name"),
        (json!({"replication": {"automatic": {}}}), "replication"),
        (json!({"topics": []}), "topics"),
        (json!({"labels": {"A": "1"}}), "labels"),
        (json!({"versionAliases": {"blue": "3"}}), "versionAliases"),
        (json!({"versionAliases": {"latest": "1"}}), "versionAliases"),
        (json!({"etag": before["etag"], "labels": {}}), "labels"),
    ] {
        assert!(world.patch(change.clone(), mask).is_err(), "{mask} {change}");
    }
}

#[test]
fn an_expired_secret_is_gone() {
    let world = World::with_versions(1);
    let name = name::Name::new("demo", "s");
    world.rewrite(&name.key(), "expireTime", PAST);
    assert!(world.secrets().get("demo", "s").is_err());
    assert!(world.secrets().list("demo").is_empty());
    assert!(world.access("1").is_err());
    assert!(world.secrets().add_version("demo", "s", &payload(DATA)).is_err());
    assert!(world.secrets().delete("demo", "s", None).is_err());
    world.secrets().create("demo", "s", automatic()).unwrap();
    assert!(!world.stored().contains(DATA));
    assert!(world.secrets().versions("demo", "s").unwrap().is_empty());
}

#[test]
fn deleting_leaves_nothing() {
    let world = World::with_versions(3);
    world.secrets().set_policy("demo", "s", &json!({"policy": {}})).unwrap();
    assert!(world.secrets().delete("demo", "s", Some("\"0\"")).is_err());
    world.secrets().delete("demo", "s", None).unwrap();
    assert_eq!(world.stored(), "");
    assert!(matches!(world.secrets().delete("demo", "s", None), Err(Error::NotFound { .. })));
}

#[test]
fn one_secret_s_versions_are_not_another_s() {
    let world = World::with_versions(1);
    world.secrets().create("demo", "s2", automatic()).unwrap();
    world.secrets().create("other", "s", automatic()).unwrap();
    assert!(world.secrets().versions("demo", "s2").unwrap().is_empty());
    assert!(world.secrets().versions("other", "s").unwrap().is_empty());
    world.secrets().delete("demo", "s2", None).unwrap();
    assert!(world.access("1").is_ok());
}

fn reference(project: &str, secret: &str, version: &str) -> Reference {
    Reference { project: project.into(), secret: secret.into(), version: version.into() }
}

#[test]
fn instances_are_given_payloads() {
    let world = World::with_versions(2);
    let resolve = |project, secret, version| {
        world.secrets().resolve(&reference(project, secret, version), "a@demo.iam.gserviceaccount.com")
    };
    assert_eq!(resolve("demo", "s", "latest").unwrap(), b"s3cr3t");
    assert_eq!(resolve(NUMBER, "s", "1").unwrap(), b"s3cr3t");
    for (secret, version) in [("none", "latest"), ("s", "7")] {
        let text = format!("Secret projects/{NUMBER}/secrets/{secret}/versions/{version} was not found");
        assert_eq!(resolve("demo", secret, version).unwrap_err().to_string(), text);
    }
    world.secrets().disable_version("demo", "s", "2", None).unwrap();
    assert!(resolve("demo", "s", "latest").unwrap_err().to_string().contains("DISABLED"));
}

#[test]
fn google_s_conformance_asks_for_the_role() {
    let world = world(Conformance::Google);
    let secrets = world.secrets();
    secrets.create("demo", "s", automatic()).unwrap();
    secrets.add_version("demo", "s", &payload(DATA)).unwrap();
    let account = "a@demo.iam.gserviceaccount.com";
    let principal = Principal::from_email(account);
    let denied = secrets.access("demo", "s", "1", &principal).unwrap_err();
    assert!(matches!(denied, Error::PermissionDenied { .. }), "{denied}");
    let denied = secrets.resolve(&reference("demo", "s", "1"), account).unwrap_err().to_string();
    assert!(
        denied.starts_with("Permission denied on secret: projects/496268734596/secrets/s/versions/1 for")
    );
    let binding = json!({
        "role": "roles/secretmanager.secretAccessor", "members": [format!("serviceAccount:{account}")],
    });
    secrets.set_policy("demo", "s", &json!({"policy": {"bindings": [binding]}})).unwrap();
    assert!(secrets.access("demo", "s", "1", &principal).is_ok());
    assert!(secrets.resolve(&reference("demo", "s", "1"), account).is_ok());
    let asked = ["secretmanager.versions.access".to_owned(), "secretmanager.secrets.delete".to_owned()];
    let held = secrets.test_permissions("demo", "s", &asked, &principal).unwrap();
    assert_eq!(held, json!({"permissions": ["secretmanager.versions.access"]}));
    assert_eq!(secrets.test_permissions("demo", "none", &asked, &principal).unwrap(), json!({}));
    // The owner of the project may.
    assert!(secrets.access("demo", "s", "1", &Principal::local()).is_ok());
}
