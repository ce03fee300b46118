//! Header actions: which request and response headers are removed and added, and in what order.
//!
//! They stand on four levels: weighted backend service, route rule, path matcher, URL map. The levels take effect in
//! that order, so an outer level overwrites an inner one; within one level removals come before additions. Custom
//! headers of a backend service itself are a level before all of them.

use vestibule_model::compute;

use crate::field::{CompileError, Field};

/// Longest value of one added header in bytes, before variables are expanded. Also the most bytes of all custom headers
/// of a backend service on one side.
const MAX_VALUE: usize = 8 << 10;

/// Most custom headers of a backend service on one side.
const MAX_CUSTOM: usize = 16;

/// Headers that belong to one connection (RFC 9110 section 7.6.1) or to Google, and may not be set.
const RESERVED: &[&str] = &[
    "keep-alive",
    "transfer-encoding",
    "te",
    "connection",
    "trailer",
    "upgrade",
    "host",
    "x-user-ip",
    "cdn-loop",
];
const RESERVED_PREFIXES: &[&str] = &["x-google", "x-goog-", "x-gfe", "x-amz-"];

/// Variables that may stand in a header value as `{name}`. One whose value the load balancer does not know is empty.
pub const VARIABLES: &[&str] = &[
    "cdn_cache_id",
    "cdn_cache_status",
    "client_cert_chain",
    "client_cert_chain_verified",
    "client_cert_dnsname_sans",
    "client_cert_error",
    "client_cert_issuer_dn",
    "client_cert_leaf",
    "client_cert_present",
    "client_cert_serial_number",
    "client_cert_sha256_fingerprint",
    "client_cert_spiffe_id",
    "client_cert_subject_dn",
    "client_cert_uri_sans",
    "client_cert_valid_not_after",
    "client_cert_valid_not_before",
    "client_city",
    "client_city_lat_long",
    "client_encrypted",
    "client_ip_address",
    "client_port",
    "client_protocol",
    "client_region",
    "client_region_subdivision",
    "client_rtt_msec",
    "device_request_type",
    "origin_request_header",
    "server_ip_address",
    "server_port",
    "tls_cipher_suite",
    "tls_ja3_fingerprint",
    "tls_ja4_fingerprint",
    "tls_sni_hostname",
    "tls_version",
    "user_agent_family",
];

/// Headers that an action may change.
pub trait HeaderMap {
    /// Removes every header of the name. Names are lower case.
    fn remove(&mut self, name: &str);
    /// Replaces every header of the name by one.
    fn set(&mut self, name: &str, value: &[u8]);
    /// Adds a header beside those of the name.
    fn append(&mut self, name: &str, value: &[u8]);
}

/// Knows the values of [`VARIABLES`] for one request. What it does not know it leaves empty.
pub trait Variables {
    fn write(&self, name: &str, out: &mut Vec<u8>);
}

impl<F: Fn(&str, &mut Vec<u8>)> Variables for F {
    fn write(&self, name: &str, out: &mut Vec<u8>) {
        self(name, out);
    }
}

/// A compiled `headerAction`.
#[derive(Debug, Default)]
pub struct HeaderAction {
    pub request: HeaderEdits,
    pub response: HeaderEdits,
}

/// What one level does to one side's headers.
#[derive(Debug, Default)]
pub struct HeaderEdits {
    /// Lower-case names.
    remove: Box<[Box<str>]>,
    add: Box<[Addition]>,
}

#[derive(Debug)]
struct Addition {
    /// Lower case.
    name: Box<str>,
    value: Box<[Part]>,
    /// `true`: overwrite, `false`: add one more.
    replace: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Variable(&'static str),
}

impl HeaderAction {
    pub(crate) fn compile(
        doc: &compute::HttpHeaderAction,
        at: &Field<'_>,
    ) -> Result<HeaderAction, CompileError> {
        let request = HeaderEdits {
            remove: removals(&doc.request_headers_to_remove, "requestHeadersToRemove", at)?,
            add: additions(&doc.request_headers_to_add, "requestHeadersToAdd", at)?,
        };
        let response = HeaderEdits {
            remove: removals(&doc.response_headers_to_remove, "responseHeadersToRemove", at)?,
            add: additions(&doc.response_headers_to_add, "responseHeadersToAdd", at)?,
        };
        Ok(HeaderAction { request, response })
    }

