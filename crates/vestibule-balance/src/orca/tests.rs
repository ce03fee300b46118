use super::*;
use proptest::prelude::*;

fn named(name: &str, value: f64) -> Vec<(String, f64)> {
    vec![(name.to_owned(), value)]
}

/// The bytes of `{cpu_utilization: 0.5, rps_fractional: 20, named_metrics: {"q": 0.25}}` as protobuf writes them, with an
/// unknown varint, an unknown fixed32 and `request_cost: {"x": 1}` between.
fn message() -> Vec<u8> {
    let mut bytes = vec![0x09];
    bytes.extend(0.5_f64.to_le_bytes());
    bytes.extend([0x18, 0xac, 0x02]);
    bytes.extend([0x7d, 1, 2, 3, 4]);
    bytes.extend([0x22, 0x0c, 0x0a, 0x01, b'x', 0x11]);
    bytes.extend(1.0_f64.to_le_bytes());
    bytes.push(0x31);
    bytes.extend(20.0_f64.to_le_bytes());
    bytes.extend([0x42, 0x0c, 0x0a, 0x01, b'q', 0x11]);
    bytes.extend(0.25_f64.to_le_bytes());
    bytes
}

#[test]
fn three_spellings_say_the_same() {
    let expected = Report {
        cpu_utilization: 0.5,
        rps_fractional: 20.0,
        named_metrics: named("q", 0.25),
        ..Report::default()
    };
    let binary = format!("BIN {}", STANDARD.encode(message()));
    for text in [
        "TEXT cpu_utilization=0.5, rps_fractional=20,named_metrics.q=0.25,request_cost.x=1",
        r#"JSON {"cpu_utilization": 0.5, "rps_fractional": 20, "named_metrics": {"q": 0.25}, "request_cost": {"x": 1}}"#,
        r#"JSON {"cpuUtilization": 0.5, "rpsFractional": 20.0, "namedMetrics": {"q": 0.25}}"#,
        binary.as_str(),
    ] {
        assert_eq!(Report::parse(text.as_bytes()), Some(expected.clone()), "{text}");
    }
}

#[test]
fn what_no_load_can_be_is_no_report() {
    for text in [
        "",
        "TEXT",
        "cpu_utilization=0.5",
        "TEXT cpu_utilization",
        "TEXT cpu_utilization=lots",
        "TEXT cpu_utilization=-1",
        "TEXT cpu_utilization=NaN",
        "TEXT cpu_utilization=inf",
        "TEXT named_metrics.q=-1",
        "JSON [1]",
        "JSON {",
        r#"JSON {"cpu_utilization": "0.5"}"#,
        "BIN not base64",
        "BIN CQ==",
        "XML <cpu/>",
    ] {
        assert_eq!(Report::parse(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn the_fullest_of_the_metrics_counts() {
    let report = Report::parse(b"TEXT cpu_utilization=0.3,mem_utilization=0.8,named_metrics.q=0.5").unwrap();
    let by = |names: &[&str]| {
        let metrics: Vec<Metric> = names.iter().map(|name| Metric::parse(name)).collect();
        report.utilization(&metrics)
    };
    assert_eq!(by(&[]), Some(0.3), "without metrics the CPU counts, and memory does not");
    assert_eq!(by(&["orca.named_metrics.q"]), Some(0.5));
    assert_eq!(by(&["q", "orca.cpu_utilization"]), Some(0.5));
    assert_eq!(by(&["orca.mem_utilization", "q"]), Some(0.8));
    assert_eq!(by(&["orca.application_utilization"]), None);
    let said = Report::parse(b"TEXT cpu_utilization=0.3,application_utilization=0.1").unwrap();
    assert_eq!(said.utilization(&[]), Some(0.1), "what the program says of itself goes before its CPU");
}

proptest! {
    #[test]
    fn nothing_a_backend_says_does_harm(bytes: Vec<u8>, kind in 0..3_usize) {
        let mut value = [&b"TEXT "[..], b"JSON ", b"BIN "][kind].to_vec();
        match kind {
            2 => value.extend(STANDARD.encode(&bytes).into_bytes()),
            _ => value.extend(&bytes),
        }
        if let Some(report) = Report::parse(&value) {
            prop_assert!(report.cpu_utilization >= 0.0 && report.cpu_utilization.is_finite());
            prop_assert!(report.named_metrics.len() <= MOST_NAMED);
        }
    }

    #[test]
    fn a_message_may_end_anywhere(cut in 0..60_usize) {
        let whole = message();
        let _ = message::read(&whole[..cut.min(whole.len())]);
    }
}
