use super::*;
use crate::headers::tests::List;
use proptest::prelude::*;
use serde_json::{Value, json};

const SERVICES: [&str; 6] = ["org-site", "video-site", "video-hd", "video-sd", "blue", "green"];

fn resolve(name: &str) -> Option<usize> {
    SERVICES.iter().position(|known| *known == name)
}

fn compile(json: Value) -> UrlMap {
    UrlMap::compile(&serde_json::from_value(json).expect("document"), resolve).expect("compiles")
}

fn view<'r>(host: &'r str, path: &'r str) -> RequestView<'r> {
    RequestView {
        host: host.as_bytes(),
        path: path.as_bytes(),
        query: None,
        method: b"GET",
        headers: &(),
        random: 0,
    }
}

fn forward<'m>(map: &'m UrlMap, host: &str, path: &str) -> ForwardDecision<'m> {
    match map.route(&view(host, path)) {
        Decision::Forward(forward) => forward,
        Decision::Redirect(redirect) => panic!("{host}{path} is redirected by {:?}", redirect.trail),
    }
}

fn rewritten(decision: &ForwardDecision<'_>, path: &str) -> String {
    let mut out = Vec::new();
    match decision.rewrite_path(path.as_bytes(), &mut out) {
        true => String::from_utf8(out).expect("text"),
        false => path.to_string(),
    }
}

/// The example of Google's page on URL map concepts.
fn video() -> UrlMap {
    compile(json!({
        "defaultService": "org-site",
        "hostRules": [{"hosts": ["example.net"], "pathMatcher": "video"}],
        "pathMatchers": [{
            "name": "video", "defaultService": "video-site",
            "pathRules": [
                {"paths": ["/video/hd", "/video/hd/*"], "service": "video-hd"},
                {"paths": ["/video/sd", "/video/sd/*"], "service": "video-sd"},
            ],
        }],
    }))
}

#[test]
fn the_video_site() {
    let map = video();
    for (host, path, service, label) in [
        ("example.org", "/anything", "org-site", UNMATCHED),
        ("example.net", "/video", "video-site", UNMATCHED),
        ("example.net", "/video/examples", "video-site", UNMATCHED),
        ("example.net", "/", "video-site", UNMATCHED),
        ("example.net", "/video/hd", "video-hd", "/video/hd"),
        ("example.net", "/video/hd/movie1", "video-hd", "/video/hd/*"),
        ("EXAMPLE.net", "/video/hd/movies/movie2", "video-hd", "/video/hd/*"),
        ("example.net", "/video/sd/show2", "video-sd", "/video/sd/*"),
        ("example.net:8080", "/video/sd/show2", "org-site", UNMATCHED),
    ] {
        let found = forward(&map, host, path);
        assert_eq!((SERVICES[found.service], found.trail.label()), (service, label), "{host}{path}");
    }
}

#[test]
fn the_trail_tells_the_way() {
    let map = video();
    let trail = forward(&map, "example.net", "/video/sd").trail;
    assert_eq!(
        (trail.host, trail.path_matcher, trail.rule),
        (Some("example.net"), Some("video"), Some("/video/sd"))
    );
    let trail = forward(&map, "example.org", "/").trail;
    assert_eq!((trail.host, trail.path_matcher, trail.rule), (None, None, None));
}

fn one_matcher(rules: &str, value: Value) -> UrlMap {
    let mut map = json!({
        "defaultService": "org-site",
        "hostRules": [{"hosts": ["*"], "pathMatcher": "m"}],
        "pathMatchers": [{"name": "m", "defaultService": "org-site"}],
    });
    map["pathMatchers"][0][rules] = value;
    compile(map)
}

#[test]
fn the_lowest_priority_number_wins() {
    let map = one_matcher(
        "routeRules",
        json!([
            {"priority": 7, "matchRules": [{"fullPathMatch": "/a"}], "service": "blue"},
            {"priority": 1, "matchRules": [{"prefixMatch": "/"}], "service": "green"},
        ]),
    );
    assert_eq!(SERVICES[forward(&map, "h", "/a").service], "green");
}

