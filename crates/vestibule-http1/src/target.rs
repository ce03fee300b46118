//! The four forms of a request target (RFC 9112 section 3.2).

use crate::authority::is_valid_authority;
use crate::chars::is_target;
use crate::error::Kind;
use crate::request::Method;
use crate::span::Span;

/// A request target taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`.
    Origin,
    /// `http://authority/path?query`: the authority counts instead of `Host`. `path` is empty when nothing follows
    /// the authority, and may start with `?`.
    Absolute { https: bool, authority: Span, path: Span },
    /// `host:port`, of `CONNECT` alone.
    Authority,
    /// `*`, of `OPTIONS` alone.
    Asterisk,
}

/// Reads a target that stands at `span`.
pub(crate) fn parse(buffer: &[u8], span: Span, method: Method) -> Result<Form, Kind> {
    let target = span.of(buffer);
    if !is_target(target) {
        return Err(Kind::BadTarget);
    }
    match method {
        Method::Connect => authority_form(target),
        _ if target[0] == b'/' => Ok(Form::Origin),
        Method::Options if target == b"*" => Ok(Form::Asterisk),
        _ => absolute_form(target, span.start()),
    }
}

/// RFC 9110 section 9.3.6: a `CONNECT` names a port.
fn authority_form(target: &[u8]) -> Result<Form, Kind> {
    let has_port = target.last().is_some_and(u8::is_ascii_digit) && target.contains(&b':');
    if has_port && is_valid_authority(target) && !target.ends_with(b"]") {
        Ok(Form::Authority)
    } else {
        Err(Kind::BadTarget)
    }
}

fn absolute_form(target: &[u8], offset: usize) -> Result<Form, Kind> {
    let (https, scheme) = match () {
        _ if has_prefix(target, b"http://") => (false, b"http://".len()),
        _ if has_prefix(target, b"https://") => (true, b"https://".len()),
        _ => return Err(Kind::BadTarget),
    };
    let rest = &target[scheme..];
    let end = rest.iter().position(|&b| b == b'/' || b == b'?').unwrap_or(rest.len());
    if !is_valid_authority(&rest[..end]) {
        return Err(Kind::BadTarget);
    }
    let start = offset + scheme;
    Ok(Form::Absolute {
        https,
        authority: Span::new(start, start + end),
        path: Span::new(start + end, offset + target.len()),
    })
}

fn has_prefix(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(method: Method, target: &str) -> Result<Form, Kind> {
        parse(target.as_bytes(), Span::new(0, target.len()), method)
    }

    #[test]
    fn each_method_has_its_forms() {
        assert_eq!(form(Method::Get, "/a?b"), Ok(Form::Origin));
        assert_eq!(form(Method::Get, "//a"), Ok(Form::Origin));
        assert_eq!(form(Method::Options, "*"), Ok(Form::Asterisk));
        assert_eq!(form(Method::Get, "*"), Err(Kind::BadTarget));
        assert_eq!(form(Method::Options, "*x"), Err(Kind::BadTarget));
        assert_eq!(form(Method::Connect, "a.b:443"), Ok(Form::Authority));
        assert_eq!(form(Method::Connect, "[::1]:443"), Ok(Form::Authority));
        for bad in ["a.b", "/a:1", "[::1]", "a:", "http://a:1"] {
            assert_eq!(form(Method::Connect, bad), Err(Kind::BadTarget), "{bad}");
        }
        for bad in ["a", "a/b", "ftp://x/", "http:/x", "http://", "http:///x", "http://u@h/", "a:443"] {
            assert_eq!(form(Method::Get, bad), Err(Kind::BadTarget), "{bad}");
        }
    }

    #[test]
    fn an_absolute_target_comes_apart() {
        for (target, https, authority, path) in [
            ("http://a.b:1/c?d", false, "a.b:1", "/c?d"),
            ("HTTPS://a", true, "a", ""),
            ("http://a?q", false, "a", "?q"),
        ] {
            let Ok(Form::Absolute { https: h, authority: a, path: p }) = form(Method::Get, target) else {
                panic!("{target}");
            };
            let of = |s: Span| std::str::from_utf8(s.of(target.as_bytes())).unwrap();
            assert_eq!((h, of(a), of(p)), (https, authority, path));
        }
    }
}
