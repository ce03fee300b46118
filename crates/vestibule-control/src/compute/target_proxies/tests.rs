use serde_json::{Value, json};

use crate::Error;
use crate::compute::testing::World;

const HTTP: &str = "regions/us-central1/targetHttpProxies";
const HTTPS: &str = "regions/us-central1/targetHttpsProxies";
const LINK: &str = "https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1";

fn world() -> World {
    let world = World::new();
    world.insert(
        "regions/us-central1/backendServices",
        json!({"name": "b", "loadBalancingScheme": "INTERNAL_MANAGED"}),
    );
    for name in ["m", "other"] {
        world.insert("regions/us-central1/urlMaps", json!({"name": name, "defaultService": "b"}));
    }
    for name in ["c1", "c2"] {
        let made = rcgen::generate_simple_self_signed(vec![format!("{name}.example")]).unwrap();
        let body = json!({"name": name, "certificate": made.cert.pem(), "privateKey": made.signing_key.serialize_pem()});
        world.insert("regions/us-central1/sslCertificates", body);
    }
    world
}

fn without_varying(mut doc: Value) -> Value {
    for varying in ["id", "creationTimestamp", "fingerprint"] {
        doc.as_object_mut().unwrap().remove(varying).unwrap();
    }
    doc
}

#[test]
fn an_http_proxy_reads_back_as_googles() {
    let world = world();
    world.insert(HTTP, json!({"name": "p", "urlMap": "projects/demo/regions/us-central1/urlMaps/m"}));
    assert_eq!(
        without_varying(world.get(&format!("{HTTP}/p"))),
        json!({
            "kind": "compute#targetHttpProxy",
            "name": "p",
            "region": LINK,
            "selfLink": format!("{LINK}/targetHttpProxies/p"),
            "urlMap": format!("{LINK}/urlMaps/m"),
        })
    );
}

#[test]
fn an_https_proxy_reads_back_as_googles() {
    let world = world();
    world.insert(
        HTTPS,
        json!({"name": "p", "urlMap": "m", "sslCertificates": ["c2", "c1"], "serverTlsPolicy": null}),
    );
    assert_eq!(
        without_varying(world.get(&format!("{HTTPS}/p"))),
        json!({
            "kind": "compute#targetHttpsProxy",
            "name": "p",
            "quicOverride": "NONE",
            "region": LINK,
            "selfLink": format!("{LINK}/targetHttpsProxies/p"),
            "sslCertificates": [format!("{LINK}/sslCertificates/c2"), format!("{LINK}/sslCertificates/c1")],
            "tlsEarlyData": "DISABLED",
            "urlMap": format!("{LINK}/urlMaps/m"),
        })
    );
}

#[test]
fn map_and_certificates_are_exchanged() {
    let world = world();
    world.insert(HTTP, json!({"name": "p", "urlMap": "m"}));
    world.insert(HTTPS, json!({"name": "s", "urlMap": "m", "sslCertificates": ["c1"]}));
    let map = "http://127.0.0.1:1/compute/v1/projects/demo/regions/us-central1/urlMaps/other";
    for path in [format!("{HTTP}/p"), format!("{HTTPS}/s")] {
        let operation = world.act(&path, "setUrlMap", json!({"urlMap": map, "serverTlsPolicy": null}));
        assert_eq!(operation["operationType"], "setUrlMap");
        assert_eq!(world.get(&path)["urlMap"], format!("{LINK}/urlMaps/other"));
        assert!(world.try_act(&path, "setUrlMap", json!({})).is_err());
        assert!(matches!(
            world.try_act(&path, "setUrlMap", json!({"urlMap": "nope"})),
            Err(Error::NotFound { .. })
        ));
    }
    let path = format!("{HTTPS}/s");
    let operation = world.act(&path, "setSslCertificates", json!({"sslCertificates": ["c2", "c1"]}));
    assert_eq!(operation["operationType"], "setSslCertificates");
    assert_eq!(
        world.get(&path)["sslCertificates"],
        json!([format!("{LINK}/sslCertificates/c2"), format!("{LINK}/sslCertificates/c1")])
    );
    assert!(world.try_act(&path, "setSslCertificates", json!({"sslCertificates": []})).is_err());
    assert_eq!(
        world.try_patch_now(&path, json!({"httpKeepAliveTimeoutSec": 60})).unwrap()["operationType"],
        "patch"
    );
    assert_eq!(world.get(&path)["httpKeepAliveTimeoutSec"], 60);
    assert!(matches!(
        world.try_patch(&path, json!({"description": "x"})),
        Err(Error::ConditionNotMet { .. })
    ));
    let patched = world.try_patch(&format!("{HTTP}/p"), json!({"description": "x"}));
    assert!(matches!(patched, Err(Error::NotImplemented { .. })), "{patched:?}");
}

