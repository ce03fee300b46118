//! Header and query predicates of route rules, and regular expressions as URL maps mean them.

use regex::bytes::{Regex, RegexBuilder};
use vestibule_model::compute;

use crate::field::{CompileError, Field};
use crate::request::RequestView;

/// Memory that one compiled expression may take. RE2's default at Google is of this order; the text is at most a few
/// hundred characters.
const REGEX_SIZE_LIMIT: usize = 2 << 20;

/// Compiles an expression that must match a whole string.
pub(crate) fn full_match(pattern: &str) -> Result<Regex, String> {
    // The pattern must stand on its own: `a)|(b` would change what the anchors enclose.
    regex(pattern)?;
    regex(&format!(r"\A(?:{pattern})\z"))
}

/// Compiles an expression that may match anywhere.
pub(crate) fn regex(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(REGEX_SIZE_LIMIT)
        .build()
        .map_err(|error| format!("Invalid regular expression: {}", error.to_string().replace('\n', " ")))
}

/// A compiled `headerMatches[]` entry.
#[derive(Debug)]
pub(crate) struct HeaderMatch {
    source: Source,
    test: ValueTest,
    invert: bool,
}

/// Where the value of a header predicate comes from.
#[derive(Debug)]
enum Source {
    Header(Box<str>),
    /// `:method`
    Method,
    /// `:authority`
    Authority,
    /// `PORT`: the port of the authority.
    Port,
}

#[derive(Debug)]
enum ValueTest {
    Present,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Regex(Box<Regex>),
    /// From the first, up to and without the second.
    Range(i64, i64),
}

impl ValueTest {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            ValueTest::Present => true,
            ValueTest::Exact(wanted) => value == &**wanted,
            ValueTest::Prefix(wanted) => value.starts_with(wanted),
            ValueTest::Suffix(wanted) => value.ends_with(wanted),
            ValueTest::Regex(regex) => regex.is_match(value),
            ValueTest::Range(start, end) => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
                number.is_some_and(|number| (*start..*end).contains(&number))
            }
        }
    }
}

impl HeaderMatch {
    pub(crate) fn compile(
        doc: &compute::HttpHeaderMatch,
        at: &Field<'_>,
    ) -> Result<HeaderMatch, CompileError> {
        let name = doc.header_name.as_deref().unwrap_or_default();
        let source = match name {
            "" => return Err(at.member("headerName").required()),
            ":method" => Source::Method,
            ":authority" => Source::Authority,
            "PORT" => Source::Port,
            _ if !crate::headers::is_token(name) => {
                return Err(at.member("headerName").invalid(name, "Header name is not valid."));
            }
            _ => Source::Header(name.to_ascii_lowercase().into()),
        };
        if matches!(source, Source::Port) && doc.regex_match.is_none() {
            return Err(at.member("headerName").invalid(name, "PORT can only be matched with regexMatch."));
        }
        Ok(HeaderMatch { source, test: header_test(doc, at)?, invert: doc.invert_match.unwrap_or(false) })
    }

    /// As Envoy has it: any of several values may satisfy the test, and a header that is missing satisfies nothing,
    /// not even an inverted test; only "is not present" is then true.
    pub(crate) fn holds(&self, request: &RequestView<'_>) -> bool {
        let (mut present, mut satisfied) = (false, false);
        let mut each = |value: &[u8]| {
            present = true;
            satisfied |= self.test.holds(value);
        };
        match &self.source {
            Source::Header(name) => request.headers.values(name, &mut each),
            Source::Method => each(request.method),
            Source::Authority => each(request.host),
            Source::Port => port(request.host).iter().for_each(|port| each(port)),
        }
        match self.test {
            ValueTest::Present => present != self.invert,
            _ => present && satisfied != self.invert,
        }
    }
}

fn header_test(doc: &compute::HttpHeaderMatch, at: &Field<'_>) -> Result<ValueTest, CompileError> {
    let mut tests = Vec::new();
    let bytes = |text: &String| text.as_bytes().into();
    tests.extend(doc.exact_match.as_ref().map(|text| Ok(ValueTest::Exact(bytes(text)))));
    tests.extend(doc.prefix_match.as_ref().map(|text| Ok(ValueTest::Prefix(bytes(text)))));
    tests.extend(doc.suffix_match.as_ref().map(|text| Ok(ValueTest::Suffix(bytes(text)))));
    tests.extend(doc.present_match.filter(|present| *present).map(|_| Ok(ValueTest::Present)));
    tests.extend(doc.regex_match.as_ref().map(|text| regex_test(text, &at.member("regexMatch"))));
    tests.extend(doc.range_match.as_ref().map(|range| range_test(range, &at.member("rangeMatch"))));
    one_of(
        tests,
        at,
        doc.header_name.as_deref(),
        "Exactly one of exactMatch, prefixMatch, suffixMatch, regexMatch, rangeMatch or presentMatch must be set.",
    )
}

