//! Header fields: one line each, names in lower case, values untouched.

use std::ops::Range;

use crate::chars::{TOKEN_LOWER, is_field_value};
use crate::error::Kind;
use crate::limits::MAX_FIELDS;
use crate::span::Span;

/// The fields that a proxy has something to do with, recognised once when the line is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    AccessControlRequestMethod,
    Authorization,
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    Host,
    KeepAlive,
    Location,
    Origin,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Referer,
    Server,
    Te,
    TraceParent,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Via,
    XCloudTraceContext,
    XForwardedFor,
    XForwardedProto,
    XServerlessAuthorization,
    Other,
}

impl Name {
    /// From a name in lower case.
    fn of(name: &[u8]) -> Name {
        match name {
            b"te" => Name::Te,
            b"via" => Name::Via,
            b"date" => Name::Date,
            b"host" => Name::Host,
            b"expect" => Name::Expect,
            b"origin" => Name::Origin,
            b"server" => Name::Server,
            b"trailer" | b"trailers" => Name::Trailer,
            b"referer" => Name::Referer,
            b"upgrade" => Name::Upgrade,
            b"location" => Name::Location,
            b"connection" => Name::Connection,
            b"traceparent" => Name::TraceParent,
            b"keep-alive" => Name::KeepAlive,
            b"user-agent" => Name::UserAgent,
            b"authorization" => Name::Authorization,
            b"cookie" => Name::Cookie,
            b"content-length" => Name::ContentLength,
            b"x-forwarded-for" => Name::XForwardedFor,
            b"proxy-connection" => Name::ProxyConnection,
            b"transfer-encoding" => Name::TransferEncoding,
            b"x-forwarded-proto" => Name::XForwardedProto,
            b"proxy-authenticate" => Name::ProxyAuthenticate,
            b"proxy-authorization" => Name::ProxyAuthorization,
            b"x-cloud-trace-context" => Name::XCloudTraceContext,
            b"x-serverless-authorization" => Name::XServerlessAuthorization,
            b"access-control-request-method" => Name::AccessControlRequestMethod,
            _ => Name::Other,
        }
    }

    /// Means the connection, not the message, and so is never forwarded (RFC 9110 section 7.6.1, and the list that
    /// Google's load balancers publish).
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Name::Connection
                | Name::KeepAlive
                | Name::ProxyAuthenticate
                | Name::ProxyAuthorization
                | Name::ProxyConnection
                | Name::Te
                | Name::Trailer
                | Name::TransferEncoding
                | Name::Upgrade
        )
    }
}

/// One field line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    /// Without the white space around it.
    pub value: Span,
    pub id: Name,
    /// `Connection` names it: it ends here, like a hop-by-hop field.
    pub nominated: bool,
    /// The line reads exactly `name: value`, and may be copied as it stands.
    canonical: bool,
}

impl Field {
    /// Reads a line (without its CRLF) and turns the name to lower case where it stands.
    pub(crate) fn parse(buffer: &mut [u8], line: Range<usize>) -> Result<Field, Kind> {
        let colon = lower_name(&mut buffer[line.clone()])? + line.start;
        let name = Span::new(line.start, colon);
        let value = trim(buffer, colon + 1..line.end);
        if !is_field_value(value.of(buffer)) {
            return Err(Kind::BadFieldValue);
        }
        Ok(Field {
            name,
            value,
            id: Name::of(name.of(buffer)),
            nominated: false,
            canonical: value.start() == colon + 2 && buffer[colon + 1] == b' ' && value.end() == line.end,
        })
    }

    /// The whole line with its CRLF, if it may be copied as it stands: neighbouring lines then copy as one.
    pub fn whole_line(&self) -> Option<Range<usize>> {
        self.canonical.then(|| self.name.start()..self.value.end() + 2)
    }

    /// Ends at this hop: by its nature or because `Connection` names it.
    pub fn is_hop_by_hop(&self) -> bool {
        self.nominated || self.id.is_hop_by_hop()
    }
}

/// Lowers the name at the start of a line; answers where its colon is.
fn lower_name(line: &mut [u8]) -> Result<usize, Kind> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Kind::FoldedLine);
    }
    for (i, byte) in line.iter_mut().enumerate() {
        match TOKEN_LOWER[*byte as usize] {
            0 if *byte == b':' && i > 0 => return Ok(i),
            0 => return Err(Kind::BadFieldName),
            lower => *byte = lower,
        }
    }
    Err(Kind::BadFieldName)
}

fn trim(buffer: &[u8], mut range: Range<usize>) -> Span {
    while range.start < range.end && matches!(buffer[range.start], b' ' | b'\t') {
        range.start += 1;
    }
    while range.start < range.end && matches!(buffer[range.end - 1], b' ' | b'\t') {
        range.end -= 1;
    }
    Span::new(range.start, range.end)
}

/// The fields of one head, in their order.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    list: Vec<Field>,
}

impl Fields {
    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    pub(crate) fn push(&mut self, field: Field) -> Result<(), Kind> {
        if self.list.len() == MAX_FIELDS {
            return Err(Kind::TooManyFields);
        }
        self.list.push(field);
        Ok(())
    }

    pub fn as_slice(&self) -> &[Field] {
        &self.list
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Field> {
        self.list.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>, Field), Kind> {
        let mut buffer = line.to_vec();
        let field = Field::parse(&mut buffer, 0..line.len())?;
        Ok((field.name.of(&buffer).to_vec(), field.value.of(&buffer).to_vec(), field))
    }

    #[test]
    fn names_are_lowered_and_values_trimmed() {
        let (name, value, field) = parse(b"X-Forwarded-FOR: \t10.0.0.1, 10.0.0.2 ").unwrap();
        assert_eq!(
            (name.as_slice(), value.as_slice()),
            (&b"x-forwarded-for"[..], &b"10.0.0.1, 10.0.0.2"[..])
        );
        assert_eq!(field.id, Name::XForwardedFor);
        assert_eq!(field.whole_line(), None);
        assert_eq!(parse(b"empty:").unwrap().1, b"");
    }

    #[test]
    fn only_a_canonical_line_may_be_copied_whole() {
        assert_eq!(parse(b"A: b").unwrap().2.whole_line(), Some(0..6));
        for other in [&b"a:b"[..], b"a:\tb", b"a:  b", b"a: b ", b"a:"] {
            assert_eq!(parse(other).unwrap().2.whole_line(), None, "{other:?}");
        }
    }

    #[test]
    fn malformed_lines_are_refused() {
        for (line, kind) in [
            (&b" folded: x"[..], Kind::FoldedLine),
            (b"\tfolded", Kind::FoldedLine),
            (b"host : x", Kind::BadFieldName),
            (b"host\t: x", Kind::BadFieldName),
            (b": x", Kind::BadFieldName),
            (b"no colon", Kind::BadFieldName),
            (b"nocolon", Kind::BadFieldName),
            (b"caf\xc3\xa9: x", Kind::BadFieldName),
            (b"a\0: x", Kind::BadFieldName),
            (b"a\x0b: x", Kind::BadFieldName),
            (b"a(b): x", Kind::BadFieldName),
            (b"a: x\0y", Kind::BadFieldValue),
            (b"a: x\ry", Kind::BadFieldValue),
            (b"a: x\r", Kind::BadFieldValue),
            (b"a: \x0bchunked", Kind::BadFieldValue),
            (b"a: x\x7f", Kind::BadFieldValue),
        ] {
            assert_eq!(parse(line).err(), Some(kind), "{line:?}");
        }
    }
}
