//! The language, rule by rule.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn entry() -> Value {
    json!({
        "logName": "projects/p/logs/run.googleapis.com%2Frequests",
        "resource": {"type": "internal_http_lb_rule", "labels": {"service_name": "s5", "a.b/c": "dotted"}},
        "timestamp": "2026-01-02T03:04:05.5Z",
        "severity": "WARNING",
        "insertId": "abc",
        "labels": {"compute.googleapis.com/resource_name": "vm-1", "Case": "x"},
        "httpRequest": {
            "requestMethod": "GET", "requestUrl": "http://h/v1/Things?x=1", "status": 503,
            "requestSize": "44", "latency": "0.75s", "userAgent": "curl/8.5", "remoteIp": "10.1.2.3", "serverIp": "10.0.0.1:80"
        },
        "jsonPayload": {
            "n": 10, "f": 1.5, "s": "Hello World", "nothing": null, "yes": true, "a.b": "quoted key",
            "list": ["x", "y", 3], "objects": [{"k": 1}, {"k": 2}], "deep": {"er": {"text": "bottom"}}, "cat": "c"
        }
    })
}

fn matches(filter: &str) -> bool {
    Filter::parse(filter).unwrap_or_else(|e| panic!("{filter}: {e}")).matches(&entry())
}

#[track_caller]
fn yes(filter: &str) {
    assert!(matches(filter), "should match: {filter}");
}

#[track_caller]
fn no(filter: &str) {
    assert!(!matches(filter), "should not match: {filter}");
}

#[track_caller]
fn error(filter: &str, part: &str) {
    let error =
        Filter::parse(filter).err().unwrap_or_else(|| panic!("should be refused: {filter}")).to_string();
    assert!(error.starts_with("Unparseable filter: ") && error.contains(part), "{filter}: {error}");
}

#[test]
fn empty_filters_match_everything() {
    yes("");
    yes(" \n\t ");
    yes("-- only a comment");
}

#[test]
fn text_is_compared_without_case_and_whole() {
    yes("jsonPayload.s=\"hello world\"");
    yes("jsonPayload.s=\"HELLO WORLD\"");
    no("jsonPayload.s=hello");
    yes("jsonPayload.s!=hello");
    yes("jsonPayload.s:hello");
    yes("jsonPayload.s:\"O W\"");
    yes("jsonPayload.s > \"HELL\" jsonPayload.s < \"hello x\"");
    yes("httpRequest.userAgent:CURL");
    let entry = json!({"textPayload": "GRÜSSE Straße"});
    assert!(Filter::parse("textPayload=\"grüsse straße\"").unwrap().matches(&entry));
    assert!(Filter::parse("textPayload:grüsse").unwrap().matches(&entry));
}

#[test]
fn regular_expressions_are_sensitive_to_case_and_unanchored() {
    yes("httpRequest.requestUrl=~\"/v[0-9]+/\"");
    yes("httpRequest.requestUrl=~\"/v\\d+/\"");
    yes("httpRequest.requestUrl=~\"/v\\\\d+/\"");
    no("jsonPayload.s=~\"hello\"");
    yes("jsonPayload.s=~\"(?i)hello\"");
    yes("jsonPayload.s!~\"hello\"");
    no("jsonPayload.missing!~\"hello\"");
    yes("httpRequest.status=~\"^5\"");
    error("textPayload=~\"(\"", "invalid regular expression");
    error("textPayload=~\"\\p{L}{1000}{1000}\"", "invalid regular expression");
}

