//! What keeps a client with an endpoint: the part of a request that it is placed by.

use std::net::IpAddr;
use std::time::Duration;

use crate::hash;

/// Name of the cookie that the load balancer makes for `GENERATED_COOKIE` (INTERNAL_MANAGED's, as gcloud documents it).
pub const COOKIE: &str = "GCILB";

/// `sessionAffinity` of a backend service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Affinity {
    #[default]
    None,
    ClientIp,
    /// `GENERATED_COOKIE` and `HTTP_COOKIE`.
    Cookie(Cookie),
    /// `STRONG_COOKIE_AFFINITY`: the cookie names the endpoint.
    Strong(Cookie),
    /// `HEADER_FIELD`, by the header's lower-case name.
    Header(String),
}

/// A cookie that places requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    pub name: String,
    pub path: Option<String>,
    /// How long a client keeps it. `Some(0)`: as long as its session. `None`: it is the application's own, and none
    /// is made for a request without it.
    pub ttl: Option<Duration>,
}

/// The parts of a request that may place it.
pub trait Parts {
    fn client(&self) -> IpAddr;
    /// The first value of a header. `name` is in lower case.
    fn header(&self, name: &str) -> Option<&[u8]>;
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placing {
    /// Places the request; `None`: nothing does.
    pub hash: Option<u64>,
    /// Key of the endpoint that a strong cookie names.
    pub endpoint: Option<u64>,
    /// Value of the `set-cookie` header that the client is to get.
    pub cookie: Option<String>,
}

impl Affinity {
    /// Places a request. `random` becomes a new cookie, if one is needed.
    pub fn place(&self, parts: &impl Parts, random: u64) -> Placing {
        match self {
            Affinity::None => Placing::default(),
            Affinity::ClientIp => {
                let hash = match parts.client() {
                    IpAddr::V4(ip) => hash::bytes(&ip.octets()),
                    IpAddr::V6(ip) => hash::bytes(&ip.octets()),
                };
                Placing { hash: Some(hash), ..Placing::default() }
            }
            Affinity::Header(name) => {
                Placing { hash: parts.header(name).map(hash::bytes), ..Placing::default() }
            }
            Affinity::Cookie(cookie) => cookie.place(parts, random),
            Affinity::Strong(cookie) => {
                let sent = parts.header("cookie").and_then(|header| value_of(header, &cookie.name));
                let key = sent.and_then(|value| std::str::from_utf8(value).ok());
                Placing {
                    endpoint: key.and_then(|key| u64::from_str_radix(key, 16).ok()),
                    ..Placing::default()
                }
            }
        }
    }
}

impl Cookie {
    fn place(&self, parts: &impl Parts, random: u64) -> Placing {
        let sent = parts.header("cookie").and_then(|header| value_of(header, &self.name));
        if let Some(value) = sent.filter(|value| !value.is_empty()) {
            return Placing { hash: Some(hash::bytes(value)), ..Placing::default() };
        }
        if self.ttl.is_none() {
            return Placing::default();
        }
        let value = format!("{random:016x}");
        Placing {
            hash: Some(hash::bytes(value.as_bytes())),
            cookie: Some(self.with_value(&value)),
            endpoint: None,
        }
    }

    /// The cookie as a response sets it.
    pub fn with_value(&self, value: &str) -> String {
        let mut text = format!("{}=\"{value}\"", self.name);
        if let Some(ttl) = self.ttl.filter(|ttl| !ttl.is_zero()) {
            text.push_str(&format!("; Max-Age={}", ttl.as_secs()));
        }
        text.push_str(&format!("; Path={}; HttpOnly", self.path.as_deref().unwrap_or("/")));
        text
    }
}

/// The value of one cookie in a `Cookie` header (RFC 6265 section 4.2.1), without quotes.
pub fn value_of<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    header.split(|byte| *byte == b';').find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Request(IpAddr, Vec<(&'static str, &'static str)>);

    impl Parts for Request {
        fn client(&self) -> IpAddr {
            self.0
        }
        fn header(&self, name: &str) -> Option<&[u8]> {
            self.1.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_bytes())
        }
    }

    fn request(ip: &str, headers: &[(&'static str, &'static str)]) -> Request {
        Request(ip.parse().unwrap(), headers.to_vec())
    }

    fn cookie(ttl: Option<u64>) -> Cookie {
        Cookie { name: "c".into(), path: None, ttl: ttl.map(Duration::from_secs) }
    }

    #[test]
    fn a_client_is_its_address_and_not_its_port() {
        let place = |ip| Affinity::ClientIp.place(&request(ip, &[]), 0).hash;
        assert_eq!(place("10.0.0.1"), place("10.0.0.1"));
        assert_ne!(place("10.0.0.1"), place("10.0.0.2"));
        assert!(place("::1").is_some());
        assert_eq!(Affinity::None.place(&request("10.0.0.1", &[]), 0), Placing::default());
    }

    #[test]
    fn a_header_that_is_missing_places_nothing() {
        let affinity = Affinity::Header("x-user".into());
        assert_eq!(affinity.place(&request("10.0.0.1", &[]), 0).hash, None);
        let hash = affinity.place(&request("10.0.0.1", &[("x-user", "me")]), 0).hash;
        assert_eq!(hash, Some(hash::bytes(b"me")));
    }

    #[test]
    fn a_cookie_is_made_once_and_comes_back() {
        let affinity = Affinity::Cookie(Cookie { name: COOKIE.into(), ..cookie(Some(60)) });
        let first = affinity.place(&request("10.0.0.1", &[]), 0xabc);
        assert_eq!(first.cookie.as_deref(), Some("GCILB=\"0000000000000abc\"; Max-Age=60; Path=/; HttpOnly"));
        let again = affinity.place(&request("10.0.0.9", &[("cookie", "a=b; GCILB=\"0000000000000abc\"")]), 7);
        assert_eq!((again.hash, again.cookie), (first.hash, None));
    }

    #[test]
    fn lifetimes_of_cookies() {
        assert_eq!(cookie(Some(0)).with_value("v"), "c=\"v\"; Path=/; HttpOnly");
        let own = Affinity::Cookie(cookie(None)).place(&request("10.0.0.1", &[]), 1);
        assert_eq!(own, Placing::default());
        let there = Affinity::Cookie(cookie(None)).place(&request("10.0.0.1", &[("cookie", "c=x")]), 1);
        assert_eq!(there.hash, Some(hash::bytes(b"x")));
    }

    #[test]
    fn a_strong_cookie_names_the_endpoint() {
        let affinity = Affinity::Strong(cookie(Some(0)));
        let place = |value| affinity.place(&request("10.0.0.1", &[("cookie", value)]), 1).endpoint;
        assert_eq!(place("c=\"00000000000000ff\""), Some(255));
        assert_eq!(place("c=nonsense"), None);
        assert_eq!(place("d=1"), None);
    }

    #[test]
    fn values_of_cookies() {
        for (header, value) in [
            ("c=1", Some("1")),
            (" a=b ;c=\"1\" ", Some("1")),
            ("xc=1; cx=2", None),
            ("c=", Some("")),
            ("c", None),
            ("c=\"", Some("\"")),
        ] {
            assert_eq!(value_of(header.as_bytes(), "c"), value.map(str::as_bytes), "{header}");
        }
    }
}
