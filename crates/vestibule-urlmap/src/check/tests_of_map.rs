//! The tests that a URL map carries: they gate its insert, update and patch, and `validate` reports them.

use serde_json::{Map, Value, json};
use vestibule_model::compute;

use crate::map::{Decision, UrlMap};
use crate::normalize;
use crate::redirect::AskedUrl;
use crate::request::RequestView;

/// A test that did not come out as expected. Fields as the Compute API's `TestFailure`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TestFailure {
    pub host: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub expected_service: Option<String>,
    pub actual_service: Option<String>,
    pub expected_output_url: Option<String>,
    pub actual_output_url: Option<String>,
    pub expected_redirect_response_code: Option<i32>,
    pub actual_redirect_response_code: Option<i32>,
}

impl TestFailure {
    /// The JSON object of the API.
    pub fn to_value(&self) -> Value {
        let mut object = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            object.extend(value.map(|value| (name.to_string(), value)));
        };
        let headers: Vec<Value> =
            self.headers.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        put("host", Some(json!(self.host)));
        put("path", Some(json!(self.path)));
        put("headers", (!headers.is_empty()).then_some(Value::Array(headers)));
        put("expectedService", self.expected_service.as_ref().map(|text| json!(text)));
        put("actualService", self.actual_service.as_ref().map(|text| json!(text)));
        put("expectedOutputUrl", self.expected_output_url.as_ref().map(|text| json!(text)));
        put("actualOutputUrl", self.actual_output_url.as_ref().map(|text| json!(text)));
        put("expectedRedirectResponseCode", self.expected_redirect_response_code.map(|code| json!(code)));
        put("actualRedirectResponseCode", self.actual_redirect_response_code.map(|code| json!(code)));
        Value::Object(object)
    }
}

impl std::fmt::Display for TestFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let url = format!("{}{}", self.host, self.path);
        if self.expected_service != self.actual_service {
            let (want, got) = (text(&self.expected_service), text(&self.actual_service));
            return write!(
                f,
                "Expect URL '{url}' to map to service '{want}', but actually mapped to '{got}'."
            );
        }
        if self.expected_redirect_response_code != self.actual_redirect_response_code {
            let (want, got) = (self.expected_redirect_response_code, self.actual_redirect_response_code);
            let (want, got) = (want.unwrap_or_default(), got.unwrap_or_default());
            return write!(f, "Expect URL '{url}' to redirect with code '{want}', but actually got '{got}'.");
        }
        let (want, got) = (text(&self.expected_output_url), text(&self.actual_output_url));
        write!(f, "Expect URL '{url}' to lead to URL '{want}', but actually got '{got}'.")
    }
}

/// Runs every test against the compiled map. `resolve` is the one that the map was compiled with; `name` gives back the
/// reference of a service.
pub fn run_tests(
    doc: &compute::UrlMap,
    map: &UrlMap,
    mut resolve: impl FnMut(&str) -> Option<usize>,
    name: impl Fn(usize) -> String,
) -> Vec<TestFailure> {
    doc.tests.iter().filter_map(|test| run(test, map, &mut resolve, &name)).collect()
}

/// What the map did with a test's request.
#[derive(Default)]
struct Actual {
    /// Services that may get it, the likeliest first.
    services: Vec<usize>,
    url: String,
    redirect: Option<u16>,
}

fn run(
    test: &compute::UrlMapTest,
    map: &UrlMap,
    resolve: &mut dyn FnMut(&str) -> Option<usize>,
    name: &dyn Fn(usize) -> String,
) -> Option<TestFailure> {
    let actual = ask(test, map);
    let non_empty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let expected_service = non_empty(&test.service);
    let expected_url = non_empty(&test.expected_output_url);
    let service_right = match expected_service.as_deref() {
        Some(reference) => resolve(reference).is_some_and(|index| actual.services.contains(&index)),
        None => true,
    };
    let code = actual.redirect.map(i32::from);
    let code_right = test.expected_redirect_response_code.is_none_or(|expected| Some(expected) == code);
    let url_right = expected_url.as_deref().is_none_or(|expected| same_url(expected, &actual.url));
    if service_right && code_right && url_right {
        return None;
    }
    Some(TestFailure {
        host: test.host.clone().unwrap_or_default(),
        path: test.path.clone().unwrap_or_default(),
        headers: headers(test),
        // A service that is right is reported as it was expected, however the map spells it.
        actual_service: match service_right {
            true => expected_service.clone(),
            false => actual.services.first().map(|index| name(*index)),
        },
        expected_service,
        expected_output_url: expected_url,
        actual_output_url: Some(actual.url),
        expected_redirect_response_code: test.expected_redirect_response_code,
        actual_redirect_response_code: code,
    })
}

fn headers(test: &compute::UrlMapTest) -> Vec<(String, String)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    test.headers.iter().map(|header| (text(&header.name), text(&header.value))).collect()
}

fn ask(test: &compute::UrlMapTest, map: &UrlMap) -> Actual {
    let host = test.host.as_deref().unwrap_or_default();
    let target = test.path.as_deref().unwrap_or("/");
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let Ok(path) = normalize::path(path.as_bytes()) else { return Actual::default() };
    let headers = headers(test);
    let request = RequestView {
        host: host.as_bytes(),
        path: &path,
        query: query.map(str::as_bytes),
        method: b"GET",
        headers: &headers,
        random: 0,
    };
    let mut url = Vec::new();
    match map.route(&request) {
        Decision::Redirect(redirect) => {
            let asked =
                AskedUrl { https: false, host: request.host, path: request.path, query: request.query };
            redirect.location(asked, &mut url);
            Actual { services: vec![], url: lossy(url), redirect: Some(redirect.status()) }
        }
        Decision::Forward(forward) => {
            url.extend_from_slice(forward.rewritten_host().unwrap_or(host).as_bytes());
            if !forward.rewrite_path(&path, &mut url) {
                url.extend_from_slice(&path);
            }
            url.extend(query.iter().flat_map(|query| format!("?{query}").into_bytes()));
            let mut services = forward.action.services();
            services.retain(|(_, share)| *share > 0.0);
            services.sort_by(|a, b| b.1.total_cmp(&a.1));
            let services = services.into_iter().map(|(index, _)| index).collect();
            Actual { services, url: format!("http://{}", lossy(url)), redirect: None }
        }
    }
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Compares without the scheme, which a test does not set, except where the map itself sends clients to HTTPS.
fn same_url(expected: &str, actual: &str) -> bool {
    if actual.starts_with("https://") {
        return expected == actual;
    }
    let bare = |url: &str| url.split_once("://").map_or(url, |(_, rest)| rest).to_string();
    bare(expected) == bare(actual)
}
