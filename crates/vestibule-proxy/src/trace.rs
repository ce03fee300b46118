//! The trace that a request belongs to, as Cloud Run tells its containers.
//!
//! A client's own trace goes on (`traceparent` of W3C Trace Context, or `x-cloud-trace-context`); without one a new one
//! begins. The container gets both headers, and the service's log entry carries the trace, so that what the container
//! logs can be found with its request.

use vestibule_http1::{Field, Name, Request, encode};

/// 32 lower-case hexadecimal digits.
pub(crate) type TraceId = [u8; 32];

/// A trace and the span that calls the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) id: TraceId,
    span: u64,
    sampled: bool,
    has_parent: bool,
    has_cloud: bool,
}

impl Trace {
    /// That of the request, or a new one.
    pub(crate) fn of(request: &Request<'_>) -> Trace {
        let text = |id| request.first(id).and_then(|value| std::str::from_utf8(value).ok());
        let parent = text(Name::TraceParent).and_then(parse_parent);
        let cloud = text(Name::XCloudTraceContext).and_then(parse_cloud);
        let (has_parent, has_cloud) = (parent.is_some(), cloud.is_some());
        let (id, span, sampled) = parent.or(cloud).unwrap_or_else(fresh);
        Trace { id, span, sampled, has_parent, has_cloud }
    }

    /// Whether a field is replaced by [`write`](Self::write), because what it says is no trace.
    pub(crate) fn replaces(&self, field: &Field) -> bool {
        match field.id {
            Name::TraceParent => !self.has_parent,
            Name::XCloudTraceContext => !self.has_cloud,
            _ => false,
        }
    }

    /// Appends the headers that the request lacks.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let sampled = b'0' + u8::from(self.sampled);
        if !self.has_parent {
            out.extend_from_slice(b"traceparent: 00-");
            out.extend_from_slice(&self.id);
            out.push(b'-');
            out.extend_from_slice(&hex(self.span));
            out.extend_from_slice(&[b'-', b'0', sampled, b'\r', b'\n']);
        }
        if !self.has_cloud {
            out.extend_from_slice(b"x-cloud-trace-context: ");
            out.extend_from_slice(&self.id);
            out.push(b'/');
            encode::decimal(out, self.span);
            out.extend_from_slice(&[b';', b'o', b'=', sampled, b'\r', b'\n']);
        }
    }
}

type Parts = (TraceId, u64, bool);

fn fresh() -> Parts {
    // Neither may be all zeros.
    let mut id = [0; 32];
    id[..16].copy_from_slice(&hex(fastrand::u64(1..)));
    id[16..].copy_from_slice(&hex(fastrand::u64(..)));
    (id, fastrand::u64(1..), false)
}

fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (at, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (60 - 4 * at)) as usize & 15];
    }
    digits
}

/// `00-TRACE-SPAN-FLAGS`.
fn parse_parent(value: &str) -> Option<Parts> {
    let mut parts = value.split('-');
    let (version, id, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if !is_hex(version, 2) || version == "ff" || !is_hex(span, 16) || !is_hex(flags, 2) {
        return None;
    }
    let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    Some((trace_id(id)?, span, sampled))
}

/// `TRACE[/SPAN][;o=OPTIONS]`, the span in decimal.
fn parse_cloud(value: &str) -> Option<Parts> {
    let (ids, options) = value.split_once(';').unwrap_or((value, ""));
    let (id, span) = ids.split_once('/').unwrap_or((ids, "1"));
    Some((trace_id(id)?, span.parse().ok()?, options == "o=1"))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn trace_id(text: &str) -> Option<TraceId> {
    let usable = is_hex(text, 32) && text.bytes().any(|b| b != b'0');
    let id: TraceId = text.as_bytes().try_into().ok().filter(|_| usable)?;
    Some(id.map(|b| b.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vestibule_http1::RequestHead;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    fn trace(lines: &str) -> (Trace, String) {
        let mut bytes = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes();
        let mut head = RequestHead::default();
        head.parse(&mut bytes).unwrap();
        let trace = Trace::of(&head.view(&bytes));
        let mut out = Vec::new();
        trace.write(&mut out);
        (trace, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_clients_trace_goes_on() {
        let (one, written) = trace(&format!("traceparent: 00-{ID}-00f067aa0ba902b7-01\r\n"));
        assert_eq!(one.id, ID.as_bytes());
        assert_eq!(written, format!("x-cloud-trace-context: {ID}/67667974448284343;o=1\r\n"));
        let (one, written) = trace(&format!("X-Cloud-Trace-Context: {ID}/1;o=0\r\n"));
        assert_eq!(one.id, ID.as_bytes());
        assert_eq!(written, format!("traceparent: 00-{ID}-0000000000000001-00\r\n"));
    }

    #[test]
    fn what_is_no_trace_is_replaced() {
        for lines in ["", "traceparent: 00-zz-1-00\r\n", "x-cloud-trace-context: 1/2\r\n"] {
            let (one, written) = trace(lines);
            let id = std::str::from_utf8(&one.id).unwrap();
            assert!(trace_id(id).is_some(), "{lines}");
            assert_eq!(written.matches(id).count(), 2, "{lines}");
        }
        assert_ne!(trace("").0.id, trace("").0.id);
    }
}
