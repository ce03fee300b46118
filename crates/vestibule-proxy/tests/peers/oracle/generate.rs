//! Random URL maps, and requests that are likely to meet their rules: both are made of the same few words.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::{Ask, Question};

const HOSTS: [&str; 7] =
    ["h.example", "*.h.example", "*-foo.h.example", "*.example", "a.h.example", "h.example:8080", "*"];
const ASKED_HOSTS: [&str; 9] = [
    "h.example",
    "H.EXAMPLE",
    "a.h.example",
    "a.b.h.example",
    "x-foo.h.example",
    "h.example:8080",
    "other.example",
    "a.h.example:8080",
    "localhost",
];
const SEGMENTS: [&str; 9] = ["a", "b", "ab", "A", "x.y", "12", "a-b", "c", "a@b"];
const ASKED_SEGMENTS: [&str; 14] =
    ["a", "b", "ab", "A", "x.y", "12", "a-b", "c", "a@b", "", "..", "%61", "a%2fb", "a;b"];
const QUERIES: [&str; 12] =
    ["k=v", "k", "k=", "k=v&k=w", "k=w&k=v", "K=v", "j=1", "k=v%201", "k=12", "", "&k=v", "j=1&k=vv"];
const VALUES: [&str; 10] = ["v", "V", "vw", "wv", "5", "-3", "0.25", "", "007", "v,w"];
const PATH_REGEXES: [&str; 8] =
    ["/a/[0-9]+", "/(a|b)/.*", ".*", "/[ab]+", "/a", "/.*b", "/[^/]+", "(?i)/A/.*"];
const VALUE_REGEXES: [&str; 6] = ["v+", "v.*", "[0-9]+", ".*", "", "(v|5)"];
const TEMPLATES: [(&str, &[&str]); 9] = [
    ("/a/*", &[]),
    ("/a/**", &[]),
    ("/{x=*}/b", &["/{x}", "/n/{x}/m"]),
    ("/{x=*}/{y=**}", &["/{y}/{x}", "/{x}-{y}", "/{x}"]),
    ("/a/{x}/c", &["/{x}"]),
    ("/a/{x=b/*}", &["/n/{x}"]),
    ("/{x=**}", &["/n/{x}"]),
    ("/a/{x=*}/b/{r=**}", &["/{r}/{x}"]),
    ("/{x}/*/{y}", &["/{y}/{x}"]),
];

/// The map of that number, with requests.
pub fn question(random: &mut Rng, index: usize, requests: usize) -> Question {
    let map = map(random);
    let requests = (0..requests).map(|_| ask(random)).collect();
    Question { name: format!("random-{index}"), map, requests }
}

fn pick<'t>(random: &mut Rng, words: &[&'t str]) -> &'t str {
    words[random.usize(..words.len())]
}

fn ask(random: &mut Rng) -> Ask {
    let count = random.usize(0..5);
    let mut target: String = (0..count).map(|_| format!("/{}", pick(random, &ASKED_SEGMENTS))).collect();
    if target.is_empty() || random.u8(..4) == 0 {
        target.push('/');
    }
    if random.bool() {
        target = format!("{target}?{}", pick(random, &QUERIES));
    }
    let mut fields = Vec::new();
    for _ in 0..random.usize(0..3) {
        fields.push(format!("{}: {}", pick(random, &["x-h", "X-H", "x-i"]), pick(random, &VALUES)));
    }
    if random.u8(..4) == 0 {
        fields.push(format!("Origin: {}", pick(random, &["https://o.example", "https://p.example", "null"])));
        if random.bool() {
            fields.push("Access-Control-Request-Method: PUT".to_owned());
        }
    }
    let method = pick(random, &["GET", "GET", "GET", "OPTIONS", "DELETE", "PUT"]);
    Ask { method, host: pick(random, &ASKED_HOSTS).to_owned(), target, fields }
}

fn map(random: &mut Rng) -> Value {
    let mut hosts = HOSTS.to_vec();
    random.shuffle(&mut hosts);
    let mut matchers = Vec::new();
    let mut rules = Vec::new();
    for index in 0..random.usize(1..4) {
        let count = random.usize(1..3);
        let own: Vec<&str> = hosts.drain(..count).collect();
        rules.push(json!({"hosts": own, "pathMatcher": format!("m{index}")}));
        matchers.push(matcher(random, index));
    }
    let mut map = json!({"hostRules": rules, "pathMatchers": matchers});
    default(random, &mut map);
    header_action(random, &mut map, 3);
    map
}

fn matcher(random: &mut Rng, index: usize) -> Value {
    let mut matcher = json!({"name": format!("m{index}")});
    default(random, &mut matcher);
    header_action(random, &mut matcher, 3);
    if random.bool() {
        matcher["pathRules"] = path_rules(random);
    } else {
        matcher["routeRules"] = route_rules(random);
    }
    matcher
}

