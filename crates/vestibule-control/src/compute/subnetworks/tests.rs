use serde_json::json;

use crate::Error;
use crate::compute::testing::World;

const SUBNETS: &str = "regions/us-central1/subnetworks";

fn world() -> World {
    let world = World::new();
    world.network("n");
    world
}

#[test]
fn a_minimal_subnetwork_reads_back_as_googles() {
    let world = world();
    world.subnetwork("s", "n", "10.0.0.0/24");
    let doc = world.get("regions/us-central1/subnetworks/s");
    for (field, value) in [
        ("gatewayAddress", json!("10.0.0.1")),
        ("ipCidrRange", json!("10.0.0.0/24")),
        ("kind", json!("compute#subnetwork")),
        ("network", json!("https://www.googleapis.com/compute/v1/projects/demo/global/networks/n")),
        ("privateIpGoogleAccess", json!(false)),
        ("privateIpv6GoogleAccess", json!("DISABLE_GOOGLE_ACCESS")),
        ("purpose", json!("PRIVATE")),
        ("region", json!("https://www.googleapis.com/compute/v1/projects/demo/regions/us-central1")),
        ("stackType", json!("IPV4_ONLY")),
        ("state", json!("READY")),
    ] {
        assert_eq!(doc[field], value, "{field}");
    }
    assert!(doc["fingerprint"].is_string());
    assert!(doc.get("role").is_none() && doc.get("secondaryIpRanges").is_none());
    let network = world.get("global/networks/n");
    assert_eq!(network["subnetworks"], json!([doc["selfLink"]]));
}

#[test]
fn bad_ranges_are_refused() {
    let world = world();
    for (range, why) in [
        ("10.0.5.0/33", "Must be an IPv4 address range in CIDR notation."),
        ("10.0.0.5/24", "The address must be the first one of the range: bits beyond the prefix are set."),
        ("10.0.0.0/30", "The prefix length must be between 4 and 29."),
        ("127.0.0.0/16", "The range overlaps 127.0.0.0/8, which a VPC cannot use."),
        ("169.254.0.0/24", "The range overlaps 169.254.0.0/16, which a VPC cannot use."),
        ("199.36.153.0/24", "The range overlaps 199.36.153.4/30, which a VPC cannot use."),
        ("224.0.0.0/8", "The range overlaps 224.0.0.0/4, which a VPC cannot use."),
        ("0.0.0.0/8", "The range overlaps 0.0.0.0/8, which a VPC cannot use."),
    ] {
        let error = world.try_subnetwork("s", "n", range).unwrap_err();
        assert_eq!(error, Error::invalid("resource.ipCidrRange", range, why), "{range}");
    }
    for range in ["10.0.0.0/29", "100.64.0.0/10", "192.0.2.0/24", "240.0.0.0/8", "8.8.8.0/24"] {
        world.subnetwork("s", "n", range);
        world.delete("regions/us-central1/subnetworks/s");
    }
}

#[test]
fn overlaps_are_refused_with_googles_text() {
    let world = world();
    let body = json!({
        "name": "subnet-01", "network": "global/networks/n", "ipCidrRange": "10.0.0.0/24",
        "secondaryIpRanges": [{"rangeName": "pods", "ipCidrRange": "10.1.0.0/16"}],
    });
    world.insert("regions/us-west1/subnetworks", body);
    for range in ["10.0.0.0/24", "10.0.0.128/25", "10.0.0.0/16", "10.1.2.0/24"] {
        assert_eq!(
            world.try_subnetwork("other", "n", range).unwrap_err().to_string(),
            format!(
                "Invalid value for field 'resource.ipCidrRange': '{range}'. Invalid IPCidrRange: {range} conflicts \
                 with existing subnetwork 'subnet-01' in region 'us-west1'."
            )
        );
    }
    let body = json!({
        "name": "other", "network": "global/networks/n", "ipCidrRange": "10.2.0.0/24",
        "secondaryIpRanges": [{"rangeName": "pods", "ipCidrRange": "10.0.0.0/24"}],
    });
    assert_eq!(
        world.try_insert(SUBNETS, body).unwrap_err().to_string(),
        "Invalid value for field 'resource.secondaryIpRanges[0].ipCidrRange': '10.0.0.0/24'. Invalid IPCidrRange: \
         10.0.0.0/24 conflicts with existing subnetwork 'subnet-01' in region 'us-west1'."
    );
    world.network("m");
    world.subnetwork("other", "m", "10.0.0.0/24");
}

