use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::name::Name;
use crate::rdata::kind;
use crate::wire::{self, Rcode, Writer};

const ASKER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

fn exchange(name: &str, records: usize, rcode: Rcode) -> Exchange {
    let message = wire::write_query(7, &name.parse().unwrap(), kind::A);
    let query = wire::read_query(&message).unwrap();
    let mut answer = Vec::new();
    let mut writer = Writer::new(&query, 4096, &mut answer);
    for n in 0..records {
        let record = wire::Record {
            name: Name::from_wire(&query.name),
            kind: kind::A,
            class: 1,
            ttl: 60,
            data: vec![10, 0, 0, n as u8],
        };
        writer.answer(record.name.wire(), &record.rest());
    }
    writer.finish(true, rcode);
    Exchange {
        network: NetworkId::new("demo", "net"),
        entry: Entry::Machines,
        source: Some(ASKER),
        region: Some("us-central1".into()),
        transport: Transport::Udp,
        origin: Some(Origin::new(Origin::PRIVATE_ZONE, &"zone".into())),
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        message: message.clone().into(),
        answer: answer.into(),
        server: None,
        translated: false,
    }
}

fn entry(exchange: &Exchange) -> Option<Value> {
    let machine = Machine {
        id: 2_838_092_002_611_613_780,
        name: "vm-1".into(),
        zone: "us-central1-a".into(),
        project: "demo".into(),
        project_number: "228025391384".into(),
    };
    let who = move |_: &NetworkId, address: Ipv4Addr| (address == ASKER).then(|| machine.clone());
    let mut out = Vec::new();
    let done = exchange.at + Duration::from_micros(4200);
    entry::write(&mut out, exchange, done, &mut TimeWriter::new(), &who)?;
    Some(serde_json::from_slice(&out).unwrap())
}

#[test]
fn an_entry_has_the_shape_of_googles() {
    assert_eq!(
        entry(&exchange("api.example.com.", 1, Rcode::NoError)).unwrap(),
        json!({
            "logName": "projects/demo/logs/dns.googleapis.com%2Fdns_queries",
            "resource": {
                "type": "dns_query",
                "labels": {
                    "project_id": "demo", "location": "us-central1", "source_type": "gce-vm",
                    "target_type": "private-zone", "target_name": "zone",
                },
            },
            "severity": "INFO",
            "timestamp": "2023-11-14T22:13:20.000000000Z",
            "jsonPayload": {
                "queryName": "api.example.com.", "queryType": "A", "responseCode": "NOERROR", "authAnswer": true,
                "rdata": "api.example.com.\t60\tIN\ta\t10.0.0.0", "protocol": "UDP", "sourceIP": "10.0.0.7",
                "sourceNetwork": "net", "serverLatency": 4, "dns64Translated": false,
                "vmInstanceId": 2_838_092_002_611_613_780_u64, "vmInstanceIdString": "2838092002611613780",
                "vmInstanceName": "228025391384.vm-1", "vmProjectId": "demo", "vmZoneName": "us-central1-a",
            },
        })
    );
}

#[test]
fn other_askers_and_answers() {
    let mut inbound = exchange("nobody.example.com.", 0, Rcode::NxDomain);
    inbound.entry = Entry::Forwarder(Ipv4Addr::new(10, 0, 0, 2));
    inbound.source = Some(Ipv4Addr::new(10, 9, 9, 9));
    inbound.region = None;
    inbound.server = Some(Ipv4Addr::new(192, 0, 2, 1).into());
    let told = entry(&inbound).unwrap();
    assert_eq!((&told["severity"], &told["jsonPayload"]["rdata"]), (&json!("NOTICE"), &json!("")));
    let labels = &told["resource"]["labels"];
    assert_eq!(
        (&labels["source_type"], &labels["location"]),
        (&json!("inbound-forwarding"), &json!("global"))
    );
    assert_eq!(told["jsonPayload"]["destinationIP"], "192.0.2.1");
    assert_eq!(told["jsonPayload"].get("vmInstanceId"), None, "nobody knows a machine there");
    let failed = entry(&exchange("x.", 0, Rcode::ServFail)).unwrap();
    assert_eq!(failed["severity"], "ERROR");
    let many = entry(&exchange("many.example.com.", 40, Rcode::NoError)).unwrap();
    let text = many["jsonPayload"]["rdata"].as_str().unwrap();
    assert!(text.len() == 260 && text.ends_with("..."), "{text}");
    let nothing = Exchange { message: Box::new([1, 2, 3]), ..exchange("x.", 0, Rcode::NoError) };
    assert_eq!(entry(&nothing), None);
}