    /// The custom headers of a backend service, `NAME: VALUE` each. They overwrite what is there.
    pub fn custom(request: &[String], response: &[String]) -> Result<HeaderAction, CompileError> {
        Ok(HeaderAction {
            request: HeaderEdits { remove: Box::default(), add: customs(request, "customRequestHeaders")? },
            response: HeaderEdits {
                remove: Box::default(),
                add: customs(response, "customResponseHeaders")?,
            },
        })
    }

    /// Nothing to do on either side.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

impl HeaderEdits {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// Carries the edits out.
    pub fn apply(&self, headers: &mut dyn HeaderMap, variables: &dyn Variables) {
        self.remove.iter().for_each(|name| headers.remove(name));
        let mut value = Vec::new();
        for addition in &self.add {
            value.clear();
            addition.write(variables, &mut value);
            match addition.replace {
                true => headers.set(&addition.name, &value),
                false => headers.append(&addition.name, &value),
            }
        }
    }
}

impl Addition {
    fn write(&self, variables: &dyn Variables, out: &mut Vec<u8>) {
        for part in &self.value {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(name) => {
                    let start = out.len();
                    variables.write(name, out);
                    // A variable may carry what a client chose. It must not end the header.
                    out[start..]
                        .iter_mut()
                        .filter(|byte| matches!(byte, b'\r' | b'\n' | 0))
                        .for_each(|b| *b = b' ');
                }
            }
        }
    }
}

fn removals(names: &[String], member: &str, at: &Field<'_>) -> Result<Box<[Box<str>]>, CompileError> {
    let checked = names.iter().enumerate().map(|(index, name)| match is_token(name) {
        true if name.eq_ignore_ascii_case("host") => {
            Err(at.item(member, index).invalid(name, "Header name is reserved."))
        }
        true => Ok(name.to_ascii_lowercase().into()),
        false => Err(at.item(member, index).invalid(name, "Header name is not valid.")),
    });
    checked.collect()
}

fn additions(
    options: &[compute::HttpHeaderOption],
    member: &str,
    at: &Field<'_>,
) -> Result<Box<[Addition]>, CompileError> {
    options.iter().enumerate().map(|(index, option)| addition(option, &at.item(member, index))).collect()
}

fn customs(lines: &[String], member: &str) -> Result<Box<[Addition]>, CompileError> {
    let field = Field::ROOT.member(member);
    let too_much = |why: String| Err(field.invalid(lines.len(), why));
    if lines.len() > MAX_CUSTOM {
        return too_much(format!("There may be at most {MAX_CUSTOM} headers."));
    }
    if lines.iter().map(String::len).sum::<usize>() > MAX_VALUE {
        return too_much(format!("All headers together must be at most {MAX_VALUE} bytes long."));
    }
    let mut additions: Vec<Addition> = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        let at = Field::ROOT.item(member, index);
        let Some((name, value)) = line.split_once(':') else {
            return Err(at.invalid(line, "Must be of the form NAME:VALUE."));
        };
        let name = name.trim();
        check_added_name(name).map_err(|why| at.invalid(line, why))?;
        let value = parse_value(value).map_err(|why| at.invalid(line, why))?;
        let name: Box<str> = name.to_ascii_lowercase().into();
        if additions.iter().any(|addition| addition.name == name) {
            return Err(at.invalid(line, "Header name stands twice."));
        }
        additions.push(Addition { name, value: value.into(), replace: true });
    }
    Ok(additions.into())
}

fn addition(option: &compute::HttpHeaderOption, at: &Field<'_>) -> Result<Addition, CompileError> {
    let name = option.header_name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err(at.member("headerName").required());
    }
    check_added_name(name).map_err(|why| at.member("headerName").invalid(name, why))?;
    let text = option.header_value.as_deref().unwrap_or_default();
    let value = parse_value(text).map_err(|why| at.member("headerValue").invalid(text, why))?;
    let has_variable = value.iter().any(|part| matches!(part, Part::Variable(_)));
    Ok(Addition {
        name: name.to_ascii_lowercase().into(),
        value: value.into(),
        replace: option.replace.unwrap_or(!has_variable),
    })
}

fn check_added_name(name: &str) -> Result<(), &'static str> {
    if !is_token(name) {
        return Err("Header name is not valid.");
    }
    let lower = name.to_ascii_lowercase();
    let reserved = RESERVED.contains(&lower.as_str());
    if reserved || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        return Err("Header name is reserved.");
    }
    Ok(())
}

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token(name: &str) -> bool {
    let special = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || special(byte))
}