/// The default of a map or a matcher.
fn default(random: &mut Rng, level: &mut Value) {
    let mut rule = json!({});
    outcome(random, &mut rule, Kind::Other, None);
    let Value::Object(members) = rule else { return };
    for (name, value) in members {
        level[format!("default{}{}", name[..1].to_uppercase(), &name[1..])] = value;
    }
}

fn path(random: &mut Rng) -> String {
    (0..random.usize(1..4)).map(|_| format!("/{}", pick(random, &SEGMENTS))).collect()
}

fn path_rules(random: &mut Rng) -> Value {
    let mut seen = Vec::new();
    let mut rules = Vec::new();
    for _ in 0..random.usize(1..6) {
        let mut paths = Vec::new();
        for _ in 0..random.usize(1..4) {
            let path = match random.u8(..4) {
                0 => path(random),
                1 => format!("{}/", path(random)),
                2 => "/*".to_owned(),
                _ => format!("{}/*", path(random)),
            };
            if !seen.contains(&path) {
                seen.push(path.clone());
                paths.push(path);
            }
        }
        if !paths.is_empty() {
            let mut rule = json!({"paths": paths});
            outcome(random, &mut rule, Kind::Other, None);
            rules.push(rule);
        }
    }
    rules.into()
}

fn route_rules(random: &mut Rng) -> Value {
    let mut priorities: Vec<i32> = (0..20).collect();
    random.shuffle(&mut priorities);
    let rules = priorities.into_iter().take(random.usize(1..7)).map(|priority| {
        // A template is shared by all matches of its rule, or the rewrite could not name its variables.
        let template = (random.u8(..5) == 0).then(|| TEMPLATES[random.usize(..TEMPLATES.len())]);
        let matches: Vec<Value> = match template {
            Some((template, _)) => vec![conditions(random, json!({"pathTemplateMatch": template}))],
            None => (0..random.usize(1..3))
                .map(|_| {
                    let path = path_predicate(random);
                    conditions(random, path)
                })
                .collect(),
        };
        let mut rule = json!({"priority": priority, "matchRules": matches});
        outcome(random, &mut rule, Kind::Route, template.map(|(_, rewrites)| rewrites));
        header_action(random, &mut rule, 3);
        rule
    });
    rules.collect::<Vec<_>>().into()
}

fn path_predicate(random: &mut Rng) -> Value {
    let path = path(random);
    let mut predicate = match random.u8(..5) {
        0 => return json!({"regexMatch": pick(random, &PATH_REGEXES)}),
        1 => json!({"fullPathMatch": path}),
        2 => json!({"prefixMatch": "/"}),
        3 => json!({"prefixMatch": format!("{path}/")}),
        _ => json!({"prefixMatch": path}),
    };
    if random.u8(..4) == 0 {
        predicate["ignoreCase"] = json!(true);
    }
    predicate
}

fn conditions(random: &mut Rng, mut predicate: Value) -> Value {
    if random.u8(..3) == 0 {
        predicate["headerMatches"] = json!([header_match(random)]);
    }
    if random.u8(..3) == 0 {
        predicate["queryParameterMatches"] = json!([query_match(random)]);
    }
    predicate
}

fn header_match(random: &mut Rng) -> Value {
    let name = pick(random, &["x-h", "X-H", "x-i", ":method", ":authority"]);
    let value = match name {
        ":method" => "GET",
        ":authority" => "h.example",
        // An empty value is no predicate.
        _ => pick(random, &["v", "V", "vw", "5", "v,w"]),
    };
    let mut header = match random.u8(..6) {
        0 => json!({"exactMatch": value}),
        1 => json!({"prefixMatch": &value[..1]}),
        2 => json!({"suffixMatch": &value[value.len() - 1..]}),
        3 => json!({"presentMatch": true}),
        4 => json!({"rangeMatch": {"rangeStart": "-5", "rangeEnd": "7"}}),
        _ => json!({"regexMatch": pick(random, &VALUE_REGEXES[..4])}),
    };
    header["headerName"] = json!(name);
    if random.u8(..4) == 0 {
        header["invertMatch"] = json!(true);
    }
    header
}

fn query_match(random: &mut Rng) -> Value {
    let mut query = match random.u8(..3) {
        0 => json!({"exactMatch": pick(random, &["v", "w", "12", "v%201"])}),
        1 => json!({"presentMatch": true}),
        _ => json!({"regexMatch": pick(random, &VALUE_REGEXES[..4])}),
    };
    query["name"] = json!(pick(random, &["k", "j", "K"]));
    query
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Route,
    /// A path rule or a default: without rewrites by expression.
    Other,
}

