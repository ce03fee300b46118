//! The worked examples of Google's documentation and of the rules that follow from it.

use serde_json::{Value, json};

use super::{Ask, Question};

fn question(name: &str, map: Value, requests: &[&str]) -> Question {
    let requests = requests.iter().map(|request| ask(request)).collect();
    Question { name: name.to_owned(), map, requests }
}

/// `host/path`, or `METHOD host/path`, and field lines behind ` | `.
fn ask(text: &str) -> Ask {
    let mut parts = text.split(" | ");
    let url = parts.next().unwrap();
    let (method, url) = match url.strip_prefix("OPTIONS ") {
        Some(url) => ("OPTIONS", url),
        None => ("GET", url),
    };
    let (host, target) = url.split_at(url.find('/').unwrap());
    Ask {
        method,
        host: host.to_owned(),
        target: target.to_owned(),
        fields: parts.map(str::to_owned).collect(),
    }
}

/// A map with one matcher for every host.
fn one(rules: &str, list: Value) -> Value {
    json!({
        "defaultService": "s0",
        "hostRules": [{"hosts": ["*"], "pathMatcher": "m"}],
        "pathMatchers": [{"name": "m", "defaultService": "s0", rules: list}],
    })
}

fn when(condition: Value) -> Value {
    one("routeRules", json!([{"priority": 1, "matchRules": [condition], "service": "s1"}]))
}

fn headers(header: Value) -> Value {
    when(json!({"prefixMatch": "/", "headerMatches": [header]}))
}

fn query(query: Value) -> Value {
    when(json!({"prefixMatch": "/", "queryParameterMatches": [query]}))
}

pub fn all() -> Vec<Question> {
    [hosts_and_paths(), predicates(), templates(), rewrites(), redirects(), answers()].concat_all()
}

/// `concat` for what is not `Clone`.
trait ConcatAll<T> {
    fn concat_all(self) -> Vec<T>;
}

impl<T, const N: usize> ConcatAll<T> for [Vec<T>; N] {
    fn concat_all(self) -> Vec<T> {
        self.into_iter().flatten().collect()
    }
}

fn hosts_and_paths() -> Vec<Question> {
    let video = json!({
        "defaultService": "s0",
        "hostRules": [{"hosts": ["example.net"], "pathMatcher": "video"}],
        "pathMatchers": [{"name": "video", "defaultService": "s1", "pathRules": [
            {"paths": ["/video/hd", "/video/hd/*"], "service": "s2"},
            {"paths": ["/video/sd", "/video/sd/*"], "service": "s3"}]}],
    });
    let matcher = |name: &str, service: &str| json!({"name": name, "defaultService": service});
    let hosts = json!({
        "defaultService": "s0",
        "hostRules": [
            {"hosts": ["*.ex.example"], "pathMatcher": "a"},
            {"hosts": ["*-foo.ex.example"], "pathMatcher": "b"},
            {"hosts": ["a.ex.example", "example.net:8080"], "pathMatcher": "c"}],
        "pathMatchers": [matcher("a", "s1"), matcher("b", "s2"), matcher("c", "s3")],
    });
    vec![
        question(
            "video",
            video,
            &[
                "example.org/anything",
                "example.net/video",
                "example.net/video/examples",
                "example.net/",
                "example.net/video/hd",
                "example.net/video/hd/",
                "example.net/video/hd/movie1",
                "EXAMPLE.net/video/hd/movies/movie2",
                "example.net/video/sd/show2",
                "example.net/video/hdx",
                "example.net/VIDEO/hd",
                "example.net:8080/video/hd",
                "example.net/video/hd?x=/video/sd",
                "example.net/video/../video/sd",
            ],
        ),
        question(
            "hosts",
            hosts,
            &[
                "a-foo.ex.example/",
                "a.b.ex.example/",
                ".ex.example/",
                "ex.example/",
                "a.ex.example/",
                "a.ex.example:99/",
                "-foo.ex.example/",
                "example.net:8080/",
                "example.net/",
                "A.EX.example/",
                "x-foo.ex.example:80/",
                "b.ex.example./",
            ],
        ),
        question(
            "longest",
            one(
                "pathRules",
                json!([
            {"paths": ["/*"], "service": "s1"}, {"paths": ["/a/*"], "service": "s2"}, {"paths": ["/a/b"], "service": "s3"}]),
            ),
            &[
                "h/", "h/a", "h/a/", "h/a/b", "h/a/b/", "h/a/b/c", "h/A/b", "h//a/b", "h/a//b", "h/a/%62",
                "h/a/b%2f",
            ],
        ),
        question(
            "priority",
            one(
                "routeRules",
                json!([
            {"priority": 7, "matchRules": [{"fullPathMatch": "/a"}], "service": "s1"},
            {"priority": 1, "matchRules": [{"prefixMatch": "/"}], "service": "s2"}]),
            ),
            &["h/a", "h/b"],
        ),
    ]
}

