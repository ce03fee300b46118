//! Record data as zone files write it, for people to read.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::kind;
use crate::name;

/// The text of record data in wire form without compression. Data of a type without a form of its own, or that does not
/// fit its type, is written as RFC 3597 (section 5) writes unknown data.
pub fn text(number: u16, data: &[u8]) -> String {
    known(number, data).unwrap_or_else(|| unknown(data))
}

fn known(number: u16, data: &[u8]) -> Option<String> {
    let mut rest = Rest(data);
    let text = match number {
        kind::A => Ipv4Addr::from(rest.take::<4>()?).to_string(),
        kind::AAAA => Ipv6Addr::from(rest.take::<16>()?).to_string(),
        kind::NS | kind::CNAME | kind::PTR => rest.name()?,
        kind::MX => format!("{} {}", rest.u16()?, rest.name()?),
        kind::SRV => format!("{} {} {} {}", rest.u16()?, rest.u16()?, rest.u16()?, rest.name()?),
        kind::SOA => {
            let mut text = format!("{} {}", rest.name()?, rest.name()?);
            for _ in 0..5 {
                let _ = write!(text, " {}", u32::from_be_bytes(rest.take()?));
            }
            text
        }
        kind::TXT | kind::SPF => {
            let mut strings = Vec::new();
            while !rest.0.is_empty() {
                strings.push(rest.string()?);
            }
            strings.join(" ")
        }
        _ => return None,
    };
    rest.0.is_empty().then_some(text)
}

fn unknown(data: &[u8]) -> String {
    let mut text = format!("\\# {}", data.len());
    if !data.is_empty() {
        text.push(' ');
    }
    data.iter().for_each(|byte| {
        let _ = write!(text, "{byte:02x}");
    });
    text
}

/// What is left to read.
struct Rest<'d>(&'d [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn name(&mut self) -> Option<String> {
        let end = name::starts(self.0).last().filter(|at| self.0.get(*at) == Some(&0))? + 1;
        let (wire, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(name::to_text(wire))
    }

    /// A character string, in quotes.
    fn string(&mut self) -> Option<String> {
        let length = usize::from(self.take::<1>()?[0]);
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let mut text = String::from("\"");
        for &byte in string {
            match byte {
                b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
                0x20..=0x7e => text.push(char::from(byte)),
                _ => {
                    let _ = write!(text, "\\{byte:03}");
                }
            }
        }
        text.push('"');
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdata::{parse_number, type_number};
    use proptest::prelude::*;

    #[test]
    fn what_is_read_is_written() {
        for (of, wanted) in [
            ("A", "10.0.0.1"),
            ("AAAA", "2001:db8::1"),
            ("CNAME", "www.example.com."),
            ("MX", "10 mail.example.com."),
            ("SRV", "1 2 443 host.example.com."),
            ("SOA", "ns.x. admin.x. 1 21600 3600 259200 300"),
            ("TXT", "\"a b\" \"c\\\"d\\010\""),
            ("NS", "."),
        ] {
            let number = type_number(of).unwrap();
            assert_eq!(text(number, &parse_number(number, wanted).unwrap()), wanted);
        }
        assert_eq!(text(257, b"\x00\x05issuex"), "\\# 8 0005697373756578");
        assert_eq!(text(kind::A, b"\x01"), "\\# 1 01");
        assert_eq!(text(10, b""), "\\# 0");
    }

    proptest! {
        #[test]
        fn any_data_is_safe(number in 0u16..70, data in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(!text(number, &data).is_empty() || data.is_empty());
        }
    }
}
