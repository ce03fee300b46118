use rcgen::{CertificateParams, DnType, Issuer, KeyPair, SanType, SerialNumber};

use super::*;

fn certificate(shape: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "client");
    params.not_before = rcgen::date_time_ymd(2022, 7, 1);
    params.not_after = rcgen::date_time_ymd(2052, 7, 1);
    params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xff]));
    shape(&mut params);
    params.signed_by(&key, &issuer).unwrap().der().clone()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn value(shown: &ClientCertificate, name: &str) -> String {
    let mut out = Vec::new();
    shown.write(name, &mut out);
    String::from_utf8(out).unwrap()
}

fn shown(chain: Vec<CertificateDer<'static>>, verdict: Result<(), Distrust>) -> ClientCertificate {
    ClientCertificate { chain, verdict, values: OnceCell::new() }
}

#[test]
fn a_trusted_certificate_is_told() {
    let leaf = certificate(|params| {
        params.subject_alt_names = vec![
            uri("spiffe://td.example/ns/a"),
            uri("https://u"),
            SanType::DnsName("d.e".try_into().unwrap()),
        ];
    });
    let told = shown(vec![leaf.clone(), leaf.clone()], Ok(()));
    for (name, wanted) in [
        ("present", "true"),
        ("chain_verified", "true"),
        ("error", ""),
        ("serial_number", "0aff"),
        ("spiffe_id", "spiffe://td.example/ns/a"),
        ("uri_sans", "aHR0cHM6Ly91"),
        ("dnsname_sans", "ZC5l"),
        ("valid_not_before", "2022-07-01T00:00:00+00:00"),
        ("valid_not_after", "2052-07-01T00:00:00+00:00"),
        ("nonsense", ""),
    ] {
        assert_eq!(value(&told, name), wanted, "{name}");
    }
    let encoded = format!(":{}:", STANDARD.encode(&leaf));
    assert_eq!((value(&told, "leaf"), value(&told, "chain")), (encoded.clone(), encoded));
    assert_eq!(value(&told, "sha256_fingerprint").len(), 43);
    let subject = STANDARD_NO_PAD.decode(value(&told, "subject_dn")).unwrap();
    assert!(subject.ends_with(b"client"));
}

#[test]
fn of_others_only_the_fingerprint() {
    let leaf = certificate(|params| params.subject_alt_names = vec![uri("spiffe://td/x")]);
    let told = shown(vec![leaf], Err(Distrust::Failed));
    assert_eq!((value(&told, "present"), value(&told, "chain_verified")), ("true".into(), "false".into()));
    assert_eq!(value(&told, "error"), "client_cert_validation_failed");
    assert_eq!(value(&told, "sha256_fingerprint").len(), 43);
    for name in ["serial_number", "spiffe_id", "subject_dn", "leaf", "chain", "valid_not_after"] {
        assert_eq!(value(&told, name), "", "{name}");
    }
    let none = shown(vec![], Err(Distrust::NotProvided));
    assert_eq!(
        (value(&none, "present"), value(&none, "sha256_fingerprint")),
        ("false".into(), String::new())
    );
    assert_eq!(value(&none, "error"), "client_cert_not_provided");
}

#[test]
fn what_is_too_long_is_left_out_and_named() {
    let leaf = certificate(|params| {
        params.distinguished_name.push(DnType::OrganizationName, "o".repeat(600));
        params.subject_alt_names = vec![
            uri(&format!("spiffe://td/{}", "x".repeat(LONGEST_SPIFFE_ID))),
            uri(&format!("https://{}", "u".repeat(600))),
            SanType::DnsName("d".try_into().unwrap()),
        ];
    });
    let told = shown(vec![leaf.clone()], Ok(()));
    assert_eq!(
        value(&told, "error"),
        "client_cert_spiffe_id_exceeded_size_limit,client_cert_uri_sans_exceeded_size_limit,\
         client_cert_subject_dn_exceeded_size_limit"
    );
    assert_eq!((value(&told, "spiffe_id"), value(&told, "uri_sans")), (String::new(), String::new()));
    assert_eq!(value(&told, "dnsname_sans"), "ZA");
    let long = shown(vec![leaf.clone(); LONGEST_CHAIN / leaf.len() + 1], Ok(()));
    assert!(value(&long, "error").ends_with(",client_cert_validated_chain_exceeded_size_limit"));
    assert!(!value(&long, "leaf").is_empty() && value(&long, "chain").is_empty());
}

#[test]
fn spiffe_ids() {
    for good in ["spiffe://td", "spiffe://t-d.example/a/B_c", "spiffe://1.2.3.4/x"] {
        assert!(is_spiffe_id(good), "{good}");
    }
    for bad in [
        "spiffe://",
        "spiffe://TD/a",
        "spiffe://td:1/a",
        "spiffe://td/",
        "spiffe://td//a",
        "spiffe://td/..",
        "spiffe://td/a?q",
        "https://td",
    ] {
        assert!(!is_spiffe_id(bad), "{bad}");
    }
}

/// An allowlisted certificate may be anything that can be parsed.
#[test]
fn odd_certificates_are_told_without_harm() {
    let leaf = certificate(|params| params.subject_alt_names = vec![uri("spiffe://td/x")]);
    for at in 0..leaf.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut odd = leaf.to_vec();
            odd[at] ^= change;
            let told = shown(vec![CertificateDer::from(odd)], Ok(()));
            for name in ["serial_number", "spiffe_id", "valid_not_before", "valid_not_after", "subject_dn"] {
                assert!(!value(&told, name).contains(['\r', '\n', '\0']), "{at} {name}");
            }
        }
    }
}
