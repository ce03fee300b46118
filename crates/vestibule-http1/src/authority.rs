//! `host[:port]`, as `Host` and absolute targets carry it.

/// Characters of a registered name: unreserved, sub-delims and the percent sign (RFC 3986 section 3.2.2), but no comma:
/// whoever joins repeated fields would read two hosts.
const REG_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = (i as u8).is_ascii_alphanumeric();
        i += 1;
    }
    let marks = b"-._~!$&'()*+;=%";
    let mut i = 0;
    while i < marks.len() {
        table[marks[i] as usize] = true;
        i += 1;
    }
    table
};

/// A non-empty host name or address, and perhaps a port. No name with an empty label inside, which DNS has not. No user information: RFC 9110 section 4.2.4 calls it
/// deprecated and a way to deceive.
pub fn is_valid_authority(authority: &[u8]) -> bool {
    if authority.first() == Some(&b'[') {
        return is_bracketed(authority);
    }
    let host = authority.iter().position(|&b| !REG_NAME[b as usize]).unwrap_or(authority.len());
    host > 0 && !has_empty_label(&authority[..host]) && is_port(&authority[host..])
}

/// `a..b`, or dots alone. A dot at the end is the root, and one in front is for a host rule to judge.
fn has_empty_label(host: &[u8]) -> bool {
    host == b"." || host.windows(2).any(|pair| pair == b"..")
}

/// `[IPv6]`, and perhaps a port.
fn is_bracketed(authority: &[u8]) -> bool {
    let Some(end) = authority.iter().position(|&b| b == b']') else {
        return false;
    };
    let address = &authority[1..end];
    std::str::from_utf8(address).is_ok_and(|a| a.parse::<std::net::Ipv6Addr>().is_ok())
        && is_port(&authority[end + 1..])
}

/// Nothing, or a colon and up to five digits that make a port (or none, which RFC 3986 allows).
fn is_port(rest: &[u8]) -> bool {
    match rest {
        [] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0u32, |port, d| port * 10 + u32::from(d - b'0')) <= 65_535
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_valid_authority;

    #[test]
    fn names_addresses_and_ports() {
        for good in [
            "a",
            "example.net",
            "EXAMPLE.net:8080",
            "10.0.0.100",
            "[::1]",
            "[fe80::1]:443",
            "a_b.c",
            "a:",
            "a%41",
            "a:65535",
            "a.b.",
            ".a",
        ] {
            assert!(is_valid_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a b",
            "a/b",
            "user@host",
            "a:b",
            "a:123456",
            "a:65536",
            "a:80:80",
            "[::1",
            "[x]",
            "[::1]x",
            "a#b",
            "a?b",
            "a\\b",
            "h\u{e9}",
            "a:-1",
            "a,b",
            "a..b",
            ".",
            "..",
            "[]",
            "[127.0.0.1]",
        ] {
            assert!(!is_valid_authority(bad.as_bytes()), "{bad}");
        }
    }
}