#[test]
fn auto_mode_networks_keep_their_space() {
    let world = World::new();
    world.insert("global/networks", json!({"name": "auto", "autoCreateSubnetworks": true}));
    assert_eq!(
        world.try_subnetwork("s", "auto", "10.200.0.0/16").unwrap_err().to_string(),
        "Invalid value for field 'resource.ipCidrRange': '10.200.0.0/16'. Extended subnetworks in auto subnet mode \
         networks cannot overlap with 10.128.0.0/9."
    );
    world.subnetwork("s", "auto", "10.1.0.0/16");
    let grow = |range| {
        let path = "regions/us-central1/subnetworks/auto";
        world.try_act(path, "expandIpCidrRange", json!({ "ipCidrRange": range }))
    };
    assert!(matches!(grow("10.128.0.0/15"), Err(Error::Invalid { .. })));
    grow("10.128.0.0/16").unwrap();
}

#[test]
fn a_network_must_be_named_and_exist() {
    let world = world();
    let body = json!({"name": "s", "ipCidrRange": "10.0.0.0/24"});
    assert_eq!(world.try_insert(SUBNETS, body).unwrap_err(), Error::required("resource.network"));
    assert_eq!(
        world.try_subnetwork("s", "nope", "10.0.0.0/24").unwrap_err(),
        Error::not_found("projects/demo/global/networks/nope")
    );
    let body = json!({"name": "s", "network": "global/networks/n"});
    assert_eq!(world.try_insert(SUBNETS, body).unwrap_err(), Error::required("resource.ipCidrRange"));
}

#[test]
fn every_spelling_of_the_network_is_read_and_stored_as_one() {
    let world = world();
    for (at, spelling) in [
        "global/networks/n",
        "projects/demo/global/networks/n",
        "https://www.googleapis.com/compute/v1/projects/demo/global/networks/n",
        "http://127.0.0.1:8470/compute/v1/projects/demo/global/networks/n",
        "n",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("s{at}");
        let body = json!({"name": name, "network": spelling, "ipCidrRange": format!("10.{at}.0.0/24")});
        world.insert(SUBNETS, body);
        let stored = world.get(&format!("{SUBNETS}/{name}"));
        assert_eq!(
            stored["network"],
            "https://www.googleapis.com/compute/v1/projects/demo/global/networks/n"
        );
    }
}

#[test]
fn a_patch_needs_the_current_fingerprint() {
    let world = world();
    world.subnetwork("s", "n", "10.0.0.0/24");
    let path = "regions/us-central1/subnetworks/s";
    let stale = world.get(path)["fingerprint"].clone();
    assert!(matches!(world.try_patch(path, json!({"description": "a"})), Err(Error::ConditionNotMet { .. })));
    world.patch(path, json!({"description": "a", "fingerprint": stale}));
    assert_ne!(world.get(path)["fingerprint"], stale);
    assert!(matches!(
        world.try_patch(path, json!({"description": "b", "fingerprint": stale})),
        Err(Error::ConditionNotMet { .. })
    ));
    assert_eq!(world.get(path)["description"], "a");
}

#[test]
fn secondary_ranges_are_patched_as_a_whole() {
    let world = world();
    world.subnetwork("s", "n", "10.0.0.0/24");
    world.subnetwork("t", "n", "10.9.0.0/24");
    let path = "regions/us-central1/subnetworks/s";
    let two = json!([
        {"rangeName": "pods", "ipCidrRange": "10.1.0.0/16"},
        {"rangeName": "services", "ipCidrRange": "10.2.0.0/20"},
    ]);
    world.try_patch_now(path, json!({"secondaryIpRanges": two})).unwrap();
    assert_eq!(world.get(path)["secondaryIpRanges"], two);
    for bad in [
        json!([{"rangeName": "pods", "ipCidrRange": "10.9.0.0/24"}]),
        json!([{"rangeName": "pods", "ipCidrRange": "10.0.0.0/28"}]),
        json!([{"rangeName": "a", "ipCidrRange": "10.3.0.0/24"}, {"rangeName": "a", "ipCidrRange": "10.4.0.0/24"}]),
        json!([{"rangeName": "a", "ipCidrRange": "10.3.0.0/24"}, {"rangeName": "b", "ipCidrRange": "10.3.0.0/25"}]),
        json!([{"ipCidrRange": "10.3.0.0/24"}]),
    ] {
        let refused = world.try_patch_now(path, json!({"secondaryIpRanges": bad}));
        assert!(refused.is_err(), "{bad}");
    }
    world.try_patch_now(path, json!({"secondaryIpRanges": []})).unwrap();
    assert_eq!(world.get(path)["secondaryIpRanges"], json!([]));
}

