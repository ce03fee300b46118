//! Which bytes may stand where.

/// For every byte that may stand in a token (RFC 9110 section 5.6.2), its lower-case form; 0 for the others.
/// Validates and lowers a field name in one step.
pub(crate) const TOKEN_LOWER: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        if b.is_ascii_alphanumeric() {
            table[i] = b.to_ascii_lowercase();
        }
        i += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < marks.len() {
        table[marks[i] as usize] = marks[i];
        i += 1;
    }
    table
};

/// One or more token characters.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_token_byte(b))
}

pub(crate) fn is_token_byte(b: u8) -> bool {
    TOKEN_LOWER[b as usize] != 0
}

/// Every byte may stand in a field value: visible, space, tab, or 0x80 and above (RFC 9110 section 5.5).
///
/// Written without early exit, so that the compiler turns it into vector instructions.
pub(crate) fn is_field_value(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |bad, &b| bad | ((b < 0x20) & (b != b'\t')) | (b == 0x7f))
}

/// Every byte may stand in a request target: visible ASCII without `#`, for a fragment is never sent (RFC 9112
/// section 3.2). Wider than RFC 3986, which browsers do not obey for `|`, `{` and the like; none of those is read
/// differently by anyone.
pub(crate) fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && !bytes.iter().fold(false, |bad, &b| bad | (b <= 0x20) | (b >= 0x7f) | (b == b'#'))
}

/// Without the spaces and tabs around it.
pub(crate) fn trim_blank(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_bytes_are_those_of_the_rfc() {
        let expected: Vec<u8> =
            (0u8..=255).filter(|b| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(b)).collect();
        let ours: Vec<u8> = (0u8..=255).filter(|&b| is_token_byte(b)).collect();
        assert_eq!(ours, expected);
        assert_eq!(TOKEN_LOWER[b'Q' as usize], b'q');
    }

    #[test]
    fn control_bytes_never_stand_in_values_or_targets() {
        for b in (0u8..0x20).chain([0x7f]) {
            assert_eq!(is_field_value(&[b'a', b, b'c']), b == b'\t', "{b:#x}");
            assert!(!is_target(&[b'/', b]), "{b:#x}");
        }
        assert!(is_field_value(b"caf\xc3\xa9"));
        for bad in [&b"/a b"[..], b"/a#b", b"/caf\xc3\xa9", b""] {
            assert!(!is_target(bad));
        }
        assert!(is_target(b"/a|b?{c}=%00"));
    }
}
