//! Requests, by hand and by rule: everything that RFC 9110 and RFC 9112 leave a recipient to refuse, and some that it
//! must take.

use crate::asking::Case;
use crate::recorder::Script;

/// Bytes as text for a case's name.
fn name(group: &str, text: &str) -> String {
    let short: String = text.escape_default().take(60).collect();
    format!("{group}/{}", short.replace(' ', "_"))
}

fn case(group: &str, label: &str, request: impl Into<Vec<u8>>) -> Case {
    Case { name: name(group, label), request: request.into(), script: Script::default(), open: false }
}

fn open(group: &str, label: &str, request: impl Into<Vec<u8>>) -> Case {
    Case { open: true, ..case(group, label, request) }
}

pub fn all() -> Vec<Case> {
    [
        lengths(),
        codings(),
        lengths_and_codings(),
        chunks(),
        trailers(),
        first_lines(),
        methods(),
        targets(),
        hosts(),
        fields(),
        bytes(),
        hop_by_hop(),
        expectations(),
        upgrades(),
        pipelines(),
        sizes(),
        unfinished(),
    ]
    .concat()
}

fn post(lines: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body}")
}

fn lengths() -> Vec<Case> {
    let values = [
        "5",
        "05",
        "0000000000000000000005",
        "+5",
        "-5",
        "-0",
        "0x5",
        "5.",
        "5.0",
        "5e0",
        "5;",
        "5,",
        ",5",
        "5,5",
        "5, 5",
        "5, 6",
        "5 5",
        "\"5\"",
        "5\t",
        "",
        " ",
        "five",
        "5L",
        "\u{665}",
        "18446744073709551616",
        "99999999999999999999999",
        "5\u{b}",
        "5\u{c}",
        "5\0",
        "5 ;",
        "5, 5, 5",
        "5,,5",
        "५",
    ];
    let mut all: Vec<Case> = values
        .iter()
        .map(|value| case("length", value, post(&format!("Content-Length: {value}"), "hello")))
        .collect();
    for (label, lines) in [
        ("twice-equal", "Content-Length: 5\r\nContent-Length: 5"),
        ("twice-other", "Content-Length: 5\r\nContent-Length: 6"),
        ("twice-empty", "Content-Length: 5\r\nContent-Length:"),
        ("twice-with-zeros", "Content-Length: 5\r\nContent-Length: 05"),
        ("lower-case", "content-length: 5"),
        ("no-space", "Content-Length:5"),
        ("tab", "Content-Length:\t5"),
        ("space-before-colon", "Content-Length : 5"),
        ("underscore", "Content_Length: 5\r\nContent-Length: 5"),
        ("folded", "Content-Length:\r\n 5"),
        ("zero-with-body", "Content-Length: 0\r\nX: y"),
        ("named-by-connection", "Content-Length: 5\r\nConnection: content-length"),
    ] {
        let body = if label.starts_with("zero") { "" } else { "hello" };
        all.push(case("length", label, post(lines, body)));
    }
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "TRACE", "BREW"] {
        all.push(case(
            "body-of",
            method,
            format!("{method} /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        ));
        all.push(case("no-body-of", method, format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n")));
        all.push(case(
            "chunked-body-of",
            method,
            format!(
                "{method} /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ),
        ));
    }
    all
}

const CODINGS: [&str; 36] = [
    "chunked",
    "Chunked",
    "CHUNKED",
    " chunked",
    "chunked ",
    "chunked\t",
    "\tchunked",
    "xchunked",
    "chunkedx",
    "chunk",
    "identity",
    "gzip",
    "gzip, chunked",
    "gzip,chunked",
    "chunked, gzip",
    "chunked, chunked",
    "chunked,chunked",
    "chunked,",
    ",chunked",
    ", chunked",
    "chunked, identity",
    "identity, chunked",
    "",
    " ",
    "chunked;q=1",
    "chunked;",
    "\"chunked\"",
    "'chunked'",
    "chun ked",
    "\u{b}chunked",
    "chunked\u{b}",
    "chunked\0",
    "chunked\r",
    "c\u{fb}unked",
    "trailers, chunked",
    "deflate",
];

fn codings() -> Vec<Case> {
    let mut all: Vec<Case> = CODINGS
        .iter()
        .map(|value| {
            case("coding", value, post(&format!("Transfer-Encoding: {value}"), "5\r\nhello\r\n0\r\n\r\n"))
        })
        .collect();
    for (label, lines) in [
        ("twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ("twice-identity", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        ("twice-identity-last", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ("twice-gzip", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
        ("twice-empty", "Transfer-Encoding: chunked\r\nTransfer-Encoding:"),
        ("no-space", "Transfer-Encoding:chunked"),
        ("space-before-colon", "Transfer-Encoding : chunked"),
        ("tab-before-colon", "Transfer-Encoding\t: chunked"),
        ("folded", "Transfer-Encoding:\r\n chunked"),
        ("folded-tab", "Transfer-Encoding:\r\n\tchunked"),
        ("folded-after", "Transfer-Encoding: chunked\r\n , identity"),
        ("line-with-space-in-front", " Transfer-Encoding: chunked"),
        ("behind-a-bare-line-feed", "X: y\nTransfer-Encoding: chunked"),
        ("behind-a-bare-cr", "X: y\rTransfer-Encoding: chunked"),
        ("named-by-connection", "Transfer-Encoding: chunked\r\nConnection: transfer-encoding"),
    ] {
        all.push(case("coding", label, post(lines, "5\r\nhello\r\n0\r\n\r\n")));
    }
    let old = "POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    all.push(case("coding", "http-1.0", old));
    all
}

fn lengths_and_codings() -> Vec<Case> {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let mut all = Vec::new();
    for value in CODINGS {
        for (order, lines) in [
            ("length-first", format!("Content-Length: {}\r\nTransfer-Encoding: {value}", body.len())),
            ("coding-first", format!("Transfer-Encoding: {value}\r\nContent-Length: {}", body.len())),
        ] {
            all.push(case("length-and-coding", &format!("{order} {value}"), post(&lines, body)));
        }
    }
    for name in [
        "Transfer-Encoding ",
        "Transfer_Encoding",
        "Transfer-Encoding\u{b}",
        "\u{b}Transfer-Encoding",
        "X-Transfer-Encoding",
        "Transfer-Encodin",
        "Transfer\u{ad}Encoding",
    ] {
        let lines = format!("Content-Length: {}\r\n{name}: chunked", body.len());
        all.push(case("length-and-name", name, post(&lines, body)));
    }
    all
}

fn chunked(label: &str, body: &str) -> Case {
    case("chunk", label, post("Transfer-Encoding: chunked", body))
}

fn chunks() -> Vec<Case> {
    let sizes = [
        "5",
        "05",
        "0000000000000005",
        "00000000000000000000000000000005",
        "0x5",
        "5h",
        "+5",
        "-5",
        " 5",
        "5 ",
        "5\t",
        "\t5",
        "5;",
        "5; ",
        "5 ;",
        "5;a",
        "5;a=b",
        "5;a=\"b\"",
        "5;a=\"b;c\"",
        "5;a=\"b\\\"c\"",
        "5;a=\"b",
        "5;=b",
        "5;a=",
        "5;;",
        "5; a = b",
        "5,a",
        "5 a",
        "5;a\0",
        "5;a\u{1}",
        "5;a\rb",
        "5;a\u{7f}",
        "5;\u{e9}",
        "5.",
        "0_5",
        "",
        "g",
        "\"5\"",
        "5_",
        "5;a\n",
        "10000000000000005",
        "ffffffffffffffff",
        "8000000000000005",
        "fffffffffffffffff",
    ];
    let mut all: Vec<Case> =
        sizes.iter().map(|size| chunked(size, &format!("{size}\r\nhello\r\n0\r\n\r\n"))).collect();
    for (label, body) in [
        ("two", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        ("upper-case", "A\r\nhellohello\r\n0\r\n\r\n"),
        ("none", "0\r\n\r\n"),
        ("many-zeros", "000\r\n\r\n"),
        ("lf-after-size", "5\nhello\r\n0\r\n\r\n"),
        ("lf-after-data", "5\r\nhello\n0\r\n\r\n"),
        ("lf-after-last", "5\r\nhello\r\n0\n\r\n"),
        ("lf-at-end", "5\r\nhello\r\n0\r\n\n"),
        ("lf-everywhere", "5\nhello\n0\n\n"),
        ("cr-after-size", "5\rhello\r\n0\r\n\r\n"),
        ("cr-cr-lf", "5\r\r\nhello\r\n0\r\n\r\n"),
        ("nothing-after-data", "5\r\nhello0\r\n\r\n"),
        ("more-data-than-said", "5\r\nhello!\r\n0\r\n\r\n"),
        ("less-data-than-said", "6\r\nhello\r\n0\r\n\r\n"),
        ("two-bytes-after-data", "5\r\nhelloXX0\r\n\r\n"),
        ("empty-line-first", "\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("negative-last", "5\r\nhello\r\n-0\r\n\r\n"),
        ("last-with-extension", "5\r\nhello\r\n0;a=b\r\n\r\n"),
        ("no-end-line", "5\r\nhello\r\n0\r\nGET /y HTTP/1.1\r\nHost: b\r\n\r\n"),
    ] {
        all.push(chunked(label, body));
    }
    all.push(chunked("long-extension", &format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(600))));
    all.push(chunked("longer-extension", &format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(5000))));
    all
}

fn trailers() -> Vec<Case> {
    let lines = [
        "X-T: v",
        "X-T: v\r\nX-U: w",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Host: b",
        "Trailer: x",
        "X T: v",
        "X-T : v",
        "X-T",
        ": v",
        " X-T: v",
        "X-T: v\r\n w",
        "X-T: v\n",
        "X-T: \0",
        "X-T: a\rb",
        "X\u{e9}: v",
        "Connection: close",
        "Authorization: Bearer x",
    ];
    let all = lines.iter().map(|line| {
        case(
            "trailer",
            line,
            post("Transfer-Encoding: chunked", &format!("5\r\nhello\r\n0\r\n{line}\r\n\r\n")),
        )
    });
    let announced = post(
        "Transfer-Encoding: chunked\r\nTrailer: x-t\r\nTE: trailers",
        "5\r\nhello\r\n0\r\nX-T: v\r\n\r\n",
    );
    all.chain([case("trailer", "announced", announced)]).collect()
}

fn first_lines() -> Vec<Case> {
    let lines = [
        "GET /x HTTP/1.1",
        "GET  /x HTTP/1.1",
        "GET /x  HTTP/1.1",
        "GET\t/x HTTP/1.1",
        "GET /x\tHTTP/1.1",
        " GET /x HTTP/1.1",
        "GET /x HTTP/1.1 ",
        "GET /x HTTP/1.1\t",
        "GET /x HTTP/1.0",
        "GET /x HTTP/0.9",
        "GET /x HTTP/1.2",
        "GET /x HTTP/1.9",
        "GET /x HTTP/2.0",
        "GET /x HTTP/3.0",
        "GET /x HTTP/2",
        "GET /x HTTP/1",
        "GET /x HTTP/1.",
        "GET /x HTTP/.1",
        "GET /x HTTP/1.10",
        "GET /x HTTP/01.1",
        "GET /x HTTP/1.1.1",
        "GET /x HTTP/11",
        "GET /x HTTP/1,1",
        "GET /x http/1.1",
        "GET /x Http/1.1",
        "GET /x HTTPS/1.1",
        "GET /x HTTP 1.1",
        "GET /x HTTP/+1.1",
        "GET /x HTTP/-1.1",
        "GET /x HTTP/1.1x",
        "GET /x xHTTP/1.1",
        "GET /x HTTP\\1.1",
        "GET /x FTP/1.1",
        "GET /x ICY/1.1",
        "GET /x RTSP/1.0",
        "GET /x",
        "GET",
        "GET ",
        "/x HTTP/1.1",
        "GET HTTP/1.1",
        "GET /x y HTTP/1.1",
        "GET /x\u{b}HTTP/1.1",
        "GET\u{b}/x HTTP/1.1",
        "GET\u{c}/x HTTP/1.1",
        "GET /x HTTP/1.1\r",
        "GET /x\u{a0}HTTP/1.1",
        "GET /x HTTP/1.1 HTTP/1.1",
    ];
    let mut all: Vec<Case> =
        lines.iter().map(|line| case("line", line, format!("{line}\r\nHost: a\r\n\r\n"))).collect();
    for (label, text) in [
        ("lf", "GET /x HTTP/1.1\nHost: a\r\n\r\n"),
        ("lf-everywhere", "GET /x HTTP/1.1\nHost: a\n\n"),
        ("lf-at-end", "GET /x HTTP/1.1\r\nHost: a\r\n\n"),
        ("lf-in-the-middle", "GET /x HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
        ("cr-only", "GET /x HTTP/1.1\rHost: a\r\r"),
        ("cr-cr-lf", "GET /x HTTP/1.1\r\r\nHost: a\r\n\r\n"),
        ("lf-cr", "GET /x HTTP/1.1\n\rHost: a\n\r\n\r"),
        ("one-empty-line-first", "\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("two-empty-lines-first", "\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("many-empty-lines-first", "\r\n\r\n\r\n\r\n\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("empty-lf-first", "\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("cr-first", "\rGET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("tls", "\u{16}\u{3}\u{1}\0\u{5}hello\r\n\r\n"),
        ("http2-preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("space-line-behind", "GET /x HTTP/1.1\r\n \r\nHost: a\r\n\r\n"),
        ("space-in-front-of-host", "GET /x HTTP/1.1\r\n Host: b\r\nHost: a\r\n\r\n"),
        ("old-keep-alive", "GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"),
        ("old-without-host", "GET /x HTTP/1.0\r\n\r\n"),
    ] {
        all.push(case("start", label, text));
    }
    all
}

fn methods() -> Vec<Case> {
    let mut all: Vec<Case> = [
        "get",
        "Get",
        "G",
        "GETT",
        "GET.",
        "M-SEARCH",
        "PROPFIND",
        "QUERY",
        "PURGE",
        "a!#$%&'*+-.^_`|~1",
        "1GET",
        "GET/x",
        "G ET",
        "G(T",
        "G:T",
        "\"GET\"",
        "GET,",
        "<GET>",
        "G\u{e9}T",
        "@",
        "[",
        "GET\\",
        "AVERYVERYVERYLONGMETHODNAMETHATGOESONANDON",
    ]
    .iter()
    .map(|method| case("method", method, format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n")))
    .collect();
    all.push(case("method", "long", format!("{} /x HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(300))));
    all
}

fn targets() -> Vec<Case> {
    let get = [
        "/",
        "//",
        "//x",
        "/x//y",
        "/./x",
        "/x/.",
        "/x/..",
        "/../x",
        "/x/../../y",
        "/x/../y",
        "/.%2e/x",
        "/%2e%2e/x",
        "/x/%2E%2E/y",
        "/%2e/x",
        "/x%2fy",
        "/x%2Fy",
        "/x%5cy",
        "/x\\y",
        "/..\\x",
        "/%00",
        "/x%0d%0ay",
        "/%7Ex",
        "/%61",
        "/%zz",
        "/%",
        "/%2",
        "/x%",
        "/x?%",
        "/%252e%252e/x",
        "/%%32%65",
        "/x?y",
        "/x?",
        "/?",
        "/x?y?z",
        "/x?y#z",
        "/x#y",
        "/#",
        "/x?a=b&c=d",
        "/x?/../y",
        "/x?q=http://b/",
        "/x;y",
        "/x;/../y",
        "/x:80",
        "/x@y",
        "/x|y",
        "/x{y}",
        "/x^y",
        "/x`y",
        "/x\"y",
        "/x<y>",
        "/x'y",
        "/x[y]",
        "/x~y",
        "/x*",
        "*",
        "x",
        "x/y",
        "?x",
        "#x",
        "",
        ".",
        "..",
        "../x",
        "http://a/x",
        "http://b/x",
        "HTTP://b/x",
        "http://b",
        "http://b?x",
        "http://b#x",
        "http://b:80/x",
        "http://b:/x",
        "http://:80/x",
        "http:///x",
        "http://",
        "http:/x",
        "http:x",
        "http://u@b/x",
        "http://u:p@b/x",
        "http://b:x/y",
        "http://b:99999/x",
        "http://[::1]/x",
        "http://[::1/x",
        "http://b c/x",
        "http://b\\c/x",
        "http://b,c/x",
        "http://b/../x",
        "http://b/%2e%2e/x",
        "https://b/x",
        "ftp://b/x",
        "file:///x",
        "ws://b/x",
        "urn:x",
        "mailto:x@y",
        "//b/x",
        "a:80",
        "b/x",
        "/x\u{e9}",
        "/\u{7f}",
        "/x\u{1}",
        "/x\0y",
        "/x\ty",
        "/\u{ff}",
        "/x/%c0%ae%c0%ae/y",
        "/x/.../y",
        "/x/..;/y",
        "/x/..;a=b/y",
        "/x/.;/y",
        "/x/.;a/y",
        "/x/%2e%2e;/y",
        "/x/..%3b/y",
        "/x/..;",
        "/x/...;/y",
        "/x/y;/..;/z",
        "/x/;/y",
        "/..;/x",
        "/x/..;y;z/w",
        "/x/.%2e;/y",
        "/x/.;",
        "/x/..%2fy",
        "/x/..%5cy",
        "/x/%2e./y",
        "/x/./../y",
        "/.x",
        "/..x",
        "/x..",
        "/x./y",
        "/%41%42",
        "/%2a",
        "/%3f",
        "/%23",
        "/%25",
    ];
    let mut all: Vec<Case> = get
        .iter()
        .map(|target| case("target", target, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")))
        .collect();
    for target in ["*", "/x", "http://a", "http://a/", "http://a/*", "**", "/*", "*x"] {
        all.push(case("options", target, format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n")));
    }
    for target in ["a:80", "a", "/", "http://a:80", "a:80/x", "[::1]:80", "a:0", "a:99999", ":80", "u@a:80"] {
        all.push(case("connect", target, format!("CONNECT {target} HTTP/1.1\r\nHost: a:80\r\n\r\n")));
    }
    all
}

fn hosts() -> Vec<Case> {
    let values = [
        "a",
        "A",
        "a.b",
        "a.b.",
        "a:80",
        "a:",
        "a:0",
        "a:65535",
        "a:65536",
        "a:99999",
        "a:x",
        "a:-1",
        "a:+1",
        "a: 80",
        "a:80:80",
        ":80",
        "",
        " ",
        "10.0.0.1",
        "10.0.0.1:80",
        "1.2.3",
        "0x7f.1",
        "[::1]",
        "[::1]:80",
        "[::1",
        "::1",
        "[::1]x",
        "[]",
        "[x]",
        "[127.0.0.1]",
        "[fe80::1%25eth0]",
        "a b",
        "a,b",
        "a;b",
        "a/b",
        "a/",
        "/a",
        "a?b",
        "a#b",
        "a\\b",
        "a@b",
        "u:p@a",
        "a%41",
        "a%",
        "a%00",
        "a_b",
        "-a",
        "a-",
        "a..b",
        ".a",
        ".",
        "*",
        "*.a",
        "a*",
        "a!b",
        "a$b",
        "a&b",
        "a'b",
        "a(b)",
        "a+b",
        "a=b",
        "a~b",
        "a\"b",
        "a<b>",
        "a|b",
        "a^b",
        "a`b",
        "a{b}",
        "a\0b",
        "a\tb",
        "a\u{1}",
        "a\u{7f}",
        "h\u{e9}",
        "xn--h-9ca",
        "http://a",
        "//a",
    ];
    let mut all: Vec<Case> = values
        .iter()
        .map(|value| case("host", value, format!("GET /x HTTP/1.1\r\nHost: {value}\r\n\r\n")))
        .collect();
    for (label, lines) in [
        ("missing", "X: y"),
        ("twice-equal", "Host: a\r\nHost: a"),
        ("twice-other", "Host: a\r\nHost: b"),
        ("twice-empty", "Host: a\r\nHost:"),
        ("space-before-colon", "Host : a"),
        ("folded", "Host: a\r\n b"),
        ("folded-first", "Host:\r\n a"),
        ("second-with-space-in-front", "Host: a\r\n Host: b"),
        ("lower-case", "host: a"),
        ("no-space", "Host:a"),
        ("named-by-connection", "Host: a\r\nConnection: host"),
        ("x-host", "Host: a\r\nX-Host: b\r\nX-Forwarded-Host: c\r\nForwarded: host=d"),
        ("underscore", "Host: a\r\nHo_st: b"),
        ("last-of-many", "X: y\r\nZ: w\r\nHost: a"),
    ] {
        all.push(case("host", label, format!("GET /x HTTP/1.1\r\n{lines}\r\n\r\n")));
    }
    for (label, target, host) in [
        ("same", "http://a/x", "a"),
        ("other", "http://b/x", "a"),
        ("with-port", "http://b:81/x", "a"),
        ("bad-host", "http://b/x", "a b"),
        ("empty-host", "http://b/x", ""),
    ] {
        all.push(case("absolute", label, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")));
    }
    all.push(case("absolute", "no-host", "GET http://b/x HTTP/1.1\r\n\r\n"));
    all
}

fn fields() -> Vec<Case> {
    let lines = [
        "X: y",
        "X:y",
        "X:",
        "X: ",
        "X:\ty",
        "X: y ",
        "X: y\t",
        "X:  y  z  ",
        "X",
        "X y",
        ": y",
        " X: y",
        "\tX: y",
        "X : y",
        "X\t: y",
        "X Y: z",
        "X: a\r\n b",
        "X: a\r\n\tb",
        "X: a\r\n\r",
        "X:: y",
        "X: y: z",
        "X_Y: z",
        "X.Y: z",
        "X!#$%&'*+-.^_`|~: z",
        "X(: y",
        "X): y",
        "X,: y",
        "X/: y",
        "X;: y",
        "X<: y",
        "X=: y",
        "X>: y",
        "X?: y",
        "X@: y",
        "X[: y",
        "X\\: y",
        "X]: y",
        "X{: y",
        "X}: y",
        "\"X\": y",
        "X\u{e9}: y",
        "X: \u{e9}",
        "X: a\0b",
        "X: a\rb",
        "X: a\r",
        "X: a\u{1}b",
        "X: a\u{b}b",
        "X: a\u{7f}b",
        "X: \u{feff}",
        "X: a\nY: b",
        "0: y",
        "X: \"",
        "X: y\r\nX: z",
        "x: y\r\nX: z",
        "Cookie: a=b\r\nCookie: c=d",
        "Accept: */*",
        "Via: 1.0 p",
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-Proto: https",
        "Date: x",
        "Max-Forwards: 0",
        "Range: bytes=0-1",
        "If-Match: x",
        "Set-Cookie: a",
        "Content-Encoding: gzip",
        "Content-Type: a/b",
        "Content-Type:",
        "Server: x",
        "User-Agent: x",
        "Authorization: Basic eDp5",
        "Referer: y",
        "Origin: null",
        "HTTP2-Settings: x",
        "Sec-WebSocket-Key: x",
        "Status: 200",
        ":path: /y",
        ":authority: b",
        "X-Original-Url: /y",
        "X-Rewrite-Url: /y",
        "X-HTTP-Method-Override: PUT",
        "Content-Length-X: 3",
    ];
    lines
        .iter()
        .map(|line| case("field", line, format!("GET /x HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n")))
        .collect()
}

/// Every byte in every place where a byte may stand.
fn bytes() -> Vec<Case> {
    let mut all = Vec::new();
    for byte in 0..=255u8 {
        for (place, before, behind) in [
            ("method", &b"G"[..], &b"T /x HTTP/1.1\r\nHost: a\r\n\r\n"[..]),
            ("target", b"GET /a", b"b HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("query", b"GET /a?b", b"c HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("host", b"GET /x HTTP/1.1\r\nHost: a", b"b\r\n\r\n"),
            ("name", b"GET /x HTTP/1.1\r\nHost: a\r\nX", b"Y: z\r\n\r\n"),
            ("value", b"GET /x HTTP/1.1\r\nHost: a\r\nX: a", b"b\r\n\r\n"),
            ("value-end", b"GET /x HTTP/1.1\r\nHost: a\r\nX: a", b"\r\n\r\n"),
            ("version", b"GET /x HTTP/1", b"1\r\nHost: a\r\n\r\n"),
            (
                "size",
                b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5",
                b"\r\nhello\r\n0\r\n\r\n",
            ),
            (
                "extension",
                b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a",
                b"b\r\nhello\r\n0\r\n\r\n",
            ),
        ] {
            // A longer body needs more data than there is.
            if place == "size" && byte.is_ascii_hexdigit() {
                continue;
            }
            let request = [before, &[byte], behind].concat();
            all.push(Case { name: format!("byte-in-{place}/{byte:02x}"), ..case("", "", request) });
        }
    }
    all
}

fn hop_by_hop() -> Vec<Case> {
    let lines = [
        "Connection: close",
        "Connection: keep-alive",
        "Connection: Close",
        "Connection: close, x",
        "Connection: x, close",
        "Connection: keep-alive, close",
        "Connection:",
        "Connection: ,",
        "Connection: ,close,",
        "Connection: x y",
        "Connection: \"close\"",
        "Connection: close;x",
        "Connection: x\r\nConnection: close",
        "Connection: x-a\r\nX-A: 1",
        "Connection: X-A\r\nx-a: 1",
        "Connection: x-a, x-b\r\nX-A: 1\r\nX-B: 2",
        "Connection: x-forwarded-for\r\nX-Forwarded-For: 1.2.3.4",
        "Connection: authorization\r\nAuthorization: Bearer x",
        "Connection: cookie\r\nCookie: a=b",
        "Connection: via, x-request-id",
        "Keep-Alive: timeout=5",
        "Connection: keep-alive\r\nKeep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Connection: close",
        "Proxy-Authorization: Basic x",
        "Proxy-Authenticate: Basic",
        "TE: trailers",
        "TE: gzip",
        "TE: trailers, deflate;q=0.5",
        "Connection: te\r\nTE: trailers",
        "Trailer: x",
        "Upgrade: x",
        "Connection: \u{e9}",
    ];
    lines
        .iter()
        .map(|line| case("hop", line, format!("GET /x HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n")))
        .collect()
}

fn expectations() -> Vec<Case> {
    let mut all = Vec::new();
    for value in [
        "100-continue",
        "100-Continue",
        "100-continue, x",
        "x",
        "",
        "200-ok",
        "100-continue;q=1",
        "\"100-continue\"",
    ] {
        all.push(case("expect", value, post(&format!("Expect: {value}\r\nContent-Length: 5"), "hello")));
        all.push(case(
            "expect-chunked",
            value,
            post(&format!("Expect: {value}\r\nTransfer-Encoding: chunked"), "5\r\nhello\r\n0\r\n\r\n"),
        ));
        all.push(case("expect-get", value, format!("GET /x HTTP/1.1\r\nHost: a\r\nExpect: {value}\r\n\r\n")));
    }
    all.push(case(
        "expect",
        "twice",
        post("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5", "hello"),
    ));
    all
}

/// The backend does not switch: an upgrade that is not agreed to is a plain request.
fn upgrades() -> Vec<Case> {
    let lines = [
        "Connection: Upgrade\r\nUpgrade: websocket",
        "Connection: upgrade\r\nUpgrade: WebSocket",
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Connection: Upgrade\r\nUpgrade: h2c",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: Upgrade\r\nUpgrade: h2c, websocket",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c",
        "Connection: Upgrade\r\nUpgrade: TLS/1.0",
        "Connection: Upgrade\r\nUpgrade: foo",
        "Connection: Upgrade\r\nUpgrade:",
        "Connection: Upgrade, close\r\nUpgrade: websocket",
    ];
    let mut all: Vec<Case> = lines
        .iter()
        .map(|line| case("upgrade", line, format!("GET /x HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n")))
        .collect();
    all.push(case(
        "upgrade",
        "with-body",
        post("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5", "hello"),
    ));
    all.push(case(
        "upgrade",
        "with-chunks",
        post(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
    ));
    all
}

fn pipelines() -> Vec<Case> {
    let get = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let with_length = "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let with_chunks =
        "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let bad = "GET /4 HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n";
    let close = "GET /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut all = Vec::new();
    let parts =
        [("get", get), ("length", with_length), ("chunks", with_chunks), ("bad", bad), ("close", close)];
    for (first, a) in parts {
        for (second, b) in parts {
            all.push(case("pipeline", &format!("{first},{second}"), format!("{a}{b}")));
            all.push(case("pipeline", &format!("{first},empty-line,{second}"), format!("{a}\r\n{b}")));
        }
    }
    all.push(case("pipeline", "three", format!("{get}{with_length}{with_chunks}")));
    all.push(case("pipeline", "get,lf,get", format!("{get}\n{get}")));
    all.push(case("pipeline", "length,garbage", format!("{with_length}garbage\r\n\r\n")));
    all.push(case("pipeline", "ten", get.repeat(10)));
    all
}

fn sizes() -> Vec<Case> {
    let mut all = Vec::new();
    for kib in [1, 4, 7, 15, 20, 59, 61, 100] {
        let long = "y".repeat(kib * 1024);
        all.push(case("size", &format!("target-{kib}k"), format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")));
        all.push(case(
            "size",
            &format!("value-{kib}k"),
            format!("GET /x HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
        ));
        all.push(case(
            "size",
            &format!("name-{kib}k"),
            format!("GET /x HTTP/1.1\r\nHost: a\r\n{long}: x\r\n\r\n"),
        ));
    }
    for count in [50, 98, 99, 100, 101, 200] {
        let lines = "X: y\r\n".repeat(count - 1);
        all.push(case(
            "size",
            &format!("fields-{count}"),
            format!("GET /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n"),
        ));
    }
    all
}

fn unfinished() -> Vec<Case> {
    [
        ("line", "GET /x HTT"),
        ("head", "GET /x HTTP/1.1\r\nHost: a\r\n"),
        ("length", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello"),
        ("chunk", "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"),
        (
            "last-chunk",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        ),
        ("huge-length", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\nhello"),
        ("large-length", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\nhello"),
    ]
    .map(|(label, request)| open("unfinished", label, request))
    .to_vec()
}