#[test]
fn what_cannot_be_patched() {
    let world = world();
    world.network("m");
    world.subnetwork("s", "n", "10.0.0.0/24");
    let path = "regions/us-central1/subnetworks/s";
    for patch in [
        json!({"ipCidrRange": "10.0.0.0/20"}),
        json!({"network": "global/networks/m"}),
        json!({"purpose": "REGIONAL_MANAGED_PROXY"}),
        json!({"role": "ACTIVE"}),
    ] {
        assert!(matches!(world.try_patch_now(path, patch.clone()), Err(Error::Invalid { .. })), "{patch}");
    }
    // The same network in another spelling is no change, and server fields are ignored.
    let patch =
        json!({"network": "global/networks/n", "gatewayAddress": "1.2.3.4", "id": "7", "state": "DRAINING"});
    world.try_patch_now(path, patch).unwrap();
    assert_eq!(world.get(path)["gatewayAddress"], "10.0.0.1");
    assert_eq!(world.get(path)["state"], "READY");
}

#[test]
fn a_range_grows_but_never_shrinks_or_moves() {
    let world = world();
    world.subnetwork("s", "n", "10.0.4.0/24");
    world.subnetwork("t", "n", "10.0.64.0/24");
    let path = "regions/us-central1/subnetworks/s";
    for bad in ["10.0.4.0/24", "10.0.4.0/25", "10.0.8.0/22", "10.0.0.0/16", "10.0.0.1/20"] {
        let refused = world.try_act(path, "expandIpCidrRange", json!({"ipCidrRange": bad}));
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{bad}");
    }
    let operation = world.act(path, "expandIpCidrRange", json!({"ipCidrRange": "10.0.0.0/20"}));
    assert_eq!(operation["operationType"], "expandIpCidrRange");
    assert_eq!(world.get(path)["ipCidrRange"], "10.0.0.0/20");
    assert!(world.try_subnetwork("u", "n", "10.0.8.0/24").is_err());
}

#[test]
fn private_google_access_is_switched_off_by_an_empty_body() {
    let world = world();
    world.subnetwork("s", "n", "10.0.0.0/24");
    let path = "regions/us-central1/subnetworks/s";
    let verb = "setPrivateIpGoogleAccess";
    let operation = world.act(path, verb, json!({"privateIpGoogleAccess": true}));
    assert_eq!(operation["operationType"], verb);
    assert_eq!(world.get(path)["privateIpGoogleAccess"], true);
    world.act(path, verb, json!({}));
    assert_eq!(world.get(path)["privateIpGoogleAccess"], false);
}

#[test]
fn flow_logs_read_back_with_their_defaults_and_warn() {
    let world = world();
    let body = json!({
        "name": "s", "network": "global/networks/n", "ipCidrRange": "10.0.0.0/24", "logConfig": {"enable": false},
    });
    assert!(world.insert(SUBNETS, body).get("warnings").is_none());
    let path = "regions/us-central1/subnetworks/s";
    assert_eq!(world.get(path)["logConfig"], json!({"enable": false}));
    let operation = world.try_patch_now(path, json!({"logConfig": {"enable": true}})).unwrap();
    assert_eq!(operation["warnings"][0]["code"], "NOT_CRITICAL_ERROR");
    assert_eq!(world.get(path)["logConfig"]["metadata"], "INCLUDE_ALL_METADATA");
    let refused = world.try_patch_now(path, json!({"logConfig": {"enable": true, "flowSampling": 2}}));
    assert!(matches!(refused, Err(Error::Invalid { .. })));
}

