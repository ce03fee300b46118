//! Domain names.
//!
//! Inside this crate a name is its wire form in lower case: length-prefixed labels and a final zero. So comparing is
//! comparing bytes, the parent of a name is a suffix of its bytes, and a lookup by suffix needs no allocation.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// The longest name on the wire, in bytes (RFC 1035, section 3.1).
pub(crate) const MAX_NAME: usize = 255;

/// The longest label, in bytes.
pub(crate) const MAX_LABEL: usize = 63;

/// An absolute domain name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

/// Why a text is no domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// It is empty, or does not end with a dot where it must.
    Relative,
    /// Two dots in a row, or one at the start.
    EmptyLabel,
    /// A label has more than 63 bytes.
    LongLabel,
    /// The name has more than 255 bytes on the wire.
    TooLong,
    /// A backslash is not followed by three digits or a character.
    BadEscape,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::Relative => "the name does not end with a dot",
            NameError::EmptyLabel => "the name has an empty label",
            NameError::LongLabel => "a label is longer than 63 bytes",
            NameError::TooLong => "the name is longer than 255 bytes",
            NameError::BadEscape => "a backslash escapes nothing",
        })
    }
}

impl std::error::Error for NameError {}

impl Name {
    /// Reads a name, `www.example.com.`, in the escapes of master files (`\.`, `\032`). The dot at the end may be left
    /// out.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        let mut wire = match to_wire(text.as_bytes()) {
            Err(NameError::Relative) if !text.is_empty() => to_wire(format!("{text}.").as_bytes())?,
            read => read?,
        };
        wire.make_ascii_lowercase();
        Ok(Name(wire.into()))
    }

    /// The name of the root.
    pub fn root() -> Name {
        Name([0].into())
    }

    pub fn is_root(&self) -> bool {
        *self.0 == [0]
    }

    pub(crate) fn from_wire(wire: &[u8]) -> Name {
        Name(wire.to_ascii_lowercase().into())
    }

    /// What is left when a leading `*` is taken away; `None` if there is none.
    pub(crate) fn below_wildcard(&self) -> Option<Name> {
        self.0.strip_prefix(b"\x01*").map(|rest| Name(rest.into()))
    }

    /// The wire form, in lower case.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is `zone` or a name below it.
    pub fn is_within(&self, zone: &Name) -> bool {
        is_within(&self.0, &zone.0)
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::parse(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_text(&self.0))
    }
}

/// Where each label of a wire-form name starts, the root included: every suffix that is a name.
pub(crate) fn starts(wire: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let at = next?;
        let length = usize::from(*wire.get(at)?);
        next = if length == 0 { None } else { Some(at + 1 + length) };
        Some(at)
    })
}

/// How many labels a wire-form name has, the root not counted.
pub(crate) fn labels(wire: &[u8]) -> usize {
    starts(wire).count().saturating_sub(1)
}

pub(crate) fn is_within(name: &[u8], zone: &[u8]) -> bool {
    name.len() >= zone.len() && starts(name).any(|at| at == name.len() - zone.len()) && name.ends_with(zone)
}

/// From text to wire form, in the case it is written in.
pub(crate) fn to_wire(text: &[u8]) -> Result<Vec<u8>, NameError> {
    if text == b"." {
        return Ok(vec![0]);
    }
    let mut wire = Vec::with_capacity(text.len() + 1);
    let mut label = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'.' => {
                push_label(&mut wire, &label)?;
                label.clear();
            }
            b'\\' => {
                let (byte, after) = escape(rest)?;
                label.push(byte);
                rest = after;
            }
            _ => label.push(byte),
        }
    }
    if !label.is_empty() || wire.is_empty() {
        return Err(NameError::Relative);
    }
    wire.push(0);
    if wire.len() > MAX_NAME { Err(NameError::TooLong) } else { Ok(wire) }
}

fn push_label(wire: &mut Vec<u8>, label: &[u8]) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    if label.len() > MAX_LABEL {
        return Err(NameError::LongLabel);
    }
    wire.push(label.len() as u8);
    wire.extend_from_slice(label);
    Ok(())
}

/// What follows a backslash: three digits that make a byte, or any other character.
fn escape(rest: &[u8]) -> Result<(u8, &[u8]), NameError> {
    match rest {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', after @ ..] => {
            let number = [a, b, c].iter().fold(0u16, |n, digit| n * 10 + u16::from(**digit - b'0'));
            Ok((u8::try_from(number).map_err(|_| NameError::BadEscape)?, after))
        }
        [b'0'..=b'9', ..] | [] => Err(NameError::BadEscape),
        [byte, after @ ..] => Ok((*byte, after)),
    }
}

/// From wire form to text.
pub(crate) fn to_text(wire: &[u8]) -> String {
    let mut text = String::with_capacity(wire.len());
    for at in starts(wire) {
        let length = usize::from(wire[at]);
        for &byte in wire.get(at + 1..at + 1 + length).unwrap_or_default() {
            match byte {
                b'.' | b'\\' | b'"' => text.extend(['\\', char::from(byte)]),
                0x21..=0x7e => text.push(char::from(byte)),
                _ => text.push_str(&format!("\\{byte:03}")),
            }
        }
        if length > 0 {
            text.push('.');
        }
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_their_wire_form() {
        let name = Name::parse("WWW.Example.com.").unwrap();
        assert_eq!(name.wire(), b"\x03www\x07example\x03com\x00");
        assert_eq!(name.to_string(), "www.example.com.");
        assert_eq!(Name::parse(".").unwrap().wire(), b"\0");
        assert_eq!(Name::parse("a\\.b.c\\032d.").unwrap().to_string(), "a\\.b.c\\032d.");
    }

    #[test]
    fn what_is_no_name() {
        let long_label = format!("{}.", "x".repeat(64));
        let long_name = "abcdefg.".repeat(32);
        for (text, error) in [
            ("", NameError::Relative),
            ("a..b.", NameError::EmptyLabel),
            (".a.", NameError::EmptyLabel),
            (&long_label, NameError::LongLabel),
            (&long_name, NameError::TooLong),
            ("a\\", NameError::BadEscape),
            ("a\\25.", NameError::BadEscape),
            ("a\\256.", NameError::BadEscape),
        ] {
            assert_eq!(Name::parse(text), Err(error), "{text}");
        }
        assert_eq!(to_wire(b"www"), Err(NameError::Relative));
        assert_eq!(Name::parse("www"), Name::parse("www."));
        assert!(Name::parse(&format!("{}aaaaa.", "abcdefg.".repeat(31))).is_ok(), "255 bytes fit");
    }

    #[test]
    fn a_name_is_within_its_parents_only() {
        let name = |text| Name::parse(text).unwrap();
        assert!(name("a.b.c.").is_within(&name("b.c.")));
        assert!(name("b.c.").is_within(&name("b.c.")));
        assert!(name("b.c.").is_within(&name(".")));
        assert!(!name("ab.c.").is_within(&name("b.c.")));
        assert!(!name("c.").is_within(&name("b.c.")));
        // The bytes of one name inside a label of another.
        assert!(!name("a\\001b.").is_within(&name("b.")));
    }

    proptest! {
        #[test]
        fn text_and_wire_agree(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..8)) {
            let mut wire = Vec::new();
            for label in &labels {
                wire.push(label.len() as u8);
                wire.extend_from_slice(label);
            }
            wire.push(0);
            prop_assert_eq!(to_wire(to_text(&wire).as_bytes()), Ok(wire));
        }

        #[test]
        fn any_text_is_safe(text in "\\PC{0,80}") {
            let _ = Name::parse(&text);
        }
    }
}
