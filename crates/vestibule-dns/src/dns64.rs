//! Addresses of IPv6 for names that have only addresses of IPv4 (RFC 6147), in the well-known prefix 64:ff9b::/96
//! (RFC 6052), which is the one that Google's gateways translate.
//!
//! A question for AAAA whose name has none is answered with the A records behind the prefix, and a question for the name
//! of such an address with an alias of the name of the address that stands in it.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::name::{Name, starts};
use crate::rdata::kind;
use crate::resolver::Answer;
use crate::wire::{Query, Rcode, Record};

/// The first twelve octets of a translated address.
const PREFIX: [u8; 12] = [0x00, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];

/// How long a translated record may be kept where the answer without AAAA records does not say it, in seconds (RFC 6147,
/// section 5.1.7).
const MAX_TTL: u32 = 600;

/// Seconds for which the alias of a translated address's name may be kept: what it says is always so.
const ALIAS_TTL: u32 = 600;

/// Whether the question is one whose answer may be translated. Who checks signatures itself would find translated records
/// wrong, and says so by both flags (section 5.5).
pub(crate) fn is_for(query: &Query<'_>) -> bool {
    query.kind == kind::AAAA && !(query.dnssec_ok && query.checking_disabled)
}

/// Whether the question is for the name of a translated address.
pub(crate) fn is_reverse(query: &Query<'_>) -> bool {
    reverse(query).is_some()
}

/// The name of the address that stands in a translated one, where the question is for the latter's name (section 5.3.1).
pub(crate) fn reverse(query: &Query<'_>) -> Option<Name> {
    if query.kind != kind::PTR {
        return None;
    }
    let [a, b, c, d] = embedded(&query.name)?.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa.").parse().ok()
}

/// The address in a name of `ip6.arpa.` with all its 32 digits, if it is one with the prefix.
fn embedded(name: &[u8]) -> Option<Ipv4Addr> {
    let digits = name.strip_suffix(b"\x03ip6\x04arpa\x00")?;
    if digits.len() != 64 {
        return None;
    }
    let mut address = [0_u8; 16];
    for (at, start) in starts(name).take(32).enumerate() {
        let digit = match *name.get(start..start + 2)? {
            [1, digit @ b'0'..=b'9'] => digit - b'0',
            [1, digit @ b'a'..=b'f'] => digit - b'a' + 10,
            _ => return None,
        };
        address[15 - at / 2] |= digit << (4 * (at % 2));
    }
    let last: [u8; 4] = address.last_chunk().copied()?;
    address.starts_with(&PREFIX).then(|| Ipv4Addr::from(last))
}

/// An answer behind an alias.
pub(crate) fn behind_alias(name: &Name, target: &Name, mut answer: Answer) -> Answer {
    let alias = Record {
        name: name.clone(),
        kind: kind::CNAME,
        class: 1,
        ttl: ALIAS_TTL,
        data: target.wire().to_vec(),
    };
    answer.records.insert(0, alias);
    answer
}

/// The answer to a question for AAAA, from the answers to that and to the same question for A. Tells also whether it is
/// translated.
pub(crate) fn translated(six: Answer, four: Answer) -> (Answer, bool) {
    // An answer with an error is taken for an empty one (section 5.1.2); a name that does not exist has no address.
    if six.rcode == Rcode::NxDomain || six.records.iter().any(is_usable) {
        return (six, false);
    }
    if !four.records.iter().any(|record| record.kind == kind::A) {
        return if six.rcode == Rcode::ServFail { (less_unknown(six, four), false) } else { (six, false) };
    }
    let most = six.authority.map_or(MAX_TTL, |soa| soa.ttl);
    let records = four.records.into_iter().map(|record| translate(record, most)).collect();
    (Answer { records, ..four }, true)
}

/// Without addresses of either kind, an answer that is none tells less than one that says so.
fn less_unknown(six: Answer, four: Answer) -> Answer {
    let named = four.rcode == Rcode::NxDomain;
    if named { Answer { records: Vec::new(), ..four } } else { six }
}

