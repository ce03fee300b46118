use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyPair, NameConstraints, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
};

use super::*;
use crate::client_identity::now;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params
}

fn root(name: &str) -> Issuer {
    CertifiedIssuer::self_signed(authority(name), key()).unwrap()
}

fn below(params: CertificateParams, issuer: &Issuer) -> Issuer {
    CertifiedIssuer::signed_by(params, key(), issuer).unwrap()
}

fn client() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn leaf(params: CertificateParams, issuer: &Issuer) -> CertificateDer<'static> {
    params.signed_by(&key(), issuer).unwrap().der().clone()
}

fn der(issuer: &Issuer) -> CertificateDer<'static> {
    issuer.der().clone()
}

fn validation(trust: Trust) -> ClientValidation {
    ClientValidation { mode: ClientValidationMode::RejectInvalid, trust: Some(trust) }
}

fn trusting(anchor: &Issuer) -> ClientValidation {
    validation(Trust::new(&[der(anchor)], vec![], &[]).unwrap())
}

#[test]
fn chains_end_at_an_anchor() {
    let (root_ca, other) = (root("root"), root("other"));
    let middle = below(authority("middle"), &root_ca);
    let (direct, deep) = (leaf(client(), &root_ca), leaf(client(), &middle));
    let trusted = trusting(&root_ca);
    assert_eq!(trusted.validate(&direct, &[], now()), Ok(()));
    assert_eq!(trusted.validate(&deep, &[der(&middle)], now()), Ok(()));
    assert_eq!(trusted.validate(&deep, &[], now()), Err(Distrust::Failed));
    assert_eq!(trusted.validate(&leaf(client(), &other), &[], now()), Err(Distrust::Failed));
    let helped = validation(Trust::new(&[der(&root_ca)], vec![der(&middle)], &[]).unwrap());
    assert_eq!(helped.validate(&deep, &[], now()), Ok(()), "the trust config has the intermediate");
    let unset = ClientValidation { mode: ClientValidationMode::AllowInvalidOrMissing, trust: None };
    assert_eq!(unset.validate(&direct, &[], now()), Err(Distrust::NotPerformed));
    assert_eq!(trusted.validate(&CertificateDer::from(vec![0x30, 0]), &[], now()), Err(Distrust::Failed));
}

#[test]
fn a_certificate_is_for_clients_and_in_time() {
    let root_ca = root("root");
    let trusted = trusting(&root_ca);
    let mut mute = client();
    mute.extended_key_usages.clear();
    let mut server = client();
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for params in [mute, server] {
        assert_eq!(trusted.validate(&leaf(params, &root_ca), &[], now()), Err(Distrust::InvalidEku));
    }
    let mut servers_only = authority("servers only");
    servers_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let middle = below(servers_only, &root_ca);
    let judged = trusted.validate(&leaf(client(), &middle), &[der(&middle)], now());
    assert_eq!(judged, Err(Distrust::InvalidEku), "an issuer that is not for clients");
    let mut old = client();
    old.not_before = rcgen::date_time_ymd(2019, 1, 1);
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let old = leaf(old, &root_ca);
    assert_eq!(trusted.validate(&old, &[], now()), Err(Distrust::Failed));
    let then = UnixTime::since_unix_epoch(Duration::from_secs(1_560_000_000));
    assert_eq!(trusted.validate(&old, &[], then), Ok(()));
    let allowed = validation(Trust::new(&[], vec![], std::slice::from_ref(&old)).unwrap());
    assert_eq!(allowed.validate(&old, &[], now()), Ok(()), "allowlisted, though it has expired");
}

#[test]
fn what_is_too_much() {
    let root_ca = root("root");
    let trusted = trusting(&root_ca);
    let good = leaf(client(), &root_ca);
    let middle = below(authority("middle"), &root_ca);
    let many = vec![der(&middle); MOST_SENT + 1];
    assert_eq!(trusted.validate(&good, &many, now()), Err(Distrust::ChainTooLong));
    assert_eq!(trusted.validate(&good, &many[1..], now()), Ok(()));
    let crowded = validation(Trust::new(&[der(&root_ca)], many.clone(), &[]).unwrap());
    assert_eq!(crowded.validate(&good, &[], now()), Err(Distrust::PkiTooLarge));
    let full = validation(Trust::new(&[der(&root_ca)], many[1..].to_vec(), &[]).unwrap());
    assert_eq!(full.validate(&good, &[], now()), Ok(()));
    assert_eq!(full.validate(&good, &many[..1], now()), Err(Distrust::PkiTooLarge));
    let mut constrained = authority("constrained");
    let trees = (0..=MOST_NAME_CONSTRAINTS).map(|n| GeneralSubtree::DnsName(format!("{n}.example")));
    constrained.name_constraints =
        Some(NameConstraints { permitted_subtrees: trees.collect(), excluded_subtrees: vec![] });
    let constrained = below(constrained, &root_ca);
    assert_eq!(trusted.validate(&good, &[der(&constrained)], now()), Err(Distrust::NameConstraints));
    let mut deep = vec![below(authority("0"), &root_ca)];
    for n in 1..8 {
        deep.push(below(authority(&n.to_string()), deep.last().unwrap()));
    }
    let sent: Vec<_> = deep.iter().map(der).collect();
    let judged = trusted.validate(&leaf(client(), deep.last().unwrap()), &sent, now());
    assert_eq!(judged, Err(Distrust::SearchLimit));
}

#[test]
fn keys_of_other_kinds_are_named() {
    let root_ca = root("root");
    let ed25519 = client().signed_by(&KeyPair::generate_for(&PKCS_ED25519).unwrap(), &root_ca).unwrap();
    assert_eq!(trusting(&root_ca).validate(ed25519.der(), &[], now()), Err(Distrust::KeyAlgorithm));
}

/// Whatever a client sends, it gets a verdict.
#[test]
fn damaged_certificates_are_judged() {
    let root_ca = root("root");
    let middle = below(authority("middle"), &root_ca);
    let (leaf, middle) = (leaf(client(), &middle), der(&middle));
    let trusted = trusting(&root_ca);
    let mut trusted_ones = 0;
    for at in 0..leaf.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = leaf.to_vec();
            damaged[at] ^= change;
            let damaged = CertificateDer::from(damaged);
            trusted_ones +=
                usize::from(trusted.validate(&damaged, std::slice::from_ref(&middle), now()).is_ok());
        }
        let cut = CertificateDer::from(leaf[..at].to_vec());
        assert!(trusted.validate(&cut, std::slice::from_ref(&middle), now()).is_err());
        assert!(
            trusted
                .validate(&leaf, &[CertificateDer::from(middle[..at.min(middle.len() - 1)].to_vec())], now())
                .is_err()
        );
    }
    assert_eq!(trusted_ones, 0, "a signature covers all of a certificate but itself");
}