#[test]
fn precedence_is_not_then_or_then_and() {
    yes(
        "resource.type=\"internal_http_lb_rule\" httpRequest.status=503 OR httpRequest.status=504 severity>=WARNING",
    );
    no("resource.type=\"other\" httpRequest.status=503 OR httpRequest.status=504 severity>=WARNING");
    no("resource.type=\"other\" AND httpRequest.status=503 OR httpRequest.status=503");
    no(
        "resource.type=\"internal_http_lb_rule\" httpRequest.status=500 OR httpRequest.status=504 severity>=WARNING",
    );
    yes("NOT severity=INFO OR severity=INFO");
    yes("-severity=INFO");
    no("-severity=WARNING");
    no("NOT (severity=INFO OR severity=WARNING)");
    yes("NOT NOT severity=WARNING");
    yes("NOT -severity=WARNING");
    no("-(severity=WARNING)");
}

#[test]
fn only_capitals_are_operators() {
    no("hello and nowhere");
    no("jsonPayload.s:hello and jsonPayload.s:world");
    let entry = json!({"textPayload": "this and that or not"});
    assert!(Filter::parse("this and that").unwrap().matches(&entry));
    assert!(Filter::parse("or not and").unwrap().matches(&entry));
}

#[test]
fn missing_fields() {
    no("jsonPayload.x=\"1\"");
    no("jsonPayload.x!=\"1\"");
    yes("NOT jsonPayload.x=\"1\"");
    no("labels.x!=\"1\"");
    no("resource.labels.nope!=\"1\"");
    no("jsonPayload.x<5");
    yes("trace=\"\"");
    yes("httpRequest.responseSize=0");
    yes("httpRequest.cacheHit=false");
    yes("operation.producer!=x");
    let bare = json!({"textPayload": "x"});
    for filter in [
        "severity=DEFAULT",
        "severity=0",
        "httpRequest.status=0",
        "httpRequest.latency<\"1s\"",
        "severity<INFO",
    ] {
        assert!(Filter::parse(filter).unwrap().matches(&bare), "{filter}");
    }
    for filter in ["severity:*", "httpRequest:*", "httpRequest.status:*", "trace:*"] {
        assert!(!Filter::parse(filter).unwrap().matches(&bare), "{filter}");
    }
}

#[test]
fn presence() {
    yes("jsonPayload.n:*");
    yes("jsonPayload.nothing:*");
    yes("httpRequest:*");
    yes("labels:*");
    no("jsonPayload.x:*");
    yes("-trace:*");
}

#[test]
fn null_is_a_value_of_payloads() {
    yes("jsonPayload.nothing=NULL_VALUE");
    no("jsonPayload.s=NULL_VALUE");
    yes("jsonPayload.s!=NULL_VALUE");
    no("jsonPayload.x=NULL_VALUE");
    no("jsonPayload.nothing=\"NULL_VALUE\"");
    no("jsonPayload.nothing=0");
}

#[test]
fn value_lists() {
    yes("severity=(ERROR OR WARNING)");
    no("severity=(ERROR OR INFO)");
    yes("jsonPayload.cat=(\"c\" OR \"d\" AND NOT \"x\")");
    no("jsonPayload.cat=(\"c\" OR \"d\" AND NOT \"c\")");
    yes("jsonPayload.s:(hello world)");
    yes("jsonPayload.s:(hello (world OR moon))");
    no("jsonPayload.s:(hello AND moon)");
    yes("jsonPayload.n=(-5 OR 10)");
    no("jsonPayload.n=(-5 OR 11)");
    yes("jsonPayload.s=(-moon)");
    yes("jsonPayload.n>(5 AND 9)");
    error("severity=()", "unexpected ')'");
    error("severity=(ERROR OR)", "unexpected ')'");
    error("jsonPayload.s=(resource.type=x)", "unexpected operator");
}

#[test]
fn severities() {
    yes("severity>=WARNING");
    yes("severity>=400");
    yes("severity>350 severity<450");
    yes("severity=warning");
    yes("severity:WARNING");
    yes("severity != DEFAULT");
    no("severity>WARNING");
    error("severity=LOUD", "expected a severity");
}