/// A record with an address that can be reached: those that only stand for addresses of IPv4 within a machine are none
/// (section 5.1.4).
fn is_usable(record: &Record) -> bool {
    let address = <[u8; 16]>::try_from(record.data.as_slice()).map(Ipv6Addr::from);
    record.kind == kind::AAAA && address.is_ok_and(|address| address.to_ipv4_mapped().is_none())
}

fn translate(record: Record, most: u32) -> Record {
    if record.kind != kind::A {
        return record;
    }
    let data = [&PREFIX, record.data.as_slice()].concat();
    Record { kind: kind::AAAA, ttl: record.ttl.min(most), data, ..record }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u16, ttl: u32, data: &[u8]) -> Record {
        Record { name: "x.".parse().unwrap(), kind, class: 1, ttl, data: data.to_vec() }
    }

    fn answer(rcode: Rcode, records: Vec<Record>, soa: Option<u32>) -> Answer {
        let authority = soa.map(|ttl| record(kind::SOA, ttl, &[0]));
        Answer { rcode, authoritative: false, records, authority }
    }

    const FOUR: [u8; 4] = [192, 0, 2, 33];

    #[test]
    fn records_are_translated_only_where_there_are_none() {
        let four = |ttl| {
            answer(
                Rcode::NoError,
                vec![record(kind::CNAME, 9, b"\x01y\0"), record(kind::A, ttl, &FOUR)],
                None,
            )
        };
        let (translated_one, is) = translated(answer(Rcode::NoError, vec![], Some(60)), four(300));
        let expected: Ipv6Addr = "64:ff9b::c000:221".parse().unwrap();
        assert!(is);
        assert_eq!(translated_one.records[0].kind, kind::CNAME, "the alias stays");
        let last = &translated_one.records[1];
        assert_eq!((last.kind, last.ttl, last.data.as_slice()), (kind::AAAA, 60, &expected.octets()[..]));
        let (without_soa, _) = translated(answer(Rcode::ServFail, vec![], None), four(3600));
        assert_eq!(without_soa.records[1].ttl, 600);
        let own = answer(Rcode::NoError, vec![record(kind::AAAA, 5, &[1; 16])], None);
        assert_eq!(translated(own.clone(), four(300)), (own, false));
        let mapped = Ipv4Addr::from(FOUR).to_ipv6_mapped().octets();
        let useless = answer(Rcode::NoError, vec![record(kind::AAAA, 5, &mapped)], None);
        assert!(translated(useless, four(300)).1);
        let nobody = answer(Rcode::NxDomain, vec![], Some(60));
        assert_eq!(translated(nobody.clone(), four(300)), (nobody, false));
        let nothing = answer(Rcode::NoError, vec![], Some(60));
        assert_eq!(translated(nothing.clone(), nothing.clone()), (nothing, false));
    }

    fn asked(name: &str, kind: u16) -> Option<String> {
        let message = crate::wire::write_query(1, &name.parse().unwrap(), kind);
        reverse(&crate::wire::read_query(&message).unwrap()).map(|name| name.to_string())
    }

    #[test]
    fn names_of_translated_addresses_lead_to_those_of_the_address_in_them() {
        let zeros = "0.".repeat(16);
        let name = format!("1.2.2.0.0.0.0.C.{zeros}b.9.f.f.4.6.0.0.ip6.arpa.");
        assert_eq!(asked(&name, kind::PTR).as_deref(), Some("33.2.0.192.in-addr.arpa."));
        assert_eq!(asked(&name, kind::A), None);
        for other in [
            format!("1.2.2.0.0.0.0.c.{zeros}b.9.f.f.4.6.0.1.ip6.arpa."),
            format!("2.2.0.0.0.0.c.{zeros}b.9.f.f.4.6.0.0.ip6.arpa."),
            format!("x.2.2.0.0.0.0.c.{zeros}b.9.f.f.4.6.0.0.ip6.arpa."),
            format!("12.2.0.0.0.0.c.{zeros}b.9.f.f.4.6.0.0.ip6.arpa."),
            "ip6.arpa.".to_owned(),
        ] {
            assert_eq!(asked(&other, kind::PTR), None, "{other}");
        }
    }
}
