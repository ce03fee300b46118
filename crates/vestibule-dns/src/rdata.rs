//! Record data, from the text of zone files to the wire.

mod fields;
mod text;

use fields::{Fields, Wrong};
use std::borrow::Cow;
use std::fmt;
pub use text::text;

/// The longest data of one record, in bytes.
const MAX_RDATA: usize = 65_535;

/// Numbers of record types that this crate treats specially (RFC 1035, section 3.2.2, and the IANA registry).
pub mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const SPF: u16 = 99;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}

/// The types that a managed zone may hold.
const TYPES: &[(&str, u16)] = &[
    ("A", kind::A),
    ("AAAA", kind::AAAA),
    ("CAA", 257),
    ("CNAME", kind::CNAME),
    ("DNSKEY", 48),
    ("DS", 43),
    ("HTTPS", 65),
    ("IPSECKEY", 45),
    ("MX", kind::MX),
    ("NAPTR", 35),
    ("NS", kind::NS),
    ("PTR", kind::PTR),
    ("SOA", kind::SOA),
    ("SPF", kind::SPF),
    ("SRV", kind::SRV),
    ("SSHFP", 44),
    ("SVCB", 64),
    ("TLSA", 52),
    ("TXT", kind::TXT),
];

/// The number of a record type by its name, for the types a managed zone may hold. Upper case only, as in Cloud DNS.
pub fn type_number(name: &str) -> Option<u16> {
    TYPES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The name of a record type by its number; `TYPE1234` (RFC 3597, section 5) for one that no managed zone may hold.
pub fn type_name(number: u16) -> Cow<'static, str> {
    match TYPES.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => Cow::Borrowed(name),
        None if number == kind::ANY => Cow::Borrowed("ANY"),
        None => Cow::Owned(format!("TYPE{number}")),
    }
}

/// The names of the types a managed zone may hold.
pub fn type_names() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|(name, _)| *name)
}

/// Why a text is no data of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RdataError {
    /// A managed zone cannot hold records of this type.
    UnknownType(String),
    /// The text does not fit the type.
    Malformed(String),
}

impl fmt::Display for RdataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RdataError::UnknownType(name) => write!(f, "the record type {name} is not supported"),
            RdataError::Malformed(text) => write!(f, "invalid record data: {text}"),
        }
    }
}

impl std::error::Error for RdataError {}

/// Wire form of one `rrdata` of the named type. Names in it must be absolute, as Cloud DNS wants them; their case is
/// kept.
pub fn parse(type_name: &str, text: &str) -> Result<Vec<u8>, RdataError> {
    let number = type_number(type_name).ok_or_else(|| RdataError::UnknownType(type_name.to_owned()))?;
    parse_number(number, text)
}

pub(crate) fn parse_number(number: u16, text: &str) -> Result<Vec<u8>, RdataError> {
    let wrong = |_: Wrong| RdataError::Malformed(text.to_owned());
    let mut fields = Fields::split(text).map_err(wrong)?;
    read(number, &mut fields).and_then(|()| fields.end()).map_err(wrong)?;
    let data = fields.into_wire();
    if data.is_empty() || data.len() > MAX_RDATA {
        return Err(RdataError::Malformed(text.to_owned()));
    }
    Ok(data)
}

/// Whether two texts say the same data of a type: letter case and spelling do not count.
pub fn same(type_name: &str, a: &str, b: &str) -> bool {
    a == b
        || matches!((parse(type_name, a), parse(type_name, b)), (Ok(a), Ok(b)) if a.eq_ignore_ascii_case(&b))
}

fn read(number: u16, f: &mut Fields) -> Result<(), Wrong> {
    match number {
        1 => f.ipv4(),
        28 => f.ipv6(),
        // NS, CNAME, PTR
        2 | 5 | 12 => f.name(),
        // SOA: RFC 1035, section 3.3.13
        6 => {
            f.name()?;
            f.name()?;
            (0..5).try_for_each(|_| f.u32())
        }
        // MX
        15 => {
            f.u16()?;
            f.name()
        }
        // TXT and SPF
        16 | 99 => f.strings(),
        // SRV: RFC 2782
        33 => {
            (0..3).try_for_each(|_| f.u16())?;
            f.name()
        }
        // NAPTR: RFC 3403
        35 => {
            f.u16()?;
            f.u16()?;
            (0..3).try_for_each(|_| f.string())?;
            f.name()
        }
        // DS: RFC 4034, section 5
        43 => {
            f.u16()?;
            f.u8()?;
            f.u8()?;
            f.hex()
        }
        // SSHFP: RFC 4255
        44 => {
            f.u8()?;
            f.u8()?;
            f.hex()
        }
        45 => ipsec_key(f),
        // DNSKEY: RFC 4034, section 2
        48 => {
            f.u16()?;
            f.u8()?;
            f.u8()?;
            f.base64()
        }
        // TLSA: RFC 6698
        52 => {
            (0..3).try_for_each(|_| f.u8())?;
            f.hex()
        }
        64 | 65 => service_binding(f),
        257 => caa(f),
        _ => Err(Wrong),
    }
}

