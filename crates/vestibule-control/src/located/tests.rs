use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::compute::testing::World;

const HERE: Place<'static> = Place { project: "demo", location: "us-central1" };

fn pem() -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

fn doc(value: Value) -> Document {
    document::object(&value).clone()
}

fn trust(anchors: &[String]) -> Value {
    let anchors: Vec<Value> = anchors.iter().map(|pem| json!({ "pemCertificate": pem })).collect();
    json!({ "trustStores": [{ "trustAnchors": anchors }] })
}

fn mtls(mode: &str, trust: Option<&str>) -> Value {
    let mut policy = json!({ "clientValidationMode": mode });
    if let Some(trust) = trust {
        policy["clientValidationTrustConfig"] = trust.into();
    }
    json!({ "mtlsPolicy": policy })
}

const TRUST: &str = "projects/demo/locations/us-central1/trustConfigs/t";

/// A world with the trust config `t`.
fn world() -> World {
    let world = World::new();
    world.control.located().create(&TRUST_CONFIGS, HERE, "t", doc(trust(&[pem()]))).unwrap();
    world
}

fn create(world: &World, id: &str, body: Value) -> Result<Value, Error> {
    world.control.located().create(&SERVER_TLS_POLICIES, HERE, id, doc(body))
}

#[test]
fn policies_of_load_balancers() {
    let world = world();
    create(&world, "allow", mtls("ALLOW_INVALID_OR_MISSING_CLIENT_CERT", None)).unwrap();
    create(&world, "Reject_1", mtls("REJECT_INVALID", Some(TRUST))).unwrap();
    create(&world, "mesh", json!({ "allowOpen": true })).unwrap();
    let reject = |extra: Value| {
        let mut body = mtls("REJECT_INVALID", Some(TRUST));
        document::merge(body.as_object_mut().unwrap(), doc(extra));
        body
    };
    for (body, text) in [
        (mtls("REJECT_INVALID", None), "client_validation_trust_config is required"),
        (mtls("STRICT", None), "Must be one of"),
        (mtls("ALLOW_VALIDATION_RELAXATIONS", Some(TRUST)), "is not supported"),
        (reject(json!({"allowOpen": true})), "allow_open must be false"),
        (
            reject(json!({"serverCertificate": {"certificateProviderInstance": {"pluginInstance": "p"}}})),
            "server_certificate must be empty",
        ),
        (
            reject(
                json!({"mtlsPolicy": {"clientValidationCa": [{"grpcEndpoint": {"targetUri": "unix:x"}}]}}),
            ),
            "client_validation_ca must be empty",
        ),
        (
            reject(json!({"mtlsPolicy": {"clientValidationRelaxations": ["ALLOW_MISSING_EKU"]}})),
            "Relaxations need the mode",
        ),
        (mtls("REJECT_INVALID", Some("t")), "Must be of the form"),
        (
            mtls("REJECT_INVALID", Some("projects/demo/locations/global/trustConfigs/t")),
            "must be in the project and location of the policy",
        ),
        (mtls("REJECT_INVALID", Some(&format!("{TRUST}2"))), "trustConfigs/t2' was not found"),
        (json!({"mtlsPolicy": {"clientValidationTrustConfig": TRUST}}), "client_validation_mode is required"),
    ] {
        let error = create(&world, "p", body.clone()).unwrap_err().to_string();
        assert!(error.contains(text), "{body}: {error}");
    }
    assert!(matches!(create(&world, "allow", json!({})), Err(Error::AlreadyExists { .. })));
    for id in ["1a", "", "a b", &"x".repeat(64)] {
        assert!(matches!(create(&world, id, json!({})), Err(Error::BadRequest { .. })), "{id}");
    }
    let nowhere = Place { location: "moon-1", ..HERE };
    let made = world.control.located().create(&SERVER_TLS_POLICIES, nowhere, "p", Document::new());
    assert!(matches!(made, Err(Error::NotFound { .. })));
}

