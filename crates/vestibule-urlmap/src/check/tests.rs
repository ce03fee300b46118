use super::*;
use serde_json::{Value, json};

fn resolve(name: &str) -> Option<usize> {
    name.rsplit('/').next()?.strip_prefix('s')?.parse().ok()
}

fn parse(json: Value) -> compute::UrlMap {
    serde_json::from_value(json).expect("document")
}

fn refusal(json: Value) -> Option<String> {
    check(&parse(json), &Limits::GOOGLE, resolve).err().map(|problem| problem.to_string())
}

/// A map with one matcher and this in it.
fn with_matcher(member: &str, value: Value) -> Value {
    let mut map = json!({
        "defaultService": "s0",
        "hostRules": [{"hosts": ["*"], "pathMatcher": "m"}],
        "pathMatchers": [{"name": "m", "defaultService": "s0"}],
    });
    map["pathMatchers"][0][member] = value;
    map
}

#[test]
fn accepts_what_the_guide_makes() {
    assert_eq!(refusal(json!({"defaultService": "s1"})), None);
    let rules = json!([{"paths": ["/api/*"], "service": "s1"}, {"paths": ["/web/*"], "service": "s2"}]);
    assert_eq!(refusal(with_matcher("pathRules", rules)), None);
}

/// Each row: a map, and what its refusal must name.
#[test]
fn refusals_name_the_field() {
    let rows = [
        (json!({}), "Required field 'resource.defaultService' not specified"),
        (
            json!({"defaultService": "s1", "defaultUrlRedirect": {"httpsRedirect": true}}),
            "Invalid value for field 'resource.defaultService': 's1'.",
        ),
        (json!({"defaultService": "nope"}), "Invalid value for field 'resource.defaultService': 'nope'."),
        (
            json!({"defaultService": "s0", "hostRules": [{"hosts": ["a"], "pathMatcher": "m"}]}),
            "Invalid value for field 'resource.hostRules[0].pathMatcher': 'm'.",
        ),
        (
            json!({"defaultService": "s0", "pathMatchers": [{"name": "m", "defaultService": "s0"}]}),
            "Invalid value for field 'resource.pathMatchers[0].name': 'm'.",
        ),
        (
            with_matcher("name", json!("M")),
            "Invalid value for field 'resource.hostRules[0].pathMatcher': 'm'.",
        ),
        (
            with_matcher("defaultService", Value::Null),
            "Required field 'resource.pathMatchers[0].defaultService'",
        ),
        (
            with_matcher("pathRules", json!([{"paths": ["/a*"], "service": "s1"}])),
            "Invalid value for field 'resource.pathMatchers[0].pathRules[0].paths[0]': '/a*'.",
        ),
        (
            with_matcher(
                "pathRules",
                json!([{"paths": ["/a", "/b"], "service": "s1"}, {"paths": ["/a"], "service": "s1"}]),
            ),
            "Invalid value for field 'resource.pathMatchers[0].pathRules[1].paths[0]': '/a'.",
        ),
        (
            with_matcher("pathRules", json!([{"service": "s1"}])),
            "Required field 'resource.pathMatchers[0].pathRules[0].paths'",
        ),
        (
            with_matcher("routeRules", json!([{"service": "s1"}])),
            "Required field 'resource.pathMatchers[0].routeRules[0].matchRules'",
        ),
        (
            with_matcher(
                "routeRules",
                json!([
                    {"priority": 1, "service": "s1", "matchRules": [{"prefixMatch": "/"}]},
                    {"priority": 1, "service": "s1", "matchRules": [{"prefixMatch": "/"}]},
                ]),
            ),
            "Invalid value for field 'resource.pathMatchers[0].routeRules[1].priority': '1'.",
        ),
        (
            with_matcher(
                "routeRules",
                json!([{
                    "priority": -1, "service": "s1", "matchRules": [{"prefixMatch": "/"}],
                }]),
            ),
            "Invalid value for field 'resource.pathMatchers[0].routeRules[0].priority': '-1'.",
        ),
        (
            with_matcher(
                "routeRules",
                json!([{
                    "service": "s1", "matchRules": [{"prefixMatch": "/", "headerMatches": [{"headerName": "a"}]}],
                }]),
            ),
            "Invalid value for field 'resource.pathMatchers[0].routeRules[0].matchRules[0].headerMatches[0]': 'a'.",
        ),
        (
            with_matcher(
                "routeRules",
                json!([{
                    "service": "s1", "matchRules": [{"prefixMatch": "/a"}],
                    "routeAction": {"urlRewrite": {"pathTemplateRewrite": "/{a}"}},
                }]),
            ),
            "Invalid value for field 'resource.pathMatchers[0].routeRules[0].routeAction.urlRewrite.pathTemplateRewrite'",
        ),
        (
            json!({"defaultService": "s0", "defaultRouteAction": {"faultInjectionPolicy": {"abort": {"httpStatus": 99}}}}),
            "Invalid value for field 'resource.defaultRouteAction.faultInjectionPolicy.abort.httpStatus': '99'.",
        ),
        (
            json!({"defaultService": "s0", "headerAction": {"requestHeadersToAdd": [{"headerName": "Host"}]}}),
            "Invalid value for field 'resource.headerAction.requestHeadersToAdd[0].headerName': 'Host'.",
        ),
        (
            json!({"defaultService": "s0", "defaultCustomErrorResponsePolicy": {}}),
            "Invalid value for field 'resource.defaultCustomErrorResponsePolicy'",
        ),
        (
            json!({"defaultService": "s0", "description": "x".repeat(1025)}),
            "Invalid value for field 'resource.description'",
        ),
        (
            json!({"defaultService": "s0", "tests": [{"host": "h", "path": "/"}]}),
            "Required field 'resource.tests[0].service'",
        ),
        (
            json!({"defaultService": "s0", "tests": [
                {"host": "h", "path": "/", "service": "s0", "expectedRedirectResponseCode": 301},
            ]}),
            "Invalid value for field 'resource.tests[0].expectedRedirectResponseCode': '301'.",
        ),
        (
            json!({"defaultService": "s0", "tests": [
                {"host": "h", "path": "/", "service": "s0", "headers": [{"name": "Host", "value": "other"}]},
            ]}),
            "Invalid value for field 'resource.tests[0].headers[0].value': 'other'.",
        ),
    ];
    for (map, want) in rows {
        let got = refusal(map.clone()).unwrap_or_default();
        assert!(got.starts_with(want), "{map}\n want {want}\n got  {got}");
    }
}