#[test]
fn times() {
    yes("timestamp>=\"2026-01-02T03:04:05Z\"");
    yes("timestamp=\"2026-01-02T03:04:05.500Z\"");
    yes("timestamp=\"2026-01-02T05:04:05.5+02:00\"");
    yes("timestamp>=\"2026-01-01\" timestamp<2026-01-03");
    no("timestamp<\"2026-01-02\"");
    error("timestamp>=\"yesterday\"", "expected a timestamp");
    error("timestamp>=2026-01-02T03:04:05Z", "expected a timestamp");
    let filter =
        "timestamp>=\"2026-11-22T15:02:05.503568Z\" AND resource.type=\"x\" timestamp<\"2027-01-01\"";
    let range = Filter::parse(filter).unwrap().time_range();
    assert_eq!(range.from.map(|t| t.to_string()).as_deref(), Some("2026-11-22T15:02:05.503568Z"));
    assert_eq!(range.until.map(|t| t.to_string()).as_deref(), Some("2027-01-01T00:00:00Z"));
    for open in [
        "NOT timestamp>\"2026-01-01\"",
        "timestamp>\"2026-01-01\" OR severity=INFO",
        "timestamp!=\"2026-01-01\"",
    ] {
        assert_eq!(Filter::parse(open).unwrap().time_range(), TimeRange::default(), "{open}");
    }
}

#[test]
fn durations_and_numbers() {
    yes("httpRequest.latency>\"0.5s\"");
    yes("httpRequest.latency>0.5s");
    yes("httpRequest.latency=750ms");
    yes("httpRequest.latency<1m");
    error("httpRequest.latency>5", "expected a duration");
    yes("httpRequest.status>=500 httpRequest.status<600");
    yes("httpRequest.requestSize=44");
    yes("httpRequest.requestSize:44");
    error("httpRequest.status=bad", "expected a number");
    yes("jsonPayload.n=10.0");
    yes("jsonPayload.n<\"10.5\"");
    yes("jsonPayload.f=1.5");
    yes("jsonPayload.n>-5");
    no("jsonPayload.n=ten");
    yes("jsonPayload.yes=true");
    yes("jsonPayload.yes!=false");
}

#[test]
fn lists_match_by_any_element() {
    yes("jsonPayload.list=x");
    yes("jsonPayload.list=3");
    yes("jsonPayload.list!=x");
    yes("jsonPayload.objects.k=2");
    no("jsonPayload.objects.k=3");
    yes("jsonPayload.list:*");
}

#[test]
fn paths() {
    yes("labels.\"compute.googleapis.com/resource_name\"=\"vm-1\"");
    yes("\"labels\".Case=x");
    no("labels.case=x");
    yes("jsonPayload.\"a.b\":quoted");
    yes("resource.labels.\"a.b/c\"=dotted");
    yes("log_name:requests http_request.status=503 insert_id=abc");
    yes("jsonPayload.deep.er.text=bottom");
    yes("jsonPayload.deep:bottom");
    yes("labels:vm-1");
    error("jsonPayload..x=1", "empty part");
    error("thud=1", "unknown field 'thud'");
    error("operation.thud=1", "unknown field 'operation.thud'");
    error("textPayload.thud=1", "has no fields");
    error("resource=x", "can only be searched");
}

#[test]
fn a_value_alone_is_searched_everywhere() {
    yes("hello");
    yes("\"hello world\"");
    yes("503");
    yes("internal_http");
    yes("10.1.2.3");
    no("50");
    no("moon");
    yes("hello -moon");
}