fn predicates() -> Vec<Question> {
    let x = |value: &str| format!("h/ | x-h: {value}");
    let values: Vec<String> = [
        "v",
        "V",
        "vw",
        "wv",
        "",
        "-5",
        "-3",
        "0",
        "0.25",
        "-3x",
        "+1",
        " 1",
        "01",
        "a,b",
        "9999999999999999999",
    ]
    .iter()
    .map(|value| x(value))
    .collect();
    let mut values: Vec<&str> = values.iter().map(String::as_str).collect();
    values.extend([
        "h/",
        "h/ | x-h: a | x-h: b",
        "h/ | X-H: v",
        "h/ | x-h: v | x-h: w",
        "h/ | x-h: | x-h: v",
    ]);
    let queries = [
        "h/",
        "h/?",
        "h/?k",
        "h/?k=",
        "h/?k=v",
        "h/?k=v%201",
        "h/?k=v&k=w",
        "h/?k=w&k=v",
        "h/?K=v",
        "h/?j=1&k=v",
        "h/?kk=v",
        "h/?k=vv",
        "h/?&&k=v",
        "h/?k=v=w",
        "h/?%6b=v",
        "h/?k=v;j=1",
    ];
    let paths = ["h/a", "h/A", "h/abc", "h/a/", "h/a/b", "h/re/12", "h/re/12x", "h/re/", "h/"];
    let mut all = vec![
        question("prefix", when(json!({"prefixMatch": "/a"})), &paths),
        question("prefix-slash", when(json!({"prefixMatch": "/a/"})), &paths),
        question("prefix-star", when(json!({"prefixMatch": "/a*"})), &["h/a", "h/a*", "h/a*b", "h/ab"]),
        question("prefix-ignoring-case", when(json!({"prefixMatch": "/A", "ignoreCase": true})), &paths),
        question("full", when(json!({"fullPathMatch": "/a"})), &paths),
        question("full-ignoring-case", when(json!({"fullPathMatch": "/A", "ignoreCase": true})), &paths),
        question("regex", when(json!({"regexMatch": "/re/[0-9]+"})), &paths),
        question(
            "port",
            headers(json!({"headerName": "PORT", "regexMatch": "80.*"})),
            &["h/", "h:80/", "h:8080/", "h:443/"],
        ),
        question(
            "authority",
            headers(json!({"headerName": ":authority", "suffixMatch": "example"})),
            &["a.example/", "a.example:80/", "A.EXAMPLE/", "b/"],
        ),
        question(
            "method",
            headers(json!({"headerName": ":method", "exactMatch": "OPTIONS"})),
            &["h/", "OPTIONS h/"],
        ),
    ];
    for (name, test) in [
        ("exact", json!({"exactMatch": "v"})),
        ("exact-list", json!({"exactMatch": "a,b"})),
        ("header-prefix", json!({"prefixMatch": "v"})),
        ("suffix", json!({"suffixMatch": "w"})),
        ("present", json!({"presentMatch": true})),
        ("header-regex", json!({"regexMatch": "v+"})),
        ("range", json!({"rangeMatch": {"rangeStart": "-5", "rangeEnd": "2"}})),
    ] {
        for invert in [false, true] {
            let mut header = test.clone();
            header["headerName"] = json!("x-h");
            header["invertMatch"] = json!(invert);
            all.push(question(&format!("{name}-{invert}"), headers(header), &values));
        }
    }
    for (name, mut test) in [
        ("query-exact", json!({"exactMatch": "v"})),
        ("query-regex", json!({"regexMatch": "v+"})),
        ("query-present", json!({"presentMatch": true})),
        ("query-exact-escaped", json!({"exactMatch": "v 1"})),
    ] {
        test["name"] = json!("k");
        all.push(question(name, query(test), &queries));
    }
    all
}

