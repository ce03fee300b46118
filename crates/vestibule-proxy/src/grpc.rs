//! What gRPC means to a load balancer that passes it on as the HTTP/2 it is: a deadline in the request, and answers of
//! our own in a form that gRPC's clients read.
//!
//! A client of gRPC looks at the trailers and takes any HTTP status but 200 for a broken server. An answer of our own
//! therefore goes out as Envoy sends it: status 200, no body, and head and trailers in one.

use std::borrow::Cow;
use std::time::Duration;

use vestibule_http1::Request;

use crate::answer::Answer;

/// The media type, alone or with `+proto` and the like behind it.
const MEDIA_TYPE: &str = "application/grpc";

/// The status of a call that took longer than its client waits.
pub(crate) const DEADLINE_EXCEEDED: u8 = 4;

/// Lower than this no answer is an error.
const FIRST_ERROR: u16 = 400;

/// The request is a call of gRPC.
pub(crate) fn is_call(request: &Request<'_>) -> bool {
    let media_type =
        field(request, b"content-type").and_then(|value| value.strip_prefix(MEDIA_TYPE.as_bytes()));
    media_type.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
}

/// How long the client will wait, from `grpc-timeout`.
pub(crate) fn timeout(request: &Request<'_>) -> Option<Duration> {
    parse_timeout(field(request, b"grpc-timeout").filter(|_| is_call(request))?)
}

fn field<'a>(request: &Request<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let buffer = request.buffer();
    let field = request.fields().iter().find(|field| field.name.of(buffer) == name)?;
    Some(field.value.of(buffer))
}

/// At most eight digits and a unit.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// An answer of our own to a call. What is no error goes out as it is.
pub(crate) fn answer(answer: Answer<'_>) -> Answer<'_> {
    if answer.status < FIRST_ERROR {
        return answer;
    }
    let status = answer.grpc_status.unwrap_or_else(|| status_of(answer.status));
    let message = message_of(&answer.body);
    let mut fields = answer.fields;
    fields.push(("grpc-status", Cow::Owned(status.to_string().into_bytes())));
    if !message.is_empty() {
        fields.push(("grpc-message", message.into()));
    }
    Answer {
        status: 200,
        content_type: Some(MEDIA_TYPE),
        body: Cow::Borrowed(b""),
        fields,
        proxy: answer.proxy,
        grpc_status: None,
    }
}

/// The status of gRPC for one of HTTP (gRPC's own table, which Envoy follows).
fn status_of(http: u16) -> u8 {
    match http {
        // INTERNAL
        400 => 13,
        // UNAUTHENTICATED
        401 => 16,
        // PERMISSION_DENIED
        403 => 7,
        // UNIMPLEMENTED
        404 => 12,
        // UNAVAILABLE
        429 | 502 | 503 | 504 => 14,
        // UNKNOWN
        _ => 2,
    }
}

/// A text as `grpc-message` holds it: what is not printable ASCII, and the percent sign, as `%` and two digits.
fn message_of(text: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(text.len());
    for &byte in text {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            message.push(byte);
        } else {
            message.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use vestibule_http1::RequestHead;

    fn with_head<T>(lines: &str, test: impl FnOnce(&Request<'_>) -> T) -> T {
        let mut bytes = format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes();
        let mut head = RequestHead::default();
        head.parse(&mut bytes).unwrap();
        test(&head.view(&bytes))
    }

    #[test]
    fn calls_are_told_by_their_type() {
        for (lines, is) in [
            ("content-type: application/grpc\r\n", true),
            ("content-type: application/grpc+proto\r\n", true),
            ("content-type: application/grpc-web\r\n", false),
            ("content-type: text/plain\r\n", false),
            ("", false),
        ] {
            assert_eq!(with_head(lines, is_call), is, "{lines}");
        }
    }

    #[test]
    fn deadlines_have_eight_digits_and_a_unit() {
        assert_eq!(parse_timeout(b"1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse_timeout(b"2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse_timeout(b"99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(parse_timeout(b"100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse_timeout(b"5u"), Some(Duration::from_micros(5)));
        assert_eq!(parse_timeout(b"5n"), Some(Duration::from_nanos(5)));
        for bad in [&b""[..], b"m", b"1", b"1s", b"-1S", b"1.5S", b"123456789S"] {
            assert_eq!(parse_timeout(bad), None);
        }
        let lines = "content-type: application/grpc\r\ngrpc-timeout: 1S\r\n";
        assert_eq!(with_head(lines, timeout), Some(Duration::from_secs(1)));
        assert_eq!(with_head("grpc-timeout: 1S\r\n", timeout), None);
    }

    #[test]
    fn errors_become_trailers() {
        let made = answer(Answer::text(503, "no healthy upstream").because("destination_unavailable", ""));
        assert_eq!((made.status, made.body.len(), made.content_type), (200, 0, Some("application/grpc")));
        assert_eq!(made.fields[0], ("grpc-status", Cow::Borrowed(&b"14"[..])));
        assert_eq!(made.fields[1], ("grpc-message", Cow::Borrowed(&b"no healthy upstream"[..])));
        assert!(made.proxy.is_some());
        assert_eq!(answer(Answer::deadline()).fields[0], ("grpc-status", Cow::Borrowed(&b"4"[..])));
        assert_eq!(answer(Answer::redirect(302, b"x".to_vec())).status, 302);
        assert_eq!(message_of("50% caf\u{e9}\n".as_bytes()), b"50%25 caf%C3%A9%0A");
    }
}
