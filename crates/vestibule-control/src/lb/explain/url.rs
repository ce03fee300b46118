//! Taking a URL apart, as far as it is needed to ask where it leads.

/// An http or https URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Url<'u> {
    pub https: bool,
    /// Host and port as written.
    pub authority: &'u str,
    pub host: &'u str,
    /// As written, or the scheme's own.
    pub port: u16,
    /// At least `/`.
    pub path: &'u str,
    pub query: Option<&'u str>,
}

impl<'u> Url<'u> {
    /// Reads `[http[s]://]host[:port][/path][?query][#fragment]`.
    pub fn parse(text: &'u str) -> Option<Url<'u>> {
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        let (https, rest) = match text.split_once("://") {
            None => (false, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some(_) => return None,
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let authority = authority.rsplit_once('@').map_or(authority, |(_, authority)| authority);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, if https { 443 } else { 80 }),
        };
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let path = if path.is_empty() { "/" } else { path };
        is_host(host).then_some(Url { https, authority, host, port, path, query })
    }
}

/// Whether a text can be an address or a name. RFC 3986 allows more, of which no name in DNS consists.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |text| Url::parse(text).map(|u| (u.https, u.authority, u.host, u.port, u.path, u.query));
        assert_eq!(url("http://h/a?b#c"), Some((false, "h", "h", 80, "/a", Some("b"))));
        assert_eq!(url("https://h:8443"), Some((true, "h:8443", "h", 8443, "/", None)));
        assert_eq!(url("10.0.0.100"), Some((false, "10.0.0.100", "10.0.0.100", 80, "/", None)));
        assert_eq!(url("h?x"), Some((false, "h", "h", 80, "/", Some("x"))));
        assert_eq!(url("HTTPS://user@h/"), Some((true, "h", "h", 443, "/", None)));
        for bad in ["", "ftp://h/", "http://", "http://h:port/", "http:///path", "no url", "h%20"] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }
}
