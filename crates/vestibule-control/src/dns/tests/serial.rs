//! The serial number rises with every change of records.

use super::*;

/// The serial number that the API tells, which the resolver must answer too.
fn serial(cloud: &Cloud) -> u32 {
    let set = cloud.dns().set(PROJECT, "z", "example.com.", "SOA").unwrap();
    let told: u32 = set["rrdatas"][0].as_str().unwrap().split(' ').nth(2).unwrap().parse().unwrap();
    let data = cloud.ask("n", "example.com", "SOA").records[0].data.clone();
    assert_eq!(data[data.len() - 20..][..4], told.to_be_bytes());
    told
}

fn soa(serial: u32) -> Value {
    let mut soa = set("example.com.", "SOA", &[&SOA.replace(" 1 ", &format!(" {serial} "))]);
    soa["ttl"] = json!(21600);
    soa
}

#[test]
fn every_way_to_change_records_counts() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    assert_eq!(serial(&cloud), 1);
    cloud.add("z", "a.example.com.", "A", &["10.0.0.1"]).unwrap();
    assert_eq!(serial(&cloud), 2);
    let patch = members(json!({ "ttl": 60 }));
    cloud.dns().patch_set(PROJECT, "z", "a.example.com.", "A", patch).unwrap();
    assert_eq!(serial(&cloud), 3);
    cloud.change("z", json!({ "additions": [set("b.example.com.", "A", &["10.0.0.2"]), set("c.example.com.", "A", &["10.0.0.3"])] })).unwrap();
    assert_eq!(serial(&cloud), 4, "a change of several sets is one change");
    cloud.dns().delete_set(PROJECT, "z", "a.example.com.", "A").unwrap();
    assert_eq!(serial(&cloud), 5);
    let gone = cloud.dns().delete_set(PROJECT, "z", "a.example.com.", "A");
    assert!(gone.is_err() && serial(&cloud) == 5, "what was refused is no change");
    cloud.dns().change_zone(PROJECT, "z", &ME, members(json!({ "description": "x" })), false).unwrap();
    assert_eq!(serial(&cloud), 5, "nor is what touches no record");
    let negative = cloud.ask("n", "nope.example.com", "A").authority.unwrap().data;
    assert_eq!(negative[negative.len() - 20..][..4], 5u32.to_be_bytes(), "of the zone as it is now");
}

#[test]
fn who_sets_the_serial_number_has_it_so() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    let body = json!({ "deletions": [soa(1)], "additions": [soa(u32::MAX), set("a.example.com.", "A", &["10.0.0.1"])] });
    cloud.change("z", body).unwrap();
    assert_eq!(serial(&cloud), u32::MAX);
    cloud.add("z", "b.example.com.", "A", &["10.0.0.1"]).unwrap();
    assert_eq!(serial(&cloud), 0, "after the greatest comes the least");
    let patch = members(json!({ "rrdatas": [SOA.replace(" 1 ", " 77 ")] }));
    cloud.dns().patch_set(PROJECT, "z", "example.com.", "SOA", patch).unwrap();
    assert_eq!(serial(&cloud), 77);
}

/// As `gcloud dns record-sets transaction` notices it.
#[test]
fn a_transaction_that_somebody_overtook_is_refused() {
    let cloud = Cloud::new();
    cloud.zone("z", "example.com.");
    let mine =
        json!({ "deletions": [soa(1)], "additions": [soa(2), set("mine.example.com.", "A", &["10.0.0.1"])] });
    cloud.add("z", "theirs.example.com.", "A", &["10.0.0.2"]).unwrap();
    assert_eq!(text(cloud.change("z", mine)), "Precondition not met for 'entity.change.deletions[0]'");
    assert_eq!(cloud.address("n", "mine.example.com"), None);
}