#[test]
fn functions() {
    yes("log_id(\"run.googleapis.com/requests\")");
    no("log_id(\"run.googleapis.com%2Frequests\")");
    no("log_id(requests)");
    yes("source(projects/p)");
    no("source(projects/other)");
    yes("ip_in_net(httpRequest.remoteIp, \"10.0.0.0/8\")");
    no("ip_in_net(httpRequest.remoteIp, \"10.2.0.0/16\")");
    yes("ip_in_net(httpRequest.remoteIp, \"0.0.0.0/0\")");
    no("ip_in_net(httpRequest.remoteIp, \"::/0\")");
    no("ip_in_net(httpRequest.serverIp, \"10.0.0.0/8\")");
    no("ip_in_net(jsonPayload.x, \"10.0.0.0/8\")");
    error("ip_in_net(httpRequest.remoteIp, \"10.0.0.0/33\")", "is no subnet");
    yes("sample(insertId, 1)");
    error("sample(insertId, 0)", "fraction");
    error("sample(insertId, 1.1)", "fraction");
    yes("cast(httpRequest.status, STRING)=\"503\"");
    yes("cast(jsonPayload.f, INT64)=1");
    yes("cast(insertId, STRING)=~\"^a\"");
    error("cast(insertId, THING)=1", "unknown type");
    yes("regexp_extract(httpRequest.requestUrl, \"/(v[0-9]+)/\")=v1");
    yes("cast(regexp_extract(httpRequest.requestUrl, \"/v([0-9]+)/\"), INT64)>=1");
    no("regexp_extract(httpRequest.requestUrl, \"/(w[0-9]+)/\")!=v1");
    error("regexp_extract(insertId, \"abc\")=x", "exactly one");
    yes("SEARCH(\"world hello\")");
    yes("SEARCH(jsonPayload.s, \"WORLD\")");
    yes("SEARCH(\"`hello world`\")");
    no("SEARCH(\"`world hello`\")");
    no("SEARCH(\"hell\")");
    no("SEARCH(jsonPayload.cat, \"world\")");
    error("SEARCH(\"\")", "needs words");
    error("frobnicate(x)", "unknown function");
    error("cast(insertId, STRING)", "unexpected end");
    error("insertId=cast(insertId, STRING)", "cannot be a value");
}

#[test]
fn samples_are_stable_and_of_the_right_size() {
    let filter = Filter::parse("sample(insertId, 0.25)").unwrap();
    let passes = |n: i32| filter.matches(&json!({"insertId": format!("id-{n}")}));
    let count = (0..4000).filter(|n| passes(*n)).count();
    assert!((850..1150).contains(&count), "{count} of 4000");
    assert_eq!(count, (0..4000).filter(|n| passes(*n)).count());
}

#[test]
fn comments_and_new_lines() {
    yes("severity=WARNING -- warnings only\n  AND -- and\n jsonPayload.n=10 --");
    yes(
        "resource.type = internal_http_lb_rule \n AND resource.labels.service_name = s5 \n AND severity >= DEFAULT",
    );
    no("textPayload=\"--\"");
}

#[test]
fn escapes() {
    let entry = json!({"textPayload": "a\"b\\c\nü😀"});
    let filter = "textPayload=\"a\\\"b\\\\c\\n\\u00fc\\ud83d\\ude00\"";
    assert!(Filter::parse(filter).unwrap().matches(&entry));
    error("textPayload=\"\\u12\"", "invalid \\u escape");
    error("textPayload=\"\\ud83d\"", "invalid \\u escape");
    error("textPayload=\"open", "unterminated string");
}

#[test]
fn syntax_errors() {
    for bad in [
        "(",
        ")",
        "severity=",
        "=INFO",
        "AND x",
        "x AND",
        "x OR",
        "OR",
        "NOT",
        "-",
        "x AND AND y",
        "x OR OR y",
        "(x",
        "x)",
        "severity==INFO",
        "a=b=c",
        "severity=INFO,",
        "{x}",
        "a ! b",
        "- x",
        "textPayload=\"a\"b",
        "x y)",
    ] {
        assert!(Filter::parse(bad).is_err(), "should be refused: {bad}");
    }
    error("severity=INFO\nfoo=1", "line 2, column 1");
}