#[test]
fn rewrites_replace_what_matched() {
    let rewrite = |to: &str| json!({"urlRewrite": {"pathPrefixRewrite": to}});
    let map = one_matcher(
        "routeRules",
        json!([
            {"priority": 1, "matchRules": [{"prefixMatch": "/pre/"}], "service": "blue", "routeAction": rewrite("/new/")},
            {"priority": 2, "matchRules": [{"prefixMatch": "/noslash"}], "service": "blue", "routeAction": rewrite("/x")},
            {"priority": 3, "matchRules": [{"fullPathMatch": "/a/b"}], "service": "blue", "routeAction": rewrite("/z")},
            {"priority": 4, "matchRules": [{"regexMatch": "/re/[0-9]+"}], "service": "blue", "routeAction": rewrite("/z")},
            {"priority": 5, "matchRules": [{"prefixMatch": "/Ci/", "ignoreCase": true}], "service": "blue",
             "routeAction": rewrite("/n/")},
            {"priority": 6, "matchRules": [{"pathTemplateMatch": "/tpl/{u=*}/carts/{r=**}"}], "service": "blue",
             "routeAction": {"urlRewrite": {"pathTemplateRewrite": "/{u}-{r}"}}},
        ]),
    );
    for (path, want) in [
        ("/pre/abc", "/new/abc"),
        ("/noslashabc", "/xabc"),
        ("/a/b", "/z"),
        ("/re/12", "/z"),
        ("/cI/x", "/n/x"),
        ("/tpl/abc@x.com/carts/FL/e/S", "/abc@x.com-FL/e/S"),
        ("/other", "/other"),
    ] {
        assert_eq!(rewritten(&forward(&map, "h", path), path), want);
    }
}

#[test]
fn path_rules_and_defaults_rewrite_too() {
    let map = one_matcher(
        "pathRules",
        json!([{"paths": ["/a/*"], "service": "blue", "routeAction": {
            "urlRewrite": {"pathPrefixRewrite": "/b/", "hostRewrite": "in.example"},
        }}]),
    );
    let found = forward(&map, "h", "/a/c");
    assert_eq!(rewritten(&found, "/a/c"), "/b/c");
    assert_eq!(found.rewritten_host(), Some("in.example"));
    let map = compile(json!({
        "defaultService": "blue", "defaultRouteAction": {"urlRewrite": {"pathPrefixRewrite": "/b"}},
    }));
    assert_eq!(rewritten(&forward(&map, "h", "/c/d"), "/c/d"), "/bc/d");
}

#[test]
fn rules_share_an_action_only_where_they_say_the_same() {
    let map = one_matcher(
        "pathRules",
        json!([
            {"paths": ["/a"], "service": "blue"},
            {"paths": ["/b"], "service": "blue", "routeAction": {"timeout": {"seconds": "7"}}},
            {"paths": ["/c"], "service": "green"},
            {"paths": ["/d/*"], "service": "blue"},
        ]),
    );
    for (path, service, timeout) in
        [("/a", "blue", None), ("/b", "blue", Some(7)), ("/c", "green", None), ("/d/x", "blue", None)]
    {
        let found = forward(&map, "h", path);
        let limit = found.action.timeout().map(|limit| limit.as_secs());
        assert_eq!((SERVICES[found.service], limit), (service, timeout), "{path}");
    }
    assert!(std::ptr::eq(forward(&map, "h", "/a").action, forward(&map, "h", "/d/x").action));
}

#[test]
fn redirects() {
    let map = one_matcher(
        "pathRules",
        json!([{"paths": ["/old/*"], "urlRedirect": {"prefixRedirect": "/new/", "redirectResponseCode": "FOUND"}}]),
    );
    let Decision::Redirect(redirect) = map.route(&view("h", "/old/x")) else { panic!("redirect") };
    assert_eq!((redirect.status(), redirect.trail.label()), (302, "/old/*"));
    let mut location = Vec::new();
    redirect
        .location(AskedUrl { https: false, host: b"h", path: b"/old/x", query: Some(b"q") }, &mut location);
    assert_eq!(String::from_utf8_lossy(&location), "http://h/new/x?q");
}

