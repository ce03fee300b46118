//! A URL map with every kind of rule, as Terraform and gcloud write them, and what traffic makes of it.

#![allow(clippy::unwrap_used, reason = "a test may stop where its world is not as it should be")]

mod world;

use world::{PROJECT, REGION, World};

/// The map, with `{services}` for where backend services live.
const MAP: &str = r#"
name: my-internal-url-map
defaultService: {services}/my-internal-backend
hostRules:
- hosts: [routes.internal.example.com]
  pathMatcher: routes
- hosts: [old.internal.example.com]
  pathMatcher: moved
pathMatchers:
- name: moved
  defaultUrlRedirect: {hostRedirect: new.internal.example.com, redirectResponseCode: SEE_OTHER, stripQuery: false}
- name: routes
  defaultService: {services}/my-internal-backend
  headerAction:
    responseHeadersToAdd: [{headerName: x-matcher, headerValue: routes, replace: true}]
  routeRules:
  - priority: 1
    matchRules:
    - prefixMatch: /v1/
      headerMatches: [{headerName: x-team, exactMatch: a}]
      queryParameterMatches: [{name: debug, presentMatch: true}]
    service: {services}/my-api-backend
  - priority: 2
    matchRules: [{fullPathMatch: /exact, ignoreCase: true}]
    urlRedirect: {httpsRedirect: true, redirectResponseCode: PERMANENT_REDIRECT}
  - priority: 3
    matchRules: [{regexMatch: '/r/[0-9]+'}]
    routeAction:
      faultInjectionPolicy: {abort: {httpStatus: 503, percentage: 100}}
      weightedBackendServices: [{backendService: {services}/my-api-backend, weight: 1}]
  - priority: 4
    matchRules: [{pathTemplateMatch: '/u/{user=*}/{rest=**}'}]
    routeAction:
      urlRewrite: {pathTemplateRewrite: '/x/{rest}/{user}', hostRewrite: rewritten.example}
      weightedBackendServices: [{backendService: {services}/my-api-backend, weight: 1}]
  - priority: 5
    matchRules: [{prefixMatch: /private}]
    headerAction:
      responseHeadersToAdd: [{headerName: x-route, headerValue: private, replace: true}]
    routeAction:
      corsPolicy: {allowOrigins: ['https://a.example'], allowMethods: [GET]}
      weightedBackendServices: [{backendService: {services}/my-internal-backend, weight: 1}]
"#;

/// The head of an answer, in lower case, and its body.
fn answer(world: &World, url: &str, headers: &[&str]) -> (String, String) {
    let mut words = vec!["curl", "-sS", "-k", "--max-time", "60", "-i"];
    words.extend(headers.iter().flat_map(|h| ["-H", h]));
    words.push(url);
    let answer = world.vm(&words);
    assert_eq!(answer.code, 0, "curl {url}: {answer:?}");
    let (head, body) = answer.stdout.split_once("\r\n\r\n").unwrap();
    (format!("{}\r\n", head.to_lowercase()), body.to_owned())
}

#[test]
fn every_kind_of_rule_is_obeyed() {
    let world = World::start();
    world.published_setup();
    world.ok(&format!(
        "run services add-iam-policy-binding my-api {REGION} --member=allUsers --role=roles/run.invoker"
    ));
    let services = format!("projects/{PROJECT}/regions/us-central1/backendServices");
    std::fs::write(world.path("map.yaml"), MAP.replace("{services}", &services)).unwrap();
    world.ok(&format!("compute url-maps import my-internal-url-map --source=map.yaml {REGION} --quiet"));

    let host = "Host: routes.internal.example.com";
    let get = |path: &str, headers: &[&str]| {
        answer(&world, &format!("http://10.0.0.100{path}"), &[&[host], headers].concat())
    };
    let (head, body) = get("/v1/z?debug", &["x-team: a"]);
    assert!(head.starts_with("http/1.1 200") && body.contains("my-api"), "{head}{body}");
    let (head, _) = get("/v1/z?debug", &["x-team: b"]);
    assert!(head.starts_with("http/1.1 403"), "the default service is private: {head}");
    let (head, _) = get("/EXACT", &[]);
    assert!(head.starts_with("http/1.1 308"), "{head}");
    assert!(head.contains("\r\nlocation: https://routes.internal.example.com/exact\r\n"), "{head}");
    let (head, body) = get("/r/12", &[]);
    assert!(head.starts_with("http/1.1 503") && body == "fault filter abort", "{head}{body}");
    let (head, body) = get("/u/joe/a/b", &[]);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.contains("/x/a/b/joe") && body.contains("host: rewritten.example"), "{body}");
    assert!(head.contains("\r\nx-matcher: routes\r\n"), "{head}");
    let (head, _) = answer(&world, "http://10.0.0.100/a?b=1", &["Host: old.internal.example.com"]);
    assert!(head.starts_with("http/1.1 303"), "{head}");
    assert!(head.contains("\r\nlocation: http://new.internal.example.com/a?b=1\r\n"), "{head}");
}

/// What Cloud Run refuses is an answer of the backend: what the route does to those, it does to this one.
#[test]
fn a_refused_request_s_answer_takes_the_same_way_back() {
    let world = World::start();
    world.published_setup();
    let services = format!("projects/{PROJECT}/regions/us-central1/backendServices");
    std::fs::write(world.path("map.yaml"), MAP.replace("{services}", &services)).unwrap();
    world.ok(&format!("compute url-maps import my-internal-url-map --source=map.yaml {REGION} --quiet"));
    let headers = ["Host: routes.internal.example.com", "Origin: https://a.example"];
    let (head, _) = answer(&world, "http://10.0.0.100/private", &headers);
    assert!(head.starts_with("http/1.1 403"), "{head}");
    for field in ["x-route: private", "x-matcher: routes", "access-control-allow-origin: https://a.example"] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field} is not in\n{head}");
    }
}