#[test]
fn limits() {
    assert!(Filter::parse(&"x".repeat(MAX_FILTER_CHARS)).is_ok());
    error(&"x".repeat(MAX_FILTER_CHARS + 1), "at most 20000");
    error(&"(".repeat(MAX_FILTER_CHARS), "nested deeper");
    error(&"cast(".repeat(4000), "nested deeper");
    error(&format!("severity={}", "(".repeat(19_000)), "nested deeper");
    let negations = format!("{}hello", "NOT ".repeat(4_000));
    assert!(Filter::parse(&negations).unwrap().matches(&entry()));
    let minuses = format!("{}hello", "- ".repeat(4_000));
    assert!(Filter::parse(&minuses).is_err());
    let many = vec!["insertId=x"; 1400].join(" OR ");
    assert!(!Filter::parse(&many).unwrap().matches(&entry()));
}

/// An expression to print and to judge on its own.
#[derive(Debug, Clone)]
enum Expr {
    Leaf(u8),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
}

fn expressions() -> impl Strategy<Value = Expr> {
    let leaf = (0u8..6).prop_map(Expr::Leaf);
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|e| Expr::Not(Box::new(e))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
            prop::collection::vec(inner, 2..4).prop_map(Expr::Or),
        ]
    })
}

impl Expr {
    /// Prints with as few parentheses as the precedence allows. `tight` is how tightly the surroundings bind.
    fn print(&self, tight: u8, style: &mut impl FnMut() -> bool) -> String {
        let (own, text) = match self {
            Expr::Leaf(n) => (3, format!("labels.k{n}=1")),
            Expr::Not(e) => {
                let inner = e.print(3, style);
                (2, if style() { format!("NOT {inner}") } else { format!("-{inner}") })
            }
            Expr::Or(es) => (1, es.iter().map(|e| e.print(2, style)).collect::<Vec<_>>().join(" OR ")),
            Expr::And(es) => {
                let parts: Vec<_> = es.iter().map(|e| e.print(1, style)).collect();
                (0, parts.join(if style() { " AND " } else { "\n" }))
            }
        };
        if own < tight { format!("({text})") } else { text }
    }

    fn judge(&self, bits: u8) -> bool {
        match self {
            Expr::Leaf(n) => bits & (1 << n) != 0,
            Expr::Not(e) => !e.judge(bits),
            Expr::And(es) => es.iter().all(|e| e.judge(bits)),
            Expr::Or(es) => es.iter().any(|e| e.judge(bits)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What is printed by the rules of precedence is read by them.
    #[test]
    fn expressions_mean_what_they_say(expr in expressions(), bits in 0u8..64, styles in any::<u64>()) {
        let mut state = styles;
        let mut style = || { state = state.rotate_left(1); state & 1 == 0 };
        let text = expr.print(0, &mut style);
        let labels: serde_json::Map<String, Value> =
            (0..6).map(|n| (format!("k{n}"), json!(u8::from(bits & (1 << n) != 0).to_string()))).collect();
        let filter = Filter::parse(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(filter.matches(&json!({"labels": labels})), expr.judge(bits), "{}", text);
    }

    #[test]
    fn any_text_is_safe(text in "\\PC{0,60}") {
        if let Ok(filter) = Filter::parse(&text) {
            filter.matches(&entry());
        }
    }

    #[test]
    fn any_tokens_are_safe(tokens in prop::collection::vec(
        prop::sample::select(vec![
            "(", ")", "AND", "OR", "NOT", "-", "=", "!=", ":", "=~", ">=", "severity", "jsonPayload.s", "\"x\"", "hello",
            "labels.\"a\"", "timestamp", "\"2026-01-01\"", "5", "*", ",", "sample(", "SEARCH(", "cast(", "log_id(", "--", "\n",
        ]), 0..14))
    {
        if let Ok(filter) = Filter::parse(&tokens.join(" ")) {
            filter.matches(&entry());
        }
        let _ = Filter::parse(&tokens.concat());
    }
}