#[test]
fn what_is_used_stays() {
    let world = world();
    world.insert(HTTPS, json!({"name": "s", "urlMap": "m", "sslCertificates": ["c1"]}));
    assert_eq!(
        world.try_delete("regions/us-central1/urlMaps/m").unwrap_err().to_string(),
        "The url_map resource 'projects/demo/regions/us-central1/urlMaps/m' is already being used by \
         'projects/demo/regions/us-central1/targetHttpsProxies/s'"
    );
    assert_eq!(
        world.try_delete("regions/us-central1/sslCertificates/c1").unwrap_err().to_string(),
        "The ssl_certificate resource 'projects/demo/regions/us-central1/sslCertificates/c1' is already being used by \
         'projects/demo/regions/us-central1/targetHttpsProxies/s'"
    );
    world.act(&format!("{HTTPS}/s"), "setSslCertificates", json!({"sslCertificates": ["c2"]}));
    world.delete("regions/us-central1/sslCertificates/c1");
    world.delete(&format!("{HTTPS}/s"));
    world.delete("regions/us-central1/urlMaps/m");
}

#[test]
fn what_is_refused() {
    let world = world();
    for (parent, body, text) in [
        (HTTP, json!({"name": "p"}), "Required field 'resource.urlMap' not specified"),
        (
            HTTPS,
            json!({"name": "p", "sslCertificates": ["c1"]}),
            "Required field 'resource.urlMap' not specified",
        ),
        (
            HTTPS,
            json!({"name": "p", "urlMap": "m"}),
            "Required field 'resource.sslCertificates' not specified",
        ),
        (
            HTTPS,
            json!({"name": "p", "urlMap": "m", "sslCertificates": ["nope"]}),
            "The resource 'projects/demo/regions/us-central1/sslCertificates/nope' was not found",
        ),
        (
            HTTP,
            json!({"name": "p", "urlMap": "m", "httpKeepAliveTimeoutSec": 4}),
            "Invalid value for field 'resource.httpKeepAliveTimeoutSec': '4'.",
        ),
        (
            HTTP,
            json!({"name": "p", "urlMap": "regions/us-central1/backendServices/b"}),
            "Invalid value for field 'resource.urlMap'",
        ),
        (
            HTTPS,
            json!({"name": "p", "urlMap": "m", "sslCertificates": ["c1"], "quicOverride": "MAYBE"}),
            "Invalid value for field 'resource.quicOverride': 'MAYBE'.",
        ),
        (
            HTTPS,
            json!({"name": "p", "urlMap": "m", "sslCertificates": vec!["c1"; 16]}),
            "Value for field 'resource.sslCertificates' is too large",
        ),
    ] {
        let error = world.try_insert(parent, body.clone()).unwrap_err().to_string();
        assert!(error.starts_with(text), "{body}: {error}");
    }
    let managed = json!({"name": "p", "urlMap": "m", "sslCertificates": [
        "https://certificatemanager.googleapis.com/v1/projects/demo/locations/global/certificates/x",
    ]});
    assert!(matches!(world.try_insert(HTTPS, managed), Err(Error::NotBuilt { .. })));
    assert!(matches!(
        world.try_insert("global/targetHttpProxies", json!({"name": "p", "urlMap": "m"})),
        Err(Error::NotImplemented { .. })
    ));
}

#[test]
fn a_policy_is_attached_and_detached() {
    let world = world();
    world.insert("global/sslPolicies", json!({"name": "g"}));
    world.insert("regions/us-central1/sslPolicies", json!({"name": "modern", "profile": "MODERN"}));
    let with =
        |policy: &str| json!({"name": "s", "urlMap": "m", "sslCertificates": ["c1"], "sslPolicy": policy});
    let error = world.try_insert(HTTPS, with("global/sslPolicies/g")).unwrap_err().to_string();
    assert!(error.contains("must be in the project and region"), "{error}");
    assert!(matches!(world.try_insert(HTTPS, with("nope")), Err(Error::NotFound { .. })));
    world.insert(HTTPS, with("modern"));
    let path = format!("{HTTPS}/s");
    assert_eq!(world.get(&path)["sslPolicy"], format!("{LINK}/sslPolicies/modern"));
    let error = world.try_delete("regions/us-central1/sslPolicies/modern").unwrap_err().to_string();
    assert!(
        error.starts_with("The ssl_policy resource 'projects/demo/regions/us-central1/sslPolicies/modern'")
    );
    world.try_patch_now(&path, json!({"sslPolicy": null})).unwrap();
    assert!(world.get(&path).get("sslPolicy").is_none());
    world.delete("regions/us-central1/sslPolicies/modern");
}
