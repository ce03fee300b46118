//! Heads as they go on: what stays, what ends here, what the load balancer adds.
//!
//! Most requests pass through unchanged but for a handful of fields, so their lines are copied from the buffer they
//! were read into, neighbouring lines at once. Only a route with header actions makes a list of them first.

use std::borrow::Cow;

use vestibule_http1::{Field, Name, encode};
use vestibule_urlmap::HeaderMap;

/// The value of `Via` in both directions, as Google's load balancers send it.
const VIA: &[u8] = b"via: 1.1 google\r\n";

/// Copies the fields that `keep` wants, in their order.
pub(crate) fn copy(out: &mut Vec<u8>, buffer: &[u8], fields: &[Field], keep: impl Fn(&Field) -> bool) {
    // Lines that stand next to each other and are copied as they stand.
    let mut run = 0..0;
    for field in fields.iter().filter(|field| keep(field)) {
        match field.whole_line() {
            Some(line) if line.start == run.end => run.end = line.end,
            Some(line) => {
                out.extend_from_slice(&buffer[run]);
                run = line;
            }
            None => {
                out.extend_from_slice(&buffer[std::mem::take(&mut run)]);
                encode::field(out, field.name.of(buffer), field.value.of(buffer));
            }
        }
    }
    out.extend_from_slice(&buffer[run]);
}

/// Adds our `Via`.
pub(crate) fn via(out: &mut Vec<u8>) {
    out.extend_from_slice(VIA);
}

/// `x-forwarded-for: [what the client sent,]client[,load balancer]`. What the client sent stays in front, unverified.
pub(crate) fn forwarded_for(
    out: &mut Vec<u8>,
    buffer: &[u8],
    fields: &[Field],
    client: &str,
    balancer: &[u8],
) {
    out.extend_from_slice(b"x-forwarded-for: ");
    for field in fields.iter().filter(|field| field.id == Name::XForwardedFor && !field.nominated) {
        let supplied = field.value.of(buffer);
        if !supplied.is_empty() {
            out.extend_from_slice(supplied);
            out.push(b',');
        }
    }
    out.extend_from_slice(client.as_bytes());
    out.extend_from_slice(balancer);
    out.extend_from_slice(b"\r\n");
}

/// A list of fields that header actions can change.
#[derive(Default)]
pub(crate) struct List<'a> {
    /// Names and values.
    fields: Vec<(Text<'a>, Text<'a>)>,
}

type Text<'a> = Cow<'a, [u8]>;

impl<'a> List<'a> {
    pub(crate) fn of(buffer: &'a [u8], fields: &[Field], keep: impl Fn(&Field) -> bool) -> List<'a> {
        let kept = fields.iter().filter(|field| keep(field));
        let pairs = kept.map(|field| (field.name.of(buffer).into(), field.value.of(buffer).into()));
        List { fields: pairs.collect() }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.fields {
            encode::field(out, name, value);
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, _)| known.as_ref() == name.as_bytes())
    }
}

/// Says where a message ends or what becomes of its connection. That is never for a configuration to say.
fn is_fixed(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "content-length"
            | "host"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

impl HeaderMap for List<'_> {
    fn remove(&mut self, name: &str) {
        self.fields.retain(|(known, _)| known.as_ref() != name.as_bytes());
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    fn append(&mut self, name: &str, value: &[u8]) {
        if is_fixed(name) {
            return;
        }
        self.fields.push((name.as_bytes().to_vec().into(), value.to_vec().into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vestibule_http1::RequestHead;

    fn with_fields<T>(lines: &str, test: impl FnOnce(&[u8], &[Field]) -> T) -> T {
        let mut buffer = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes();
        let mut head = RequestHead::default();
        assert_eq!(head.parse(&mut buffer), Ok(Some(buffer.len())));
        test(&buffer, head.view(&buffer).fields())
    }

    #[test]
    fn lines_are_copied_in_order_whatever_their_shape() {
        with_fields("A: 1\r\nDrop: x\r\nB:2 \r\nC: 3\r\nD: 4\r\n", |buffer, fields| {
            let mut out = Vec::new();
            copy(&mut out, buffer, fields, |field| !matches!(field.name.of(buffer), b"drop" | b"host"));
            assert_eq!(out, b"a: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n");
        });
    }

    #[test]
    fn supplied_addresses_stay_in_front() {
        let write = |lines: &str| {
            with_fields(lines, |buffer, fields| {
                let mut out = Vec::new();
                forwarded_for(&mut out, buffer, fields, "10.0.0.5", b",10.0.0.100");
                String::from_utf8(out).unwrap()
            })
        };
        assert_eq!(write(""), "x-forwarded-for: 10.0.0.5,10.0.0.100\r\n");
        assert_eq!(
            write("X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nx-forwarded-for: 3.3.3.3\r\n"),
            "x-forwarded-for: 1.1.1.1, 2.2.2.2,3.3.3.3,10.0.0.5,10.0.0.100\r\n"
        );
        assert_eq!(
            write("X-Forwarded-For: 1.1.1.1\r\nConnection: x-forwarded-for\r\n"),
            "x-forwarded-for: 10.0.0.5,10.0.0.100\r\n"
        );
    }

    #[test]
    fn a_list_changes_as_asked() {
        with_fields("A: 1\r\na: 2\r\nB: 3\r\n", |buffer, fields| {
            let mut list = List::of(buffer, fields, |field| field.id != Name::Host);
            list.set("a", b"4");
            list.append("b", b"5");
            list.remove("c");
            list.append("content-length", b"7");
            let mut out = Vec::new();
            list.write(&mut out);
            assert_eq!(out, b"b: 3\r\na: 4\r\nb: 5\r\n");
            assert!(list.contains("a") && !list.contains("c"));
        });
    }
}