#[test]
fn trust_configs_hold_certificates() {
    let world = World::new();
    let located = world.control.located();
    let (one, two) = (pem(), pem() + &pem());
    let long = format!("{one}{}", "#".repeat(5 * 1024));
    let create = |body: Value| located.create(&TRUST_CONFIGS, HERE, "x", doc(body));
    let store = json!({ "trustAnchors": [] });
    for (body, text) in [
        (trust(&["nonsense".into()]), "trust_anchors[0].pem_certificate': ''. It is not a certificate"),
        (trust(&[one.clone(), two]), "trust_anchors[1].pem_certificate': ''. There must be exactly one"),
        (trust(&[long]), "longer than 5 kB"),
        (json!({ "trustStores": [store, store] }), "Only one trust store is allowed"),
        (json!({ "spiffeTrustStores": { "td": store } }), "is not supported"),
        (
            json!({ "allowlistedCertificates": vec![json!({ "pemCertificate": one }); 501] }),
            "at most 500 certificates",
        ),
    ] {
        let error = create(body).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    create(trust(&[one])).unwrap();
    let before = located.get(&TRUST_CONFIGS, HERE, "x").unwrap();
    let patch = |etag: &str| {
        let body = json!({ "description": "d", "etag": etag });
        located.patch(&TRUST_CONFIGS, HERE, "x", doc(body), Some("description"))
    };
    assert!(matches!(patch("stale"), Err(Error::Aborted { .. })));
    patch(before["etag"].as_str().unwrap()).unwrap();
    let after = located.get(&TRUST_CONFIGS, HERE, "x").unwrap();
    assert_eq!((&after["trustStores"], &after["description"]), (&before["trustStores"], &json!("d")));
    assert_ne!(after["etag"], before["etag"]);
    let operations = located.operations(HERE);
    assert_eq!(operations.len(), 2);
    assert!(operations.iter().all(|operation| operation["done"] == true));
}

#[test]
fn a_proxy_holds_on_to_its_policy() {
    let world = world();
    let region = "regions/us-central1";
    world.insert(
        &format!("{region}/backendServices"),
        json!({"name": "b", "loadBalancingScheme": "INTERNAL_MANAGED"}),
    );
    world.insert(&format!("{region}/urlMaps"), json!({"name": "m", "defaultService": "b"}));
    let made = rcgen::generate_simple_self_signed(vec!["c.example".to_owned()]).unwrap();
    let body =
        json!({"name": "c", "certificate": made.cert.pem(), "privateKey": made.signing_key.serialize_pem()});
    world.insert(&format!("{region}/sslCertificates"), body);
    create(&world, "p", mtls("REJECT_INVALID", Some(TRUST))).unwrap();
    create(&world, "mesh", json!({})).unwrap();
    let located = world.control.located();
    let global = Place { location: "global", ..HERE };
    let allow = mtls("ALLOW_INVALID_OR_MISSING_CLIENT_CERT", None);
    located.create(&SERVER_TLS_POLICIES, global, "p", doc(allow)).unwrap();
    let proxy = |policy: &str| {
        let body = json!({"name": "x", "urlMap": "m", "sslCertificates": ["c"], "serverTlsPolicy": policy});
        world.try_insert(&format!("{region}/targetHttpsProxies"), body)
    };
    let policy =
        |location: &str, id: &str| format!("projects/demo/locations/{location}/serverTlsPolicies/{id}");
    for (policy, text) in [
        ("p".to_owned(), "Must be of the form"),
        (policy("global", "p"), "must be in the project and region of the target proxy"),
        (policy("us-central1", "mesh"), "must have an mtlsPolicy with a clientValidationMode"),
        (policy("us-central1", "none"), "was not found"),
    ] {
        let error = proxy(&policy).unwrap_err().to_string();
        assert!(error.contains(text), "{policy}: {error}");
    }
    let name = policy("us-central1", "p");
    proxy(&format!("https://networksecurity.googleapis.com/v1/{name}")).unwrap();
    let path = format!("{region}/targetHttpsProxies/x");
    assert_eq!(world.get(&path)["serverTlsPolicy"], format!("//networksecurity.googleapis.com/{name}"));
    let delete = || located.delete(&SERVER_TLS_POLICIES, HERE, "p", None);
    let error = delete().unwrap_err().to_string();
    assert!(
        error.contains("is being used by 'projects/demo/regions/us-central1/targetHttpsProxies/x'"),
        "{error}"
    );
    let lax = located.patch(&SERVER_TLS_POLICIES, HERE, "p", Document::new(), Some("mtlsPolicy"));
    assert!(matches!(lax, Err(Error::BadRequest { .. })), "an attached policy stays one of load balancers");
    world.try_patch_now(&path, json!({ "serverTlsPolicy": null })).unwrap();
    assert_eq!(world.get(&path).get("serverTlsPolicy"), None);
    delete().unwrap();
}