#[test]
fn hosts_and_names_are_unique() {
    let map = json!({
        "defaultService": "s0",
        "hostRules": [{"hosts": ["a"], "pathMatcher": "m"}, {"hosts": ["A"], "pathMatcher": "m"}],
        "pathMatchers": [{"name": "m", "defaultService": "s0"}],
    });
    assert!(refusal(map).is_some_and(|text| text.contains("resource.hostRules[1].hosts[0]")));
    let map = json!({
        "defaultService": "s0",
        "hostRules": [{"hosts": ["a"], "pathMatcher": "m"}],
        "pathMatchers": [{"name": "m", "defaultService": "s0"}, {"name": "m", "defaultService": "s0"}],
    });
    assert!(refusal(map).is_some_and(|text| text.contains("resource.pathMatchers[1].name")));
    let map = json!({
        "defaultService": "s0",
        "hostRules": [{"hosts": ["a"], "pathMatcher": "M"}],
        "pathMatchers": [{"name": "M", "defaultService": "s0"}],
    });
    assert!(refusal(map).is_some_and(|text| text.contains("Must be a match of regex")));
}

#[test]
fn lists_have_limits() {
    let paths: Vec<Value> = (0..1001).map(|n| json!({"paths": [format!("/{n}")], "service": "s1"})).collect();
    let map = with_matcher("pathRules", Value::Array(paths));
    assert_eq!(
        refusal(map.clone()).as_deref(),
        Some(
            "Value for field 'resource.pathMatchers[0].pathRules' is too large: \
             maximum size 1000 element(s); actual size 1001."
        )
    );
    assert!(check(&parse(map), &Limits::GENEROUS, resolve).is_ok());
    let regexes: Vec<Value> = (0..6)
        .map(|n| json!({"priority": n, "service": "s1", "matchRules": [{"regexMatch": format!("/{n}")}]}))
        .collect();
    assert!(refusal(with_matcher("routeRules", Value::Array(regexes))).is_some());
    let long = json!([{"service": "s1", "matchRules": [{"regexMatch": "a".repeat(251)}]}]);
    assert!(refusal(with_matcher("routeRules", long)).is_some());
}

#[test]
fn references_are_found_everywhere() {
    let map = parse(json!({
        "defaultRouteAction": {
            "weightedBackendServices": [{"backendService": "s1", "weight": 1}],
            "requestMirrorPolicy": {"backendService": "s2"},
        },
        "pathMatchers": [{
            "name": "m", "defaultService": "s3",
            "pathRules": [{"paths": ["/a"], "service": "s4"}],
            "routeRules": [{"service": "s5"}],
        }],
        "tests": [{"service": "s6"}],
    }));
    let found: Vec<_> =
        references(&map).into_iter().map(|r| (r.field, r.service.to_string(), r.role)).collect();
    let want = [
        ("resource.defaultRouteAction.weightedBackendServices[0].backendService", "s1", Role::Serve),
        ("resource.defaultRouteAction.requestMirrorPolicy.backendService", "s2", Role::Mirror),
        ("resource.pathMatchers[0].defaultService", "s3", Role::Serve),
        ("resource.pathMatchers[0].pathRules[0].service", "s4", Role::Serve),
        ("resource.pathMatchers[0].routeRules[0].service", "s5", Role::Serve),
        ("resource.tests[0].service", "s6", Role::Test),
    ];
    assert_eq!(found, want.map(|(field, service, role)| (field.to_string(), service.to_string(), role)));
}