/// Splits a value into text and variables. `{{` and `}}` stand for braces.
fn parse_value(text: &str) -> Result<Vec<Part>, String> {
    if text.len() > MAX_VALUE {
        return Err(format!("Header value must be at most {MAX_VALUE} bytes long."));
    }
    if text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err("Header value must not contain control characters.".into());
    }
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text.trim();
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        let (brace, after) = rest[at..].split_at(1);
        if let Some(after) = after.strip_prefix(brace) {
            literal.push_str(brace);
            rest = after;
            continue;
        }
        let name = after.split_once('}').filter(|_| brace == "{");
        let (name, after) = name.ok_or("Header value has an unbalanced brace.")?;
        let known = VARIABLES.iter().find(|known| **known == name);
        let known = known.ok_or_else(|| format!("Header value has the unknown variable '{name}'."))?;
        push_text(&mut literal, &mut parts);
        parts.push(Part::Variable(known));
        rest = after;
    }
    literal.push_str(rest);
    push_text(&mut literal, &mut parts);
    Ok(parts)
}

fn push_text(literal: &mut String, parts: &mut Vec<Part>) {
    if !literal.is_empty() {
        parts.push(Part::Text(std::mem::take(literal).into()));
    }
}

/// The header actions that apply to one request: backend service, weighted backend service, route rule, path matcher,
/// URL map.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeaderLevels<'m> {
    levels: [Option<&'m HeaderAction>; 5],
}

