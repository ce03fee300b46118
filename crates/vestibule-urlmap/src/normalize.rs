//! Path normalisation before matching.
//!
//! A URL map decides who serves a path, so two spellings of one path must not reach two services: a rule for
//! `/admin/*` that `/public/../admin/x` walks around protects nothing. Envoy settles this silently before it matches,
//! and so do we, with the same outcome character by character:
//!
//! * dot segments are resolved, also when they are spelt `%2e`, and also when they carry a parameter: Java servers
//!   read `/public/..;x/admin` as `/admin`;
//! * escapes of unreserved characters (letters, digits, `-`, `.`, `_`, `~`) are decoded, all others stay as they were
//!   sent, `%2f` among them, because decoding it would change which segments there are;
//! * `\` becomes `/`; `"`, `<`, `>`, `^`, a backtick, `{`, `|` and `}` are escaped;
//! * empty segments (`//`) stay;
//! * `%00`, raw controls, space, DEL and bytes above ASCII are refused.
//!
//! What was matched is what is forwarded: there is no second, "original" path to disagree with.
//!
//! Envoy resolves a dot segment with a parameter only when its dots are not escaped; here the spelling does not matter.
//! One thing more is stricter than Envoy. Decoding `%%32%65` gives `%2e`, which whoever reads it next may decode again to a
//! dot. No honest client sends such a path; it is refused.

use std::borrow::Cow;
use std::fmt;

/// Why a path cannot be normalised. The answer to the client is 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// The path does not begin with `/`.
    NotAbsolute,
    /// `%00`.
    Null,
    /// A byte that must not stand in a path unescaped.
    Forbidden(u8),
    /// Decoding the path once leaves something that can be decoded again.
    DoublyEscaped,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejected::NotAbsolute => f.write_str("path does not begin with /"),
            Rejected::Null => f.write_str("path holds an escaped NUL"),
            Rejected::Forbidden(byte) => write!(f, "path holds the byte {byte:#04x}"),
            Rejected::DoublyEscaped => f.write_str("path is escaped twice over"),
        }
    }
}

impl std::error::Error for Rejected {}

/// What a byte of a path asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Keep,
    Escape,
    Percent,
    Backslash,
    Refuse,
}

const CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut table = [Class::Refuse; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = match byte as u8 {
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => Class::Escape,
            b'%' => Class::Percent,
            b'\\' => Class::Backslash,
            b'?' | b'#' => Class::Refuse,
            _ => Class::Keep,
        };
        byte += 1;
    }
    table
}

/// Normalises the path of a request target: no query, no fragment. Borrows when nothing has to change.
pub fn path(raw: &[u8]) -> Result<Cow<'_, [u8]>, Rejected> {
    if raw.first() != Some(&b'/') {
        return Err(Rejected::NotAbsolute);
    }
    if is_normal(raw)? {
        return Ok(Cow::Borrowed(raw));
    }
    let once = rewrite(raw)?;
    // Only a `%` that begins no escape can come to begin one.
    if has_loose_percent(raw) && rewrite(&once)? != once {
        return Err(Rejected::DoublyEscaped);
    }
    Ok(Cow::Owned(once))
}

/// Whether nothing in the path can need a change. Errs towards `false`.
fn is_normal(raw: &[u8]) -> Result<bool, Rejected> {
    let mut previous = b'/';
    let mut normal = true;
    for &byte in raw {
        match CLASSES[usize::from(byte)] {
            Class::Keep => normal &= !(byte == b'.' && previous == b'/'),
            Class::Refuse => return Err(Rejected::Forbidden(byte)),
            Class::Escape | Class::Percent | Class::Backslash => normal = false,
        }
        previous = byte;
    }
    Ok(normal)
}

fn rewrite(raw: &[u8]) -> Result<Vec<u8>, Rejected> {
    let mut out = Vec::with_capacity(raw.len() + 8);
    out.push(b'/');
    let mut segments = raw[1..].split(|&byte| byte == b'/' || byte == b'\\').peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        push_segment(segment, &mut out)?;
        let last = segments.peek().is_none();
        match without_parameters(&out[start..]) {
            b"." => out.truncate(start),
            b".." => pop_segment(&mut out, start),
            _ if !last => out.push(b'/'),
            _ => {}
        }
    }
    Ok(out)
}

/// A segment up to its first `;` (RFC 3986 section 3.3).
fn without_parameters(segment: &[u8]) -> &[u8] {
    let end = segment.iter().position(|&byte| byte == b';').unwrap_or(segment.len());
    &segment[..end]
}

/// Removes the segment before the one that begins at `start`, and that one. The root stays.
fn pop_segment(out: &mut Vec<u8>, start: usize) {
    let parent_end = start - 1;
    let parent_start = out[..parent_end].iter().rposition(|&byte| byte == b'/').map_or(1, |slash| slash + 1);
    out.truncate(parent_start);
}

fn push_segment(segment: &[u8], out: &mut Vec<u8>) -> Result<(), Rejected> {
    let mut at = 0;
    while let Some(&byte) = segment.get(at) {
        at += 1;
        match CLASSES[usize::from(byte)] {
            Class::Escape => push_escaped(byte, out),
            Class::Percent => match escape_at(segment, at - 1) {
                Some(0) => return Err(Rejected::Null),
                Some(value) if is_unreserved(value) => {
                    out.push(value);
                    at += 2;
                }
                _ => out.push(byte),
            },
            _ => out.push(byte),
        }
    }
    Ok(())
}

fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// The byte that the escape at `at` stands for, if there is one.
fn escape_at(text: &[u8], at: usize) -> Option<u8> {
    let high = char::from(*text.get(at + 1)?).to_digit(16)?;
    let low = char::from(*text.get(at + 2)?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

fn has_loose_percent(raw: &[u8]) -> bool {
    raw.iter().enumerate().any(|(at, &byte)| byte == b'%' && escape_at(raw, at).is_none())
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn norm(raw: &str) -> String {
        String::from_utf8(path(raw.as_bytes()).expect(raw).into_owned()).expect("ascii")
    }

    /// Measured on Envoy 1.40 with `normalize_path`.
    #[test]
    fn agrees_with_envoy() {
        let table = [
            ("/a/../b", "/b"),
            ("/a/./b", "/a/b"),
            ("/../x", "/x"),
            ("/..", "/"),
            ("/.", "/"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/%2e%2e/b", "/b"),
            ("/a/%2E./b", "/b"),
            ("/a/.%2e", "/"),
            ("//a//b", "//a//b"),
            ("/a//../b", "/a/b"),
            ("/%2f", "/%2f"),
            ("/a%2Fb", "/a%2Fb"),
            ("/%2F..%2f/x", "/%2F..%2f/x"),
            ("/%7E%41%61%2d%5f%2E%21", "/~Aa-_.%21"),
            ("/%20", "/%20"),
            ("/%0a", "/%0a"),
            ("/%zz", "/%zz"),
            ("/%", "/%"),
            ("/%4", "/%4"),
            ("/a%5cb", "/a%5cb"),
            ("/a\\b", "/a/b"),
            ("/a\\..\\b", "/b"),
            ("/\"<>^`{|}", "/%22%3C%3E%5E%60%7B%7C%7D"),
            ("/a;b=c,d@e:f&g+h$i!j'k(l)*", "/a;b=c,d@e:f&g+h$i!j'k(l)*"),
            ("/[x]", "/[x]"),
            ("/%c3%a9", "/%c3%a9"),
            ("/...", "/..."),
            ("/..a/b", "/..a/b"),
            ("/a/..b", "/a/..b"),
            ("/a/%2e%2e%2fb", "/a/..%2fb"),
            ("/%252e", "/%252e"),
            ("/a/b/../../../../c", "/c"),
            ("/%3f%23%25%7f", "/%3f%23%25%7f"),
            ("/a/%2e", "/a/"),
            ("/a%2e", "/a."),
            ("/%2e%2e%5cx", "/..%5cx"),
            ("/x/..;/y", "/y"),
            ("/x/..;a=b;c/y", "/y"),
            ("/x/.;a/y", "/x/y"),
            ("/x/..;", "/"),
            ("/x/.;", "/x/"),
            ("/x/y;/..;/z", "/x/z"),
            ("/x/...;/y", "/x/...;/y"),
            ("/x/..%3b/y", "/x/..%3b/y"),
            ("/x/;/y", "/x/;/y"),
        ];
        for (raw, want) in table {
            assert_eq!(norm(raw), want, "{raw}");
        }
    }

    /// Where Envoy leaves `/x/..;/y`, which it would resolve if it came so.
    #[test]
    fn a_parameter_hides_no_escaped_dots() {
        assert_eq!(norm("/x/%2e%2e;/y"), "/y");
        assert_eq!(norm("/x/.%2e;a/y"), "/y");
    }

    #[test]
    fn refuses_what_has_no_safe_reading() {
        assert_eq!(path(b"/a%00b"), Err(Rejected::Null));
        assert_eq!(path(b"a"), Err(Rejected::NotAbsolute));
        assert_eq!(path(b""), Err(Rejected::NotAbsolute));
        assert_eq!(path(b"*"), Err(Rejected::NotAbsolute));
        for byte in [0, 1, b'\t', b'\r', b'\n', b' ', b'#', b'?', 0x7f, 0x80, 0xff] {
            assert_eq!(path(&[b'/', byte]), Err(Rejected::Forbidden(byte)));
        }
        assert_eq!(path(b"/%%32%65%%32%65/x"), Err(Rejected::DoublyEscaped));
    }

    #[test]
    fn a_clean_path_is_borrowed() {
        assert!(matches!(path(b"/api/v1/users.json;x=1"), Ok(Cow::Borrowed(_))));
    }

    proptest! {
        #[test]
        fn is_idempotent(raw in "/[a-c/.;%2eE5fF~\\\\{]{0,40}") {
            if let Ok(once) = path(raw.as_bytes()) {
                let twice = path(&once).expect("a normalised path is acceptable");
                prop_assert_eq!(&*twice, &*once);
            }
        }

        #[test]
        fn never_leaves_a_dot_segment(raw in "/([.]|%2e|%2E|/|a|%){0,24}") {
            if let Ok(clean) = path(raw.as_bytes()) {
                prop_assert!(clean.split(|&b| b == b'/').all(|s| s != b"." && s != b".."));
            }
        }

        #[test]
        fn never_panics(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = path(&raw);
        }
    }
}
