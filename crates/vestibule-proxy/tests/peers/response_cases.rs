//! Responses, by hand and by rule.

use crate::asking::Case;
use crate::recorder::Script;

fn case(group: &str, label: &str, response: impl Into<Vec<u8>>) -> Case {
    asked("GET", group, label, response)
}

fn asked(method: &str, group: &str, label: &str, response: impl Into<Vec<u8>>) -> Case {
    let short: String = label.escape_default().take(60).collect();
    Case {
        name: format!("{group}/{}", short.replace(' ', "_")),
        request: format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes(),
        script: Script { response: response.into(), close: false },
        open: false,
    }
}

/// The backend closes behind its answer.
fn closing(case: Case) -> Case {
    Case { script: Script { close: true, ..case.script }, ..case }
}

pub fn all() -> Vec<Case> {
    [
        status_lines(),
        lengths(),
        codings(),
        chunks(),
        fields(),
        bytes(),
        bodiless(),
        interim(),
        ends(),
        hop_by_hop(),
    ]
    .concat()
}

fn ok(lines: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n{body}")
}

fn status_lines() -> Vec<Case> {
    let lines = [
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 ",
        "HTTP/1.1 200",
        "HTTP/1.1 200 A long reason",
        "HTTP/1.1 200 OK ",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK",
        " HTTP/1.1 200 OK",
        "HTTP/1.0 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/2 200 OK",
        "HTTP/0.9 200 OK",
        "HTTP/1.10 200 OK",
        "http/1.1 200 OK",
        "HTTP/1,1 200 OK",
        "HTP/1.1 200 OK",
        "ICY 200 OK",
        "HTTP/1.1 0200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 X",
        "HTTP/1.1 000 X",
        "HTTP/1.1 600 X",
        "HTTP/1.1 999 X",
        "HTTP/1.1 -20 X",
        "HTTP/1.1 +20 X",
        "HTTP/1.1 2x0 X",
        "HTTP/1.1 200OK",
        "HTTP/1.1 OK",
        "HTTP/1.1",
        "200 OK",
        "HTTP/1.1 200 \u{e9}",
        "HTTP/1.1 200 a\0b",
        "HTTP/1.1 200 a\rb",
        "HTTP/1.1 200 a\tb",
        "HTTP/1.1 200 a\u{1}b",
        "HTTP/1.1 299 X",
        "HTTP/1.1 404 Not Found",
        "HTTP/1.1 500 X",
        "HTTP/1.1 599 X",
        "HTTP/1.1 302 Found",
        "HTTP/1.1 200 OK\r",
    ];
    let mut all: Vec<Case> = lines
        .iter()
        .map(|line| closing(case("line", line, format!("{line}\r\nContent-Length: 2\r\n\r\nhi"))))
        .collect();
    for (label, text) in [
        ("lf", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nhi"),
        ("lf-everywhere", "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi"),
        ("lf-at-end", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nhi"),
        ("empty-line-first", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        ("body-only", "hello"),
        ("nothing", ""),
        ("head-cut", "HTTP/1.1 200 OK\r\nContent-Le"),
        ("html", "<html>hello</html>\r\n\r\n"),
    ] {
        all.push(closing(case("start", label, text)));
    }
    all
}

fn lengths() -> Vec<Case> {
    let values = [
        "2",
        "02",
        "+2",
        "-2",
        "0x2",
        "2.0",
        "2,2",
        "2, 2",
        "2, 3",
        "",
        " ",
        "two",
        "18446744073709551616",
        "2;",
        "\"2\"",
        "2 2",
        "2\u{b}",
    ];
    let mut all: Vec<Case> = values
        .iter()
        .map(|value| closing(case("length", value, ok(&format!("Content-Length: {value}"), "hi"))))
        .collect();
    for (label, lines) in [
        ("twice-equal", "Content-Length: 2\r\nContent-Length: 2"),
        ("twice-other", "Content-Length: 2\r\nContent-Length: 1"),
        ("twice-empty", "Content-Length: 2\r\nContent-Length:"),
        ("space-before-colon", "Content-Length : 2"),
        ("folded", "Content-Length:\r\n 2"),
        ("no-space", "Content-Length:2"),
    ] {
        all.push(closing(case("length", label, ok(lines, "hi"))));
    }
    all.push(case("length", "keeps-open", ok("Content-Length: 2", "hi")));
    all.push(case("length", "zero", ok("Content-Length: 0", "")));
    all.push(case("length", "more-than-said", ok("Content-Length: 2", "hi there")));
    all.push(closing(case("length", "less-than-said", ok("Content-Length: 9", "hi"))));
    all.push(case(
        "length",
        "a-second-answer-behind",
        ok("Content-Length: 2", "hiHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
    ));
    all
}

fn codings() -> Vec<Case> {
    let values = [
        "chunked",
        "Chunked",
        "chunked ",
        "xchunked",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        ",chunked",
        "chunked,",
        "",
        "chunked;q=1",
        "\u{b}chunked",
        "\"chunked\"",
    ];
    let body = "2\r\nhi\r\n0\r\n\r\n";
    let mut all = Vec::new();
    for value in values {
        all.push(closing(case("coding", value, ok(&format!("Transfer-Encoding: {value}"), body))));
        let both = format!("Transfer-Encoding: {value}\r\nContent-Length: 12");
        all.push(closing(case("coding-and-length", value, ok(&both, body))));
        let both = format!("Content-Length: 2\r\nTransfer-Encoding: {value}");
        all.push(closing(case("length-and-coding", value, ok(&both, body))));
    }
    for (label, lines) in [
        ("twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ("twice-identity", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        ("space-before-colon", "Transfer-Encoding : chunked"),
        ("folded", "Transfer-Encoding:\r\n chunked"),
    ] {
        all.push(closing(case("coding", label, ok(lines, body))));
    }
    all.push(closing(case(
        "coding",
        "http-1.0",
        format!("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
    )));
    all
}

fn chunks() -> Vec<Case> {
    let chunked =
        |label: &str, body: &str| closing(case("chunk", label, ok("Transfer-Encoding: chunked", body)));
    let mut all: Vec<Case> = [
        "2",
        "02",
        "0x2",
        "2h",
        "+2",
        "-2",
        " 2",
        "2 ",
        "2;a",
        "2;a=\"b\"",
        "2;a\0",
        "2;a\rb",
        "",
        "g",
        "10000000000000002",
        "2;a\u{7f}",
        "2,a",
        "2\t",
    ]
    .iter()
    .map(|size| chunked(size, &format!("{size}\r\nhi\r\n0\r\n\r\n")))
    .collect();
    for (label, body) in [
        ("two", "1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"),
        ("lf-after-size", "2\nhi\r\n0\r\n\r\n"),
        ("lf-after-data", "2\r\nhi\n0\r\n\r\n"),
        ("lf-at-end", "2\r\nhi\r\n0\r\n\n"),
        ("nothing-after-data", "2\r\nhi0\r\n\r\n"),
        ("more-than-said", "2\r\nhi!\r\n0\r\n\r\n"),
        ("no-last", "2\r\nhi\r\n"),
        ("cut", "9\r\nhi"),
        ("no-end-line", "2\r\nhi\r\n0\r\n"),
        ("trailer", "2\r\nhi\r\n0\r\nX-T: v\r\n\r\n"),
        ("bad-trailer", "2\r\nhi\r\n0\r\nX T: v\r\n\r\n"),
        ("trailer-length", "2\r\nhi\r\n0\r\nContent-Length: 3\r\n\r\n"),
        ("behind", "2\r\nhi\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
    ] {
        all.push(chunked(label, body));
    }
    all
}

fn fields() -> Vec<Case> {
    [
        "X: y",
        "X:y",
        "X:",
        "X:  y ",
        "X",
        ": y",
        " X: y",
        "X : y",
        "X\t: y",
        "X Y: z",
        "X: a\r\n b",
        "X: a\0b",
        "X: a\rb",
        "X: a\u{1}b",
        "X: \u{e9}",
        "X\u{e9}: y",
        "X_Y: z",
        "X(: y",
        "X: a\nY: b",
        "X: y\r\nX: z",
        "Set-Cookie: a=b\r\nSet-Cookie: c=d",
        "Date: x",
        "Date: x\r\nDate: y",
        "Server: y",
        "Location: /y",
        "Via: 1.0 p",
        "Host: b",
        ":status: 204",
        "Content-Encoding: gzip",
    ]
    .iter()
    .map(|line| closing(case("field", line, ok(&format!("{line}\r\nContent-Length: 2"), "hi"))))
    .collect()
}

fn bytes() -> Vec<Case> {
    let mut all = Vec::new();
    for byte in 0..=255u8 {
        for (place, before, behind) in [
            ("name", &b"HTTP/1.1 200 OK\r\nX"[..], &b"Y: z\r\nContent-Length: 2\r\n\r\nhi"[..]),
            ("value", b"HTTP/1.1 200 OK\r\nX: a", b"b\r\nContent-Length: 2\r\n\r\nhi"),
            ("reason", b"HTTP/1.1 200 a", b"b\r\nContent-Length: 2\r\n\r\nhi"),
            ("status", b"HTTP/1.1 2", b"0 OK\r\nContent-Length: 2\r\n\r\nhi"),
            ("version", b"HTTP/1", b"1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        ] {
            let whole = closing(case("", "", [before, &[byte], behind].concat()));
            all.push(Case { name: format!("byte-in-{place}/{byte:02x}"), ..whole });
        }
    }
    all
}

fn bodiless() -> Vec<Case> {
    vec![
        asked("HEAD", "head", "length", ok("Content-Length: 2", "")),
        asked("HEAD", "head", "chunked", ok("Transfer-Encoding: chunked", "")),
        asked("HEAD", "head", "neither", ok("X: y", "")),
        asked("HEAD", "head", "with-body", ok("Content-Length: 2", "hi")),
        case("204", "plain", "HTTP/1.1 204 No Content\r\n\r\n"),
        case("204", "length-0", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        case("204", "length", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi"),
        case("204", "chunked", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        case("304", "plain", "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
        case("304", "length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n"),
        case("304", "with-body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nhi"),
        case("205", "length-0", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
    ]
}

fn interim() -> Vec<Case> {
    let fine = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    vec![
        case("interim", "100", format!("HTTP/1.1 100 Continue\r\n\r\n{fine}")),
        case("interim", "102", format!("HTTP/1.1 102 Processing\r\n\r\n{fine}")),
        case("interim", "103", format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{fine}")),
        case(
            "interim",
            "103-twice",
            format!("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n{fine}"),
        ),
        case(
            "interim",
            "103-with-length",
            format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\n{fine}"),
        ),
        case("interim", "199", format!("HTTP/1.1 199 X\r\n\r\n{fine}")),
        closing(case("interim", "100-alone", "HTTP/1.1 100 Continue\r\n\r\n")),
        closing(case(
            "interim",
            "101-unasked",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw",
        )),
        closing(case("interim", "101-bare", format!("HTTP/1.1 101 Switching Protocols\r\n\r\n{fine}"))),
    ]
}

fn ends() -> Vec<Case> {
    vec![
        closing(case("until-close", "1.1", ok("X: y", "hi"))),
        closing(case("until-close", "1.0", "HTTP/1.0 200 OK\r\n\r\nhi")),
        closing(case("until-close", "empty", ok("X: y", ""))),
        case(
            "keeps-open",
            "1.0-keep-alive",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        ),
        closing(case("keeps-open", "1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi")),
        closing(case("keeps-open", "close", ok("Connection: close\r\nContent-Length: 2", "hi"))),
        closing(case(
            "size",
            "value-59k",
            ok(&format!("X: {}\r\nContent-Length: 2", "y".repeat(59 * 1024)), "hi"),
        )),
        closing(case(
            "size",
            "value-200k",
            ok(&format!("X: {}\r\nContent-Length: 2", "y".repeat(200 * 1024)), "hi"),
        )),
        closing(case(
            "size",
            "fields-200",
            ok(&format!("{}Content-Length: 2", "X: y\r\n".repeat(200)), "hi"),
        )),
    ]
}

fn hop_by_hop() -> Vec<Case> {
    [
        "Connection: x-a\r\nX-A: 1",
        "Connection: close, x-a\r\nX-A: 1",
        "Connection: set-cookie\r\nSet-Cookie: a",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: close",
        "Proxy-Authenticate: Basic",
        "Proxy-Authentication-Info: x",
        "TE: trailers",
        "Trailer: x",
        "Upgrade: h2c",
        "Upgrade: websocket\r\nConnection: upgrade",
        "Connection: a b",
        "Connection: content-length",
        "Alt-Svc: h3=\":443\"",
    ]
    .iter()
    .map(|line| closing(case("hop", line, ok(&format!("{line}\r\nContent-Length: 2"), "hi"))))
    .collect()
}