/// What a rule does: redirect, or forward in one of several ways.
/// `template_rewrites` are those that fit the rule's template, if it has one; prefixes it then has none.
fn outcome(random: &mut Rng, rule: &mut Value, kind: Kind, template_rewrites: Option<&[&str]>) {
    if random.u8(..5) == 0 {
        let mut redirect = redirect(random);
        if template_rewrites.is_some() && !redirect["prefixRedirect"].is_null() {
            redirect["pathRedirect"] = redirect["prefixRedirect"].take();
            redirect.as_object_mut().unwrap().remove("prefixRedirect");
        }
        rule["urlRedirect"] = redirect;
        return;
    }
    let service = format!("s{}", random.usize(..super::SERVICES));
    let mut action = Map::new();
    if random.u8(..4) == 0 {
        action.insert("weightedBackendServices".into(), weighted(random, &service));
    } else {
        rule["service"] = json!(service);
    }
    if random.u8(..3) == 0 {
        action.insert("urlRewrite".into(), rewrite(random, kind, template_rewrites));
    }
    if random.u8(..5) == 0 {
        action.insert("corsPolicy".into(), cors(random));
    }
    if !action.is_empty() {
        rule["routeAction"] = action.into();
    }
}

/// One service gets everything, so that both proxies must choose it.
fn weighted(random: &mut Rng, service: &str) -> Value {
    let mut chosen = json!({"backendService": service, "weight": 100});
    header_action(random, &mut chosen, 2);
    let mut parts = vec![chosen];
    if random.bool() {
        let other = format!("s{}", random.usize(..super::SERVICES));
        parts.push(json!({"backendService": other, "weight": 0}));
    }
    parts.into()
}

fn redirect(random: &mut Rng) -> Value {
    let mut redirect = json!({"stripQuery": random.bool()});
    if random.bool() {
        redirect["httpsRedirect"] = json!(true);
    }
    if random.bool() || redirect["httpsRedirect"].is_null() {
        redirect["hostRedirect"] = json!("to.example");
    }
    match random.u8(..4) {
        0 => redirect["pathRedirect"] = json!(path(random)),
        1 => redirect["prefixRedirect"] = json!(format!("{}/", path(random))),
        2 => redirect["prefixRedirect"] = json!(path(random)),
        _ => {}
    }
    let codes =
        ["MOVED_PERMANENTLY_DEFAULT", "FOUND", "SEE_OTHER", "TEMPORARY_REDIRECT", "PERMANENT_REDIRECT"];
    redirect["redirectResponseCode"] = json!(pick(random, &codes));
    redirect
}

fn rewrite(random: &mut Rng, kind: Kind, template_rewrites: Option<&[&str]>) -> Value {
    let mut rewrite = json!({});
    if random.bool() {
        rewrite["hostRewrite"] = json!("in.example");
    }
    match template_rewrites {
        Some([]) => return json!({"hostRewrite": "in.example"}),
        Some(rewrites) => {
            rewrite["pathTemplateRewrite"] = json!(pick(random, rewrites));
            return rewrite;
        }
        None => {}
    }
    match random.u8(..4) {
        0 if kind == Kind::Route => {
            rewrite["regexRewrite"] = json!({"pathPattern": "/([a-z]+)", "pathSubstitution": "/n-\\1"});
        }
        0 | 1 => rewrite["pathPrefixRewrite"] = json!(format!("{}/", path(random))),
        2 => rewrite["pathPrefixRewrite"] = json!(path(random)),
        _ => rewrite["hostRewrite"] = json!("in.example"),
    }
    rewrite
}

fn cors(random: &mut Rng) -> Value {
    let mut cors = json!({
        "allowOrigins": [pick(random, &["https://o.example", "*"])],
        "allowMethods": ["GET", "PUT"],
    });
    if random.bool() {
        cors["allowCredentials"] = json!(true);
        cors["allowHeaders"] = json!(["x-h"]);
    }
    if random.bool() {
        cors["exposeHeaders"] = json!(["x-up"]);
        cors["maxAge"] = json!(60);
    }
    cors
}

/// Once in `chance` times, header changes in both directions.
fn header_action(random: &mut Rng, level: &mut Value, chance: u8) {
    if random.u8(..chance) != 0 {
        return;
    }
    let mut action = json!({});
    for (direction, gone) in [("request", "x-i"), ("response", "x-gone")] {
        if random.bool() {
            action[format!("{direction}HeadersToRemove")] = json!([pick(random, &[gone, "x-new"])]);
        }
        if random.bool() {
            let value = format!("added-{}", random.u8(..9));
            action[format!("{direction}HeadersToAdd")] = json!([{"headerName": pick(random, &["x-new", "x-h"]), "headerValue": value, "replace": random.bool()}]);
        }
    }
    level["headerAction"] = action;
}