fn one_of(
    mut tests: Vec<Result<ValueTest, CompileError>>,
    at: &Field<'_>,
    name: Option<&str>,
    why: &str,
) -> Result<ValueTest, CompileError> {
    match tests.pop() {
        Some(test) if tests.is_empty() => test,
        _ => Err(at.invalid(name.unwrap_or_default(), why)),
    }
}

fn regex_test(pattern: &str, at: &Field<'_>) -> Result<ValueTest, CompileError> {
    let regex = full_match(pattern).map_err(|why| at.invalid(pattern, why))?;
    Ok(ValueTest::Regex(Box::new(regex)))
}

fn range_test(range: &compute::Int64RangeMatch, at: &Field<'_>) -> Result<ValueTest, CompileError> {
    let number = |text: &Option<String>, name: &str| match text.as_deref() {
        None => Ok(0),
        Some(text) => text.parse().map_err(|_| at.member(name).invalid(text, "Must be a 64-bit integer.")),
    };
    let (start, end) = (number(&range.range_start, "rangeStart")?, number(&range.range_end, "rangeEnd")?);
    if start >= end {
        return Err(at.member("rangeEnd").invalid(end, "Must be greater than rangeStart."));
    }
    Ok(ValueTest::Range(start, end))
}

/// The port of an authority, without its colon.
fn port(host: &[u8]) -> Option<&[u8]> {
    let colon = host.iter().rposition(|&byte| byte == b':')?;
    let port = &host[colon + 1..];
    (!port.is_empty() && port.iter().all(u8::is_ascii_digit)).then_some(port)
}

/// A compiled `queryParameterMatches[]` entry.
#[derive(Debug)]
pub(crate) struct QueryMatch {
    name: Box<[u8]>,
    test: ValueTest,
}