/// IPSECKEY: RFC 4025. What the gateway is depends on a number before it.
fn ipsec_key(f: &mut Fields) -> Result<(), Wrong> {
    f.u8()?;
    let gateway = f.number(3)?;
    f.push(gateway as u8);
    f.u8()?;
    match gateway {
        0 if f.peek() == Some(b".") => f.skip(),
        1 => f.ipv4()?,
        2 => f.ipv6()?,
        3 => f.name()?,
        _ => return Err(Wrong),
    }
    if f.is_at_end() { Ok(()) } else { f.base64() }
}

/// CAA: RFC 8659.
fn caa(f: &mut Fields) -> Result<(), Wrong> {
    f.u8()?;
    let tag = f.token()?;
    let plain = !tag.is_empty() && tag.len() <= 15 && tag.iter().all(u8::is_ascii_alphanumeric);
    if !plain {
        return Err(Wrong);
    }
    f.push(tag.len() as u8);
    f.extend(&tag);
    let value = f.token()?;
    f.extend(&value);
    Ok(())
}

/// SVCB and HTTPS: RFC 9460.
fn service_binding(f: &mut Fields) -> Result<(), Wrong> {
    f.u16()?;
    f.name()?;
    let mut parameters = Vec::new();
    while !f.is_at_end() {
        let token = f.token()?;
        parameters.push(service_parameter(&token)?);
    }
    parameters.sort();
    if parameters.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Wrong);
    }
    for (key, value) in parameters {
        f.extend(&key.to_be_bytes());
        f.extend(&u16::try_from(value.len()).map_err(|_| Wrong)?.to_be_bytes());
        f.extend(&value);
    }
    Ok(())
}

const SERVICE_KEYS: [&str; 7] =
    ["mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint"];

fn service_parameter(token: &[u8]) -> Result<(u16, Vec<u8>), Wrong> {
    let text = std::str::from_utf8(token).map_err(|_| Wrong)?;
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    let key = service_key(name)?;
    let mut wire = Vec::new();
    let items = || value.split(',').filter(|item| !item.is_empty());
    match key {
        0 => items().try_for_each(|item| service_key(item).map(|key| wire.extend(key.to_be_bytes())))?,
        1 => {
            for item in items() {
                wire.push(u8::try_from(item.len()).map_err(|_| Wrong)?);
                wire.extend_from_slice(item.as_bytes());
            }
        }
        2 if value.is_empty() => return Ok((key, wire)),
        3 => wire.extend(value.parse::<u16>().map_err(|_| Wrong)?.to_be_bytes()),
        4 => {
            for item in items() {
                wire.extend(item.parse::<std::net::Ipv4Addr>().map_err(|_| Wrong)?.octets());
            }
        }
        5 => wire = fields::decode_base64(value.as_bytes())?,
        6 => {
            for item in items() {
                wire.extend(item.parse::<std::net::Ipv6Addr>().map_err(|_| Wrong)?.octets());
            }
        }
        2 => return Err(Wrong),
        _ => wire.extend_from_slice(value.as_bytes()),
    }
    if wire.is_empty() && key < 7 { Err(Wrong) } else { Ok((key, wire)) }
}

