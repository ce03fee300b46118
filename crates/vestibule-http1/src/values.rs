//! Values of the fields that decide about the connection and the body.

use crate::chars::{is_token, trim_blank};
use crate::error::Kind;
use crate::fields::{Fields, Name};
use crate::limits::MAX_FIELDS;

/// What `Connection` says about the connection itself (RFC 9110 section 7.6.1). The fields that it names besides are
/// marked in the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connection {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
}

/// Reads every `Connection` field and marks the fields that they name. It can name no more of them than a head may
/// have, which bounds the work.
pub(crate) fn connection(buffer: &[u8], fields: &mut Fields) -> Result<Connection, Kind> {
    let mut answer = Connection::default();
    let mut named = 0;
    for index in 0..fields.as_slice().len() {
        let field = fields.as_slice()[index];
        if field.id != Name::Connection {
            continue;
        }
        for option in elements(field.value.of(buffer)) {
            match option {
                _ if option.eq_ignore_ascii_case(b"close") => answer.close = true,
                _ if option.eq_ignore_ascii_case(b"keep-alive") => answer.keep_alive = true,
                _ if option.eq_ignore_ascii_case(b"upgrade") => answer.upgrade = true,
                _ if !is_token(option) => return Err(Kind::BadConnection),
                _ if named == MAX_FIELDS => return Err(Kind::BadConnection),
                _ => {
                    named += 1;
                    nominate(buffer, fields, option);
                }
            }
        }
    }
    Ok(answer)
}

/// Marks a field that ends here. `Host` is no option of a connection, whoever names it: without it the request would
/// mean something else (the same holds for `Content-Length`, which the framing replaces anyway).
fn nominate(buffer: &[u8], fields: &mut Fields, name: &[u8]) {
    for field in fields.iter_mut() {
        let fixed = matches!(field.id, Name::Host | Name::ContentLength);
        if !fixed && field.name.of(buffer).eq_ignore_ascii_case(name) {
            field.nominated = true;
        }
    }
}

/// Elements of a comma-separated list, without the empty ones (RFC 9110 section 5.6.1.2).
fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&b| b == b',').map(trim_blank).filter(|e| !e.is_empty())
}

/// A `Content-Length` value: one decimal number below 2^64, and nothing else.
pub(crate) fn content_length(value: &[u8]) -> Result<u64, Kind> {
    if value.contains(&b',') {
        return Err(Kind::SeveralContentLengths);
    }
    if value.is_empty() {
        return Err(Kind::BadContentLength);
    }
    let mut length: u64 = 0;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return Err(Kind::BadContentLength);
        }
        length = length
            .checked_mul(10)
            .and_then(|l| l.checked_add(u64::from(byte - b'0')))
            .ok_or(Kind::BadContentLength)?;
    }
    Ok(length)
}

/// A `Transfer-Encoding` value: `chunked` alone. Other codings are told apart from malformed lists, because the
/// sender of the first did nothing wrong.
pub(crate) fn transfer_encoding(value: &[u8]) -> Result<(), Kind> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut chunked = 0;
    let mut last_is_chunked = false;
    for coding in value.split(|&b| b == b',').map(trim_blank) {
        if !is_token(coding) {
            return Err(Kind::BadTransferEncoding);
        }
        last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        chunked += u32::from(last_is_chunked);
    }
    if chunked > 1 || (chunked == 1 && !last_is_chunked) {
        return Err(Kind::BadTransferEncoding);
    }
    Err(Kind::UnsupportedTransferCoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_length_is_plain_digits() {
        assert_eq!(content_length(b"0"), Ok(0));
        assert_eq!(content_length(b"0042"), Ok(42));
        assert_eq!(content_length(b"18446744073709551615"), Ok(u64::MAX));
        for bad in [&b""[..], b"+5", b"-1", b"0x5", b"5 5", b"18446744073709551616", b"5;", b"\xb2"] {
            assert_eq!(content_length(bad), Err(Kind::BadContentLength), "{bad:?}");
        }
        assert_eq!(content_length(b"5, 5"), Err(Kind::SeveralContentLengths));
    }

    #[test]
    fn only_chunked_alone_is_a_transfer_encoding() {
        assert_eq!(transfer_encoding(b"chunked"), Ok(()));
        assert_eq!(transfer_encoding(b"Chunked"), Ok(()));
        for unsupported in [&b"gzip, chunked"[..], b"xchunked", b"identity", b"gzip"] {
            assert_eq!(
                transfer_encoding(unsupported),
                Err(Kind::UnsupportedTransferCoding),
                "{unsupported:?}"
            );
        }
        for bad in [
            &b""[..],
            b",chunked",
            b"chunked,",
            b"chunked, chunked",
            b"chunked, gzip",
            b"chun ked",
            b"\"chunked\"",
        ] {
            assert_eq!(transfer_encoding(bad), Err(Kind::BadTransferEncoding), "{bad:?}");
        }
    }
}