#[test]
fn header_actions_of_all_levels() {
    let add = |text: &str| json!({"requestHeadersToAdd": [{"headerName": "x", "headerValue": text, "replace": false}]});
    let map = compile(json!({
        "defaultService": "org-site", "headerAction": add("map"),
        "hostRules": [{"hosts": ["h"], "pathMatcher": "m"}],
        "pathMatchers": [{
            "name": "m", "defaultService": "org-site", "headerAction": add("matcher"),
            "routeRules": [{
                "priority": 0, "matchRules": [{"prefixMatch": "/r"}], "headerAction": add("rule"),
                "routeAction": {"weightedBackendServices": [
                    {"backendService": "blue", "weight": 1, "headerAction": add("weighted")},
                ]},
            }],
        }],
    }));
    let values = |host, path| {
        let mut headers = List::default();
        forward(&map, host, path).headers.apply_request(&mut headers, &|_: &str, _: &mut Vec<u8>| {});
        headers.0.into_iter().map(|(_, value)| value).collect::<Vec<_>>()
    };
    assert_eq!(values("h", "/r"), ["weighted", "rule", "matcher", "map"]);
    assert_eq!(values("h", "/"), ["matcher", "map"]);
    assert_eq!(values("other", "/"), ["map"]);
}

#[test]
fn weights_follow_the_random_number() {
    let map = compile(json!({"defaultRouteAction": {"weightedBackendServices": [
        {"backendService": "blue", "weight": 1}, {"backendService": "green", "weight": 1},
    ]}}));
    let served = |random| match map.route(&RequestView { random, ..view("h", "/") }) {
        Decision::Forward(found) => SERVICES[found.service],
        Decision::Redirect(_) => "redirect",
    };
    assert_eq!((served(0), served(u64::MAX)), ("blue", "green"));
}

/// Documents of the right shape with odd content.
fn odd_document() -> impl Strategy<Value = Value> {
    let text = "[/a*{}.(?=<>-]{0,8}";
    let service = prop_oneof![Just("blue".to_string()), Just(String::new()), text.prop_map(String::from)];
    let rule = (service.clone(), text, text, text, -5i32..5, any::<bool>()).prop_map(|(service, a, b, c, n, flag)| {
        json!({
            "priority": n, "service": service, "paths": [a, b],
            "matchRules": [{"prefixMatch": a, "ignoreCase": flag}, {"regexMatch": b}, {"pathTemplateMatch": c}],
            "routeAction": {"urlRewrite": {"regexRewrite": {"pathPattern": b, "pathSubstitution": c}},
                "timeout": {"seconds": n.to_string()}, "retryPolicy": {"numRetries": n.max(0)}},
        })
    });
    (proptest::collection::vec(rule, 0..4), text, service, any::<bool>()).prop_map(
        |(rules, host, service, paths)| {
            json!({
                "defaultService": service, "hostRules": [{"hosts": [host], "pathMatcher": "m"}],
                "pathMatchers": [{"name": "m", "defaultService": "blue",
                    (if paths { "pathRules" } else { "routeRules" }): rules}],
            })
        },
    )
}

proptest! {
    #[test]
    fn compiling_and_routing_never_panic(doc in odd_document(), host in "[a.]{0,4}", path in "/[a/*.]{0,8}") {
        let doc: compute::UrlMap = serde_json::from_value(doc).expect("document");
        let _ = crate::check::check(&doc, &crate::check::Limits::GENEROUS, resolve);
        if let Ok(map) = UrlMap::compile(&doc, resolve)
            && let Decision::Forward(found) = map.route(&view(&host, &path))
        {
            let mut out = Vec::new();
            prop_assert!(!found.rewrite_path(path.as_bytes(), &mut out) || out.starts_with(b"/"));
        }
    }
}