fn service_key(name: &str) -> Result<u16, Wrong> {
    if let Some(known) = SERVICE_KEYS.iter().position(|key| *key == name) {
        return Ok(known as u16);
    }
    name.strip_prefix("key").and_then(|number| number.parse().ok()).ok_or(Wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(rtype: &str, text: &str) -> Vec<u8> {
        parse(rtype, text).unwrap_or_else(|e| panic!("{rtype} {text}: {e}"))
    }

    #[test]
    fn data_of_every_type() {
        assert_eq!(wire("A", "10.0.0.100"), [10, 0, 0, 100]);
        assert_eq!(wire("AAAA", "2001:DB8::1")[..5], [0x20, 1, 0x0d, 0xb8, 0]);
        assert_eq!(wire("CNAME", "A.b."), b"\x01A\x01b\0");
        assert_eq!(wire("MX", "10 mail.example.com.")[..4], [0, 10, 4, b'm']);
        assert_eq!(wire("SRV", "1 2 443 a.b.")[..6], [0, 1, 0, 2, 1, 187]);
        assert_eq!(wire("TXT", "\"a b\" \"c\\\"d\\010\""), b"\x03a b\x04c\"d\n");
        assert_eq!(wire("TXT", "one two"), b"\x03one\x03two");
        assert_eq!(wire("TXT", "\"\""), b"\0");
        assert_eq!(wire("CAA", "0 issue \"pki.goog\""), b"\x00\x05issuepki.goog");
        let soa = wire("SOA", "ns. host.example. 1 21600 3600 259200 300");
        assert_eq!(soa[soa.len() - 20..][..8], [0, 0, 0, 1, 0, 0, 0x54, 0x60]);
        assert_eq!(wire("DS", "60485 5 1 2BB183AF5F22588179A53B0A 98631FAD1A292118").len(), 4 + 20);
        assert_eq!(wire("SSHFP", "2 1 123456789abcdef67890123456789abcdef67890").len(), 22);
        assert_eq!(wire("DNSKEY", "256 3 5 AQPS KmynfzW4kyBv015MUG2DeIQ3").len(), 4 + 21);
        assert_eq!(wire("TLSA", "3 1 1 00ff")[..], [3, 1, 1, 0, 255]);
        assert_eq!(wire("NAPTR", "100 10 \"S\" \"SIP+D2U\" \"\" _sip._udp.example.com.")[4..6], [1, b'S']);
        assert_eq!(wire("IPSECKEY", "10 1 2 192.0.2.38 AQNR")[..7], [10, 1, 2, 192, 0, 2, 38]);
        assert_eq!(wire("IPSECKEY", "10 0 2 . AQNR")[..3], [10, 0, 2]);
        assert_eq!(wire("SPF", "\"v=spf1 -all\"")[0], 11);
        assert_eq!(
            wire("HTTPS", "1 . port=8443 alpn=\"h2,h3\""),
            b"\x00\x01\x00\x00\x01\x00\x06\x02h2\x02h3\x00\x03\x00\x02\x20\xfb"
        );
        assert_eq!(wire("SVCB", "0 svc.example.")[..2], [0, 0]);
    }

    #[test]
    fn spelling_does_not_count() {
        assert!(same("AAAA", "2001:db8::1", "2001:0DB8:0:0::1"));
        assert!(same("TXT", "word", "\"word\""));
        assert!(same("MX", "10 MAIL.example.", "10  mail.example."));
        assert!(!same("A", "10.0.0.1", "10.0.0.2"));
        assert!(!same("A", "x", "y"));
    }

    #[test]
    fn what_is_no_data() {
        let long = format!("\"{}\"", "x".repeat(256));
        for (rtype, text) in [
            ("A", ""),
            ("A", "10.0.0"),
            ("A", "10.0.0.1 10.0.0.2"),
            ("A", "::1"),
            ("AAAA", "10.0.0.1"),
            ("CNAME", "relative"),
            ("MX", "mail.example.com."),
            ("MX", "65536 mail.example.com."),
            ("MX", "10 mail"),
            ("SRV", "1 2 3"),
            ("TXT", "\"open"),
            ("TXT", &long),
            ("CAA", "0 iss-ue \"x\""),
            ("SOA", "ns. host. 1 2 3 4"),
            ("DS", "1 2 3 xyz"),
            ("DS", "1 2 3 abc"),
            ("DNSKEY", "1 2 3 *"),
            ("HTTPS", "1 . port=8443 port=1"),
            ("HTTPS", "1 . port=x"),
            ("IPSECKEY", "10 4 2 . AQNR"),
        ] {
            assert!(parse(rtype, text).is_err(), "{rtype} {text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "\\PC{0,60}", index in 0usize..19) {
            let _ = parse(type_names().nth(index).unwrap(), &text);
        }
    }
}