fn failures(json: Value) -> Vec<TestFailure> {
    let doc = parse(json);
    let map = check(&doc, &Limits::GOOGLE, resolve).expect("valid");
    run_tests(&doc, &map, resolve, |index| format!("s{index}"))
}

fn mapped(test: Value) -> Value {
    let mut map = with_matcher(
        "routeRules",
        json!([
            {"priority": 1, "matchRules": [{"prefixMatch": "/old/"}], "urlRedirect": {
                "prefixRedirect": "/new/", "httpsRedirect": true, "stripQuery": true,
                "redirectResponseCode": "FOUND",
            }},
            {"priority": 2, "matchRules": [{"prefixMatch": "/api/"}], "service": "s1", "routeAction": {
                "urlRewrite": {"pathPrefixRewrite": "/v1/", "hostRewrite": "in.example"},
            }},
            {"priority": 3, "service": "s2", "matchRules": [
                {"prefixMatch": "/", "headerMatches": [{"headerName": "x", "exactMatch": "y"}]},
            ]},
            {"priority": 4, "matchRules": [{"prefixMatch": "/split"}], "routeAction": {
                "weightedBackendServices": [
                    {"backendService": "s3", "weight": 1}, {"backendService": "s4", "weight": 9},
                ],
            }},
        ]),
    );
    map["tests"] = json!([test]);
    map
}

#[test]
fn passing_tests() {
    for test in [
        json!({"host": "h", "path": "/", "service": "s0"}),
        json!({"host": "h", "path": "/", "service": "https://x/compute/v1/s0"}),
        json!({"host": "h", "path": "/a/../api/x", "service": "s1"}),
        json!({"host": "h", "path": "/api/x?q", "service": "s1", "expectedOutputUrl": "https://in.example/v1/x?q"}),
        json!({"host": "h", "path": "/api/x", "expectedOutputUrl": "http://in.example/v1/x"}),
        json!({"host": "h", "path": "/", "service": "s2", "headers": [{"name": "X", "value": "y"}]}),
        json!({"host": "h", "path": "/split", "service": "s3"}),
        json!({"host": "h", "path": "/old/a?q", "expectedOutputUrl": "https://h/new/a",
               "expectedRedirectResponseCode": 302}),
    ] {
        assert_eq!(failures(mapped(test.clone())), [], "{test}");
    }
}

#[test]
fn failing_tests_say_what_happened() {
    for (test, want) in [
        (
            json!({"host": "h", "path": "/api/x", "service": "s2"}),
            "Expect URL 'h/api/x' to map to service 's2', but actually mapped to 's1'.",
        ),
        (
            json!({"host": "h", "path": "/split", "service": "s2"}),
            "Expect URL 'h/split' to map to service 's2', but actually mapped to 's4'.",
        ),
        (
            json!({"host": "h", "path": "/old/a", "service": "s2"}),
            "Expect URL 'h/old/a' to map to service 's2', but actually mapped to ''.",
        ),
        (
            json!({"host": "h", "path": "/old/a", "expectedRedirectResponseCode": 301}),
            "Expect URL 'h/old/a' to redirect with code '301', but actually got '302'.",
        ),
        (
            json!({"host": "h", "path": "/old/a", "expectedRedirectResponseCode": 302,
                   "expectedOutputUrl": "http://h/new/a"}),
            "Expect URL 'h/old/a' to lead to URL 'http://h/new/a', but actually got 'https://h/new/a'.",
        ),
    ] {
        let failures = failures(mapped(test.clone()));
        assert_eq!(failures.iter().map(ToString::to_string).collect::<Vec<_>>(), [want], "{test}");
    }
}

#[test]
fn a_failure_is_the_apis_object() {
    let failures = failures(mapped(json!({"host": "h", "path": "/old/a", "service": "s2"})));
    assert_eq!(
        failures[0].to_value(),
        json!({
            "host": "h", "path": "/old/a", "expectedService": "s2", "actualOutputUrl": "https://h/new/a",
            "actualRedirectResponseCode": 302,
        })
    );
}