fn templates() -> Vec<Question> {
    let paths = [
        "h/dstar",
        "h/dstar/",
        "h/dstar/a",
        "h/dstar/a/b",
        "h/tpl/abc@x.com/carts/FL/e/S?f=1",
        "h/tpl/a/carts",
        "h/tpl/a/carts/",
        "h/tpl/a/b/carts/c",
        "h/a/b/c",
        "h/a//c",
        "h/a/b",
        "h/a/b%2fc/c",
        "h/xyzwebservices/v2/xyz/users/abc@xyz.com/carts/FL0001090004/entries/SJFI38u3401nms?fields=FULL",
        "h/",
        "h/a",
        "h//",
    ];
    let templates: [(&str, Option<&str>); 8] = [
        ("/dstar/**", None),
        ("/tpl/{u=*}/carts/{r=**}", Some("/{u}-{r}")),
        ("/xyzwebservices/v2/xyz/users/{username=*}/carts/{cartid=**}", Some("/{username}-{cartid}/")),
        ("/a/{x}/c", Some("/{x}")),
        ("/a/{x=b/*}", Some("/n/{x}")),
        ("/*", None),
        ("/**", None),
        ("/{x=**}", Some("/n/{x}")),
    ];
    templates
        .iter()
        .map(|(template, rewrite)| {
            let mut rule =
                json!({"priority": 1, "matchRules": [{"pathTemplateMatch": template}], "service": "s1"});
            if let Some(rewrite) = rewrite {
                rule["routeAction"] = json!({"urlRewrite": {"pathTemplateRewrite": rewrite}});
            }
            question(&format!("template-{template}"), one("routeRules", json!([rule])), &paths)
        })
        .collect()
}

fn rewrites() -> Vec<Question> {
    let to = |path: &str| json!({"urlRewrite": {"pathPrefixRewrite": path}});
    let rules = json!([
        {"priority": 1, "matchRules": [{"prefixMatch": "/pre/"}], "service": "s1", "routeAction": to("/new/")},
        {"priority": 2, "matchRules": [{"prefixMatch": "/noslash"}], "service": "s1", "routeAction": to("/x")},
        {"priority": 3, "matchRules": [{"fullPathMatch": "/a/b"}], "service": "s1", "routeAction": to("/z")},
        {"priority": 4, "matchRules": [{"regexMatch": "/re/[0-9]+"}], "service": "s1", "routeAction": to("/z")},
        {"priority": 5, "matchRules": [{"prefixMatch": "/Ci/", "ignoreCase": true}], "service": "s1", "routeAction": to("/n/")},
        {"priority": 6, "matchRules": [{"prefixMatch": "/sub/"}], "service": "s1", "routeAction":
            {"urlRewrite": {"hostRewrite": "in.example", "regexRewrite": {"pathPattern": "/sub/([^/]+)(.*)", "pathSubstitution": "\\2/of/\\1"}}}},
    ]);
    let by_path = json!([{"paths": ["/a/*", "/a"], "service": "s1", "routeAction": {"urlRewrite": {"pathPrefixRewrite": "/b/", "hostRewrite": "in.example"}}}]);
    let by_default =
        json!({"defaultService": "s1", "defaultRouteAction": {"urlRewrite": {"pathPrefixRewrite": "/b"}}});
    vec![
        question(
            "rewrites",
            one("routeRules", rules),
            &[
                "h/pre/abc?q=1",
                "h/pre/",
                "h/noslashabc",
                "h/a/b?q",
                "h/re/12",
                "h/re/12?x=/re/13",
                "h/cI/x",
                "h/sub/a/b/c?q=1",
                "h/sub/a",
                "h/sub/x%20y/z",
            ],
        ),
        question(
            "path-rewrites",
            one("pathRules", by_path),
            &["h/a", "h/a/", "h/a/c", "h/a/c?d", "h/a/../a/c", "h/ab"],
        ),
        question("default-rewrites", by_default, &["h/", "h/c/d", "h/c?d", "h//c"]),
    ]
}