impl<'m> HeaderLevels<'m> {
    pub(crate) fn new(
        weighted: Option<&'m HeaderAction>,
        rule: Option<&'m HeaderAction>,
        matcher: Option<&'m HeaderAction>,
        map: Option<&'m HeaderAction>,
    ) -> HeaderLevels<'m> {
        HeaderLevels { levels: [None, weighted, rule, matcher, map] }
    }

    /// These, and the custom headers of the backend service that was chosen.
    pub fn with_service(mut self, custom: Option<&'m HeaderAction>) -> HeaderLevels<'m> {
        self.levels[0] = custom;
        self
    }

    /// The levels that apply to an answer which the load balancer makes itself: all but those of the backend service.
    pub fn for_local_reply(mut self) -> HeaderLevels<'m> {
        self.levels[..2].fill(None);
        self
    }

    /// No level asks for anything.
    pub fn is_empty(&self) -> bool {
        self.levels.iter().all(Option::is_none)
    }

    /// Changes the headers of the request that goes to the backend.
    pub fn apply_request(&self, headers: &mut dyn HeaderMap, variables: &dyn Variables) {
        self.levels.iter().flatten().for_each(|level| level.request.apply(headers, variables));
    }

    /// Changes the headers of the response that goes to the client.
    pub fn apply_response(&self, headers: &mut dyn HeaderMap, variables: &dyn Variables) {
        self.levels.iter().flatten().for_each(|level| level.response.apply(headers, variables));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// A list of headers that an action can change.
    #[derive(Debug, Default, PartialEq, Eq)]
    pub(crate) struct List(pub(crate) Vec<(String, String)>);

    impl HeaderMap for List {
        fn remove(&mut self, name: &str) {
            self.0.retain(|(known, _)| known != name);
        }
        fn set(&mut self, name: &str, value: &[u8]) {
            self.remove(name);
            self.append(name, value);
        }
        fn append(&mut self, name: &str, value: &[u8]) {
            self.0.push((name.into(), String::from_utf8_lossy(value).into_owned()));
        }
    }

    fn action(json: serde_json::Value) -> Result<HeaderAction, CompileError> {
        HeaderAction::compile(&serde_json::from_value(json).expect("document"), &Field::ROOT)
    }

    fn client_ip(name: &str, out: &mut Vec<u8>) {
        if name == "client_ip_address" {
            out.extend_from_slice(b"10.0.0.5");
        }
    }

    fn list(headers: &[(&str, &str)]) -> List {
        List(headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect())
    }

    #[test]
    fn custom_headers_of_a_backend_service() {
        let custom = |lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(|line| line.to_string()).collect();
            HeaderAction::custom(&lines, &[])
        };
        let action = custom(&["X-A: {client_ip_address}", "x-empty:", "x-b:1:2"]).expect("compiles");
        let levels = HeaderLevels::default().with_service(Some(&action));
        let mut headers = list(&[("x-a", "forged")]);
        levels.apply_request(&mut headers, &client_ip);
        assert_eq!(headers, list(&[("x-a", "10.0.0.5"), ("x-empty", ""), ("x-b", "1:2")]));
        assert!(levels.for_local_reply().is_empty());
        let long = format!("a:{}", "x".repeat(MAX_VALUE));
        for (lines, why) in [
            (&["no colon"][..], "customRequestHeaders[0]': 'no colon'. Must be of the form"),
            (&["host: h"], "reserved"),
            (&["x-goog-a: h"], "reserved"),
            (&["a b: h"], "not valid"),
            (&["a: {nope}"], "unknown variable 'nope'"),
            (&["a: 1", "A: 2"], "customRequestHeaders[1]': 'A: 2'. Header name stands twice."),
            (&["a: 1"; MAX_CUSTOM + 1], "at most 16 headers"),
            (&[&long], "at most 8192 bytes"),
        ] {
            let error = custom(lines).expect_err("refused").to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn removals_come_first_and_an_added_header_survives() {
        let action = action(json!({
            "requestHeadersToRemove": ["X-A"],
            "requestHeadersToAdd": [{"headerName": "X-A", "headerValue": "new"}],
        }))
        .expect("compiles");
        let mut headers = list(&[("x-a", "old"), ("x-b", "b")]);
        action.request.apply(&mut headers, &client_ip);
        assert_eq!(headers, list(&[("x-b", "b"), ("x-a", "new")]));
    }

    #[test]
    fn replace_defaults_to_true_without_a_variable_and_false_with_one() {
        let action = action(json!({"requestHeadersToAdd": [
            {"headerName": "a", "headerValue": "1"},
            {"headerName": "b", "headerValue": "{client_ip_address}"},
            {"headerName": "c", "headerValue": "2", "replace": false},
        ]}))
        .expect("compiles");
        let mut headers = list(&[("a", "0"), ("b", "0"), ("c", "0")]);
        action.request.apply(&mut headers, &client_ip);
        assert_eq!(headers, list(&[("b", "0"), ("c", "0"), ("a", "1"), ("b", "10.0.0.5"), ("c", "2")]));
    }

    #[test]
    fn levels_accumulate_from_the_inside_out() {
        let level = |text: &str| {
            action(
                json!({"responseHeadersToAdd": [{"headerName": "x", "headerValue": text, "replace": false}]}),
            )
            .expect("compiles")
        };
        let (weighted, rule, matcher, map) = (level("wc"), level("route"), level("vh"), level("rc"));
        let levels = HeaderLevels::new(Some(&weighted), Some(&rule), Some(&matcher), Some(&map));
        let mut headers = List::default();
        levels.apply_response(&mut headers, &client_ip);
        assert_eq!(headers, list(&[("x", "wc"), ("x", "route"), ("x", "vh"), ("x", "rc")]));
        let mut headers = List::default();
        levels.for_local_reply().apply_response(&mut headers, &client_ip);
        assert_eq!(headers.0.len(), 3);
    }

    #[test]
    fn values() {
        assert_eq!(parse_value("  a "), Ok(vec![Part::Text("a".into())]));
        assert_eq!(parse_value(""), Ok(vec![]));
        assert_eq!(parse_value("{{a}}"), Ok(vec![Part::Text("{a}".into())]));
        assert_eq!(
            parse_value("ip={client_ip_address};"),
            Ok(vec![Part::Text("ip=".into()), Part::Variable("client_ip_address"), Part::Text(";".into())])
        );
        for bad in ["{", "}", "{nope}", "{client_ip_address", "a\r\nb"] {
            assert!(parse_value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variable_cannot_end_its_header() {
        let action = action(
            json!({"requestHeadersToAdd": [{"headerName": "a", "headerValue": "{tls_sni_hostname}"}]}),
        )
        .expect("compiles");
        let mut headers = List::default();
        action.request.apply(&mut headers, &|_: &str, out: &mut Vec<u8>| out.extend_from_slice(b"x\r\nb: y"));
        assert_eq!(headers, list(&[("a", "x  b: y")]));
    }

    #[test]
    fn bad_actions() {
        for bad in [
            json!({"requestHeadersToAdd": [{"headerValue": "a"}]}),
            json!({"requestHeadersToAdd": [{"headerName": "a b", "headerValue": "a"}]}),
            json!({"requestHeadersToAdd": [{"headerName": "Connection", "headerValue": "a"}]}),
            json!({"requestHeadersToAdd": [{"headerName": "X-Goog-A", "headerValue": "a"}]}),
            json!({"responseHeadersToAdd": [{"headerName": "Host", "headerValue": "a"}]}),
            json!({"responseHeadersToRemove": ["a:b"]}),
        ] {
            assert!(action(bad.clone()).is_err(), "{bad}");
        }
    }
}