impl QueryMatch {
    pub(crate) fn compile(
        doc: &compute::HttpQueryParameterMatch,
        at: &Field<'_>,
    ) -> Result<QueryMatch, CompileError> {
        let name = doc.name.as_deref().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| at.member("name").required())?;
        let mut tests = Vec::new();
        tests.extend(doc.exact_match.as_ref().map(|text| Ok(ValueTest::Exact(text.as_bytes().into()))));
        tests.extend(doc.present_match.filter(|present| *present).map(|_| Ok(ValueTest::Present)));
        tests.extend(doc.regex_match.as_ref().map(|text| regex_test(text, &at.member("regexMatch"))));
        let why = "Exactly one of exactMatch, regexMatch or presentMatch must be set.";
        let test = one_of(tests, at, Some(name), why)?;
        Ok(QueryMatch { name: name.as_bytes().into(), test })
    }

    /// Only the first parameter of the name counts, and nothing is decoded, as Envoy has it.
    pub(crate) fn holds(&self, query: Option<&[u8]>) -> bool {
        let parameters = query.unwrap_or_default().split(|&byte| byte == b'&');
        let mut pairs = parameters.map(|pair| match pair.iter().position(|&byte| byte == b'=') {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &b""[..]),
        });
        let value = pairs.find(|(name, _)| *name == &*self.name);
        value.is_some_and(|(_, value)| self.test.holds(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(json: serde_json::Value) -> HeaderMatch {
        let doc = serde_json::from_value(json).expect("document");
        HeaderMatch::compile(&doc, &Field::ROOT).expect("compiles")
    }

    fn holds(test: &HeaderMatch, headers: &[(&str, &str)]) -> bool {
        let headers: Vec<(&str, &str)> = headers.to_vec();
        test.holds(&view(&headers))
    }

    fn view<'r>(headers: &'r Vec<(&'r str, &'r str)>) -> RequestView<'r> {
        RequestView { host: b"h.example:8080", path: b"/", query: None, method: b"PUT", headers, random: 0 }
    }

    use serde_json::json;

    #[test]
    fn ranges() {
        let test = header(json!({"headerName": "N", "rangeMatch": {"rangeStart": "-5", "rangeEnd": "0"}}));
        for (value, want) in [
            ("-3", true),
            ("-5", true),
            ("0", false),
            ("0.25", false),
            ("-3x", false),
            ("", false),
            ("-03", true),
        ] {
            assert_eq!(holds(&test, &[("n", value)]), want, "{value}");
        }
        assert!(!holds(&test, &[]));
    }

    #[test]
    fn presence_and_inversion() {
        let present = header(json!({"headerName": "a", "presentMatch": true}));
        assert!(holds(&present, &[("A", "")]) && !holds(&present, &[]));
        let absent = header(json!({"headerName": "a", "presentMatch": true, "invertMatch": true}));
        assert!(holds(&absent, &[]) && !holds(&absent, &[("a", "")]));
        let not_v = header(json!({"headerName": "a", "exactMatch": "v", "invertMatch": true}));
        assert!(holds(&not_v, &[("a", "w")]) && !holds(&not_v, &[("a", "v")]));
        assert!(!holds(&not_v, &[]), "a missing header satisfies nothing");
    }

    #[test]
    fn several_lines_are_tested_one_by_one() {
        let joined = header(json!({"headerName": "x", "exactMatch": "a,b"}));
        assert!(!holds(&joined, &[("x", "a"), ("x", "b")]));
        let one = header(json!({"headerName": "x", "exactMatch": "b"}));
        assert!(holds(&one, &[("x", "a"), ("x", "b")]));
    }

    #[test]
    fn text_tests() {
        assert!(holds(&header(json!({"headerName": "x", "prefixMatch": "ab"})), &[("x", "abc")]));
        assert!(holds(&header(json!({"headerName": "x", "suffixMatch": "bc"})), &[("x", "abc")]));
        let regex = header(json!({"headerName": "x", "regexMatch": "[0-9]+|z"}));
        assert!(
            holds(&regex, &[("x", "12")]) && !holds(&regex, &[("x", "12x")]) && holds(&regex, &[("x", "z")])
        );
    }

    #[test]
    fn pseudo_headers() {
        assert!(holds(&header(json!({"headerName": ":method", "exactMatch": "PUT"})), &[]));
        assert!(holds(&header(json!({"headerName": ":authority", "prefixMatch": "h.ex"})), &[]));
        assert!(holds(&header(json!({"headerName": "PORT", "regexMatch": "80.0"})), &[]));
    }

    #[test]
    fn bad_header_tests() {
        for bad in [
            json!({"exactMatch": "a"}),
            json!({"headerName": "a"}),
            json!({"headerName": "a", "presentMatch": false}),
            json!({"headerName": "a", "exactMatch": "a", "prefixMatch": "a"}),
            json!({"headerName": "a b", "exactMatch": "a"}),
            json!({"headerName": ":path", "exactMatch": "a"}),
            json!({"headerName": "PORT", "exactMatch": "80"}),
            json!({"headerName": "a", "regexMatch": "("}),
            json!({"headerName": "a", "regexMatch": "a)|(b"}),
            json!({"headerName": "a", "rangeMatch": {"rangeStart": "5", "rangeEnd": "5"}}),
        ] {
            let doc = serde_json::from_value(bad.clone()).expect("document");
            assert!(HeaderMatch::compile(&doc, &Field::ROOT).is_err(), "{bad}");
        }
    }

    #[test]
    fn query_parameters() {
        let query = |json| {
            let doc = serde_json::from_value(json).expect("document");
            QueryMatch::compile(&doc, &Field::ROOT).expect("compiles")
        };
        let exact = query(json!({"name": "k", "exactMatch": "v"}));
        let present = query(json!({"name": "k", "presentMatch": true}));
        let regex = query(json!({"name": "k", "regexMatch": "v+"}));
        for (text, is_v, is_present, is_vs) in [
            (None, false, false, false),
            (Some("k=v"), true, true, true),
            (Some("k=vv"), false, true, true),
            (Some("k=x&k=v"), false, true, false),
            (Some("k=v&k=x"), true, true, true),
            (Some("k"), false, true, false),
            (Some("k="), false, true, false),
            (Some("kk=v"), false, false, false),
            (Some("%6b=v"), false, false, false),
            (Some("k=v%20"), false, true, false),
            (Some("a=1;k=v"), false, false, false),
        ] {
            let query = text.map(str::as_bytes);
            assert_eq!(exact.holds(query), is_v, "{text:?}");
            assert_eq!(present.holds(query), is_present, "{text:?}");
            assert_eq!(regex.holds(query), is_vs, "{text:?}");
        }
    }
}