fn redirects() -> Vec<Question> {
    let asked = ["h/", "h/a", "h/a/b?q=1", "h:8080/a/b", "h:80/a/b", "h/a/b/c?x=/y", "H/a/", "h/a?"];
    let redirects = [
        json!({"httpsRedirect": true}),
        json!({"hostRedirect": "to.example"}),
        json!({"hostRedirect": "to.example:81", "httpsRedirect": true}),
        json!({"pathRedirect": "/new"}),
        json!({"pathRedirect": "/new?x=y"}),
        json!({"prefixRedirect": "/p"}),
        json!({"prefixRedirect": "/p/", "stripQuery": true}),
        json!({"stripQuery": true, "hostRedirect": "x", "redirectResponseCode": "FOUND"}),
        json!({"pathRedirect": "/n", "redirectResponseCode": "PERMANENT_REDIRECT"}),
    ];
    let mut all = Vec::new();
    for (index, redirect) in redirects.iter().enumerate() {
        let rules = json!([{"paths": ["/a", "/a/*"], "urlRedirect": redirect}]);
        all.push(question(&format!("redirect-{index}"), one("pathRules", rules), &asked));
        let rules = json!([{"priority": 1, "matchRules": [{"prefixMatch": "/a"}], "urlRedirect": redirect}]);
        all.push(question(&format!("route-redirect-{index}"), one("routeRules", rules), &asked));
        all.push(question(
            &format!("default-redirect-{index}"),
            json!({"defaultUrlRedirect": redirect}),
            &asked,
        ));
    }
    all
}

/// Header actions on every level, and CORS.
fn answers() -> Vec<Question> {
    let add = |value: &str, replace: bool| {
        let header = json!([{"headerName": "x-level", "headerValue": value, "replace": replace}]);
        json!({"requestHeadersToAdd": header, "responseHeadersToAdd": header, "responseHeadersToRemove": ["x-gone"]})
    };
    let levels = |replace: bool| {
        json!({
            "defaultService": "s0", "headerAction": add("map", replace),
            "hostRules": [{"hosts": ["*"], "pathMatcher": "m"}],
            "pathMatchers": [{"name": "m", "defaultService": "s0", "headerAction": add("matcher", replace), "routeRules": [
                {"priority": 1, "matchRules": [{"prefixMatch": "/w"}], "headerAction": add("rule", replace),
                 "routeAction": {"weightedBackendServices": [{"backendService": "s1", "weight": 1, "headerAction": add("weighted", replace)}]}},
                {"priority": 2, "matchRules": [{"prefixMatch": "/r"}], "headerAction": add("rule", replace), "urlRedirect": {"pathRedirect": "/to"}}]}],
        })
    };
    let asked =
        ["h/w", "h/w | x-level: client", "h/r", "h/other", "h/other | x-level: client | x-level: again"];
    let cors = |credentials: bool, origin: &str| {
        let policy = json!({"allowOrigins": [origin], "allowMethods": ["GET", "PUT"], "allowHeaders": ["x-a"], "exposeHeaders": ["x-up"], "maxAge": 60, "allowCredentials": credentials});
        json!({"defaultService": "s1", "defaultRouteAction": {"corsPolicy": policy}})
    };
    let preflights = [
        "h/",
        "h/ | Origin: https://o",
        "h/ | Origin: https://p",
        "OPTIONS h/",
        "OPTIONS h/ | Origin: https://o",
        "OPTIONS h/ | Origin: https://o | Access-Control-Request-Method: PUT",
        "OPTIONS h/ | Origin: https://p | Access-Control-Request-Method: PUT",
        "OPTIONS h/ | Origin: https://o | Access-Control-Request-Method: PATCH | Access-Control-Request-Headers: x-z",
        "OPTIONS h/ | Access-Control-Request-Method: PUT",
    ];
    vec![
        question("levels-adding", levels(false), &asked),
        question("levels-replacing", levels(true), &asked),
        question("cors", cors(true, "https://o"), &preflights),
        question("cors-any", cors(false, "*"), &preflights),
    ]
}