#[test]
fn proxy_only_subnetworks_have_rules_of_their_own() {
    let world = world();
    let body = |extra: serde_json::Value| {
        let mut body = json!({
            "name": "p", "network": "global/networks/n", "ipCidrRange": "10.129.0.0/23",
            "purpose": "REGIONAL_MANAGED_PROXY", "role": "ACTIVE",
        });
        crate::document::merge(body.as_object_mut().unwrap(), crate::compute::testing::members(extra));
        body
    };
    let refused = world.try_insert(SUBNETS, body(json!({"logConfig": {"enable": false}}))).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Invalid value for field 'resource.logConfig': '{  \"enable\": false}'. Invalid field set in subnetwork with \
         purpose REGIONAL_MANAGED_PROXY."
    );
    for extra in [
        json!({"ipCidrRange": "10.129.0.0/27"}),
        json!({"role": "BACKUP"}),
        json!({"role": "OTHER"}),
        json!({"role": null}),
        json!({"secondaryIpRanges": [{"rangeName": "a", "ipCidrRange": "10.1.0.0/24"}]}),
    ] {
        assert!(world.try_insert(SUBNETS, body(extra.clone())).is_err(), "{extra}");
    }
    world.insert(SUBNETS, body(json!({"logConfig": null})));
    let path = "regions/us-central1/subnetworks/p";
    assert_eq!(world.get(path)["role"], "ACTIVE");
    assert!(world.get(path).get("logConfig").is_none());
    assert!(world.try_act(path, "expandIpCidrRange", json!({"ipCidrRange": "10.128.0.0/20"})).is_err());
    assert!(world.try_proxy_only("second", "n", "10.130.0.0/23", "ACTIVE").is_err());
    let legacy = json!({
        "name": "l", "network": "global/networks/n", "ipCidrRange": "10.131.0.0/23",
        "purpose": "INTERNAL_HTTPS_LOAD_BALANCER", "role": "BACKUP",
    });
    assert!(world.try_insert(SUBNETS, legacy).unwrap_err().to_string().contains("cannot coexist"));
    // Another region is another place.
    world.insert("regions/us-east1/subnetworks", body(json!({"name": "q", "ipCidrRange": "10.132.0.0/26"})));
}

#[test]
fn a_backup_takes_over() {
    let world = world();
    world.try_proxy_only("a", "n", "10.129.0.0/23", "ACTIVE").unwrap();
    world.try_proxy_only("b", "n", "10.130.0.0/23", "BACKUP").unwrap();
    let (a, b) = ("regions/us-central1/subnetworks/a", "regions/us-central1/subnetworks/b");
    assert_eq!(
        world.try_delete(a).unwrap_err().to_string(),
        "Invalid resource usage: Cannot delete ACTIVE subnetwork because a BACKUP subnetwork exists."
    );
    assert!(world.try_patch_now(a, json!({"role": "BACKUP"})).is_err());
    let fingerprint = world.get(a)["fingerprint"].clone();
    world.try_patch_now(b, json!({"role": "ACTIVE"})).unwrap();
    assert_eq!((&world.get(a)["role"], &world.get(b)["role"]), (&json!("BACKUP"), &json!("ACTIVE")));
    assert_ne!(world.get(a)["fingerprint"], fingerprint);
    assert_eq!(world.get(a)["state"], "READY");
    world.delete(a);
    world.delete(b);
}

#[test]
fn a_drain_lasts_as_long_as_was_asked() {
    let world = world();
    world.try_proxy_only("a", "n", "10.129.0.0/23", "ACTIVE").unwrap();
    world.try_proxy_only("b", "n", "10.130.0.0/23", "BACKUP").unwrap();
    let (a, b) = ("regions/us-central1/subnetworks/a", "regions/us-central1/subnetworks/b");
    let mut call = crate::compute::testing::call();
    call.parameters.insert("drainTimeoutSeconds".into(), "3600".into());
    let patch = json!({"role": "ACTIVE", "fingerprint": world.get(b)["fingerprint"]});
    let patch = crate::compute::testing::members(patch);
    world.control.compute().patch(&call, &world.name(b), patch).unwrap();
    assert_eq!(world.get(a)["state"], "DRAINING");
    let refused = world.try_patch_now(a, json!({"role": "ACTIVE"})).unwrap_err();
    assert!(refused.to_string().contains("draining"), "{refused}");
    // A subnetwork made anew under the name does not inherit the drain.
    world.delete(a);
    world.try_proxy_only("a", "n", "10.129.0.0/23", "BACKUP").unwrap();
    assert_eq!(world.get(a)["state"], "READY");
}
